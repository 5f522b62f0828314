"""C to programs: one executable for the host, one ELF for an AVR chip.

Every build happens in a temporary folder that is gone when the function returns or is interrupted,
and no command passes through a shell.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tinyml.device.boards import Board
from tinyml.device.elf import Elf
from tinyml.device.toolchain import BuildError, find_compiler, find_tool, run_tool, tool_version

if TYPE_CHECKING:
    from tinyml.codegen.program import Program

#: What generated C has to survive.
STRICT = ("-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-pedantic", "-Werror")
SANITIZE = ("-fsanitize=undefined,address", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")

_DTYPES = {f"{sign}int{bits}_t": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32)}
_DTYPES["float"] = "float32"  # what the programs of others read
_TOO_LARGE = re.compile(r"overflowed|will not fit|not within region|relocation truncated")


@dataclass(frozen=True)
class Flags:
    """How the AVR compiler is called, by stage."""

    name: str
    compile: tuple[str, ...]
    link: tuple[str, ...]

    def __str__(self) -> str:
        """All of them, once each."""
        return " ".join(dict.fromkeys(self.compile + self.link))


#: Plain C99, optimised for size, unused functions left out.
OS = Flags(
    "os",
    ("-std=c99", "-Os", "-ffunction-sections", "-fdata-sections"),
    ("-Os", "-Wl,--gc-sections"),
)
#: ``compiler.c.flags`` and ``compiler.c.elf.flags`` of the Arduino AVR core 1.8, -c and -MMD apart.
ARDUINO = Flags(
    "arduino",
    ("-g", "-Os", "-w", "-std=gnu11", "-ffunction-sections", "-fdata-sections", "-flto",
     "-fno-fat-lto-objects"),
    ("-w", "-Os", "-g", "-flto", "-fuse-linker-plugin", "-Wl,--gc-sections"),
)  # fmt: skip
#: C++ in files that are called .c, as the Arduino core has it; not for measuring programs of ours.
CPLUSPLUS = Flags("c++", ("-x", "c++", "-std=gnu++11", "-fno-exceptions", *OS.compile[1:]), OS.link)
FLAGS = {flags.name: flags for flags in (OS, ARDUINO)}


@dataclass(frozen=True)
class CModel:
    """The C text of one model and the types of its interface.

    Attributes
    ----------
    name : str
        Prefix of every identifier.
    sources : dict of str to str
        Text of ``<name>.h``, ``<name>.c`` and whatever else the export consists of.
    input_ctype, score_ctype : str
        Element types of a row and of the score vector.
    predict_ctype : str or None
        What ``<name>_predict`` returns; None when there are only scores.
    n_features, n_outputs : int
        Lengths of a row and of the score vector.
    n_channels, state_bytes : int
        Length of one time step and size of the state; 0 where rows are no sequences.
    """

    name: str
    sources: dict[str, str]
    input_ctype: str
    score_ctype: str
    predict_ctype: str | None
    n_features: int
    n_outputs: int
    n_channels: int = 0
    state_bytes: int = 0

    @classmethod
    def of(cls, program: Program, name: str, kind: str = "arduino") -> CModel:
        """Print `program` under `name`, as a library's sources or as one header."""
        from tinyml.codegen.export import header, sources

        single = kind == "header"
        return cls(
            name=name,
            sources={f"{name}.h": header(program, name)} if single else sources(program, name),
            input_ctype=program.input.type.ctype,
            score_ctype=program.score_ctype,
            predict_ctype=program.predict_ctype if program.has_predict else None,
            n_features=program.n_features,
            n_outputs=program.n_outputs,
            n_channels=program.n_channels if program.recurrence is not None else 0,
            state_bytes=program.state_bytes,
        )

    def empty(self, name: str) -> CModel:
        """A model of the same interface that does nothing: what a call costs by itself.

        Examples
        --------
        >>> model = CModel("m", {}, "int8_t", "int16_t", "uint8_t", 4, 3)
        >>> sorted(model.empty("none").sources)
        ['none.c', 'none.h']
        """
        functions = self._empty_functions(name)
        prototypes = "".join(f"{head};\n" for head in functions)
        header = (
            f"#pragma once\n#include <stdint.h>\n"
            f"typedef {self.input_ctype} {name}_input_t;\n"
            f"typedef {self.score_ctype} {name}_score_t;\n"
        )
        if self.n_channels:
            header += f"typedef struct {{ uint8_t bytes[{self.state_bytes}]; }} {name}_state_t;\n"
        bodies = "".join(f"{head} {{ {body} }}\n" for head, body in functions.items())
        definitions = f'#include "{name}.h"\n{bodies}'
        sources = {f"{name}.h": header + prototypes, f"{name}.c": definitions}
        return CModel(name, sources, *self.interface)

    def _empty_functions(self, name: str) -> dict[str, str]:
        """Bodies of functions that do nothing, by their heads."""
        # The assembler text is empty, but the compiler cannot know what it returns.
        answer = (
            f'{self.predict_ctype} y; __asm__ volatile ("" : "=r" (y) : "r" ({{}}) : "memory");'
            " return y;"
        )
        use = '__asm__ volatile ("" : : "r" ({}) : "memory");'
        scores = '__asm__ volatile ("" : : "r" ({}), "r" (out) : "memory");'
        whole = scores if self.predict_ctype is None else answer
        functions = {self.timed_declaration(name): whole.format("x")}
        if self.n_channels:
            result = scores if self.predict_ctype is None else answer
            functions |= {
                f"void {name}_reset({name}_state_t *s)": use.format("s"),
                self.step_declaration(name): use.format("s") + " " + use.format("x"),
                self.result_declaration(name): result.format("s"),
            }
        return functions

    @property
    def interface(self) -> tuple[str, str, str | None, int, int, int, int]:
        """Everything but the name and the text."""
        return (
            self.input_ctype,
            self.score_ctype,
            self.predict_ctype,
            self.n_features,
            self.n_outputs,
            self.n_channels,
            self.state_bytes,
        )

    @property
    def input_dtype(self) -> np.dtype[np.generic]:
        """NumPy's name for the type of a feature."""
        return np.dtype(_DTYPES[self.input_ctype])

    @property
    def score_dtype(self) -> np.dtype[np.generic]:
        """NumPy's name for the type of a score."""
        return np.dtype(_DTYPES[self.score_ctype])

    @property
    def decision_dtype(self) -> np.dtype[np.generic] | None:
        """NumPy's name for what predict returns; None when there are only scores."""
        return None if self.predict_ctype is None else np.dtype(_DTYPES[self.predict_ctype])

    def timed_declaration(self, name: str) -> str:
        """The function that is measured: predict, or scores where there is no predict."""
        row = f"const {name}_input_t *x"
        if self.predict_ctype is None:
            return f"void {name}_scores({row}, {name}_score_t *out)"
        return f"{self.predict_ctype} {name}_predict({row})"

    def step_declaration(self, name: str) -> str:
        """The function that takes in one time step."""
        return f"void {name}_step({name}_state_t *s, const {name}_input_t *x)"

    def result_declaration(self, name: str) -> str:
        """The function that answers from the state."""
        state = f"const {name}_state_t *s"
        if self.predict_ctype is None:
            return f"void {name}_result_scores({state}, {name}_score_t *out)"
        return f"{self.predict_ctype} {name}_result({state})"

    def write(self, folder: Path) -> None:
        """Write all files into `folder`."""
        for file, text in self.sources.items():
            (folder / file).write_text(text, encoding="utf-8")


# --- the host -------------------------------------------------------------------------------------


def compile_host(
    models: Sequence[CModel],
    main: str,
    folder: Path,
    *,
    sanitize: bool = True,
    compiler: str | None = None,
) -> Path:
    """Build one executable of several models and the C text of a main program, in `folder`.

    Models are compiled as strict C99, warnings being errors.
    """
    cc = find_tool(compiler) if compiler else find_compiler("gcc", "clang")
    checks = SANITIZE if sanitize else ()
    for model in models:
        model.write(folder)
    (folder / "main.c").write_text(main, encoding="utf-8")
    units = [file for model in models for file in model.sources if file.endswith(".c")]
    command = (cc, "-std=c99", "-O1", *STRICT, *checks, "-c")
    _each(lambda unit: run_tool([*command, unit], cwd=folder), [*units, "main.c"])
    objects = [_object(unit) for unit in [*units, "main.c"]]
    run_tool([cc, *checks, *objects, "-o", "program"], cwd=folder)
    return folder / "program"


def check_header(sources: Mapping[str, str], name: str, *, standard: str = "c++11") -> None:
    """Raise `BuildError` unless ``<name>.h`` can be included, twice, from strict C++ or C.

    Examples
    --------
    ::

        check_header({"model.h": program.to_c("model")}, "model")
        check_header({"model.h": program.to_c("model")}, "model", standard="c99")
    """
    plus = standard.startswith("c++")
    cc = find_compiler("g++", "clang++") if plus else find_compiler("gcc", "clang")
    with tempfile.TemporaryDirectory(prefix="tinyml-") as temporary:
        folder = Path(temporary)
        for file, text in sources.items():
            (folder / file).write_text(text, encoding="utf-8")
        unit = "twice.cpp" if plus else "twice.c"
        (folder / unit).write_text(f'#include "{name}.h"\n' * 2 + "int used_by_nobody;\n")
        run_tool([cc, f"-std={standard}", *STRICT, "-fsyntax-only", unit], cwd=folder)


def _each(work: Callable[[str], object], units: Iterable[str]) -> None:
    with ThreadPoolExecutor(max_workers=2) as pool:
        list(pool.map(work, units))


def _object(unit: str) -> str:
    return unit.removesuffix(".c") + ".o"


# --- AVR ------------------------------------------------------------------------------------------


class DoesNotLink(BuildError):
    """A program too large for the chip's address space; `sizes` is what it would have taken."""

    def __init__(self, message: str, sizes: Elf | None) -> None:
        super().__init__(message)
        self.sizes = sizes


class AvrBuild:
    """A temporary folder where C units are compiled once and linked into one or more programs.

    Parameters
    ----------
    board : Board
        Chip and clock.
    flags : Flags
        `OS` or `ARDUINO`.

    Examples
    --------
    >>> from tinyml.device.boards import get_board
    >>> with AvrBuild(get_board("uno"), OS) as avr:  # doctest: +SKIP
    ...     elf = avr.link(avr.compile({"main.c": "int main(void) { return 0; }"}))
    """

    def __init__(self, board: Board, flags: Flags) -> None:
        self.board = board
        self.flags = flags
        self._gcc = find_tool("avr-gcc")
        self._temporary = tempfile.TemporaryDirectory(prefix="tinyml-")
        self._folder = Path(self._temporary.name)
        self._built: dict[tuple[tuple[tuple[str, str], ...], str], list[Path]] = {}

    def __enter__(self) -> AvrBuild:
        return self

    def __exit__(self, *_: object) -> None:
        self._temporary.cleanup()

    def compile(self, files: Mapping[str, str], *, before: str = "") -> list[Path]:
        """Write `files`, compile every ``.c`` among them, and return the objects.

        `before` names a file that is included before the first line of each unit. What has been
        compiled before is not compiled again.
        """
        key = (tuple(files.items()), before)
        if key not in self._built:
            for file, text in files.items():
                (self._folder / file).write_text(text, encoding="utf-8")
            units = [file for file in files if file.endswith(".c")]
            self._built[key] = [self._compile(unit, before) for unit in units]
        return self._built[key]

    def _compile(self, unit: str, before: str) -> Path:
        # Numbered, because a unit may come again with another text.
        built = self._folder / f"{len(self._built)}-{_object(unit)}"
        target = (f"-mmcu={self.board.mcu}", f"-DF_CPU={self.board.clock_hz}L")
        included = ("-include", before) if before else ()
        words = [*self.flags.compile, *target, *included, "-c", unit, "-o", built]
        run_tool([self._gcc, *words], cwd=self._folder)
        return built

    def link(self, objects: Sequence[Path], *, symbols: Mapping[str, int] | None = None) -> Elf:
        """Link objects into a program, which is returned in memory.

        Raises
        ------
        DoesNotLink
            When the program is larger than the chip's address space.
        """
        defined = [f"-Wl,--defsym={name}={value:#x}" for name, value in (symbols or {}).items()]
        chip = f"-mmcu={self.board.mcu}"
        command: list[str | Path] = [self._gcc, *self.flags.link, chip, *defined, *objects, "-lm"]
        try:
            return self._run_linker(command)
        except BuildError as error:
            if not _TOO_LARGE.search(str(error)):
                raise
            raise DoesNotLink(str(error), self._oversized(command)) from None

    def _run_linker(self, command: Sequence[str | Path]) -> Elf:
        elf = self._folder / "program.elf"
        run_tool([*command, "-o", elf], cwd=self._folder)
        return Elf(elf.read_bytes())

    def _oversized(self, command: Sequence[str | Path]) -> Elf | None:
        """What the linker has, whatever it thinks of it."""
        try:
            return self._run_linker([*command, "-Wl,--noinhibit-exec"])
        except BuildError:
            return None


def avr_compiler_version() -> str:
    """Name and version of the AVR compiler in use, for reports."""
    return tool_version(find_tool("avr-gcc"))
