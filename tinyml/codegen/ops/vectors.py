"""Ops on whole vectors: joining them, and what relates each element to all others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinyml.codegen.fixed import Fixed, IntArray, arithmetic_ctype
from tinyml.codegen.ops.base import Code, Op, Ref, Store
from tinyml.codegen.ops.elementwise import c_int


@dataclass(eq=False)
class Join(Op):
    """The elements of several values, one after another; each keeps its frac."""

    parts: tuple[Op, ...]

    def __post_init__(self) -> None:
        self.inputs = self.parts
        types = [part.type for part in self.parts]
        frac, lo, hi = (
            np.concatenate([np.broadcast_to(getattr(t, key), t.shape) for t in types])
            for key in ("frac", "lo", "hi")
        )
        self.type = Fixed(frac.shape, frac, lo, hi)

    def run(self, *args: IntArray) -> IntArray:
        return np.hstack(args)

    def emit(self, c: Code, store: Store, *args: Ref) -> None:
        first = 0
        for part, x in zip(self.parts, args, strict=True):
            n = part.type.size
            if n == 1:
                store(str(first), x("0"))
            else:
                with c.loop("i", n) as i:
                    store(f"({i} + {first})" if first else i, x(i))
            first += n


@dataclass(eq=False)
class BelowLargest(Op):
    """y_i = max_j x_j - x_i."""

    x: Op

    def __post_init__(self) -> None:
        self.inputs = (self.x,)
        t = self.x.type
        self.type = Fixed(t.shape, t.scalar_frac, 0, t.highest - t.lowest)
        self._working = arithmetic_ctype(min(0, t.lowest), max(t.highest, self.type.highest))

    def run(self, *args: IntArray) -> IntArray:
        (x,) = args
        return np.asarray(x.max(axis=1, keepdims=True) - x)

    def emit(self, c: Code, store: Store, *args: Ref) -> None:
        (x,) = args
        top, working = c.fresh("top"), c.ctype(self._working)
        c.line(f"{self.x.type.ctype} {top} = {x('0')};")
        with c.loop("i", self.type.size) as i:
            c.line(f"if ({x(i)} > {top}) {top} = {x(i)};")
        with c.loop("i", self.type.size) as i:
            store(i, f"({working})(({working}){top} - ({working}){x(i)})")


@dataclass(eq=False)
class Normalize(Op):
    """y_i = x_i / Σ_j x_j for x ≥ 0, rounded half up; where all are 0 the elements are equal."""

    x: Op

    FRAC = 14

    def __post_init__(self) -> None:
        self.inputs = (self.x,)
        t = self.x.type
        t.scalar_frac  # parts of a whole compare only on one grid  # noqa: B018
        if t.lowest < 0:
            raise ValueError("Normalize reads numbers that are not negative")
        total = int(np.broadcast_to(t.hi, t.shape).sum())
        arithmetic_ctype(0, (t.highest << self.FRAC) + (total >> 1))  # refuses what is too wide
        self.type = Fixed(t.shape, self.FRAC, 0, 1 << self.FRAC)

    def run(self, *args: IntArray) -> IntArray:
        (x,) = args
        total = x.sum(axis=1, keepdims=True)
        shares = ((x << self.FRAC) + (total >> 1)) // np.maximum(total, 1)
        return np.asarray(np.where(total > 0, shares, self._equal))

    @property
    def _equal(self) -> int:
        return (1 << self.FRAC) // self.type.size

    @property
    def work(self) -> int:
        return 40 * self.type.size  # a division takes as long as forty bytes of addition

    def emit(self, c: Code, store: Store, *args: Ref) -> None:
        (x,) = args
        total = c.fresh("total")
        c.line(f"int32_t {total} = 0;")
        with c.loop("i", self.type.size) as i:
            c.line(f"{total} += {x(i)};")
        share = c.fresh("share")
        with c.loop("i", self.type.size) as i:
            c.line(f"int16_t {share} = {c_int(self._equal)};")
            scaled = f"(int32_t)((int32_t){x(i)} * {c_int(1 << self.FRAC)})"
            c.line(
                f"if ({total} > 0) {share} = "
                f"(int16_t)((int32_t)({scaled} + ({total} >> 1)) / {total});"
            )
            store(i, share)
