"""FastGRNN and the other cells: formulas, gradients, sizes, sequences that end, determinism."""

import pickle

import naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from joblib import Parallel, delayed
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import tinyml
from tinyml.codegen.storage import paper_bytes, table_bytes
from tinyml.estimators import FastGRNNClassifier, FastGRNNRegressor, SequenceScaler, fastgrnn
from tinyml.training import losses

CELLS = sorted(fastgrnn.N_BLOCKS)
STEP = {cell: getattr(naive, f"{cell}_step") for cell in CELLS}


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return train_test_split(X, y, random_state=0)


@pytest.fixture(scope="module")
def small():
    """Which of three channels has the largest mean over seven steps."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(150, 7, 3)) + rng.normal(size=(150, 1, 3))
    return X.reshape(150, 21), X.mean(axis=1).argmax(axis=1)


def quick(**parameters):
    defaults = {"n_hidden": 6, "n_channels": 3, "max_iter": 5, "random_state": 0}
    return FastGRNNClassifier(**(defaults | parameters))


def tables(model):
    return [
        *model.W_factors_,
        *model.U_factors_,
        *model._extras(),
        model.coef_,
        model.intercept_,
    ]


# --- the formulas -----------------------------------------------------------------------------


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("ranks", [{}, {"w_rank": 2, "u_rank": 3}])
def test_scores_are_those_of_the_naive_twin(small, cell, ranks):
    X, y = small
    model = quick(cell=cell, **ranks).fit(X, y)
    X = X[:20].copy()
    X[::3, 9:] = np.nan
    X[4] = np.nan
    counts = np.where(np.arange(20) % 3 == 0, 3, 7)
    counts[4] = 0
    extras = model._extras()
    states = naive.last_states(STEP[cell], X.reshape(20, 7, 3), counts, model.W_, model.U_, *extras)
    wanted = states @ model.coef_.T + model.intercept_
    np.testing.assert_allclose(model.decision_function(X), wanted, rtol=1e-9, atol=1e-9)


def objective_of(cell, ranks, loss, targets, n_outputs):
    rng = np.random.default_rng(0)
    sizing = fastgrnn._Sizing(cell, 2, n_outputs, 4, *ranks, None, None)
    structure = sizing.unbounded()
    start = FastGRNNClassifier(cell=cell)._start(structure, n_outputs, rng)
    for part in [*start.extras, start.head_bias]:
        part += 0.1 * rng.standard_normal(part.shape)
    X = (0.7 * rng.standard_normal((9, 5, 2))).astype(np.float32)
    counts = np.array([5, 5, 3, 0, 1, 5, 2, 5, 4])
    weights = rng.uniform(0.5, 2, 9).astype(np.float32)
    y = targets(rng)
    objective = fastgrnn._Objective(
        cell, start, structure, X, counts, y, weights, loss, lambda X: None
    )
    return objective, start, structure, X, counts, y, weights


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("ranks", [(None, None), (1, 2)])
@pytest.mark.parametrize(
    ("loss", "targets", "n_outputs"),
    [
        (losses.softmax_cross_entropy, lambda rng: rng.integers(3, size=9), 3),
        (losses.logistic, lambda rng: rng.integers(2, size=9), 1),
        (losses.squared, lambda rng: rng.standard_normal((9, 1)).astype(np.float32), 1),
    ],
)
def test_gradient_is_that_of_finite_differences(cell, ranks, loss, targets, n_outputs, monkeypatch):
    monkeypatch.setattr(fastgrnn, "_LARGEST_GRADIENT", np.inf)
    objective, start, structure, X, counts, y, weights = objective_of(
        cell, ranks, loss, targets, n_outputs
    )
    _, gradient = objective(np.arange(9))
    shapes = [part.shape for part in start.flat()]

    def value(flat):
        p = fastgrnn._Parameters.of(fastgrnn.views(flat, shapes), structure)
        W, U = fastgrnn._product(p.W), fastgrnn._product(p.U)
        extras = fastgrnn._squashed(cell, p.extras)
        states = naive.last_states(STEP[cell], X.astype(float), counts, W, U, *extras)
        scores = states @ p.head.T + p.head_bias
        return getattr(naive, loss.__name__)(scores, y, weights.astype(float))

    flat = objective.theta.astype(np.float64)
    steps = 1e-6 * np.eye(flat.size)
    slopes = [(value(flat + step) - value(flat - step)) / 2e-6 for step in steps]
    np.testing.assert_allclose(gradient, slopes, rtol=1e-3, atol=1e-5)


def test_large_gradients_are_shortened():
    objective, *_ = objective_of(
        "gru", (None, None), losses.squared, lambda rng: np.full((9, 1), 1e3, np.float32), 1
    )
    _, gradient = objective(np.arange(9))
    assert np.linalg.norm(gradient) == pytest.approx(1, rel=1e-5)


# --- accuracy ---------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("loss", ["cross_entropy", "hinge"])
def test_digits(digits, cell, loss):
    X_train, X_test, y_train, y_test = digits
    model = FastGRNNClassifier(cell=cell, loss=loss, n_channels=8, random_state=0)
    assert model.fit(X_train, y_train).score(X_test, y_test) > (0.9 if cell == "fastrnn" else 0.95)


@pytest.mark.parametrize("cell", ["fastgrnn", "gru"])
def test_the_first_step_is_remembered(cell):
    """Twenty steps of noise follow the one that decides."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 20))
    y = X[:, 0] > 0
    model = FastGRNNClassifier(12, cell=cell, max_iter=60, offset_noise=0, random_state=0)
    assert model.fit(X[:400], y[:400]).score(X[400:], y[400:]) > 0.9


@pytest.mark.parametrize("cell", CELLS)
def test_regression(cell):
    rng = np.random.default_rng(0)
    X = rng.uniform(size=(500, 10))
    y = 100 + 50 * X.mean(axis=1)
    model = FastGRNNRegressor(8, cell=cell, offset_noise=0, random_state=0)
    assert model.fit(X[:300], y[:300]).score(X[300:], y[300:]) > 0.9


def test_units_of_channels_and_target_do_not_matter():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 6, 2))
    y = X.mean(axis=(1, 2))
    units = np.array([1e-4, 1e5])
    a = FastGRNNRegressor(4, n_channels=2, max_iter=5, random_state=0).fit(X, y)
    b = FastGRNNRegressor(4, n_channels=2, max_iter=5, random_state=0)
    b.fit(X * units + 3 * units, 1e6 * y)
    # the standardised float32 rows differ by rounding, which training amplifies
    np.testing.assert_allclose(b.predict(X * units + 3 * units), 1e6 * a.predict(X), rtol=0.05,
                               atol=2e4)  # fmt: skip


# --- sequences --------------------------------------------------------------------------------


def test_three_dimensions_are_time_major(small):
    X, y = small
    a, b = quick().fit(X, y), quick().fit(X.reshape(-1, 7, 3), y)
    np.testing.assert_array_equal(a.decision_function(X), b.decision_function(X.reshape(-1, 7, 3)))
    assert b.n_features_in_ == 21


def test_what_follows_the_end_is_ignored(small):
    X, y = (part.copy() for part in small)
    X[::2, 12:15] = np.nan
    Z = X.copy()
    Z[::2, 15:] = 1e9
    a, b = quick().fit(X, y), quick().fit(Z, y)
    np.testing.assert_array_equal(a.decision_function(X), b.decision_function(Z))
    short = X[::2, :12]
    np.testing.assert_allclose(
        a.decision_function(X[::2]),
        a.decision_function(np.pad(short, [(0, 0), (0, 9)], constant_values=np.nan)),
    )


def test_a_sequence_may_be_empty(small):
    X, y = (part.copy() for part in small)
    X[0] = np.nan
    model = quick().fit(X, y)
    np.testing.assert_allclose(model.decision_function(X[:1])[0], model.intercept_)


def test_sequences_that_are_all_empty_are_refused(small):
    X, y = small
    with pytest.raises(ValueError, match="needs at least one time step"):
        quick().fit(np.full_like(X, np.nan), y)


def test_a_step_that_is_missing_in_part_is_refused(small):
    X, y = (part.copy() for part in small)
    X[5, 4] = np.nan
    with pytest.raises(ValueError, match="must be NaN in every channel"):
        quick().fit(X, y)


@pytest.mark.parametrize("X", [np.zeros((4, 20)), np.zeros((4, 5, 4))])
def test_channels_must_fit(X):
    with pytest.raises(ValueError, match="n_channels=3"):
        quick().fit(X, [0, 1, 0, 1])


def test_constant_channels_are_ignored(small):
    X, y = small
    wide = np.concatenate([X.reshape(-1, 7, 3), np.full((150, 7, 1), 7.0)], axis=2)
    model = quick(n_channels=4).fit(wide, y)
    assert not model.W_[:, 3].any()


@pytest.mark.parametrize("model", [quick(), FastGRNNRegressor(3, n_channels=3, max_iter=2)])
def test_infinity_is_refused(small, model):
    X, y = (part.copy() for part in small)
    X[0, 0] = np.inf
    with pytest.raises(ValueError, match="contains infinity"):
        model.fit(X, y)


# --- size -------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("density", [0.1, 0.5, 1.0])
def test_density_is_exact(small, cell, density):
    model = quick(cell=cell, w_rank=2, u_rank=3, w_density=density, u_density=density, n_hidden=12)
    model.fit(*small)
    for factor in model.W_factors_ + model.U_factors_:
        assert np.count_nonzero(factor) == max(1, round(density * factor.size))
    assert np.linalg.matrix_rank(model.W_) <= 2
    assert np.linalg.matrix_rank(model.U_) <= 3


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("max_bytes", [120, 300, 1000, 3000])
def test_budget_is_kept_and_used(small, cell, max_bytes):
    model = quick(cell=cell, n_hidden=None, max_bytes=max_bytes, max_iter=1).fit(*small)
    assert model.n_model_bytes_ == table_bytes(tables(model))
    assert 0.7 * max_bytes <= model.n_model_bytes_ <= max_bytes


def test_with_states_given_a_budget_makes_matrices_sparse(small):
    model = quick(n_hidden=20, max_bytes=400).fit(*small)
    assert len(model.U_) == 20
    assert 0.7 * 400 <= model.n_model_bytes_ <= 400


sizes = st.integers(1, 40)
densities = st.one_of(st.none(), st.floats(0.01, 1))


@given(
    st.sampled_from(CELLS),
    sizes,
    sizes,
    st.one_of(st.none(), sizes),
    st.one_of(st.none(), sizes),
    st.one_of(st.none(), sizes),
    densities,
    densities,
    st.integers(0, 5000),
)
def test_a_structure_fits_or_the_smallest_size_is_larger(
    cell, n_channels, n_outputs, n_hidden, w_rank, u_rank, w_density, u_density, available
):
    sizing = fastgrnn._Sizing(
        cell, n_channels, n_outputs, n_hidden, w_rank, u_rank, w_density, u_density
    )
    structure = sizing.within(available)
    if structure is None:
        assert sizing.smallest_bytes() > available
        assert sizing.within(sizing.smallest_bytes()) is not None
        return
    assert structure_bytes(structure, cell, n_outputs) <= available
    assert n_hidden in (None, structure.n_hidden)


def structure_bytes(structure, cell, n_outputs):
    """Bytes when the non-zeros fill row after row, and when they fill column after column."""
    n = structure.n_hidden
    totals = []
    for order in ("C", "F"):
        arrays = [np.ones((n_outputs, n)), np.ones(n_outputs), np.ones(fastgrnn.N_BIASES[cell](n))]
        for shape, kept in zip(
            structure.w_shapes + structure.u_shapes,
            structure.w_kept + structure.u_kept,
            strict=True,
        ):
            arrays.append(np.reshape(np.arange(np.prod(shape)) < kept, shape, order=order))
        totals.append(table_bytes(arrays))
    return max(totals)


def test_an_impossible_budget_names_the_smallest(small):
    with pytest.raises(ValueError, match="must be at least") as raised:
        quick(max_bytes=10).fit(*small)
    smallest = int(str(raised.value).split("at least ")[1].split()[0])
    assert str(raised.value) == (
        f"The 'max_bytes' parameter of FastGRNNClassifier must be at least {smallest} "
        "for these data and the other parameters. Got 10 instead."
    )
    assert quick(max_bytes=smallest, max_iter=1).fit(*small).n_model_bytes_ <= smallest


def test_paper_size_counts_everything():
    """The 7728 bytes of 32 states, 16 channels and 10 classes."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 32)), np.arange(40) % 10
    model = FastGRNNClassifier(32, n_channels=16, max_iter=1, random_state=0).fit(X, y)
    assert model.paper_size_ == paper_bytes(tables(model)) == 7728


@pytest.mark.parametrize("cell", CELLS)
def test_matrices_are_on_grids_of_8_bits(small, cell):
    model = quick(cell=cell, w_rank=2).fit(*small)
    matrices = [*model.W_factors_, *model.U_factors_, model.coef_]
    grids = [*model.W_grids_, *model.U_grids_, model.coef_grid_]
    for matrix, grid in zip(matrices, grids, strict=True):
        integers = matrix * 2.0**grid
        np.testing.assert_array_equal(integers, np.rint(integers))
        assert np.abs(integers).max() <= 127


# --- weights and determinism ------------------------------------------------------------------


def test_rows_of_weight_zero_count_as_absent(small):
    X, y = small
    weights = np.random.default_rng(0).uniform(0.5, 2, len(y))
    weights[::3] = 0
    present = weights > 0
    a = quick().fit(X, y, sample_weight=weights)
    b = quick().fit(X[present], y[present], sample_weight=weights[present])
    np.testing.assert_array_equal(a.decision_function(X), b.decision_function(X))


def test_class_weight_multiplies_sample_weight(small):
    X, y = small
    a = quick(class_weight={0: 3, 1: 1, 2: 1}).fit(X, y)
    b = quick().fit(X, y, sample_weight=np.where(y == 0, 3.0, 1.0))
    np.testing.assert_array_equal(a.decision_function(X), b.decision_function(X))


def test_a_weight_is_a_repetition_on_average():
    """The mean prediction over seeds is the same; an unweighted fit is somewhere else."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 2))
    y = (X[:, 0] + rng.normal(size=60) > 0).astype(int)
    weights = np.where(y > 0, 5, 1)

    def output(*fit_arguments, **fit_parameters):
        model = FastGRNNClassifier(4, max_iter=30)
        outputs = [
            model.set_params(random_state=seed).fit(*fit_arguments, **fit_parameters)
            .predict_proba(X)[:, 1]
            for seed in range(12)
        ]  # fmt: skip
        return np.mean(outputs, axis=0)

    weighted = output(X, y, sample_weight=weights)
    repeated = output(np.repeat(X, weights, axis=0), np.repeat(y, weights))
    plain = output(X, y)
    assert np.abs(weighted - repeated).mean() < 0.35 * np.abs(plain - repeated).mean()


def fitted_state(seed, data):
    model = quick(random_state=seed).fit(*data)
    return pickle.dumps([*tables(model), model.loss_curve_])


def test_same_seed_same_bits_whatever_n_jobs(small):
    alone = [fitted_state(seed, small) for seed in (0, 1)]
    together = Parallel(n_jobs=2)(delayed(fitted_state)(seed, small) for seed in (0, 1))
    assert alone == together
    assert alone[0] != alone[1]


def test_two_classes_have_one_output(small):
    X, y = small
    names = np.array(["no", "yes"])[(y > 0).astype(int)]
    model = quick().fit(X, names)
    scores = model.decision_function(X)
    assert scores.shape == (150,)
    np.testing.assert_array_equal(model.predict(X), np.where(scores > 0, "yes", "no"))


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("n_hidden", 0),
        ("cell", "lstm"),
        ("n_channels", 0),
        ("w_rank", 0),
        ("u_density", 1.5),
        ("offset_noise", -1),
        ("loss", "squared"),
    ],
)
def test_a_bad_parameter_is_named(small, parameter, value):
    message = f"The '{parameter}' parameter of FastGRNNClassifier must be .* Got {value!r} instead"
    with pytest.raises(ValueError, match=message):
        quick(**{parameter: value}).fit(*small)


# --- pipelines and programs -------------------------------------------------------------------


def test_a_scaler_of_sequences_folds_into_w_and_the_biases(small):
    X, y = small
    model = make_pipeline(SequenceScaler(3), quick()).fit(X, y)
    program = tinyml.compile(model, X, bits=8)
    assert program.n_channels == 3
    assert (program.predict(X) == model.predict(X)).mean() > 0.97


def test_a_scaler_of_columns_is_refused_in_one_sentence(small):
    model = make_pipeline(StandardScaler(), quick()).fit(*small)
    with pytest.raises(
        TypeError, match=r"^Before a recurrent model only .* use SequenceScaler .*\.$"
    ):
        tinyml.compile(model, small[0])


def test_programs_take_three_dimensions_and_end_where_sequences_end(small):
    X, y = (part.copy() for part in small)
    X[::2, 12:] = np.nan
    model = quick().fit(X, y)
    program = tinyml.compile(model, X.reshape(-1, 7, 3), bits=8)
    raw = program.quantize(X)
    np.testing.assert_array_equal(program.n_steps(raw), np.where(np.arange(150) % 2, 7, 4))
    np.testing.assert_array_equal(
        program.run(raw), program.run(program.quantize(X.reshape(-1, 7, 3)))
    )
    steps = program.run_steps(raw)
    assert steps.shape == (150, 7, 3)
    np.testing.assert_array_equal(steps[:, -1], program.run(raw))
    np.testing.assert_array_equal(steps[::2, 3], program.run(raw)[::2])
    raw[::2, 15:] = 5  # whatever stands behind the end
    np.testing.assert_array_equal(steps[:, -1], program.run(raw))


def test_a_program_without_sequences_has_no_steps(digits):
    from sklearn.linear_model import RidgeClassifier

    X, _, y, _ = digits
    program = tinyml.compile(RidgeClassifier().fit(X, y), X)
    with pytest.raises(AttributeError, match="reads no sequences"):
        program.run_steps(program.quantize(X))


@pytest.fixture(scope="module")
def whole():
    """Sequences of whole numbers, the same with early ends, and whether the last number is > 0."""
    rng = np.random.default_rng(0)
    X = rng.integers(-20, 21, (500, 10)).astype(float)
    lengths = rng.integers(1, 11, 500)
    G = np.where(np.arange(10) < lengths[:, None], X, np.nan)
    return X, G, (X[np.arange(500), lengths - 1] > 0).astype(int)


@pytest.mark.parametrize("calibration", ["complete", "ends only in held rows"])
def test_a_model_that_knows_early_ends_is_compiled_with_them(whole, calibration):
    X, G, y = whole
    model = FastGRNNClassifier(6, max_iter=40, random_state=0).fit(G, y)
    assert model.ends_early_
    rows = X.copy()
    if calibration != "complete":
        rows[4::5] = G[4::5]
    program = tinyml.compile(model, rows, bits=8)
    assert program.input.missing is not None
    assert program.score(G, y) > model.score(G, y) - 0.02


def test_sequences_that_end_where_none_did_are_warned_of(whole):
    X, G, y = whole
    program = tinyml.compile(FastGRNNClassifier(4, max_iter=2, random_state=0).fit(X, y), X)
    with pytest.warns(UserWarning, match=r"4\d\d of 500 sequences hold NaN"):
        program.predict(G)


def test_a_gru_narrows_its_input_once(small):
    X, y = small
    X = X * np.tile([1, 0.01, 30], 7)
    model = quick(cell="gru").fit(X, y)
    ops = tinyml.compile(model, X, bits=8).ops
    readers = [op for op in ops if type(op).__name__ == "MatVec" and op.x.type.size == 3]
    assert len(readers) == 3
    assert len({id(op.x) for op in readers}) == 1


def test_one_missing_channel_counts_as_zero(small):
    X, y = (part.copy() for part in small)
    X[::2, 12:] = np.nan
    program = tinyml.compile(quick().fit(X, y), X, bits=8)
    row = X[1:2].copy()
    row[0, 4] = np.nan
    wanted = program.quantize(X[1:2])
    wanted[0, 4] = 0
    np.testing.assert_array_equal(program.quantize(row), wanted)


def test_calibration_without_a_time_step_is_refused(small):
    X, y = small
    with pytest.raises(ValueError, match="must hold sequences with a time step"):
        tinyml.compile(quick().fit(X, y), np.full_like(X, np.nan))


def test_calibration_in_another_orientation_is_refused(small):
    X, y = small
    with pytest.raises(ValueError, match=r"time steps before the 3 channels .* Got shape"):
        tinyml.compile(quick().fit(X, y), X.reshape(-1, 3, 7))


def test_no_sequences_of_three_dimensions(small):
    model = quick().fit(*small)
    with pytest.raises(ValueError, match="0 sample"):
        model.predict(np.empty((0, 7, 3)))
    program = tinyml.compile(model, small[0])
    assert program.run_steps(np.empty((0, 7, 3), int)).shape == (0, 7, 3)
    assert program.predict(np.empty((0, 21))).shape == (0,)
    with pytest.raises(ValueError, match="measure needs at least one row"):
        tinyml.measure(program, np.empty((0, 21)))


def test_classes_of_weight_zero_are_absent(small):
    X, y = small
    kept = y != 1
    a = quick(class_weight={0: 1, 1: 0, 2: 1}).fit(X, y)
    b = quick().fit(X[kept], y[kept])
    np.testing.assert_array_equal(a.decision_function(X), b.decision_function(X))
    with pytest.raises(ValueError, match="at least two classes"):
        quick(class_weight={0: 0, 1: 0, 2: 1}).fit(X, y)
    with pytest.raises(ValueError, match="at least one non-zero number"):
        quick(class_weight={0: 0, 1: 0, 2: 0}).fit(X, y)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("scale", [1e20, 1e-20])
def test_the_size_of_single_precision_features_does_not_matter(small, scale):
    X, y = small
    scores = [quick().fit(Z, y).score(Z, y) for Z in (X, (X * scale).astype(np.float32))]
    assert scores[1] == pytest.approx(scores[0], abs=0.05)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("change", [lambda X: X + 1e11, lambda X: X * 1e-25, lambda X: X * 1e25])
@pytest.mark.filterwarnings(
    "ignore:The program agrees"
)  # of 1e11 + x single precision keeps little
def test_features_far_from_one_compile(small, cell, change):
    X, y = change(small[0]), small[1]
    program = tinyml.compile(quick(cell=cell).fit(X, y), X, bits=8)
    assert program.predict(X).shape == y.shape


def test_targets_beyond_double_precision_are_refused(small):
    X, y = small
    with pytest.raises(ValueError, match="must be smaller than about"):
        FastGRNNRegressor(3, n_channels=3, max_iter=1).fit(X, 1e200 * y)
