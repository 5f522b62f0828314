"""How many bytes constants take in read-only memory: pure functions, no compiler needed.

A matrix is stored dense, or in compressed sparse rows where that is smaller: the values, for each a
byte that says how far its column is from the one before, and one count per row. A vector is a bias:
it is added to an accumulator, so it is dense and twice as wide as a value.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

EXP_TABLE_BYTES = 128
"""The table of exp(-t) that a kernel model carries, at most 128 entries of 8 bits."""

_LARGEST_GAP = 255


def table_bytes(arrays: Iterable[ArrayLike], bits: int = 8) -> int:
    """Bytes of `arrays` with `bits`-bit values, each in its smallest storage."""
    return sum(_array_bytes(np.asarray(array), bits // 8) for array in arrays)


def paper_bytes(arrays: Iterable[ArrayLike]) -> int:
    """Bytes by the rule of the Bonsai, ProtoNN and FastGRNN papers.

    A dense entry is a 4-byte float; where less than half of the entries are kept, each of these
    costs 8 bytes, a float and its index.
    """
    return sum(_paper_array_bytes(np.asarray(array)) for array in arrays)


def compressed_rows(matrix: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return the gaps, the values and the number of entries of each row of a sparse matrix.

    The first gap of a row counts from column 0. A gap beyond 255 is bridged by entries of value 0.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.codegen.storage import compressed_rows
    >>> compressed_rows(np.array([[0, 7, 0, 5], [3, 0, 0, 0]]))
    (array([1, 2, 0]), array([7, 5, 3]), array([2, 1]))
    """
    row, column = np.nonzero(matrix)
    starts_row = np.diff(row, prepend=-1) > 0
    gap = column - np.where(starts_row, 0, np.roll(column, 1))
    bridges = np.maximum(gap - 1, 0) // _LARGEST_GAP
    last = np.cumsum(bridges + 1) - 1
    n_entries = len(gap) + int(bridges.sum())
    gaps, values = np.full(n_entries, _LARGEST_GAP), np.zeros(n_entries, dtype=matrix.dtype)
    gaps[last] = gap - _LARGEST_GAP * bridges
    values[last] = matrix[row, column]
    counts = np.bincount(row, weights=bridges + 1, minlength=len(matrix)).astype(np.int64)
    return gaps, values, counts


def smallest_bytes(shape: tuple[int, int], n_nonzero: int, width: int) -> int:
    """Bytes that surely suffice for a matrix of `width`-byte values, wherever its non-zeros are."""
    rows, columns = shape
    n_entries = n_nonzero + rows * _most_bridges(columns)
    sparse = _sparse_bytes(rows, n_entries, columns, width)
    return min(_dense_bytes(shape, width), sparse)


def max_nonzero(shape: tuple[int, int], available: int, width: int) -> int:
    """How many non-zeros of a matrix surely fit in `available` bytes, however they are placed."""
    rows, columns = shape
    if _dense_bytes(shape, width) <= available:
        return rows * columns
    room = available - rows * _count_width(columns)
    return max(0, room // (width + 1) - rows * _most_bridges(columns))


def _array_bytes(array: NDArray[Any], width: int) -> int:
    if array.ndim < 2:
        return array.size * 2 * width
    counts = compressed_rows(array)[2]
    sparse = _sparse_bytes(len(array), int(counts.sum()), int(counts.max(initial=0)), width)
    return min(_dense_bytes((array.shape[0], array.shape[1]), width), sparse)


def _dense_bytes(shape: tuple[int, int], width: int) -> int:
    return shape[0] * shape[1] * width


def _sparse_bytes(rows: int, n_entries: int, longest_row: int, width: int) -> int:
    return n_entries * (width + 1) + rows * _count_width(longest_row)


def _most_bridges(columns: int) -> int:
    return (columns - 1) // _LARGEST_GAP


def _paper_array_bytes(array: NDArray[Any]) -> int:
    n_nonzero = int(np.count_nonzero(array))
    return 8 * n_nonzero if 2 * n_nonzero < array.size else 4 * array.size


def _count_width(largest: int) -> int:
    return 1 if largest < 256 else 2
