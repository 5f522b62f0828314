"""The simulator: known answers, known cycles, known stack; and programs that go wrong."""

import os
import subprocess
import sys

import numpy as np
import pytest

from tinyml.device import SimulationError, ToolNotFound, get_board, simulate
from tinyml.device.build import FLAGS, OS, AvrBuild
from tinyml.device.driving import ByRow
from tinyml.device.firmware import build_bench
from tinyml.device.simulate import host_program, run_bench

BOARDS = ["uno", "mega2560", "attiny85"]
ROW = np.array([[1, 2], [3, 4]], dtype=np.int16)


def run(model, rows=ROW, board="uno", flags=OS, **options):
    board = get_board(board)
    with AvrBuild(board, flags) as avr:
        elf = build_bench(avr, [ByRow(model)])
    return run_bench(elf, board, [ByRow(model)], [rows], **options)[0]


@pytest.mark.device
@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("flags", FLAGS.values(), ids=FLAGS)
def test_known_answers(linear, rows, board, flags):
    result = run(linear, rows, board, flags)
    np.testing.assert_array_equal(result.decisions, 3 * rows[:, 0] + rows[:, 1])
    np.testing.assert_array_equal(result.scores, rows[:, ::-1])


@pytest.mark.device
@pytest.mark.parametrize("ctype", ["int8_t", "uint8_t", "int16_t", "uint16_t", "int32_t"])
def test_extreme_values_of_every_type_come_through(c_model, ctype):
    model = c_model(
        "return x[1];", scores="out[0] = x[0]; out[1] = x[1];", n_outputs=2,
        input_ctype=ctype, score_ctype=ctype, predict_ctype=ctype,
    )  # fmt: skip
    limits = np.iinfo(model.input_dtype)
    rows = np.array([[limits.min, limits.max], [limits.max, limits.min]], dtype=model.input_dtype)
    result = run(model, rows)
    np.testing.assert_array_equal(result.scores, rows.astype(np.int64))
    np.testing.assert_array_equal(result.decisions, rows[:, 1].astype(np.int64))


@pytest.mark.device
@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("flags", FLAGS.values(), ids=FLAGS)
def test_a_delay_of_1000_cycles_is_1000_cycles(c_model, board, flags):
    plain, delayed = (
        run(c_model(f"__builtin_avr_delay_cycles({n}); return x[0];"), board=board, flags=flags)
        for n in (0, 1000)
    )
    np.testing.assert_array_equal(delayed.cycles - plain.cycles, [1000, 1000])


@pytest.mark.device
@pytest.mark.parametrize("flags", FLAGS.values(), ids=FLAGS)
def test_only_the_body_is_counted(c_model, flags):
    # Two cycles for two ldi. Call, return and storing the answer are not counted.
    model = c_model(
        'int16_t y; __asm__ volatile ("ldi %A0, 5\\n\\tldi %B0, 0" : "=d" (y)); return y;'
    )
    assert set(run(model, flags=flags).cycles) <= {2, 3}  # the answer may have to be moved
    nothing = c_model('__asm__ volatile ("nop"); return 0;', predict_ctype="uint8_t")
    assert set(run(nothing, flags=flags).cycles) == {2}  # nop, ldi r24, 0


@pytest.mark.device
def test_cycles_agree_with_the_chips_own_timer(c_model):
    # Timer 1 counts cycles without a prescaler; the loop's length is up to the row.
    timed = c_model(
        "TCCR1B = 1; TCNT1 = 0; work(x); uint16_t t = TCNT1; TCCR1B = 0; return (int16_t)t;",
        top="__attribute__((noinline)) static void work(const m_input_t *x)"
        " { for (volatile uint8_t i = 0; i < x[0]; i++) if (i & x[1]) i++; }\n",
    )
    rows = np.random.default_rng(0).integers(0, 200, (50, 2)).astype(np.int16)
    result = run(timed, rows)
    assert len(set(result.decisions)) > 20
    assert len(set(result.cycles - result.decisions)) == 1


@pytest.mark.device
def test_a_regressor_of_several_outputs_is_timed_by_its_scores(c_model):
    whole = c_model("return 0;", scores="__builtin_avr_delay_cycles(500); out[0] = x[0];")
    model = type(whole)(**{**vars(whole), "predict_ctype": None})
    result = run(model)
    assert result.decisions is None
    np.testing.assert_array_equal(result.scores, ROW[:, :1])
    assert np.all((result.cycles >= 500) & (result.cycles < 520))


@pytest.mark.device
@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("flags", FLAGS.values(), ids=FLAGS)
def test_an_array_on_the_stack_is_seen(c_model, board, flags):
    body = "volatile uint8_t a[{n}]; for (uint8_t i = 0; i < {n}; i++) a[i] = x[0]; return a[0];"
    short, long = (
        int(run(c_model(body.format(n=n)), board=board, flags=flags).stack.max()) for n in (20, 120)
    )
    assert long - short == 100
    assert 20 + 2 <= short <= 20 + 12  # the array, the return address, saved registers


@pytest.mark.device
def test_an_array_that_is_reserved_but_never_touched_is_seen(c_model):
    # An interrupt at that moment would write below it.
    model = c_model("volatile uint8_t a[100]; a[99] = x[0]; return a[99];")
    assert run(model).stack.min() >= 102


@pytest.mark.device
@pytest.mark.parametrize("value", [0x5A, 0xA5])
def test_a_byte_like_the_paint_is_seen(c_model, value):
    asm = f'__asm__ volatile ("ldi r24, {value}\\n\\tpush r24\\n\\tpop r24" ::: "r24");'
    assert run(c_model(f"{asm} return 0;")).stack.max() == 2 + 1


@pytest.mark.device
def test_nested_calls_add_up(c_model):
    top = (
        "#define ALONE __attribute__((noinline)) static int16_t\n"
        'ALONE g(int16_t a) { __asm__ volatile (""); return a; }\n'
        "ALONE f(int16_t a) { return (int16_t)(g(a) + 1); }\n"
    )
    model = c_model("return (int16_t)(f(x[0]) + 1);", top=top)
    assert set(run(model).stack) == {2 + 2 + 2}  # three return addresses
    assert set(run(model, board="mega2560").stack) == {3 + 3 + 3}


@pytest.mark.device
@pytest.mark.parametrize("board", BOARDS)
def test_stack_grows_evenly_with_recursion(c_model, board):
    # Over several pages of 256 bytes, where the two halves of the stack pointer change in turn.
    top = "__attribute__((noinline)) static int16_t f(int16_t a);\n" + (
        "static int16_t f(int16_t a) { volatile int16_t b[3]; b[0] = a;"
        " return a ? (int16_t)(f((int16_t)(a - 1)) + b[0]) : 0; }\n"
    )
    depths = np.arange(60, dtype=np.int16)
    stack = run(c_model("return f(x[0]);", top=top), np.c_[depths, depths], board).stack
    assert len(set(np.diff(stack))) == 1
    assert stack[-1] > 512


@pytest.mark.device
def test_a_frame_larger_than_all_memory_is_reported(c_model):
    model = c_model("volatile uint8_t a[18500]; a[18499] = x[0]; return a[18499];")
    with pytest.raises(SimulationError, match=r"row 0: the stack ran into static RAM\.$"):
        run(model)


@pytest.mark.device
def test_several_models_share_a_firmware(c_model):
    models = [
        ByRow(c_model(f"return (int16_t)(x[0] + {k});", scores=f"out[0] = (int16_t)(x[1] * {k});",
                name=f"m{k}", predict_ctype=ctype, n_features=2 + k))
        for k, ctype in enumerate(["int16_t", "uint8_t", "int8_t"])
    ]  # fmt: skip
    raws = [np.arange(5 * (2 + k)).reshape(5, 2 + k).astype(np.int16) for k in range(3)]
    board = get_board("uno")
    with AvrBuild(board, OS) as avr:
        results = run_bench(build_bench(avr, models), board, models, raws)
    for k, (raw, result) in enumerate(zip(raws, results, strict=True)):
        np.testing.assert_array_equal(result.decisions, raw[:, 0] + k)
        np.testing.assert_array_equal(result.scores[:, 0], raw[:, 1] * k)


@pytest.mark.device
def test_a_model_without_rows_gives_none(linear):
    assert run(linear, np.zeros((0, 2), np.int16)).decisions.shape == (0,)


@pytest.mark.device
def test_simulations_are_counted(linear):
    before = int(simulate.count)
    run(linear)
    assert int(simulate.count) == before + 1


@pytest.mark.device
def test_rows_of_another_length_are_refused(linear):
    with pytest.raises(ValueError, match=r"^Rows of m must have 2 features. Got shape \(2, 3\)"):
        run(linear, np.zeros((2, 3), np.int16))


# --- programs that go wrong -----------------------------------------------------------------------


@pytest.mark.device
def test_a_program_that_hangs_is_given_up(c_model):
    model = c_model('while (x[0] == 3) { __asm__ volatile (""); } return 0;')
    with pytest.raises(SimulationError) as caught:
        run(model, row_limit=300_000)
    assert str(caught.value) == (
        "The simulated atmega328p failed: row 1: no answer after 300000 cycles."
    )


@pytest.mark.device
def test_a_program_that_jumps_astray_is_reported(c_model):
    model = c_model("if (x[0] == 3) ((void (*)(void))0x7000)(); return 0;")
    with pytest.raises(SimulationError, match=r"^The simulated atmega328p failed: row \d: .*\.$"):
        run(model, row_limit=3_000_000)


@pytest.mark.device
@pytest.mark.parametrize("board", BOARDS)
def test_a_stack_without_end_is_reported(c_model, board):
    top = "__attribute__((noinline)) static int16_t f(int16_t a);\n" + (
        "static int16_t f(int16_t a) { volatile int16_t b[50]; b[0] = a;"
        " return a ? (int16_t)(f((int16_t)(a - 1)) + b[0]) : 0; }\n"
    )
    model = c_model("return f(x[0]);", top=top)
    assert run(model, np.array([[5, 0]], np.int16), board).stack.max() > 600
    with pytest.raises(SimulationError, match=r"row 1: .*(ran into static RAM|crashed|no answer)"):
        run(model, np.array([[5, 0], [900, 0]], np.int16), board, row_limit=3_000_000)


@pytest.mark.device
def test_a_program_that_ends_is_reported(c_model):
    model = c_model('__asm__ volatile ("cli\\n\\tsleep"); return 0;')
    with pytest.raises(SimulationError, match=r"row 0: the program went to sleep\.$"):
        run(model)


@pytest.mark.device
def test_nothing_is_left_of_a_run(linear, temporary_files):
    run(linear)
    assert not list(temporary_files.iterdir())


# --- the host program -----------------------------------------------------------------------------


@pytest.mark.device
def test_the_host_is_compiled_once(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = host_program()
    built = first.stat().st_mtime_ns
    assert host_program() == first
    assert first.stat().st_mtime_ns == built
    assert [path.name for path in (tmp_path / "tinyml").iterdir()] == [first.name]


@pytest.mark.device
def test_another_source_is_another_host(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = host_program()
    changed = tmp_path / "simavr_host.c"
    changed.write_text(simulate._SOURCE.read_text() + "/* changed */\n")
    monkeypatch.setattr(simulate, "_SOURCE", changed)
    assert host_program() != first


@pytest.mark.device
def test_two_processes_may_compile_the_host_at_once(tmp_path):
    script = "from tinyml.device.simulate import host_program; print(host_program())"
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    racers = [
        subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    printed = {racer.communicate()[0].strip() for racer in racers}
    assert [racer.returncode for racer in racers] == [0, 0, 0]
    (path,) = printed
    assert [entry.name for entry in (tmp_path / "tinyml").iterdir()] == [
        os.path.basename(path.decode())
    ]


@pytest.mark.device
def test_a_cache_that_cannot_be_made_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(SimulationError, match=r"^The cache folder .* set XDG_CACHE_HOME to"):
        host_program()


@pytest.mark.device
def test_without_simavr_there_is_one_sentence(monkeypatch):
    monkeypatch.setattr(simulate, "_PREFIXES", ("/nowhere",))
    with pytest.raises(ToolNotFound, match=r"^simavr was not found\. Install it with 'sudo apt"):
        host_program()
