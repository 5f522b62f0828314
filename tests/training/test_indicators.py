"""The lasso over the nodes of a forest, against scikit-learn's over a matrix of features."""

import numpy as np
import pytest
from instances import SEED, data
from scipy.sparse import csr_matrix
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import Lasso, LogisticRegression

from tinyml.codegen.lower import lowered
from tinyml.training import losses
from tinyml.training.indicators import (
    Indicators,
    SparseModel,
    curvature,
    path_sums,
    splits_needed,
)
from tinyml.training.trees import Trees

LOSSES = {
    "squared": losses.squared,
    "logistic": losses.logistic,
    "softmax": losses.softmax_cross_entropy,
}


def problem(n_trees=4, n_leaves=8):
    X, y = data("wine")
    codes = np.unique(y, return_inverse=True)[1]
    model = RandomForestClassifier(n_trees, max_leaf_nodes=n_leaves, **SEED).fit(X, codes)
    trees = Trees.from_node(lowered(model, X.shape[1]).scores)
    return trees, X, codes


def dense(trees, X):
    """Return the features of all nodes: who reaches them."""
    reached = np.zeros((len(X), trees.n_nodes))
    for i, leaves in enumerate(trees.apply(X)):
        reached[i, leaves] = 1.0
    for node in np.flatnonzero(~trees.is_leaf)[::-1]:
        reached[:, node] = reached[:, trees.left[node]] + reached[:, trees.right[node]]
    return reached


def fitted(loss, penalty, tolerance=1e-10):
    """Return the model of one penalty; the first root is the constant, the other roots are none."""
    trees, X, codes = problem()
    if loss == "squared":
        target, n_outputs = codes[:, None].astype(float), 1
    else:
        target, n_outputs = (codes, 3) if loss == "softmax" else (np.minimum(codes, 1), 1)
    model = SparseModel(Indicators.of(trees, X), LOSSES[loss], target, np.ones(len(X)), n_outputs)
    prices = np.full(trees.n_nodes, penalty)
    prices[trees.root] = np.inf
    prices[0] = 0.0
    violation = model.minimise(prices, tolerance, 1000)
    return model, dense(trees, X), target, violation, trees


def total(model, penalty):
    return model.loss_value + penalty * np.abs(np.delete(model.dense, 0, axis=0)).sum()


def test_features_are_who_reaches_a_node():
    trees, X, _ = problem()
    indicators = Indicators.of(trees, X)
    features = dense(trees, X)
    for m in range(trees.n_nodes):
        rows = indicators.rows[indicators.start[m] : indicators.end[m]]
        np.testing.assert_array_equal(np.sort(rows), np.flatnonzero(features[:, m]))


@pytest.mark.parametrize("least", [0.0, 1.0, 100.0])
def test_sums_beyond_their_limits(least):
    trees, X, _ = problem(100, 64)  # more of them than there is room for at first
    rng = np.random.default_rng(0)
    values, limit = rng.normal(size=(len(X), 2)), rng.random(trees.n_nodes)
    skipped = rng.random((trees.n_nodes, 2)) < 0.3
    sums, largest, nodes, columns, excess = Indicators.of(trees, X).beyond(
        values, limit, skipped, least
    )
    expected = dense(trees, X).T @ values
    np.testing.assert_allclose(sums, expected, atol=1e-12)
    beyond = np.where(skipped, 0.0, np.maximum(np.abs(expected) - limit[:, None], 0.0))
    assert largest == pytest.approx(beyond.max())
    assert len(nodes) > 1024 or least
    where = np.nonzero((beyond > least).T)
    np.testing.assert_array_equal([columns, nodes], where)
    np.testing.assert_allclose(excess, beyond.T[where])


def test_path_sums_are_scores():
    trees, X, _ = problem()
    coef = np.random.default_rng(0).normal(size=(trees.n_nodes, 2))
    sums = path_sums(trees.left, trees.right, coef)
    scores = Trees(**{**vars(trees), "value": sums}).scores(X)
    np.testing.assert_allclose(scores, dense(trees, X) @ coef)


def test_splits_are_needed_where_something_is_selected_below():
    trees, _, _ = problem()
    selected = np.random.default_rng(0).random(trees.n_nodes) < 0.1
    needed = splits_needed(trees.left, trees.right, selected)
    parent = np.full(trees.n_nodes, -1)
    for child in (trees.left, trees.right):
        parent[child[child >= 0]] = np.flatnonzero(child >= 0)
    expected = np.zeros(trees.n_nodes, dtype=bool)
    for node in np.flatnonzero(selected):
        while parent[node] >= 0:
            node = parent[node]
            expected[node] = True
    np.testing.assert_array_equal(needed, expected)


@pytest.mark.parametrize("penalty", [0.1, 0.01, 0.001])
def test_squared_loss_is_a_lasso(penalty):
    model, features, target, violation, trees = fitted("squared", penalty)
    assert violation <= 1e-8
    features[:, trees.root] = 0.0
    twin = Lasso(penalty / 2, tol=1e-13, max_iter=10**6).fit(features, target[:, 0])
    errors = twin.predict(features) - target[:, 0]
    least = np.mean(errors**2) + penalty * np.abs(twin.coef_).sum()
    np.testing.assert_allclose(total(model, penalty), least, rtol=1e-8)


@pytest.mark.parametrize("loss", ["logistic", "softmax"])
@pytest.mark.parametrize("penalty", [0.05, 0.005])
def test_log_losses_are_logistic_regressions(loss, penalty):
    model, features, target, _, trees = fitted(loss, penalty)
    features[:, trees.root] = 0.0
    twin = LogisticRegression(
        l1_ratio=1.0, C=1 / (penalty * len(target)), solver="saga", tol=1e-9, max_iter=100_000,
        random_state=0,
    ).fit(csr_matrix(features), target)  # fmt: skip
    log_p = twin.predict_log_proba(features)[np.arange(len(target)), target]
    least = -log_p.mean() + penalty * np.abs(twin.coef_).sum()
    np.testing.assert_allclose(total(model, penalty), least, rtol=2e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_and_curvatures(loss):
    model, *_ = fitted(loss, 0.01)
    step, rows = 1e-5, 5
    weights = model.weights
    bend = curvature(model.loss, model.gradient, weights)
    for k in range(model.scores.shape[1]):
        moved = [model.scores.copy() for _ in range(2)]
        slopes = []
        for sign, scores in zip((-1, 1), moved, strict=True):
            scores[:, k] += sign * step
            gradient = np.empty_like(scores)
            model.loss(scores, model.targets, weights, gradient)
            slopes.append(gradient[:, k])
        second = (slopes[1] - slopes[0]) / (2 * step)
        assert np.all(bend[:, k] >= second - 1e-9)
        for i in range(rows):
            apart = [model.scores.copy() for _ in range(2)]
            values = []
            for sign, scores in zip((-1, 1), apart, strict=True):
                scores[i, k] += sign * step
                values.append(
                    model.loss(scores, model.targets, weights, np.empty_like(model.scores))
                )
            slope = (values[1] - values[0]) / (2 * step)
            np.testing.assert_allclose(slope, model.gradient[i, k], atol=1e-7)


def test_a_copy_goes_its_own_way():
    model, *_ = fitted("squared", 0.1)
    before = model.dense, model.gradient.copy()
    other = model.copy()
    n_nodes = len(model.indicators.left)
    other.minimise(np.full(n_nodes, 0.001), 1e-8, 100)
    assert np.any(other.dense != before[0])
    np.testing.assert_array_equal(model.dense, before[0])
    np.testing.assert_array_equal(model.gradient, before[1])
