"""Boosted trees from files, without the libraries that wrote them."""

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
from instances import MODELS, data
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import tinyml
from tinyml.codegen.read_xgboost import read_xgboost

FILES = sorted(file.name for file in MODELS.glob("*_*.*"))
PREDICTIONS = json.loads((MODELS / "predictions.json").read_text())


def rows(name):
    """The rows whose predictions by the library are stored."""
    return data(name.split("_")[1].split(".")[0])[0][::17][:12]


@pytest.mark.parametrize("name", FILES)
def test_predictions_are_those_of_the_library(name):
    model, wanted = tinyml.read_forest(MODELS / name), np.array(PREDICTIONS[name])
    if is_regressor(model):
        np.testing.assert_allclose(model.predict(rows(name)), wanted, rtol=1e-5)
        return
    if wanted.ndim == 1:
        wanted = np.column_stack([1 - wanted, wanted])
    np.testing.assert_allclose(model.predict_proba(rows(name)), wanted, atol=2e-6)
    np.testing.assert_array_equal(model.predict(rows(name)), wanted.argmax(axis=1))


@pytest.mark.parametrize("name", FILES)
def test_it_is_an_estimator(name):
    model = tinyml.read_forest(str(MODELS / name))
    X = rows(name)
    assert is_classifier(model) != is_regressor(model)
    assert model.n_features_in_ == X.shape[1]
    assert not hasattr(model, "feature_names_in_")
    for other in (clone(model), model.fit(X), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(other.predict(X), model.predict(X))
    with pytest.raises(ValueError, match="features"):
        model.predict(X[:, 1:])


def test_it_can_end_a_pipeline():
    X, y = data("cancer")
    model = make_pipeline(StandardScaler(), tinyml.read_forest(MODELS / "xgboost_cancer.ubj"))
    program = tinyml.compile(model.fit(X, y), X, bits=16)
    assert np.mean(program.predict(X) == model.predict(X)) > 0.99


def test_neither_library_is_imported():
    """Not for the package, not for a file, and not to refuse what cannot be compiled."""
    code = f"""
import sys
sys.modules["xgboost"] = sys.modules["lightgbm"] = None
import numpy as np, tinyml
from sklearn.ensemble import AdaBoostRegressor
X = np.arange(30.0).reshape(10, 3)
for name in {[str(MODELS / name) for name in FILES]!r}:
    tinyml.read_forest(name)
try:
    tinyml.compile(AdaBoostRegressor(n_estimators=2).fit(X, X[:, 0]), X)
except TypeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "AdaBoostRegressor cannot be compiled" in done.stdout


# XGBoost's documents of other versions ------------------------------------------------------------


def altered(**parameters):
    """The learner of a stored document with other parameters."""
    document = json.loads((MODELS / "xgboost_digits.json").read_text())
    document["learner"]["learner_model_param"].update(parameters)
    return document


def test_one_start_for_all_outputs():
    """Before version 3 it was one number; before 1.6 there was no number of targets."""
    document = altered(base_score="5E-1")
    del document["learner"]["learner_model_param"]["num_target"]
    boosted = read_xgboost(json.dumps(document, indent=2).encode())
    assert boosted.offset.tolist() == [0.5] * 10


def test_the_start_of_two_classes_is_a_probability():
    document = altered(base_score="[2.5E-1]", num_class="0")
    document["learner"]["objective"] = {"name": "binary:logistic"}
    boosted = read_xgboost(json.dumps(document).encode())
    np.testing.assert_allclose(boosted.offset, [np.log(1 / 3)])


# Errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "must be a file in XGBoost's JSON or UBJSON or in LightGBM's text. Got"),
        ("binf\x00\x01", "must be a file in XGBoost's JSON or UBJSON or in LightGBM's text. Got"),
        ('{"learner": {}}', "The file is no model of XGBoost: it lacks 'gradient_booster'"),
        ('{"a": 1', "The file is no complete document of JSON"),
        ("{L\x00", "The file is no complete document of UBJSON"),
        ("tree\nversion=v4\n", "The file is no complete model of LightGBM"),
        ("tree\n\nTree=0\n\nend of trees\n", "The objective 'custom' of LightGBM cannot"),
        (
            "tree\nobjective=binary\n\nTree=0\n\nend of trees\n",
            "The file is no model of LightGBM: it lacks 'num_tree_per_iteration'",
        ),
    ],
)
def test_files_of_other_kinds(tmp_path, text, sentence):
    file = tmp_path / "model"
    file.write_text(text)
    with pytest.raises((TypeError, ValueError), match=sentence) as error:
        tinyml.read_forest(file)
    assert str(error.value).endswith(".")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("source", [None, 3, b"tree", StandardScaler()])
def test_sources_of_other_kinds(source):
    with pytest.raises(TypeError, match="must be the name of a file or a Booster of"):
        tinyml.read_forest(source)


def test_a_file_that_is_not_there():
    with pytest.raises(FileNotFoundError):
        tinyml.read_forest("nowhere.json")
