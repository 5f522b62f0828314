"""What a program costs on a board, and whether the chip computes what Python computes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tinyml.device.boards import Board, get_board
from tinyml.device.build import (
    ARDUINO,
    FLAGS,
    OS,
    AvrBuild,
    CModel,
    DoesNotLink,
    Flags,
    avr_compiler_version,
)
from tinyml.device.driving import ByRow, ByStep, Driver
from tinyml.device.elf import Elf
from tinyml.device.firmware import build_bench, build_minimal
from tinyml.device.simulate import Run, run_bench

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from tinyml.codegen.program import Program


@dataclass(frozen=True, kw_only=True)
class Figures:
    """A program under one set of compiler flags.

    A program that reads sequences is driven step by step: its figures are those of
    ``<name>_step``, its RAM holds the state and the input of one step.

    Attributes
    ----------
    flags : str
        What the compiler and the linker were given, the chip's name apart.
    flash, flash_total : int or None
        Bytes, net of an empty firmware and in total; None when nothing could be linked.
    static_ram : int or None
        Bytes of RAM that the program keeps for ever.
    stack : int or None
        Deepest stack of a call seen, return address included. None, like all that follows, when
        the program was not run.
    ram : int or None
        ``static_ram + stack``, one input row, and the state where there is one.
    cycles, cycles_min, cycles_max : float, int, int or None
        Mean, least and most cycles of a call *seen*. The body of the function is counted: an empty
        function of the same signature is subtracted.
    ms : float or None
        The mean as milliseconds of the board's clock.
    result_cycles : float or None
        Mean cycles of ``<name>_result``; None where rows are no sequences.
    n_identical : int or None
        Rows whose outputs equal those of ``Program.run``, sequences after every step.
    compared : str
        Which outputs were compared.
    why : str
        Why the program does not fit the board; empty when it does.
    """

    flags: str
    flash: int | None = None
    flash_total: int | None = None
    static_ram: int | None = None
    stack: int | None = None
    ram: int | None = None
    cycles: float | None = None
    cycles_min: int | None = None
    cycles_max: int | None = None
    ms: float | None = None
    result_cycles: float | None = None
    n_identical: int | None = None
    compared: str = ""
    why: str = ""

    @property
    def fits(self) -> bool:
        """Whether the board has the flash and the RAM."""
        return not self.why


@dataclass(frozen=True, kw_only=True)
class Report(Figures):
    """Figures of one program on one board; prints as a table.

    The report's own figures are those of the first set of flags asked for.

    Attributes
    ----------
    board, mcu : str
        Board and chip.
    clock_hz : int
        The clock that `ms` holds for.
    compiler : str
        Name and version.
    n_rows : int
        Rows that were run.
    n_steps : float or None
        Mean number of time steps of a row; None where rows are no sequences.
    arduino : Figures or None
        The same program built with Arduino's flags.
    """

    board: str
    mcu: str
    clock_hz: int
    compiler: str
    n_rows: int
    n_steps: float | None = None
    arduino: Figures | None = None

    @property
    def fits(self) -> bool:
        """Whether the board has the flash and the RAM, under all flags that were tried."""
        return not any(block.why for block in self._blocks)

    @property
    def identical(self) -> bool:
        """Whether the program ran and every output of it equals Python's."""
        return all(block.n_identical == self.n_rows for block in self._blocks)

    def to_dict(self) -> dict[str, Any]:
        """All figures as plain values; those of Arduino's flags under ``"arduino"``."""
        return {**asdict(self), "fits": self.fits, "identical": self.identical}

    def __str__(self) -> str:
        """The table."""
        titles = ["Arduino's flags" if "-flto" in block.flags else "-Os" for block in self._blocks]
        rows = [["", *titles]]
        lines = dict(_LINES)
        if self.n_steps is None:
            del lines["cycles of the result"]
        rows += [[label, *map(show, self._blocks)] for label, show in lines.items()]
        rows.append(["identical to Python", *(self._identity(block) for block in self._blocks)])
        head = f"{self.board}: {self.mcu} at {self.clock_hz / 1e6:g} MHz, {self.n_rows} rows"
        if self.n_steps is not None:
            head += f" of {self.n_steps:.4g} time steps; cycles and time are those of a step"
        notes = [f"{t}: {b.flags}" for t, b in zip(titles, self._blocks, strict=True)]
        return "\n".join([head, *_aligned(rows), *self._misfits(), self.compiler, *notes])

    @property
    def _blocks(self) -> list[Figures]:
        return [self] if self.arduino is None else [self, self.arduino]

    def _identity(self, block: Figures) -> str:
        return "not run" if block.n_identical is None else f"{block.n_identical} of {self.n_rows}"

    def _misfits(self) -> list[str]:
        reasons = dict.fromkeys(block.why for block in self._blocks if block.why)
        return [f"does not fit: {reason}" for reason in reasons]


def _quantity(name: str, unit: str = "", digits: int = 0) -> Callable[[Figures], str]:
    def show(figures: Figures) -> str:
        value = getattr(figures, name)
        return "-" if value is None else f"{value:,.{digits}f}{unit}".replace(",", " ")

    return show


_LINES = {
    "flash, net": _quantity("flash", " B"),
    "flash, whole firmware": _quantity("flash_total", " B"),
    "static RAM": _quantity("static_ram", " B"),
    "stack": _quantity("stack", " B"),
    "RAM with its input": _quantity("ram", " B"),
    "cycles, mean": _quantity("cycles"),
    "cycles, least seen": _quantity("cycles_min"),
    "cycles, most seen": _quantity("cycles_max"),
    "time, mean": _quantity("ms", " ms", 3),
    "cycles of the result": _quantity("result_cycles"),
    "compared": lambda figures: figures.compared or "-",
}


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
        for row in rows
    ]


# --- measuring ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """How a model is driven, what it is sent, and what Python says it should answer.

    Attributes
    ----------
    driver : Driver
        A row at a call, or sequences step by step.
    raw : ndarray of int
        What is sent at each call.
    scores : ndarray of int
        The scores after each call.
    decisions : ndarray of int or None
        The decisions, where the model has a predict.
    asks : ndarray of bool
        Which calls ask for a decision.
    n_rows : int
        Number of rows or sequences.
    """

    driver: Driver
    raw: NDArray[np.generic]
    scores: NDArray[np.int64]
    decisions: NDArray[np.int64] | None
    asks: NDArray[np.bool_]
    n_rows: int

    @classmethod
    def of(cls, program: Program, raw: NDArray[np.generic]) -> Job:
        """Drive a program with integer rows, in the way that suits it."""
        model = CModel.of(program, "model")
        if program.recurrence is not None:
            return cls._of_steps(program, model, np.asarray(raw, dtype=np.int64))
        scores = program.run(raw)
        decisions = program.decide(scores) if program.has_predict else None
        return cls(ByRow(model), raw, scores, decisions, np.ones(len(raw), dtype=bool), len(raw))

    @classmethod
    def _of_steps(cls, program: Program, model: CModel, raw: NDArray[np.int64]) -> Job:
        """Send the steps of each sequence that has any, and ask for the result at its end."""
        counts = program.n_steps(raw)
        raw, counts = raw[counts > 0], counts[counts > 0]
        if not len(raw):
            raise ValueError("measure needs at least one sequence with a time step.")
        frames = raw.reshape(len(raw), -1, program.n_channels)
        after = program.run_steps(raw)
        calls, scores = [], []
        for sequence, count, seen in zip(frames, counts, after, strict=True):
            what = np.full(count + 1, ByStep.STEP)
            what[0], what[-1] = ByStep.FIRST, ByStep.RESULT
            ends = np.vstack([sequence[:count], np.zeros_like(sequence[:1])])
            calls.append(np.column_stack([what, ends]))
            scores.append(np.vstack([seen[:count], seen[count - 1 : count]]))
        sent, wanted = np.vstack(calls), np.vstack(scores)
        decisions = program.decide(wanted) if program.has_predict else None
        return cls(ByStep(model), sent, wanted, decisions, sent[:, 0] == ByStep.RESULT, len(raw))


def measure(
    program: Program,
    X: ArrayLike,
    board: str | Board = "uno",
    *,
    n_rows: int | None = 200,
    flags: Sequence[str] = ("os", "arduino"),
) -> Report:
    """Build a program for a board, run it in a simulator, and compare every output with Python's.

    Parameters
    ----------
    program : Program
        What `tinyml.compile` returned.
    X : array-like of shape (n_samples, n_features)
        Rows as the user has them.
    board : str or Board, default="uno"
        One of `tinyml.device.BOARDS`.
    n_rows : int or None, default=200
        Rows to run, spread evenly over `X`; None for all.
    flags : sequence of {"os", "arduino"}
        Sets of compiler flags; one simulation is run for each. ``("os",)`` is the quick one.

    Returns
    -------
    Report
        Flash and RAM net of an empty firmware, stack, cycles; ``print`` it for a table.

    Raises
    ------
    ToolNotFound
        When the compiler or the simulator is missing.
    RuntimeError
        When an output of the chip differs from ``program.run``, or the program crashes.

    Examples
    --------
    >>> import tinyml
    >>> program = tinyml.compile(model, X)  # doctest: +SKIP
    >>> print(tinyml.measure(program, X_test, board="uno"))  # doctest: +SKIP
    """
    board, chosen = get_board(board), _chosen_flags(flags)
    raw = _spread(np.asarray(program.quantize(X)), n_rows)
    return measure_job(Job.of(program, raw), board, chosen)


def measure_job(job: Job, board: Board, chosen: Sequence[Flags] = (OS, ARDUINO)) -> Report:
    """`measure` for a model that is C already, what it is sent, and what it should answer."""
    first, *others = (_figures(job, board, flags) for flags in chosen)
    in_steps = isinstance(job.driver, ByStep)
    return Report(
        **asdict(first),
        board=board.name,
        mcu=board.mcu,
        clock_hz=board.clock_hz,
        compiler=avr_compiler_version(),
        n_rows=job.n_rows,
        n_steps=float((~job.asks).sum() / job.n_rows) if in_steps else None,
        arduino=others[0] if others else None,
    )


def _chosen_flags(names: Sequence[str]) -> list[Flags]:
    if list(names) not in (["os"], ["arduino"], ["os", "arduino"]):
        raise ValueError(
            "The flags of measure must be ('os',), ('arduino',) or ('os', 'arduino')."
            f" Got {names!r} instead."
        )
    return [FLAGS[name] for name in names]


def _spread(raw: NDArray[np.generic], n_rows: int | None) -> NDArray[np.generic]:
    if not len(raw) or (n_rows is not None and n_rows < 1):
        raise ValueError("measure needs at least one row.")
    if n_rows is None or n_rows >= len(raw):
        return raw
    rows: NDArray[np.int64] = np.linspace(0, len(raw) - 1, n_rows).round().astype(np.int64)
    return raw[rows]


def _figures(job: Job, board: Board, flags: Flags) -> Figures:
    with AvrBuild(board, flags) as avr:
        sizes = _sizes(avr, job.driver)
        if sizes.why:
            return sizes
        run = _simulate(avr, job)
    _compare(run, job, flags)
    model = job.driver.model
    in_steps = isinstance(job.driver, ByStep)
    timed = run.cycles[~job.asks] if in_steps else run.cycles
    n_inputs = model.n_channels if in_steps else model.n_features
    stack = int(run.stack.max())
    ram = (sizes.static_ram or 0) + stack + n_inputs * model.input_dtype.itemsize
    ram += model.state_bytes if in_steps else 0
    return replace(
        sizes,
        stack=stack,
        ram=ram,
        cycles=float(timed.mean()),
        cycles_min=int(timed.min()),
        cycles_max=int(timed.max()),
        ms=board.milliseconds(float(timed.mean())),
        result_cycles=float(run.cycles[job.asks].mean()) if in_steps else None,
        n_identical=job.n_rows,
        compared=_compared(run),
        why=_excess("RAM", ram, board.ram, board),
    )


def _sizes(avr: AvrBuild, driver: Driver) -> Figures:
    """Flash and static RAM, and why the program need not be run."""
    board, flags = avr.board, avr.flags
    why, elf = "", None
    try:
        elf = build_minimal(avr, driver)
    except DoesNotLink as error:
        elf, why = error.sizes, str(error)
    if elf is None:
        return Figures(flags=str(flags), why=why)
    empty = _empty_firmware(board, flags, type(driver) is ByStep, driver.model.interface)
    too_much = _excess("flash", elf.flash, board.flash, board)
    too_much = too_much or _excess("RAM", elf.static_ram, board.ram, board)
    return Figures(
        flags=str(flags),
        flash=elf.flash - empty.flash,
        flash_total=elf.flash,
        static_ram=elf.static_ram - empty.static_ram,
        why=too_much or why,
    )


@functools.lru_cache(maxsize=64)
def _empty_firmware(
    board: Board,
    flags: Flags,
    in_steps: bool,
    interface: tuple[str, str, str | None, int, int, int, int],
) -> Elf:
    """The same firmware around a model that does nothing."""
    with AvrBuild(board, flags) as avr:
        model = CModel("model", {}, *interface).empty("model")
        return build_minimal(avr, ByStep(model) if in_steps else ByRow(model))


def _simulate(avr: AvrBuild, job: Job) -> Run:
    # With link-time optimisation a second caller of the scores would change how predict is
    # compiled, and the program timed would no longer be the program whose size was taken.
    scores = avr.flags is OS
    try:
        elf = build_bench(avr, [job.driver], scores=scores)
    except DoesNotLink:
        # On a chip that is full the scores have to stay out.
        scores = False
        elf = build_bench(avr, [job.driver], scores=scores)
    return run_bench(elf, avr.board, [job.driver], [job.raw], scores=scores)[0]


def _compare(run: Run, job: Job, flags: Flags) -> None:
    pairs = [] if run.scores is None else [("scores", run.scores, job.scores)]
    if run.decisions is not None and job.decisions is not None:
        pairs.append(("predict", run.decisions[job.asks], job.decisions[job.asks]))
    for what, seen, wanted in pairs:
        if np.array_equal(seen, wanted):
            continue
        differs = (seen != wanted).reshape(len(seen), -1).any(axis=1)
        row = int(differs.argmax())
        raise RuntimeError(
            f"The chip disagrees with Python in {differs.sum()} of {len(seen)} rows ({flags.name}"
            f" flags): in row {row}, {what} gives {seen[row]} on the chip and {wanted[row]} in"
            " Python."
        )


def _compared(run: Run) -> str:
    parts = {"scores": run.scores, "decisions": run.decisions}
    return " and ".join(name for name, values in parts.items() if values is not None)


def _excess(what: str, needed: int, available: int, board: Board) -> str:
    if needed <= available:
        return ""
    return f"it needs {needed} B of {what}, and the {board.name} has {available}"
