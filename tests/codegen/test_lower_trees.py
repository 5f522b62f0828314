"""Ensembles of scikit-learn decide as scikit-learn does, ties included; the rest is refused."""

import numpy as np
import pytest
from instances import INSTANCES, SEED, data, fitted
from sklearn import config_context
from sklearn.base import is_classifier
from sklearn.ensemble import (
    AdaBoostClassifier,
    AdaBoostRegressor,
    BaggingClassifier,
    BaggingRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
)
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

import tinyml
from tinyml.codegen.lower import lowered
from tinyml.estimators import PrunedForestClassifier
from tinyml.training.trees import Trees

SHALLOW = DecisionTreeClassifier(max_depth=5, **SEED)
ENSEMBLES = {
    "bagging": BaggingClassifier(SHALLOW, 20, max_features=0.4, **SEED),
    "bagging_without_repetition": BaggingClassifier(SHALLOW, 10, bootstrap=False, **SEED),
    "bagging_features_repeated": BaggingClassifier(SHALLOW, 10, bootstrap_features=True, **SEED),
    "adaboost": AdaBoostClassifier(SHALLOW, n_estimators=20, **SEED),
    "adaboost_stumps": AdaBoostClassifier(n_estimators=30, **SEED),
    "boosting": GradientBoostingClassifier(n_estimators=20, **SEED),
    "boosting_zero": GradientBoostingClassifier(n_estimators=20, init="zero", **SEED),
    "histograms": HistGradientBoostingClassifier(max_iter=20, early_stopping=False, **SEED),
    "isolation": IsolationForest(n_estimators=50, contamination=0.1, **SEED),
    "isolation_auto": IsolationForest(n_estimators=50, max_features=0.3, max_samples=100, **SEED),
}


@pytest.mark.parametrize("data_set", ["digits", "even_digits", "mixed"])
@pytest.mark.parametrize("name", ENSEMBLES)
def test_every_row_is_decided_as_scikit_learn_does(name, data_set):
    X, y = data(data_set)
    train = np.arange(len(X)) % 2 == 0
    model = ENSEMBLES[name].fit(X[train], y[train])
    program = tinyml.compile(model, X[train], bits=16)
    np.testing.assert_array_equal(program.predict(X), model.predict(X))


def test_trees_that_know_few_classes():
    """With routing, scikit-learn draws rows and not weights, so that rare classes may be absent."""
    X, y = data("digits")
    with config_context(enable_metadata_routing=True):
        model = BaggingClassifier(SHALLOW, 30, max_samples=12, **SEED).fit(X, y)
    assert min(len(tree.classes_) for tree in model.estimators_) < 10
    scores = lowered(model, 64).evaluate(X)
    np.testing.assert_allclose(scores / 30, model.predict_proba(X), atol=1e-12)


def test_labels_of_any_kind():
    X, y = data("iris")
    for model in (SHALLOW, ENSEMBLES["bagging"], ENSEMBLES["adaboost"]):
        program = tinyml.compile(model.fit(X, y), X)
        assert set(program.predict(X)) <= {"setosa", "versicolor", "virginica"}


# Ties ---------------------------------------------------------------------------------------------


def opposed_stumps(n_classes):
    """Two trees that never agree, with one weight."""
    X = np.arange(4 * n_classes)[:, None]
    model = AdaBoostClassifier(DecisionTreeClassifier(max_depth=6), n_estimators=1)
    model.fit(X, X[:, 0] % n_classes)
    other = DecisionTreeClassifier(max_depth=6).fit(X, (X[:, 0] + 1) % n_classes)
    model.estimators_ = [*model.estimators_, other]
    model.estimator_weights_ = np.array([0.37, 0.37])
    return model, X


@pytest.mark.parametrize("n_classes", [2, 3, 5])
def test_equal_votes_are_decided_as_scikit_learn_does(n_classes):
    model, X = opposed_stumps(n_classes)
    np.testing.assert_array_equal(tinyml.compile(model, X).predict(X), model.predict(X))


@pytest.mark.parametrize("loss", ["log_loss", "exponential"])
def test_a_score_of_zero_is_the_second_class(loss):
    X, y = np.repeat([0, 1, 2], 4)[:, None], np.array([0, 0, 0, 0, 0, 1, 0, 1, 1, 1, 1, 1])
    model = GradientBoostingClassifier(loss=loss, n_estimators=1, init="zero").fit(X, y)
    assert model.decision_function([[1]]) == 0
    assert model.predict([[1]]) == 1
    np.testing.assert_array_equal(tinyml.compile(model, X).predict(X), model.predict(X))


@pytest.mark.parametrize("n_samples", [101, 201, 501])
def test_a_row_on_the_boundary_is_no_outlier(n_samples):
    """The tenth percentile of so many scores is one of them."""
    X = data("digits")[0][:n_samples]
    model = IsolationForest(n_estimators=20, contamination=0.1, **SEED).fit(X)
    assert np.any(model.decision_function(X) == 0)
    np.testing.assert_array_equal(tinyml.compile(model, X).predict(X), model.predict(X))


# Scores -------------------------------------------------------------------------------------------


def test_path_lengths_are_those_of_scikit_learn():
    X, _ = data("cancer")
    model = IsolationForest(n_estimators=10, max_features=0.5, **SEED).fit(X)
    scores = lowered(model, X.shape[1]).evaluate(X)[:, 0]
    n = model.max_samples_
    ordinary = 2 * (np.log(n - 1) + np.euler_gamma) - 2 * (n - 1) / n
    wanted = model.offset_ * 2 ** (-scores / (10 * ordinary))
    np.testing.assert_allclose(wanted, model.score_samples(X), rtol=1e-9)


def test_probabilities_of_weighted_votes():
    for name in ("digits", "even_digits"):
        X, y = data(name)
        model = ENSEMBLES["adaboost"].fit(X, y)
        program = tinyml.compile(model, X)
        np.testing.assert_allclose(program.predict_proba(X), model.predict_proba(X), atol=1e-3)


# Refusals -----------------------------------------------------------------------------------------


def refusals():
    trees = DecisionTreeClassifier(max_depth=2)
    linear = LogisticRegression(max_iter=3000)
    poisson = HistGradientBoostingRegressor(loss="poisson", max_iter=2)
    yield BaggingClassifier(LinearSVC(), 2), "BaggingClassifier of LinearSVC cannot"
    yield BaggingRegressor(LinearRegression(), 2), "BaggingRegressor of LinearRegression cannot"
    yield AdaBoostClassifier(linear, n_estimators=2), "AdaBoostClassifier of LogisticRegression"
    yield AdaBoostRegressor(n_estimators=2), "AdaBoostRegressor cannot be compiled; of the"
    yield GradientBoostingClassifier(init=trees), "begins from a DecisionTreeClassifier cannot"
    yield GradientBoostingRegressor(init=DecisionTreeRegressor()), "'init' must be 'zero' or None"
    yield poisson, "loss='poisson' cannot be compiled; it predicts the exponential"


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("model", "sentence"), list(refusals()))
def test_refusals(model, sentence):
    X, y = data("digits")
    with pytest.raises(TypeError, match=sentence) as error:
        tinyml.compile(model.fit(X[:300], y[:300]), X)
    assert str(error.value).endswith(".")
    assert "\n" not in str(error.value)


# Missing values and categories --------------------------------------------------------------------


@pytest.mark.parametrize("name", [
    "missing_tree", "missing_forest", "missing_regressor", "missing_histograms", "categories",
    "categories_whole",
])  # fmt: skip
def test_missing_values_and_categories_go_where_they_went(name):
    X, _ = data(INSTANCES[name].data)
    model, graph = fitted(name), lowered(fitted(name), X.shape[1])
    scores = graph.evaluate(X)
    if is_classifier(model):
        decided = scores.argmax(axis=1) if scores.shape[1] > 1 else (scores[:, 0] > 0).astype(int)
        np.testing.assert_array_equal(model.classes_[decided], model.predict(X))
    else:
        np.testing.assert_allclose(scores[:, 0], model.predict(X), rtol=1e-9, atol=1e-9)
    program = tinyml.compile(model, X, bits=16)
    np.testing.assert_allclose(program.predict(X), model.predict(X), atol=1e-3)


def test_what_is_missing_alone_can_be_asked_for():
    """A split at infinity parts what is missing from all other values."""
    X, y = np.zeros((60, 1)), np.arange(60) % 3
    X[:, 0] = np.where(y == 0, np.nan, np.arange(60))
    model = DecisionTreeClassifier().fit(X, y == 0)
    assert np.isinf(model.tree_.threshold).any()
    program = tinyml.compile(model, X)
    np.testing.assert_array_equal(program.predict(X), y == 0)


def test_unknown_categories_go_where_scikit_learn_sends_them():
    X, _ = data("categories")
    model = fitted("categories")
    rows = np.repeat(X[:40], 4, axis=0)
    rows[0::4, 0], rows[1::4, 1], rows[2::4, 0], rows[3::4, 1] = 7, 45, 100, np.nan
    program = tinyml.compile(model, np.vstack([X, rows]), bits=16)
    np.testing.assert_array_equal(program.predict(rows), model.predict(rows))


def test_categories_need_an_integer_each():
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.integers(0, 250, 3000), rng.integers(0, 9, 3000) / 2])
    y = rng.permutation(250)[X[:, 0].astype(int)] % 2
    model = HistGradientBoostingClassifier(categorical_features=[0], max_iter=3).fit(X, y)
    program = tinyml.compile(model, X, bits=16)
    np.testing.assert_array_equal(program.predict(X), model.predict(X))
    with pytest.raises(TypeError, match="Categories need an integer each"):
        tinyml.compile(model, X, bits=8)


def test_categories_by_name_are_refused():
    pandas = pytest.importorskip("pandas")
    X = pandas.DataFrame({"kind": pandas.Categorical(list("abc") * 20), "size": range(60)})
    model = HistGradientBoostingClassifier(max_iter=2).fit(X, np.arange(60) % 3 == 0)
    with pytest.raises(TypeError, match="Categories must be whole numbers to be compiled"):
        lowered(model, 2)


def test_tables_do_not_know_categories():
    X, _ = data("categories")
    with pytest.raises(ValueError, match="'layout' parameter of compile must be 'auto' or 'code'"):
        tinyml.compile(fitted("categories"), X, layout="table")


def test_forests_with_categories_cannot_be_compressed():
    X, _ = data("categories")
    with pytest.raises(TypeError, match="sets of categories cannot be compressed"):
        Trees.from_node(lowered(fitted("categories"), X.shape[1]).scores)


def test_a_forest_that_knows_missing_values_can_be_compressed():
    X, y = data("mixed")
    forest = FrozenEstimator(fitted("missing_forest"))
    model = PrunedForestClassifier(forest, max_bytes=200, **SEED).fit(X, y)
    assert model.score(X, y) > 0.85
