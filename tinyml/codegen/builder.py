"""Stages → ops: every numeric decision of a program is taken here.

Each kind of stage has a ladder of formats from cheap to fine; a level picks the rung. Within a rung
the widest grid whose accumulator is proven to fit is taken, and where several spellings are possible
they are run on the calibration rows and the cheapest one that is accurate enough is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyml.codegen.fixed import (
    IntArray,
    arithmetic_ctype,
    ctype_range,
    frac_for,
    grid,
    rshift,
    storage_ctype,
    to_raw,
)
from tinyml.codegen.fold import Stage, View
from tinyml.codegen.forests import ForestFormat, lower_forest
from tinyml.codegen.graph import Affine, Decay, Floats, Forest, SquaredDistance
from tinyml.codegen.ops import Gather, Input, Lookup, MatVec, Narrow, Op
from tinyml.codegen.ops import SquaredDistance as SquaredDistanceOp

_MAX_EXPONENT = 100  # of an input's power of two, well inside single precision


@dataclass(frozen=True)
class AffineFormat:
    """Widths of a matrix product and the error, relative to its spread, that is small enough."""

    weight_bits: int
    input_bits: int
    tolerance: float


@dataclass(frozen=True)
class DistanceFormat:
    """Widths of the vector, of the stored points and of their difference."""

    vector_bits: int
    point_bits: int
    difference_bits: int


@dataclass(frozen=True)
class DecayFormat:
    """Width of the stored values of exp(-rate · d)."""

    bits: int


LADDERS: dict[type, tuple[Any, ...]] = {
    Affine: (
        AffineFormat(8, 8, 0.015),
        AffineFormat(8, 8, 0.0),
        AffineFormat(8, 16, 0.0),
        AffineFormat(16, 16, 0.0),
    ),
    SquaredDistance: (
        DistanceFormat(8, 8, 8),
        DistanceFormat(16, 8, 8),
        DistanceFormat(16, 16, 8),
        DistanceFormat(16, 16, 16),
    ),
    Decay: (DecayFormat(8), DecayFormat(16)),
    Forest: (ForestFormat(8), ForestFormat(16)),
}
INPUT_LADDER = (8, 16)


@dataclass(frozen=True)
class InputRange:
    """What is known of the raw features: whole numbers of a C type, or reals with their extent."""

    ctype: str | None
    extent: Floats

    @property
    def is_whole(self) -> bool:
        """Whether features are taken as they are."""
        return self.ctype is not None


@dataclass(eq=False)
class Builder:
    """Turns the stages of one graph into ops.

    Parameters
    ----------
    stages : list of Stage
    X : ndarray of shape (n_samples, n_features)
        Calibration rows; every range comes from them and saturates.
    input_range : InputRange
    votes : bool
        Whether the scores are compared with one another (a classifier) or are the answer.
    """

    stages: list[Stage]
    X: NDArray[Any]
    input_range: InputRange
    votes: bool
    _ranges: dict[Any, Any] = field(default_factory=dict)

    def ladder_lengths(self) -> list[int]:
        """Return the number of rungs of the input and of every stage."""
        reals = 1 if self.input_range.is_whole else len(INPUT_LADDER)
        return [reals, *(len(LADDERS[type(stage.node)]) for stage in self.stages)]

    def build(self, levels: list[int]) -> tuple[Input, Op]:
        """Return the input op and the op that yields the scores, with the formats of `levels`."""
        op: Op = self._input(levels[0])
        source = op
        raw = _quantize(op, self.X)
        for position, stage in enumerate(self.stages):
            fmt = LADDERS[type(stage.node)][levels[1 + position]]
            new = self._lower(op, raw, stage, fmt, position)
            raw = _run_between(op, new, raw)
            op = new
        assert isinstance(source, Input)
        return source, op

    def _input(self, level: int) -> Input:
        n = self.X.shape[1]
        if self.input_range.ctype is not None:
            return Input(n, 0, self.input_range.ctype)
        ctype = f"int{INPUT_LADDER[level]}_t"
        extent = self._extent()
        frac = [frac_for(float(e), ctype_range(ctype)[1]) for e in extent]
        limited = np.clip(np.array(frac, dtype=np.int64), -_MAX_EXPONENT, _MAX_EXPONENT)
        return Input(n, limited, ctype)

    def _extent(self) -> Floats:
        """Return how far each real feature reaches: to the thresholds, where trees read it."""
        first = self.stages[0]
        if not isinstance(first.node, Forest):
            return self.input_range.extent
        return _threshold_extent(first.node, first.view, len(self.input_range.extent))

    def _lower(self, x: Op, raw: IntArray, stage: Stage, fmt: Any, position: int) -> Op:
        node = stage.node
        if isinstance(node, Affine):
            return affine(x, raw, stage.view, node.weights, node.bias, fmt)
        if isinstance(node, SquaredDistance):
            return squared_distance(x, raw, node.points, self._reach(position), fmt)
        if isinstance(node, Decay):
            return decay(x, node, fmt)
        assert isinstance(node, Forest)
        return self._forest(x, raw, stage, node, fmt)

    def _forest(self, x: Op, raw: IntArray, stage: Stage, node: Forest, fmt: ForestFormat) -> Op:
        if not isinstance(x, Input):
            limit = ctype_range("int16_t" if fmt.bits > 8 else "int8_t")[1]
            x = _narrow_together(x, limit, float(np.abs(x.type.to_float(raw)).max(initial=0)))
        return lower_forest(x, node, stage.view, fmt, self._leaf_values(node), self.votes)

    def _leaf_values(self, node: Forest) -> Floats | None:
        """Return the leaf values that calibration rows collect, (n_trees, n_samples, n_outputs)."""
        if not self.votes:
            return None
        if "leaves" not in self._ranges:
            value: Floats = self.X
            for stage in self.stages[:-1]:
                value = stage.evaluate(value)
            seen = self.stages[-1].view.evaluate(value).astype(np.float32)
            self._ranges["leaves"] = np.array([t.value[t.leaves(seen)] for t in node.trees])
        leaves: Floats = self._ranges["leaves"]
        return leaves

    def _reach(self, position: int) -> float:
        """Return the difference beyond which the kernel that follows has vanished."""
        after = self.stages[position + 1].node if position + 1 < len(self.stages) else None
        return 2.5 / np.sqrt(after.rate) if isinstance(after, Decay) else np.inf


def _quantize(op: Input, X: NDArray[Any]) -> IntArray:
    return to_raw(X, op.frac, op.type.lowest, op.type.highest)


def _run_between(source: Op, target: Op, raw: IntArray) -> IntArray:
    """Execute the ops that lead from `source` to `target`."""
    return raw if target is source else target.run(_run_between(source, target.inputs[0], raw))


def _threshold_extent(forest: Forest, view: View, n_features: int) -> Floats:
    a, b, _, _ = view.as_clipped_affine()
    extent = np.zeros(n_features)
    for tree in forest.trees:
        column, threshold = tree.feature[~tree.is_leaf], tree.threshold[~tree.is_leaf]
        np.maximum.at(extent, view.columns[column], np.abs((threshold - b[column]) / a[column]))
    return extent * (1 + 2.0**-6)  # room above the largest threshold, so that saturation passes it


# A matrix product ------------------------------------------------------------------------------------


def affine(
    x: Op, raw: IntArray, view: View, weights: Floats, bias: Floats, fmt: AffineFormat
) -> Op:
    """Return the ops of ``weights @ view(x) + bias``: the cheapest that is accurate enough."""
    a, b, lo, hi = view.as_clipped_affine()
    bias = bias + weights @ b
    x, raw, weights, lo, hi = _columns(x, raw, view.columns, weights * a, lo, hi)
    problem = _Product(x, raw, weights, bias, lo, hi, fmt)
    best: tuple[float, Op] | None = None
    for candidate in problem.candidates():
        error = problem.error(candidate)
        if error <= fmt.tolerance:
            return candidate
        if best is None or error < 0.8 * best[0]:  # a dearer spelling must be worth it
            best = (error, candidate)
    assert best is not None
    return best[1]


def _columns(
    x: Op, raw: IntArray, columns: NDArray[np.intp], weights: Floats, lo: Floats, hi: Floats
) -> tuple[Op, IntArray, Floats, Floats, Floats]:
    """Spread the weights over all columns of x, or gather the used ones where that is smaller."""
    size = x.type.size
    used = np.flatnonzero(np.any(weights != 0, axis=0))
    dense = 2 * np.count_nonzero(weights) > weights.size
    if dense and (size - len(used)) * len(weights) > len(used) > 0:
        gather = Gather(x, columns[used])
        return gather, gather.run(raw), weights[:, used], lo[used], hi[used]
    spread = np.zeros((len(weights), size))
    np.add.at(spread, (slice(None), columns), weights)
    ends = np.full(size, -np.inf), np.full(size, np.inf)
    for end, bound in zip(ends, (lo, hi), strict=True):
        end[columns[used]] = bound[used]
    return x, raw, spread, *ends


@dataclass(eq=False)
class _Product:
    """The choices in one matrix product: how columns are conditioned, how wide the sum is."""

    x: Op
    raw: IntArray
    weights: Floats
    bias: Floats
    lo: Floats
    hi: Floats
    fmt: AffineFormat

    def __post_init__(self) -> None:
        t = self.x.type
        frac = np.broadcast_to(t.frac, t.shape)
        self.frac = np.asarray(frac)
        self.clip_lo = to_raw(np.where(np.isfinite(self.lo), self.lo, 0), frac, t.lo, t.hi)
        self.clip_lo = np.where(np.isfinite(self.lo), self.clip_lo, t.lo)
        self.clip_hi = to_raw(np.where(np.isfinite(self.hi), self.hi, 0), frac, t.lo, t.hi)
        self.clip_hi = np.where(np.isfinite(self.hi), self.clip_hi, t.hi)
        self.clips = bool(np.any(np.isfinite(self.lo) | np.isfinite(self.hi)))
        seen = np.clip(self.raw, self.clip_lo, self.clip_hi)
        self.reach = np.maximum(1, np.abs(seen).max(axis=0, initial=1))
        self.seen_lo = int(seen.min(initial=0))
        spare = 0 if self.seen_lo >= 0 and self.fmt.input_bits == 8 else 1  # unsigned if it can be
        self.limit = 2 ** (self.fmt.input_bits - spare) - 1
        self.weight_limit = 2 ** (self.fmt.weight_bits - 1) - 1
        self.reference = np.ldexp(seen.astype(np.float64), -frac) @ self.weights.T + self.bias
        spread = self.reference.std(axis=0).mean() if len(seen) else 0.0
        self.spread = float(spread) if spread > 0 else 1.0

    def candidates(self) -> Iterator[MatVec]:
        """Yield spellings from cheap to dear."""
        for sum_bits in (16, 24, 32):
            if self._as_is():
                yield from self._with(self.x, sum_bits)
            else:
                yield from self._with(self._uniform(), sum_bits)
            yield from self._per_column(sum_bits)
        if self._as_is():
            for sum_bits in (16, 24, 32):
                yield from self._with(self._uniform(), sum_bits)

    def error(self, op: MatVec, u: IntArray | None = None) -> float:
        """Return the root mean square error on calibration rows over the spread of the result."""
        u = _run_between(self.x, op.x, self.raw) if u is None else u
        got = op.type.to_float(op.run(u))
        return float(np.sqrt(np.mean((got - self.reference) ** 2))) / self.spread

    def product(self, u: Op, seen: IntArray, frac: int, sum_bits: int) -> MatVec | None:
        """Return the product on one grid if its sum is proven to fit, else None.

        Weights saturate, and the bias takes up what rounding changes for the mean row.
        """
        scaled = self.weights * np.ldexp(1.0, -np.broadcast_to(u.type.frac, u.type.shape))
        rounded = np.floor(np.ldexp(scaled, frac) + 0.5)
        rounded = np.clip(rounded, -self.weight_limit, self.weight_limit)
        change = np.ldexp(scaled, frac) - rounded
        offset = np.floor(np.ldexp(self.bias, frac) + change @ seen.mean(axis=0) + 0.5)
        bound = np.maximum(np.abs(rounded * u.type.lo), np.abs(rounded * u.type.hi)).sum(axis=1)
        if np.any(bound + np.abs(offset) >= 2.0 ** (sum_bits - 1)):
            return None
        return MatVec(u, rounded.astype(np.int64), offset.astype(np.int64), frac)

    def _as_is(self) -> bool:
        """Whether x needs no conditioning: narrow enough, and nothing clips."""
        return not self.clips and self.x.type.dtype.itemsize * 8 <= self.fmt.input_bits

    def _with(self, u: Op, sum_bits: int) -> Iterator[MatVec]:
        """Yield the product of u on the best grid whose sum fits, if a sensible one does."""
        seen = _run_between(self.x, u, self.raw)
        scaled = self.weights * np.ldexp(1.0, -np.broadcast_to(u.type.frac, u.type.shape))
        finest = grid(scaled, self.fmt.weight_bits)
        yield from self._best(lambda frac: (u, seen, frac, sum_bits), finest)

    def _best(self, attempt: Callable[[int], Any], finest: int) -> Iterator[MatVec]:
        """Yield the most accurate attempt.

        On grids finer than the `finest` that holds every weight the largest saturate. That pays
        where these belong to columns that hardly ever vary.
        """
        found: list[tuple[float, MatVec]] = []
        for frac in range(finest + 4, finest - 8, -1):
            arguments = attempt(frac)
            op = self.product(*arguments) if arguments else None
            if op is not None:
                found.append((self.error(op, arguments[1]), op))
            if op is not None and frac <= finest:
                break
        if found:
            yield min(found, key=lambda f: f[0])[1]

    def _uniform(self) -> Op:
        """Condition with one shift and one clip for all columns."""
        shift = max(0, _bits(int(self.reach.max())) - _bits(self.limit))
        top = (1 << _bits(int(rshift(self.reach.max(), shift)))) - 1
        top = min(top, self.limit)
        lo, hi = (0 if self.seen_lo >= 0 else -top), top
        if not self.clips:
            return Narrow(self.x, shift, lo, hi)
        ends = rshift(self.clip_lo, shift), rshift(self.clip_hi, shift)
        return Narrow(self.x, shift, np.clip(ends[0], lo, hi), np.clip(ends[1], lo, hi))

    def _per_column(self, sum_bits: int) -> Iterator[MatVec]:
        """Yield the product behind a power of two per column, with the finest weights that fit.

        A column is shifted left only as far as its weight would not fit otherwise; the shift
        saturates it near its calibrated range.
        """
        largest = np.abs(self.weights).max(axis=0) * np.ldexp(1.0, -self.frac)
        least = np.array([_bits(int(r)) for r in self.reach]) - _bits(self.limit)
        if not largest.any():
            return
        with np.errstate(divide="ignore"):
            room = np.log2(self.weight_limit) - np.log2(largest)
        finest = int(np.floor((room - least).min()))

        def attempt(frac: int) -> Any:
            fitting = np.floor(np.minimum(room - frac, 0.0))
            shift = np.maximum(least, np.where(np.isfinite(fitting), fitting, 0)).astype(np.int64)
            u = self._shifted(np.clip(shift, -14, None))
            if u is None or np.all(shift == shift[0]):
                return None
            return u, _run_between(self.x, u, self.raw), frac, sum_bits

        yield from self._best(attempt, finest)

    def _shifted(self, shift: IntArray) -> Op | None:
        lo, hi = (0 if self.seen_lo >= 0 else -self.limit), self.limit
        ends: tuple[Any, Any] = (lo, hi)
        if self.clips:
            ends = tuple(np.clip(rshift(e, shift), lo, hi) for e in (self.clip_lo, self.clip_hi))
        try:
            return Narrow(self.x, shift, *ends)
        except OverflowError:
            return None


def _bits(value: int) -> int:
    return value.bit_length()


def _narrow_together(x: Op, limit: int, reach: float) -> Op:
    """Narrow x to ±limit on one grid that reaches `reach`; nothing if it is narrow already."""
    frac = min(x.type.scalar_frac, frac_for(reach, limit))
    if frac == x.type.scalar_frac and x.type.magnitude <= limit:
        return x
    return Narrow(x, x.type.scalar_frac - frac, -limit, limit)


# Distances and kernels -------------------------------------------------------------------------------


def squared_distance(
    x: Op, raw: IntArray, points: Floats, reach: float, fmt: DistanceFormat
) -> Op:
    """Return the ops of ‖x - p_j‖²; differences of `reach` and more may saturate."""
    limit = 2 ** (fmt.vector_bits - 1) - 1
    seen = float(np.abs(x.type.to_float(raw)).max(initial=0))
    beyond = float(np.abs(points).max()) + reach  # as far from every point as the kernel sees
    x = _narrow_together(x, limit, min(seen, beyond) if seen > 0 else beyond)
    frac = x.type.scalar_frac
    point_frac = min(frac, grid(points, fmt.point_bits))
    point_limit = 2 ** (fmt.point_bits - 1) - 1
    rounded = to_raw(points, point_frac, -point_limit, point_limit)
    largest = 127 if fmt.difference_bits == 8 else int(np.sqrt((2**31 - 1) // points.shape[1]))
    wanted = min(reach, 2 * max(float(np.abs(points).max()), seen))
    shift = max(0, int(np.ceil(np.log2(max(1e-30, wanted) * 2.0**frac / largest))))
    return SquaredDistanceOp(x, rounded, frac - point_frac, shift, largest)


def decay(x: Op, node: Decay, fmt: DecayFormat) -> Op:
    """Return a table of exp(-rate · d) that ends where the kernel rounds to nothing."""
    frac, top = (8, 255) if fmt.bits == 8 else (15, 32767)
    n_most = 128 if fmt.bits == 8 else 512
    end = np.log(2.0 * 2**frac) / node.rate
    x_frac = x.type.scalar_frac
    domain = min(int(np.ceil(np.ldexp(end, x_frac))), x.type.highest)
    shift = max(0, _bits(max(1, domain) // n_most))
    n = (domain >> shift) + 1
    middle = np.ldexp((np.arange(n) + 0.5) * 2.0**shift - 0.5, -x_frac)
    values = to_raw(np.exp(-node.rate * middle), frac, 0, top)
    if n << shift <= x.type.highest:
        values = np.append(values, 0)
    return Lookup(x, values, 0, shift, frac)


def range_of(X: NDArray[Any], declared: tuple[float, float] | None) -> InputRange:
    """Decide whether features are whole numbers, and of which C type."""
    extent = np.abs(X).max(axis=0, initial=0).astype(np.float64)
    whole = X.dtype.kind in "iub" or bool(np.all(X == np.floor(X)))
    if not whole or extent.max(initial=0) >= 2**22:
        return InputRange(None, np.maximum(extent, np.abs(declared).max()) if declared else extent)
    if declared is not None:
        lo, hi = int(np.floor(declared[0])), int(np.ceil(declared[1]))
    elif X.dtype.itemsize <= 2 and X.dtype.kind in "iu":
        return InputRange(f"{X.dtype.name}_t", extent)
    else:
        lo, hi = _with_spare_bit(int(X.min(initial=0)), int(X.max(initial=0)))
    return InputRange(storage_ctype(lo, hi), extent)


def _with_spare_bit(lo: int, hi: int) -> tuple[int, int]:
    top = (1 << _bits(max(abs(lo), abs(hi))) + 1) - 1
    return (-top - 1 if lo < 0 else 0), top


__all__ = ["LADDERS", "Builder", "InputRange", "arithmetic_ctype", "range_of"]
