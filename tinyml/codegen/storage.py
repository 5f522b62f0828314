"""How many bytes constants take in read-only memory: pure functions, no compiler needed.

A matrix is stored dense, or in compressed sparse rows where that is smaller: the values, one column
index each, and one count per row. A vector is a bias: it is added to an accumulator, so it is dense
and twice as wide as a value.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

EXP_TABLE_BYTES = 128
"""The table of exp(-t) that a kernel model carries, 64 entries of 16 bits."""


def table_bytes(arrays: Iterable[ArrayLike], bits: int = 8) -> int:
    """Bytes of `arrays` with `bits`-bit values, each in its smallest storage."""
    return sum(_array_bytes(np.asarray(array), bits // 8) for array in arrays)


def paper_bytes(arrays: Iterable[ArrayLike]) -> int:
    """Bytes by the rule of the Bonsai, ProtoNN and FastGRNN papers.

    A dense entry is a 4-byte float; where less than half of the entries are kept, each of these
    costs 8 bytes, a float and its index.
    """
    return sum(_paper_array_bytes(np.asarray(array)) for array in arrays)


def smallest_bytes(shape: tuple[int, int], n_nonzero: int, width: int) -> int:
    """Bytes that surely suffice for a matrix of `width`-byte values, wherever its non-zeros are."""
    return min(_dense_bytes(shape, width), _sparse_bytes(shape, n_nonzero, shape[1], width))


def max_nonzero(shape: tuple[int, int], available: int, width: int) -> int:
    """How many non-zeros of a matrix surely fit in `available` bytes, however they are placed."""
    rows, columns = shape
    if _dense_bytes(shape, width) <= available:
        return rows * columns
    room = available - rows * _index_width(columns)
    return max(0, room // (width + _index_width(columns - 1)))


def _array_bytes(array: np.ndarray, width: int) -> int:
    if array.ndim < 2:
        return array.size * 2 * width
    kept = np.count_nonzero(array, axis=1)
    shape = (array.shape[0], array.shape[1])
    sparse = _sparse_bytes(shape, int(kept.sum()), int(kept.max(initial=0)), width)
    return min(_dense_bytes(shape, width), sparse)


def _dense_bytes(shape: tuple[int, int], width: int) -> int:
    return shape[0] * shape[1] * width


def _sparse_bytes(shape: tuple[int, int], n_nonzero: int, longest_row: int, width: int) -> int:
    rows, columns = shape
    return n_nonzero * (width + _index_width(columns - 1)) + rows * _index_width(longest_row)


def _paper_array_bytes(array: np.ndarray) -> int:
    n_nonzero = int(np.count_nonzero(array))
    return 8 * n_nonzero if 2 * n_nonzero < array.size else 4 * array.size


def _index_width(largest: int) -> int:
    return 1 if largest < 256 else 2
