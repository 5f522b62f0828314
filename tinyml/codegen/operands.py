"""What elementwise ops read: values behind pending steps, narrow enough for a product or a sum."""

from __future__ import annotations

import numpy as np

from tinyml.codegen.fixed import IntArray, frac_for, rshift, to_raw
from tinyml.codegen.fold import View
from tinyml.codegen.graph import Floats
from tinyml.codegen.narrowing import WIDEST, gathered, narrow_together, run_between
from tinyml.codegen.ops import Narrow, Op, Scale

_SUMMAND = 2**14 - 1  # of two whose sum has 16 bits
_FACTOR = 2**13 - 1  # by which 16 bits are multiplied

Value = tuple[Op, IntArray]
"""An op and what it yields on the calibration rows."""


def operand(x: Op, raw: IntArray, view: View) -> Op:
    """Return x behind the steps of `view`, in at most 16 bits: two of these have a product."""
    a, b, _, _ = view.as_clipped_affine()
    limits = view.limits()
    assert limits is not None, "folding puts what is limited unlike into a stage of its own"
    lo, hi = limits
    x, raw = gathered(x, view), raw[:, view.columns]
    seen = x.type.to_float(raw)
    reach = float(np.abs(np.clip(a * seen + b, lo, hi)).max(initial=0))
    if np.any(a != 1) or np.any(b != 0):
        x = _scaled_by(narrow_together(x, WIDEST, float(np.abs(seen).max(initial=0))), a, b)
    frac = min(x.type.scalar_frac, frac_for(reach, WIDEST))
    ends = [WIDEST if np.isinf(e) else int(to_raw(e, frac, -WIDEST, WIDEST)) for e in (-lo, hi)]
    return narrowed(x, frac, -ends[0], ends[1])


def seen_as(x: Op, raw: IntArray, view: View) -> Value:
    """Return an operand and its values on calibration rows."""
    op = operand(x, raw, view)
    return op, run_between(x, op, raw)


def wide_sum(a: Op, b: Op) -> tuple[Op, Op]:
    """Bring two operands to the finest grid on which 32 bits hold their sum."""
    frac = max(a.type.scalar_frac, b.type.scalar_frac)
    while sum(np.ldexp(x.type.magnitude + 1.0, frac - x.type.scalar_frac) for x in (a, b)) >= 2**31:
        frac -= 1
    ends = -(2**31), 2**31 - 1
    return narrowed(a, frac, *ends), narrowed(b, frac, *ends)


def as_seen(x: Op, raw: IntArray, view: View) -> Op:
    """Return x as it is where nothing is pending, else an operand of 16 bits."""
    pending = view.steps or not np.array_equal(view.columns, np.arange(x.type.size))
    return operand(x, raw, view) if pending else x


def _scaled_by(x: Op, a: Floats, b: Floats) -> Op:
    """Return a x + b with the finest factors that 32 bits allow; a power of two is exact."""
    frac, magnitude = x.type.scalar_frac, x.type.magnitude
    largest = float(np.abs(a).max())
    mantissa, exponent = np.frexp(largest)
    plain = mantissa == 0.5 and np.all(np.abs(a) == largest)
    finest = 1 - int(exponent) if plain else frac_for(largest, _FACTOR)
    room = 2.0**31 - 1
    while True:
        factor = np.floor(np.ldexp(a, finest) + 0.5)
        offset = np.floor(np.ldexp(b, frac + finest) + 0.5)
        if np.all(np.abs(factor) * magnitude + np.abs(offset) < room):
            break
        if plain:  # the constant leaves x less than its bits
            x = narrowed(x, frac - 1, -WIDEST, WIDEST)
            frac, magnitude = x.type.scalar_frac, x.type.magnitude
        else:
            finest -= 1
    return Scale(x, factor.astype(np.int64), offset.astype(np.int64), frac + finest)


def narrowed(x: Op, frac: int, lo: int, hi: int) -> Op:
    """Return x on another grid and within bounds; x itself where it is so already.

    What narrowed it before is replaced, so that it is rounded once.
    """
    t = x.type
    shift = t.scalar_frac - frac
    if shift == 0 and t.lowest >= lo and t.highest <= hi:
        return x
    if shift > t.magnitude.bit_length() + 1:  # nothing of x is left on so coarse a grid
        return Scale(x, 0, 0, frac)
    if isinstance(x, Narrow) and shift >= 0 and np.ndim(x.shift) == 0:
        ends = (int(rshift(end, shift)) for end in (x.type.lowest, x.type.highest))
        return Narrow(x.x, x.shift + shift, *np.clip(list(ends), lo, hi).tolist())
    return Narrow(x, shift, lo, hi)


def aligned(a: tuple[Op, IntArray], b: tuple[Op, IntArray]) -> tuple[Op, Op]:
    """Bring two operands to one grid on which either has 15 bits, so that their sum has 16."""
    reach = max(float(np.abs(x.type.to_float(raw)).max(initial=0)) for x, raw in (a, b))
    frac = min(a[0].type.scalar_frac, b[0].type.scalar_frac, frac_for(reach, _SUMMAND))
    return narrowed(a[0], frac, -_SUMMAND, _SUMMAND), narrowed(b[0], frac, -_SUMMAND, _SUMMAND)


def returned(result: Op, state: Op) -> Op:
    """Give a result the format of the state it replaces."""
    t = state.type
    return narrowed(result, t.scalar_frac, t.lowest, t.highest)
