"""Boosted trees add up to the scores they were grown on."""

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.special import expit, softmax

from tinyml.training.boosting import Plan, boosted
from tinyml.training.growing import binned

RATE, RIDGE = 0.4, 1.0
LOSSES = {"squared": lambda s: s, "logistic": expit, "softmax": lambda s: softmax(s, axis=1)}


def problem(seed, loss, n=80):
    rng = np.random.default_rng(seed)
    X = rng.integers(0, 9, (n, 4)).astype(float)
    n_outputs = {"squared": 2, "logistic": 1, "softmax": 3}[loss]
    target = rng.normal(size=(n, n_outputs))
    if loss != "squared":
        target = np.eye(3)[(X[:, 0] + 2 * rng.random(n)).astype(int) % 3][:, -n_outputs:]
    return X, target, 0.5 + rng.random(n), rng.normal(size=n_outputs)


def grown(X, target, weight, offset, loss, n_trees=7, max_leaves=4):
    plan = Plan(3 * n_trees, n_trees, max_leaves, RATE, 3, RIDGE, (0.0, 0.0))
    return boosted(binned(X, 32), target, weight, loss, offset, plan, iter)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), loss=st.sampled_from(sorted(LOSSES)))
def test_every_leaf_is_a_share_of_the_newton_step_from_the_trees_before(seed, loss):
    X, target, weight, offset = problem(seed, loss)
    trees, scores, _ = grown(X, target, weight, offset, loss)
    assume(trees.n_nodes > 1)  # no split was worth the penalty
    before = np.tile(offset, (len(X), 1))
    leaves = trees.apply(X)
    for t in range(len(trees.root)):
        mean = LOSSES[loss](before)
        curvature = np.ones_like(mean) if loss == "squared" else mean * (1 - mean)
        for leaf in np.unique(leaves[:, t]):
            inside = leaves[:, t] == leaf
            slope = (weight[:, None] * (target - mean))[inside].sum(axis=0)
            step = slope / ((weight[:, None] * curvature)[inside].sum(axis=0) + RIDGE)
            step = step if loss == "squared" else np.clip(step, -2, 2)
            np.testing.assert_allclose(trees.value[leaf], RATE * step, rtol=1e-9)
        before += trees.value[leaves[:, t]]
    np.testing.assert_allclose(scores, before, rtol=1e-12)


def test_nothing_to_learn_leaves_a_leaf():
    X, target, weight, offset = problem(0, "squared")
    target[:] = offset
    trees, _, least = grown(X, target, weight, offset, "squared")
    assert trees.n_nodes == 1
    assert least == 0.0


def test_splits_that_trees_leave_over_make_no_tree_larger():
    X, target, weight, offset = problem(0, "softmax", n=12)
    trees, _, _ = grown(X, target, weight, offset, "softmax", n_trees=30)
    assert np.bincount(trees.tree[trees.is_leaf]).max() <= 4
