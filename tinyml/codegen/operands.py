"""What elementwise ops read: values behind pending steps, narrow enough for a product or a sum."""

from __future__ import annotations

import numpy as np

from tinyml.codegen.fixed import LARGEST_INPUT, IntArray, frac_for, rshift, to_raw
from tinyml.codegen.fold import View
from tinyml.codegen.graph import Floats
from tinyml.codegen.ops import Gather, Narrow, Op, Scale
from tinyml.codegen.products import narrow_together, run_between

WIDEST = 2**15 - 1
"""The largest operand of a product of two variables, and the largest state."""

_SUMMAND = 2**14 - 1  # of two whose sum has 16 bits
_FACTOR = 2**13 - 1  # by which 16 bits are multiplied
_FINER = 8  # bits that an offset may add
_ROOM = 2**30 - 1

Value = tuple[Op, IntArray]
"""An op and what it yields on the calibration rows."""


def operand(x: Op, raw: IntArray, view: View) -> Op:
    """Return x behind the steps of `view`, in at most 16 bits: two of these have a product."""
    a, b, _, _ = view.as_clipped_affine()
    limits = view.limits()
    assert limits is not None, "folding puts what is limited unlike into a stage of its own"
    lo, hi = limits
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


def is_on_one_grid(x: Op, view: View, least: int) -> bool:
    """Whether a view is all of x as it is, with one frac that is not below `least`."""
    whole = np.array_equal(view.columns, np.arange(x.type.size))
    fracs = np.unique(x.type.frac)
    return whole and not view.steps and len(fracs) == 1 and int(fracs[0]) >= least


def on_one_grid(
    x: Op, raw: IntArray, view: View, least: int, limit: int = WIDEST, most: int | None = None
) -> Op:
    """Return x behind the additions and shifts of `view`, on one grid and within ±limit.

    As far as the limit allows, the frac is that of x or `least`, if that is more; never more than
    `most`.
    """
    x, raw = _seen_columns(x, raw, view.columns)
    a, b, _, _ = view.as_clipped_affine()
    reach = float(np.abs(a * x.type.to_float(raw) + b).max(initial=0))
    frac = np.broadcast_to(x.type.frac, x.type.shape) - (np.frexp(a)[1] - 1)
    finer = next((n for n in range(_FINER) if np.all(np.ldexp(b, frac + n) % 1 == 0)), _FINER)
    common = min(max(int(frac.max()) + finer, least), frac_for(reach, limit))
    common = common if most is None else min(common, most)
    if np.any(a != 1) or np.any(b != 0):
        x, frac = _moved(x, raw, b, frac, np.clip(common - frac, 0, finer), common, limit)
    if np.all(frac == common) and x.type.magnitude <= limit:
        return x
    if np.unique(frac).size == 1:
        return Narrow(x, int(frac[0]) - common, -limit, limit)
    return _shifted(*_without_extremes(x, frac - common, common, limit), limit)


def _most_right(limit: int) -> int:
    """Bits by which elements are shifted to the right, at most, for 32 bits to hold them before."""
    return 29 - limit.bit_length()


def _seen_columns(x: Op, raw: IntArray, columns: IntArray) -> Value:
    """Gather columns; where each has a scale of its own, 16 bits of each are enough."""
    if not np.array_equal(columns, np.arange(x.type.size)):
        x = Gather(x, columns)
        raw = x.run(raw)
    if np.unique(x.type.frac).size > 1 and x.type.magnitude > LARGEST_INPUT:
        used = int(np.abs(raw).max(initial=0)).bit_length()
        x = Narrow(x, max(0, used - WIDEST.bit_length()), -WIDEST, WIDEST)
        raw = x.run(raw)
    return x, raw


def _moved(
    x: Op, raw: IntArray, b: Floats, frac: IntArray, finer: IntArray, common: int, limit: int
) -> tuple[Op, IntArray]:
    """Return x plus an offset, in steps finer by so many bits, and the frac of these.

    All elements get the finest steps, which takes no table, where there is room.
    """
    most = int(finer.max())
    has_room = int(np.abs(raw).max(initial=0)) << most < _ROOM
    if has_room and int(frac.max()) + most - common <= _most_right(limit):
        finer = np.full_like(finer, most)
    room = _ROOM >> finer
    x = x if x.type.magnitude <= int(room.min()) else Narrow(x, 0, -room, room)
    offset = to_raw(b, frac + finer, -_ROOM, _ROOM)
    return Scale(x, np.left_shift(1, finer), offset, frac + finer), frac + finer


def _without_extremes(x: Op, shift: IntArray, common: int, limit: int) -> tuple[Op, IntArray]:
    """Return x and its shifts; what is shifted away is 0, and no row has more where 0 is left."""
    lost = shift > _most_right(limit)
    tame = np.where(lost, 0, np.maximum(shift, -limit.bit_length()))
    if np.array_equal(tame, shift):
        return x, shift
    return Scale(x, np.where(lost, 0, 1), 0, common + tame), tame


def _shifted(x: Op, shift: IntArray, limit: int) -> Op:
    """Narrow each element by its own shift, behind limits of its own if 32 bits ask for that."""
    try:
        return Narrow(x, shift, -limit, limit)
    except OverflowError:
        left, right = np.maximum(-shift, 0), np.maximum(shift, 0)
        ends = ((limit >> left) + 1) << right
        return Narrow(Narrow(x, 0, -ends, ends), shift, -limit, limit)


def aligned(a: tuple[Op, IntArray], b: tuple[Op, IntArray]) -> tuple[Op, Op]:
    """Bring two operands to one grid on which either has 15 bits, so that their sum has 16."""
    reach = max(float(np.abs(x.type.to_float(raw)).max(initial=0)) for x, raw in (a, b))
    frac = min(a[0].type.scalar_frac, b[0].type.scalar_frac, frac_for(reach, _SUMMAND))
    return narrowed(a[0], frac, -_SUMMAND, _SUMMAND), narrowed(b[0], frac, -_SUMMAND, _SUMMAND)


def returned(result: Op, state: Op) -> Op:
    """Give a result the format of the state it replaces."""
    t = state.type
    return narrowed(result, t.scalar_frac, t.lowest, t.highest)
