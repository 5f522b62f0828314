"""LightGBM's estimators and text: what is read predicts what LightGBM predicts."""

import numpy as np
import pytest
from instances import MODELS, data

import tinyml
from tinyml.codegen.lower import lowered

lightgbm = pytest.importorskip("lightgbm")
FEW = {"n_estimators": 8, "num_leaves": 10, "n_jobs": 1, "verbose": -1, "random_state": 0}


def classifier(**parameters):
    return lightgbm.LGBMClassifier(**{**FEW, **parameters})


def regressor(**parameters):
    return lightgbm.LGBMRegressor(**{**FEW, **parameters})


BAGS = {"subsample": 0.5, "subsample_freq": 1}
MODELS_OF_LIGHTGBM = {
    "defaults": classifier(),
    "one_against_all": classifier(objective="multiclassova"),
    "dart": classifier(boosting_type="dart", drop_rate=0.5),
    "forest": classifier(boosting_type="rf", **BAGS),
    "steep": classifier(sigmoid=3.0),
    "balanced": classifier(class_weight="balanced"),
    "extra": classifier(extra_trees=True),
}


@pytest.mark.parametrize("data_set", ["digits", "even_digits", "mixed"])
@pytest.mark.parametrize("name", MODELS_OF_LIGHTGBM)
def test_every_row_is_decided_as_lightgbm_does(name, data_set):
    X, y = data(data_set)
    train = np.arange(len(X)) % 2 == 0
    if name == "one_against_all" and len(np.unique(y)) == 2:
        pytest.skip("LightGBM wants more classes")
    model = MODELS_OF_LIGHTGBM[name].fit(X[train], y[train])
    program = tinyml.compile(model, X[train])
    np.testing.assert_array_equal(program.predict(X), model.predict(X))


@pytest.mark.parametrize("name", sorted({*MODELS_OF_LIGHTGBM} - {"one_against_all"}))
@pytest.mark.parametrize("data_set", ["iris", "cancer"])
def test_probabilities_are_those_of_lightgbm(name, data_set):
    X, y = data(data_set)
    model = MODELS_OF_LIGHTGBM[name].fit(X, y)
    read = tinyml.read_forest(model.booster_)
    np.testing.assert_allclose(read.predict_proba(X), model.predict_proba(X), rtol=1e-9)


def test_one_against_all_has_no_probabilities():
    """Those of LightGBM do not sum to 1."""
    read = tinyml.read_forest(MODELS_OF_LIGHTGBM["one_against_all"].fit(*data("iris")).booster_)
    assert not hasattr(read, "predict_proba")


def test_early_stopping():
    """A booster predicts with the trees of its best iteration, and so does what is read."""
    X, y = data("cancer")
    rows = lightgbm.Dataset(X[:300], y[:300])
    booster = lightgbm.train(
        {"objective": "binary", "learning_rate": 1.0, "verbose": -1, "num_threads": 1},
        rows,
        60,
        valid_sets=[lightgbm.Dataset(X[300:], y[300:], reference=rows)],
        callbacks=[lightgbm.early_stopping(2, verbose=False)],
    )
    read = tinyml.read_forest(booster)
    assert len(read.boosted.trees) == booster.best_iteration < 60
    np.testing.assert_allclose(read.predict_proba(X)[:, 1], booster.predict(X), rtol=1e-9)


@pytest.mark.parametrize("name", ["lightgbm_wine.txt", "lightgbm_mixed.txt"])
def test_a_file_is_its_booster(name):
    X, _ = data(name.split("_")[1].split(".")[0])
    booster = lightgbm.Booster(model_file=MODELS / name)
    of_file, of_booster = tinyml.read_forest(MODELS / name), tinyml.read_forest(booster)
    np.testing.assert_array_equal(of_file.decision_function(X), of_booster.decision_function(X))


def test_names_of_columns():
    pandas = pytest.importorskip("pandas")
    X, y = data("iris")
    frame = pandas.DataFrame(X, columns=["a", "b", "c", "d"])
    booster = classifier().fit(frame, y).booster_
    assert list(tinyml.read_forest(booster).feature_names_in_) == ["a", "b", "c", "d"]


def test_trees_of_one_leaf():
    X, y = data("diabetes")
    model = regressor(min_child_samples=400).fit(X, y)
    program = tinyml.compile(model, X)
    np.testing.assert_allclose(program.predict(X), model.predict(X), rtol=1e-3)


def test_categories():
    X, y = data("categories")
    model = classifier(min_data_per_group=1, cat_smooth=1.0).fit(X, y, categorical_feature=[0, 1])
    assert "cat_threshold=" in model.booster_.model_to_string()
    rows = np.vstack([X, X[:30]])
    rows[-30:-10, 0], rows[-10:, 1] = 90, np.nan
    graph = lowered(model, X.shape[1])
    raw = model.booster_.predict(rows, raw_score=True)
    np.testing.assert_allclose(graph.evaluate(rows)[:, 0], raw, rtol=1e-9, atol=1e-9)
    program = tinyml.compile(model, rows, bits=16)
    np.testing.assert_array_equal(program.predict(rows), model.predict(rows))


@pytest.mark.parametrize("fit_on_holes", [True, False])
def test_missing_values(fit_on_holes):
    """Fitted without holes, LightGBM takes them for 0."""
    X, y = data("holes")
    seen = X if fit_on_holes else np.nan_to_num(X)
    model = classifier().fit(seen, y)
    raw = model.booster_.predict(X, raw_score=True)
    np.testing.assert_allclose(lowered(model, X.shape[1]).evaluate(X)[:, 0], raw, atol=1e-9)
    program = tinyml.compile(model, X, bits=16)
    np.testing.assert_array_equal(program.predict(X), model.predict(X))


# Refusals -----------------------------------------------------------------------------------------


def squares(y, p):
    """An objective of the user's own."""
    return p - y, np.ones_like(p)


REFUSED = {
    "LightGBM's trees with linear leaves cannot": regressor(linear_tree=True),
    "The objective 'poisson' of LightGBM cannot": regressor(objective="poisson"),
    "The objective 'regression sqrt' of LightGBM": regressor(reg_sqrt=True),
    "with the objective 'binary' cannot": regressor(objective="binary"),
    "LGBMRegressor with a custom objective cannot": regressor(objective=squares),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_refusals(sentence):
    X, y = data("cancer")
    refused(REFUSED[sentence].fit(X, y), X, sentence)


def refused(model, X, sentence):
    with pytest.raises(TypeError, match=sentence) as error:
        tinyml.compile(model, X)
    assert str(error.value).endswith(".")
    assert "\n" not in str(error.value)


def test_zeros_that_are_missing_are_refused():
    X, y = data("digits")
    refused(classifier(zero_as_missing=True).fit(X, y), X, "zero_as_missing cannot")


def test_rankers_are_refused():
    X, y = data("digits")
    model = lightgbm.LGBMRanker(**FEW).fit(X[:1700], y[:1700], group=[100] * 17)
    refused(model, X, "LGBMRanker cannot be compiled")
