"""L1-compressed forests keep their bounds, know their path, and are what runs."""

import numpy as np
import pytest
from instances import SEED, data
from sklearn.ensemble import ExtraTreesClassifier, GradientBoostingRegressor, RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

import tinyml
from tinyml.estimators import L1ForestClassifier, L1ForestRegressor, PrunedForestClassifier


def digits():
    X, y = data("digits")
    return train_test_split(X, y, random_state=0, stratify=y)


@pytest.mark.parametrize("refine", [True, False])
@pytest.mark.parametrize("max_bytes", [300, 1500])
def test_bytes_stay_within_the_bound(refine, max_bytes):
    X, X_test, y, y_test = digits()
    model = L1ForestClassifier(max_bytes=max_bytes, refine=refine, **SEED).fit(X, y)
    assert 0.6 * max_bytes < model.n_model_bytes_ <= max_bytes
    assert model.score(X_test, y_test) > {300: 0.6, 1500: 0.85}[max_bytes]
    program = tinyml.compile(model, X, bits=16)
    np.testing.assert_array_equal(program.predict(X_test), model.predict(X_test))


@pytest.mark.parametrize("n_trees", [10, 200])
def test_trees_of_which_nothing_is_left_take_no_bytes(n_trees):
    X, _, y, _ = digits()
    model = L1ForestClassifier(RandomForestClassifier(n_trees, max_leaf_nodes=16), **SEED)
    model.set_params(max_bytes=400).fit(X, y)
    assert model.n_model_bytes_ <= 400
    assert not model.trees_.is_leaf[model.trees_.root].any()


def test_nodes_stay_within_the_bound():
    X, _, y, _ = digits()
    model = L1ForestClassifier(max_nodes=101, **SEED).fit(X, y)
    assert 70 <= model.n_nodes_ <= 101


def test_the_path_says_what_can_be_had():
    X, _, y, _ = digits()
    model = L1ForestClassifier(max_bytes=3000, **SEED).fit(X, y)
    path = model.path_
    assert np.all(np.diff(path["penalty"]) < 0)
    assert np.all(np.diff(path["loss"]) < 0)
    k = len(path) // 2
    picked, whole = model.path(X, y, [int(path["n_bytes"][k]), 3000])
    assert picked.n_model_bytes_ <= path["n_bytes"][k]
    assert picked.n_nodes_ >= path["n_nodes"][k]
    np.testing.assert_array_equal(whole.decision_function(X), model.decision_function(X))


def test_unrefined_leaves_are_the_linear_model():
    X, y = data("cancer")
    model = L1ForestClassifier(max_bytes=10**6, refine=False, n_penalties=12, **SEED).fit(X, y)
    margin = np.where(y == model.classes_[1], 1, -1) * model.decision_function(X)
    loss = np.logaddexp(0, -margin).mean()
    np.testing.assert_allclose(loss, model.path_["loss"][-1], rtol=1e-6)


def test_a_frozen_forest_is_taken_as_it_is():
    X, X_test, y, y_test = digits()
    forest = ExtraTreesClassifier(20, max_leaf_nodes=64, **SEED).fit(X, y)
    model = L1ForestClassifier(FrozenEstimator(forest), max_bytes=1500, **SEED).fit(X, y)
    assert len(model.trees_.root) <= 20
    assert model.score(X_test, y_test) > 0.93


def test_regression():
    X, y = data("diabetes")
    X, X_test, y, y_test = train_test_split(X, y, random_state=0)
    model = L1ForestRegressor(max_bytes=400, **SEED).fit(X, y)
    assert model.n_model_bytes_ <= 400
    assert model.score(X_test, y_test) > 0.2
    boosted = L1ForestRegressor(GradientBoostingRegressor(), max_bytes=400, **SEED).fit(X, y)
    assert boosted.score(X_test, y_test) > 0.1


def test_without_a_bound_the_tolerance_decides():
    X, _, y, _ = digits()
    forest = RandomForestClassifier(10, max_leaf_nodes=32, **SEED)
    sizes = [
        L1ForestClassifier(forest, tolerance=t, **SEED).fit(X, y).n_model_bytes_ for t in (0.0, 0.1)
    ]
    assert sizes[1] < sizes[0]


def test_progress_is_shown(capsys):
    X, y = data("iris")
    L1ForestClassifier(max_bytes=200, verbose=True, **SEED).fit(X, y)
    assert "L1Forest" in capsys.readouterr().err


def test_the_same_seed_gives_the_same_forest():
    X, _, y, _ = digits()
    a, b = (L1ForestClassifier(max_bytes=600, random_state=3).fit(X, y).trees_ for _ in range(2))
    np.testing.assert_array_equal(a.value, b.value)
    np.testing.assert_array_equal(a.threshold, b.threshold)


def test_impossible_bytes():
    X, _, y, _ = digits()
    with pytest.raises(ValueError, match="'max_bytes' parameter of L1ForestClassifier must be"):
        L1ForestClassifier(max_bytes=3, **SEED).fit(X, y)


@pytest.mark.parametrize("cls", [L1ForestClassifier, PrunedForestClassifier])
def test_two_rows_and_no_bound(cls):
    X, y = data("iris")
    model = cls(**SEED).fit(X[[0, 149]], y[[0, 149]])
    assert model.n_model_bytes_ < 20


def test_a_path_without_sizes():
    X, y = data("iris")
    with pytest.raises(ValueError, match="'max_bytes' parameter of path must hold a number"):
        L1ForestClassifier().path(X, y, [])


def test_what_is_no_forest():
    X, y = data("wine")
    with pytest.raises(TypeError, match="'estimator' parameter must be a forest, a tree or"):
        L1ForestClassifier(LogisticRegression(max_iter=10_000), max_bytes=500).fit(X, y)
