"""What every op states: its type, its meaning on integers, and the C with that same meaning."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from tinyml.codegen.fixed import Fixed, IntArray, ctype_bytes, index_ctype, storage_ctype


@dataclass(frozen=True)
class Ref:
    """An array that C code may read: called with an index expression it gives the element."""

    name: str

    def __call__(self, index: str) -> str:
        return f"{self.name}[{index}]"


@dataclass(frozen=True)
class Store:
    """Writes one element of an op's result: a C statement from an index and a value.

    `buffer` names the array behind it if results land there unchanged, so that an op that
    accumulates may do so in place; it is None where another op is fused into the store.
    """

    write: Callable[[str, str], None]
    buffer: str | None = None

    def __call__(self, index: str, value: str) -> None:
        self.write(index, value)


@dataclass(frozen=True, eq=False)
class Table:
    """A constant array that lives in flash; C knows no empty ones, so one of those holds a 0."""

    values: IntArray
    ctype: str

    def __post_init__(self) -> None:
        if not self.values.size:
            object.__setattr__(self, "values", np.zeros(1, dtype=np.int64))

    @classmethod
    def of(cls, values: IntArray) -> Table:
        """Store `values` in the narrowest type that holds them."""
        values = np.asarray(values, dtype=np.int64)
        lo, hi = int(values.min(initial=0)), int(values.max(initial=0))
        return cls(values, storage_ctype(lo, hi))

    @classmethod
    def of_indices(cls, values: IntArray) -> Table:
        """Store counts or positions in the narrowest unsigned type."""
        values = np.asarray(values, dtype=np.int64)
        return cls(values, index_ctype(int(values.max(initial=0))))

    @property
    def nbytes(self) -> int:
        """Bytes in flash."""
        return self.values.size * ctype_bytes(self.ctype)


class Code(Protocol):
    """What `Op.emit` may ask of the printer."""

    def line(self, text: str) -> None:
        """Write one line at the present indentation."""

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """Write `head`, a brace, what the body writes, and the closing brace."""

    @contextmanager
    def loop(self, variable: str, n: int) -> Iterator[str]:
        """Count `variable` from 0 to `n` - 1; yields the variable's name."""

    def fresh(self, base: str) -> str:
        """Return a local name not used so far in this function."""

    def name(self, op: Op, suffix: str) -> str:
        """Return the file-scope name of something that belongs to `op`."""

    def ctype(self, ctype: str) -> str:
        """Return the spelling of a type of `fixed` in this file."""

    def read(self, op: Op, table: str, index: str) -> str:
        """Return the expression of one element of a table of `op`."""

    def cursor(self, op: Op, table: str, offset: str = "0") -> tuple[str, str]:
        """Declare a pointer into a table; return its name and the function that steps it."""

    def stepper(self, op: Op, table: str) -> str:
        """Return the function that reads what a pointer into a table points to, and steps it."""

    def routine(self, op: Op, fragment: str, **fields: str) -> str:
        """Print a fragment of the run time as a function that belongs to `op`; return its name."""

    def ended(self, frame: str, width: int, missing: int, ctype: str) -> str:
        """Return the expression that says whether all values of a frame are missing."""

    def compute(self, targets: Sequence[tuple[Op, Store]], arrays: Mapping[Op, str]) -> None:
        """Write what computes several ops, given the arrays that hold what they begin from."""


class Op:
    """One instruction of a Program.

    A subclass states, side by side, the `type` it yields (with proven bounds), `run`, its meaning
    on a batch of raw integers, and `emit`, the C statements with that same meaning for one sample.
    Subclasses register themselves; a property test runs every one of them against its C.
    """

    registry: ClassVar[dict[str, type[Op]]] = {}
    inputs: tuple[Op, ...]
    type: Fixed
    body: tuple[Op, ...] = ()  # ops that it executes itself, not in the order of the program

    def __init_subclass__(cls) -> None:
        if not cls.__name__.startswith("_"):
            Op.registry[cls.__name__] = cls

    def run(self, *args: IntArray) -> IntArray:
        """Execute on a batch: each argument has shape (n_samples, size)."""
        raise NotImplementedError

    def tables(self) -> dict[str, Table]:
        """Return the constant arrays the C reads, by name."""
        return {}

    def declare(self, c: Code) -> None:
        """Write what belongs at file scope, before the function that runs the program."""

    def emit(self, c: Code, store: Store, *args: Ref) -> None:
        """Write the statements that compute every element and hand it to `store`."""
        raise NotImplementedError

    @property
    def table_bytes(self) -> int:
        """Bytes of constants in flash; what is printed as code counts as the table it could be."""
        return sum(table.nbytes for table in self.tables().values())

    @property
    def scratch_bytes(self) -> int:
        """Bytes of arrays that computing the op needs beside its result."""
        return 0

    @property
    def work(self) -> int:
        """Bytes of arithmetic in one evaluation: a rough measure of time on an 8-bit chip."""
        return self.type.size

    @property
    def cost(self) -> str:
        """Work of one evaluation, counted in the op's own unit."""
        return f"{self.type.size} elements"


class _Elementwise(Op):
    """An op whose element i depends on element i of its inputs.

    It can ride on the store of the first, while the others lie in arrays.
    """

    def element(self, c: Code, index: str, *values: str) -> str:
        """Return the C expression of one element; statements it needs are written first."""
        raise NotImplementedError

    def emit(self, c: Code, store: Store, *args: Ref) -> None:
        with c.loop("i", self.type.size) as i:
            store(i, self.element(c, i, *(x(i) for x in args)))


Elementwise = _Elementwise
