"""Finding compilers, and what is said when one is missing or complains."""

import pickle
import sys

import pytest

from tinyml.device import BuildError, ToolNotFound, toolchain
from tinyml.device.toolchain import find_compiler, find_tool, run_tool, shorten


@pytest.fixture
def bare_machine(tmp_path, monkeypatch):
    """A machine without any tool; the home folder is returned."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(toolchain, "_SYSTEM_FOLDERS", ())
    return tmp_path


def install(folder, name):
    folder.mkdir(parents=True)
    (folder / name).write_text("#!/bin/sh\n")
    (folder / name).chmod(0o755)
    return folder / name


def test_a_missing_compiler_is_one_sentence_with_the_remedy(bare_machine):
    with pytest.raises(ToolNotFound) as caught:
        find_tool("avr-gcc")
    assert str(caught.value) == (
        "avr-gcc was not found."
        " Install it with 'sudo apt install gcc-avr avr-libc' or the Arduino IDE."
    )


def test_the_error_survives_a_trip_between_processes():
    error = pickle.loads(pickle.dumps(ToolNotFound("avr-gcc")))
    assert error.tool == "avr-gcc"
    assert str(error) == str(ToolNotFound("avr-gcc"))


def test_the_newest_compiler_of_the_arduino_ide_is_taken(bare_machine):
    versions = bare_machine / ".arduino15/packages/arduino/tools/avr-gcc"
    install(versions / "7.3.0-atmel3.6.1-arduino7" / "bin", "avr-gcc")
    newest = install(versions / "10.2.0-arduino1" / "bin", "avr-gcc")
    assert find_tool("avr-gcc") == newest


def test_the_compiler_of_platformio_is_found(bare_machine):
    gcc = install(bare_machine / ".platformio/packages/toolchain-atmelavr/bin", "avr-gcc")
    assert find_tool("avr-gcc") == gcc


def test_the_path_comes_first(bare_machine, monkeypatch):
    install(bare_machine / ".platformio/packages/toolchain-atmelavr/bin", "avr-gcc")
    first = install(bare_machine / "bin", "avr-gcc")
    monkeypatch.setenv("PATH", str(first.parent))
    assert find_tool("avr-gcc") == first


def test_the_first_of_several_compilers_is_taken(bare_machine, monkeypatch):
    clang = install(bare_machine / "bin", "clang")
    monkeypatch.setenv("PATH", str(clang.parent))
    assert find_compiler("gcc", "clang") == clang
    with pytest.raises(ToolNotFound, match="cc was not found"):
        find_compiler("gcc", "cc")


def test_a_complaint_is_shortened_to_what_is_wrong(tmp_path):
    text = f"In file included from a.c\n{tmp_path}/b.c:3: error: no\n  x = 1;\n  ^\n"
    assert shorten(text, tmp_path) == "b.c:3: error: no"
    assert len(shorten("error: " + "x" * 5000)) == 400
    assert shorten("") == "it said nothing"


def test_a_tool_that_fails_is_named(tmp_path):
    script = "import sys; sys.exit('error: not today')"
    with pytest.raises(BuildError, match=r"^python.* failed: error: not today$"):
        run_tool([sys.executable, "-c", script], cwd=tmp_path)


def test_a_tool_that_hangs_is_stopped(tmp_path):
    with pytest.raises(BuildError, match=r"did not finish within 0\.2 s"):
        run_tool([sys.executable, "-c", "import time; time.sleep(9)"], cwd=tmp_path, timeout=0.2)


def test_words_reach_the_tool_as_they_are(tmp_path):
    words = ["a b", "$HOME", "; exit 1", "'"]
    printed = run_tool(
        [sys.executable, "-c", "import sys; print(sys.argv[1:])", *words], cwd=tmp_path
    )
    assert printed.strip() == str(words)
