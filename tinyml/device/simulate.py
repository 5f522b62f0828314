"""Running AVR programs in simavr: exact cycles, exact stack, outputs read from RAM.

The simulator is a small C program, ``simavr_host.c`` beside this file, compiled on first use
against the installed libsimavr and kept in the user's cache folder.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinyml.device.boards import Board, get_board
from tinyml.device.build import CModel
from tinyml.device.driving import Driver
from tinyml.device.elf import Elf
from tinyml.device.firmware import EXTRA_RAM
from tinyml.device.toolchain import ToolNotFound, find_compiler, run_tool, tool_version

_SOURCE = Path(__file__).with_name("simavr_host.c")
_PREFIXES = ("/usr/local", "/usr", "/opt/homebrew", "/opt/local")
_STEM = "simavr_host"

#: The longest a single row may take, in cycles: half a minute on a 16 MHz board.
ROW_LIMIT = 500_000_000


class SimulationError(RuntimeError):
    """A program that crashed, hung, or ran out of the RAM it was given."""


class Counter:
    """How many simulations this process has started.

    Examples
    --------
    >>> counter = Counter()
    >>> counter.add()
    >>> int(counter)
    1
    """

    def __init__(self) -> None:
        self._value = 0
        self._lock = threading.Lock()

    def add(self) -> None:
        """Count one more."""
        with self._lock:
            self._value += 1

    def __int__(self) -> int:
        """The count."""
        return self._value


#: Simulations of `run_bench` in this process; searches promise at most one per candidate.
count = Counter()


@dataclass(frozen=True)
class Run:
    """What a chip did with the rows of one model.

    Attributes
    ----------
    scores : ndarray of shape (n, n_outputs) or None
        What ``<name>_scores`` wrote; None when the program did not call it.
    decisions : ndarray of shape (n,) or None
        What ``<name>_predict`` returned; None when there is no such function.
    cycles : ndarray of shape (n,)
        Cycles of each call, less those of an empty function of the same signature: call, return
        and passing of arguments and result cancel, what remains is the body of the function.
    stack : ndarray of shape (n,)
        Bytes of stack that each call took, its return address included.
    """

    scores: NDArray[np.int64] | None
    decisions: NDArray[np.int64] | None
    cycles: NDArray[np.int64]
    stack: NDArray[np.int64]


# --- the host program -----------------------------------------------------------------------------


def host_program() -> Path:
    """Path of the simulator, which is compiled unless a build of this very source is cached.

    Two processes may do so at once: each builds under a name of its own and renames it, which is
    atomic.
    """
    cc = find_compiler("gcc", "clang", "cc")
    prefix = _simavr_prefix()
    program = _cache_folder() / f"{_STEM}-{_cache_key(cc, prefix)}"
    if not program.exists():
        _compile_host(cc, prefix, program)
    return program


def _simavr_prefix() -> Path:
    for prefix in map(Path, _PREFIXES):
        if (prefix / "include/simavr/sim_avr.h").exists():
            return prefix
    raise ToolNotFound("simavr")


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = Path(base) / "tinyml"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SimulationError(
            f"The cache folder {folder} cannot be made ({error.strerror}); set XDG_CACHE_HOME to a"
            " folder that can be written."
        ) from None
    return folder


def _cache_key(cc: Path, prefix: Path) -> str:
    parts = [_SOURCE.read_bytes(), f"{cc} {tool_version(cc)} {sys.platform}".encode()]
    parts += [path.read_bytes() for path in sorted((prefix / "include/simavr").glob("*.h"))]
    folders = (prefix / "lib", prefix / "lib64", *prefix.glob("lib/*-linux-*"))
    for library in sorted(path for folder in folders for path in folder.glob("libsimavr.*")):
        state = library.stat()
        parts.append(f"{library.resolve()} {state.st_size} {state.st_mtime_ns}".encode())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _compile_host(cc: Path, prefix: Path, program: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=f".{_STEM}-", dir=program.parent) as temporary:
        built = Path(temporary) / _STEM
        paths = (f"-I{prefix}/include/simavr", f"-L{prefix}/lib")
        libraries = ("-lsimavr", "-lelf", "-lm")
        run_tool([cc, "-std=gnu99", "-O2", *paths, _SOURCE, "-o", built, *libraries],
                 cwd=Path(temporary))  # fmt: skip
        built.replace(program)


# --- running --------------------------------------------------------------------------------------


def run_bench(
    elf: Elf,
    board: Board,
    drivers: Sequence[Driver],
    raws: Sequence[NDArray[np.generic]],
    *,
    scores: bool = True,
    row_limit: int = ROW_LIMIT,
) -> list[Run]:
    """Run rows through a program made by `firmware.build_bench`.

    Parameters
    ----------
    elf : Elf
        The program.
    board : Board
        Chip and clock.
    drivers : sequence of Driver
        The models it was built of, in the same order.
    raws : sequence of ndarray
        For each model its integer rows.
    scores : bool
        Whether the program was built to compute them beside the decisions.
    row_limit : int
        Cycles after which a row is given up.

    Returns
    -------
    list of Run
        One for each model.

    Raises
    ------
    SimulationError
        In one sentence, when the program crashes, hangs or overruns its RAM.
    """
    count.add()
    shared = [f"bench_{what}" for what in ("row", "model", "scores", "decision")]
    addresses = [elf.symbols["_end"], *(elf.symbols.get(name, 0) for name in shared)]
    arguments = [board.mark_address, *addresses, board.flash_reach, EXTRA_RAM]
    layouts = [_layout(driver.model, scores=scores) for driver in drivers]
    request = b"".join(
        _job(i, driver, layout, raw)
        for i, (driver, layout, raw) in enumerate(zip(drivers, layouts, raws, strict=True))
    )
    answer = _run_host("bench", elf, board, row_limit, arguments, request)
    return _parse(answer, layouts, [len(raw) for raw in raws])


def run_sketch(
    elf: Elf, board: str | Board, *, until: str = "", seconds: float = 10.0, send: str = ""
) -> str:
    """Run any program and return what it sends through its first serial port.

    Parameters
    ----------
    elf : Elf
        The program, as `build_arduino_sketch` returns it.
    board : str or Board
        Chip and clock.
    until : str
        Stop as soon as this text has been sent.
    seconds : float
        Stop after this much time of the board's own clock.
    send : str
        Text that is sent to the program as soon as it listens.

    Returns
    -------
    str
        Everything it sent.
    """
    board = get_board(board)
    limit = int(seconds * board.clock_hz)
    answer = _run_host("serial", elf, board, limit, [until], send.encode())
    return answer.decode(errors="replace").replace("\r\n", "\n")


def _run_host(
    mode: str, elf: Elf, board: Board, limit: int, arguments: Sequence[object], request: bytes
) -> bytes:
    program = host_program()
    with tempfile.TemporaryDirectory(prefix="tinyml-") as temporary:
        path = Path(temporary) / "program.elf"
        path.write_bytes(elf.image)
        words = [program, mode, path, board.mcu, board.clock_hz, limit, *arguments]
        done = subprocess.run([str(word) for word in words], input=request, capture_output=True)
    if done.returncode:
        # simavr has its say first; the host's own sentence is the last line.
        lines = done.stderr.decode(errors="replace").strip().splitlines() or [
            f"the simulator ended with code {done.returncode}"
        ]
        raise SimulationError(f"The simulated {board.mcu} failed: {lines[-1]}.")
    return done.stdout


def _layout(model: CModel, *, scores: bool) -> np.dtype[np.void]:
    """One answer as it lies in the stream."""
    fields: list[tuple[str, object, tuple[int, ...]]] = [
        ("cycles", "<u8", ()), ("overhead", "<u8", ()), ("stack", "<u4", ()),
    ]  # fmt: skip
    if scores or model.decision_dtype is None:
        fields.append(("scores", model.score_dtype.newbyteorder("<"), (model.n_outputs,)))
    if model.decision_dtype is not None:
        fields.append(("decision", model.decision_dtype.newbyteorder("<"), ()))
    return np.dtype(fields)


def _job(number: int, driver: Driver, layout: np.dtype[np.void], raw: NDArray[np.generic]) -> bytes:
    rows = driver.pack(raw)
    header = [number, len(rows), rows.shape[1]]
    header += [_bytes_of(layout, "scores"), _bytes_of(layout, "decision")]
    return np.array(header, dtype="<u4").tobytes() + rows.tobytes()


def _bytes_of(layout: np.dtype[np.void], field: str) -> int:
    return layout[field].itemsize if field in (layout.names or ()) else 0


def _parse(
    answer: bytes, layouts: Sequence[np.dtype[np.void]], lengths: Sequence[int]
) -> list[Run]:
    runs, at = [], 0
    for layout, length in zip(layouts, lengths, strict=True):
        table = np.frombuffer(answer, layout, count=length, offset=at)
        at += length * layout.itemsize
        runs.append(_run(table))
    return runs


def _run(table: NDArray[np.void]) -> Run:
    fields = table.dtype.names or ()
    return Run(
        scores=table["scores"].astype(np.int64) if "scores" in fields else None,
        decisions=table["decision"].astype(np.int64) if "decision" in fields else None,
        cycles=table["cycles"].astype(np.int64) - table["overhead"].astype(np.int64),
        stack=table["stack"].astype(np.int64),
    )
