"""Centres depend on the weighted set of rows only."""

import numpy as np
import pytest

from tinyml.training import clustering


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    return np.concatenate([rng.normal(c, 0.1, (20, 2)) for c in [(0, 0), (5, 0), (0, 9)]])


def sorted_rows(array):
    return array[np.lexsort(array.T)]


def test_three_blobs_are_found(rows):
    means = clustering.centres(rows, np.ones(60), 3)
    expected = [rows[i : i + 20].mean(axis=0) for i in (0, 20, 40)]
    np.testing.assert_allclose(sorted_rows(means), sorted_rows(np.array(expected)))


def test_order_of_rows_does_not_matter(rows):
    order = np.random.default_rng(1).permutation(60)
    a = clustering.centres(rows, np.ones(60), 7)
    b = clustering.centres(rows[order], np.ones(60), 7)
    # sums in another order differ by rounding
    np.testing.assert_allclose(sorted_rows(a), sorted_rows(b), rtol=1e-9, atol=1e-12)


def test_a_weight_is_a_repetition(rows):
    weights = np.random.default_rng(1).integers(1, 4, 60)
    a = clustering.centres(rows, weights.astype(float), 7)
    b = clustering.centres(np.repeat(rows, weights, axis=0), np.ones(weights.sum()), 7)
    np.testing.assert_allclose(sorted_rows(a), sorted_rows(b), rtol=1e-9, atol=1e-12)


def test_no_more_centres_than_distinct_rows():
    assert len(clustering.centres(np.repeat(np.eye(3), 4, axis=0), np.ones(12), 10)) == 3


def test_group_sums():
    sums, mass = clustering.group_sums(
        np.array([[1.0], [2], [4]]), np.array([1.0, 2, 3]), np.array([0, 2, 0]), 3
    )
    np.testing.assert_array_equal(sums, [[13], [0], [4]])
    np.testing.assert_array_equal(mass, [4, 0, 2])
