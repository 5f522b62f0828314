"""Cutting trees at depths is the optimisation that it claims to be."""

import numpy as np
import pytest
from instances import SEED, data
from sklearn.ensemble import RandomForestClassifier

from tinyml.codegen.lower import lowered
from tinyml.training.depth_pruning import _Search, depth_solutions
from tinyml.training.pruning import node_errors
from tinyml.training.subtrees import depths, without_idle_splits
from tinyml.training.trees import Trees

PENALTIES = [1e-5, 1e-3, 1e-2, 0.05, 10.0]


def problem(n_trees=4, depth=4):
    X, y = data("wine")
    Y = np.eye(3)[np.unique(y, return_inverse=True)[1]]
    model = RandomForestClassifier(n_trees, max_depth=depth, **SEED).fit(X, Y.argmax(axis=1))
    trees = Trees.from_node(lowered(model, X.shape[1]).scores)
    weight = 1.0 + (np.arange(len(X)) % 3)
    mean = node_errors(trees, X, Y, weight).mean
    return Trees(**{**vars(trees), "value": mean}), X, Y, weight / weight.sum()


def grown_by_depth(trees, X, t):
    """Return what tree t says at every depth beyond its root, and its nodes below the root."""
    depth = depths(trees.left, trees.right)
    of_tree, others = trees.tree == t, trees.tree != t
    value = np.where(of_tree[:, None], trees.value - trees.value[trees.root[t]], 0.0)
    alone = Trees(**{**vars(trees), "value": value})
    for d in range(depth[of_tree].max() + 1):
        yield alone.cut(others | (depth >= d)).scores(X), int((depth[of_tree] <= d).sum()) - 1


def least_of_tree(trees, X, t, residual, weight, penalty):
    """Try every depth with its best weight, without any sums over nodes."""
    best = 0.5 * weight @ (residual**2).sum(axis=1)
    for scores, n_nodes in grown_by_depth(trees, X, t):
        square = weight @ (scores**2).sum(axis=1)
        s = max(weight @ (scores * residual).sum(axis=1) / square, 0.0) if square else 0.0
        left = residual - s * scores
        best = min(best, 0.5 * weight @ (left**2).sum(axis=1) + penalty * n_nodes)
    return best


def objective(trees, constant, X, Y, weight, penalty):
    left = Y - trees.scores(X) - constant
    n_nodes = trees.n_nodes - len(trees.root)
    return 0.5 * weight @ (left**2).sum(axis=1) + penalty * n_nodes


@pytest.mark.parametrize("penalty", PENALTIES)
def test_a_visit_is_the_best_of_all_depths(penalty):
    trees, X, Y, weight = problem()
    trees = without_idle_splits(trees, X, weight)
    search = _Search(trees, X, Y, weight)
    for t in range(len(trees.root)):
        search._centre()
        scores, n_nodes = list(grown_by_depth(trees, X, t))[search.cut[t]]
        others = search.residual + search.weight[t] * scores
        best = least_of_tree(trees, X, t, others, weight, penalty)
        before = search.loss() + penalty * n_nodes
        gain = search.visit(np.arange(len(trees.root)) == t, penalty)
        np.testing.assert_allclose(before - gain, best, rtol=1e-9)
        now = list(grown_by_depth(trees, X, t))[search.cut[t]]
        np.testing.assert_allclose(search.loss() + penalty * now[1], best, rtol=1e-9)


def test_solutions_say_what_the_search_has_found():
    trees, X, Y, weight = problem()
    search = _Search(without_idle_splits(trees, X, weight), X, Y, weight)
    search.settle(1e-3)
    found, constant = search.solution()
    np.testing.assert_allclose(Y - found.scores(X) - constant, search.residual, atol=1e-12)


def test_more_expensive_nodes_leave_fewer():
    trees, X, Y, weight = problem(12, 6)
    found = list(depth_solutions(trees, X, Y, weight, PENALTIES))
    sizes = [solution.n_nodes for solution, _ in found]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 5 * sizes[2]
    for penalty, (solution, constant) in zip(PENALTIES, found, strict=True):
        nothing = trees.cut(np.ones(trees.n_nodes, dtype=bool))
        nothing = Trees(**{**vars(nothing), "value": 0.0 * nothing.value})
        worst = objective(nothing, weight @ Y, X, Y, weight, penalty)
        assert objective(solution, constant, X, Y, weight, penalty) <= worst + 1e-12


def test_where_nothing_pays_the_mean_is_left():
    trees, X, Y, weight = problem()
    [(solution, constant)] = depth_solutions(trees, X, Y, weight, [10.0])
    assert solution.n_nodes == len(trees.root)
    np.testing.assert_allclose(solution.scores(X[:1])[0] + constant, weight @ Y)


def test_idle_splits_go_and_nothing_changes():
    trees, X, _, weight = problem()
    few = np.arange(len(X)) % 5 == 0
    kept = without_idle_splits(trees, X, np.where(few, weight, 0.0))
    assert kept.n_nodes < trees.n_nodes
    np.testing.assert_allclose(kept.scores(X[few]), trees.scores(X[few]))
    both = ~kept.is_leaf
    reached = np.zeros(kept.n_nodes, dtype=bool)
    reached[kept.apply(X[few])] = True
    assert reached[kept.is_leaf].all()
    assert both.sum() == kept.is_leaf.sum() - len(kept.root)


def test_rows_of_weight_zero_count_for_nothing():
    trees, X, Y, weight = problem()
    few = np.arange(len(X)) % 2 == 0
    a = next(depth_solutions(trees, X, Y, np.where(few, weight, 0.0), [1e-3]))
    b = next(depth_solutions(trees, X[few], Y[few], weight[few], [1e-3]))
    np.testing.assert_allclose(a[0].scores(X) + a[1], b[0].scores(X) + b[1])
