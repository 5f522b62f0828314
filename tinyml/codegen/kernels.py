"""Distances to points, and what decays with them: formats and ops."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt

import numpy as np

from tinyml.codegen.fixed import IntArray, frac_for, grid, to_raw
from tinyml.codegen.fold import View
from tinyml.codegen.graph import AbsoluteDistance, Decay, Floats, ScaledDistance, SquaredDistance
from tinyml.codegen.narrowing import run_between
from tinyml.codegen.one_grid import on_one_grid
from tinyml.codegen.operands import narrowed
from tinyml.codegen.ops import AbsoluteDistance as AbsoluteDistanceOp
from tinyml.codegen.ops import Interpolate, Lookup, Narrow, Op
from tinyml.codegen.ops import ScaledDistance as ScaledDistanceOp
from tinyml.codegen.ops import SquaredDistance as SquaredDistanceOp
from tinyml.codegen.storage import EXP_TABLE_BYTES

_MOST_LEFT = 14  # bits by which columns are brought to one size
_MOST_NEAREST = 1000  # rows whose nearest points are looked at
_FINER = 4  # bits of grids on which what lies far away saturates
_ALIKE = 4  # bits by which columns of one grid may differ and have one shift


@dataclass(frozen=True)
class DistanceFormat:
    """Widths of the vector, of the stored points and of their difference."""

    vector_bits: int
    table_bits: int
    difference_bits: int


@dataclass(frozen=True)
class AbsoluteFormat:
    """Widths of the vector and of the stored points."""

    vector_bits: int
    table_bits: int


@dataclass(frozen=True)
class DecayFormat:
    """Width of the stored values of exp(-rate · d), and whether what is between is interpolated."""

    table_bits: int
    interpolate: bool


def absolute_distance(
    x: Op, raw: IntArray, view: View, node: AbsoluteDistance, fmt: AbsoluteFormat
) -> Op:
    """Return the ops of Σ_k |view(x)_k - p_jk|."""
    points, limit = node.points, 2 ** (fmt.vector_bits - 1) - 1
    farthest, room = float(np.abs(points).max()), (2**31 - 1) // (2 * points.shape[1])
    most = frac_for(farthest, room) if farthest > 0 else None
    own = grid(points, fmt.table_bits) if node.grid is None else node.grid
    x = on_one_grid(x, raw, view, own, min(limit, room), most)
    rounded, scale = _on_grid(points, x.type.scalar_frac, fmt.table_bits, node.grid)
    return AbsoluteDistanceOp(x, rounded, scale)


def _on_grid(
    points: Floats, frac: int, bits: int, given: int | None, finer: int = 0
) -> tuple[IntArray, int]:
    """Round points to a grid not finer than `frac`; return them and the shift between the two.

    On a grid that is `finer` than the one that holds all of them the farthest saturate.
    """
    point_frac = min(frac, grid(points, bits) + finer if given is None else given)
    limit = 2 ** (bits - 1) - 1
    return to_raw(points, point_frac, -limit, limit), frac - point_frac


def squared_distance(
    x: Op, raw: IntArray, node: SquaredDistance, reach: float, fmt: DistanceFormat
) -> Op:
    """Return the op of ‖x - p_j‖²; differences of `reach` and more may saturate.

    Where nothing decays the nearest points decide, and what lies far away may saturate.
    """
    if np.isfinite(reach):
        return _squared_distance(x, raw, node, reach, fmt)
    seen = x.type.to_float(raw[:: 1 + len(raw) // _MOST_NEAREST])
    wanted = node.evaluate(seen)
    if fmt.difference_bits == 8:
        reach = _reach_of_nearest(wanted)
    best = _squared_distance(x, raw, node, reach, fmt)
    if node.grid is not None:
        return best
    rows = to_raw(seen, x.type.frac, x.type.lowest, x.type.highest)
    least = _nearest_missed(best.run(run_between(x, best.x, rows)), wanted)
    for finer in range(1, _FINER + 1):
        op = _squared_distance(x, raw, node, reach, fmt, finer)
        missed = _nearest_missed(op.run(run_between(x, op.x, rows)), wanted)
        if missed >= least:
            break
        best, least = op, missed
    return best


def _squared_distance(
    x: Op, raw: IntArray, node: SquaredDistance, reach: float, fmt: DistanceFormat, finer: int = 0
) -> SquaredDistanceOp:
    """Return the op on grids that are `finer` by some bits than those that hold every byte."""
    points = node.points
    seen = float(np.abs(x.type.to_float(raw)).max(initial=0))
    farthest = float(np.abs(points).max())
    largest = 127 if fmt.difference_bits == 8 else isqrt((2**31 - 1) // points.shape[1]) - 1
    wanted = min(reach, 2 * max(farthest, seen))  # no difference that matters is larger
    x = _narrow_for_distance(x, min(seen, farthest + reach), wanted, largest, fmt, finer)
    frac = x.type.scalar_frac
    rounded, scale = _on_grid(points, frac, fmt.table_bits, node.grid, finer)
    if finer:  # where points saturate, the vector has to
        end = (2 ** (fmt.table_bits - 1) - 1) << scale
        x = narrowed(x, frac, max(x.type.lowest, -end), min(x.type.highest, end))
    return SquaredDistanceOp(x, rounded, scale, largest)


def _reach_of_nearest(squared: Floats) -> float:
    """Return twice the usual distance of the nearest point.

    A single point is that of one class; most rows may be of others.
    """
    nearest = np.sqrt(squared.min(axis=1))
    reach = 2.0 * float(np.quantile(nearest, 0.95 if squared.shape[1] > 1 else 0.25))
    return reach if reach > 0 else np.inf


@dataclass(frozen=True)
class ScaledFormat:
    """Widths of vector and points, and of the scales of their differences."""

    point_bits: int
    scale_bits: int

    @property
    def table_bits(self) -> int:
        """Width of what is stored."""
        return max(self.point_bits, self.scale_bits)


def scaled_distance(x: Op, raw: IntArray, node: ScaledDistance, fmt: ScaledFormat) -> Op:
    """Return the op of Σ (s (x - p))² on the grid that serves the points next to each row best.

    What lies far away may saturate, and the largest scales with it.
    """
    limit = 2 ** (fmt.point_bits - 1) - 1
    frac = np.asarray(np.broadcast_to(x.type.frac, x.type.shape))
    wanted = node.evaluate(np.ldexp(raw.astype(np.float64), -frac))
    reach = np.maximum(np.abs(raw).max(axis=0), np.abs(np.ldexp(node.points, frac)).max(axis=0))
    shift = np.ceil(np.log2(np.maximum(reach, 1) / (limit + 1))).astype(np.int64)
    if np.unique(frac).size == 1 and np.ptp(shift) <= _ALIKE:
        shift[:] = shift.max()
    shift = np.maximum(shift, int(shift.max()) - _MOST_LEFT)
    fits = not shift.any() and x.type.magnitude <= limit + 1
    narrow = x if fits else Narrow(x, shift, -limit - 1, limit)
    points = to_raw(node.points, frac - shift, -limit - 1, limit)
    scales = np.ldexp(np.abs(node.scales), shift - frac)
    candidates = _scaled_candidates(narrow, points, scales, fmt)
    seen = run_between(x, narrow, raw)
    return min(candidates, key=lambda op: _error_of_nearest(op, seen, wanted))


def _scaled_candidates(
    x: Op, points: IntArray, scales: Floats, fmt: ScaledFormat
) -> list[ScaledDistanceOp]:
    """Return ops whose scales have different grids: finer ones saturate more of the largest.

    Scales are limited so that no sum needs a limit of its own.
    """
    limit = 2 ** (fmt.point_bits - 1) - 1
    largest = isqrt((2**31 - 1) // points.shape[1]) - 1
    found = []
    for right in range(fmt.point_bits, 2 * fmt.point_bits) if fmt.point_bits == 16 else (8, 2):
        top = min(2**fmt.scale_bits - 1, 2**15 - 1, (largest << right) // (limit + 1))
        usual = int(np.floor(np.log2(top / np.median(scales[scales > 0]))))
        for scale_frac in range(usual - 9, usual + 1):
            stored = to_raw(scales, scale_frac, 0, top)
            frac = 2 * (scale_frac - right)
            found.append(ScaledDistanceOp(x, points, stored, right, limit, frac))
    return found


def _nearest_missed(got: IntArray, wanted: Floats) -> float:
    """Return the share of the two points nearest to each row that others are taken for."""
    found, true = (np.argsort(d, axis=1, kind="stable")[:, :2] for d in (got, wanted))
    return float(np.mean((true[:, :, None] != found[:, None, :]).all(axis=2)))


def _error_of_nearest(op: Op, raw: IntArray, wanted: Floats) -> float:
    """Return the error of the distances to the two points nearest to each row."""
    nearest = np.argsort(wanted, axis=1)[:, :2]
    got, wanted = (
        np.take_along_axis(d, nearest, axis=1) for d in (op.type.to_float(op.run(raw)), wanted)
    )
    return float(np.mean(np.minimum(np.abs(got - wanted), 1.0 + 0.1 * wanted)))


def _narrow_for_distance(
    x: Op, seen: float, wanted: float, largest: int, fmt: DistanceFormat, finer: int
) -> Op:
    """Put x on a grid on which it has its bits and differences have theirs.

    It may be `finer` by some bits than the one that holds all that was seen.
    """
    limit = 2 ** (fmt.vector_bits - 1) - 1
    frac = min(x.type.scalar_frac, frac_for(seen, limit) + finer, frac_for(wanted, largest))
    if frac == x.type.scalar_frac and x.type.magnitude <= limit:
        return x
    return Narrow(x, x.type.scalar_frac - frac, -limit, limit)


def decay(x: Op, node: Decay, fmt: DecayFormat) -> Op:
    """Return a table of exp(-rate · d) that ends where the kernel rounds to nothing.

    An entry stands for the middle of its interval, or for its end where it is interpolated.
    """
    frac, top = (8, 255) if fmt.table_bits == 8 else (15, 32767)
    end = np.log(2.0 * 2**frac) / node.rate
    x_frac = x.type.scalar_frac
    domain = min(int(np.ceil(np.ldexp(end, x_frac))), x.type.highest)
    shift = max(0, (max(1, domain) // EXP_TABLE_BYTES).bit_length())
    n = (domain >> shift) + 1
    width = np.ldexp(1.0, shift)
    if not fmt.interpolate:
        middle = np.ldexp((np.arange(n) + 0.5) * width - 0.5, -x_frac)
        values = to_raw(np.exp(-node.rate * middle), frac, 0, top)
        ends_in_nothing = [0] if n << shift <= x.type.highest else []
        return Lookup(x, np.append(values, ends_in_nothing).astype(np.int64), 0, shift, frac)
    ends = np.ldexp(np.arange(n + 1) * width, -x_frac)
    values = to_raw(np.exp(-node.rate * ends), frac, 0, top)
    return Interpolate(x, values, shift, frac)
