"""UBJSON: what is written by a slow obvious twin is read back."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyml.codegen.ubjson import read_ubjson


def written(value):
    """Write a value with the markers that XGBoost uses."""
    if value is None or isinstance(value, bool):
        return {None: b"Z", True: b"T", False: b"F"}[value]
    if isinstance(value, int):
        return b"L" + struct.pack(">q", value)
    if isinstance(value, float):
        return b"D" + struct.pack(">d", value)
    if isinstance(value, str):
        return b"S" + counted(value)
    if isinstance(value, list):
        return b"[#" + written(len(value)) + b"".join(map(written, value))
    return b"{" + b"".join(counted(k) + written(v) for k, v in value.items()) + b"}"


def counted(text):
    data = text.encode()
    return written(len(data)) + data


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
)
VALUES = st.recursive(
    LEAVES,
    lambda v: st.lists(v, max_size=4) | st.dictionaries(st.text(max_size=3), v, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_documents_come_back(value):
    assert read_ubjson(written(value)) == value


@given(VALUES, st.integers(1, 20))
def test_what_is_cut_off_is_refused(value, n):
    with pytest.raises(ValueError, match="no complete document of UBJSON"):
        read_ubjson(b"[" + written(value)[:-n])


@pytest.mark.parametrize(
    ("marker", "kind"),
    [("i", "i1"), ("U", "u1"), ("I", "i2"), ("l", "i4"), ("L", "i8"), ("d", "f4"), ("D", "f8")],
)
def test_arrays_of_one_type(marker, kind):
    numbers = np.array([3, 0, 100], dtype=">" + kind)
    document = b"[$" + marker.encode() + b"#U\x03" + numbers.tobytes()
    np.testing.assert_array_equal(read_ubjson(document), numbers)
