"""Ops that choose: the largest element, votes of pairs, the nearest of stored points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinyml.codegen.fixed import Fixed, IntArray, arithmetic_ctype, ctype_bytes, index_ctype
from tinyml.codegen.graph import pair_votes, sums_of_nearest
from tinyml.codegen.ops.base import Code, Op, Ref, Store, Table
from tinyml.codegen.ops.heads import ArgMax


@dataclass(eq=False)
class Winner(Op):
    """y = 1 for the largest element, of equal ones the first, and 0 for the others.

    One score decides between two by its sign.
    """

    x: Op

    def __post_init__(self) -> None:
        self.inputs = (self.x,)
        self.x.type.scalar_frac  # scores compare only on one grid  # noqa: B018
        self.type = Fixed((max(2, self.x.type.size),), 0, 0, 1)

    def run(self, *args: IntArray) -> IntArray:
        (x,) = args
        k = (x[:, 0] > 0).astype(np.int64) if x.shape[1] == 1 else x.argmax(axis=1)
        return np.asarray(np.eye(self.type.size, dtype=np.int64)[k])

    def emit(self, c: Code, store: Store, *args: Ref) -> None:
        (x,) = args
        if self.x.type.size == 1:
            store("0", f"({x('0')} > 0 ? 0 : 1)")
            store("1", f"({x('0')} > 0 ? 1 : 0)")
            return
        best = ""

        def keep(_: str, value: str) -> None:
            nonlocal best
            best = value

        ArgMax(self.x).emit(c, Store(keep), x)
        with c.loop("i", self.type.size) as i:
            store(i, f"({i} == {best} ? 1 : 0)")


@dataclass(eq=False)
class PairVotes(Op):
    """Votes of the pairs (0, 1), (0, 2), ..., (1, 2), ...: for the first where x > 0."""

    x: Op
    n_classes: int

    def __post_init__(self) -> None:
        self.inputs = (self.x,)
        if self.x.type.size != self.n_classes * (self.n_classes - 1) // 2:
            raise ValueError("PairVotes reads one number for each pair of classes")
        self.type = Fixed((self.n_classes,), 0, 0, self.n_classes - 1)

    def run(self, *args: IntArray) -> IntArray:
        return pair_votes(args[0], self.n_classes)

    @property
    def work(self) -> int:
        return 2 * self.x.type.size

    @property
    def scratch_bytes(self) -> int:
        return self.type.nbytes

    def emit(self, c: Code, store: Store, *args: Ref) -> None:
        (x,) = args
        n, votes, pair, second = self.n_classes, c.fresh("votes"), c.fresh("pair"), c.fresh("j")
        index, count = index_ctype(n), self.type.ctype
        c.line(f"{count} {votes}[{n}];")
        with c.loop("i", n) as i:
            c.line(f"{votes}[{i}] = 0;")
        c.line(f"{index_ctype(self.x.type.size)} {pair} = 0;")
        with c.loop("i", n) as i:
            head = f"{index} {second} = ({index})({i} + 1); {second} < {n}; {second}++, {pair}++"
            with c.block(f"for ({head})"):
                c.line(f"{votes}[{x(pair)} > 0 ? {i} : {second}]++;")
        with c.loop("i", n) as i:
            store(i, f"{votes}[{i}]")


@dataclass(eq=False)
class Nearest(Op):
    """y_c = Σ values_j over those of the `k` smallest x_j whose output is c.

    Of equal ones the first are taken.
    """

    x: Op
    k: int
    outputs: IntArray
    values: IntArray
    frac: int

    def __post_init__(self) -> None:
        self.inputs = (self.x,)
        self.x.type.scalar_frac  # distances compare only on one grid  # noqa: B018
        if not 1 <= self.k <= self.x.type.size:
            raise ValueError("Nearest finds at least one and at most all of the elements")
        lo, hi = (self.k * int(end) for end in (self.values.min(), self.values.max()))
        n_outputs = int(self.outputs.max()) + 1
        self.type = Fixed((n_outputs,), self.frac, min(0, lo), max(0, hi))
        self._sum = arithmetic_ctype(self.type.lowest, self.type.highest)

    def run(self, *args: IntArray) -> IntArray:
        values = np.asarray(self.values, dtype=np.int64)
        return sums_of_nearest(args[0], self.k, self.outputs, values)

    def tables(self) -> dict[str, Table]:
        tables = {}
        if self.type.size > 1:
            tables["outputs"] = Table.of_indices(self.outputs)
        if np.any(self.values != self.values[0]):
            tables["values"] = Table.of(self.values)
        return tables

    @property
    def work(self) -> int:
        return 2 * self.x.type.size * ctype_bytes(self.x.type.ctype)

    @property
    def scratch_bytes(self) -> int:
        at = ctype_bytes(index_ctype(self.x.type.size - 1)) + ctype_bytes(self.x.type.ctype)
        return self.k * at + self.type.nbytes

    def emit(self, c: Code, store: Store, *args: Ref) -> None:
        (x,) = args
        near, at = c.fresh("near"), c.fresh("at")
        c.line(f"{self.x.type.ctype} {near}[{self.k}];")
        c.line(f"{index_ctype(self.x.type.size - 1)} {at}[{self.k}];")
        with c.loop("i", self.x.type.size) as i:
            if self.k < self.x.type.size:
                with c.block(f"if ({i} < {self.k} || {x(i)} < {near}[{self.k - 1}])"):
                    self._insert(c, x, i, near, at)
            else:
                self._insert(c, x, i, near, at)
        self._add(c, store, at)

    def _insert(self, c: Code, x: Ref, i: str, near: str, at: str) -> None:
        """Write what puts element `i` behind those that are not larger."""
        p, count, place = c.fresh("p"), index_ctype(self.k), index_ctype(self.x.type.size - 1)
        c.line(f"{count} {p} = ({count})({i} < {self.k} ? {i} : {self.k - 1});")
        with c.block(f"while ({p} > 0 && {near}[{p} - 1] > {x(i)})"):
            c.line(f"{near}[{p}] = {near}[{p} - 1];")
            c.line(f"{at}[{p}] = {at}[{p} - 1];")
            c.line(f"{p}--;")
        c.line(f"{near}[{p}] = {x(i)};")
        c.line(f"{at}[{p}] = ({place}){i};")

    def _add(self, c: Code, store: Store, at: str) -> None:
        """Write what sums the values of the elements found."""
        sums, total, tables = c.fresh("sums"), c.ctype(self._sum), self.tables()
        stored = self.type.ctype
        c.line(f"{stored} {sums}[{self.type.size}];")
        with c.loop("i", self.type.size) as i:
            c.line(f"{sums}[{i}] = 0;")
        with c.loop("i", self.k) as i:
            here = f"{at}[{i}]"
            output = c.read(self, "outputs", here) if "outputs" in tables else "0"
            value = c.read(self, "values", here) if "values" in tables else str(self.values[0])
            slot = c.fresh("slot")
            c.line(f"const {index_ctype(self.type.size)} {slot} = {output};")
            c.line(f"{sums}[{slot}] = ({stored})(({total}){sums}[{slot}] + ({total}){value});")
        with c.loop("i", self.type.size) as i:
            store(i, f"{sums}[{i}]")
