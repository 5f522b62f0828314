"""What is particular to compact SVMs: formulas and gradient, the start, sizes, probabilities."""

import pickle

import naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from joblib import Parallel, delayed
from sklearn.datasets import load_diabetes, load_digits, make_blobs, make_moons
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC

import tinyml
from tinyml.codegen.ops import ChosenMatVec, MatVec, Mul, SquaredDistance
from tinyml.codegen.storage import EXP_TABLE_BYTES, table_bytes
from tinyml.estimators import CompactSVC, CompactSVR, compact_svm
from tinyml.training import kernels, losses
from tinyml.training.optimizers import views

KERNELS = ["rbf", "laplacian", "poly", "linear"]
WITH_VECTORS = KERNELS[:3]


@pytest.fixture(scope="module")
def digits():
    return train_test_split(*load_digits(return_X_y=True), random_state=0)


@pytest.fixture(scope="module")
def small():
    return make_blobs(120, 6, centers=3, cluster_std=3, random_state=0)


def quick(**parameters):
    return CompactSVC(**{"max_iter": 10, "random_state": 0, **parameters})


# --- formulas and the gradient ----------------------------------------------------------------


@pytest.mark.parametrize("n_components", [0, 2])
@pytest.mark.parametrize("kernel", WITH_VECTORS)
def test_scores_are_those_of_the_formula(small, kernel, n_components):
    X, y = small
    X = X * [1, 1, 1, 100, 1, 1]
    model = quick(kernel=kernel, n_components=n_components, degree=3).fit(X, y)
    gamma, scores = getattr(model, "gamma_", None), model.decision_function(X[:9])
    for x, row in zip(X[:9], scores, strict=True):
        if n_components:
            seen = model.projection_ @ x - model.origin_
        else:
            seen = (x - model.origin_) / model.scale_
        values = [naive.kernel(kernel, seen, z, gamma, 3) for z in model.vectors_]
        np.testing.assert_allclose(row, model.dual_coef_ @ values + model.intercept_, atol=1e-8)


def test_linear_scores_are_one_product(small):
    model = quick(kernel="linear").fit(*small)
    assert model.coef_.shape == (3, 6)
    scores = small[0] @ model.coef_.T + model.intercept_
    np.testing.assert_allclose(model.decision_function(small[0]), scores)


def score(parts, kernel, X):
    *W, Z, B, b, log_gamma = parts
    seen = X @ W[0].T if W else X
    values = kernel.values(seen, Z, np.exp(log_gamma[0]))[0]
    return values @ B + b


@pytest.mark.parametrize("has_map", [True, False])
@pytest.mark.parametrize("kernel", [kernels.Gaussian(), kernels.Laplacian(), kernels.Polynomial(2)])
@pytest.mark.parametrize("loss", [losses.softmax_cross_entropy, losses.squared_hinge])
def test_gradient_is_that_of_finite_differences(kernel, loss, has_map):
    rng = np.random.default_rng(0)
    shapes = [(2, 5), (4, 2 if has_map else 5), (4, 3), (3,), (1,)]
    parts = [0.5 * rng.standard_normal(shape) for shape in shapes[0 if has_map else 1 :]]
    X, y, weights = rng.standard_normal((9, 5)), rng.integers(3, size=9), rng.uniform(0.5, 2, 9)
    task = X.astype(np.float32), y, weights.astype(np.float32), loss, lambda X: None
    objective = compact_svm._Kernelled(parts, kernel, *task)
    _, gradient = objective(np.arange(9))
    flat = np.concatenate([part.ravel() for part in parts])

    def value(flat):
        scores = score(views(flat, objective.shapes), kernel, X)
        return getattr(naive, loss.__name__)(scores, y, weights)

    steps = 1e-5 * np.eye(flat.size)
    slopes = [(value(flat + step) - value(flat - step)) / 2e-5 for step in steps]
    np.testing.assert_allclose(gradient, slopes, rtol=1e-3, atol=2e-5)


def test_gradient_of_the_linear_kernel():
    rng = np.random.default_rng(0)
    W, b, X = rng.standard_normal((3, 5)), rng.standard_normal(3), rng.standard_normal((9, 5))
    y, weights = rng.integers(3, size=9), rng.uniform(0.5, 2, 9)
    task = X.astype(np.float32), y, weights.astype(np.float32)
    objective = compact_svm._Linear([W, b], *task, losses.squared_hinge, lambda X: None)
    _, gradient = objective(np.arange(9))

    def value(flat):
        return naive.squared_hinge(X @ flat[:15].reshape(3, 5).T + flat[15:], y, weights)

    flat = np.concatenate([W.ravel(), b])
    steps = 1e-5 * np.eye(flat.size)
    slopes = [(value(flat + step) - value(flat - step)) / 2e-5 for step in steps]
    np.testing.assert_allclose(gradient, slopes, rtol=1e-3, atol=2e-5)


# --- the start --------------------------------------------------------------------------------


def test_all_vectors_of_the_svm_are_the_svm(small):
    """With as many vectors as support the SVM, the reduced set decides as it does."""
    X, y = small
    y = (y > 0).astype(int)
    model = CompactSVC(120, 0, C=1.0, max_iter=0, random_state=0).fit(X, y)
    unit = np.sqrt(X.var(axis=0).mean())
    svm = SVC(C=1.0, gamma=1 / (6 * ((X - model.origin_) / unit).var())).fit(X / unit, y)
    assert np.mean(model.predict(X) == svm.predict(X / unit)) > 0.97


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_reduced_set_alone_is_a_model(digits, kernel):
    X_train, X_test, y_train, y_test = digits
    model = CompactSVC(60, kernel=kernel, max_iter=0, random_state=0).fit(X_train, y_train)
    assert model.score(X_test, y_test) > 0.9


def test_every_class_is_in_the_sample():
    groups = np.repeat([0, 1, 2], [5000, 3, 1])
    rows = compact_svm._sample(groups, 1000, np.random.default_rng(0))
    assert set(groups[rows]) == {0, 1, 2}
    assert len(rows) < 1010
    assert len(np.unique(rows)) == len(rows)


def test_features_of_like_ranges_keep_their_units():
    X = np.array([[0, 10, 5], [255, 240, 5]])
    scaling = compact_svm._power_scaling(X)
    np.testing.assert_array_equal(scaling.kept, 1)
    np.testing.assert_array_equal(scaling.origin, 128)


def test_features_of_unlike_ranges_are_shifted():
    X = np.array([[0, -1e-3, 7], [1000, 3e-3, 7]])
    scaling = compact_svm._power_scaling(X)
    np.testing.assert_array_equal(np.log2(scaling.kept), [10, -8, 10])
    assert np.abs((X - scaling.origin) / scaling.kept).max() < 0.75


# --- accuracy ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "least"),
    [
        ({}, 0.96),
        ({"loss": "squared_hinge"}, 0.96),
        ({"kernel": "laplacian"}, 0.96),
        ({"kernel": "poly"}, 0.96),
        ({"kernel": "poly", "degree": 3, "n_components": 0}, 0.95),
        ({"kernel": "linear"}, 0.94),
        ({"n_components": 0}, 0.96),
    ],
)
def test_digits(digits, parameters, least):
    X_train, X_test, y_train, y_test = digits
    model = CompactSVC(random_state=0, **parameters).fit(X_train, y_train)
    assert model.score(X_test, y_test) > least


@pytest.mark.parametrize("kernel", WITH_VECTORS)
def test_classes_that_no_line_separates(kernel):
    X, y = make_moons(400, noise=0.1, random_state=0)
    model = CompactSVC(kernel=kernel, degree=3, random_state=0).fit(X[:200], y[:200])
    assert model.score(X[200:], y[200:]) > 0.95


@pytest.mark.parametrize("kernel", KERNELS)
def test_regression(kernel):
    X, y = load_diabetes(return_X_y=True)
    model = CompactSVR(8, kernel=kernel, random_state=0).fit(X[:300], y[:300])
    assert model.score(X[300:], y[300:]) > 0.4


@pytest.mark.parametrize("kernel", KERNELS)
def test_units_of_features_and_target_do_not_matter(kernel):
    X, y = load_diabetes(return_X_y=True)
    units = 2.0 ** np.arange(-5, 5)
    a = CompactSVR(8, kernel=kernel, max_iter=10, random_state=0).fit(X, y).predict(X)
    b = CompactSVR(8, kernel=kernel, max_iter=10, random_state=0).fit(X * units, 1e6 * y)
    assert np.corrcoef(b.predict(X * units), a)[0, 1] > 0.99


@pytest.mark.parametrize("kernel", KERNELS)
def test_constant_columns_are_ignored(small, kernel):
    X, y = small
    wide = np.column_stack([X, np.full(len(X), 7.0), np.zeros(len(X))])
    model = quick(kernel=kernel).fit(wide, y)
    assert np.isfinite(model.decision_function(wide)).all()
    assert model.score(wide, y) > 0.6


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_constant_target_is_predicted(kernel):
    X = np.arange(20.0).reshape(10, 2)
    model = CompactSVR(kernel=kernel, max_iter=2).fit(X, np.full(10, 4.0))
    np.testing.assert_allclose(model.predict(X), 4, atol=1e-6)


# --- classes and probabilities ----------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS)
def test_two_classes_have_one_score(small, kernel):
    X, y = small
    names = np.array(["no", "yes"])[(y > 0).astype(int)]
    model = quick(kernel=kernel).fit(X, names)
    scores = model.decision_function(X)
    assert scores.shape == (120,)
    np.testing.assert_array_equal(model.predict(X), np.where(scores > 0, "yes", "no"))


def test_no_probabilities_without_calibration(small):
    assert not hasattr(quick().fit(*small), "predict_proba")


@pytest.mark.parametrize("loss", ["cross_entropy", "squared_hinge"])
def test_probabilities_are_calibrated(loss):
    """Of rows given a probability near p, a share near p has the class."""
    X, y = make_blobs(4000, 2, centers=[[0, 0], [2, 0]], random_state=0)
    model = CompactSVC(loss=loss, probability=True, random_state=0).fit(X[:2000], y[:2000])
    proba = model.predict_proba(X[2000:])
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    np.testing.assert_array_equal(proba.argmax(axis=1), model.predict(X[2000:]))
    truth = 1 / (1 + np.exp(2 - 2 * X[2000:, 0]))
    assert np.abs(proba[:, 1] - truth).mean() < 0.05


def test_calibration_makes_unseen_rows_likelier(digits):
    X_train, X_test, y_train, y_test = digits
    raw, calibrated = (
        quick(n_vectors=60, probability=p, max_iter=40).fit(X_train[:400], y_train[:400])
        for p in (False, True)
    )
    rows = np.arange(len(y_test))
    scores = raw.decision_function(X_test)
    before = scores[rows, y_test] - np.log(np.exp(scores).sum(axis=1))
    after = np.log(calibrated.predict_proba(X_test)[rows, y_test])
    assert after.mean() > before.mean()


def test_a_class_of_one_row_is_calibrated(small):
    X, y = small
    y = np.where(np.arange(120) == 7, 3, y)
    assert quick(probability=True).fit(X, y).predict_proba(X).shape == (120, 4)


# --- size -------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_bytes", [500, 1000, 2000, 4000])
@pytest.mark.parametrize("kernel", WITH_VECTORS)
def test_budget_is_kept_and_used(digits, kernel, max_bytes):
    X_train, _, y_train, _ = digits
    model = quick(kernel=kernel, max_bytes=max_bytes, max_iter=1).fit(X_train, y_train)
    assert 0.8 * max_bytes <= model.n_model_bytes_ <= max_bytes


@pytest.mark.parametrize("max_bytes", [280, 500, 900])
@pytest.mark.parametrize("kernel", ["rbf", "laplacian"])
def test_scales_of_features_are_within_the_budget(kernel, max_bytes):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 20)) * 10.0 ** rng.integers(-3, 4, 20)
    y = rng.integers(3, size=200)
    model = quick(kernel=kernel, n_components=0, max_bytes=max_bytes, max_iter=1).fit(X, y)
    assert np.ptp(model.scale_) > 0
    assert 0.8 * max_bytes <= model.n_model_bytes_ <= max_bytes
    program = tinyml.compile(model, X, bits=8)
    assert program.table_bytes <= model.n_model_bytes_ + 2 * 20  # where scales need 16 bits


def test_bytes_are_those_of_the_arrays(digits):
    X_train, _, y_train, _ = digits
    model = quick(max_bytes=1500, max_iter=1).fit(X_train, y_train)
    arrays = [model.projection_, model.origin_, model.vectors_, model.dual_coef_, model.intercept_]
    assert model.n_model_bytes_ == EXP_TABLE_BYTES + table_bytes(arrays)
    model = quick(kernel="linear").fit(X_train, y_train)
    assert model.n_model_bytes_ == table_bytes([model.coef_, model.intercept_])


@pytest.mark.parametrize(
    "given_parameters",
    [{"n_components": 7}, {"n_vectors": 33}, {"n_components": 3, "n_vectors": 9}],
)
def test_what_is_given_is_kept_within_a_budget(digits, given_parameters):
    X_train, _, y_train, _ = digits
    model = quick(max_bytes=1200, max_iter=1, **given_parameters).fit(X_train, y_train)
    shape = {"n_components": len(model.projection_), "n_vectors": len(model.vectors_)}
    for name in given_parameters:
        assert shape[name] == given_parameters[name]
    assert model.n_model_bytes_ <= 1200


@given(
    st.integers(1, 600),
    st.integers(1, 30),
    st.sampled_from(WITH_VECTORS),
    st.one_of(st.none(), st.integers(0, 40)),
    st.one_of(st.none(), st.integers(1, 40)),
    st.sampled_from([0, 8]),
    st.integers(0, 9000),
)
def test_a_structure_fits_or_the_smallest_size_is_larger(
    n_features, n_outputs, kernel, n_components, n_vectors, of_features, available
):
    given_sizes = n_components, n_vectors, of_features * n_features
    sizing = compact_svm._Sizing(n_features, n_outputs, kernel, *given_sizes)
    found = sizing.within(available)
    if found is None:
        assert sizing.smallest_bytes() > available
        assert sizing.within(sizing.smallest_bytes()) is not None
        return
    n_components, n_vectors = found
    size = sizing.shared_bytes(n_components) + n_vectors * sizing.vector_bytes(n_components)
    assert n_vectors > 0
    assert size <= available


@pytest.mark.parametrize(("kernel", "smallest"), [("rbf", 225), ("linear", 660)])
def test_an_impossible_budget_names_the_smallest(digits, kernel, smallest):
    X_train, _, y_train, _ = digits
    message = (
        f"The 'max_bytes' parameter of CompactSVC must be at least {smallest} for these data "
        "and the other parameters. Got 200 instead."
    )
    with pytest.raises(ValueError, match=message):
        quick(kernel=kernel, max_bytes=200).fit(X_train, y_train)
    model = quick(kernel=kernel, max_bytes=smallest, max_iter=1).fit(X_train, y_train)
    assert model.n_model_bytes_ <= smallest


def test_no_more_vectors_than_distinct_rows():
    X = np.repeat(np.eye(4), 10, axis=0)
    y = np.repeat([0, 1, 0, 1], 10)
    model = CompactSVC(50, max_iter=5, random_state=0).fit(X, y)
    assert len(model.vectors_) <= 4


# --- 8 bits, and what the chip computes -------------------------------------------------------


def assert_whole(matrix, frac):
    counts = np.ldexp(matrix, frac)
    np.testing.assert_array_equal(counts, np.rint(counts))
    assert 32 <= abs(counts).max() <= 127


@pytest.mark.parametrize("n_components", [0, 3])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("model", [CompactSVC(), CompactSVR()])
def test_matrices_are_on_their_grids(model, kernel, n_components):
    rng = np.random.default_rng(0)
    scales = 10.0 ** np.arange(-3, 3)
    X = (rng.normal(size=(200, 6)) + 3) * scales
    y = X @ (rng.normal(size=6) / scales) * 777
    model.set_params(kernel=kernel, n_components=n_components, max_iter=10, random_state=0)
    model.fit(X, y > np.median(y) if hasattr(model, "loss") else y)
    if kernel == "linear":
        assert_whole(model.coef_, model.coef_grid_)
        return
    assert_whole(model.vectors_, model.vectors_grid_)
    assert_whole(model.dual_coef_, model.dual_coef_grid_)
    if n_components:
        assert_whole(model.projection_, model.projection_grid_)


def test_the_laplacian_kernel_multiplies_coefficients_alone(digits):
    X_train, _, y_train, _ = digits
    program = tinyml.compile(quick(kernel="laplacian").fit(X_train, y_train), X_train, bits=8)
    products = [op for op in program.ops if isinstance(op, MatVec | Mul | SquaredDistance)]
    assert len(products) == 1
    assert products[0] is program.scores
    assert not any(isinstance(op, ChosenMatVec) for op in program.ops)


@pytest.mark.device
def test_a_chip_without_a_multiplier_is_fast_with_the_laplacian_kernel(digits):
    X_train, _, y_train, _ = digits
    cycles = {}
    for kernel in ("rbf", "laplacian"):
        model = quick(n_vectors=20, n_components=0, kernel=kernel).fit(X_train, y_train)
        program = tinyml.compile(model, X_train, bits=8)
        for board in ("uno", "attiny85"):
            cycles[kernel, board] = tinyml.measure(program, X_train[:5], board).cycles
    assert cycles["laplacian", "uno"] < 20 * 20 * 64
    assert cycles["laplacian", "uno"] < cycles["rbf", "uno"]
    assert cycles["laplacian", "attiny85"] < cycles["rbf", "attiny85"] / 2.5


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_integer_program_is_as_good(digits, kernel):
    X_train, X_test, y_train, y_test = digits
    model = CompactSVC(kernel=kernel, random_state=0).fit(X_train, y_train)
    program = tinyml.compile(model, X_train, bits=8)
    assert program.score(X_test, y_test) > model.score(X_test, y_test) - 0.01


# --- weights ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS)
def test_rows_of_weight_zero_count_as_absent(small, kernel):
    X, y = small
    weights = np.random.default_rng(0).uniform(0.5, 2, len(y))
    weights[::3] = 0
    present = weights > 0
    a = quick(kernel=kernel).fit(X, y, sample_weight=weights)
    b = quick(kernel=kernel).fit(X[present], y[present], sample_weight=weights[present])
    np.testing.assert_array_equal(a.decision_function(X), b.decision_function(X))


def test_the_scale_of_weights_does_not_matter(small):
    X, y = small
    a = quick().fit(X, y)
    b = quick().fit(X, y, sample_weight=np.full(len(y), 8.0))
    np.testing.assert_array_equal(a.decision_function(X), b.decision_function(X))


def test_a_weight_is_a_repetition_on_average():
    """The mean prediction over seeds is the same; an unweighted fit is somewhere else."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 2))
    y = (X[:, 0] + rng.normal(size=60) > 0).astype(int)
    weights = np.where(y > 0, 5, 1)

    def output(X_train, y_train, **weights):
        fits = [
            CompactSVC(4, max_iter=30, random_state=seed).fit(X_train, y_train, **weights)
            for seed in range(12)
        ]
        return np.mean([fit.decision_function(X) for fit in fits], axis=0)

    weighted = output(X, y, sample_weight=weights)
    repeated = output(np.repeat(X, weights, axis=0), np.repeat(y, weights))
    plain = output(X, y)
    assert np.abs(weighted - repeated).mean() < 0.4 * np.abs(plain - repeated).mean()


def test_class_weight_multiplies_sample_weight(small):
    X, y = small
    a = quick(class_weight={0: 3, 1: 1, 2: 1}).fit(X, y)
    b = quick().fit(X, y, sample_weight=np.where(y == 0, 3.0, 1.0))
    np.testing.assert_array_equal(a.decision_function(X), b.decision_function(X))


# --- determinism ------------------------------------------------------------------------------


def fitted_state(parameters, data):
    model = quick(**parameters).fit(*data)
    names = ["vectors_", "dual_coef_", "intercept_", "gamma_", "origin_", "loss_curve_"]
    return pickle.dumps([vars(model)[name] for name in names])


@pytest.mark.parametrize("parameters", [{}, {"kernel": "laplacian", "probability": True}])
def test_same_seed_same_bits_whatever_n_jobs(small, parameters):
    settings = [{**parameters, "random_state": seed} for seed in (0, 1)]
    alone = [fitted_state(setting, small) for setting in settings]
    together = Parallel(n_jobs=2)(delayed(fitted_state)(setting, small) for setting in settings)
    assert alone == together
    assert alone[0] != alone[1]


def test_the_progress_bar_changes_nothing_and_is_on_stderr(small, capsys):
    a, b = quick().fit(*small), quick(verbose=True).fit(*small)
    np.testing.assert_array_equal(a.vectors_, b.vectors_)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "CompactSVC" in captured.err


# --- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("n_vectors", 0),
        ("n_components", -1),
        ("kernel", "sigmoid"),
        ("degree", 1),
        ("gamma", 0),
        ("C", -1),
        ("max_bytes", -1),
        ("loss", "hinge"),
        ("input_noise", -0.1),
        ("probability", "yes"),
    ],
)
def test_a_bad_parameter_is_named(small, parameter, value):
    message = f"The '{parameter}' parameter of CompactSVC must be .* Got {value!r} instead"
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


@pytest.mark.parametrize("model", [CompactSVC(), CompactSVR()])
def test_two_targets_are_refused(small, model):
    with pytest.raises(ValueError, match="y should be a 1d array"):
        model.fit(small[0], np.column_stack([small[1], small[1]]))
