"""A program answers like the model it came from, and refuses what it was not made for."""

import pickle
import warnings

import numpy as np
import pytest
from instances import INSTANCES, compiled, data, fitted
from strategies import literal

import tinyml
from tinyml.codegen.ops import Gather, Input, Lookup, MatVec, Narrow
from tinyml.codegen.program import Agreement

METHODS = ("predict", "decision_function", "predict_proba")


def rows(name):
    return data(INSTANCES[name].data)[0][:7]


@pytest.fixture
def program():
    return compiled("logistic_digits")


# Raw rows -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        np.zeros((2, 64)),
        np.full((2, 64), 10**6),
        np.full((2, 64), -(10**6)),
        np.full((2, 64), 2**63, dtype=np.uint64),
    ],
)
def test_run_takes_integers_of_its_type_only(program, raw):
    with pytest.raises(ValueError, match=rf"must hold integers of type {program.input.type.ctype}"):
        program.run(raw)


@pytest.mark.parametrize("method", ["run", "quantize", *METHODS])
@pytest.mark.parametrize("shape", [(64,), (3, 63), (3, 65), (2, 3, 64), ()])
def test_wrong_shapes_are_refused(program, method, shape):
    with pytest.raises(ValueError, match=r"expects rows of 64 features, .* Got shape"):
        getattr(program, method)(np.zeros(shape, dtype=int))


def test_names_are_no_features(program):
    with pytest.raises(ValueError, match="expects numeric features"):
        program.predict(np.full((1, 64), "dark"))


def test_numbers_in_strings_and_objects_are_numbers(program):
    X = rows("logistic_digits")
    np.testing.assert_array_equal(program.predict(X.astype(object)), program.predict(X))
    np.testing.assert_array_equal(program.predict(X.tolist()), program.predict(X))


@pytest.mark.parametrize("name", INSTANCES)
def test_any_float_has_an_answer(name):
    program = compiled(name)
    strange = np.resize([np.nan, np.inf, -np.inf, 1e300, -1e-300], (5, program.n_features))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that rows were saturated
        assert len(program.predict(strange)) == 5
        assert np.isfinite(program.decision_function(strange)).all()


def test_nothing_in_nothing_out(program):
    none = np.zeros((0, 64))
    assert program.predict(none).shape == (0,)
    assert program.decision_function(none).shape == (0, 10)


# In the user's terms ------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", INSTANCES)
def test_shapes_are_those_of_scikit_learn(name, method):
    program, model, X = compiled(name), fitted(name), rows(name)
    if not hasattr(model, method) or (method == "predict_proba" and program.graph.link is None):
        return
    assert getattr(program, method)(X).shape == getattr(model, method)(X).shape


@pytest.mark.parametrize("name", ["logistic_iris", "tree_names"])
def test_labels_come_back_as_they_were(name):
    program, model = compiled(name), fitted(name)
    assert program.predict(rows(name)).dtype == model.classes_.dtype
    assert set(program.predict(data("iris")[0])) == {"setosa", "versicolor", "virginica"}


def test_decisions_follow_from_scores():
    for name, head in [("logistic_digits", "argmax"), ("logistic_binary", "sign")]:
        program = compiled(name)
        assert program.head == head
        scores = program.decision_function(rows(name))
        wanted = scores.argmax(axis=1) if head == "argmax" else (scores > 0).astype(int)
        np.testing.assert_array_equal(program.predict(rows(name)), program.classes[wanted])


def test_score_is_accuracy_or_r2():
    X, y = data("digits")
    program = compiled("logistic_digits")
    assert program.score(X, y) == np.mean(program.predict(X) == y)
    weight = np.arange(len(y))
    right = program.predict(X) == y
    assert program.score(X, y, weight) == pytest.approx(np.average(right, weights=weight))
    X, y = data("diabetes")
    residual = compiled("linear_regression").predict(X) - y
    r2 = 1 - np.sum(residual**2) / np.sum((y - y.mean()) ** 2)
    assert compiled("linear_regression").score(X, y) == pytest.approx(r2)


# As an object -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pipeline_of_pipelines", "forest", "protonn", "linear_several"])
def test_pickling_keeps_every_number(name):
    program, X = compiled(name), rows(name)
    again = pickle.loads(pickle.dumps(program))
    raw = program.quantize(X)
    np.testing.assert_array_equal(again.quantize(X), raw)
    np.testing.assert_array_equal(again.run(raw), program.run(raw))
    np.testing.assert_array_equal(again.graph.evaluate(X), program.graph.evaluate(X))
    assert again.to_c("m") == program.to_c("m")
    assert again.summary() == program.summary()


def test_a_program_cannot_be_changed(program):
    with pytest.raises(AttributeError):
        program.head = "sign"


def test_summary_lists_every_op(program):
    text = program.summary()
    assert text.startswith("StandardScaler -> LogisticRegression\n")
    assert all(type(op).__name__ in text for op in program.ops)
    assert f"{program.table_bytes} bytes of constants" in text
    assert program.agreement.text in text
    assert "64 features" in repr(program)


@pytest.mark.parametrize(
    ("agreement", "text"),
    [
        (Agreement(50, 49, 0.1), "agrees with the float model on 49 of 50 calibration rows"),
        (
            Agreement(50, None, 0.0123),
            "differs from the float model by 1.23% of its spread on 50 calibration rows",
        ),
    ],
)
def test_agreement_in_words(agreement, text):
    assert agreement.text == text


def test_buffers_alive_at_once():
    x = Input(6, 0, "int16_t")
    narrow = Narrow(x, 4, -128, 127)  # 6 bytes, read by the product
    product = MatVec(narrow, np.ones((4, 6), int), np.zeros(4, int), 0)
    table = Lookup(product, np.arange(9), 0, 3, 0)  # rides on the store of the product
    assert literal(product, "argmax").buffer_bytes == 6 + product.type.nbytes
    assert literal(table, "argmax").buffer_bytes == 6 + table.type.nbytes
    assert literal(Gather(x, np.array([1, 2])), "argmax").buffer_bytes == 4
    assert literal(Gather(table, np.array([1, 2])), "argmax").buffer_bytes == 6 + 4 + 2


def test_tables_are_counted_as_stored():
    program = compiled("protonn_sparse")
    tables = [table for op in program.ops for table in op.tables().values()]
    assert program.table_bytes == sum(table.nbytes for table in tables)


def test_compiling_twice_gives_the_same_text():
    X = data("digits")[0]
    again = tinyml.compile(fitted("protonn_sparse"), X)
    assert again.to_c() == compiled("protonn_sparse").to_c()
