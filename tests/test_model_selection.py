import contextlib
import pickle
import re
import sys

import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import FitFailedWarning, NotFittedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    RandomizedSearchCV,
    cross_val_score,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from sklearn.utils.estimator_checks import parametrize_with_checks

import tinyml
from tinyml.codegen.ops import TreeCode, TreeTable
from tinyml.device import ToolNotFound, measure, simulate, toolchain
from tinyml.estimators import FastGRNNClassifier, ProtoNNClassifier
from tinyml.model_selection import (
    DoesNotFit,
    FixedPointClassifier,
    FixedPointRegressor,
    board_scoring,
)

LINEAR = make_pipeline(StandardScaler(), LogisticRegression())
PROTONN = ProtoNNClassifier(max_iter=20, random_state=0)
TREE = DecisionTreeClassifier(random_state=0)

# beside those of test_common.py
CHECKED = [
    FixedPointClassifier(LINEAR),
    FixedPointClassifier(PROTONN),
    FixedPointRegressor(DecisionTreeRegressor(random_state=0), bits=16),
]


def expected_failed_checks(estimator):
    """Weights and repeats are not the same where training draws rows at random."""
    if not isinstance(estimator.estimator, ProtoNNClassifier):
        return {}
    return {"check_sample_weight_equivalence_on_dense_data": "batches are drawn at random"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # as check_estimator has it
@parametrize_with_checks(CHECKED, expected_failed_checks=expected_failed_checks)
def test_estimator_checks(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def digits():
    return load_digits(return_X_y=True)


@pytest.fixture(scope="module")
def iris():
    return load_iris(return_X_y=True)


@contextlib.contextmanager
def calls(*functions):
    """Count how often each of `functions` is entered."""
    counts = dict.fromkeys(functions, 0)
    names = {function.__code__: function for function in functions}

    def profile(frame, event, argument):
        if event == "call" and frame.f_code in names:
            counts[names[frame.f_code]] += 1

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        yield counts
    finally:
        sys.setprofile(before)


def limited(estimator=LINEAR, **limits):
    return FixedPointClassifier(estimator, board="uno", **limits)


# What it answers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", [LINEAR, PROTONN, TREE], ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("bits", [8, 16, "auto"])
def test_it_is_fit_and_compile(digits, estimator, bits):
    X, y = digits
    model = FixedPointClassifier(estimator, bits=bits).fit(X[::3], y[::3])
    program = tinyml.compile(clone(estimator).fit(X[::3], y[::3]), X[::3], bits=bits)
    assert model.program_.to_c() == program.to_c()
    for method in ("predict", "decision_function", "predict_proba"):
        np.testing.assert_array_equal(getattr(model, method)(X), getattr(program, method)(X))
    assert model.score(X, y) == program.score(X, y)
    assert model.n_features_in_ == 64


@pytest.mark.parametrize("estimator", [LINEAR, TREE], ids=lambda e: type(e).__name__)
def test_two_classes_have_one_score(estimator):
    X, y = load_breast_cancer(return_X_y=True)
    model = FixedPointClassifier(estimator).fit(X, y)
    scores = model.decision_function(X)
    assert scores.shape == (len(X),)
    np.testing.assert_array_equal(model.predict(X), model.classes_[(scores > 0).astype(int)])
    assert model.predict_proba(X).shape == (len(X), 2)


def test_probabilities_are_there_where_the_program_has_them(iris):
    assert hasattr(FixedPointClassifier(LINEAR), "predict_proba")
    assert not hasattr(FixedPointClassifier(RidgeClassifier()), "predict_proba")
    assert not hasattr(FixedPointClassifier(RidgeClassifier()).fit(*iris), "predict_proba")
    assert not hasattr(FixedPointRegressor(Ridge()), "decision_function")


def test_classes_are_the_users(iris):
    X, y = iris
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    model = FixedPointClassifier(LINEAR).fit(X, names)
    assert model.score(X, names) > 0.9
    assert list(model.classes_) == ["setosa", "versicolor", "virginica"]


def test_regressor_answers_in_units_of_the_target():
    X, y = load_diabetes(return_X_y=True)
    model = FixedPointRegressor(make_pipeline(StandardScaler(), Ridge())).fit(X, y)
    np.testing.assert_array_equal(model.predict(X), model.program_.predict(X))
    assert abs(model.score(X, y) - model.estimator_.score(X, y)) < 0.01
    two = FixedPointRegressor(Ridge(), bits=16).fit(X, np.column_stack([y, -y]))
    assert two.predict(X).shape == (len(X), 2)


@pytest.mark.device
def test_the_board_never_changes_a_number(digits):
    X, y = (part[::4] for part in digits)
    models = [
        FixedPointClassifier(LINEAR, board=board, flash=flash).fit(X, y)
        for board, flash in ((None, None), ("uno", None), ("mega2560", "8KB"), ("attiny85", 4096))
    ]
    assert len({model.program_.to_c() for model in models}) == 1


def test_copies(iris):
    X, y = iris
    model = FixedPointClassifier(LINEAR, bits=8, board="uno", ms=1.0)
    assert clone(model).get_params()["bits"] == 8
    fitted = FixedPointClassifier(LINEAR).fit(X, y)
    copy = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(copy.decision_function(X), fitted.decision_function(X))
    assert not hasattr(clone(fitted), "program_")


def test_not_fitted(iris):
    with pytest.raises(NotFittedError, match="This FixedPointClassifier instance is not fitted"):
        FixedPointClassifier(LINEAR).predict(iris[0])


# Limits -------------------------------------------------------------------------------------------


@pytest.mark.device
def test_limits_are_kept(digits):
    X, y = digits
    model = limited(flash="2KB", ram="512 B", ms=20).fit(X, y)
    report = model.report_
    assert report.flash <= 2048
    assert report.ram <= 512
    assert report.ms <= 20
    assert report.identical
    again = measure(model.program_, X, "uno", flags=("os",))
    assert (again.flash, again.static_ram) == (report.flash, report.static_ram)


@pytest.mark.device
@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        ({"flash": 700}, r"The program needs [\d ]+ B of flash, 700 allowed\."),
        ({"ram": "64B"}, r"The program needs [\d ]+ B of RAM, 64 allowed\."),
        ({"ms": 0.01}, r"The program needs [\d.]+ ms, 0\.01 allowed\."),
        ({"ram": 64, "ms": 0.01}, r"The program needs \d+ B of RAM, 64 allowed; .* ms, 0\.01 .*"),
    ],
)
def test_what_exceeds_a_limit_does_not_fit(digits, limits, sentence):
    X, y = digits
    model = limited(**limits)
    with pytest.raises(DoesNotFit) as caught:
        model.fit(X, y)
    assert re.fullmatch(sentence, str(caught.value))
    assert isinstance(caught.value, ValueError)
    assert not hasattr(model, "program_")


def test_tables_that_are_too_large_are_refused_without_building(digits):
    X, y = digits
    with (
        calls(measure) as counts,
        pytest.raises(
            DoesNotFit, match=r"needs \d+ B of flash for its constants alone, 512 allowed"
        ),
    ):
        limited(flash="0.5KB").fit(X, y)
    assert counts == {measure: 0}


def test_tables_beyond_the_board():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 2000)), np.arange(60) % 5
    with pytest.raises(DoesNotFit, match=r"for its constants alone, 8 192 allowed"):
        FixedPointClassifier(RidgeClassifier(), board="attiny85").fit(X, y)


@pytest.mark.device
def test_code_beyond_the_board():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(3000, 8)), rng.integers(0, 3, 3000)
    with pytest.raises(DoesNotFit, match=r"does not fit the attiny85: it needs \d+ B of flash"):
        FixedPointClassifier(TREE, board="attiny85", ms=1).fit(X, y)


@pytest.mark.device
@pytest.mark.parametrize(("ms", "layout"), [(20.0, TreeTable), (0.5, TreeCode)])
def test_forests_are_tables_where_there_is_time(ms, layout):
    X, y = load_digits(return_X_y=True)
    forest = RandomForestClassifier(10, max_depth=5, random_state=0)
    model = FixedPointClassifier(forest, board="uno", ms=ms).fit(X, y)
    assert any(isinstance(op, layout) for op in model.program_.ops)


@pytest.mark.device
def test_without_limits_nothing_is_built(iris):
    X, y = iris
    model = FixedPointClassifier(LINEAR, board="uno")
    with calls(measure, simulate.run_bench) as counts:
        model.fit(X, y)
        assert counts[measure] == 0
        assert model.report_ is model.report_
    assert counts == {measure: 1, simulate.run_bench: 1}
    assert not hasattr(FixedPointClassifier(LINEAR).fit(X, y), "report_")
    assert not hasattr(clone(model), "report_")


def test_limits_without_tools(iris, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(toolchain, "_SYSTEM_FOLDERS", ())
    with pytest.raises(ToolNotFound, match=r"avr-gcc was not found\. Install it with"):
        limited(flash=1024).fit(*iris)
    model = limited().fit(*iris)
    assert not hasattr(model, "report_")
    with pytest.raises(AttributeError, match="avr-gcc was not found"):
        _ = model.report_


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"flash": "4 apples"}, "'flash' parameter of FixedPointClassifier must be a number of"),
        ({"ram": "-1KB"}, "'ram' parameter of FixedPointClassifier must be a number of bytes such"),
        ({"flash": "0B"}, "must be a number of bytes such as 4096 or '4KB'. Got '0B' instead."),
        ({"flash": 0}, r"'flash' parameter of FixedPointClassifier must be an int in the range"),
        ({"ms": -1.0}, "'ms' parameter of FixedPointClassifier must be a float in the range"),
        ({"bits": 12}, "'bits' parameter of FixedPointClassifier must be 8, 16 or 'auto'. Got 12"),
        ({"board": "due"}, "board must be one of uno, nano.* Got 'due' instead"),
        ({"board": None, "ms": 1}, "'board' parameter of FixedPointClassifier must be given where"),
        ({"estimator": Ridge()}, r"FixedPointClassifier needs a classifier. Got Ridge\(\) instead"),
        ({"estimator": Ridge}, "'estimator' parameter of FixedPointClassifier must be an instance"),
    ],
)
def test_parameters_are_checked_before_any_work(iris, parameters, sentence):
    model = limited(flash=4096).set_params(**parameters)
    with calls(LogisticRegression.fit.__wrapped__) as counts:
        with pytest.raises(ValueError, match=sentence):
            model.fit(*iris)
        assert not any(counts.values())


def test_what_cannot_be_compiled_says_so(iris):
    with pytest.raises(TypeError, match="GaussianProcessClassifier cannot be compiled; of the"):
        FixedPointClassifier(GaussianProcessClassifier()).fit(*iris)


# Place --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pipeline",
    [
        make_pipeline(StandardScaler(), FixedPointClassifier(LogisticRegression())),
        make_pipeline(StandardScaler(), make_pipeline(FixedPointClassifier(LogisticRegression()))),
        make_pipeline("passthrough", StandardScaler(), FixedPointClassifier(LINEAR)),
    ],
)
def test_it_must_be_outermost(iris, pipeline):
    sentence = "FixedPointClassifier must be outermost, because the steps before it would not be"
    with pytest.raises(ValueError, match=sentence):
        pipeline.fit(*iris)
    with pytest.raises(ValueError, match=sentence):
        cross_val_score(pipeline, *iris, error_score="raise")


def test_a_pipeline_that_changes_nothing_is_no_obstacle(iris):
    model = FixedPointClassifier(LINEAR)
    for pipeline in (make_pipeline(model), Pipeline([("a", "passthrough"), ("b", model)])):
        assert pipeline.fit(*iris).score(*iris) > 0.9


def test_a_pipeline_of_others_is_no_obstacle(iris):
    """The steps of the pipeline inside are its own."""

    class Outer(LogisticRegression):
        def fit(self, X, y):
            FixedPointClassifier(LINEAR).fit(X, y)
            return super().fit(X, y)

    make_pipeline(StandardScaler(), Outer()).fit(*iris)


# Weights and routing ------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", [LogisticRegression(max_iter=500), LINEAR])
def test_weights_reach_the_estimator(iris, estimator):
    X, y = iris
    weights = np.where(y == 2, 0.0, 1.0 + np.arange(len(y)) % 3)
    model = FixedPointClassifier(estimator).fit(X, y, sample_weight=weights)
    assert set(model.predict(X)) <= {0, 1}


def test_rows_of_weight_zero_take_no_part_in_compiling(iris):
    X, y = iris
    wild = np.vstack([X, 1e6 * X[:5]])
    weights = np.r_[np.ones(len(X)), np.zeros(5)]
    model = FixedPointClassifier(TREE, bits=8)
    with_zeros = model.fit(wild, np.r_[y, y[:5]], sample_weight=weights).program_
    without = model.fit(X, y, sample_weight=np.ones(len(X))).program_
    assert with_zeros.to_c() == without.to_c()


def test_a_pipeline_whose_model_takes_no_weights_says_so(iris):
    neighbours = make_pipeline(GaussianProcessClassifier())
    with pytest.raises(ValueError, match="does not accept the sample_weight parameter"):
        FixedPointClassifier(neighbours).fit(*iris, sample_weight=np.ones(150))


def test_parameters_of_steps_pass_through(iris):
    X, y = iris
    weights = np.where(y == 2, 0.0, 1.0)
    model = FixedPointClassifier(LINEAR)
    model.fit(X, y, logisticregression__sample_weight=weights)
    assert set(model.predict(X)) <= {0, 1}


def test_metadata_routing(iris):
    X, y = iris
    weights = np.where(y == 2, 0.0, 1.0)
    with config_context(enable_metadata_routing=True):
        inner = LogisticRegression(max_iter=500).set_fit_request(sample_weight=True)
        model = FixedPointClassifier(inner).set_score_request(sample_weight=False)
        search = GridSearchCV(model, {"bits": [8]}, cv=3).fit(X, y, sample_weight=weights)
        assert set(search.predict(X)) <= {0, 1}
        unasked = FixedPointClassifier(LogisticRegression(max_iter=500))
        with pytest.raises(ValueError, match="sample_weight"):
            unasked.fit(X, y, sample_weight=weights)


# Searches -----------------------------------------------------------------------------------------

LEFT_OUT = "ignore::sklearn.exceptions.FitFailedWarning"
NON_FINITE = "ignore:One or more of the (test|train) scores are non-finite:UserWarning"
SIZES = {"estimator__max_bytes": [500, 900, 3000]}


def search_over(kind, **options):
    return kind(limited(PROTONN, bits=8, flash="2KB"), SIZES, cv=3, **options)


@pytest.mark.device
@pytest.mark.filterwarnings(LEFT_OUT, NON_FINITE)
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (GridSearchCV, {}),
        (GridSearchCV, {"scoring": "neg_log_loss"}),
        (RandomizedSearchCV, {"n_iter": 3, "random_state": 0, "scoring": "f1_macro"}),
        (HalvingGridSearchCV, {"factor": 2, "min_resources": 200, "random_state": 0}),
    ],
)
def test_searches_leave_out_what_does_not_fit(digits, kind, options):
    X, y = digits
    search = search_over(kind, **options).fit(X, y)
    scores = search.cv_results_["mean_test_score"]
    assert np.isnan(scores[search.cv_results_["param_estimator__max_bytes"] == 3000]).all()
    assert search.best_params_["estimator__max_bytes"] in (500, 900)
    assert np.isfinite([search.best_score_, search.score(X, y)]).all()
    assert search.best_estimator_.report_.flash <= 2048


@pytest.mark.device
@pytest.mark.filterwarnings(NON_FINITE)
def test_the_search_quotes_the_reason(digits):
    X, y = (part[::3] for part in digits)
    with pytest.warns(FitFailedWarning, match=r"DoesNotFit: The program needs \d \d+ B of flash"):
        search_over(GridSearchCV).fit(X, y)


@pytest.mark.filterwarnings(LEFT_OUT)
def test_a_search_where_nothing_fits_says_so(iris):
    with pytest.raises(ValueError, match="All the 3 fits failed"):
        GridSearchCV(limited(flash=8), {"bits": [8]}, cv=3).fit(*iris)


@pytest.mark.device
@pytest.mark.filterwarnings(LEFT_OUT, NON_FINITE)
def test_results_do_not_depend_on_the_number_of_jobs(digits):
    X, y = (part[::3] for part in digits)
    one, two = (search_over(GridSearchCV, n_jobs=n).fit(X, y) for n in (1, 2))
    for key in ("mean_test_score", "std_test_score", "rank_test_score"):
        np.testing.assert_array_equal(one.cv_results_[key], two.cv_results_[key])
    assert one.best_params_ == two.best_params_
    assert one.best_estimator_.program_.to_c() == two.best_estimator_.program_.to_c()
    assert one.best_estimator_.report_ == two.best_estimator_.report_


@pytest.mark.device
@pytest.mark.filterwarnings(LEFT_OUT, NON_FINITE)
def test_one_compilation_and_at_most_one_simulation_per_fold(digits):
    X, y = (part[::3] for part in digits)
    before = int(simulate.count)
    with calls(tinyml.compile, simulate.run_bench) as counts:
        search = search_over(GridSearchCV, return_train_score=True).fit(X, y)
    n_fits = 3 * 3 + 1
    assert counts[tinyml.compile] == n_fits
    n_scored = 3 * np.isfinite(search.cv_results_["mean_test_score"]).sum() + 1
    assert counts[simulate.run_bench] == int(simulate.count) - before
    assert n_scored <= counts[simulate.run_bench] <= n_fits


# Further columns ----------------------------------------------------------------------------------


@pytest.mark.device
def test_board_scoring_adds_columns_from_one_measurement(digits):
    X, y = (part[::3] for part in digits)
    scoring = pickle.loads(pickle.dumps(board_scoring("uno")))
    before = int(simulate.count)
    search = GridSearchCV(
        FixedPointClassifier(PROTONN, bits=8),
        {"estimator__max_bytes": [500, 1500]},
        scoring=scoring,
        refit="score",
        cv=3,
        return_train_score=True,
    ).fit(X, y)
    assert int(simulate.count) - before == 6
    results = search.cv_results_
    small, large = -results["mean_test_neg_flash"]
    assert 500 < small < 1500 < large
    for name in ("neg_ram", "neg_cycles", "neg_ms"):
        assert (results[f"mean_test_{name}"] < 0).all()
    assert search.best_score_ == results["mean_test_score"].max()
    assert search.score(X, y) == search.best_estimator_.score(X, y)


@pytest.mark.device
@pytest.mark.filterwarnings(LEFT_OUT, NON_FINITE)
def test_board_scoring_shares_the_measurement_of_the_limits(digits):
    X, y = (part[::3] for part in digits)
    before = int(simulate.count)
    search = search_over(GridSearchCV, scoring=board_scoring("uno"), refit="score").fit(X, y)
    assert int(simulate.count) - before <= 10
    assert np.isnan(search.cv_results_["mean_test_neg_flash"]).sum() == 1
    assert (-search.cv_results_["mean_test_neg_flash"][:2] <= 2048).all()


def test_board_scoring_says_what_it_needs(iris):
    with pytest.raises(TypeError, match="board_scoring needs a FixedPointClassifier or a Fixed"):
        board_scoring("uno")(LogisticRegression(), *iris)
    with pytest.raises(ValueError, match="board must be one of uno"):
        board_scoring("due")
    with pytest.raises(NotFittedError):
        board_scoring("uno")(FixedPointClassifier(LINEAR), *iris)


# --- sequences --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ragged():
    """Digits as eight steps of eight channels, of which a third end after five."""
    X, y = load_digits(return_X_y=True)
    X[::3, 40:] = np.nan
    return X, y


def recurrent(**parameters):
    return FixedPointClassifier(
        FastGRNNClassifier(6, n_channels=8, max_iter=5, random_state=0), bits=8, **parameters
    )


def test_sequences_may_end_and_have_three_dimensions(ragged):
    X, y = ragged
    a, b = recurrent().fit(X, y), recurrent().fit(X.reshape(-1, 8, 8), y)
    np.testing.assert_array_equal(a.predict(X), b.predict(X.reshape(-1, 8, 8)))


def test_other_models_still_refuse_what_is_missing(ragged):
    with pytest.raises(ValueError, match="contains NaN"):
        FixedPointClassifier(LogisticRegression()).fit(*ragged)


@pytest.mark.device
def test_limits_of_sequences_are_those_of_a_step(ragged):
    X, y = ragged
    report = recurrent(board="uno").fit(X, y).report_
    assert report.n_steps < 8
    assert report.ram < 300
    assert recurrent(board="uno", ms=1.5 * report.ms).fit(X, y).report_.ms == report.ms
    with pytest.raises(DoesNotFit, match="ms"):
        recurrent(board="uno", ms=report.ms / 2).fit(X, y)
