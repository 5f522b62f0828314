"""Distances to stored points."""

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
    """d_j = Σ_k (clip(x_k - p_jk, -limit - 1, limit) s_jk >> right)², the shift rounding half up.

    Scales are not negative. A point and its scale lie next to each other in one table.
    """

    x: Op
    points: IntArray
    scales: IntArray
    right: int
    limit: int
    frac: int

    def __post_init__(self) -> None:
        self.inputs = (self.x,)
        source = self.x.type
        low, high = source.lo - self.points, source.hi - self.points
        self._low, self._high = int(low.min()), int(high.max())
        ends = np.clip([low, high], -self.limit - 1, self.limit) * self.scales
        self._half = (1 << self.right) >> 1
        scaled = np.abs((ends + self._half) >> self.right).max(axis=0)
        self.type = Fixed((len(self.points),), self.frac, 0, (scaled**2).sum(axis=1))
        self._wide = arithmetic_ctype(min(0, self._low), max(0, self._high))
        self._product = arithmetic_ctype(int(ends.min()), int(ends.max()) + self._half)
        if max(self.limit, int(scaled.max()), int(self.scales.max())) >= 2**15:
            raise OverflowError("what is multiplied or squared needs more than 16 bits")
        self.type.ctype  # refuses now what 32 bits cannot hold  # noqa: B018

    def run(self, *args: IntArray) -> IntArray:
        (x,) = args
        distance = np.zeros((len(x), len(self.points)), dtype=np.int64)
        for j, (point, scale) in enumerate(zip(self.points, self.scales, strict=True)):
            difference = np.clip(x - point, -self.limit - 1, self.limit)
            distance[:, j] = (rshift(difference * scale, self.right) ** 2).sum(axis=1)
        return distance

    def tables(self) -> dict[str, Table]:
        points, scales = self.points.ravel(), self.scales.ravel()
        if self._widths == (2, 2):
            return {"records": Table(np.column_stack([points, scales]), "int16_t")}
        parts = [points & 255, scales & 255, scales >> 8][: sum(self._widths)]
        return {"records": Table(np.column_stack(parts), "uint8_t")}

    @property
    def _widths(self) -> tuple[int, int]:
        """Bytes of a point and of its scale: 1 and 1, 1 and 2, or 2 each."""
        if storage_ctype(int(self.points.min()), int(self.points.max())) != "int8_t":
            return 2, 2
        return 1, 1 if self.scales.max() < 256 else 2

    @property
    def work(self) -> int:
        return self.points.size * (2 * sum(self._widths) + 6)

    @property
    def cost(self) -> str:
        return f"{self.points.size} scaled squares"

    def emit(self, c: Code, store: Store, *args: Ref) -> None:
        (x,) = args
        r, step = c.cursor(self, "records")
        n = self.points.shape[1]
        types = {
            "sum": c.ctype(arithmetic_ctype(0, self.type.highest)),
            "next": step,
            "x": self.x.type.ctype,
            "record": self.tables()["records"].ctype,
            "wide": c.ctype(self._wide),
            "difference": self._difference(c),
            "scale": self._spelled_scale(step),
            "scaled": self._scaled(c),
        }
        routine = c.routine(self, self._fragment, **types, **counting(index_ctype(n)))
        with c.loop("i", self.type.size) as i:
            store(i, f"{routine}(&{r}, {x.name}, {n})")

    @property
    def _fragment(self) -> str:
        """The run time's routine: one of assembly for bytes whose scales have 16 bits."""
        plain = self.x.type.ctype == "int8_t" and (self.limit, self.right) == (127, 8)
        wide_sum = arithmetic_ctype(0, self.type.highest) == "int32_t"
        return "scaled8" if plain and wide_sum and self._widths == (1, 2) else "scaled"

    def _difference(self, c: Code) -> str:
        wide, clip = c.ctype(self._wide), []
        low, high = c_int(-self.limit - 1), c_int(self.limit)
        if self._low < -self.limit - 1:
            clip.append(f"if (d < {low}) d = {low};")
        if self._high > self.limit:
            clip.append(f"if (d > {high}) d = {high};")
        point = "(int8_t)" if self._widths[0] == 1 else ""
        first = f"{wide} d = ({wide})(({wide})*x++ - ({wide}){point}p);"
        return "\n        ".join([first, *clip])

    def _spelled_scale(self, step: str) -> str:
        if self._widths != (1, 2):
            return f"const int16_t s = {step}(r);"
        low = f"uint16_t s = {step}(r);"
        return f"{low}\n        s = (uint16_t)(s | (uint16_t)((uint16_t){step}(r) << 8));"

    def _scaled(self, c: Code) -> str:
        product = c.ctype(self._product)
        scaled = f"({product})(({product})d * ({product})s)"
        if not self.right:
            return scaled
        rounded = f"({product})({scaled} + {c_int(self._half)})"
        magnitude = ctype_range(self._product)[1]
        return shifted(c, rounded, self._product, self.right, magnitude)


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


@dataclass(eq=False)
class AbsoluteDistance(Op):
    """d_j = Σ_k |x_k - p_jk · 2^scale|: no products."""

    x: Op
    points: IntArray
    scale: int

    def __post_init__(self) -> None:
        self.inputs = (self.x,)
        source = self.x.type
        shifted = np.left_shift(self.points, self.scale)
        low, high = source.lo - shifted, source.hi - shifted
        farthest = np.maximum(abs(low), abs(high)).sum(axis=1)
        self.type = Fixed((len(self.points),), source.scalar_frac, 0, farthest)
        self._wide = arithmetic_ctype(min(0, int(low.min())), max(0, int(high.max())))
        self.type.ctype  # refuses now what 32 bits cannot hold  # noqa: B018

    def run(self, *args: IntArray) -> IntArray:
        points = np.left_shift(self.points, self.scale)
        distance = np.zeros((len(args[0]), len(points)), dtype=np.int64)
        for k in range(points.shape[1]):
            distance += np.abs(args[0][:, k, None] - points[:, k])
        return distance

    def tables(self) -> dict[str, Table]:
        return {"points": Table.of(self.points.ravel())}

    @property
    def work(self) -> int:
        return self.points.size * sum(ctype_bytes(t.ctype) for t in (self.x.type, self.type))

    @property
    def cost(self) -> str:
        return f"{self.points.size} differences"

    def emit(self, c: Code, store: Store, *args: Ref) -> None:
        (x,) = args
        p, step = c.cursor(self, "points")
        n = self.points.shape[1]
        total = arithmetic_ctype(0, self.type.highest)
        types = {"sum": c.ctype(total), "next": step, **counting(index_ctype(n))}
        if self._is_8_by_8:
            routine = c.routine(self, "distance18", **types, carry=carry(total, "zero"))
        else:
            routine = c.routine(self, "distance1", **types, **self._formula(c, step))
        with c.loop("i", self.type.size) as i:
            store(i, f"{routine}(&{p}, {x.name}, {n})")

    @property
    def _is_8_by_8(self) -> bool:
        return {self.x.type.ctype, self.tables()["points"].ctype} == {"int8_t"} and not self.scale

    def _formula(self, c: Code, step: str) -> dict[str, str]:
        wide = c.ctype(self._wide)
        point = f"({wide}){step}(p)"
        if self.scale:
            point = f"({wide})({point} * {c_int(1 << self.scale)})"
        return {
            "point": self.tables()["points"].ctype,
            "x": self.x.type.ctype,
            "wide": wide,
            "difference": f"({wide})(({wide})*x++ - {point})",
        }
