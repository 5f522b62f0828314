"""Compact boosting keeps its bounds, shares thresholds and leaves, and is what runs."""

import numpy as np
import pytest
from instances import SEED, data
from sklearn.base import clone
from sklearn.datasets import make_friedman1
from sklearn.model_selection import train_test_split

import tinyml
from tinyml.estimators import (
    CompactBoostingClassifier,
    CompactBoostingRegressor,
    compact_boosting,
)


def split(name):
    X, y = data(name)
    return train_test_split(X, y, random_state=0)


def n_tests(model):
    splits = ~model.trees_.is_leaf
    pairs = np.column_stack([model.trees_.feature, model.trees_.threshold])[splits]
    return len(np.unique(pairs, axis=0))


@pytest.mark.parametrize(("max_bytes", "least"), [(256, 0.75), (512, 0.88), (2048, 0.95)])
def test_bytes_stay_within_the_bound(max_bytes, least):
    X, X_test, y, y_test = split("digits")
    model = CompactBoostingClassifier(max_bytes, **SEED).fit(X, y)
    assert 0.8 * max_bytes < model.n_model_bytes_ <= max_bytes
    assert model.score(X_test, y_test) > least


@pytest.mark.parametrize("name", ["digits", "mixed", "even_digits"])
@pytest.mark.parametrize("bits", [8, 16])
def test_the_program_is_exact(name, bits):
    X, X_test, y, _ = split(name)
    model = CompactBoostingClassifier(800, **SEED).fit(X, y)
    program = tinyml.compile(model, X, bits=bits)
    np.testing.assert_array_equal(program.predict(X_test), model.predict(X_test))
    np.testing.assert_array_equal(
        program.decision_function(X_test), model.decision_function(X_test)
    )


def test_regression():
    X, X_test, y, y_test = split("diabetes")
    model = CompactBoostingRegressor(400, **SEED).fit(X, y)
    assert model.n_model_bytes_ <= 400
    assert model.score(X_test, y_test) > 0.15


@pytest.mark.parametrize("max_bytes", [300, 1000])
def test_pruned_trees_predict_better(max_bytes):
    X, y = make_friedman1(2000, noise=1.0, random_state=0)
    X, X_test, y, y_test = train_test_split(X, y, random_state=0)
    pruned, grown = (
        CompactBoostingRegressor(max_bytes, prune=prune, **SEED).fit(X, y)
        for prune in ("auto", False)
    )
    assert 0.9 * max_bytes < pruned.n_model_bytes_ <= max_bytes
    assert pruned.score(X_test, y_test) > grown.score(X_test, y_test) + 0.01


@pytest.mark.parametrize("name", ["digits", "even_digits"])
def test_classes_can_be_pruned(name):
    X, X_test, y, y_test = split(name)
    model = CompactBoostingClassifier(800, prune=True, **SEED).fit(X, y)
    assert 600 < model.n_model_bytes_ <= 800
    assert model.score(X_test, y_test) > 0.93
    program = tinyml.compile(model, X, bits=16)
    np.testing.assert_array_equal(program.predict(X_test), model.predict(X_test))


def test_pruning_finds_no_room_for_a_leaf():
    X, _, y, _ = split("diabetes")
    with pytest.raises(ValueError, match=r"'max_bytes' .* must be at least \d+ for these data"):
        CompactBoostingRegressor(1, **SEED).fit(X, y)


def test_weights_of_zero_leave_rows_out_of_pruning():
    X, _, y, _ = split("diabetes")
    weight = (np.arange(len(X)) % 3 > 0).astype(float)
    with_weights = CompactBoostingRegressor(400, **SEED).fit(X, y, sample_weight=weight)
    without = CompactBoostingRegressor(400, **SEED).fit(X[weight > 0], y[weight > 0])
    np.testing.assert_array_equal(with_weights.predict(X), without.predict(X))


def test_a_price_makes_thresholds_few():
    X, _, y, _ = split("cancer")
    parameters = {"max_iter": 10, "max_leaf_nodes": 8, **SEED}
    free, charged = (
        CompactBoostingClassifier(threshold_penalty=p, **parameters).fit(X, y) for p in (0.0, 0.01)
    )
    assert n_tests(charged) < n_tests(free)


def test_a_price_makes_features_few():
    X, _, y, _ = split("digits")
    parameters = {"max_iter": 10, "max_leaf_nodes": 8, **SEED}
    free, charged = (
        CompactBoostingClassifier(feature_penalty=p, **parameters).fit(X, y) for p in (0.0, 0.02)
    )
    used = [len(np.unique(m.trees_.feature[~m.trees_.is_leaf])) for m in (free, charged)]
    assert used[1] < used[0]


@pytest.mark.parametrize("refine", [True, False])
def test_leaves_share_few_rows_of_values(refine):
    X, _, y, _ = split("digits")
    model = CompactBoostingClassifier(1500, n_codes=20, refine=refine, **SEED).fit(X, y)
    leaves = model.trees_.value[model.trees_.is_leaf]
    assert len(np.unique(leaves, axis=0)) <= 20


def test_parameters_bound_the_trees():
    X, _, y, _ = split("digits")
    model = CompactBoostingClassifier(max_iter=3, max_leaf_nodes=5, **SEED).fit(X, y)
    assert len(model.trees_.root) == model.n_iter_ == 3
    assert model.trees_.is_leaf.sum() == 15


@pytest.mark.parametrize("max_bytes", [None, 1500])
def test_trees_stay_small_where_others_stay_smaller(max_bytes):
    X, y = data("iris")
    model = CompactBoostingClassifier(max_bytes, max_iter=40, max_leaf_nodes=8, **SEED).fit(X, y)
    assert np.bincount(model.trees_.tree[model.trees_.is_leaf]).max() <= 8


def test_trees_have_a_leaf_for_each_class_where_large_ones_leave_nothing_to_learn():
    X, _, y, _ = split("digits")
    easy = CompactBoostingClassifier(1024, **SEED).fit(X, y)
    hard = CompactBoostingClassifier(1024, **SEED).fit(X, np.random.default_rng(0).permutation(y))
    assert easy.trees_.is_leaf.sum() <= 10 * easy.n_iter_
    assert hard.trees_.is_leaf.sum() > 15 * hard.n_iter_


def test_trees_stay_large_where_small_ones_leave_much(monkeypatch):
    X, _, y, _ = split("digits")
    y = np.random.default_rng(0).permutation(y)
    large = CompactBoostingClassifier(1024, **SEED).fit(X, y)
    monkeypatch.setattr(compact_boosting, "_EASY", 1.0)
    tried = CompactBoostingClassifier(1024, **SEED).fit(X, y)
    np.testing.assert_array_equal(large.trees_.value, tried.trees_.value)


def test_few_passes_use_some_of_the_bytes(monkeypatch):
    X, _, y, _ = split("cancer")
    monkeypatch.setattr(compact_boosting, "_PASSES", 1)
    model = CompactBoostingClassifier(150, **SEED).fit(X, y)
    assert 50 < model.n_model_bytes_ <= 150


def test_one_class_of_targets_needs_no_tree():
    X = np.arange(20.0)[:, None]
    model = CompactBoostingRegressor(max_iter=2, **SEED).fit(X, np.full(20, 3.0))
    np.testing.assert_allclose(model.predict(X), 3.0, rtol=2**-7)


def test_impossible_bytes():
    X, _, y, _ = split("digits")
    with pytest.raises(ValueError, match="'max_bytes' parameter of CompactBoostingClassifier must"):
        CompactBoostingClassifier(5).fit(X, y)


def test_weights_count():
    X, _, y, _ = split("cancer")
    weight = np.where(y == 1, 50.0, 1.0)
    plain, weighted = (
        CompactBoostingClassifier(200, **SEED).fit(X, y, sample_weight=w) for w in (None, weight)
    )
    assert (weighted.predict(X) == 1).sum() > (plain.predict(X) == 1).sum()


def test_probabilities_fit():
    X, X_test, y, y_test = split("digits")
    proba = CompactBoostingClassifier(2048, **SEED).fit(X, y).predict_proba(X_test)
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    assert -np.log(proba[np.arange(len(y_test)), y_test]).mean() < 0.4


def test_the_same_seed_gives_the_same_forest():
    X, _, y, _ = split("digits")
    model = CompactBoostingClassifier(600, random_state=3)
    a, b = (clone(model).fit(X, y).trees_ for _ in range(2))
    np.testing.assert_array_equal(a.value, b.value)
