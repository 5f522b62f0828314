"""A x + b where each output reads one input: factors and offsets, no sums."""

from __future__ import annotations

import numpy as np

from tinyml.codegen.fixed import IntArray, frac_for, grid, rshift
from tinyml.codegen.fold import View
from tinyml.codegen.graph import Floats, relative_error
from tinyml.codegen.narrowing import WIDEST, gathered, raw_bound, run_between, shifts_to
from tinyml.codegen.ops import Join, Narrow, Op, Scale

_SCALED_ENOUGH = 0.02  # error of each element behind factors of 8 bits
_SCALES = ((8, WIDEST), (16, WIDEST), (8, 2**30), (16, 2**30))  # factors, and results
_EXTRA = 2  # bits of a constant beyond those of what it is added to


def elementwise(
    x: Op, raw: IntArray, view: View, weights: Floats, bias: Floats, input_bits: int
) -> Op:
    """Return the ops of a matrix that has one weight in every row."""
    row, entry = np.arange(len(weights)), np.abs(weights).argmax(axis=1)
    view, weight = view.take(entry), weights[row, entry]
    a, b, lo, hi = view.as_clipped_affine()
    x, raw = gathered(x, view), raw[:, view.columns]
    weight, bias = weight * a, weight * b + bias
    plain = np.unique(np.abs(weight)).size == 1 and not np.isfinite([lo, hi]).any()
    if isinstance(x, Join) and plain:
        x = _on_one_grid(x)
    if plain and np.unique(x.type.frac).size == 1 and _is_power_of_two(weight[0]):
        return _signed(x, np.sign(weight), bias, int(np.log2(abs(weight[0]))))
    bits = input_bits if x.type.dtype.itemsize == 1 else 16  # a sum is not worth rounding twice
    source, x = x, _limited(x, raw, lo, hi, bits)
    raw = run_between(source, x, raw)
    unit, offset = weight * np.ldexp(1.0, -np.broadcast_to(x.type.frac, x.type.shape)), bias
    if not offset.any() and all(map(_is_power_of_two, unit)) and np.all(unit > 0):
        return _aligned(x, raw, unit)
    wanted, is_fine = raw * unit + offset, input_bits == 16
    for bits, limit in _SCALES[3 * is_fine :]:
        op = _scale(x, unit, offset, bits, limit)
        got = op.type.to_float(op.run(raw))
        if relative_error(got, wanted, each=is_fine) <= _SCALED_ENOUGH:
            break
    return op


def _aligned(x: Op, raw: IntArray, unit: Floats) -> Op:
    """Return elements that stand for `unit` each, powers of two, on one grid of 16 bits."""
    frac = frac_for(float(np.abs(raw * unit).max(initial=0)), 2**15 - 1)
    shift = -np.log2(unit).astype(np.int64) - frac
    return Narrow(x, np.maximum(shift, shift.max() - 14), -WIDEST, WIDEST)


def _is_power_of_two(value: float) -> bool:
    return bool(np.frexp(abs(value))[0] == 0.5)


def _signed(x: Op, sign: Floats, bias: Floats, exponent: int) -> Op:
    """Return ``± x · 2**exponent + bias`` on the finest grid on which 32 bits hold it."""
    if np.all(sign > 0) and not exponent and not np.any(bias):
        return x
    own = x.type.scalar_frac
    largest = np.ldexp(x.type.magnitude + 1.0, -own) + np.abs(np.ldexp(bias, -exponent)).max()
    frac = min(own + _EXTRA, frac_for(float(largest), 2**30))
    if own > frac:
        x = Narrow(x, own - frac, -(2**30), 2**30)
    factor = np.ldexp(sign, frac - x.type.scalar_frac).astype(np.int64)
    offset = np.floor(np.ldexp(bias, frac - exponent) + 0.5).astype(np.int64)
    return Scale(x, factor, offset, frac - exponent)


def _on_one_grid(x: Join) -> Join:
    """Bring all parts to the finest grid on which 31 bits hold them."""
    types = [part.type for part in x.parts]
    largest = max(float(np.ldexp(float(t.magnitude), -np.min(t.frac))) for t in types)
    frac = min(max(int(np.max(t.frac)) for t in types), frac_for(largest, 2**30))
    ends = -(2**30), 2**30
    return Join(tuple(Narrow(part, part.type.frac - frac, *ends) for part in x.parts))


def _scale(x: Op, unit: Floats, offset: Floats, bits: int, limit: int) -> Scale:
    """Return x with a factor of so many bits and an offset for every element, within ±limit."""
    ends = np.maximum(np.abs(x.type.lo), np.abs(x.type.hi))
    largest = float((np.abs(unit) * ends + np.abs(offset)).max())
    frac = min(grid(unit, bits), frac_for(largest, limit)) if unit.any() else 0
    factors, offsets = (
        np.floor(np.ldexp(part, frac) + 0.5).astype(np.int64) for part in (unit, offset)
    )
    return Scale(x, factors, offsets, frac)


def _limited(x: Op, raw: IntArray, lo: Floats, hi: Floats, bits: int) -> Op:
    """Clip to real bounds, and narrow every column to what its calibrated values need."""
    limit = 2 ** (bits - 1) - 1
    bounds = raw_bound(x, lo, x.type.lo), raw_bound(x, hi, x.type.hi)
    seen = np.clip(raw, *bounds)
    shift = shifts_to(x, seen, limit)
    is_narrow = 8 * x.type.dtype.itemsize <= bits
    if is_narrow and not np.isfinite([lo, hi]).any():
        return x
    ends = (np.clip(rshift(end, shift), -limit, limit) for end in bounds)
    return Narrow(x, shift, *ends)
