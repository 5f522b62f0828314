"""Matrix times vector, the op that decides how fast a model is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinyml.codegen.fixed import Fixed, IntArray, arithmetic_ctype, ctype_bytes
from tinyml.codegen.ops.base import Code, Op, Ref, Store, Table
from tinyml.codegen.storage import table_bytes


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
    frac: int

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
        self.sparse = self._sparse_is_smaller()

    def _sparse_is_smaller(self) -> bool:
        width = ctype_bytes(Table.of(self.weights).ctype)
        return table_bytes([self.weights], 8 * width) < self.weights.size * width

    def run(self, *args: IntArray) -> IntArray:
        return matmul_exact(args[0], self.weights.T) + self.bias

    @property
    def _columns(self) -> IntArray:
        return np.nonzero(self.weights)[1]

    def tables(self) -> dict[str, Table]:
        tables = {"bias": Table.of(self.bias)} if np.any(self.bias) else {}
        if not self.sparse:
            return tables | {"weights": Table.of(self.weights.ravel())}
        return tables | {
            "counts": Table.of(np.count_nonzero(self.weights, axis=1)),
            "columns": Table.of(self._columns),
            "weights": Table.of(self.weights[self.weights != 0]),
        }

    @property
    def cost(self) -> str:
        n = np.count_nonzero(self.weights) if self.sparse else self.weights.size
        return f"{n} MAC, {self.accumulator.removesuffix('_t')} sum"

    def emit(self, c: Code, store: Store, *args: Ref) -> None:
        (x,) = args
        _, weight = c.cursor(self, "weights")
        column = c.cursor(self, "columns")[1] if self.sparse else None
        with c.loop("i", self.type.size) as i:
            acc, accumulator = c.fresh("acc"), c.ctype(self.accumulator)
            start = c.read(self, "bias", i) if np.any(self.bias) else "0"
            c.line(f"{accumulator} {acc} = {start};")
            if column is None:
                with c.loop("j", self.weights.shape[1]) as j:
                    c.line(self._accumulate(c, acc, weight, x(j)))
            else:
                n = c.fresh("n")
                counter = "uint8_t" if np.max(np.count_nonzero(self.weights, axis=1)) < 256 else "uint16_t"
                with c.block(f"for ({counter} {n} = {c.read(self, 'counts', i)}; {n} > 0; {n}--)"):
                    c.line(self._accumulate(c, acc, weight, x(column)))
            store(i, acc)

    def _accumulate(self, c: Code, acc: str, weight: str, x: str) -> str:
        accumulator, product = c.ctype(self.accumulator), self.product
        return (
            f"{acc} = ({accumulator})({acc} + ({product})(({product}){weight} * ({product}){x}));"
        )
