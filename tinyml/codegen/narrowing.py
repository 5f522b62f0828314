"""Values made narrower: grids and bounds that calibration rows ask for, and what leads there."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyml.codegen.fixed import IntArray, frac_for, to_raw
from tinyml.codegen.fold import View
from tinyml.codegen.graph import Floats
from tinyml.codegen.ops import Gather, Join, Narrow, Op

WIDEST = 2**15 - 1
"""The largest operand of a product of two variables, and the largest state."""


def run_between(source: Op, target: Op, raw: IntArray) -> IntArray:
    """Execute the ops that lead from `source` to `target`."""
    if target is source:
        return raw
    return target.run(run_between(source, target.inputs[0], raw))


def gathered(x: Op, view: View) -> Op:
    """Return the columns of x that a view chooses, whatever steps it has."""
    if np.array_equal(view.columns, np.arange(x.type.size)):
        return x
    return Gather(x, view.columns)


def narrow_together(x: Op, limit: int, reach: float) -> Op:
    """Narrow x to ±limit on one grid that reaches `reach`; nothing if it is narrow already."""
    frac = min(x.type.scalar_frac, frac_for(reach, limit))
    if frac == x.type.scalar_frac and x.type.magnitude <= limit:
        return x
    return Narrow(x, x.type.scalar_frac - frac, -limit, limit)


def narrow_each(x: Op, raw: IntArray, limit: int) -> Op:
    """Narrow every element to ±limit on a grid of its own that its calibrated range fits."""
    is_narrow = 8 * x.type.dtype.itemsize <= limit.bit_length() + 1
    return x if is_narrow else Narrow(x, shifts_to(x, raw, limit), -limit, limit)


def narrow_parts(x: Join, raw: IntArray, limit: int) -> tuple[Join, IntArray]:
    """Narrow each of the parts to ±limit, so that columns are of one size in their own units."""
    ends = np.cumsum([part.type.size for part in x.parts])
    seen = np.split(raw, ends[:-1], axis=1)
    narrow = [narrow_each(part, r, limit) for part, r in zip(x.parts, seen, strict=True)]
    runs = zip(x.parts, narrow, seen, strict=True)
    return Join(tuple(narrow)), np.hstack([run_between(*run) for run in runs])


def shifts_to(x: Op, seen: IntArray, limit: int) -> IntArray:
    """Return by how much each column has to be shifted to the right to fit ±limit."""
    bits = np.array([int(r).bit_length() for r in np.abs(seen).max(axis=0, initial=1)])
    return within_32_bits(np.maximum(0, bits - limit.bit_length()), x, limit)


def within_32_bits(shift: IntArray, x: Op, limit: int) -> IntArray:
    """Let shifts differ no more than 32 bits hold the product with a power of two."""
    right = max(0, int(shift.max()))
    widest = min(right + limit.bit_length(), x.type.magnitude.bit_length())
    return np.asarray(np.maximum(shift, right + widest - 30))


def raw_bound(x: Op, bound: Floats, otherwise: Any) -> IntArray:
    """Return a real bound as a raw value of x, its own where the bound is infinite."""
    finite = np.isfinite(bound)
    raw = to_raw(np.where(finite, bound, 0.0), x.type.frac, x.type.lo, x.type.hi)
    return np.asarray(np.where(finite, raw, otherwise))
