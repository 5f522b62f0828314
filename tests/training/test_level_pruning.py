"""Pruning by levels: its losses, its regression, and what it says of the forest it leaves."""

import numpy as np
import pytest
from instances import SEED, data
from scipy.optimize import check_grad
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import Lasso

from tinyml.codegen.lower import lowered
from tinyml.training.level_pruning import _Forest, _Loss, level_solutions
from tinyml.training.trees import Trees

LOSSES = ("squared", "logistic", "softmax")


def problem(loss, n_trees=5, depth=4, model=RandomForestClassifier):
    X, y = data("wine")
    codes = np.unique(y, return_inverse=True)[1]
    if loss != "softmax":
        codes = np.minimum(codes, 1)
    forest = model(n_estimators=n_trees, max_depth=depth, **SEED).fit(X, codes)
    trees = Trees.from_node(lowered(forest, X.shape[1]).scores)
    value = trees.value[:, -1:] - 0.5 if loss != "softmax" else trees.value
    weight = 1.0 + (np.arange(len(X)) % 3)
    target = codes.astype(float) if loss == "squared" else codes
    return Trees(**{**vars(trees), "value": value}), X, target, weight / weight.sum()


def slow_loss(name, scores, target, weight):
    if name == "squared":
        return 0.5 * weight @ (scores[:, 0] - target) ** 2
    if name == "logistic":
        scores = np.hstack([np.zeros_like(scores), scores])
    p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return -weight @ np.log(p[np.arange(len(p)), target])


@pytest.mark.parametrize("name", LOSSES)
def test_slopes_and_curvatures(name):
    rng = np.random.default_rng(0)
    n_rows, n_outputs = 6, 3 if name == "softmax" else 1
    target = rng.integers(0, n_outputs if n_outputs > 1 else 2, n_rows)
    weight = rng.random(n_rows)
    loss = _Loss(name, target, weight)
    scores = rng.normal(size=(n_rows, n_outputs))

    def value(flat):
        return loss(flat.reshape(1, n_rows, n_outputs))[0]

    def slope(flat):
        return loss(flat.reshape(1, n_rows, n_outputs))[1].ravel()

    np.testing.assert_allclose(value(scores.ravel()), slow_loss(name, scores, target, weight))
    assert check_grad(value, slope, scores.ravel()) < 1e-5  # slopes have single precision
    step = 1e-2
    second = (slope(scores.ravel() + step) - slope(scores.ravel() - step)) / (2 * step)
    curvature = loss(scores[None])[2].ravel()
    if n_outputs == 1:
        np.testing.assert_allclose(curvature, second, rtol=1e-3, atol=1e-5)
    else:  # it bounds them all together: sums of absolute rows of the Hessian
        p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        assert np.all(curvature >= (2 * weight[:, None] * p * (1 - p)).ravel() - 1e-6)


def test_factors_of_the_roots_are_a_lasso():
    trees, X, target, weight = problem("squared")
    weight = np.full(len(X), 1 / len(X))  # scikit-learn's has equal ones here
    penalty = 3e-3
    forest = _Forest(trees, X, target, weight, "squared")
    start = forest.trees.value[forest.leaves, 0]  # (n_trees, n_rows)
    size = np.sqrt(start**2 @ weight)
    y = (target / forest.unit)[:, None]
    model = Lasso(penalty, tol=1e-12, max_iter=100_000).fit(start.T / size[:, None].T, y[:, 0])
    errors = model.predict(start.T / size) - y[:, 0]
    least = 0.5 * weight @ errors**2 + penalty * np.abs(model.coef_).sum()
    level = _level(forest, 0)
    for _ in range(200):
        level.improve(penalty * size, penalty, shifts=False)
    np.testing.assert_allclose(level.objective(), least, rtol=1e-6)
    np.testing.assert_allclose(level.factor * size, model.coef_, atol=1e-3)


def _level(forest, number):
    """Return the regression of a level, and do not rebuild the forest by it."""
    kept = {}
    forest._rebuild = lambda level, nodes: kept.update(level=level, nodes=nodes)
    constant, evaluated = forest.constant, forest.evaluated
    forest._prune_level(number, 0.0)
    level, scaled = kept["level"], kept["level"].units.scaled
    level.factor = scaled.astype(float)
    level.shift = np.where(scaled[:, None], 0.0, forest.trees.value[kept["nodes"]])
    level.constant, level.evaluated = constant, evaluated
    return level


@pytest.mark.parametrize(("loss", "model"), [
    *((loss, RandomForestClassifier) for loss in LOSSES),
    ("softmax", GradientBoostingClassifier),  # whose trees add to one output each
])  # fmt: skip
def test_the_forest_that_is_left_has_the_loss_that_was_counted(loss, model):
    trees, X, target, weight = problem(loss, model=model)
    forest = _Forest(trees, X, target, weight, loss)
    before = forest.evaluated[0]
    for penalty in (1e-4, 1e-2):
        forest.prune(penalty)
        found, constant = forest.solution()
        scores = found.scores(X) + constant
        counted = forest.evaluated[0] * forest.unit**2
        np.testing.assert_allclose(slow_loss(loss, scores, target, weight), counted, rtol=1e-4)
    assert forest.evaluated[0] < 1.5 * before + 0.1


@pytest.mark.parametrize("loss", LOSSES)
def test_no_level_raises_the_objective(loss):
    trees, X, target, weight = problem(loss)
    for number in (0, 1, 2):
        level = _level(_Forest(trees, X, target, weight, loss), number)
        prices = np.full(len(level.factor), 1e-3), 1e-3
        level.prices = prices
        before = level.objective()
        level.improve(*prices, shifts=number > 0)
        assert level.objective() <= before


@pytest.mark.parametrize("loss", LOSSES)
def test_higher_penalties_leave_less_and_at_last_nothing(loss):
    trees, X, target, weight = problem(loss)
    found = list(level_solutions(trees, X, target, weight, [1e-4, 1e-2, 5.0], loss))
    sizes = [solution.n_nodes for solution, _ in found]
    assert sizes == sorted(sizes, reverse=True)
    last, constant = found[-1]
    assert last.n_nodes == len(trees.root)
    score = last.scores(X[:1])[0] + constant
    if loss == "squared":
        np.testing.assert_allclose(score, weight @ target)
    else:
        share = np.bincount(target, weights=weight)
        odds = np.log(share) if loss == "softmax" else np.log(share[1:] / share[0])
        np.testing.assert_allclose(score - score[-1], odds - odds[-1], atol=1e-2)
        assert loss == "softmax" or abs(score[0] - odds[0]) < 1e-2


def test_equal_leaves_are_joined():
    trees, X, target, weight = problem("logistic", 20)
    [(found, _)] = level_solutions(trees, X, target, weight, [0.02], "logistic")
    splits = np.flatnonzero(~found.is_leaf)
    left, right = found.left[splits], found.right[splits]
    both = found.is_leaf[left] & found.is_leaf[right]
    assert both.any()
    assert not np.any(found.value[left[both]] == found.value[right[both]])
