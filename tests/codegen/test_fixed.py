"""Formats hold what they promise, and there is one rounding rule: half up."""

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyml.codegen.fixed import (
    STORAGE,
    Fixed,
    arithmetic_ctype,
    ctype_bytes,
    ctype_range,
    frac_for,
    grid,
    index_ctype,
    rshift,
    storage_ctype,
    to_raw,
)

int32 = st.integers(-(2**31), 2**31 - 1)
magnitudes = st.floats(1e-30, 1e30)


def exactly(value, frac):
    """Round half up in rational arithmetic."""
    return floor(Fraction(value) * Fraction(2) ** frac + Fraction(1, 2))


@given(int32, st.integers(-16, 30))
def test_rshift_rounds_half_up(raw, shift):
    assert rshift(np.array([raw]), shift) == [exactly(raw, -shift)]


@given(st.lists(st.tuples(int32, st.integers(-8, 20)), min_size=1, max_size=5))
def test_rshift_takes_a_shift_for_each_element(pairs):
    raw, shift = np.array(pairs).T
    assert rshift(raw, shift).tolist() == [exactly(r, -s) for r, s in pairs]


@given(st.floats(-1e6, 1e6), st.integers(-10, 20))
def test_to_raw_rounds_half_up_within_bounds(value, frac):
    assert to_raw(value, frac, -(2**62), 2**62) == exactly(value, frac)
    assert -5 <= to_raw(value, frac, -5, 7) <= 7


@given(magnitudes, st.sampled_from([127, 255, 32767]))
def test_frac_for_is_the_finest_that_holds(magnitude, limit):
    frac = frac_for(magnitude, limit)
    assert exactly(magnitude, frac) <= limit < exactly(magnitude, frac + 1)


@given(st.lists(st.floats(-1e9, 1e9), min_size=1), st.sampled_from([8, 16]))
def test_grid_holds_every_weight(weights, bits):
    raw = np.floor(np.ldexp(np.array(weights), grid(weights, bits)) + 0.5)
    assert np.abs(raw).max() <= 2 ** (bits - 1)  # a negative half rounds towards zero


@pytest.mark.parametrize("nothing", [[], [0.0], np.zeros((2, 3))])
def test_grid_of_nothing_is_whole_numbers(nothing):
    assert grid(nothing, 8) == 0


@given(int32, int32)
def test_storage_is_the_narrowest_that_holds(a, b):
    lo, hi = sorted((a, b))
    chosen = storage_ctype(lo, hi)
    fitting = [c for c in STORAGE if ctype_range(c)[0] <= lo and hi <= ctype_range(c)[1]]
    assert chosen == fitting[0]
    assert ctype_bytes(chosen) == min(map(ctype_bytes, fitting))


@given(int32, int32)
def test_arithmetic_is_signed_and_at_least_16_bits(a, b):
    lo, hi = sorted((a, b))
    ctype = arithmetic_ctype(lo, hi)
    assert ctype in ("int16_t", "int24_t", "int32_t")
    assert ctype_range(ctype)[0] <= lo
    assert hi <= ctype_range(ctype)[1]


@pytest.mark.parametrize("choose", [storage_ctype, arithmetic_ctype])
@pytest.mark.parametrize("ends", [(0, 2**31), (-(2**31) - 1, 0)])
def test_more_than_32_bits_are_refused(choose, ends):
    with pytest.raises(OverflowError, match="needs more than 32 bits"):
        choose(*ends)


@pytest.mark.parametrize(
    ("largest", "ctype"), [(0, "uint8_t"), (255, "uint8_t"), (256, "uint16_t"), (2**16, "int32_t")]
)
def test_index(largest, ctype):
    assert index_ctype(largest) == ctype


def test_fixed_speaks_of_its_values():
    t = Fixed((2,), np.array([0, 3]), np.array([-5, 0]), np.array([4, 300]))
    assert (t.size, t.lowest, t.highest, t.magnitude) == (2, -5, 300, 300)
    assert (t.ctype, t.dtype, t.nbytes) == ("int16_t", np.int16, 4)
    assert t.to_float(np.array([[4, 300]])).tolist() == [[4.0, 37.5]]
    with pytest.raises(AssertionError, match="must be aligned"):
        t.scalar_frac  # noqa: B018
