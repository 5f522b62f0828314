"""Squared distances to stored points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinyml.codegen.fixed import (
    Fixed,
    IntArray,
    arithmetic_ctype,
    ctype_bytes,
    index_ctype,
    rshift,
    storage_ctype,
)
from tinyml.codegen.ops.base import Code, Op, Ref, Store, Table
from tinyml.codegen.ops.elementwise import c_int
from tinyml.codegen.ops.linear import carry, counting


@dataclass(eq=False)
class SquaredDistance(Op):
    """d_j = Σ_k clip((x_k - p_jk · 2^scale) >> shift, -limit - 1, limit)².

    Differences are narrowed before they are squared, because a product of two wide variables is
    what an 8-bit chip pays for most. Where a difference saturates the distance is too small; the
    Builder chooses `limit` so that the kernel has vanished there.
    """

    x: Op
    points: IntArray
    scale: int
    shift: int
    limit: int

    def __post_init__(self) -> None:
        self.inputs = (self.x,)
        source = self.x.type
        shifted = np.left_shift(self.points, self.scale)
        self._low, self._high = int((source.lo - shifted).min()), int((source.hi - shifted).max())
        ends = (rshift(source.lo - shifted, self.shift), rshift(source.hi - shifted, self.shift))
        largest = np.minimum(np.maximum(abs(ends[0]), abs(ends[1])), self.limit + 1)
        self._top = int(largest.max())
        self.type = Fixed(
            (len(self.points),),
            2 * (source.scalar_frac - self.shift),
            0,
            (largest**2).sum(axis=1),
        )
        half = 1 << self.shift >> 1
        self._wide = arithmetic_ctype(min(0, self._low), self._high + half)
        self.type.ctype  # refuses now what 32 bits cannot hold  # noqa: B018

    def run(self, *args: IntArray) -> IntArray:
        points = np.left_shift(self.points, self.scale)
        distance = np.zeros((len(args[0]), len(points)), dtype=np.int64)
        for k in range(points.shape[1]):
            difference = rshift(args[0][:, k, None] - points[:, k], self.shift)
            distance += np.clip(difference, -self.limit - 1, self.limit) ** 2
        return distance

    def tables(self) -> dict[str, Table]:
        return {"points": Table.of(self.points.ravel())}

    @property
    def work(self) -> int:
        widths = (self.x.type.ctype, storage_ctype(-(self._top**2), self._top**2))
        return self.points.size * sum(2 * ctype_bytes(ctype) for ctype in widths)

    @property
    def cost(self) -> str:
        return f"{self.points.size} squares"

    def emit(self, c: Code, store: Store, *args: Ref) -> None:
        (x,) = args
        p, step = c.cursor(self, "points")
        n = self.points.shape[1]
        total = arithmetic_ctype(0, self.type.highest)
        types = {"sum": c.ctype(total), "next": step, **counting(index_ctype(n))}
        if self._is_8_by_8:
            routine = c.routine(self, "distance8", **types, carry=carry(total, "zero"))
        else:
            routine = c.routine(self, "distance", **types, **self._formula(c, step))
        with c.loop("i", self.type.size) as i:
            store(i, f"{routine}(&{p}, {x.name}, {n})")

    @property
    def _is_8_by_8(self) -> bool:
        """Whether differences are those of bytes, saturated to bytes."""
        types = {self.x.type.ctype, self.tables()["points"].ctype}
        return types == {"int8_t"} and (self.scale, self.shift, self.limit) == (0, 0, 127)

    def _formula(self, c: Code, step: str) -> dict[str, str]:
        wide = c.ctype(self._wide)
        low, high = c_int(-self.limit - 1), c_int(self.limit)
        clip = f"if (d < {low}) d = {low};\n        if (d > {high}) d = {high};"
        return {
            "point": self.tables()["points"].ctype,
            "x": self.x.type.ctype,
            "wide": wide,
            "difference": self._difference(wide, "*x++", f"{step}(p)"),
            "clip": clip if self._clips else "",
            "square": "int16_t" if self._top**2 < 2**15 else "int32_t",
        }

    @property
    def _clips(self) -> bool:
        ends = rshift(np.array([self._low, self._high]), self.shift)
        return bool(ends[0] < -self.limit - 1 or ends[1] > self.limit)

    def _difference(self, wide: str, x: str, point: str) -> str:
        if self.scale:
            point = f"({wide})(({wide}){point} * {c_int(1 << self.scale)})"
        difference = f"({wide})(({wide}){x} - ({wide}){point})"
        if self.shift:
            half = c_int(1 << (self.shift - 1))
            difference = f"({wide})(({wide})({difference} + {half}) >> {self.shift})"
        return difference
