"""Compiled programs on the host and on the chip: the same integers as in Python."""

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import tinyml
from tinyml.codegen.export import header
from tinyml.device import (
    build_arduino_sketch,
    check_header,
    quantize_avr,
    quantize_host,
    run_avr_many,
    run_host,
    run_sketch,
    simulate,
)
from tinyml.estimators import FastGRNNClassifier, FastGRNNRegressor

MODELS = ["classifier", "forest", "binary", "regressor", "several outputs", "sequence", "trend"]


@pytest.fixture(scope="module")
def iris():
    """Rows and names of flowers."""
    data = load_iris()
    return data.data, data.target_names[data.target]


@pytest.fixture(scope="module")
def programs(iris):
    """One small program of each kind of head."""
    X, y = iris
    width = X[:, 3]
    fitted = {
        "classifier": make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y),
        "forest": RandomForestClassifier(5, max_depth=3, random_state=0).fit(X, y),
        "binary": LogisticRegression().fit(X, y == "setosa"),
        "regressor": LinearRegression().fit(X, width * 10),
        "several outputs": Ridge().fit(X, np.c_[X[:, 0], width]),
        "sequence": FastGRNNClassifier(5, n_channels=2, max_iter=20, random_state=0).fit(X, y),
        "trend": FastGRNNRegressor(4, cell="gru", max_iter=20, random_state=0).fit(X, width),
    }
    return {name: tinyml.compile(model, X) for name, model in fitted.items()}


def any_rows(program, n=100):
    """Random and extreme values of the C type."""
    limits = np.iinfo(program.input.type.dtype)
    shape = (n, program.n_features)
    rows = np.random.default_rng(0).integers(limits.min, limits.max, shape, endpoint=True)
    rows[0], rows[1] = limits.min, limits.max
    return rows.astype(limits.dtype)


def check(program, raw, scores, decisions):
    wanted = program.run(raw)
    np.testing.assert_array_equal(scores, wanted)
    if program.has_predict:
        np.testing.assert_array_equal(decisions, program.decide(wanted))
    else:
        assert decisions is None


@pytest.mark.parametrize("kind", ["arduino", "header"])
def test_the_host_agrees_for_any_value_of_the_input_type(programs, kind):
    chosen = list(programs.values())
    raws = [any_rows(program) for program in chosen]
    results = run_host(chosen, raws, kind=kind)
    for program, raw, outputs in zip(chosen, raws, results, strict=True):
        check(program, raw, *outputs)


@pytest.mark.device
@pytest.mark.parametrize("board", ["uno", "attiny85"])
def test_the_chip_agrees_for_any_value_of_the_input_type(programs, board):
    chosen = list(programs.values())
    raws = [any_rows(program, 20) for program in chosen]
    for program, raw, run in zip(chosen, raws, run_avr_many(chosen, raws, board), strict=True):
        check(program, raw, run.scores, run.decisions)


def any_floats(n_features):
    """Ordinary, extreme and impossible values in random order."""
    strange = [np.nan, np.inf, -np.inf, -0.0, 1e-45, 3e38, -3e38, 0.5, -0.5, 1.5, 2.5]
    rng = np.random.default_rng(0)
    ordinary = rng.normal(size=1000) * 10.0 ** rng.integers(-3, 6, 1000)
    halves = np.arange(-40, 40) / 16
    values = rng.permutation(np.r_[strange * 10, ordinary, halves]).astype(np.float32)
    return values[: len(values) // n_features * n_features].reshape(-1, n_features)


@pytest.mark.parametrize("name", MODELS)
def test_quantize_agrees_on_every_float(programs, name):
    X = any_floats(programs[name].n_features)
    np.testing.assert_array_equal(quantize_host(programs[name], X), programs[name].quantize(X))


@pytest.mark.device
@pytest.mark.parametrize("board", ["uno", "attiny85"])
def test_quantize_agrees_on_the_chip(programs, board):
    program = programs["classifier"]
    X = any_floats(program.n_features)
    np.testing.assert_array_equal(quantize_avr(program, X, board), program.quantize(X))


@pytest.mark.device
@pytest.mark.parametrize("name", MODELS)
def test_measure(programs, iris, name):
    before = int(simulate.count)
    report = tinyml.measure(programs[name], iris[0], n_rows=30)
    assert int(simulate.count) == before + 2
    assert report.fits
    assert report.identical
    assert report.n_rows == 30
    assert report.static_ram == report.arduino.static_ram == 0


@pytest.mark.device
def test_measure_takes_rows_from_all_over(programs, iris):
    assert tinyml.measure(programs["forest"], iris[0], n_rows=None, flags=("os",)).n_rows == 150
    assert tinyml.measure(programs["forest"], iris[0][:7], flags=("os",)).n_rows == 7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"board": "due"}, "The board must be one of"),
        ({"flags": ("fast",)}, r"The flags of measure must be .* Got \('fast',\) instead"),
        ({"flags": ()}, "The flags of measure must be"),
        ({"n_rows": 0}, "measure needs at least one row"),
    ],
)
def test_measure_refuses(programs, iris, options, message):
    with pytest.raises(ValueError, match=message):
        tinyml.measure(programs["forest"], iris[0], **options)


def test_measure_refuses_no_rows(programs):
    with pytest.raises(ValueError, match="measure needs at least one row"):
        tinyml.measure(programs["forest"], np.zeros((0, 4)))


@pytest.mark.device
@pytest.mark.parametrize("name", ["sequence", "trend"])
def test_sequences_are_driven_step_by_step(programs, iris, name):
    program, X = programs[name], iris[0].copy()
    X[::3, 2:] = np.nan
    X[5] = np.nan  # a sequence without a step is left out
    report = tinyml.measure(program, X[:12], "uno")
    assert report.identical
    assert report.n_rows == 11
    n_steps = program.n_steps(program.quantize(X[:12]))
    assert report.n_steps == pytest.approx(n_steps.sum() / 11)
    assert report.static_ram == report.arduino.static_ram == 0
    frame = program.n_channels * program.input.type.dtype.itemsize
    assert report.ram == report.stack + frame + program.state_bytes
    assert 0 < report.result_cycles < report.cycles
    assert "cycles of the result" in str(report)
    assert "time steps" in str(report)


@pytest.mark.parametrize("standard", ["c99", "c++11"])
@pytest.mark.parametrize("name", MODELS)
def test_the_single_header_is_clean_used_or_not(programs, name, standard):
    check_header({"model.h": header(programs[name], "model")}, "model", standard=standard)


@pytest.mark.device
@pytest.mark.parametrize("name", MODELS)
def test_the_exported_example_passes_its_own_test(programs, name, tmp_path):
    if not has_builder():
        pytest.skip("arduino-builder was not found.")
    library = programs[name].export(tmp_path, "flowers", kind="arduino")
    (example,) = (library / "examples").iterdir()
    printed = run_sketch(build_arduino_sketch(example, [library]), "uno", until="to Python")
    assert "16 of 16" in printed


@pytest.mark.device
@pytest.mark.parametrize("board", ["uno", "mega2560"])
def test_two_programs_in_one_sketch_included_from_two_files(programs, iris, tmp_path, board):
    if not has_builder():
        pytest.skip("arduino-builder was not found.")
    one, two = programs["classifier"], programs["forest"]
    libraries = [one.export(tmp_path, "one", "arduino"), two.export(tmp_path, "two", "arduino")]
    sketch = tmp_path / "both"
    sketch.mkdir()
    rows = iris[0][::15]
    (sketch / "both.ino").write_text(_sketch(rows))
    (sketch / "more.cpp").write_text(_MORE)
    printed = run_sketch(build_arduino_sketch(sketch, libraries, board), board, until="done")
    a, b = (program.decide(program.run(program.quantize(rows))) for program in (one, two))
    wanted = [f"{i} {j} {10 * i + j}" for i, j in zip(a, b, strict=True)]
    assert printed.split("\n") == [*wanted, "done"]


def has_builder():
    from tinyml.device import ToolNotFound
    from tinyml.device.toolchain import find_tool

    try:
        return find_tool("arduino-builder")
    except ToolNotFound:
        return None


_MORE = """\
#include <one.h>
#include <two.h>
int both(const float *f) {
    one_input_t x[ONE_N_FEATURES];
    two_input_t z[TWO_N_FEATURES];
    one_quantize(f, x);
    two_quantize(f, z);
    return 10 * one_predict(x) + two_predict(z);
}
"""


def _sketch(rows):
    numbers = ",\n".join("{" + ", ".join(f"{v:.9g}" for v in row) + "}" for row in rows)
    return f"""\
#include <one.h>
#include <two.h>
int both(const float *f);
const float rows[][4] = {{{numbers}}};
void setup() {{
    Serial.begin(115200);
    for (const float *f : rows) {{
        one_input_t x[ONE_N_FEATURES];
        two_input_t z[TWO_N_FEATURES];
        one_quantize(f, x);
        two_quantize(f, z);
        Serial.print(one_predict(x));
        Serial.print(' ');
        Serial.print(two_predict(z));
        Serial.print(' ');
        Serial.println(both(f));
    }}
    Serial.print("done");
}}
void loop() {{}}
"""
