"""Pruned forests keep their bounds, take any forest, and are what runs."""

import numpy as np
import pytest
from instances import SEED, data
from sklearn.base import clone
from sklearn.datasets import make_friedman1
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import r2_score
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

import tinyml
from tinyml.estimators import PrunedForestClassifier, PrunedForestRegressor

METHODS = ("cost-complexity", "budget", "depth", "levels")


def digits():
    X, y = data("digits")
    return train_test_split(X, y, random_state=0, stratify=y)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("refine", [True, False])
@pytest.mark.parametrize("max_bytes", [300, 1500])
def test_bytes_stay_within_the_bound(method, refine, max_bytes):
    X, X_test, y, y_test = digits()
    model = PrunedForestClassifier(method=method, refine=refine, max_bytes=max_bytes, **SEED)
    model.fit(X, y)
    assert 0.4 * max_bytes < model.n_model_bytes_ <= max_bytes
    least = {300: 0.6, 1500: 0.85} if refine or method == "levels" else {300: 0.3, 1500: 0.6}
    assert model.score(X_test, y_test) > least[max_bytes]


@pytest.mark.parametrize("max_bytes", [800, 1500, 3000])
def test_levels_leave_little_unused(max_bytes):
    X, _, y, _ = digits()
    forest = RandomForestClassifier(60, **SEED)
    model = PrunedForestClassifier(forest, method="levels", max_bytes=max_bytes, **SEED).fit(X, y)
    assert 0.95 * max_bytes < model.n_model_bytes_ <= max_bytes


def test_nodes_stay_within_the_bound():
    X, _, y, _ = digits()
    model = PrunedForestClassifier(max_nodes=61, **SEED).fit(X, y)
    assert 50 <= model.n_nodes_ <= 61


@pytest.mark.parametrize("refine", [True, False])
def test_the_program_decides_like_the_model(refine):
    X, X_test, y, _ = digits()
    model = PrunedForestClassifier(max_bytes=1500, refine=refine, **SEED).fit(X, y)
    program = tinyml.compile(model, X, bits=16)
    np.testing.assert_array_equal(program.predict(X_test), model.predict(X_test))


def test_refined_leaves_are_exact_at_eight_bits():
    X, X_test, y, _ = digits()
    model = PrunedForestClassifier(max_bytes=1500, **SEED).fit(X, y)
    program = tinyml.compile(model, X, bits=8)
    np.testing.assert_array_equal(
        program.decision_function(X_test), model.decision_function(X_test)
    )


@pytest.mark.parametrize("estimator", [
    DecisionTreeClassifier(),
    ExtraTreesClassifier(5),
    GradientBoostingClassifier(n_estimators=5),
])  # fmt: skip
def test_any_forest_can_be_pruned(estimator):
    X, X_test, y, y_test = digits()
    model = PrunedForestClassifier(estimator, max_bytes=1000, **SEED).fit(X, y)
    assert model.n_model_bytes_ <= 1000
    assert model.score(X_test, y_test) > 0.75


def test_a_frozen_forest_is_taken_as_it_is():
    X, X_test, y, y_test = digits()
    forest = RandomForestClassifier(8, **SEED).fit(X, y)
    model = PrunedForestClassifier(FrozenEstimator(forest), max_bytes=1500, **SEED).fit(X, y)
    grown = set(zip(*_splits([tree.tree_ for tree in forest.estimators_]), strict=True))
    kept = ~model.trees_.is_leaf
    assert {int(f) for f in model.trees_.feature[kept]} <= {int(f) for f, _ in grown}
    assert model.score(X_test, y_test) > 0.85


def _splits(trees):
    inner = [tree.children_left >= 0 for tree in trees]
    feature = np.concatenate([t.feature[i] for t, i in zip(trees, inner, strict=True)])
    threshold = np.concatenate([t.threshold[i] for t, i in zip(trees, inner, strict=True)])
    return feature, threshold


def test_a_tenth_of_the_bytes_loses_little():
    X, X_test, y, y_test = digits()
    forest = RandomForestClassifier(100, **SEED).fit(X, y)
    whole = PrunedForestClassifier(
        FrozenEstimator(forest), max_nodes=10**9, refine=False, **SEED
    ).fit(X, y)
    tenth = PrunedForestClassifier(
        FrozenEstimator(forest), max_bytes=whole.n_model_bytes_ // 10, **SEED
    ).fit(X, y)
    assert tenth.score(X_test, y_test) > forest.score(X_test, y_test) - 0.015


def test_a_path_keeps_its_bounds_and_grows_one_forest():
    X, _, y, _ = digits()
    bounds = [2000, 500, 1000]
    models = PrunedForestClassifier(**SEED).path(X, y, bounds)
    assert [m.max_bytes for m in models] == bounds
    assert all(m.n_model_bytes_ <= b for m, b in zip(models, bounds, strict=True))
    alone = PrunedForestClassifier(max_bytes=2000, **SEED).fit(X, y)
    np.testing.assert_array_equal(models[0].decision_function(X), alone.decision_function(X))


@pytest.mark.parametrize("method", METHODS)
def test_models_of_a_path_are_about_as_good_as_those_of_fits(method):
    X, X_test, y, y_test = digits()
    forest = FrozenEstimator(RandomForestClassifier(20, **SEED).fit(X, y))
    bounds = [3000, 2000, 1300, 900]
    parameters = {"method": method, **SEED}
    models = PrunedForestClassifier(forest, **parameters).path(X, y, bounds)
    for bound, model in zip(bounds, models, strict=True):
        alone = PrunedForestClassifier(forest, max_bytes=bound, **parameters).fit(X, y)
        assert 0.7 * bound < model.n_model_bytes_ <= bound
        assert model.score(X_test, y_test) > alone.score(X_test, y_test) - 0.03


def test_without_a_bound_the_tolerance_decides():
    X, _, y, _ = digits()
    forest = RandomForestClassifier(5, **SEED)
    sizes = [
        PrunedForestClassifier(forest, tolerance=t, **SEED).fit(X, y).n_model_bytes_
        for t in (0.0, 0.1)
    ]
    assert sizes[1] < sizes[0]


def test_costs_of_features_are_heeded():
    X, y = data("wine")
    costs = np.ones(X.shape[1])
    dear = np.argsort(RandomForestClassifier(20, **SEED).fit(X, y).feature_importances_)[-3:]
    costs[dear] = 1000.0
    parameters = {"method": "budget", "max_nodes": 60, "feature_costs": costs, **SEED}
    model = PrunedForestClassifier(RandomForestClassifier(20), **parameters).fit(X, y)
    splits = model.trees_.feature[~model.trees_.is_leaf]
    assert not np.isin(splits, dear).any()


def test_regression():
    X, y = data("diabetes")
    model = PrunedForestRegressor(max_bytes=600, **SEED)
    assert cross_val_score(model, X, y).mean() > 0.38
    assert model.fit(X, y).n_model_bytes_ <= 600
    program = tinyml.compile(model, X, bits=16)
    assert np.abs(program.predict(X) - model.predict(X)).max() < 0.02 * np.ptp(y)


def test_boosted_regression():
    X, X_test, y, y_test = train_test_split(*data("diabetes"), random_state=0)
    model = PrunedForestRegressor(GradientBoostingRegressor(), max_bytes=400, **SEED).fit(X, y)
    assert model.score(X_test, y_test) > 0.2


@pytest.mark.parametrize("method", METHODS)
def test_refitting_deep_trees_of_few_rows_loses_nothing(method):
    X, y = make_friedman1(3000, random_state=0)
    X, X_test, y, y_test = train_test_split(X, y, random_state=0)
    forest = FrozenEstimator(RandomForestRegressor(5, **SEED).fit(X, y))
    model = PrunedForestRegressor(forest, method=method, max_bytes=6000, **SEED)
    scores = [model.set_params(refine=r).fit(X, y).score(X_test, y_test) for r in (False, True)]
    assert scores[1] > scores[0]


@pytest.mark.parametrize("method", METHODS)
def test_targets_far_from_zero(method):
    X, y = make_friedman1(500, random_state=0)
    model = PrunedForestRegressor(method=method, max_bytes=1000, **SEED)
    far = clone(model).fit(X, 1e6 + y).predict(X) - 1e6
    assert r2_score(y, far) > model.fit(X, y).score(X, y) - 0.05


def test_impossible_bytes():
    X, _, y, _ = digits()
    with pytest.raises(ValueError, match="'max_bytes' parameter of PrunedForestClassifier must be"):
        PrunedForestClassifier(max_bytes=3, **SEED).fit(X, y)


@pytest.mark.parametrize("estimator", [
    LogisticRegression(max_iter=10_000), make_pipeline(StandardScaler(), DecisionTreeClassifier()),
])  # fmt: skip
def test_what_is_no_forest(estimator):
    X, y = data("wine")
    with pytest.raises(TypeError, match="'estimator' parameter must be a forest, a tree or"):
        PrunedForestClassifier(estimator, max_bytes=500).fit(X, y)


def test_wrong_costs():
    X, y = data("wine")
    model = PrunedForestClassifier(method="budget", max_bytes=500, feature_costs=[1.0, 2.0])
    with pytest.raises(
        ValueError, match="'feature_costs' parameter of PrunedForestClassifier must"
    ):
        model.fit(X, y)


def test_the_same_seed_gives_the_same_forest():
    X, _, y, _ = digits()
    model = PrunedForestClassifier(max_bytes=800, random_state=3)
    a, b = (clone(model).fit(X, y).trees_ for _ in range(2))
    np.testing.assert_array_equal(a.value, b.value)
    np.testing.assert_array_equal(a.threshold, b.threshold)


@pytest.mark.parametrize("refine", [True, False])
@pytest.mark.parametrize("bits", [8, "auto", 16])
def test_programs_of_pruned_boosted_trees_keep_the_bound(refine, bits):
    X, y = data("diabetes")
    grower = HistGradientBoostingRegressor(max_iter=60, max_leaf_nodes=8, **SEED)
    model = PrunedForestRegressor(grower, max_bytes=700, refine=refine, **SEED).fit(X, y)
    program = tinyml.compile(model, X, bits=bits)
    assert 500 < program.table_bytes <= model.n_model_bytes_ <= 700
    assert model.score(X, y) > 0.5
