"""Histograms find the splits that a search through all rows finds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.tree import DecisionTreeRegressor

from tinyml.training.growing import binned, grown_tree


def rows(n=60, n_features=4, n_outputs=2, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.integers(0, 9, (n, n_features)).astype(float)
    return X, rng.normal(size=(n, n_outputs)), 0.1 + rng.random((n, n_outputs))


def gain(slope, curvature, left, ridge):
    def worth(part):
        return (slope[part].sum(axis=0) ** 2 / (curvature[part].sum(axis=0) + ridge)).sum()

    return 0.5 * (worth(left) + worth(~left) - worth(left | True))


def fresh(bins):
    return np.zeros(bins.start[-1], bool), np.zeros(len(bins.start) - 1, bool)


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), n_outputs=st.sampled_from([1, 3]))
def test_the_first_split_is_the_best_of_all(seed, n_outputs):
    X, slope, curvature = rows(seed=seed, n_outputs=n_outputs)
    bins = binned(X, 32)
    tree = grown_tree(bins, np.ones(60), slope, curvature, 2, 5, 1.0, *fresh(bins), (0, 0))
    best = max(
        gain(slope, curvature, X[:, f] <= t, 1.0)
        for f in range(4) for t in np.unique(X[:, f])
        if 5 <= (X[:, f] <= t).sum() <= 55
    )  # fmt: skip
    assert tree.gain[0] == pytest.approx(best)
    left = X[:, tree.feature[0]] <= bins.threshold[tree.bin[0]]
    assert gain(slope, curvature, left, 1.0) == pytest.approx(best)
    np.testing.assert_array_equal(
        np.sort(tree.order[tree.begin[1] : tree.end[1]]), np.flatnonzero(left)
    )


def test_a_tree_is_the_one_of_scikit_learn():
    """Squared error with hardly a penalty, all values in bins of their own."""
    X, slope, _ = rows(200, 5, 1)
    X += np.random.default_rng(1).random(X.shape)
    bins = binned(np.round(X, 1), 256)
    ones = np.ones((200, 1))
    tree = grown_tree(bins, ones[:, 0], slope, ones, 12, 3, 1e-9, *fresh(bins), (0, 0))
    theirs = DecisionTreeRegressor(max_leaf_nodes=12, min_samples_leaf=3, random_state=0)
    theirs.fit(np.round(X, 1), slope[:, 0])
    predicted = np.empty(200)
    for leaf in np.flatnonzero(tree.left < 0):
        inside = tree.order[tree.begin[leaf] : tree.end[leaf]]
        predicted[inside] = slope[inside].mean()
    np.testing.assert_allclose(predicted, theirs.predict(np.round(X, 1)))


@pytest.mark.parametrize("most_sums", [0, 2000, 5000])
def test_memory_changes_no_tree(most_sums):
    X, slope, curvature = rows(400, 6)
    bins = binned(X, 32)
    parts = bins, np.ones(400), slope, curvature, 40, 3, 1.0
    whole, part = (grown_tree(*parts, *fresh(bins), (0.1, 0.1), m) for m in (2**20, most_sums))
    for a, b in zip(whole[:4], part[:4], strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(whole.gain, part.gain)


def test_a_price_makes_thresholds_and_features_few():
    X, slope, curvature = rows(400, 6)
    bins, found = binned(X, 32), []
    for prices in ((0, 0), (2.0, 0), (0, 5.0)):
        tests, features = fresh(bins)
        parts = slope, curvature, 20, 5, 1.0, tests, features, prices
        grown_tree(bins, np.ones(400), *parts)
        found.append((tests.sum(), features.sum()))
    assert found[1][0] < found[0][0]
    assert found[2][1] < found[0][1]


def test_nothing_grows_where_nothing_is_to_be_gained():
    X, slope, curvature = rows()
    bins = binned(X, 32)
    tree = grown_tree(bins, np.ones(60), 0 * slope, curvature, 9, 1, 1.0, *fresh(bins), (0, 0))
    assert len(tree.left) == 1


def test_leaves_have_the_weight_they_must_have():
    X, slope, curvature = rows(300)
    weight = np.random.default_rng(2).random(300)
    bins = binned(X, 32)
    tree = grown_tree(bins, weight, slope, curvature, 40, 4.0, 1.0, *fresh(bins), (0, 0))
    for leaf in np.flatnonzero(tree.left < 0):
        assert weight[tree.order[tree.begin[leaf] : tree.end[leaf]]].sum() >= 4.0 - 1e-6


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("max_bins", [2, 5, 256])
def test_bins_part_the_values(whole, max_bins):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 50, (300, 2)).astype(float) if whole else rng.normal(size=(300, 2))
    bins = binned(X, max_bins)
    for f in range(2):
        cuts = bins.threshold[bins.start[f] : bins.start[f + 1] - 1]
        assert len(cuts) <= max_bins - 1
        np.testing.assert_array_equal(bins.rows[:, f], np.searchsorted(cuts, X[:, f]))
        assert not whole or np.array_equal(cuts, np.floor(cuts))
    assert len(np.unique(bins.rows[:, 0])) > max_bins // 2 or max_bins == 256
