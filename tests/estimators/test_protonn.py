"""What is particular to ProtoNN: its formula and gradient, sizes, sparsity, weights."""

import pickle

import naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from joblib import Parallel, delayed
from sklearn.datasets import load_diabetes, load_digits, make_blobs, make_moons
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tinyml.codegen.storage import EXP_TABLE_BYTES, paper_bytes, table_bytes
from tinyml.estimators import ProtoNNClassifier, ProtoNNRegressor, protonn
from tinyml.training import kernels, losses, preparation
from tinyml.training.optimizers import views

FITTED = ["projection_", "prototypes_", "prototype_labels_", "gamma_", "loss_curve_"]


@pytest.fixture(scope="module")
def digits():
    return train_test_split(*load_digits(return_X_y=True), random_state=0)


@pytest.fixture(scope="module")
def small():
    return make_blobs(120, 6, centers=3, cluster_std=3, random_state=0)


def quick(**parameters):
    return ProtoNNClassifier(**{"max_iter": 10, "random_state": 0, **parameters})


def matrices(model):
    return [model.projection_, model.prototypes_, model.prototype_labels_]


# --- the formula and its gradient -------------------------------------------------------------


def test_formula_of_the_paper_on_a_case_made_by_hand():
    model = ProtoNNClassifier()
    model.projection_ = np.array([[1.0, 0, 2]])
    model.prototypes_ = np.array([[0.0], [3]])
    model.prototype_labels_ = np.array([[1.0, 0, 0], [0, 2, 0]])
    model.gamma_ = 0.5
    model.classes_, model.n_features_in_ = np.array(["a", "b", "c"]), 3
    # W x = 3: distances 9 and 0, gamma^2 = 1/4
    expected = [[np.exp(-9 / 4), 2, 0]]
    np.testing.assert_allclose(model.decision_function([[1.0, 7, 1]]), expected)
    assert model.predict([[1.0, 7, 1]]) == ["b"]


def test_scores_are_those_of_the_naive_twin(small):
    model = quick(projection_density=0.5).fit(*small)
    scores = naive.protonn_scores(small[0], *matrices(model), model.gamma_)
    np.testing.assert_allclose(model.decision_function(small[0]), scores, atol=1e-9)


def start_of_training(loss, targets, n_outputs):
    rng = np.random.default_rng(0)
    shapes = [(2, 5), (4, 2), (4, n_outputs), (1,)]
    parameters = [rng.standard_normal(shape) for shape in shapes]
    X = rng.standard_normal((9, 5))
    weights = rng.uniform(0.5, 2, 9)
    return parameters, X, targets(rng), weights, loss


@pytest.mark.parametrize(
    ("loss", "targets", "n_outputs"),
    [
        (losses.softmax_cross_entropy, lambda rng: rng.integers(3, size=9), 3),
        (losses.logistic, lambda rng: rng.integers(2, size=9), 1),
        (losses.squared, lambda rng: rng.standard_normal((9, 2)), 2),
    ],
)
def test_gradient_is_that_of_finite_differences(loss, targets, n_outputs):
    parameters, X, y, weights, loss = start_of_training(loss, targets, n_outputs)
    float32 = [array.astype(np.float32) for array in (X, weights)]
    y32 = y.astype(np.float32) if y.ndim == 2 else y
    objective = protonn._Objective(parameters, float32[0], y32, float32[1], loss, lambda X: None)
    _, gradient = objective(np.arange(9))
    flat = np.concatenate([part.ravel() for part in parameters])

    def value(flat):
        W, B, Z, log_gamma = views(flat, objective.shapes)
        scores = naive.protonn_scores(X, W, B, Z, np.exp(log_gamma[0]))
        return getattr(naive, loss.__name__)(scores, y, weights)

    steps = 1e-5 * np.eye(flat.size)
    slopes = [(value(flat + step) - value(flat - step)) / 2e-5 for step in steps]
    # the parameters of the objective are float32: 7 digits, less what cancels in the distances
    np.testing.assert_allclose(gradient, slopes, rtol=1e-4, atol=1e-5)


def test_squared_distances_are_never_negative():
    rows = np.float32([[1e3, 1], [1e3, 1 + 1e-4]])
    distances = kernels.squared_distances(rows, rows)
    assert (distances >= 0).all()


# --- accuracy ---------------------------------------------------------------------------------


def test_digits_with_the_defaults(digits):
    X_train, X_test, y_train, y_test = digits
    model = make_pipeline(StandardScaler(), ProtoNNClassifier(random_state=0))
    assert model.fit(X_train, y_train).score(X_test, y_test) > 0.96


@pytest.mark.parametrize("parameters", [{"loss": "squared"}, {"projection": "random"}])
def test_digits_otherwise(digits, parameters):
    X_train, X_test, y_train, y_test = digits
    model = ProtoNNClassifier(random_state=0, **parameters)
    assert model.fit(X_train, y_train).score(X_test, y_test) > 0.95


def test_classes_that_no_line_separates():
    X, y = make_moons(400, noise=0.1, random_state=0)
    model = ProtoNNClassifier(random_state=0).fit(X[:200], y[:200])
    assert model.score(X[200:], y[200:]) > 0.95


def test_regression():
    X, y = load_diabetes(return_X_y=True)
    model = ProtoNNRegressor(random_state=0).fit(X[:300], y[:300])
    assert model.score(X[300:], y[300:]) > 0.4


def test_units_of_features_and_target_do_not_matter():
    X, y = load_diabetes(return_X_y=True)
    units = 10.0 ** np.arange(-5, 5)
    a = ProtoNNRegressor(max_iter=10, random_state=0).fit(X, y).predict(X)
    b = ProtoNNRegressor(max_iter=10, random_state=0).fit(X * units + 3 * units, 1e6 * y)
    # the standardised float32 rows differ by rounding, which training amplifies
    np.testing.assert_allclose(b.predict(X * units + 3 * units), 1e6 * a, rtol=0.05)


def test_constant_columns_are_ignored(small):
    X, y = small
    wide = np.column_stack([X, np.full(len(X), 7.0), np.zeros(len(X))])
    model = quick().fit(wide, y)
    assert not model.projection_[:, 6:].any()
    assert np.isfinite(model.decision_function(wide)).all()


def test_a_nearly_constant_column_stays_within_20_scales():
    X = np.zeros((1000, 1))
    X[0] = 5
    _, scale = preparation.standardisation(X, np.ones(1000))
    assert np.ptp(X / scale) == pytest.approx(20)


def test_a_constant_target_is_predicted():
    X = np.arange(20.0).reshape(10, 2)
    model = ProtoNNRegressor(max_iter=2).fit(X, np.full(10, 4.0))
    np.testing.assert_allclose(model.predict(X), 4, atol=1e-6)


# --- classes ----------------------------------------------------------------------------------


def test_two_classes_have_one_column(small):
    X, y = small
    names = np.array(["no", "yes"])[(y > 0).astype(int)]
    model = quick().fit(X, names)
    assert model.prototype_labels_.shape[1] == 1
    scores = model.decision_function(X)
    assert scores.shape == (120,)
    np.testing.assert_array_equal(model.predict(X), np.where(scores > 0, "yes", "no"))


def test_probabilities_follow_the_scores(small):
    model = quick().fit(*small)
    proba = model.predict_proba(small[0])
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    np.testing.assert_array_equal(model.classes_[proba.argmax(axis=1)], model.predict(small[0]))


def test_probabilities_are_calibrated():
    """Of rows given a probability near p, a share near p has the class."""
    X, y = make_blobs(4000, 2, centers=[[0, 0], [2, 0]], random_state=0)
    model = ProtoNNClassifier(random_state=0).fit(X[:2000], y[:2000])
    proba = model.predict_proba(X[2000:])[:, 1]
    truth = 1 / (1 + np.exp(2 - 2 * X[2000:, 0]))
    assert np.abs(proba - truth).mean() < 0.05


def test_squared_loss_has_no_probabilities(small):
    assert not hasattr(quick(loss="squared").fit(*small), "predict_proba")


# --- size -------------------------------------------------------------------------------------


@pytest.mark.parametrize("density", [0.05, 0.2, 0.7, 1.0])
def test_density_is_exact(digits, density):
    X_train, _, y_train, _ = digits
    X_train = X_train + np.random.default_rng(0).normal(size=X_train.shape)  # no constant column
    model = quick(projection_density=density, label_density=density, max_iter=3)
    model.fit(X_train, y_train)
    assert np.count_nonzero(model.projection_) == round(density * model.projection_.size)
    labels = model.prototype_labels_
    assert np.count_nonzero(labels) == max(len(labels), round(density * labels.size))
    assert labels.any(axis=1).all()


@pytest.mark.parametrize("max_bytes", [300, 500, 1000, 2000, 4000])
def test_budget_is_kept_and_used(digits, max_bytes):
    X_train, _, y_train, _ = digits
    model = quick(max_bytes=max_bytes, max_iter=1).fit(X_train, y_train)
    assert model.n_model_bytes_ == EXP_TABLE_BYTES + table_bytes(matrices(model))
    assert 0.8 * max_bytes <= model.n_model_bytes_ <= max_bytes


@pytest.mark.parametrize(
    "given_parameters",
    [
        {"n_components": 7},
        {"n_prototypes": 33},
        {"n_components": 3, "n_prototypes": 12},
        {"projection_density": 0.25},
        {"label_density": 0.1, "n_prototypes": 20},
    ],
)
def test_what_is_given_is_kept_within_a_budget(digits, given_parameters):
    X_train, _, y_train, _ = digits
    model = quick(max_bytes=900, max_iter=1, **given_parameters).fit(X_train, y_train)
    shape = {"n_components": len(model.projection_), "n_prototypes": len(model.prototypes_)}
    for name in shape.keys() & given_parameters.keys():
        assert shape[name] == given_parameters[name]
    assert model.n_model_bytes_ <= 900


sizes = st.one_of(st.none(), st.integers(1, 40))
densities = st.one_of(st.none(), st.floats(0.01, 1))


@given(
    st.integers(1, 600),
    st.integers(1, 30),
    sizes,
    sizes,
    densities,
    densities,
    st.integers(0, 5000),
)
def test_a_structure_fits_or_the_smallest_size_is_larger(
    n_features, n_outputs, n_components, n_prototypes, density, label_density, available
):
    sizing = protonn._Sizing(
        n_features, n_outputs, n_outputs, n_components, n_prototypes, density, label_density
    )
    structure = sizing.within(available)
    if structure is None:
        assert sizing.smallest_bytes() > available
        assert sizing.within(sizing.smallest_bytes()) is not None
        return
    assert structure_bytes(structure, n_features, n_outputs) <= available


def structure_bytes(structure, n_features, n_outputs):
    """Bytes when the non-zeros fill row after row, and when they fill column after column."""
    projection = np.zeros((structure.n_components, n_features))
    labels = np.zeros((structure.n_prototypes, n_outputs))
    prototypes = np.ones((structure.n_prototypes, structure.n_components))
    totals = []
    for order in ("C", "F"):
        for matrix, kept in (
            (projection, structure.kept_projection),
            (labels, structure.kept_labels),
        ):
            matrix[:] = np.reshape(np.arange(matrix.size) < kept, matrix.shape, order=order)
        totals.append(table_bytes([projection, prototypes, labels]))
    return max(totals)


def test_an_impossible_budget_names_the_smallest(digits):
    X_train, _, y_train, _ = digits
    message = (
        "The 'max_bytes' parameter of ProtoNNClassifier must be at least 241 for these data "
        "and the other parameters. Got 200 instead."
    )
    with pytest.raises(ValueError, match=message):
        quick(max_bytes=200).fit(X_train, y_train)
    assert quick(max_bytes=241, max_iter=1).fit(X_train, y_train).n_model_bytes_ <= 241


def test_paper_size():
    model = quick(n_components=4, n_prototypes=6, projection_density=0.25, max_iter=1)
    model.fit(*make_blobs(60, 10, centers=3, random_state=0))
    assert model.paper_size_ == 8 * 10 + 4 * 6 * 4 + 4 * 6 * 3
    assert model.paper_size_ == paper_bytes(matrices(model))


def test_no_more_prototypes_than_distinct_rows():
    X = np.repeat(np.eye(4), 10, axis=0)
    y = np.repeat([0, 1, 0, 1], 10)
    model = ProtoNNClassifier(n_prototypes=50, max_iter=5, random_state=0).fit(X, y)
    assert len(model.prototypes_) == 4


# --- 8 bits -----------------------------------------------------------------------------------


def assert_whole(matrix, frac, atol=0.0):
    counts = np.ldexp(matrix, frac)
    np.testing.assert_allclose(counts, np.rint(counts), rtol=0, atol=atol)
    assert 64 <= abs(counts).max() <= 127 + atol  # the finest grid, less what training shrinks


@pytest.mark.parametrize("density", [0.2, 1.0])
@pytest.mark.parametrize("model", [ProtoNNClassifier(), ProtoNNRegressor()])
def test_matrices_are_on_their_grids(model, density):
    rng = np.random.default_rng(0)
    scales = 10.0 ** np.arange(-6, 6)
    X = (rng.normal(size=(200, 12)) + 3) * scales
    y = X @ (rng.normal(size=12) / scales) * 777
    X = np.column_stack([X, np.full(200, 5.0)])
    model.set_params(projection_density=density, max_iter=10, random_state=0)
    model.fit(X, y > np.median(y) if hasattr(model, "loss") else y)
    assert_whole(model.projection_, model.projection_grid_)
    assert_whole(model.prototypes_ - model.origin_, model.prototypes_grid_, atol=1e-9)
    assert_whole(model.prototype_labels_, model.labels_grid_)
    np.testing.assert_allclose(model.origin_, model.projection_ @ X.mean(axis=0), rtol=1e-9)
    assert not model.projection_[:, -1].any()
    assert model.projection_grid_.shape == (13,)


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


@pytest.mark.parametrize("model", [ProtoNNClassifier(), ProtoNNRegressor()])
def test_a_weight_is_a_repetition_on_average(model):
    """The mean prediction over seeds is the same; an unweighted fit is somewhere else."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 2))
    y = (X[:, 0] + rng.normal(size=60) > 0).astype(int)
    weights = np.where(y > 0, 5, 1)

    def output(*fit_arguments, **fit_parameters):
        outputs = []
        for seed in range(12):
            model.set_params(random_state=seed, max_iter=30, n_prototypes=4)
            model.fit(*fit_arguments, **fit_parameters)
            outputs.append(
                model.predict_proba(X)[:, 1] if hasattr(model, "classes_") else model.predict(X)
            )
        return np.mean(outputs, axis=0)

    weighted = output(X, y, sample_weight=weights)
    repeated = output(np.repeat(X, weights, axis=0), np.repeat(y, weights))
    plain = output(X, y)
    assert np.abs(weighted - repeated).mean() < 0.25 * np.abs(plain - repeated).mean()


def test_class_weight_multiplies_sample_weight(small):
    X, y = small
    a = quick(class_weight={0: 3, 1: 1, 2: 1}).fit(X, y)
    b = quick().fit(X, y, sample_weight=np.where(y == 0, 3.0, 1.0))
    np.testing.assert_array_equal(a.decision_function(X), b.decision_function(X))


def test_slices_follow_weighted_quantiles():
    y, weights = np.arange(10.0), np.array([11.0, *[1] * 9])
    repeated = preparation.slices(np.repeat(y, weights.astype(int)), np.ones(20), n_slices=4)
    np.testing.assert_array_equal(
        preparation.slices(y, weights, n_slices=4), repeated[np.r_[0, 11:20]]
    )


# --- determinism ------------------------------------------------------------------------------


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
    assert "ProtoNNClassifier" in captured.err


# --- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("n_components", 0),
        ("projection_density", 0),
        ("label_density", 1.5),
        ("max_bytes", -1),
        ("projection", "pca"),
        ("loss", "hinge"),
        ("input_noise", -0.1),
        ("learning_rate", 0),
        ("batch_size", "all"),
    ],
)
def test_a_bad_parameter_is_named(small, parameter, value):
    message = f"The '{parameter}' parameter of ProtoNNClassifier must be .* Got {value!r} instead"
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


@pytest.mark.parametrize("model", [ProtoNNClassifier(), ProtoNNRegressor()])
def test_two_targets_are_refused(small, model):
    with pytest.raises(ValueError, match="y should be a 1d array"):
        model.fit(small[0], np.column_stack([small[1], small[1]]))
