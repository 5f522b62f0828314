"""Finding compilers and running them.

A tool is looked for on the PATH, then where the Arduino IDE and PlatformIO keep their own copies,
then in the usual system folders.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

_INSTALL = {
    "avr-gcc": "'sudo apt install gcc-avr avr-libc' or the Arduino IDE",
    "arduino-builder": "'sudo apt install arduino-builder arduino-ctags arduino-core-avr'",
    "simavr": "'sudo apt install libsimavr-dev libelf-dev'",
    "gcc": "'sudo apt install gcc'",
    "g++": "'sudo apt install g++'",
    "clang": "'sudo apt install clang'",
}
_HOME_FOLDERS = (
    ".arduino15/packages/arduino/tools/avr-gcc/*/bin",
    "Library/Arduino15/packages/arduino/tools/avr-gcc/*/bin",
    ".platformio/packages/toolchain-atmelavr/bin",
)
_SYSTEM_FOLDERS = ("/usr/local/bin", "/usr/bin", "/opt/homebrew/bin", "/opt/local/bin")
# What compilers, linkers and sanitizers say when it matters, and the frame a sanitizer stopped in.
_COMPLAINT = re.compile(
    r"\b(?:error|ERROR|undefined reference|overflowed|warning|truncated|not within|will not fit)\b"
    r"| in \w+_(?:scores|predict|quantize)\b"
)


class ToolNotFound(RuntimeError):
    """A compiler or simulator that is not installed."""

    def __init__(self, tool: str) -> None:
        self.tool = tool
        remedy = _INSTALL.get(tool, f"your system's package of {tool}")
        super().__init__(f"{tool} was not found. Install it with {remedy}.")

    def __reduce__(self) -> tuple[type[ToolNotFound], tuple[str]]:
        # Rebuilt from the tool's name, so that it survives the trip from a worker process.
        return ToolNotFound, (self.tool,)


class BuildError(RuntimeError):
    """A compiler that refused its input, or a program that does not link."""


def find_tool(name: str) -> Path:
    """Path of an executable.

    Raises
    ------
    ToolNotFound
        With the sentence that says how to install it.

    Examples
    --------
    >>> find_tool("no-such-tool")
    Traceback (most recent call last):
    ...
    tinyml.device.toolchain.ToolNotFound: no-such-tool was not found. Install it with ...
    """
    path = os.environ.get("PATH", "").split(os.pathsep)
    folders = [*path, *map(str, _private_folders()), *_SYSTEM_FOLDERS]
    found = shutil.which(name, path=os.pathsep.join(filter(None, folders)))
    if found is None:
        raise ToolNotFound(name)
    return Path(found)


def find_compiler(*names: str) -> Path:
    """The first of several compilers that is installed."""
    for name in names[:-1]:
        try:
            return find_tool(name)
        except ToolNotFound:
            continue
    return find_tool(names[-1])


def run_tool(command: Sequence[str | Path], *, cwd: Path, timeout: float = 600.0) -> str:
    """Run a compiler and return what it printed; its complaint becomes a `BuildError`."""
    program = Path(command[0]).name
    try:
        done = subprocess.run(
            [str(word) for word in command],
            cwd=cwd,
            env=_plain_environment(),
            capture_output=True,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        raise BuildError(f"{program} did not finish within {timeout:g} s.") from None
    if done.returncode:
        raise BuildError(f"{program} failed: {shorten(done.stderr.decode(errors='replace'), cwd)}")
    return (done.stdout + done.stderr).decode(errors="replace")


@functools.lru_cache(maxsize=16)
def tool_version(tool: Path) -> str:
    """The first line of ``tool --version``."""
    return run_tool([tool, "--version"], cwd=Path(tool).parent).partition("\n")[0].strip()


def shorten(complaint: str, folder: Path | None = None, limit: int = 400) -> str:
    r"""The lines of a compiler's output that say what is wrong, on one line and without `folder`.

    Examples
    --------
    >>> shorten("In file included from a.c:1\na.c:3: error: 'x' undeclared\n")
    "a.c:3: error: 'x' undeclared"
    """
    lines = [line.strip() for line in complaint.splitlines() if line.strip()]
    telling = [line for line in lines if _COMPLAINT.search(line)] or lines[-3:]
    text = "; ".join(telling) or "it said nothing"
    if folder is not None:
        text = text.replace(f"{folder}/", "")
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _private_folders() -> list[Path]:
    found = [Path.home().glob(pattern) for pattern in _HOME_FOLDERS]
    return [folder for group in found for folder in sorted(group, key=_version, reverse=True)]


def _version(folder: Path) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", folder.parent.name)]


def _plain_environment() -> dict[str, str]:
    # Linker messages are read below, so they must come untranslated.
    return {**os.environ, "LC_ALL": "C"}
