"""Functions of single numbers and of whole vectors: formats and ops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tinyml.codegen.fixed import IntArray, frac_for, to_raw
from tinyml.codegen.fold import View
from tinyml.codegen.graph import Filled, Floats, Function, Nearest
from tinyml.codegen.narrowing import WIDEST, gathered, narrow_together
from tinyml.codegen.operands import Value
from tinyml.codegen.ops import (
    Fill,
    Input,
    Interpolate,
    Join,
    Narrow,
    Normalize,
    Op,
    Scale,
)
from tinyml.codegen.ops import Nearest as NearestOp

_INTERVALS = 64  # of a table, at most twice as many
_SAMPLES = 2049  # at which it is seen where a function stops changing
_BEYOND = 0.25  # of the calibrated range, at either end
_MOST_LEFT = 8  # bits by which whole numbers are refined for the values that fill their gaps


@dataclass(frozen=True)
class FunctionFormat:
    """Width of the stored values, between which is interpolated."""

    table_bits: int


def function(x: Op, raw: IntArray, node: Function, fmt: FunctionFormat) -> Op:
    """Return a table of the function over the calibrated range, with linear interpolation."""
    seen = x.type.to_float(raw)
    x = narrow_together(x, WIDEST, float(np.abs(seen).max(initial=0)))
    frac = x.type.scalar_frac
    lo, hi = _where_it_changes(node, *_range(seen), fmt)
    first, last = (int(to_raw(end, frac, -WIDEST, WIDEST)) for end in (lo, hi))
    shift = max(0, (last - first).bit_length() - _INTERVALS.bit_length())
    knots = first + np.arange(max(2, ((last - first) >> shift) + 2)) * 2**shift
    wanted = node.function(np.ldexp(knots.astype(np.float64), -frac))
    limit = 2 ** (fmt.table_bits - 1) - 1
    y_frac = frac_for(float(np.abs(wanted).max()), limit)
    limited = Narrow(x, 0, first, last)
    from_zero = limited if first == 0 else Scale(limited, 1, -first, frac)
    return Interpolate(from_zero, to_raw(wanted, y_frac, -limit, limit), shift, y_frac)


def _range(seen: Floats) -> tuple[float, float]:
    """Return the calibrated range and a little more."""
    lo, hi = float(seen.min(initial=np.inf)), float(seen.max(initial=-np.inf))
    return lo - _BEYOND * (hi - lo), hi + _BEYOND * (hi - lo)


def _where_it_changes(
    node: Function, lo: float, hi: float, fmt: FunctionFormat
) -> tuple[float, float]:
    """Leave out the ends at which the rounded function is what it is at the very end."""
    x = np.linspace(lo, hi, _SAMPLES)
    y = node.function(x)
    unit = float(np.abs(y).max()) / 2**fmt.table_bits
    changes = [np.flatnonzero(np.abs(y - end) > unit) for end in (y[0], y[-1])]
    if not changes[0].size or not changes[1].size:
        return lo, hi
    return float(x[max(changes[0][0] - 1, 0)]), float(x[min(changes[1][-1] + 1, len(x) - 1)])


def filled(x: Op, view: View, node: Filled) -> Op:
    """Return the features with values where they are missing; these may need finer steps."""
    assert isinstance(x, Input), "folding lets gaps be filled in the features only"
    code = x.missing
    x = gathered(x, view)
    frac = np.asarray(np.broadcast_to(x.type.frac, x.type.shape))
    codes: int | IntArray
    if node.fills_nan:
        assert code is not None, "features that may be missing have a value that says so"
        codes = code
    else:
        codes = to_raw(node.missing, frac, -(2**31), 2**31 - 1)
    scaled = np.ldexp(node.values, frac)
    whole = np.array_equal(scaled, np.floor(scaled))
    left = 0 if whole else min(_MOST_LEFT, max(0, 15 - x.type.magnitude.bit_length()))
    values = to_raw(node.values, frac + left, -WIDEST, WIDEST)
    return Fill(x, codes, values, left)


def joined(reads: Sequence[Value], views: Sequence[View]) -> Op:
    """Return what the views choose, one after another."""
    return Join(tuple(gathered(x, view) for (x, _), view in zip(reads, views, strict=True)))


def normalized(x: Op, raw: IntArray) -> Op:
    """Return the shares of numbers that are not negative, in 16 bits at most."""
    largest = float(x.type.to_float(raw).max(initial=0))
    frac = min(x.type.scalar_frac, frac_for(largest, WIDEST))
    if x.type.lowest >= 0 and x.type.highest <= WIDEST:
        return Normalize(x)
    return Normalize(Narrow(x, x.type.scalar_frac - frac, 0, WIDEST))


def nearest(x: Op, node: Nearest) -> Op:
    """Return the sums over the nearest points; counts are exact, other values have 16 bits."""
    largest = float(np.abs(node.values).max())
    whole = np.array_equal(node.values, np.floor(node.values)) and largest <= WIDEST
    frac = 0 if whole else frac_for(largest, WIDEST)
    return NearestOp(x, node.k, node.outputs, to_raw(node.values, frac, -WIDEST, WIDEST), frac)
