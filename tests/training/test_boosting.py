"""Boosted trees add up to the scores they were grown on, one output after the other."""

import numpy as np
import pytest
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


def grown(X, target, weight, offset, loss, in_turn, n_trees=7, max_leaves=4):
    plan = Plan(3 * n_trees, n_trees, max_leaves, RATE, 3, RIDGE, (0.0, 0.0), in_turn)
    return boosted(binned(X, 32), target, weight, loss, offset, plan, iter)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    loss=st.sampled_from(sorted(LOSSES)),
    in_turn=st.booleans(),
)
def test_every_leaf_is_a_share_of_the_newton_step_from_the_trees_before(seed, loss, in_turn):
    X, target, weight, offset = problem(seed, loss)
    trees, scores, _ = grown(X, target, weight, offset, loss, in_turn)
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
            added = trees.value[leaf]
            served = added != 0 if in_turn else np.ones(len(added), bool)
            assert served.sum() == 1 or not in_turn
            np.testing.assert_allclose(added[served], RATE * step[served], rtol=1e-9)
        before += trees.value[leaves[:, t]]
    np.testing.assert_allclose(scores, before, rtol=1e-12)


def test_outputs_take_turns():
    parts = problem(0, "softmax")
    trees, _, _ = grown(*parts, "softmax", in_turn=True)
    served = [np.flatnonzero(trees.value[trees.tree == t].any(axis=0)) for t in range(7)]
    assert np.concatenate(served).tolist() == [0, 1, 2, 0, 1, 2, 0]


def test_an_output_that_has_nothing_to_learn_forfeits_its_turns():
    X, target, weight, offset = problem(0, "squared")
    target[:, 0] = offset[0]
    trees, scores, _ = grown(X, target, weight, offset, "squared", in_turn=True, n_trees=6)
    assert len(trees.root) == 3
    assert not trees.value[:, 0].any()
    np.testing.assert_array_equal(scores[:, 0], offset[0])


@pytest.mark.parametrize("in_turn", [True, False])
def test_nothing_to_learn_leaves_a_leaf(in_turn):
    X, target, weight, offset = problem(0, "squared")
    target[:] = offset
    trees, _, least = grown(X, target, weight, offset, "squared", in_turn)
    assert trees.n_nodes == 1
    assert least == 0.0


@pytest.mark.parametrize("in_turn", [True, False])
def test_trees_that_leave_splits_over_make_no_tree_larger(in_turn):
    X, target, weight, offset = problem(0, "softmax", n=12)
    trees, _, _ = grown(X, target, weight, offset, "softmax", in_turn, n_trees=30)
    assert np.bincount(trees.tree[trees.is_leaf]).max() <= 4
