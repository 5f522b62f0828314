"""How many bytes constants take in read-only memory: pure functions, no compiler needed.

A matrix is stored dense, or in compressed sparse rows where that is smaller: the values, and either
for each a byte that says how far its column is from the one before, or for each run of neighbours
how far it is from the run before and how long; and one count per row. A vector is a bias:
it is added to an accumulator, so it is dense and twice as wide as a value.
"""

from collections.abc import Iterable
from math import gcd
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tinyml.codegen.fixed import ctype_bytes, storage_ctype

EXP_TABLE_BYTES = 128
"""The table of exp(-t) that a kernel model carries, at most 128 entries of 8 bits."""

_LARGEST_GAP = 255
LONGEST_FIELD = 16
"""Bits of a number that is packed among others; longer ones are kept in a table of their own."""


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


def rows_of_runs(matrix: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return distances and lengths of the runs of a sparse matrix, its values, and runs per row.

    The first distance of a row counts from column 0, others from the end of the run before. Runs
    and distances beyond 255 are cut in pieces, which may be empty.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.codegen.storage import rows_of_runs
    >>> rows_of_runs(np.array([[0, 7, 5, 0], [3, 0, 0, 0]]))
    (array([[1, 2],
           [0, 1]]), array([7, 5, 3]), array([1, 1]))
    """
    runs: list[tuple[int, int]] = []
    counts = []
    for row in matrix != 0:
        ends = np.flatnonzero(np.diff(np.concatenate([[False], row, [False]]).astype(np.int8)))
        before, first = 0, len(runs)
        for start, end in ends.reshape(-1, 2).tolist():
            distance, length = start - before, end - start
            runs += [(_LARGEST_GAP, 0)] * (distance // _LARGEST_GAP)
            distance %= _LARGEST_GAP
            for _ in range(-(-length // _LARGEST_GAP)):
                runs.append((distance, min(length, _LARGEST_GAP)))
                distance, length = 0, length - _LARGEST_GAP
            before = end
        counts.append(len(runs) - first)
    return np.array(runs, dtype=np.int64).reshape(-1, 2), matrix[matrix != 0], np.array(counts)


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
    return min(layout_bytes(array, width).values())


def layout_bytes(matrix: NDArray[Any], width: int) -> dict[str, int]:
    """Bytes of a matrix of `width`-byte values in each layout, "dense", "sparse" and "runs"."""
    counts = compressed_rows(matrix)[2]
    runs, values, of_rows = rows_of_runs(matrix)
    return {
        "dense": matrix.size * width,
        "sparse": _sparse_bytes(len(counts), int(counts.sum()), int(counts.max(initial=0)), width),
        "runs": len(values) * width
        + runs.size
        + len(of_rows) * _count_width(int(of_rows.max(initial=0))),
    }


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


# Forests ------------------------------------------------------------------------------------------


class SplitTables(NamedTuple):
    """How the splits of a forest are stored: each as the number of a test, or spelled in full."""

    is_shared: bool
    feature_bits: int  # of a split that is spelled in full
    field_bits: int  # of one split
    nbytes: int


class LeafTables(NamedTuple):
    """How leaves are stored: each as the number of a value or of a row of them, or in full."""

    is_shared: bool
    field_bits: int  # of one leaf
    nbytes: int


def shape_bytes(n_splits: int, n_trees: int) -> int:
    """Bytes of the shapes of binary trees: one bit for each node, in depth-first order."""
    return packed_bytes(2 * n_splits + n_trees, 1)


def split_tables(
    feature: NDArray[Any], threshold: NDArray[Any], width: int, bits: int
) -> SplitTables:
    """Choose the smaller storage of splits whose thresholds have `bits` bits, alone `width` bytes.

    Splits that ask the same of the same feature share a test in a table.
    """
    if not len(feature):
        return SplitTables(True, 0, 0, 0)
    feature_bits = bits_for(int(feature.max()) + 1)
    n_tests = len(np.unique(np.column_stack([feature, threshold]), axis=0))
    number_bits = bits_for(n_tests)
    test = _count_width(int(feature.max())) + width
    shared = packed_bytes(len(feature), number_bits) + n_tests * test
    in_full = packed_bytes(len(feature), feature_bits) + packed_bytes(len(feature), bits)
    if shared <= in_full or bits > LONGEST_FIELD:
        return SplitTables(True, feature_bits, number_bits, shared)
    return SplitTables(False, feature_bits, feature_bits + bits, in_full)


def scalar_leaf_tables(values: NDArray[Any]) -> LeafTables:
    """Choose the smaller storage of leaves with one whole number each."""
    distinct = np.unique(values)
    spread = int(distinct[-1]) - int(distinct[0])
    in_full = packed_bytes(len(values), spread.bit_length())
    number_bits = bits_for(len(distinct))
    width = _signed_width(int(distinct[0]), int(distinct[-1]))
    shared = packed_bytes(len(values), number_bits) + len(distinct) * width
    if shared < in_full or spread.bit_length() > LONGEST_FIELD:
        return LeafTables(True, number_bits, shared)
    return LeafTables(False, spread.bit_length(), in_full)


def row_leaf_tables(rows: NDArray[Any], n_leaves: int) -> LeafTables:
    """Return the storage of leaves with several whole numbers each, as (output, value) pairs.

    `rows` are the different ones; of each only what is not zero is stored.
    """
    n_pairs = int(np.count_nonzero(rows))
    starts = (len(rows) + 1) * _count_width(n_pairs)
    output_bits, value_bits = bits_for(rows.shape[1]), int(rows.max(initial=0)).bit_length()
    fits = rows.min(initial=0) >= 0 and output_bits + value_bits <= 16
    value_bytes = _signed_width(int(rows.min(initial=0)), int(rows.max(initial=0)))
    width = 2 if fits else _count_width(rows.shape[1] - 1) + value_bytes
    number_bits = bits_for(len(rows))
    return LeafTables(
        True, number_bits, packed_bytes(n_leaves, number_bits) + starts + n_pairs * width
    )


def leaf_bytes(values: NDArray[Any], tree: NDArray[Any], n_trees: int) -> int:
    """Bytes of whole-numbered leaves, shape (n_leaves, n_outputs), the trees of which are given."""
    output = output_of_trees(values, tree, n_trees)
    if output is None:
        return row_leaf_tables(np.unique(values, axis=0), len(values)).nbytes
    counts = 0 if values.shape[1] == 1 else values.shape[1] * _count_width(n_trees)
    return scalar_leaf_tables(values[np.arange(len(values)), output[tree]]).nbytes + counts


def output_of_trees(
    values: NDArray[Any], tree: NDArray[Any], n_trees: int
) -> NDArray[np.intp] | None:
    """Return the one output that each tree adds to; None if a tree adds to several."""
    adds = np.zeros((n_trees, values.shape[1]), dtype=bool)
    np.logical_or.at(adds, tree, values != 0)
    return None if np.any(adds.sum(axis=1) > 1) else adds.argmax(axis=1)


def bits_for(n_choices: int) -> int:
    """Bits that tell `n_choices` things apart."""
    return (n_choices - 1).bit_length()


def packed_bytes(n_fields: int, bits: int) -> int:
    """Bytes of `n_fields` fields of `bits` bits end to end, as far as reading the last one goes."""
    if not n_fields or not bits:
        return 0
    return ((n_fields - 1) * bits >> 3) + field_bytes(bits)


def field_bytes(bits: int) -> int:
    """Bytes that a field of `bits` bits may touch."""
    latest = 8 - gcd(bits, 8)  # bit of a byte in which one may begin
    return (latest + bits + 7) // 8


def _signed_width(lo: int, hi: int) -> int:
    return ctype_bytes(storage_ctype(lo, hi))
