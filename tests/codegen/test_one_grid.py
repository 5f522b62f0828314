"""Elements of unlike scales come to one grid: nothing overflows, and only what saturates is off."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyml.codegen.fixed import ctype_range
from tinyml.codegen.fold import View
from tinyml.codegen.narrowing import run_between
from tinyml.codegen.one_grid import on_one_grid
from tinyml.codegen.ops import Input


@st.composite
def views(draw):
    """An input, rows of it, and a view that adds and shifts."""
    n = draw(st.sampled_from([1, 3, 6]))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    ctype = draw(st.sampled_from(["int8_t", "uint8_t", "int16_t", "uint16_t", "int32_t"]))
    spread = draw(st.sampled_from([0, 3, 12, 40]))
    frac = rng.integers(-spread, spread, n, endpoint=True)
    lo, hi = ctype_range(ctype)
    reach = rng.choice([3, 100, 2**20], n)
    if ctype == "int32_t" and np.ptp(frac):
        reach[:] = 2**20  # such features have a scale each, and use it
    raw = rng.integers(np.maximum(lo, -reach), np.minimum(hi, reach), (30, n), endpoint=True)
    columns, steps = rng.permutation(n), []
    size = np.ldexp(np.abs(raw).max(axis=0) + 1.0, -frac)[columns]
    if draw(st.booleans()):
        steps.append(("sub", np.round(rng.normal(size=n), draw(st.sampled_from([0, 3]))) * size))
    if draw(st.booleans()):
        steps.append(("div", np.exp2(np.rint(np.log2(size)))))
    return Input(n, frac, ctype), raw, View(columns, tuple(steps))


@settings(max_examples=300, deadline=None)
@given(views(), st.sampled_from([127, 2**15 - 1]), st.integers(-30, 30))
def test_rows_are_on_one_grid(drawn, limit, least):
    x, raw, view = drawn
    op = on_one_grid(x, raw, view, least, limit)
    assert op.type.magnitude <= limit
    got = op.type.to_float(run_between(x, op, raw))
    wanted = view.evaluate(x.type.to_float(raw))
    # a step of the grid for each rounding, the offset's at 8 more bits than its element has, and
    # what 16 bits of a wide element are off
    step = np.ldexp(1.0, -op.type.scalar_frac)
    a = view.as_clipped_affine()[0]
    coarsest = np.ldexp(a, -np.asarray(x.type.frac)[view.columns]).max()
    allowed = 2 * step + 2.0**-9 * coarsest + 2.0**-13 * np.abs(wanted).max()
    assert np.abs(got - wanted).max() <= allowed


@settings(max_examples=100, deadline=None)
@given(views(), st.sampled_from([127, 2**15 - 1]))
def test_extreme_inputs_stay_within_the_limit(drawn, limit):
    x, raw, view = drawn
    op = on_one_grid(x, raw, view, -100, limit)
    lo, hi = ctype_range(x.ctype)
    extreme = np.random.default_rng(0).choice([lo, hi, 0], (20, x.type.size))
    assert np.abs(run_between(x, op, extreme)).max() <= limit
