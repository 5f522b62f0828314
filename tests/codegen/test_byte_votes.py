"""Votes of a byte decide calibration rows as the floats do, or are refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyml.codegen.byte_votes import byte_votes
from tinyml.codegen.graph import Forest, Input, Tree


def stump(left, right):
    """A tree of one split of the first feature at 0."""
    value = np.array([np.zeros(len(left)), left, right], dtype=np.float64)
    children = np.array([1, -1, -1]), np.array([2, -1, -1])
    return Tree(*children, np.zeros(3, dtype=np.intp), np.zeros(3), value)


def forest_of(values, offset=0.0):
    """One stump for each pair of leaves."""
    return Forest(Input(1), tuple(stump(*pair) for pair in values), offset)


def decisions(forest, reached):
    """The first output of the most votes, one row at a time."""
    rows = zip(*reached, strict=True)
    totals = [
        sum(tree.value[leaf] for tree, leaf in zip(forest.trees, row, strict=True)) for row in rows
    ]
    return [int(np.argmax(total)) for total in totals]


@given(st.integers(1, 12), st.integers(2, 6), st.integers(0, 2**16))
def test_calibration_rows_are_decided_alike_with_votes_of_a_byte(n_trees, n_outputs, seed):
    rng = np.random.default_rng(seed)
    forest = forest_of(rng.dirichlet(np.full(n_outputs, 0.3), (n_trees, 2)))
    reached = [rng.integers(1, 3, 40) for _ in range(n_trees)]
    rounded = byte_votes(forest, reached)
    if rounded is None:
        return
    frac, in_bytes = rounded
    assert decisions(in_bytes, reached) == decisions(forest, reached)
    for tree, exact in zip(in_bytes.trees, forest.trees, strict=True):
        votes = np.ldexp(tree.value, frac)
        np.testing.assert_array_equal(votes, np.floor(votes))
        assert votes.min() >= 0
        assert votes.max() <= 255
        assert np.abs(votes - np.ldexp(exact.value, frac)).max() <= 1


def test_errors_of_different_trees_cancel():
    rng = np.random.default_rng(0)
    forest = forest_of(rng.dirichlet(np.ones(4), (30, 2)) * 0.9)
    reached = [rng.integers(1, 3, 200) for _ in range(30)]
    frac, rounded = byte_votes(forest, reached)

    def error(values):
        exact = [tree.value for tree in forest.trees]
        parts = zip(values, exact, reached, strict=True)
        return np.abs(sum((v - e)[leaf] for v, e, leaf in parts)).mean()

    nearest = [np.ldexp(np.floor(np.ldexp(t.value, frac) + 0.5), -frac) for t in forest.trees]
    assert error([tree.value for tree in rounded.trees]) < 0.5 * error(nearest)


def test_a_row_that_plain_rounding_would_lose_is_kept():
    forest = forest_of([[[0.5, 0.5 + 1e-6], [0.9, 0.1]]])
    frac, rounded = byte_votes(forest, [np.array([1, 2])])
    assert frac == 8
    np.testing.assert_array_equal(np.ldexp(rounded.trees[0].value[1], 8), [128, 129])


@pytest.mark.parametrize(
    ("values", "offset"),
    [
        ([[[1 - 1e-9, 1.0], [0.0, 1.0]]], 0.0),  # 256 both, and the first of equals wins
        ([[[-0.5, 0.5], [0.0, 1.0]]], 0.0),
        ([[[0.5], [1.0]]], 0.0),
        ([[[0.5, 0.5], [0.0, 1.0]]], [0.25, 0.0]),
        ([[[300.0, 0.3], [0.0, 1.0]]], 0.0),
    ],
)
def test_what_is_not_a_byte_or_cannot_be_decided_alike_is_refused(values, offset):
    assert byte_votes(forest_of(values, np.array(offset)), [np.array([1, 2])]) is None
