"""Forests in flat arrays do what scikit-learn's trees do, and sharing thresholds changes no row."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from instances import SEED, data
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

import tinyml
from tinyml.codegen.graph import Forest, Graph, Input, Tree
from tinyml.codegen.lower import lowered
from tinyml.codegen.ops import TreeTable
from tinyml.training import trees as module
from tinyml.training.trees import Trees, joined, share_thresholds, threshold_bytes


def grown(name="digits", n_trees=4, **settings):
    X, y = data(name)
    model = RandomForestClassifier(n_trees, **settings, **SEED).fit(X, y)
    return model, Trees.from_node(lowered(model, X.shape[1]).scores), X


@pytest.mark.parametrize("name", ["digits", "cancer", "mixed"])
def test_scores_are_those_of_the_model(name):
    model, trees, X = grown(name)
    np.testing.assert_allclose(trees.scores(X) / 4, model.predict_proba(X), atol=1e-12)


def test_there_and_back():
    _, trees, X = grown()
    node = trees.as_node(Graph(X.shape[1]).input, 0.5)
    back = Trees.from_node(node)
    for name in ("left", "right", "feature", "threshold", "value", "root"):
        np.testing.assert_array_equal(getattr(back, name), getattr(trees, name))
    np.testing.assert_allclose(node.evaluate(X), trees.scores(X) + 0.5)


def test_first_trees_are_those_of_the_model():
    model, trees, X = grown()
    wanted = sum(tree.predict_proba(X) for tree in model.estimators_[:3])
    np.testing.assert_allclose(trees.first(3).scores(X), wanted, atol=1e-12)


@given(share=st.floats(0, 1), seed=st.integers(0, 99))
def test_cutting_stops_rows_at_the_first_marked_node(share, seed):
    _, trees, X = grown(max_depth=6)
    rows = np.float32(X[::60])
    marked = np.random.default_rng(seed).random(trees.n_nodes) < share
    wanted = np.zeros((len(rows), trees.value.shape[1]))
    for i, x in enumerate(rows):
        for node in trees.root:
            while trees.left[node] >= 0 and not marked[node]:
                goes_left = x[trees.feature[node]] <= trees.threshold[node]
                node = (trees.left if goes_left else trees.right)[node]
            wanted[i] += trees.value[node]
    cut = trees.cut(marked)
    np.testing.assert_allclose(cut.scores(rows), wanted)
    rest, constant = cut.without_stumps()
    np.testing.assert_allclose(rest.scores(rows) + constant, wanted)


@pytest.mark.parametrize("name", ["digits", "cancer", "mixed"])
def test_sharing_thresholds_changes_no_row(name):
    _, trees, X = grown(name)
    shared = share_thresholds(trees, X)
    np.testing.assert_array_equal(shared.apply(X), trees.apply(X))
    assert n_tests(shared) < n_tests(trees)


def n_tests(trees):
    splits = ~trees.is_leaf
    pairs = np.column_stack([trees.feature, trees.threshold])[splits]
    return len(np.unique(pairs, axis=0))


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9)), min_size=1, max_size=12))
def test_the_fewest_numbers_hit_all_intervals(intervals):
    """As many numbers as there are intervals that are disjoint from one another."""
    lo = np.array([a for a, _ in intervals], dtype=float)
    hi = lo + [b for _, b in intervals]
    hits = module._stabbed(lo, hi, (lo + hi) / 2)
    assert np.all((lo <= hits) & (hits < hi))
    disjoint, end = 0, -np.inf
    for k in np.argsort(hi):
        if lo[k] >= end:
            disjoint, end = disjoint + 1, hi[k]
    assert len(np.unique(hits)) == disjoint


def test_nodes_that_no_row_passes_keep_a_threshold():
    trees = grown(max_depth=5)[1]
    nowhere = share_thresholds(trees, np.zeros((1, 64)))
    assert np.all(np.isfinite(nowhere.threshold))


@pytest.mark.parametrize("name", ["digits", "mixed"])
def test_bytes_are_those_of_the_compiled_tables(name):
    """Up to rows of votes, which the compiler rounds in its own way."""
    X, y = data(name)
    model = tinyml.estimators.CompactBoostingClassifier(900, **SEED).fit(X, y)
    (walk,) = (
        op for op in tinyml.compile(model, X, layout="table").ops if isinstance(op, TreeTable)
    )
    assert 0.9 * model.n_model_bytes_ <= walk.table_bytes <= model.n_model_bytes_ + 4


def test_bytes_of_a_threshold():
    assert threshold_bytes(np.array([[0.0], [16.0]])) == 1
    assert threshold_bytes(np.array([[0.0], [900.0]])) == 2
    assert threshold_bytes(np.array([[0.25], [0.5]])) == 2


def test_one_leaf():
    leaf = np.array([-1]), np.array([-1]), np.array([0]), np.array([0.0]), np.array([[3.0]])
    trees = joined([leaf])
    np.testing.assert_array_equal(trees.scores(np.zeros((2, 1))), [[3.0], [3.0]])
    rest, constant = trees.without_stumps()
    np.testing.assert_array_equal(rest.scores(np.zeros((1, 1))) + constant, [[3.0]])
    assert trees.n_bytes(1) > 0


def test_regressors_as_well():
    X, y = data("diabetes")
    model = RandomForestRegressor(3, **SEED).fit(X, y)
    node = lowered(model, X.shape[1]).scores
    trees = Trees.from_node(node)
    np.testing.assert_allclose(trees.scores(X)[:, 0] + node.offset, model.predict(X))


def test_splits_at_infinity_are_left_out():
    """The root and a node below it part only what is missing."""
    inf = np.inf
    tree = Tree(
        np.array([1, 3, -1, 5, -1, -1, -1]),
        np.array([2, 4, -1, 6, -1, -1, -1]),
        np.array([0, 1, 0, 0, 0, 0, 0]),
        np.array([inf, 0.5, 0, inf, 0, 0, 0]),
        np.arange(7.0)[:, None],
    )
    trees = Trees.from_node(Forest(Input(2), (tree,)))
    assert trees.n_nodes == 3
    X = np.array([[9.0, 0.0], [9.0, 1.0]])
    np.testing.assert_array_equal(trees.scores(X)[:, 0], [5.0, 4.0])
    np.testing.assert_array_equal(tree.value[tree.leaves(X), 0], [5.0, 4.0])
