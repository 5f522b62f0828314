"""Bytes are those of a naive count, and of the rule of the papers."""

import naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyml.codegen.storage import (
    compressed_rows,
    max_nonzero,
    paper_bytes,
    smallest_bytes,
    table_bytes,
)

shapes = st.tuples(st.integers(1, 6), st.sampled_from([1, 5, 255, 256, 257, 512, 800]))


def sparse_matrix(shape, n_nonzero, seed):
    matrix = np.zeros(shape)
    chosen = np.random.default_rng(seed).permutation(matrix.size)[:n_nonzero]
    matrix.flat[chosen] = 1.5
    return matrix


@given(shapes, st.floats(0, 1), st.sampled_from([8, 16]), st.integers(0, 9))
def test_a_matrix_is_counted_as_by_the_naive_twin(shape, density, bits, seed):
    matrix = sparse_matrix(shape, round(density * shape[0] * shape[1]), seed)
    assert table_bytes([matrix], bits) == naive.table_bytes(matrix, bits)


@pytest.mark.parametrize("bits", [8, 16])
def test_rows_longer_than_a_byte_can_count(bits):
    matrix = np.zeros((2, 1000))
    matrix[0, :260] = 1
    assert table_bytes([matrix], bits) == naive.table_bytes(matrix, bits)


@given(shapes, st.integers(0, 3000), st.sampled_from([1, 2]), st.integers(0, 9))
def test_as_many_non_zeros_as_said_fit_anywhere(shape, available, width, seed):
    count = max_nonzero(shape, available, width)
    matrix = sparse_matrix(shape, count, seed)
    if count > 0:
        assert table_bytes([matrix], 8 * width) <= available
        assert table_bytes([matrix], 8 * width) <= smallest_bytes(shape, count, width)


@given(shapes, st.floats(0, 0.05), st.integers(0, 9))
def test_compressed_rows_hold_the_matrix(shape, density, seed):
    matrix = sparse_matrix(shape, round(density * shape[0] * shape[1]), seed)
    gaps, values, counts = compressed_rows(matrix)
    assert gaps.max(initial=0) <= 255
    again, entry = np.zeros(shape), 0
    for i, count in enumerate(counts):
        column = 0
        for _ in range(count):
            column += gaps[entry]
            again[i, column] += values[entry]
            entry += 1
    assert entry == len(values)
    np.testing.assert_array_equal(again, matrix)


def test_a_vector_is_a_bias_of_twice_the_width():
    assert table_bytes([np.zeros(3)], 8) == 6
    assert table_bytes([np.ones(3), np.ones((2, 2))], 16) == 12 + 8


def test_rule_of_the_papers():
    dense, half, sparse = np.ones((4, 5)), np.eye(2), np.eye(5)
    assert paper_bytes([dense]) == 80
    assert paper_bytes([half]) == 16
    assert paper_bytes([sparse]) == 40
    assert paper_bytes([dense, half, sparse]) == 136


def test_rule_of_the_papers_gives_the_published_size_of_bonsai():
    """USPS-10 of the authors' examples: 4156 non-zeros are 31.703125 KB."""
    shapes = {(28, 257): 0.2, (150, 28): 0.3, (7, 28): 0.62}
    kept = [sparse_matrix(s, int(np.ceil(d * s[0] * s[1])), 0) for s, d in shapes.items()]
    kept.append(kept[1])
    assert paper_bytes(kept) == 31.703125 * 1024
