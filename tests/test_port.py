"""The classes that `port` writes: they compile, answer as the models do, and take no RAM."""

import ctypes
import subprocess
import warnings
from functools import cache

import numpy as np
import pytest
from instances import MODELS, data
from instances import fitted as fitted_instance
from sklearn.base import clone, is_regressor
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
    VotingClassifier,
)
from sklearn.exceptions import NotFittedError
from sklearn.feature_selection import SelectKBest, VarianceThreshold
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import train_test_split
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from sklearn.svm import SVC, SVR, OneClassSVM
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

import tinyml
from tinyml.codegen.typical import needs_precision, typical_rows
from tinyml.device import build_arduino_sketch, get_board, run_sketch
from tinyml.device.build import CPLUSPLUS, STRICT, AvrBuild, CModel, check_header
from tinyml.device.driving import ByRow
from tinyml.device.firmware import build_bench, build_minimal
from tinyml.device.simulate import run_bench
from tinyml.device.toolchain import ToolNotFound, find_compiler, find_tool

DATA = {"iris": load_iris, "digits": load_digits, "cancer": load_breast_cancer}
TREE, FOREST = {"max_depth": 8, "random_state": 0}, {"n_estimators": 5, "random_state": 0}
LEAVES = {"max_depth": 10, "min_samples_leaf": 5, "random_state": 0}

#: What micromlgen's README ports, and what else it dispatches on; whether it tells its ranges.
PORTED = {
    "DecisionTree": (DecisionTreeClassifier(**TREE), True),
    "RandomForest": (RandomForestClassifier(max_depth=8, **FOREST), True),
    "SVM": (SVC(kernel="linear"), True),
    "SVM_rbf": (SVC(C=10), True),
    "SVM_poly": (SVC(kernel="poly"), True),
    "OneClassSVM": (OneClassSVM(nu=0.1), True),
    "GaussianNB": (GaussianNB(var_smoothing=1e-2), True),
    "LogisticRegression": (LogisticRegression(max_iter=3000, tol=1e-3), False),
    "XGBClassifier": ("xgboost", True),
    "Pipeline": (make_pipeline(StandardScaler(), SVC()), True),
}
REGRESSORS = {
    "DecisionTreeRegressor": (DecisionTreeRegressor(**LEAVES), True),
    "RandomForestRegressor": (RandomForestRegressor(**LEAVES, n_estimators=10), True),
    "LinearRegression": (LinearRegression(), False),
    "SVR": (SVR(C=100), True),
}
CLASSIFIED = [(name, data) for name in PORTED for data in ("iris", "digits")]
SVM_SIZES = {"digits": 60, "iris": 100}  # training rows: the Uno has room for few vectors


@cache
def fitted(name, data):
    """Return a fitted model, the rows it needs to be ported, and test rows, as a user would."""
    model, tells = (PORTED | REGRESSORS)[name]
    if model == "xgboost":
        model = pytest.importorskip("xgboost").XGBClassifier(n_estimators=5, max_depth=3)
    X, y = (load_diabetes if data == "diabetes" else DATA[data])(return_X_y=True)
    stratify = None if is_regressor(model) else y
    X, X_test, y, _ = train_test_split(X, y, test_size=0.33, random_state=0, stratify=stratify)
    n = SVM_SIZES.get(data) if "SVM" in name or name == "Pipeline" else 100
    model = clone(model).fit(X[:n], y[:n])
    return model, None if tells else X, X_test[:50].astype(np.float32)


@cache
def ported(name, data):
    """Return the text of a fitted model, and the program that is in it."""
    model, X, _ = fitted(name, data)
    rows = typical_rows(model) if X is None else X
    bits = 16 if X is None and needs_precision(model, rows) else "auto"
    return tinyml.port(model, "Ported", X=X), tinyml.compile(model, rows, bits=bits)


def wanted(name, data):
    """Return what scikit-learn predicts: indices of classes, or values."""
    model, _, rows = fitted(name, data)
    y = model.predict(rows)
    program = ported(name, data)[1]
    return y if program.classes is None else np.searchsorted(program.classes, y)


def answers(program, rows):
    """Return what Python's integers answer: indices of classes, or floats."""
    if program.classes is not None:
        return program.decide(program.run(program.quantize(rows)))
    return program.predict(rows).astype(np.float32)


CASES = [*CLASSIFIED, *((name, "diabetes") for name in REGRESSORS)]


# What it answers ----------------------------------------------------------------------------------

_SHIM = """
extern "C" %s answer(float *x);
extern "C" %s answer(float *x) {
    Eloquent::ML::Port::Ported model;
    return model.predict(x);
}
"""


def on_the_host(text, folder, result, rows):
    """Answer rows with a class built by a strict C++ compiler."""
    ctype = {"float": ctypes.c_float, "int": ctypes.c_int}[result]
    (folder / "model.h").write_text(text)
    (folder / "main.cpp").write_text('#include "model.h"\n' + _SHIM % (result, result))
    command = [find_compiler("g++", "clang++"), "-std=c++11", "-O1", *STRICT, "-shared", "-fPIC"]
    subprocess.run([*command, "main.cpp", "-o", "model.so"], cwd=folder, check=True)
    answer = ctypes.CDLL(str(folder / "model.so")).answer
    answer.restype = ctype
    return np.array([answer(row.ctypes.data_as(ctypes.c_void_p)) for row in rows])


@pytest.mark.parametrize(("name", "data"), CASES)
def test_the_class_answers_on_the_host(name, data, tmp_path):
    text, program = ported(name, data)
    rows = fitted(name, data)[2]
    result = "float" if data == "diabetes" else "int"
    seen = on_the_host(text, tmp_path, result, rows)
    np.testing.assert_array_equal(seen, answers(program, rows))


@pytest.mark.parametrize(("name", "data"), CASES)
def test_it_answers_as_the_model_does(name, data):
    _, program = ported(name, data)
    y, seen = wanted(name, data), answers(program, fitted(name, data)[2])
    if program.classes is None:
        assert np.sqrt(np.mean((y - seen) ** 2)) < 0.03 * np.std(y)
    else:
        allowed = 0 if name in ("DecisionTree", "RandomForest", "XGBClassifier") else 2
        assert np.sum(seen != y) <= allowed


_CHIP = """
#include <string.h>
Eloquent::ML::Port::Ported ported;
%s model_predict(const model_input_t *x)
{
    const %s y = ported.predict((float *)x);
    %s bits;
    memcpy(&bits, &y, sizeof bits);
    return bits;
}
"""


def chip_model(text, n_features, result, shim=_CHIP):
    """Give a class the interface of the firmware; a float goes as its bits."""
    bits = {"float": "int32_t", "int": "int16_t"}[result]
    header = (
        "#pragma once\n#include <stdint.h>\ntypedef float model_input_t;\n"
        f"typedef int16_t model_score_t;\n{bits} model_predict(const float *x);\n"
    )
    source = '#include "model.h"\n#include "ported.h"\n' + shim % (bits, result, bits)
    sources = {"model.h": header, "ported.h": text, "model.c": source}
    return CModel("model", sources, "float", "int16_t", bits, n_features, 1)


def on_the_chip(model, rows):
    """Return what the simulated Uno answers, and the static RAM beyond that of an empty program."""
    driver, uno = ByRow(model), get_board("uno")
    with AvrBuild(uno, CPLUSPLUS) as avr:
        elves = [build_minimal(avr, ByRow(m)) for m in (model, model.empty("model"))]
        ram = elves[0].static_ram - elves[1].static_ram
        elf = build_bench(avr, [driver], scores=False)
        assert elf.flash < uno.flash
        seen = run_bench(elf, uno, [driver], [rows], scores=False)[0].decisions
    return seen.astype(model.decision_dtype), ram


@pytest.mark.device
@pytest.mark.parametrize(("name", "data"), CASES)
def test_the_class_answers_on_the_chip(name, data):
    text, program = ported(name, data)
    rows = fitted(name, data)[2][:20]
    result = "float" if data == "diabetes" else "int"
    seen, ram = on_the_chip(chip_model(text, program.n_features, result), rows)
    seen = seen.view(np.float32) if result == "float" else seen
    np.testing.assert_array_equal(seen, answers(program, rows))
    assert ram == 0


SKETCH = """\
// put the C-ported model in another tab/file
#include "model.h"

// this class will be different if you used another type of classifier
Eloquent::ML::Port::SVM classifier;

void setup() {
    Serial.begin(115200);
}

void loop() {
    float x_sample[] = { %s };
    int index = classifier.predict(x_sample);
    Serial.print(index);
    Serial.print(" ");
    Serial.println(classifier.predictLabel(x_sample));
    const char* name = classifier.idxToLabel(7);
    Serial.println(name);
}
"""


_SERIAL = """#include <iostream>
struct {
    void begin(long) {}
    template <class T> void print(T value) { std::cout << value; }
    template <class T> void println(T value) { std::cout << value << "\\n"; }
} Serial;
#include "sketch.ino"
int main() { setup(); loop(); }
"""


@pytest.fixture(scope="module")
def sketch(tmp_path_factory):
    """Return the folder of a sketch as micromlgen's README has it, with names for the classes."""
    iris = load_iris()
    model = SVC(kernel="linear").fit(iris.data, iris.target)
    folder = tmp_path_factory.mktemp("sketches") / "sketch"
    folder.mkdir()
    (folder / "sketch.ino").write_text(SKETCH % ", ".join(map(str, iris.data[140])))
    classmap = dict(enumerate(iris.target_names))
    (folder / "model.h").write_text(tinyml.port(model, classmap=classmap))
    return folder


def test_a_sketch_written_for_micromlgen(sketch, tmp_path):
    (tmp_path / "main.cpp").write_text(_SERIAL)
    command = [find_compiler("g++", "clang++"), "-std=c++11", f"-I{sketch}", "main.cpp"]
    subprocess.run(command, cwd=tmp_path, check=True)
    said = subprocess.run([tmp_path / "a.out"], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["2", "virginica", "unknown"]


@pytest.mark.device
def test_a_sketch_written_for_micromlgen_on_the_uno(sketch):
    try:
        find_tool("arduino-builder")
    except ToolNotFound as error:
        pytest.skip(str(error))
    said = run_sketch(build_arduino_sketch(sketch), "uno", until="unknown")
    assert said.split() == ["2", "virginica", "unknown"]


# The text -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in PORTED if "_" not in n] + ["DecisionTreeRegressor"])
def test_classes_are_called_what_micromlgen_calls_them(name):
    data = "diabetes" if name in REGRESSORS else "iris"
    model, X, _ = fitted(name, data)
    expected = "SVM" if name == "Pipeline" else name
    text = tinyml.port(model, X=X)
    assert f"class {expected} {{" in text
    assert text.startswith("#pragma once\n")
    assert "cstdarg" not in text


@pytest.mark.parametrize("platform", ["arduino", "attiny"])
def test_platforms_get_the_same_text(platform):
    model, _, _ = fitted("SVM", "iris")
    assert tinyml.port(model, platform=platform, precision=5) == tinyml.port(model)


@pytest.mark.parametrize("compiler", ["g++", "avr-g++"])
def test_no_warnings(compiler, tmp_path):
    """Two models in one file, one with names, both included twice and used by nobody."""
    model, _, _ = fitted("RandomForest", "digits")
    one = tinyml.port(model, "One", {0: "zero@name@", 1: 'o"ne\\', 255: "drei\n"})
    two = tinyml.port(*fitted("SVR", "diabetes")[:1], "Two")
    transformer = tinyml.port(PCA(3).fit(load_iris().data))
    texts = {"one.h": one, "two.h": two, "three.h": transformer}
    for file, text in texts.items():
        (tmp_path / file).write_text(text)
        check_header({file: text}, file.removesuffix(".h"))
    (tmp_path / "all.cpp").write_text("".join(f'#include "{file}"\n' for file in texts) * 2)
    chip = ["-mmcu=atmega328p"] if compiler == "avr-g++" else []
    command = [find_tool(compiler), *chip, "-std=c++11", *STRICT, "-c", "all.cpp", "-o", "all.o"]
    subprocess.run(command, cwd=tmp_path, check=True)


_TRANSFORM = """
extern "C" void answer(float *x, float *dest);
extern "C" void answer(float *x, float *dest) {
    Eloquent::ML::Port::PCA pca;
    pca.transform(x, dest);
    pca.transform(x);
}
"""


@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize("n_components", [1, 2])
def test_a_pca_transforms(whiten, n_components, tmp_path):
    X = load_iris().data
    model = PCA(n_components, whiten=whiten).fit(X)
    expected, rows = model.transform(X), X.astype(np.float32)
    (tmp_path / "main.cpp").write_text(tinyml.port(model) + _TRANSFORM)
    command = [find_compiler("g++", "clang++"), "-std=c++11", "-shared", "-fPIC", "-w"]
    subprocess.run([*command, "main.cpp", "-o", "model.so"], cwd=tmp_path, check=True)
    answer = ctypes.CDLL(str(tmp_path / "model.so")).answer
    seen = np.zeros((len(X), n_components), dtype=np.float32)
    for row, dest in zip(rows, seen, strict=True):
        answer(row.ctypes.data_as(ctypes.c_void_p), dest.ctypes.data_as(ctypes.c_void_p))
    error = np.sqrt(np.mean((seen - expected) ** 2, axis=0)) / expected.std(axis=0)
    assert error.max() < 0.015
    np.testing.assert_array_equal(rows[:, :n_components], seen)


_SECOND = """
#include <string.h>
Eloquent::ML::Port::PCA pca;
%s model_predict(const model_input_t *x)
{
    %s dest[2];
    pca.transform((float *)x, dest);
    %s bits;
    memcpy(&bits, dest + 1, sizeof bits);
    return bits;
}
"""


@pytest.mark.device
def test_a_pca_transforms_on_the_chip():
    X = load_iris().data.astype(np.float32)
    model = PCA(2).fit(X)
    seen, ram = on_the_chip(chip_model(tinyml.port(model), 4, "float", _SECOND), X[:20])
    expected = model.transform(X)[:, 1]
    assert np.abs(seen.view(np.float32) - expected[:20]).max() < 0.03 * expected.std()
    assert ram == 0


# What its parameters tell -------------------------------------------------------------------------

TELLING = {
    "standard": make_pipeline(StandardScaler(), RidgeClassifier()),
    "minmax": make_pipeline(MinMaxScaler(), RidgeClassifier()),
    "maxabs": make_pipeline(MaxAbsScaler(), RidgeClassifier()),
    "robust": make_pipeline(RobustScaler(), RidgeClassifier()),
    "pca": make_pipeline(StandardScaler(), PCA(3), LogisticRegression()),
    "nested": make_pipeline(make_pipeline(StandardScaler(), "passthrough"), GaussianNB()),
    "selected": make_pipeline(StandardScaler(), SelectKBest(k=2), SVC()),
    "neighbours": KNeighborsClassifier(3),
    "isolation": IsolationForest(n_estimators=20, random_state=0),
    "histograms": HistGradientBoostingClassifier(max_iter=5, random_state=0),
    "voting": VotingClassifier([("tree", DecisionTreeClassifier(max_depth=3, random_state=0))]),
    **{
        f"mixture_{kind}": GaussianMixture(3, covariance_type=kind, random_state=0)
        for kind in ("full", "tied", "diag", "spherical")
    },
}


@pytest.mark.parametrize("name", TELLING)
def test_what_tells_its_ranges(name):
    iris = load_iris()
    X, X_test, y, _ = train_test_split(iris.data, iris.target, random_state=0)
    model = TELLING[name].fit(X, y)
    rows = typical_rows(model)
    np.testing.assert_array_equal(rows, typical_rows(model))
    program = tinyml.compile(model, rows)
    assert not program.whole_numbers
    assert np.mean(program.predict(X_test) == model.predict(X_test)) > 0.97


@pytest.mark.parametrize(
    "model",
    [
        RandomForestClassifier(max_depth=8, **FOREST),
        make_pipeline(StandardScaler(), DecisionTreeClassifier(**TREE)),
        make_pipeline(MinMaxScaler(), DecisionTreeClassifier(**TREE)),
        make_pipeline(VarianceThreshold(1.0), RandomForestClassifier(**FOREST)),
        make_pipeline(StandardScaler(), SVC(kernel="linear")),
        KNeighborsClassifier(1),
    ],
)
def test_whole_numbers_are_recognised(model):
    X, y = load_digits(return_X_y=True)
    model.fit(X[:200], y[:200])
    rows = typical_rows(model)
    np.testing.assert_array_equal(rows, np.rint(rows))
    program = tinyml.compile(model, rows)
    assert program.whole_numbers
    np.testing.assert_array_equal(program.predict(X[200:]), model.predict(X[200:]))


def test_values_on_thresholds_stay_on_their_side():
    """Means of measured values are often measured values themselves; so they are in iris."""
    X, y = load_iris(return_X_y=True)
    for seed in range(5):
        half = np.random.default_rng(seed).permutation(len(X))[:75]
        model = RandomForestClassifier(random_state=seed, n_estimators=10).fit(X[half], y[half])
        thresholds = np.concatenate([tree.tree_.threshold for tree in model.estimators_])
        assert np.isclose(thresholds, np.rint(thresholds * 10) / 10, rtol=1e-6).any()
        program = tinyml.compile(model, typical_rows(model), bits=16)
        np.testing.assert_array_equal(program.predict(X), model.predict(X))


def test_trees_of_reals_get_16_bits_without_rows():
    X, y = load_iris(return_X_y=True)
    model = DecisionTreeClassifier(max_depth=1).fit(X, y)
    assert tinyml.compile(model, typical_rows(model)).input.type.ctype == "int8_t"
    assert "typedef int16_t port_DecisionTree_input_t;" in tinyml.port(model)
    assert "typedef int8_t port_DecisionTree_input_t;" in tinyml.port(model, X=X)
    whole = DecisionTreeClassifier(max_depth=1).fit(np.rint(10 * X), y)
    assert "typedef int8_t port_DecisionTree_input_t;" in tinyml.port(whole)


def test_halves_between_the_rows_are_no_whole_numbers():
    X, y = load_digits(return_X_y=True)
    model = DecisionTreeClassifier(**TREE).fit(X[:200] / 2, y[:200])
    program = tinyml.compile(model, typical_rows(model))
    assert not program.whole_numbers
    np.testing.assert_array_equal(program.predict(X / 2), model.predict(X / 2))


def test_categories_are_drawn():
    rng = np.random.default_rng(0)
    X = np.c_[rng.integers(0, 9, 300), rng.integers(0, 100, 300)]
    y = np.isin(X[:, 0], [1, 4, 7]) ^ (X[:, 1] > 50)
    model = HistGradientBoostingClassifier(max_iter=5, categorical_features=[0]).fit(X, y)
    program = tinyml.compile(model, typical_rows(model))
    np.testing.assert_array_equal(program.predict(X), model.predict(X))


@pytest.mark.parametrize("name", ["lightgbm_wine.txt", "xgboost_digits.json"])
def test_trees_from_files_tell_their_ranges(name):
    model = tinyml.read_forest(MODELS / name)
    X = data(name.split("_")[1].split(".")[0])[0]
    program = tinyml.compile(model, typical_rows(model))
    assert program.whole_numbers == ("digits" in name)
    assert np.mean(program.predict(X) == model.predict(X)) > 0.995
    assert "class ImportedClassifier {" in tinyml.port(model)


def test_a_sequence_is_one_row():
    model, X = fitted_instance("fastgrnn_ragged"), data("ragged")[0]
    text = tinyml.port(model, X=X)
    assert "class FastGRNNClassifier {" in text
    check_header({"model.h": text}, "model")


def test_one_leaf_is_a_tree():
    model = DecisionTreeClassifier().fit(np.eye(3), [4, 4, 4])
    assert "class DecisionTree {" in tinyml.port(model)


@pytest.mark.parametrize(
    "model",
    [
        LogisticRegression(max_iter=3000),
        LinearRegression(),
        MLPClassifier((4,), max_iter=2000, random_state=0),
        make_pipeline(StandardScaler(with_std=False), RidgeClassifier()),
        make_pipeline(RobustScaler(with_centering=False), RidgeClassifier()),
        make_pipeline(SimpleImputer(), SVC()),
        VotingClassifier([("t", DecisionTreeClassifier()), ("r", LogisticRegression())]),
    ],
)
def test_rows_are_asked_for(model):
    X, y = load_iris(return_X_y=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, y)
    with pytest.raises(ValueError, match=r"^The parameters of .* do not tell .*'X' .* of port\.$"):
        tinyml.port(model)
    assert "predict(float *x)" in tinyml.port(model, X=X)


# What it refuses and what it leaves to micromlgen -------------------------------------------------


class SEFR:
    """What micromlgen knows of a model of this name."""

    weights, bias = np.array([0.5, -1.25]), 0.75


def test_what_cannot_be_compiled_is_left_to_micromlgen():
    with pytest.warns(UserWarning, match=r"^SEFR cannot be compiled; micromlgen writes it, in fl"):
        text = tinyml.port(SEFR(), classmap={0: "no", 1: "yes"}, platform="attiny")
    assert "class SEFR {" in text
    assert 'return "yes";' in text
    assert "<cstdarg>" not in text


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"platform": "esp32"}, r"'platform' .* must be 'arduino' or 'attiny'\. Got 'esp32' i"),
        ({"classname": "int"}, r"'classname' .* must be a C\+\+ identifier .* Got 'int' instead"),
        ({"classname": "a b"}, r"'classname' .* Got 'a b' instead"),
        ({"classname": "x" * 36}, r"'classname' .* Got 'x+' instead"),
        ({"classmap": ["a"]}, r"'classmap' .* must give names by index, from 0 to 255\. Got \['a"),
        ({"classmap": {256: "a"}}, r"'classmap' .* Got \{256: 'a'\} instead"),
        ({"classmap": {0: 1}}, r"'classmap' .* Got \{0: 1\} instead"),
        ({"bits": 12}, r"'bits' parameter of compile must be 8, 16 or 'auto'\. Got 12 instead"),
    ],
)
def test_parameters_out_of_range(parameters, message):
    model, _, _ = fitted("SVM", "iris")
    with pytest.raises(ValueError, match=message):
        tinyml.port(model, **parameters)


def test_what_it_refuses():
    model, _, _ = fitted("SVM", "iris")
    with pytest.raises(TypeError, match=r"^port has no parameter 'bit'\.$"):
        tinyml.port(model, bit=8)
    regressor, _, _ = fitted("SVR", "diabetes")
    with pytest.raises(ValueError, match=r"'classmap' .* must be None for SVR, which predicts no"):
        tinyml.port(regressor, classmap={0: "a"})
    several = LinearRegression().fit(np.eye(3), np.eye(3))
    with pytest.raises(TypeError, match=r"^port needs a model of one target\. Got 3; compile"):
        tinyml.port(several, X=np.eye(3))
    with pytest.raises(NotFittedError, match="not fitted yet"):
        tinyml.port(SVC())
