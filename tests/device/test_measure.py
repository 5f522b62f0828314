"""What `measure` reports, and what it refuses."""

from typing import NamedTuple

import numpy as np
import pytest

from tinyml.device import get_board, simulate
from tinyml.device.build import ARDUINO, FLAGS, OS
from tinyml.device.driving import ByRow
from tinyml.device.measure import Job, measure_job

UNO = get_board("uno")
ONE = (OS,)


class Expected(NamedTuple):
    """What Python says about some rows; `decisions` is None where there is no predict."""

    scores: np.ndarray
    decisions: np.ndarray | None


def measure_model(model, rows, answers, board, chosen=(OS, ARDUINO)):
    everywhere = np.ones(len(rows), dtype=bool)
    return measure_job(Job(ByRow(model), rows, *answers, everywhere, len(rows)), board, chosen)


def expected(rows):
    """What Python says about the `linear` model."""
    return Expected(rows[:, ::-1].astype(np.int64), (3 * rows[:, 0] + rows[:, 1]).astype(np.int64))


def table(size):
    return f"static const uint8_t t[{size}] PROGMEM = {{{', '.join(['7'] * size)}}};\n"


@pytest.mark.device
@pytest.mark.parametrize("board", ["uno", "nano", "mega2560", "attiny85"])
def test_a_small_model_fits_every_board(linear, rows, board):
    report = measure_model(linear, rows, expected(rows), get_board(board))
    assert report.fits
    assert report.identical
    assert report.n_identical == report.n_rows == report.arduino.n_identical == 4
    assert report.static_ram == 0
    assert report.ram == report.stack + 4
    assert 0 < report.flash < report.flash_total
    assert 0 < report.cycles_min <= report.cycles <= report.cycles_max
    assert report.ms == pytest.approx(report.cycles / report.clock_hz * 1e3)
    assert report.compared == "scores and decisions"
    assert report.arduino.compared == "decisions"


@pytest.mark.device
@pytest.mark.parametrize("flags", FLAGS.values(), ids=FLAGS)
def test_flash_is_net_of_an_empty_firmware(c_model, flags):
    answers = Expected(np.zeros((1, 1), np.int64), np.array([7]))
    small, large = (
        measure_model(
            c_model("return pgm_read_byte(&t[(uint8_t)x[0]]);", top=table(size)),
            np.array([[3, 0]], np.int16), answers, UNO, (flags,),
        )
        for size in (100, 160)
    )  # fmt: skip
    assert large.flash - small.flash == 60
    assert large.flash_total - small.flash_total == 60
    assert 100 < small.flash < 130


@pytest.mark.device
def test_an_empty_model_costs_nothing(linear, rows):
    empty = linear.empty("model")
    text = empty.sources["model.c"]
    empty.sources["model.c"] = text + (
        "void model_scores(const model_input_t *x, model_score_t *out)"
        " { out[0] = x[1]; out[1] = x[0]; }\n"
    )
    report = measure_model(empty, rows, Expected(expected(rows).scores, None), UNO)
    for figures in (report, report.arduino):
        assert (figures.flash, figures.static_ram) == (0, 0)
        assert (figures.cycles_min, figures.cycles_max) == (0, 0)
        assert figures.stack == 2  # the return address


@pytest.mark.device
def test_the_deepest_stack_and_the_spread_of_cycles_are_reported(c_model):
    body = "if (x[0]) { volatile uint8_t a[50]; a[0] = 1; __builtin_avr_delay_cycles(300); }"
    rows = np.array([[0, 0], [1, 0], [0, 0]], np.int16)
    top = f"__attribute__((noinline)) static void f(const m_input_t *x) {{ {body} }}\n"
    top += "__attribute__((noinline)) static void g(const m_input_t *x) { if (x[0]) f(x); }\n"
    answers = Expected(np.zeros((3, 1), np.int64), np.zeros(3, np.int64))
    report = measure_model(c_model("g(x); return 0;", top=top), rows, answers, UNO, ONE)
    assert report.stack >= 50
    assert report.cycles_max - report.cycles_min > 300
    assert report.cycles_min < report.cycles < report.cycles_max


@pytest.mark.device
def test_one_set_of_flags_is_one_simulation(linear, rows):
    before = int(simulate.count)
    report = measure_model(linear, rows, expected(rows), UNO, ONE)
    assert int(simulate.count) == before + 1
    assert report.arduino is None
    assert report.identical


@pytest.mark.device
def test_a_program_that_exceeds_the_flash_is_sized_but_not_run(c_model):
    half = table(20_000)
    model = c_model(
        "return (int16_t)(pgm_read_byte(&t[x[0]]) + pgm_read_byte(&u[x[0]]));",
        top=half + half.replace(" t[", " u["),
    )
    before = int(simulate.count)
    report = measure_model(model, np.zeros((1, 2), np.int16), Expected(np.zeros((1, 1)), None), UNO)
    assert int(simulate.count) == before
    assert not report.fits
    assert not report.identical
    assert 40_000 < report.flash < 40_200
    assert report.cycles is None
    assert report.why == (f"it needs {report.flash_total} B of flash, and the uno has 32256")
    assert "does not fit: it needs" in str(report)
    assert "not run" in str(report)


@pytest.mark.device
def test_a_program_beyond_the_reach_of_the_core_is_sized(c_model):
    model = c_model("return pgm_read_byte(&t[x[0]]);", top=table(9000))
    rows, answers = np.zeros((1, 2), np.int16), Expected(np.zeros((1, 1)), None)
    report = measure_model(model, rows, answers, get_board("attiny85"))
    assert 9_000 < report.flash < 9_100
    assert report.why == f"it needs {report.flash_total} B of flash, and the attiny85 has 8192"


@pytest.mark.device
def test_static_data_beyond_the_ram_are_not_run(c_model):
    top = "static volatile uint8_t buffer[2100];\n"
    model = c_model("buffer[x[0]] = 1; return buffer[x[1]];", top=top)
    report = measure_model(model, np.zeros((1, 2), np.int16), Expected(np.zeros((1, 1)), None), UNO)
    assert report.static_ram == 2100
    assert report.why == "it needs 2106 B of RAM, and the uno has 2048"
    assert report.stack is None


@pytest.mark.device
@pytest.mark.parametrize(("board", "size"), [("uno", 2100), ("attiny85", 600)])
def test_a_stack_beyond_the_ram_is_measured_and_does_not_fit(c_model, board, size):
    body = (
        f"volatile uint8_t a[{size}]; for (uint16_t i = 0; i < {size}; i++) a[i] = 1; return a[0];"
    )
    answers = Expected(np.zeros((1, 1), np.int64), np.array([1]))
    board = get_board(board)
    report = measure_model(c_model(body), np.zeros((1, 2), np.int16), answers, board)
    assert size + 2 <= report.stack < size + 12
    assert report.ram == report.stack + 4
    assert report.why == f"it needs {report.ram} B of RAM, and the {board.name} has {board.ram}"
    assert report.identical
    assert not report.fits


@pytest.mark.device
@pytest.mark.parametrize("flags", FLAGS.values(), ids=FLAGS)
def test_an_answer_that_differs_raises_and_names_the_row(linear, rows, flags):
    wrong = expected(rows)
    wrong.decisions[2:] += 1
    with pytest.raises(RuntimeError) as caught:
        measure_model(linear, rows, wrong, UNO, (flags,))
    assert str(caught.value) == (
        f"The chip disagrees with Python in 2 of 4 rows ({flags.name} flags): in row 2, predict"
        " gives -14 on the chip and -13 in Python."
    )


@pytest.mark.device
def test_a_score_that_differs_raises(linear, rows):
    wrong = expected(rows)
    wrong.scores[1, 1] = 5
    with pytest.raises(RuntimeError, match=r"in 1 of 4 rows .* row 1, scores gives \[ -5 100\]"):
        measure_model(linear, rows, wrong, UNO, ONE)


@pytest.mark.device
def test_a_full_chip_leaves_out_the_scores(c_model):
    # 8 KB are full with what is measured; the scores would not go in beside it.
    model = c_model(
        "return pgm_read_byte(&t[x[0]]);", scores="out[0] = pgm_read_byte(&s[x[0]]);",
        top=table(7700) + table(600).replace(" t[", " s["),
    )  # fmt: skip
    answers = Expected(np.array([[7]]), np.array([7]))
    report = measure_model(model, np.zeros((1, 2), np.int16), answers, get_board("attiny85"), ONE)
    assert report.compared == "decisions"
    assert report.fits


@pytest.mark.device
def test_a_report_prints_as_a_table_and_becomes_a_dict(linear, rows):
    report = measure_model(linear, rows, expected(rows), UNO)
    text = str(report)
    assert text.splitlines()[0] == "uno: atmega328p at 16 MHz, 4 rows"
    for words in ("flash, net", "stack", "4 of 4", "Arduino's flags: -g -Os", report.compiler):
        assert words in text
    values = report.to_dict()
    assert values["flash"] == report.flash
    assert values["arduino"]["cycles"] == report.arduino.cycles
    assert values["fits"] is values["identical"] is True
