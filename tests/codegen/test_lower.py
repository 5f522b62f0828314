"""What compile accepts, and the one sentence with which it refuses the rest."""

import re
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from instances import data, fitted
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import BernoulliRBM
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder, StandardScaler
from sklearn.svm import SVC, SVR
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

import tinyml
from tinyml.codegen.lower import describe, supported


@pytest.fixture(scope="module")
def iris():
    return data("iris")


def linear(weights, bias=0.0):
    """A linear model of given numbers, as if it had been fitted."""
    model = LinearRegression()
    model.coef_, model.intercept_ = np.asarray(weights, float), bias
    model.n_features_in_ = len(weights)
    return model


# Refusals -----------------------------------------------------------------------------------------


def one_sentence(error):
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 1200
    assert text.endswith(".")
    return text


@pytest.mark.parametrize("bits", [12, 0, "8", None, True, 8.5, [8]])
def test_wrong_bits(iris, bits):
    with pytest.raises(ValueError, match="'bits' parameter of compile must be 8, 16") as error:
        tinyml.compile(fitted("logistic_iris"), iris[0], bits=bits)
    one_sentence(error)


def test_unfitted(iris):
    for model in (LogisticRegression(), make_pipeline(StandardScaler(), LogisticRegression())):
        with pytest.raises(NotFittedError, match=r"is not fitted yet. Call 'fit' before compile"):
            tinyml.compile(model, iris[0])


@pytest.mark.parametrize("thing", [LogisticRegression, None, "model.pkl", 3])
def test_no_estimator(iris, thing):
    with pytest.raises(TypeError, match=r"compile needs a fitted estimator. Got") as error:
        tinyml.compile(thing, iris[0])
    one_sentence(error)


def test_unsupported_is_named_with_what_is_most_like_it(iris):
    process = GaussianProcessClassifier().fit(*iris)
    with pytest.raises(TypeError, match="GaussianProcessClassifier cannot be compiled") as error:
        tinyml.compile(process, iris[0])
    text = one_sentence(error)
    assert f"of the {len(supported())} classes that can" in text
    assert "Classifier, " in text
    inside = make_pipeline(BernoulliRBM(4), LogisticRegression()).fit(*iris)
    with pytest.raises(TypeError, match="BernoulliRBM cannot be compiled"):
        tinyml.compile(inside, iris[0])


def test_models_that_tell_nothing_apart(iris):
    X, y = iris
    constant = SVR().fit(X, np.full(len(X), 3.0))
    np.testing.assert_allclose(tinyml.compile(constant, X).predict(X), 3.0, atol=0.01)
    single = GaussianNB().fit(X[:50], y[:50])
    assert set(tinyml.compile(single, X).predict(X)) == {y[0]}
    codes = np.zeros((9, 1))
    ordinal = make_pipeline(OrdinalEncoder(), LinearRegression()).fit(codes, np.arange(9))
    np.testing.assert_allclose(tinyml.compile(ordinal, codes).predict(codes), 4.0, atol=0.02)


def test_kernels_of_others(iris):
    X, y = iris
    own = SVC(kernel=lambda a, b: a @ b.T).fit(X, y)
    for model, rows in ((own, X), (SVC(kernel="precomputed").fit(X @ X.T, y), X @ X.T)):
        with pytest.raises(TypeError, match="the kernel must be 'linear'") as error:
            tinyml.compile(model, rows)
        one_sentence(error)


@pytest.mark.parametrize("model", [SVC(), KNeighborsClassifier(3)])
def test_fitted_on_sparse_rows(iris, model):
    X, y = iris
    program = tinyml.compile(clone(model).fit(csr_matrix(X), y), X, bits=16)
    np.testing.assert_array_equal(program.predict(X), clone(model).fit(X, y).predict(X))


def test_a_transformer_at_the_end(iris):
    with pytest.raises(TypeError, match=r"ends in a predictor, .* Got StandardScaler"):
        tinyml.compile(make_pipeline(StandardScaler()).fit(iris[0]), iris[0])


def test_several_targets_of_a_classifier(iris):
    X, y = iris
    model = DecisionTreeClassifier().fit(X, np.c_[y, y])
    with pytest.raises(TypeError, match="fitted on several targets cannot be compiled") as error:
        tinyml.compile(model, X)
    one_sentence(error)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(iris, wrong):
    X = iris[0].copy()
    X[7, 1] = wrong
    with pytest.raises(ValueError, match=r"must be finite. Got NaN or infinity") as error:
        tinyml.compile(fitted("logistic_iris"), X)
    one_sentence(error)


@pytest.mark.parametrize("shape", [(10, 3), (10, 5), (10,), (0, 4), (2, 2, 4), ()])
def test_wrong_shapes(iris, shape):
    with pytest.raises(
        ValueError, match=r"'X' parameter of compile must .* Got .*instead"
    ) as error:
        tinyml.compile(fitted("logistic_iris"), np.zeros(shape))
    one_sentence(error)


def test_wrong_number_of_features_behind_a_gap():
    X, _ = data("wine")
    with pytest.raises(ValueError, match=r"must have the 13 features .* Got 5 instead"):
        tinyml.compile(fitted("pipeline_with_gaps"), X[:, :5])


def test_objects(iris):
    names = np.full((10, 4), "blue", dtype=object)
    with pytest.raises(ValueError, match=r"must be numeric. Got dtype object") as error:
        tinyml.compile(fitted("logistic_iris"), names)
    one_sentence(error)


@pytest.mark.parametrize(
    "declared", [(1, 0), (0, 0), (0, np.nan), (0, np.inf), 5, "ab", (0, 1, 2), (0, 10**12)]
)
def test_wrong_input_range(declared):
    with pytest.raises(ValueError, match="'input_range' parameter of compile must") as error:
        tinyml.compile(fitted("tree"), data("digits")[0], input_range=declared)
    one_sentence(error)


def test_tables_larger_than_the_board():
    X = np.random.default_rng(0).normal(size=(20, 12_000))
    model = linear(np.ones(12_000))
    with pytest.raises(ValueError, match=r"needs \d+ bytes .*, more than the 8192 .* attiny85"):
        tinyml.compile(model, X, board="attiny85")


# What is accepted ---------------------------------------------------------------------------------


def test_a_data_frame_is_its_array(iris):
    X, y = iris
    frame = pd.DataFrame(X, columns=list("abcd"))
    program = tinyml.compile(LogisticRegression(max_iter=500).fit(frame, y), frame)
    model = LogisticRegression(max_iter=500).fit(X, y)
    array, lists = tinyml.compile(model, X), tinyml.compile(model, X.tolist())
    assert program.to_c() == array.to_c() == lists.to_c()
    np.testing.assert_array_equal(program.predict(frame), array.predict(X))


def test_precision_of_the_rows_does_not_change_the_program(iris):
    X = iris[0].astype(np.float32)
    one, two = (tinyml.compile(fitted("logistic_iris"), rows) for rows in (X, X.astype(float)))
    np.testing.assert_array_equal(one.run(one.quantize(X)), two.run(two.quantize(X)))


@pytest.mark.parametrize("n_rows", [1, 2, 4, 5])
def test_few_rows(iris, n_rows):
    program = tinyml.compile(fitted("logistic_iris"), iris[0][:n_rows])
    assert program.predict(iris[0][:n_rows]).shape == (n_rows,)


def test_the_board_never_changes_a_number():
    X, _ = data("digits")
    texts = {
        tinyml.compile(fitted("logistic_digits"), X, board=board).to_c()
        for board in (None, "uno", "attiny85")
    }
    assert len(texts) == 1


def test_description_leaves_out_gaps():
    assert describe(fitted("pipeline_with_gaps")) == "StandardScaler -> LogisticRegression"
    nested = describe(fitted("pipeline_of_pipelines"))
    assert re.fullmatch(r"SelectKBest -> MinMaxScaler -> PCA -> StandardScaler -> \w+", nested)


# Numbers of any size ------------------------------------------------------------------------------


@given(st.integers(-30, 30), st.integers(-25, 25))
def test_any_unit_of_weights_and_features(weights, features):
    """Powers of ten in the units of a model are no reason to refuse it, nor to lose accuracy."""
    X = data("iris")[0] * 10.0**features
    model = linear(np.array([1.0, -2.0, 0.5, 3.0]) * 10.0**weights, 10.0 ** (weights + features))
    program = tinyml.compile(model, X, bits=16)
    assert program.agreement.relative_error < 0.001


@pytest.mark.parametrize("weight", [1e-100, 1e100])
def test_units_far_beyond_single_precision(iris, weight):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        program = tinyml.compile(linear(np.full(4, weight)), iris[0])
    assert np.isfinite(program.decision_function(iris[0])).all()


@pytest.mark.parametrize("bias", [0.0, 3.7, -1e20, 1e-20])
def test_a_bias_alone(iris, bias):
    program = tinyml.compile(linear(np.zeros(4), bias), iris[0])
    np.testing.assert_allclose(program.predict(iris[0]), bias, rtol=1e-4)
    assert program.agreement.relative_error < 0.01


@pytest.mark.parametrize("value", [0.0, 2.5, -1e-30])
def test_a_tree_of_one_leaf(iris, value):
    model = DecisionTreeRegressor().fit(iris[0], np.full(150, value))
    program = tinyml.compile(model, iris[0])
    np.testing.assert_allclose(program.predict(iris[0]), value, rtol=1e-3)
    assert program.agreement.relative_error < 0.01


@pytest.mark.parametrize("n_classes", [255, 256, 257, 300])
def test_hundreds_of_classes(n_classes):
    X = np.arange(600)[:, None]
    model = DecisionTreeClassifier().fit(X, np.arange(600) % n_classes)
    program = tinyml.compile(model, X)
    np.testing.assert_array_equal(program.predict(X), model.predict(X))


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_whole_numbers_of_64_bits(dtype):
    rng = np.random.default_rng(0)
    X = rng.integers(np.iinfo(dtype).min // 2, np.iinfo(dtype).max // 2, (200, 3), dtype=dtype)
    y = (X[:, 0] > np.median(X[:, 0])).astype(int)
    model = DecisionTreeClassifier(max_depth=2, random_state=0).fit(X, y)
    program = tinyml.compile(model, X, bits=16)
    assert np.mean(program.predict(X) == model.predict(X)) > 0.98


def test_ten_thousand_features():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (40, 10_000)).astype(np.uint8)
    program = tinyml.compile(linear(rng.normal(size=10_000)), X, bits=8)
    assert program.agreement.relative_error < 0.05


# Extreme numbers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_the_smallest_integer_is_a_number(iris, dtype):
    X = np.round(10 * iris[0]).astype(dtype)
    model = DecisionTreeClassifier(random_state=0).fit(X, iris[1])
    X[0, 0] = np.iinfo(dtype).min
    assert tinyml.compile(model, X).score(X[1:], iris[1][1:]) > 0.95


@pytest.mark.parametrize("scale", [1e150, 1e-40])
def test_features_that_single_precision_cannot_hold_are_refused(iris, scale):
    X = iris[0] * scale
    with pytest.raises(ValueError, match="must hold numbers between 1e-30 and 1e\\+30 in size"):
        tinyml.compile(linear([1, 2, 3, 4]), X)


@pytest.mark.parametrize("scale", [1e25, 1e-25])
def test_large_and_small_features_compile(iris, scale):
    X = iris[0] * scale
    program = tinyml.compile(linear(np.ones(4) / scale), X, bits=16)
    assert program.agreement.relative_error < 0.01
