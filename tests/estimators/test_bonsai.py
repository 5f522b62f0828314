"""What is particular to Bonsai: its formula and gradient, sizes, sparsity, weights."""

import pickle

import naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from joblib import Parallel, delayed
from sklearn.datasets import load_diabetes, load_digits, make_blobs, make_moons
from sklearn.model_selection import train_test_split

from tinyml.codegen.storage import table_bytes
from tinyml.estimators import bonsai
from tinyml.estimators.bonsai import BonsaiClassifier, BonsaiRegressor
from tinyml.training import losses

FITTED = ["projection_", "projection_bias_", "W_", "V_", "theta_", "loss_curve_"]


@pytest.fixture(scope="module")
def digits():
    return train_test_split(*load_digits(return_X_y=True), random_state=0)


@pytest.fixture(scope="module")
def small():
    return make_blobs(120, 6, centers=3, cluster_std=3, random_state=0)


def quick(**parameters):
    return BonsaiClassifier(**{"max_iter": 10, "random_state": 0, **parameters})


def tables(model):
    predictors = [part.reshape(-1, part.shape[2]) for part in (model.W_, model.V_)]
    return [model.projection_, *predictors, model.theta_, model.projection_bias_]


# --- the formula and its gradient -------------------------------------------------------------


def test_formula_of_the_paper_on_a_case_made_by_hand():
    model = BonsaiClassifier()
    model.projection_, model.projection_bias_ = np.array([[1.0, 0, 2]]), np.array([-1.0])
    model.W_ = np.array([[[1.0], [2]], [[3.0], [4]], [[5.0], [6]]])
    model.V_ = np.array([[[0.25], [9]], [[-9.0], [0.5]], [[0.5], [0.5]]])
    model.theta_ = np.array([[1.0]])
    model.classes_, model.n_features_in_ = np.array(["a", "b", "c"]), 3
    # z = 2 goes from the root to node 1, z = -1 to node 2
    np.testing.assert_allclose(
        model.decision_function([[1.0, 7, 1], [0, 7, 0]]),
        [[2 * 0.5 + 6 * -1, 4 * 1 + 8 * 1], [-1 * -0.25 + -5 * -0.5, -2 * -1 + -6 * -0.5]],
    )


def test_a_row_on_a_hyperplane_goes_to_the_second_child():
    W = np.array([[[0.0]], [[1.0]], [[2.0]]])
    assert bonsai._tree_scores(np.ones((1, 1)), W, W, np.zeros((1, 1))) == [[2]]


@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_scores_are_those_of_the_naive_twin(small, depth, n_classes):
    X, y = small
    model = quick(depth=depth, projection_density=0.5).fit(X, np.minimum(y, n_classes - 1))
    assert model.W_.shape == (2 ** (depth + 1) - 1, n_classes if n_classes > 2 else 1, 7)
    assert model.theta_.shape == (2**depth - 1, 7)
    z = X @ model.projection_.T + model.projection_bias_
    scores = naive.bonsai_scores(z, model.W_, model.V_, model.theta_)
    np.testing.assert_allclose(model._scores(X), scores, atol=1e-9)


def start_of_training(targets, n_outputs, depth):
    rng = np.random.default_rng(0)
    n_nodes = 2 ** (depth + 1) - 1
    shapes = [(2, 5), (2,), (n_nodes, n_outputs, 2), (n_nodes, n_outputs, 2), (2**depth - 1, 2)]
    parameters = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    X = rng.standard_normal((9, 5)).astype(np.float32)
    weights = rng.uniform(0.5, 2, 9).astype(np.float32)
    return parameters, X, targets(rng), weights, rng.uniform(0.5, 2, 2**depth - 1)


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize(
    ("loss", "targets", "n_outputs"),
    [
        (losses.softmax_cross_entropy, lambda rng: rng.integers(3, size=9), 3),
        (losses.logistic, lambda rng: rng.integers(2, size=9), 1),
        (losses.hinge, lambda rng: rng.integers(2, size=9), 1),
        (losses.multiclass_hinge, lambda rng: rng.integers(3, size=9), 3),
        (losses.squared, lambda rng: rng.standard_normal((9, 1)).astype(np.float32), 1),
    ],
)
def test_gradient_is_that_of_finite_differences(loss, targets, n_outputs, depth):
    parameters, X, y, weights, sharpness = start_of_training(targets, n_outputs, depth)
    objective = bonsai._Objective(parameters, X, y, weights, loss, lambda X: None, 1)
    objective._harden = lambda distances: None
    objective.sharpness = sharpness.astype(np.float32)
    _, gradient = objective(np.arange(9))
    flat = np.concatenate([part.ravel() for part in parameters]).astype(np.float64)

    def value(flat):
        Z, c, *tree = bonsai.views(flat, objective.shapes)
        scores = naive.soft_bonsai_scores(X @ Z.T + c, *tree, objective.sharpness)
        return getattr(naive, loss.__name__)(scores, y, weights.astype(np.float64))

    steps = 1e-6 * np.eye(flat.size)
    slopes = [(value(flat + step) - value(flat - step)) / 2e-6 for step in steps]
    np.testing.assert_allclose(gradient, slopes, rtol=1e-4, atol=1e-5)


def test_training_ends_with_the_hard_tree(small):
    parameters, X, y, weights, _ = start_of_training(lambda rng: rng.integers(3, size=9), 3, 2)
    objective = bonsai._Objective(
        parameters, X, y, weights, losses.softmax_cross_entropy, lambda X: None, 10
    )
    sharpness = []
    for _ in range(10):
        value, _ = objective(np.arange(9))
        sharpness.append(objective.sharpness.copy())
    assert (np.diff(sharpness[:9], axis=0) > 0).all()
    Z, c, *tree = parameters
    scores = bonsai._tree_scores(X @ Z.T + c, *tree)
    assert value == pytest.approx(naive.softmax_cross_entropy(scores, y, weights), rel=1e-5)


# --- accuracy ---------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["cross_entropy", "hinge"])
def test_digits(digits, loss):
    X_train, X_test, y_train, y_test = digits
    model = BonsaiClassifier(loss=loss, random_state=0).fit(X_train, y_train)
    assert model.score(X_test, y_test) > 0.95


def test_classes_that_no_line_separates():
    X, y = make_moons(400, noise=0.1, random_state=0)
    model = BonsaiClassifier(random_state=0).fit(X[:200], y[:200])
    assert model.score(X[200:], y[200:]) > 0.95


def test_regression():
    X, y = load_diabetes(return_X_y=True)
    model = BonsaiRegressor(random_state=0).fit(X[:300], y[:300])
    assert model.score(X[300:], y[300:]) > 0.4


def test_units_of_features_and_target_do_not_matter():
    X, y = load_diabetes(return_X_y=True)
    units = 10.0 ** np.arange(-5, 5)
    a = BonsaiRegressor(max_iter=10, depth=1, random_state=0).fit(X, y).predict(X)
    b = BonsaiRegressor(max_iter=10, depth=1, random_state=0)
    b.fit(X * units + 3 * units, 1e6 * y)
    # the standardised float32 rows differ by rounding, which training amplifies
    ratio = b.predict(X * units + 3 * units) / (1e6 * a)
    assert np.abs(np.median(ratio) - 1) < 0.02


def test_constant_columns_are_ignored(small):
    X, y = small
    wide = np.column_stack([X, np.full(len(X), 7.0), np.zeros(len(X))])
    model = quick().fit(wide, y)
    assert not model.projection_[:, 6:].any()
    assert np.isfinite(model.decision_function(wide)).all()


def test_a_constant_target_is_predicted():
    X = np.arange(20.0).reshape(10, 2)
    model = BonsaiRegressor(max_iter=500, random_state=0).fit(X, np.full(10, 4.0))
    np.testing.assert_allclose(model.predict(X), 4, atol=0.1)


def test_one_component_more_than_features_starts_as_a_constant():
    X, y = make_moons(100, noise=0.1, random_state=0)
    model = BonsaiClassifier(100, max_iter=1, learning_rate=1e-3, random_state=0).fit(X, y)
    assert model.projection_.shape == (3, 2)
    z = (X - X.mean(axis=0)) @ model.projection_.T
    assert np.abs(z[:, 2]).max() < 0.1 < np.abs(z[:, :2]).max()


# --- classes ----------------------------------------------------------------------------------


def test_two_classes_have_one_output(small):
    X, y = small
    names = np.array(["no", "yes"])[(y > 0).astype(int)]
    model = quick().fit(X, names)
    scores = model.decision_function(X)
    assert scores.shape == (120,)
    np.testing.assert_array_equal(model.predict(X), np.where(scores > 0, "yes", "no"))


def test_probabilities_follow_the_scores(small):
    model = quick().fit(*small)
    proba = model.predict_proba(small[0])
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    np.testing.assert_array_equal(model.classes_[proba.argmax(axis=1)], model.predict(small[0]))


def test_the_hinge_loss_has_no_probabilities(small):
    assert not hasattr(quick(loss="hinge").fit(*small), "predict_proba")


# --- size -------------------------------------------------------------------------------------


@pytest.mark.parametrize("density", [0.05, 0.2, 0.7, 1.0])
def test_density_is_exact(digits, density):
    X_train, _, y_train, _ = digits
    X_train = X_train + np.random.default_rng(0).normal(size=X_train.shape)  # no constant column
    model = quick(projection_density=density, tree_density=density, max_iter=3)
    model.fit(X_train, y_train)
    for part in (model.projection_, model.W_, model.V_):
        assert np.count_nonzero(part) == round(density * part.size)


@pytest.mark.parametrize("max_bytes", [300, 500, 1000, 2000, 4000])
def test_budget_is_kept_and_used(digits, max_bytes):
    X_train, _, y_train, _ = digits
    model = quick(max_bytes=max_bytes, max_iter=1).fit(X_train, y_train)
    assert model.n_model_bytes_ == table_bytes(tables(model))
    assert 0.7 * max_bytes <= model.n_model_bytes_ <= max_bytes


def test_the_budget_of_a_regressor_includes_its_intercept():
    X, y = load_diabetes(return_X_y=True)
    model = BonsaiRegressor(max_bytes=60, max_iter=1, random_state=0).fit(X, y)
    assert model.n_model_bytes_ == table_bytes([*tables(model), model.intercept_]) <= 60


@pytest.mark.parametrize(
    "given_parameters",
    [
        {"n_components": 7},
        {"depth": 2},
        {"n_components": 5, "depth": 1},
        {"projection_density": 0.25},
        {"tree_density": 0.2, "depth": 3},
    ],
)
def test_what_is_given_is_kept_within_a_budget(digits, given_parameters):
    X_train, _, y_train, _ = digits
    model = quick(max_bytes=1500, max_iter=1, **given_parameters).fit(X_train, y_train)
    assert len(model.projection_) == given_parameters.get("n_components", len(model.projection_))
    depth = given_parameters.get("depth")
    assert depth is None or len(model.theta_) == 2**depth - 1
    assert model.n_model_bytes_ <= 1500


densities = st.one_of(st.none(), st.floats(0.01, 1))


@given(
    st.integers(1, 600),
    st.integers(1, 30),
    st.one_of(st.none(), st.integers(1, 40)),
    st.one_of(st.none(), st.integers(0, 5)),
    densities,
    densities,
    st.integers(0, 5000),
)
def test_a_structure_fits_or_the_smallest_size_is_larger(
    n_features, n_outputs, n_components, depth, density, tree_density, available
):
    sizing = bonsai._Sizing(n_features, n_outputs, n_components, depth, density, tree_density)
    structure = sizing.within(available)
    if structure is None:
        assert sizing.smallest_bytes() > available
        assert sizing.within(sizing.smallest_bytes()) is not None
        return
    assert structure_bytes(structure, n_features, n_outputs) <= available


def structure_bytes(structure, n_features, n_outputs):
    """Bytes when the non-zeros fill row after row, and when they fill column after column."""
    d = structure.n_components
    projection = np.zeros((d, n_features))
    W = np.zeros(((2 ** (structure.depth + 1) - 1) * n_outputs, d))
    dense = [np.ones((2**structure.depth - 1, d)), np.zeros(d)]
    totals = []
    for order in ("C", "F"):
        for matrix, kept in ((projection, structure.kept_projection), (W, structure.kept_tree)):
            matrix[:] = np.reshape(np.arange(matrix.size) < kept, matrix.shape, order=order)
        totals.append(table_bytes([projection, W, W, *dense]))
    return max(totals)


def test_an_impossible_budget_names_the_smallest(digits):
    X_train, _, y_train, _ = digits
    with pytest.raises(ValueError, match="must be at least") as raised:
        quick(max_bytes=10).fit(X_train, y_train)
    smallest = int(str(raised.value).split("at least ")[1].split()[0])
    assert str(raised.value) == (
        f"The 'max_bytes' parameter of BonsaiClassifier must be at least {smallest} "
        "for these data and the other parameters. Got 10 instead."
    )
    assert quick(max_bytes=smallest, max_iter=1).fit(X_train, y_train).n_model_bytes_ <= smallest


def test_paper_size_counts_the_bias_as_a_column_of_the_projection():
    model = quick(n_components=4, depth=1, projection_density=0.25, tree_density=0.25, max_iter=1)
    model.fit(*make_blobs(60, 10, centers=3, random_state=0))
    assert model.paper_size_ == 8 * (10 + 4) + 2 * 8 * 9 + 4 * 4


@pytest.mark.parametrize("depth", [0, 2])
@pytest.mark.parametrize("model", [BonsaiClassifier(max_iter=5), BonsaiRegressor(max_iter=5)])
def test_matrices_are_on_grids_of_8_bits(model, depth):
    X, y = load_diabetes(return_X_y=True)
    y = (y > 100).astype(int) if hasattr(model, "predict_proba") else y
    model.set_params(depth=depth, random_state=0).fit(X, y)
    for name in ("projection", "W", "V", "theta"):
        matrix, grid = getattr(model, f"{name}_"), getattr(model, f"{name}_grid_")
        integers = matrix * 2.0**grid
        np.testing.assert_array_equal(integers, np.rint(integers))
        assert np.abs(integers).max(initial=0) <= 127


# --- weights ----------------------------------------------------------------------------------


def test_rows_of_weight_zero_count_as_absent(small):
    X, y = small
    weights = np.random.default_rng(0).uniform(0.5, 2, len(y))
    weights[::3] = 0
    present = weights > 0
    a = quick().fit(X, y, sample_weight=weights)
    b = quick().fit(X[present], y[present], sample_weight=weights[present])
    np.testing.assert_array_equal(a.decision_function(X), b.decision_function(X))


def test_the_scale_of_weights_does_not_matter(small):
    X, y = small
    a = quick().fit(X, y)
    b = quick().fit(X, y, sample_weight=np.full(len(y), 8.0))
    np.testing.assert_array_equal(a.decision_function(X), b.decision_function(X))


@pytest.mark.parametrize("model", [BonsaiClassifier(), BonsaiRegressor()])
def test_a_weight_is_a_repetition_on_average(model):
    """The mean prediction over seeds is the same; an unweighted fit is somewhere else."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 2))
    y = (X[:, 0] + rng.normal(size=60) > 0).astype(int)
    weights = np.where(y > 0, 5, 1)

    def output(*fit_arguments, **fit_parameters):
        outputs = []
        for seed in range(12):
            model.set_params(random_state=seed, max_iter=30, depth=0)
            model.fit(*fit_arguments, **fit_parameters)
            outputs.append(
                model.predict_proba(X)[:, 1] if hasattr(model, "classes_") else model.predict(X)
            )
        return np.mean(outputs, axis=0)

    weighted = output(X, y, sample_weight=weights)
    repeated = output(np.repeat(X, weights, axis=0), np.repeat(y, weights))
    plain = output(X, y)
    assert np.abs(weighted - repeated).mean() < 0.35 * np.abs(plain - repeated).mean()


def test_class_weight_multiplies_sample_weight(small):
    X, y = small
    a = quick(class_weight={0: 3, 1: 1, 2: 1}).fit(X, y)
    b = quick().fit(X, y, sample_weight=np.where(y == 0, 3.0, 1.0))
    np.testing.assert_array_equal(a.decision_function(X), b.decision_function(X))


# --- restarts and determinism -----------------------------------------------------------------


def test_of_several_starts_the_best_is_taken(small):
    X, y = small

    def training_loss(n_restarts):
        model = quick(n_restarts=n_restarts).fit(X, y)
        return -np.mean(np.log(model.predict_proba(X)[np.arange(len(y)), y]))

    alone, several = training_loss(1), training_loss(6)
    assert several < alone


def fitted_state(seed, data):
    return pickle.dumps([vars(quick(random_state=seed).fit(*data))[name] for name in FITTED])


def test_same_seed_same_bits_whatever_n_jobs(small):
    alone = [fitted_state(seed, small) for seed in (0, 1)]
    together = Parallel(n_jobs=2)(delayed(fitted_state)(seed, small) for seed in (0, 1))
    assert alone == together
    assert alone[0] != alone[1]


def test_the_progress_bar_changes_nothing_and_is_on_stderr(small, capsys):
    a, b = quick().fit(*small), quick(verbose=True).fit(*small)
    np.testing.assert_array_equal(a.projection_, b.projection_)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "BonsaiClassifier" in captured.err


# --- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("n_components", 0),
        ("depth", -1),
        ("projection_density", 0),
        ("tree_density", 1.5),
        ("max_bytes", -1),
        ("loss", "squared"),
        ("input_noise", -0.1),
        ("learning_rate", 0),
        ("batch_size", "all"),
        ("n_restarts", 0),
    ],
)
def test_a_bad_parameter_is_named(small, parameter, value):
    message = f"The '{parameter}' parameter of BonsaiClassifier must be .* Got {value!r} instead"
    with pytest.raises(ValueError, match=message):
        quick(**{parameter: value}).fit(*small)


def test_one_class_is_refused(small):
    with pytest.raises(ValueError, match="needs rows of at least two classes"):
        quick().fit(small[0], np.zeros(len(small[0])))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_are_refused(small, value):
    X = small[0].copy()
    X[0, 0] = value
    with pytest.raises(ValueError, match="contains"):
        quick().fit(X, small[1])
