"""Matrix times vector, the op that decides how fast a model is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinyml.codegen.fixed import (
    Exponent,
    Fixed,
    IntArray,
    arithmetic_ctype,
    ctype_bytes,
    index_ctype,
)
from tinyml.codegen.ops.base import Code, Op, Ref, Store, Table
from tinyml.codegen.storage import compressed_rows, layout_bytes, rows_of_runs


def matmul_exact(x: IntArray, weights: IntArray) -> IntArray:
    """Multiply integer matrices through BLAS; exact, since every partial sum is below 2**53."""
    return np.asarray(np.rint(x.astype(np.float64) @ weights.astype(np.float64)), dtype=np.int64)


@dataclass(eq=False)
class MatVec(Op):
    """y = W x + b.

    `weights` has shape (n_outputs, n_inputs) and is stored row by row, without its zeros where that
    is smaller. A column of x may have its own frac: the lowering gives column j of `weights` the
    frac ``frac - x.frac[j]``. Every partial sum is inside the proven bounds, in any order.
    """

    x: Op
    weights: IntArray
    bias: IntArray
    frac: Exponent

    def __post_init__(self) -> None:
        self.inputs = (self.x,)
        source = self.x.type
        at_lo, at_hi = self.weights * source.lo, self.weights * source.hi
        self.type = Fixed(
            (len(self.weights),),
            self.frac,
            np.minimum(at_lo, at_hi).sum(axis=1) + self.bias,
            np.maximum(at_lo, at_hi).sum(axis=1) + self.bias,
        )
        largest = np.maximum(abs(at_lo), abs(at_hi))
        partial = int((largest.sum(axis=1) + abs(self.bias)).max())
        self.accumulator = arithmetic_ctype(-partial, partial)
        top = int(largest.max(initial=0))
        self.product = "int16_t" if top < 2**15 else "int32_t"
        self.layout = self._smallest_layout()

    def _smallest_layout(self) -> str:
        sizes = layout_bytes(self.weights, ctype_bytes(Table.of(self.weights).ctype))
        return min(sizes, key=lambda layout: sizes[layout]) if np.any(self.weights) else "dense"

    def run(self, *args: IntArray) -> IntArray:
        return matmul_exact(args[0], self.weights.T) + self.bias

    def tables(self) -> dict[str, Table]:
        tables = {"bias": Table.of(self.bias)} if np.any(self.bias) else {}
        if self.layout == "dense":
            return tables | {"weights": Table.of(self.weights.ravel())}
        if self.layout == "runs":
            runs, values, counts = rows_of_runs(self.weights)
            return tables | {
                "counts": Table.of_indices(counts),
                "places": Table.of_indices(runs.ravel()),
                "weights": Table.of(values),
            }
        gaps, values, counts = compressed_rows(self.weights)
        return tables | {
            "counts": Table.of_indices(counts),
            "gaps": Table.of_indices(gaps),
            "weights": Table.of(values),
        }

    @property
    def work(self) -> int:
        return self.n_products * (ctype_bytes(self.product) + ctype_bytes(self.type.ctype))

    @property
    def n_products(self) -> int:
        """Number of products in one evaluation; of the mean matrix, where one is chosen."""
        n_entries = self.tables()["weights"].values.size
        return int(n_entries if np.any(self.weights) else self.weights.size)

    @property
    def cost(self) -> str:
        n = self.n_products
        return f"{n} MAC, {self.accumulator.removesuffix('_t')} sum"

    def emit(self, c: Code, store: Store, *args: Ref) -> None:
        self._rows(c, store, args[0].name, entry="0", place="0", row="")

    def _rows(self, c: Code, store: Store, x: str, *, entry: str, place: str, row: str) -> None:
        """Write the product of the rows from `row` on.

        Their weights begin with number `entry`, what tells their columns with number `place`.
        """
        w, step = c.cursor(self, "weights", entry)
        if self.layout == "dense":
            routine, passes = self._dense_routine(c, step)
        else:
            places, step_place = c.cursor(self, self._places, place)
            routine = self._sparse_routine(c, step, step_place)
        with c.loop("i", self.type.size) as i:
            k = f"{row} + {i}" if row else i
            start = c.read(self, "bias", k) if np.any(self.bias) else "0"
            if self.layout == "dense":
                store(i, f"{routine}({start}, &{w}, {x}, {passes})")
            else:
                n = c.read(self, "counts", k)
                store(i, f"{routine}({start}, &{w}, &{places}, {x}, {n})")

    @property
    def _places(self) -> str:
        """The table that tells the columns of weights."""
        return "places" if self.layout == "runs" else "gaps"

    def _types(self, c: Code, step: str) -> dict[str, str]:
        return {
            "sum": c.ctype(self.accumulator),
            "weight": self.tables()["weights"].ctype,
            "x": self.x.type.ctype,
            "product": self.product,
            "next": step,
        }

    def _sparse_routine(self, c: Code, step: str, step_place: str) -> str:
        count, kind = self.tables()["counts"].ctype, self.layout
        next_place = "next_run" if kind == "runs" else "next_gap"
        fields = self._types(c, step) | {"count": count, next_place: step_place}
        if self._is_8_by_8:
            fields |= {"mul": self._multiply, "carry": carry(self.accumulator, "sign")}
            return c.routine(self, f"{kind}8", **(fields | counting(count)))
        return c.routine(self, kind, **fields)

    def _dense_routine(self, c: Code, step: str) -> tuple[str, int]:
        """Return the routine of one row and how many passes it is to make."""
        types, n = self._types(c, step), self.weights.shape[1]
        if not self._is_8_by_8:
            return c.routine(self, "dot", **types, count=index_ctype(n)), n
        unroll = next(u for u in (4, 2, 1) if n % u == 0)
        term = f"(int16_t)((int16_t){step}(w) * (int16_t)*x++)"
        portable = f"sum = ({types['sum']})(sum + {term});"
        fields = {
            "unroll": str(unroll),
            "portable": "\n        ".join([portable] * unroll),
            "products": "\n            ".join([self._assembly] * unroll),
            **counting(index_ctype(n // unroll)),
        }
        return c.routine(self, "dot8", **types, **fields), n // unroll

    @property
    def _assembly(self) -> str:
        """One product and its sum on AVR, in lines that gcc can count: it infers their length."""
        instructions = [
            "lpm %[a], Z+",
            "ld %[b], X+",
            f"{self._multiply} %[a], %[b]",
            "sbc %[sign], %[sign]",  # the carry: the product is negative
            "add %A[sum], r0",
            "adc %B[sum], r1",
        ]
        lines = [f'"{instruction}\\n\\t"' for instruction in instructions]
        higher = carry(self.accumulator, "sign")
        return "\n            ".join(lines + ([higher] if higher else []))

    @property
    def _is_8_by_8(self) -> bool:
        """Whether the chip's own multiplication forms every product."""
        return self.tables()["weights"].ctype == "int8_t" and self.x.type.dtype.itemsize == 1

    @property
    def _multiply(self) -> str:
        return "muls" if self.x.type.ctype == "int8_t" else "mulsu"


@dataclass(eq=False)
class ChosenMatVec(MatVec):
    """y = W_k x + b_k: one of several matrices, stored one after the other.

    `weights` has shape (n_choices * n_outputs, n_inputs), `index` yields k.
    """

    index: Op
    n_choices: int

    def __post_init__(self) -> None:
        super().__post_init__()
        self.inputs = (self.x, self.index)
        if self.index.type.lowest < 0 or self.index.type.highest >= self.n_choices:
            raise ValueError("the index of a chosen matrix must be proven to name one")
        lo, hi = (np.reshape(end, (self.n_choices, -1)) for end in (self.type.lo, self.type.hi))
        self.type = Fixed((lo.shape[1],), self.frac, lo.min(axis=0), hi.max(axis=0))

    def run(self, *args: IntArray) -> IntArray:
        x, k = args[0], args[1][:, 0]
        shape = (self.n_choices, -1, self.weights.shape[1])
        bias = np.reshape(self.bias, (self.n_choices, -1))
        y = np.empty((len(x), self.type.size), dtype=np.int64)
        for choice in np.unique(k):
            rows = k == choice
            y[rows] = matmul_exact(x[rows], self.weights.reshape(shape)[choice].T) + bias[choice]
        return y

    def tables(self) -> dict[str, Table]:
        tables = super().tables()
        if self.layout == "runs":
            tables["starts"] = self._starts(np.count_nonzero(self.weights, axis=1))
            tables["run_starts"] = self._starts(2 * rows_of_runs(self.weights)[2])
        elif self.layout == "sparse":
            tables["starts"] = self._starts(compressed_rows(self.weights)[2])
        return tables

    def _starts(self, n_of_rows: IntArray) -> Table:
        """Return where each matrix begins, from the numbers of entries of the rows."""
        counts = n_of_rows.reshape(self.n_choices, -1).sum(axis=1)
        return Table.of_indices(np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64))

    @property
    def n_products(self) -> int:
        return super().n_products // self.n_choices

    def emit(self, c: Code, store: Store, *args: Ref) -> None:
        x, index = args
        n_rows, k = self.type.size, c.fresh("k")
        size = n_rows * self.weights.shape[1]
        position = index_ctype(max(256, self.n_choices * size))
        c.line(f"const {position} {k} = ({position}){index('0')};")
        is_dense = self.layout == "dense"
        entry = f"({position})({k} * {size}U)" if is_dense else c.read(self, "starts", k)
        place = c.read(self, "run_starts", k) if self.layout == "runs" else entry
        row = ""
        if not is_dense or np.any(self.bias):
            row = c.fresh("row")
            c.line(f"const {position} {row} = ({position})({k} * {n_rows}U);")
        self._rows(c, store, x.name, entry=entry, place=place, row=row)


def counting(ctype: str) -> dict[str, str]:
    """Return how an assembly loop counts down from a number of type `ctype`."""
    short = ctype == "uint8_t"
    return {
        "count": ctype,
        "counter": "r" if short else "w",
        "decrement": "dec %[n]" if short else "sbiw %[n], 1",
    }


def carry(accumulator: str, register: str) -> str:
    """Return the assembly that carries into the bytes of a sum above the second."""
    parts = {"int16_t": "", "int24_t": "C", "int32_t": "CD"}[accumulator]
    return "\n            ".join(f'"adc %{part}[sum], %[{register}]\\n\\t"' for part in parts)
