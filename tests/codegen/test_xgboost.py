"""XGBoost's estimators and documents: what is read predicts what XGBoost predicts."""

import json

import numpy as np
import pytest
from instances import MODELS, data
from sklearn.base import clone

import tinyml
from tinyml.codegen.lower import lowered
from tinyml.codegen.read_xgboost import read_xgboost

xgboost = pytest.importorskip("xgboost")
FEW = {"n_estimators": 8, "max_depth": 4, "n_jobs": 1, "random_state": 0}


def classifier(**parameters):
    return xgboost.XGBClassifier(**{**FEW, **parameters})


def regressor(**parameters):
    return xgboost.XGBRegressor(**{**FEW, **parameters})


MODELS_OF_XGBOOST = {
    "defaults": classifier(),
    "hinge": classifier(objective="binary:hinge"),
    "softmax": classifier(objective="multi:softmax"),
    "dart": classifier(booster="dart", rate_drop=0.5, skip_drop=0.1),
    "parallel": classifier(n_estimators=2, num_parallel_tree=3, subsample=0.5),
    "forest": classifier(n_estimators=1, num_parallel_tree=3, colsample_bynode=0.8, subsample=0.8),
    "pruned": classifier(tree_method="exact", gamma=2.0, max_depth=6),
    "given_start": classifier(base_score=0.3),
    "leaf_wise": classifier(grow_policy="lossguide", max_leaves=9, max_depth=0),
}


@pytest.mark.parametrize("data_set", ["digits", "even_digits", "mixed"])
@pytest.mark.parametrize("name", MODELS_OF_XGBOOST)
def test_every_row_is_decided_as_xgboost_does(name, data_set):
    """Whole numbers that lie on thresholds, which XGBoost sends to the right, are among them."""
    X, y = data(data_set)
    if name == ("softmax" if len(np.unique(y)) == 2 else "hinge"):
        pytest.skip("XGBoost wants more classes, or fewer")
    train = np.arange(len(X)) % 2 == 0
    model = clone(MODELS_OF_XGBOOST[name]).fit(X[train], y[train])
    program = tinyml.compile(model, X[train])
    np.testing.assert_array_equal(program.predict(X), model.predict(X))


@pytest.mark.parametrize("data_set", ["digits", "cancer"])
def test_margins_are_those_of_xgboost(data_set):
    X, y = data(data_set)
    y = np.where(np.arange(len(y)) % 3, y, y.max())  # classes of unlike size
    model = classifier().fit(X, y)
    scores = np.squeeze(lowered(model, X.shape[1]).evaluate(X))
    np.testing.assert_allclose(scores, model.predict(X, output_margin=True), rtol=1e-5, atol=1e-5)


def test_early_stopping():
    X, y = data("digits")
    model = classifier(n_estimators=60, learning_rate=1.0, early_stopping_rounds=2)
    model.fit(X[:900], y[:900], eval_set=[(X[900:], y[900:])], verbose=False)
    graph = lowered(model, 64)
    assert len(graph.scores.trees) == 10 * (model.best_iteration + 1)
    assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
    np.testing.assert_allclose(
        graph.evaluate(X), model.predict(X, output_margin=True), rtol=1e-4, atol=1e-5
    )


def test_pruned_nodes_are_left_out():
    X, y = data("cancer")
    model = clone(MODELS_OF_XGBOOST["pruned"]).fit(X, y)
    document = json.loads(model.get_booster().save_raw("json"))["learner"]
    stored = document["gradient_booster"]["model"]["trees"]
    trees = lowered(model, X.shape[1]).scores.trees
    assert any(tree["tree_param"]["num_deleted"] != "0" for tree in stored)
    for tree in trees:
        assert tree.is_leaf.sum() == (len(tree.left) + 1) // 2


@pytest.mark.parametrize("name", ["xgboost_digits.json", "xgboost_cancer.ubj"])
def test_a_file_is_its_booster(name):
    X, _ = data(name.split("_")[1].split(".")[0])
    booster = xgboost.Booster(model_file=MODELS / name)
    of_file, of_booster = tinyml.read_forest(MODELS / name), tinyml.read_forest(booster)
    np.testing.assert_array_equal(of_file.decision_function(X), of_booster.decision_function(X))


def test_json_and_ubjson_say_the_same():
    X, y = data("diabetes")
    booster = regressor().fit(X, y).get_booster()
    one, two = (read_xgboost(bytes(booster.save_raw(kind))) for kind in ("json", "ubj"))
    for a, b in zip(one.trees, two.trees, strict=True):
        np.testing.assert_array_equal(a.threshold, b.threshold)
        np.testing.assert_array_equal(a.value, b.value)


def test_names_of_columns():
    pandas = pytest.importorskip("pandas")
    X, y = data("iris")
    frame = pandas.DataFrame(X, columns=list("abcd"))
    model = classifier().fit(frame, np.unique(y, return_inverse=True)[1])
    assert list(tinyml.read_forest(model.get_booster()).feature_names_in_) == list("abcd")
    np.testing.assert_array_equal(
        tinyml.compile(model, frame, bits=16).predict(frame), model.predict(frame)
    )


def test_regressors_of_several_targets():
    X, y = data("two_targets")
    model = regressor().fit(X, y)
    graph = lowered(model, X.shape[1])
    np.testing.assert_allclose(graph.evaluate(X), model.predict(X), rtol=1e-4)


@pytest.mark.parametrize("one_hot", [1, 100])
def test_categories(one_hot):
    """Those of a set go to the right, unknown ones to the left, missing ones by default."""
    X, y = data("categories")
    kinds = {"feature_types": list("ccqqq"), "enable_categorical": True}
    model = classifier(max_cat_to_onehot=one_hot, **kinds).fit(X, y)
    rows = np.vstack([X, X[:30]])
    rows[-10:, 1] = np.nan
    margin = model.predict(rows, output_margin=True)
    graph = lowered(model, X.shape[1])
    np.testing.assert_allclose(graph.evaluate(rows)[:, 0], margin, rtol=1e-5, atol=1e-5)
    program = tinyml.compile(model, rows, bits=16)
    np.testing.assert_array_equal(program.predict(rows), model.predict(rows))


@pytest.mark.parametrize("fit_on_holes", [True, False])
def test_missing_values(fit_on_holes):
    X, y = data("holes")
    seen = X if fit_on_holes else np.nan_to_num(X)
    model = classifier().fit(seen, y)
    margin = model.predict(X, output_margin=True)
    scores = lowered(model, X.shape[1]).evaluate(X)[:, 0]
    np.testing.assert_allclose(scores, margin, rtol=1e-5, atol=1e-5)
    program = tinyml.compile(model, X, bits=16)
    np.testing.assert_array_equal(program.predict(X), model.predict(X))


# Refusals -----------------------------------------------------------------------------------------


def squares(y, p):
    """An objective of the user's own."""
    return p - y, np.ones_like(p)


REFUSED = {
    "The booster 'gblinear' of XGBoost cannot": classifier(booster="gblinear", max_depth=None),
    "The objective 'binary:logitraw' of XGBoost": classifier(objective="binary:logitraw"),
    "The objective 'count:poisson' of XGBoost": regressor(objective="count:poisson"),
    "with the objective 'binary:logistic' cannot": regressor(objective="binary:logistic"),
    "XGBRegressor with a custom objective cannot": regressor(objective=squares),
    "XGBRegressor with missing=0 cannot": regressor(missing=0),
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


def test_trees_of_several_targets_are_refused():
    X, y = data("two_targets")
    model = regressor(multi_strategy="multi_output_tree", tree_method="hist").fit(X, y)
    refused(model, X, "trees with several targets each cannot")


def test_several_labels_are_refused():
    X, y = data("cancer")
    refused(classifier().fit(X, np.c_[y, 1 - y]), X, "with several targets cannot")


def test_rankers_are_refused():
    X, y = data("digits")
    model = xgboost.XGBRanker(**FEW).fit(X, y, qid=np.arange(len(y)) // 100)
    refused(model, X, "XGBRanker cannot be compiled")
