"""Every example runs as a user would run it, and so does the code of the guide."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
GUIDES = ROOT / "docs"

PRINTED = {
    "arduino_library.py": r"0\.9\d+ in float, 0\.9\d+ on the chip\n(.*\n)*src/digits\.c ",
    "grid_search.py": r"6000: .*nan.*\n0\.9\d+ of the held-out rows(.*\n)*.*32 of 32",
    "plot_accuracy_against_bytes.py": r"(.* B: \d+\.\d % on the chip\n){12}wrote ",
    "plot_accuracy_over_time.py": r"(.* ms a step on the Uno: 9\d\.\d % after .*\n){3}wrote ",
}

NO_CORES = "ignore:Could not find the number of physical cores:UserWarning"  # said of the machine


def run(program, folder):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", NO_CORES, *program],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.device
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(path, tmp_path):
    if path.name.startswith("plot_"):
        pytest.importorskip("matplotlib")
    assert re.search(PRINTED[path.name], run([path], tmp_path))
    written = list(tmp_path.rglob("*.png")) + list(tmp_path.rglob("library.properties"))
    assert len(written) == (path.stem != "grid_search")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_is_short(path):
    assert len(path.read_text().splitlines()) < (30 if path.stem == "grid_search" else 60)


def run_guide(name, folder):
    text = (GUIDES / name).read_text()
    return run(["-c", "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))], folder)


@pytest.mark.slow
@pytest.mark.device
def test_guide_to_sequences(tmp_path):
    printed = run_guide("sequences.md", tmp_path)
    assert re.search(r"0\.9\d+ in float, 0\.9\d+ in integers(.*\n)*.*20 of 20", printed)
    assert (tmp_path / "firmware" / "digits" / "library.properties").exists()


@pytest.mark.slow
@pytest.mark.device
def test_guide_to_searches(tmp_path):
    printed = run_guide("grid_search.md", tmp_path)
    assert "FixedPointClassifier must be outermost" in printed
    assert re.search(r"16 bits: 0\.9\d+, \d+ B, \d", printed)
    assert (tmp_path / "firmware" / "digits" / "library.properties").exists()


@pytest.mark.slow
def test_guide_to_forests(tmp_path):
    run_guide("forests.md", tmp_path)
