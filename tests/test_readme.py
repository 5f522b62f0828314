"""The README's Python runs, and prints what the README says it prints."""

import doctest
import re
from pathlib import Path

import pytest

README = Path(__file__).resolve().parent.parent / "README.md"


@pytest.mark.device
def test_readme(tmp_path, monkeypatch, capsys):
    code, printed = re.search(
        r"```python\n(.*?)```\s*```text\n(.*?)```", README.read_text(), re.DOTALL
    ).groups()
    monkeypatch.chdir(tmp_path)
    exec(compile(code, str(README), "exec"), {"__name__": "__main__"})
    seen = capsys.readouterr().out
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.OutputChecker().check_output(printed, seen, options), seen
    assert (tmp_path / "firmware").is_dir()


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_linked_pages_exist(page):
    linked = re.findall(r"\]\((?!https?:)([^)#]+)", (README.parent / page).read_text())
    assert linked
    assert [link for link in linked if not (README.parent / link).exists()] == []
