"""Refitting leaves is the regression on indicators of leaves that it claims to be."""

from dataclasses import replace

import numpy as np
import pytest
from instances import SEED, data
from scipy.optimize import approx_fprime
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import OneHotEncoder

from tinyml.codegen.fixed import exact_frac
from tinyml.codegen.lower import lowered
from tinyml.training.refinement import LeafMemory, LeafRegression, constant
from tinyml.training.trees import Trees

TARGETS = {
    "squared": lambda codes: codes[:, None] / 2.0,
    "logistic": lambda codes: (codes > 0)[:, None].astype(float),
    "softmax": lambda codes: np.eye(3)[codes],
}


def regression(loss, ridge=1.0, depth=3):
    X, y = data("wine")
    codes = np.unique(y, return_inverse=True)[1]
    model = RandomForestClassifier(4, max_depth=depth, **SEED).fit(X, codes)
    trees = Trees.from_node(lowered(model, X.shape[1]).scores)
    weight = 1.0 + (np.arange(len(X)) % 2)
    return LeafRegression(trees, X, TARGETS[loss](codes), weight, loss, ridge)


def indicators(problem):
    return OneHotEncoder(sparse_output=False).fit_transform(problem.trees.apply(problem.X))


def test_free_leaves_are_a_ridge_regression():
    problem = regression("squared")
    value = problem.free(400, 1.0)
    ridge = Ridge(problem.ridge, fit_intercept=False)
    target = (problem.target - problem.offset)[:, 0]
    ridge.fit(indicators(problem), target, sample_weight=problem.weight)
    scores = problem.scores(value) - problem.offset  # sweeps come closer by a factor each
    np.testing.assert_allclose(scores[:, 0], ridge.predict(indicators(problem)), atol=1e-4)


def test_leaves_stay_near_their_prior():
    problem = regression("squared", ridge=5.0)
    prior = np.random.default_rng(0).normal(size=(problem.trees.n_nodes, 1))
    problem = replace(problem, prior=np.where(problem.trees.is_leaf[:, None], prior, 0.0))
    value = problem.free(400, 1.0)
    before = problem.scores(problem.prior)[:, 0]
    ridge = Ridge(problem.ridge, fit_intercept=False)
    ridge.fit(indicators(problem), problem.target[:, 0] - before, sample_weight=problem.weight)
    wanted = before + ridge.predict(indicators(problem))
    np.testing.assert_allclose(problem.scores(value)[:, 0], wanted, atol=1e-4)


@pytest.mark.parametrize("loss", TARGETS)
def test_a_prior_has_the_best_factor_and_offset(loss):
    problem = regression(loss)
    value = np.random.default_rng(0).normal(size=(problem.trees.n_nodes, problem.target.shape[1]))
    problem = problem.with_prior(value)
    assert not np.any(problem.prior[~problem.trees.is_leaf])
    scores = problem.scores(problem.prior)
    _, slope = problem._loss_and_slope(scores)
    spread = scores - np.average(scores, axis=0, weights=problem.weight)
    penalty = 0.0 if loss == "squared" else np.mean(spread**2)  # of the factor, in its unit
    np.testing.assert_allclose(slope.sum(axis=0), 0, atol=0.01)
    np.testing.assert_allclose((slope * spread).sum(), -penalty, atol=0.01)


def test_the_prior_follows_the_unit_of_the_target():
    problem = regression("squared")
    value = np.random.default_rng(0).normal(size=(problem.trees.n_nodes, 1))
    prior = problem.with_prior(value).prior
    tiny = replace(problem, target=1e-12 * problem.target).with_prior(value).prior
    np.testing.assert_allclose(tiny, 1e-12 * prior, rtol=1e-9)
    far = replace(problem, target=problem.target + 1e6).with_prior(value + 1e6).prior
    np.testing.assert_allclose(far, prior, atol=1e-6)


@pytest.mark.parametrize("loss", TARGETS)
def test_shared_leaves_under_a_strong_penalty_are_the_prior(loss):
    problem = regression(loss, ridge=1e9)
    rng = np.random.default_rng(0)
    rows = rng.integers(-20, 20, size=(3, problem.target.shape[1])) / 8.0
    rows -= np.median(rows, axis=1, keepdims=True) if loss == "softmax" else 0.0
    prior = rows[rng.integers(3, size=problem.trees.n_nodes)]
    problem = replace(problem, prior=np.where(problem.trees.is_leaf[:, None], prior, 0.0))
    parts = {"n_entries": 3, "bits": 8, "rng": 0}
    value, _ = problem.shared(problem.free(3, 0.3), 3, 6, 15, **parts)
    np.testing.assert_allclose(value, problem.prior, atol=0.1)


def test_free_leaves_are_a_logistic_regression():
    problem = regression("logistic")
    value = problem.free(600, 0.5)
    model = LogisticRegression(C=1 / problem.ridge, fit_intercept=False, tol=1e-10, max_iter=5000)
    ones = np.c_[indicators(problem)]
    model.fit(ones, problem.target[:, 0], sample_weight=problem.weight)
    centred = LeafRegression(
        problem.trees, problem.X, problem.target, problem.weight, "logistic", 1.0, np.zeros(1)
    )
    scores = centred.scores(centred.free(600, 0.5))[:, 0]
    np.testing.assert_allclose(scores, model.decision_function(ones), atol=1e-3)
    assert np.isfinite(value).all()


@pytest.mark.parametrize("loss", TARGETS)
def test_every_sweep_lowers_the_loss(loss):
    problem = regression(loss)
    problem = problem.with_prior(problem.trees.value[:, : problem.target.shape[1]])
    losses, value = [], None
    for _ in range(5):
        value = problem.free(1, 0.5, value)
        far = (value - problem.prior)[problem.trees.is_leaf]
        penalty = 0.5 * problem.ridge * (far**2).sum()
        losses.append(problem._loss_and_slope(problem.scores(value))[0] + penalty)
    assert np.all(np.diff(losses) < 0)


@pytest.mark.parametrize("loss", TARGETS)
def test_slopes_are_differences(loss):
    problem = regression(loss)
    scores = np.random.default_rng(0).normal(size=problem.target.shape)
    slope = problem._loss_and_slope(scores)[1].ravel()
    shape = problem.target.shape
    wanted = approx_fprime(scores.ravel(), lambda s: problem._loss_and_slope(s.reshape(shape))[0])
    np.testing.assert_allclose(slope, wanted, atol=1e-4)


@pytest.mark.parametrize("loss", TARGETS)
def test_shared_leaves_are_few_and_on_a_grid(loss):
    problem = regression(loss, depth=8)
    free = problem.free(10, 0.3)
    value, offset = problem.shared(free, 6, 6, 15, n_entries=2, bits=6, rng=0)
    leaves = value[problem.trees.is_leaf]
    assert len(np.unique(leaves, axis=0)) <= 6
    assert (leaves != 0).sum(axis=1).max() <= 2
    frac = exact_frac(leaves)
    assert frac is not None
    assert np.abs(np.ldexp(leaves, frac)).max() < 2**5
    assert np.array_equal(np.ldexp(offset, frac), np.floor(np.ldexp(offset, frac)))
    shared = problem._loss_and_slope(problem.scores(value) - problem.offset + offset)[0]
    nothing = problem._loss_and_slope(np.tile(problem.offset, (len(problem.X), 1)))[0]
    assert shared < 0.6 * nothing


def test_the_constant_is_the_best():
    rng = np.random.default_rng(0)
    codes, weight = rng.integers(0, 3, 50), rng.random(50)
    np.testing.assert_allclose(
        constant(TARGETS["squared"](codes), weight, "squared"),
        np.average(codes / 2, weights=weight),
    )
    shares = np.exp(constant(TARGETS["softmax"](codes), weight, "softmax"))
    np.testing.assert_allclose(shares, np.bincount(codes, weight) / weight.sum())


def cut(problem, seed):
    """Cut a forest that knows where its nodes come from at random nodes, the first tree wholly."""
    whole = replace(problem.trees, origin=np.arange(problem.trees.n_nodes))
    is_leaf = np.random.default_rng(seed).random(whole.n_nodes) < 0.2
    is_leaf[whole.root] = False
    is_leaf[0] = True
    return whole, whole.cut(is_leaf).without_stumps()[0]


@pytest.mark.parametrize("seed", range(3))
def test_leaves_of_a_cut_forest_are_those_of_the_whole_one(seed):
    problem = regression("softmax", depth=6)
    whole, trees = cut(problem, seed)
    leaves = LeafMemory(whole, problem.X).leaves(trees)
    np.testing.assert_array_equal(leaves, trees.apply(problem.X).T)


def test_what_leaves_were_worth_is_remembered():
    problem = regression("softmax", depth=6)
    whole, trees = cut(problem, 0)
    memory = LeafMemory(whole, problem.X)
    assert memory.recall(trees) == (None, 1.0)
    fitted = replace(problem, trees=whole)
    value = fitted.free(3, 0.5)
    memory.keep(fitted, value)
    again, news = memory.recall(whole)
    assert news == 0.0
    np.testing.assert_array_equal(again[whole.is_leaf], value[whole.is_leaf])
    start, news = memory.recall(trees)
    assert 0 < news < 1
    leaves, old = trees.apply(problem.X), whole.apply(problem.X)[:, 1:]  # the first tree is gone
    for of_tree, of_whole in zip(leaves.T, old.T, strict=True):
        for leaf in np.unique(of_tree):
            rows = of_tree == leaf  # their mean, but for leaves that no row reaches
            mean = np.average(value[of_whole[rows]], axis=0, weights=problem.weight[rows])
            np.testing.assert_allclose(start[leaf], mean, rtol=0.02, atol=0.02)


def test_zero_values_where_there_is_no_leaf():
    problem = regression("softmax")
    assert not np.any(problem.free(2, 0.3)[~problem.trees.is_leaf])
