"""Heads: from a score vector to the one number that ``predict`` returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinyml.codegen.fixed import Fixed, IntArray, index_ctype
from tinyml.codegen.ops.base import Code, Op, Ref, Store


@dataclass(eq=False)
class ArgMax(Op):
    """k = argmax_i x_i; of equal scores the lowest index."""

    x: Op

    def __post_init__(self) -> None:
        self.inputs = (self.x,)
        self.x.type.scalar_frac  # scores compare only on one grid  # noqa: B018
        self.type = Fixed((1,), 0, 0, self.x.type.size - 1)

    def run(self, *args: IntArray) -> IntArray:
        return np.asarray(args[0].argmax(axis=1)[:, None])

    def emit(self, c: Code, store: Store, *args: Ref) -> None:
        (x,) = args
        best, index = c.fresh("best"), c.ctype(index_ctype(self.x.type.size - 1))
        top, value = c.fresh("top"), self.x.type.ctype
        c.line(f"{index} {best} = 0;")
        c.line(f"{value} {top} = {x('0')};")
        with c.loop("i", self.x.type.size) as i, c.block(f"if ({x(i)} > {top})"):
            c.line(f"{top} = {x(i)};")
            c.line(f"{best} = ({index}){i};")
        store("0", best)


@dataclass(eq=False)
class Sign(Op):
    """k = 1 where x > 0, else 0."""

    x: Op

    def __post_init__(self) -> None:
        self.inputs = (self.x,)
        self.type = Fixed((1,), 0, 0, 1)

    def run(self, *args: IntArray) -> IntArray:
        return (args[0] > 0).astype(np.int64)

    def emit(self, c: Code, store: Store, *args: Ref) -> None:
        store("0", f"{args[0]('0')} > 0 ? 1 : 0")


@dataclass(eq=False)
class Identity(Op):
    """y = x: a regressor's one score is its prediction."""

    x: Op

    def __post_init__(self) -> None:
        self.inputs = (self.x,)
        self.type = self.x.type

    def run(self, *args: IntArray) -> IntArray:
        return args[0]

    def emit(self, c: Code, store: Store, *args: Ref) -> None:
        store("0", args[0]("0"))
