"""Many models at once, on the host and on the chip."""

import numpy as np
import pytest

from tinyml.device import BuildError, ToolNotFound, get_board, simulate
from tinyml.device.exactness import run_models_avr, run_models_host
from tinyml.device.toolchain import find_tool

COMPILERS = ["gcc", "clang"]


@pytest.fixture(params=COMPILERS)
def compiler(request):
    """Each host compiler that is installed."""
    try:
        find_tool(request.param)
    except ToolNotFound as error:
        pytest.skip(str(error))
    return request.param


@pytest.fixture
def family(c_model):
    """Models of different types and widths, with rows and the scores they should get."""
    rng = np.random.default_rng(0)
    models, raws = [], []
    for k, (input_ctype, score_ctype) in enumerate(
        [
            ("int8_t", "int16_t"),
            ("uint8_t", "int32_t"),
            ("int16_t", "int32_t"),
            ("int32_t", "int32_t"),
        ]
    ):
        body = f"for (uint8_t i = 0; i < {k + 1}; i++) out[i] = (m{k}_score_t)(x[i] - 3);"
        models.append(
            c_model("return (uint8_t)(x[0] & 7);", scores=body, name=f"m{k}", n_features=k + 1,
                    n_outputs=k + 1, input_ctype=input_ctype, score_ctype=score_ctype,
                    predict_ctype="uint8_t")
        )  # fmt: skip
        limits = np.iinfo(models[-1].input_dtype)
        low = limits.min + 3 if limits.bits == 32 else limits.min
        raws.append(rng.integers(low, limits.max, (30 + k, k + 1)).astype(limits.dtype))
    return models, raws


def check(models, raws, outputs):
    for raw, (scores, decisions) in zip(raws, outputs, strict=True):
        np.testing.assert_array_equal(scores, raw.astype(np.int64) - 3)
        np.testing.assert_array_equal(decisions, raw[:, 0].astype(np.int64) & 7)


def test_the_host_answers_for_each_model(family, compiler, temporary_files):
    check(*family, run_models_host(*family, compiler=compiler))
    assert not list(temporary_files.iterdir())


@pytest.mark.device
@pytest.mark.parametrize("board", ["uno", "mega2560", "attiny85"])
def test_the_chip_answers_for_each_model(family, board, temporary_files):
    runs = run_models_avr(*family, get_board(board))
    check(*family, [(run.scores, run.decisions) for run in runs])
    assert not list(temporary_files.iterdir())


@pytest.mark.device
@pytest.mark.parametrize(("board", "firmwares"), [("uno", 1), ("attiny85", 4)])
def test_models_share_firmwares_as_far_as_flash_allows(c_model, board, firmwares):
    table = f"static const uint8_t t[3000] PROGMEM = {{{', '.join(['7'] * 3000)}}};\n"
    models = [c_model("return pgm_read_byte(&t[x[0]]);", top=table, name=f"m{k}") for k in range(8)]
    before = int(simulate.count)
    runs = run_models_avr(models, [np.array([[2999, 0]], np.int16)] * 8, get_board(board))
    assert [int(run.decisions[0]) for run in runs] == [7] * 8
    assert int(simulate.count) - before == firmwares


def test_no_models_are_no_work():
    assert run_models_host([], []) == []


@pytest.mark.parametrize(
    ("predict", "message"),
    [
        ("return (int16_t)(x[0] << (x[1] + 40));", "shift exponent"),
        ("int a[2] = {0, 0}; return (int16_t)a[x[0]];", "out of bounds|stack-buffer-overflow"),
        ("return (int16_t)(x[2] + x[0]);", "heap-buffer-overflow"),
        ("int32_t big = 2147483647; return (int16_t)(big + x[0]);", "signed integer overflow"),
    ],
)
def test_undefined_behaviour_stops_the_program(c_model, compiler, predict, message):
    rows = np.array([[7, 1]], dtype=np.int16)
    with pytest.raises(RuntimeError, match=f"^The program failed on the host: .*({message})"):
        run_models_host([c_model(predict)], [rows], compiler=compiler)


@pytest.mark.parametrize(
    "predict", ["int16_t unused; return x[0];", "int y = x[0]; return y;", "int x = 1; return 0;"]
)
def test_a_warning_is_an_error(c_model, compiler, predict):
    with pytest.raises(BuildError, match=rf"^{compiler} failed: m\.c:"):
        run_models_host([c_model(predict)], [np.zeros((1, 2), np.int16)], compiler=compiler)
