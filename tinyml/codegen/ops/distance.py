"""Squared distances to stored points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinyml.codegen.fixed import (
    Fixed,
    IntArray,
    arithmetic_ctype,
    ctype_bytes,
    ctype_range,
    index_ctype,
    rshift,
    storage_ctype,
)
from tinyml.codegen.ops.base import Code, Op, Ref, Store, Table
from tinyml.codegen.ops.elementwise import c_int, shifted
from tinyml.codegen.ops.linear import carry, counting


@dataclass(eq=False)
class ScaledDistance(Op):
    """d_j = Σ_k clip((x_k · 2^left - p_jk) s_jk >> right)², rounded half up, within ±limit."""

    x: Op
    points: IntArray
    scales: IntArray
    left: int
    right: int
    limit: int
    frac: int

    def __post_init__(self) -> None:
        self.inputs = (self.x,)
        source, half = self.x.type, (1 << self.right) >> 1
        low = np.left_shift(source.lo, self.left) - self.points
        high = np.left_shift(source.hi, self.left) - self.points
        ends = np.array([low * self.scales, high * self.scales]) + half
        scaled = np.abs(np.right_shift(ends, self.right)).max(axis=0)
        largest = np.minimum(scaled, self.limit)
        self.type = Fixed((len(self.points),), self.frac, 0, (largest**2).sum(axis=1))
        self._wide = arithmetic_ctype(min(0, int(low.min())), max(0, int(high.max())))
        self._product = arithmetic_ctype(min(0, int(ends.min())), max(half, int(ends.max())))
        if self.limit >= 2**15:
            raise OverflowError("what is squared needs more than 16 bits")
        self.type.ctype  # refuses now what 32 bits cannot hold  # noqa: B018

    def run(self, *args: IntArray) -> IntArray:
        x = np.left_shift(args[0], self.left)
        distance = np.zeros((len(x), len(self.points)), dtype=np.int64)
        for j, (point, scale) in enumerate(zip(self.points, self.scales, strict=True)):
            scaled = np.clip(rshift((x - point) * scale, self.right), -self.limit, self.limit)
            distance[:, j] = (scaled**2).sum(axis=1)
        return distance

    def tables(self) -> dict[str, Table]:
        return {"points": Table.of(self.points.ravel()), "scales": Table.of(self.scales.ravel())}

    @property
    def work(self) -> int:
        return self.points.size * (2 * ctype_bytes(self.tables()["scales"].ctype) + 8)

    @property
    def cost(self) -> str:
        return f"{self.points.size} scaled squares"

    def emit(self, c: Code, store: Store, *args: Ref) -> None:
        (x,) = args
        p, next_point = c.cursor(self, "points")
        s, next_scale = c.cursor(self, "scales")
        n, tables = self.points.shape[1], self.tables()
        wide, product = c.ctype(self._wide), c.ctype(self._product)
        number = f"({wide})*x++"
        if self.left:
            number = f"({wide})({number} * {c_int(1 << self.left)})"
        scaled = f"({product})(({product})d * ({product}){next_scale}(s))"
        if self.right:
            half, magnitude = c_int(1 << (self.right - 1)), ctype_range(self._product)[1]
            rounded = f"({product})({scaled} + {half})"
            scaled = f"({product}){shifted(c, rounded, self._product, self.right, magnitude)}"
        routine = c.routine(
            self,
            "scaled",
            sum=c.ctype(arithmetic_ctype(0, self.type.highest)),
            point=tables["points"].ctype,
            scale=tables["scales"].ctype,
            x=self.x.type.ctype,
            count=index_ctype(n),
            wide=wide,
            product=product,
            difference=f"({wide})({number} - ({wide}){next_point}(p))",
            scaled=scaled,
            low=c_int(-self.limit),
            high=c_int(self.limit),
        )
        with c.loop("i", self.type.size) as i:
            store(i, f"{routine}(&{p}, &{s}, {x.name}, {n})")


@dataclass(eq=False)
class SquaredDistance(Op):
    """d_j = Σ_k clip(x_k - p_jk · 2^scale, -limit - 1, limit)².

    Differences are limited before they are squared, because a product of two wide variables is what
    an 8-bit chip pays for most. Where a difference saturates the distance is too small; the Builder
    chooses grid and `limit` so that the kernel has vanished there.
    """

    x: Op
    points: IntArray
    scale: int
    limit: int

    def __post_init__(self) -> None:
        self.inputs = (self.x,)
        source = self.x.type
        shifted = np.left_shift(self.points, self.scale)
        low, high = source.lo - shifted, source.hi - shifted
        self._low, self._high = int(low.min()), int(high.max())
        largest = np.minimum(np.maximum(abs(low), abs(high)), self.limit + 1)
        self._top = int(largest.max())
        frac = 2 * source.scalar_frac
        self.type = Fixed((len(self.points),), frac, 0, (largest**2).sum(axis=1))
        self._wide = arithmetic_ctype(min(0, self._low), max(0, self._high))
        self.type.ctype  # refuses now what 32 bits cannot hold  # noqa: B018

    def run(self, *args: IntArray) -> IntArray:
        points = np.left_shift(self.points, self.scale)
        distance = np.zeros((len(args[0]), len(points)), dtype=np.int64)
        for k in range(points.shape[1]):
            difference = args[0][:, k, None] - points[:, k]
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
        return types == {"int8_t"} and (self.scale, self.limit) == (0, 127)

    def _formula(self, c: Code, step: str) -> dict[str, str]:
        wide = c.ctype(self._wide)
        low, high = c_int(-self.limit - 1), c_int(self.limit)
        point = f"({wide}){step}(p)"
        if self.scale:
            point = f"({wide})({point} * {c_int(1 << self.scale)})"
        clip = []
        if self._low < -self.limit - 1:
            clip.append(f"if (d < {low}) d = {low};")
        if self._high > self.limit:
            clip.append(f"if (d > {high}) d = {high};")
        narrow = max(-self._low, self._high, 0) if not clip else self._top
        return {
            "point": self.tables()["points"].ctype,
            "x": self.x.type.ctype,
            "wide": wide,
            "difference": f"({wide})(({wide})*x++ - {point})",
            "clip": "\n        ".join(clip),
            "narrow": "int8_t" if narrow <= 127 or self.limit == 127 else wide,
            "square": "int16_t" if self._top**2 < 2**15 else "int32_t",
        }
