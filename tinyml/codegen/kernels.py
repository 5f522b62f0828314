"""Distances to points, and what decays with them: formats and ops."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from math import isqrt

import numpy as np

from tinyml.codegen.fixed import IntArray, frac_for, grid, to_raw
from tinyml.codegen.graph import Decay, Floats, ScaledDistance, SquaredDistance
from tinyml.codegen.ops import Interpolate, Lookup, Narrow, Op
from tinyml.codegen.ops import ScaledDistance as ScaledDistanceOp
from tinyml.codegen.ops import SquaredDistance as SquaredDistanceOp
from tinyml.codegen.products import shifts_to
from tinyml.codegen.storage import EXP_TABLE_BYTES


@dataclass(frozen=True)
class DistanceFormat:
    """Widths of the vector, of the stored points and of their difference."""

    vector_bits: int
    point_bits: int
    difference_bits: int


@dataclass(frozen=True)
class DecayFormat:
    """Width of the stored values of exp(-rate · d), and whether what is between is interpolated."""

    bits: int
    interpolate: bool


def squared_distance(
    x: Op, raw: IntArray, node: SquaredDistance, reach: float, fmt: DistanceFormat
) -> Op:
    """Return the ops of ‖x - p_j‖²; differences of `reach` and more may saturate."""
    points = node.points
    seen = float(np.abs(x.type.to_float(raw)).max(initial=0))
    farthest = float(np.abs(points).max())
    largest = 127 if fmt.difference_bits == 8 else isqrt((2**31 - 1) // points.shape[1]) - 1
    wanted = min(reach, 2 * max(farthest, seen))  # no difference that matters is larger
    x = _narrow_for_distance(x, min(seen, farthest + reach), wanted, largest, fmt)
    frac = x.type.scalar_frac
    point_frac = min(frac, grid(points, fmt.point_bits) if node.grid is None else node.grid)
    point_limit = 2 ** (fmt.point_bits - 1) - 1
    rounded = to_raw(points, point_frac, -point_limit, point_limit)
    return SquaredDistanceOp(x, rounded, frac - point_frac, largest)


@dataclass(frozen=True)
class ScaledFormat:
    """Widths of the points and of their scales."""

    point_bits: int
    scale_bits: int


def scaled_distance(x: Op, raw: IntArray, node: ScaledDistance, fmt: ScaledFormat) -> Op:
    """Return the op of Σ (s (x - p))² on the grid that serves the points next to each row best.

    What lies far away may saturate, and the largest scales with it.
    """
    if x.type.magnitude >= 2**16:
        limit = 2**15 - 1
        x, raw = (narrow := Narrow(x, shifts_to(x, raw, limit), -limit, limit)), narrow.run(raw)
    frac = np.asarray(np.broadcast_to(x.type.frac, x.type.shape))
    reach = max(int(np.abs(raw).max(initial=1)), int(np.abs(np.ldexp(node.points, frac)).max()))
    top = 2 ** (fmt.point_bits - 1) - 1
    room = 15 - (x.type.magnitude - 1).bit_length()  # beside a scale of 15 bits
    left = max(0, min(top.bit_length() - reach.bit_length(), room))
    points = to_raw(node.points, frac + left, -(2**15) + 1, 2**15 - 1)
    scales = np.ldexp(np.abs(node.scales), -frac - left)
    wanted = node.evaluate(np.ldexp(raw.astype(np.float64), -frac))
    candidates = _scaled_candidates(x, points, scales, left, fmt)
    return min(candidates, key=lambda op: _error_of_nearest(op, raw, wanted))


def _scaled_candidates(
    x: Op, points: IntArray, scales: Floats, left: int, fmt: ScaledFormat
) -> list[ScaledDistanceOp]:
    """Return ops that differ in the grid of the scales and in that of what is squared."""
    limit = min(isqrt((2**31 - 1) // points.shape[1]) - 1, 2**15 - 1)
    top = 2**fmt.scale_bits - 1 if fmt.scale_bits == 8 else 2**15 - 1
    finest = int(np.floor(np.log2(top / np.median(scales[scales > 0]))))
    found = []
    for scale_frac in range(finest - 8, finest + 1):
        stored = to_raw(scales, scale_frac, 0, top)
        for frac in (2, 3, 4, 5, 6):
            right = max(0, scale_frac - frac)
            with suppress(OverflowError):
                parts = left, right, limit, 2 * (scale_frac - right)
                found.append(ScaledDistanceOp(x, points, stored, *parts))
    return found


def _error_of_nearest(op: ScaledDistanceOp, raw: IntArray, wanted: Floats) -> float:
    """Return the error of the distances to the two points nearest to each row."""
    nearest = np.argsort(wanted, axis=1)[:, :2]
    got, wanted = (
        np.take_along_axis(d, nearest, axis=1) for d in (op.type.to_float(op.run(raw)), wanted)
    )
    return float(np.mean(np.minimum(np.abs(got - wanted), 1.0 + 0.1 * wanted)))


def _narrow_for_distance(
    x: Op, seen: float, wanted: float, largest: int, fmt: DistanceFormat
) -> Op:
    """Put x on a grid on which it has its bits and differences have theirs."""
    limit = 2 ** (fmt.vector_bits - 1) - 1
    frac = min(x.type.scalar_frac, frac_for(seen, limit), frac_for(wanted, largest))
    if frac == x.type.scalar_frac and x.type.magnitude <= limit:
        return x
    return Narrow(x, x.type.scalar_frac - frac, -limit, limit)


def decay(x: Op, node: Decay, fmt: DecayFormat) -> Op:
    """Return a table of exp(-rate · d) that ends where the kernel rounds to nothing.

    An entry stands for the middle of its interval, or for its end where it is interpolated.
    """
    frac, top = (8, 255) if fmt.bits == 8 else (15, 32767)
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
