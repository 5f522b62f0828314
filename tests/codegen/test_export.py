"""Files that are whole or absent: one header, or a library as Arduino specifies it."""

import re

import numpy as np
import pytest
from instances import compiled
from sklearn.linear_model import LinearRegression
from test_c import PROGRAMS

import tinyml
from tinyml.codegen.export import header, selftest, sources

REGRESSORS = ["linear_regression", "linear_several"]
SEQUENCES = ["fastgrnn_ragged", "gru_regressor"]
PROGRAM_NAMES = ["logistic_iris", "logistic_binary", "forest", *REGRESSORS, *SEQUENCES]
# https://arduino.github.io/arduino-cli/latest/library-specification/
REQUIRED = ["name", "version", "author", "maintainer", "sentence", "paragraph", "category", "url"]
CATEGORIES = {
    "Display", "Communication", "Signal Input/Output", "Sensors", "Device Control", "Timing",
    "Data Storage", "Data Processing", "Other",
}  # fmt: skip
KEYWORD_KINDS = {"KEYWORD1", "KEYWORD2", "KEYWORD3", "LITERAL1", "LITERAL2"}


@pytest.fixture
def program():
    return compiled("logistic_iris")


@pytest.fixture(params=PROGRAM_NAMES)
def library(request, tmp_path):
    """A library, and the program in it."""
    chosen = compiled(request.param)
    return chosen.export(tmp_path, "flowers", kind="arduino"), chosen


def properties(folder):
    lines = (folder / "library.properties").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line)


def everything(folder):
    return {str(p.relative_to(folder)) for p in folder.rglob("*")}


# One header ---------------------------------------------------------------------------------------


def test_one_header(program, tmp_path):
    path = program.export(tmp_path / "new" / "folder", "flowers")
    assert path == tmp_path / "new" / "folder" / "flowers.h"
    assert path.read_text() == program.to_c("flowers") == header(program, "flowers")
    assert everything(tmp_path / "new" / "folder") == {"flowers.h"}


def test_neighbours_of_a_header_stay(program, tmp_path):
    (tmp_path / "main.c").write_text("int main(void) { return 0; }")
    program.export(tmp_path, "one")
    program.export(tmp_path, "two")
    compiled("forest").export(tmp_path, "one")
    assert everything(tmp_path) == {"main.c", "one.h", "two.h"}
    assert (tmp_path / "one.h").read_text() == header(compiled("forest"), "one")


@pytest.mark.parametrize("name", PROGRAM_NAMES)
def test_the_contract_says_what_is_promised(name):
    program = compiled(name)
    top = header(program, "flowers").split("#ifndef")[0]
    assert "SPDX-License-Identifier: 0BSD" in top
    for fact in (
        program.description,
        f"{program.n_features} features",
        f"{program.table_bytes} bytes",
        f"{program.buffer_bytes} bytes of buffers",
        program.agreement.text.split(" on ")[0],
        program.input.type.ctype,
    ):
        assert fact in top
    assert ("flowers_predict" in top) == program.has_predict
    assert ("flowers_step" in top) == (program.recurrence is not None)
    assert ("-128 (NaN)" in top) == (program.input.missing == -128)


def test_neither_dates_nor_paths(program):
    text = header(program, "flowers") + "".join(sources(program, "flowers").values())
    assert not re.search(r"20\d\d|/home|/tmp|/work|/root", text)


def test_guards_differ_between_names(program):
    guards = re.findall(r"#ifndef (\w+)", header(program, "a") + header(program, "b"))
    assert guards == ["A_H", "B_H"]


# An Arduino library -------------------------------------------------------------------------------


def test_a_library_has_the_parts_of_the_specification(library):
    folder, _ = library
    assert folder.name == "flowers"
    files = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert files == {
        "library.properties",
        "keywords.txt",
        "src/flowers.h",
        "src/flowers.c",
        "src/flowers_selftest.h",
        "examples/flowers_serial/flowers_serial.ino",
    }


def test_properties(library):
    folder, _ = library
    found = properties(folder)
    assert all(found.get(key) for key in REQUIRED)
    assert found["name"] == "flowers"
    assert re.fullmatch(r"\d+\.\d+\.\d+", found["version"])
    assert found["category"] in CATEGORIES
    assert found["architectures"] == "*"
    assert (folder / "src" / found["includes"]).is_file()


def test_keywords_are_separated_by_single_tabs(library):
    folder, program = library
    lines = (folder / "keywords.txt").read_text().splitlines()
    declared = (folder / "src/flowers.h").read_text()
    for line in lines:
        word, kind = line.split("\t")
        assert kind in KEYWORD_KINDS
        assert re.search(rf"\b{word}\b", declared), word
    words = {line.split("\t")[0] for line in lines}
    assert ("flowers_predict" in words) == program.has_predict
    assert ("flowers_label" in words) == (program.classes is not None)


def test_the_sketch_uses_what_the_header_declares(library):
    folder, _ = library
    sketch = (folder / "examples/flowers_serial/flowers_serial.ino").read_text()
    text = (folder / "src/flowers.h").read_text() + (folder / "src/flowers_selftest.h").read_text()
    assert "@" not in sketch
    for word in set(re.findall(r"\b(?:flowers|FLOWERS)_\w+", sketch)) - {"flowers_selftest"}:
        assert re.search(rf"\b{word}\b", text), word


def test_the_self_test_holds_what_python_says(library):
    folder, program = library
    text = (folder / "src/flowers_selftest.h").read_text()
    tables = re.findall(r"= \{\n(.*?)\n\};", text, re.DOTALL)
    rows, scores = (
        np.array([[int(v) for v in re.findall(r"-?\d+(?![\d_]*\()", line.replace("INT32_C", ""))]
                  for line in table.splitlines()]) for table in tables
    )  # fmt: skip
    assert len(rows) == int(re.search(r"_SELFTEST_N (\d+)", text)[1])
    np.testing.assert_array_equal(program.run(rows), scores)


def test_a_library_is_replaced_whole(program, tmp_path):
    folder = program.export(tmp_path, "flowers", kind="arduino")
    (folder / "src" / "stale.c").write_text("int stale;")
    forest = compiled("forest")
    forest.export(tmp_path, "flowers", kind="arduino")
    assert "src/stale.c" not in everything(folder)
    assert (folder / "src/flowers.c").read_text() == sources(forest, "flowers")["flowers.c"]
    assert everything(tmp_path) == {"flowers"} | {f"flowers/{p}" for p in everything(folder)}


# Failures -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["thesis.txt", "library.properties"])
def test_a_folder_of_somebody_else_is_refused(program, tmp_path, file):
    foreign = tmp_path / "flowers"
    foreign.mkdir()
    (foreign / file).write_text("name=flowers\nauthor=Ada\n")
    with pytest.raises(FileExistsError, match="is no library written by tinyml"):
        program.export(tmp_path, "flowers", kind="arduino")
    assert everything(tmp_path) == {"flowers", f"flowers/{file}"}
    assert (foreign / file).read_text() == "name=flowers\nauthor=Ada\n"


def test_an_empty_folder_is_filled(program, tmp_path):
    (tmp_path / "flowers").mkdir()
    assert (program.export(tmp_path, "flowers", kind="arduino") / "keywords.txt").is_file()


@pytest.mark.parametrize("options", [{"name": "for"}, {"name": "a/b"}, {"kind": "zip"}])
@pytest.mark.parametrize("kind", ["header", "arduino"])
def test_a_refused_export_leaves_nothing(program, tmp_path, options, kind):
    with pytest.raises(ValueError, match="parameter"):
        program.export(tmp_path / "new", **{"name": "flowers", "kind": kind, **options})
    assert not everything(tmp_path)


@pytest.mark.parametrize("kind", ["header", "arduino"])
def test_an_interrupted_export_leaves_what_was_there(program, tmp_path, kind, monkeypatch):
    """A full disk, halfway through the files."""
    program.export(tmp_path, "flowers", kind=kind)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tinyml.codegen.export.os.replace", full)
    with pytest.raises(OSError, match="No space left"):
        compiled("forest").export(tmp_path, "flowers", kind=kind)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_a_file_in_the_way(program, tmp_path):
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(OSError, match="taken"):
        program.export(tmp_path / "taken", "flowers")
    assert (tmp_path / "taken").read_text() == "mine"


def test_everything_is_ascii():
    assert all(text.isascii() for text in sources(PROGRAMS["linear"](), "m").values())
    assert selftest(compiled("logistic_iris"), "m").isascii()


def test_the_self_test_of_wide_rows_stays_small():
    X = np.random.default_rng(0).normal(size=(60, 5000))
    program = tinyml.compile(LinearRegression().fit(X, X[:, 0]), X, bits=8)
    assert "#define WIDE_SELFTEST_N 1\n" in selftest(program, "wide")
