"""Building an Arduino sketch with Arduino's own build system, without the IDE."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from tinyml.device.boards import Board, get_board
from tinyml.device.elf import Elf
from tinyml.device.toolchain import BuildError, ToolNotFound, find_tool, run_tool

_HARDWARE = (Path("/usr/share/arduino/hardware"), Path("/usr/share/arduino-builder"))


def build_arduino_sketch(
    sketch: str | Path, libraries: Sequence[str | Path] = (), board: str | Board = "uno"
) -> Elf:
    """Build a sketch folder exactly as the Arduino IDE does.

    Parameters
    ----------
    sketch : str or Path
        Folder that holds an ``.ino`` of its own name, or the ``.ino``.
    libraries : sequence of str or Path
        Library folders, each with its ``library.properties``.
    board : str or Board
        A board that Arduino's AVR core knows.

    Returns
    -------
    Elf
        The program, in memory; `tinyml.device.run_sketch` runs it.

    Raises
    ------
    ToolNotFound
        When arduino-builder is not installed.
    BuildError
        With what the compiler complained about.
    """
    board = get_board(board)
    if not board.fqbn:
        raise ValueError(f"Arduino's AVR core does not know the {board.name}.")
    source = _main_file(Path(sketch))
    with tempfile.TemporaryDirectory(prefix="tinyml-") as temporary:
        folder = Path(temporary)
        collection = _collect(libraries, folder / "libraries")
        run_tool([*_builder(board, collection, folder / "build"), source], cwd=folder)
        return Elf((folder / "build" / f"{source.name}.elf").read_bytes())


def _main_file(sketch: Path) -> Path:
    source = sketch / f"{sketch.name}.ino" if sketch.is_dir() else sketch
    if not source.is_file():
        raise BuildError(f"{source} is not there; a sketch folder holds an .ino of its own name.")
    return source.resolve()


def _collect(libraries: Sequence[str | Path], collection: Path) -> Path:
    """A folder of libraries, as the builder wants them, made of links."""
    collection.mkdir()
    for library in libraries:
        (collection / Path(library).name).symlink_to(Path(library).resolve(), True)
    return collection


def _builder(board: Board, libraries: Path, build: Path) -> list[str | Path]:
    builder = find_tool("arduino-builder")
    if not all(folder.is_dir() for folder in _HARDWARE):
        raise ToolNotFound("arduino-builder")
    tools = find_tool("avr-gcc").parent
    build.mkdir()
    preferences = {
        "tools.ctags.path": find_tool("arduino-ctags").parent,
        "compiler.path": f"{tools}/",
        "runtime.tools.avr-gcc.path": tools.parent,
        "runtime.tools.avrdude.path": tools.parent,
        # avr-gcc 5 lacks a macro in C++ that core 1.8.7 prints floats with.
        "compiler.cpp.extra_flags": "-DDECIMAL_DIG=__DECIMAL_DIG__",
    }
    command: list[str | Path] = [builder, "-compile", "-quiet"]
    command += [word for folder in _HARDWARE for word in ("-hardware", folder)]
    command += ["-tools", tools, "-libraries", libraries, "-fqbn", board.fqbn]
    command += ["-ide-version=10819", "-build-path", build]
    return command + [f"-prefs={name}={value}" for name, value in preferences.items()]
