import json
import pickle
import subprocess
import sys
import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tinyml import cli

NAMES = ["length", "width", "height"]


def tiny_problem(n=120):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 50, (n, 3)).astype(float)
    return X, np.where(X[:, 0] + X[:, 1] > 50, "large", "small")


@pytest.fixture
def fitted():
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(*tiny_problem())


@pytest.fixture
def model(tmp_path, fitted):
    path = tmp_path / "boxes.skops"
    skops.io.dump(fitted, path)
    return path


@pytest.fixture
def data(tmp_path):
    X, y = tiny_problem()
    path = tmp_path / "rows.csv"
    pd.DataFrame(X, columns=NAMES).assign(kind=y).to_csv(path, index=False)
    return path


@pytest.fixture
def tinyml(capsys):
    """Run a command line; return its exit code, its output and its complaints."""

    def run(*arguments):
        with pytest.raises(SystemExit) as stop:
            cli.main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return stop.value.code, out, err

    return run


def compile_to(out, model, data, *more):
    return ["compile", model, "--data", data, "--out", out, *more]


# ------------------------------------------------------------------------------ what it does


def test_boards_lists_every_board(tinyml):
    from tinyml.device.boards import BOARDS

    code, out, _ = tinyml("boards")
    assert code == 0
    assert all(name in out for name in BOARDS)


def test_help_imports_nothing_heavy():
    code = "import sys, tinyml.cli; print([m for m in ('numpy', 'sklearn') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("kind", ["header", "arduino"])
def test_compile_writes_what_the_library_writes(tinyml, model, data, fitted, tmp_path, kind):
    import tinyml as library

    out = tmp_path / "out"
    arguments = compile_to(out, model, data, "--target", "kind", "--kind", kind, "--bits", "8")
    code, printed, err = tinyml(*arguments)
    assert (code, err) == (0, "")
    assert str(out) in printed
    program = library.compile(fitted, tiny_problem()[0], bits=8)
    program.export(tmp_path / "twin", "boxes", kind=kind)
    assert contents(out) == contents(tmp_path / "twin")


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.device
def test_measure(tinyml, model, data):
    arguments = ["measure", model, "--data", data, "--target", "kind", "--rows", "20"]
    code, out, _ = tinyml(*arguments)
    assert code == 0
    assert "20 of 20" in out
    code, out, _ = tinyml(*arguments, "--json")
    assert code == 0
    assert json.loads(out)["n_identical"] == 20


@pytest.mark.device
def test_demo(tinyml, tmp_path):
    code, out, _ = tinyml("demo", "--out", tmp_path / "library")
    assert code == 0
    assert "540 of 540" in out
    assert contents(tmp_path / "library")


def test_demo_without_a_toolchain(tinyml, tmp_path, monkeypatch):
    import tinyml as library
    from tinyml.device.toolchain import ToolNotFound

    def no_compiler(*_, **__):
        raise ToolNotFound("avr-gcc")

    monkeypatch.setattr(library, "measure", no_compiler)
    code, out, _ = tinyml("demo", "--out", tmp_path / "library")
    assert code == 0
    assert "Not measured: avr-gcc was not found" in out
    assert contents(tmp_path / "library")


# ------------------------------------------------------------------------------ models


def test_joblib_and_pickle_files_need_trust(tinyml, fitted, data, tmp_path):
    joblib.dump(fitted, tmp_path / "a.joblib")
    (tmp_path / "b.pkl").write_bytes(pickle.dumps(fitted))
    for name in ("a.joblib", "b.pkl"):
        out = tmp_path / f"{name}-out"
        arguments = compile_to(out, tmp_path / name, data, "--target", "kind")
        code, _, err = tinyml(*arguments)
        assert code == 1
        assert "can run any code" in err
        assert not out.exists()
        assert tinyml(*arguments, "--trust")[0] == 0
        assert out.exists()


class Stranger(GaussianProcessClassifier):
    """A type that skops does not know."""


def test_skops_file_with_an_unknown_type(tinyml, data, tmp_path):
    skops.io.dump(Stranger().fit(*tiny_problem()), tmp_path / "m.skops")
    code, _, err = tinyml(*compile_to(tmp_path / "out", tmp_path / "m.skops", data))
    assert code == 1
    assert "Stranger" in err
    assert "--trust" in err


def test_our_own_types_are_trusted(tmp_path):
    from tinyml.estimators import ProtoNNClassifier

    X, y = tiny_problem()
    model = ProtoNNClassifier(max_bytes=400, random_state=0).fit(X / 50, y)
    skops.io.dump(model, tmp_path / "m.skops")
    loaded = cli._load_model(tmp_path / "m.skops", trust=False)
    np.testing.assert_array_equal(loaded.predict(X / 50), model.predict(X / 50))


def test_only_our_estimators_are_trusted_not_what_our_modules_import():
    assert "tinyml.estimators.protonn.ProtoNNClassifier" in cli._own_types()
    assert not [name for name in cli._own_types() if not name.startswith("tinyml.estimators.")]


@pytest.mark.parametrize("name", ["broken.skops", "broken.joblib"])
def test_broken_file(tinyml, data, tmp_path, name):
    (tmp_path / name).write_bytes(b"nothing of the kind")
    code, _, err = tinyml(*compile_to(tmp_path / "out", tmp_path / name, data, "--trust"))
    assert code == 1
    assert "broken" in err
    assert err.count("\n") == 1


def test_file_that_holds_no_model(tinyml, data, tmp_path):
    joblib.dump([1, 2], tmp_path / "list.joblib")
    code, _, err = tinyml(*compile_to(tmp_path / "out", tmp_path / "list.joblib", data, "--trust"))
    assert code == 1
    assert "holds a list, not a model" in err


def test_model_that_cannot_be_lowered(tinyml, data, tmp_path):
    joblib.dump(GaussianProcessClassifier().fit(*tiny_problem()), tmp_path / "m.joblib")
    arguments = compile_to(tmp_path / "out", tmp_path / "m.joblib", data, "--target", "kind")
    code, _, err = tinyml(*arguments, "--trust")
    assert code == 1
    assert "GaussianProcessClassifier" in err
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------------------ data


def read(path, text, target=None, header=None):
    path.write_text(text)
    return cli._features_of(None, cli._read_csv(path, target, header), target, path)


@pytest.mark.parametrize(
    ("text", "target", "header"),
    [
        ("a,b,kind\n1,2,x\n3,4,y\n", "kind", None),
        ("a,b,kind\n1,2,x\n3,4,y\n", "-1", None),
        ("1,2,x\n3,4,y\n", "2", None),
        ("1,2\n3,4\n", None, None),
        ("0,1,kind\n1,2,x\n3,4,y\n", "kind", None),
        ("0,1\n1,2\n3,4\n", None, True),
    ],
)
def test_csv_shapes(tmp_path, text, target, header):
    X = read(tmp_path / "rows.csv", text, target, header)
    np.testing.assert_array_equal(X, [[1.0, 2.0], [3.0, 4.0]])


def test_empty_cells_are_missing_values(tmp_path):
    X = read(tmp_path / "rows.csv", "a,b\n1,\n3,4\n")
    assert np.isnan(X).sum() == 1


def test_columns_are_taken_by_name_where_the_model_has_names(tinyml, data, tmp_path):
    X, y = tiny_problem()
    named = LogisticRegression().fit(pd.DataFrame(X, columns=NAMES), y)
    skops.io.dump(named, tmp_path / "m.skops")
    shuffled = pd.DataFrame(X, columns=NAMES)[["height", "length", "width"]].assign(more=1)
    shuffled.to_csv(tmp_path / "shuffled.csv", index=False)
    for out, rows in (("a", data), ("b", tmp_path / "shuffled.csv")):
        assert tinyml(*compile_to(tmp_path / out, tmp_path / "m.skops", rows))[0] == 0
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.parametrize(
    ("text", "more", "sentence"),
    [
        ("a,b,c,d\n1,2,3,x\n", [], "not numeric, 'd'"),
        ("a,b\n1,2\n", [], "has 2 feature columns, but the model was fitted on 3"),
        ("a,b,c\n1,2,3\n", ["--target", "kind"], "has no column 'kind'"),
        ("a,b,c\n", [], "holds no rows"),
        ("", [], "cannot be read as a CSV file"),
    ],
)
def test_csv_errors(tinyml, model, tmp_path, text, more, sentence):
    (tmp_path / "bad.csv").write_text(text)
    code, _, err = tinyml(*compile_to(tmp_path / "out", model, tmp_path / "bad.csv", *more))
    assert code == 1
    assert sentence in err
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------------------ exit codes


@pytest.mark.parametrize(
    "arguments",
    [["nothing"], ["compile"], ["demo", "--board", "due"], ["measure", "no-such-file.skops"]],
)
def test_a_wrong_command_line_is_code_2(tinyml, arguments):
    assert tinyml(*arguments)[0] == 2


def test_illegal_c_name(tinyml, model, data, tmp_path):
    arguments = compile_to(tmp_path / "out", model, data, "--target", "kind", "--name", "2 bad")
    code, _, err = tinyml(*arguments)
    assert code == 1
    assert "2 bad" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("stem", "name"), [("boxes", "boxes"), ("my-model 2", "my_model_2"), ("2024", "model_2024")]
)
def test_c_name_of_a_file(stem, name):
    assert cli._c_name(stem) == name


def test_interrupt_is_code_130(tinyml, monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_console", interrupted)
    code, _, err = tinyml("boards")
    assert (code, err) == (130, "\nInterrupted.\n")


def test_traceback_is_shown_on_demand_and_for_our_own_faults(monkeypatch):
    def fault(error):
        def run():
            raise error

        return run

    monkeypatch.setattr(cli, "_console", fault(KeyError("a fault of ours")))
    with pytest.raises(KeyError):
        cli.main(["boards"])
    monkeypatch.setattr(cli, "_console", fault(ValueError("a sentence")))
    with pytest.raises(ValueError, match="a sentence"):
        cli.main(["--traceback", "boards"])


def test_warnings_are_one_line(tinyml, monkeypatch):
    def warns():
        with warnings.catch_warnings(action="always"):
            warnings.warn("three rows were saturated", UserWarning, stacklevel=1)
        return cli.click

    monkeypatch.setattr(cli, "_console", lambda: warns() and _Silent())
    code, _, err = tinyml("boards")
    assert (code, err) == (0, "Warning: three rows were saturated\n")


class _Silent:
    def print(self, *_):
        pass
