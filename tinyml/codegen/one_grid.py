"""What distances read: elements of any scales, behind additions and shifts, brought to one grid."""

from __future__ import annotations

import numpy as np

from tinyml.codegen.fixed import LARGEST_INPUT, IntArray, frac_for, to_raw
from tinyml.codegen.fold import View
from tinyml.codegen.graph import Floats
from tinyml.codegen.narrowing import WIDEST, run_between
from tinyml.codegen.ops import Gather, Narrow, Op, Scale

_FINER = 8  # bits that an offset may add
_ROOM = 2**30 - 1
_COARSEST = -100


def on_one_grid_of(x: Op, raw: IntArray, view: View, grid: int | None) -> tuple[Op, IntArray]:
    """Return x, and its values on calibration rows, on a grid not coarser than that of points."""
    least = _COARSEST if grid is None else grid
    if _is_on_one_grid(x, view, least):
        return x, raw
    op = on_one_grid(x, raw, view, least)
    return op, run_between(x, op, raw)


def _is_on_one_grid(x: Op, view: View, least: int) -> bool:
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


def _seen_columns(x: Op, raw: IntArray, columns: IntArray) -> tuple[Op, IntArray]:
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
