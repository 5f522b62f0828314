"""Sketches built with Arduino's own build system and run until they have spoken."""

import pytest

from tinyml.device import BuildError, ToolNotFound, build_arduino_sketch, get_board, run_sketch
from tinyml.device.toolchain import find_tool

ARDUINO_BOARDS = ["uno", "nano", "mega2560"]

PROPERTIES = """\
name={name}
version=1.0.0
author=nobody
maintainer=nobody
sentence=A model.
paragraph=A model.
category=Data Processing
url=https://example.com/
architectures=*
"""


@pytest.fixture
def builder():
    """Skip, naming the tool, where there is no arduino-builder."""
    try:
        return find_tool("arduino-builder")
    except ToolNotFound as error:
        pytest.skip(str(error))


@pytest.fixture
def sketch(tmp_path):
    """A function that writes a sketch of one or more files."""

    def write(ino, name="small", **others):
        folder = tmp_path / name
        folder.mkdir()
        (folder / f"{name}.ino").write_text(ino)
        for stem, text in others.items():
            (folder / f"{stem}.cpp").write_text(text)
        return folder

    return write


def library(folder, model):
    (folder / "src").mkdir(parents=True)
    (folder / "library.properties").write_text(PROPERTIES.format(name=folder.name))
    for file, text in model.sources.items():
        (folder / "src" / file).write_text(text)
    return folder


@pytest.mark.device
@pytest.mark.parametrize("board", ARDUINO_BOARDS)
def test_a_sketch_speaks(builder, sketch, board, temporary_files):
    ino = 'void setup() { Serial.begin(9600); Serial.println("ready"); }\nvoid loop() {}\n'
    elf = build_arduino_sketch(sketch(ino), board=board)
    assert elf.flash < get_board(board).flash
    assert run_sketch(elf, board, until="ready") == "ready"
    assert run_sketch(elf, board, seconds=0.1) == "ready\n"
    assert not list(temporary_files.iterdir())


@pytest.mark.device
def test_a_sketch_listens(builder, sketch):
    ino = (
        "void setup() { Serial.begin(115200); }\n"
        "void loop() { if (Serial.available()) Serial.println(Serial.parseInt() + 1); }\n"
    )
    elf = build_arduino_sketch(sketch(ino))
    assert run_sketch(elf, "uno", send="41 99\n", until="100").split() == ["42", "100"]


@pytest.mark.device
def test_a_sketch_that_says_nothing_is_stopped(builder, sketch):
    elf = build_arduino_sketch(sketch("void setup() {}\nvoid loop() {}\n"))
    assert run_sketch(elf, "uno", until="never", seconds=0.5) == ""


@pytest.mark.device
@pytest.mark.parametrize("board", ARDUINO_BOARDS)
def test_two_models_in_one_sketch_included_from_two_files(
    builder, sketch, c_model, tmp_path, board
):
    table = "static const uint8_t t[4] PROGMEM = {{{}}};\n"
    libraries = [
        library(
            tmp_path / f"lib_{name}",
            c_model("return pgm_read_byte(&t[x[0]]);", top=table.format(values), name=name),
        )
        for name, values in [("first", "1, 2, 3, 4"), ("second", "5, 6, 7, 8")]
    ]
    include = "#include <first.h>\n#include <second.h>\nint other(const int16_t *x);\n"
    ino = include + (
        "const int16_t x[2] = {2, 0};\n"
        "void setup() { Serial.begin(115200); Serial.println(first_predict(x));"
        " Serial.println(second_predict(x)); Serial.println(other(x)); }\nvoid loop() {}\n"
    )
    more = (
        include + "int other(const int16_t *x) { return first_predict(x) * second_predict(x); }\n"
    )
    elf = build_arduino_sketch(sketch(ino, other=more), libraries, board)
    assert run_sketch(elf, board, until="21").split() == ["3", "7", "21"]


@pytest.mark.device
def test_a_sketch_that_does_not_compile_is_reported(builder, sketch, temporary_files):
    with pytest.raises(BuildError, match=r"^arduino-builder failed: .*small\.ino:1:.*'oops'"):
        build_arduino_sketch(sketch("void setup() { oops(); }\nvoid loop() {}\n"))
    assert not list(temporary_files.iterdir())


def test_a_board_that_arduino_does_not_know_is_refused(sketch):
    with pytest.raises(ValueError, match=r"^Arduino's AVR core does not know the attiny85\.$"):
        build_arduino_sketch(sketch(""), board="attiny85")


def test_a_sketch_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(BuildError, match=r"a sketch folder holds an \.ino of its own name"):
        build_arduino_sketch(tmp_path)
