"""Every op in the registry: random legal instances are the same in Python, in C and on the chip."""

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from strategies import STRATEGIES, programs, registered

from tinyml.device import run_avr_many, run_host

MANY = 12

# Not shrunk: every step of that would build an executable. The failing program is printed instead.
batches = settings(phases=[Phase.generate], suppress_health_check=list(HealthCheck), max_examples=2)


def any_rows(program, n, seed):
    """Return raw rows of random and extreme values."""
    rng = np.random.default_rng(seed)
    limits = np.iinfo(program.input.type.dtype)
    shape = (n, program.n_features)
    ends = np.array([limits.min, limits.min + 1, 0, 1, limits.max - 1, limits.max])
    random = rng.integers(limits.min, limits.max, shape, endpoint=True)
    near_zero = rng.integers(max(limits.min, -200), 200, shape) % 256 + min(0, limits.min)
    chosen = np.choose(rng.integers(0, 3, (n, 1)), [random, rng.choice(ends, shape), near_zero])
    chosen[: len(ends)] = ends[:n, None]
    return np.clip(chosen, limits.min, limits.max).astype(limits.dtype)


def check(program, raw, scores, decisions):
    wanted = program.run(raw)
    np.testing.assert_array_equal(scores, wanted, err_msg=program.summary())
    if program.has_predict:
        np.testing.assert_array_equal(decisions, program.decide(wanted))


def test_every_op_has_a_strategy():
    assert set(STRATEGIES) == registered()


@pytest.mark.parametrize("name", STRATEGIES)
@batches
@given(data=st.data())
def test_python_is_the_sanitised_c(name, data):
    chosen = data.draw(st.lists(programs(name), min_size=MANY, max_size=MANY))
    raws = [any_rows(program, 60, seed) for seed, program in enumerate(chosen)]
    for program, raw, outputs in zip(chosen, raws, run_host(chosen, raws), strict=True):
        check(program, raw, *outputs)


@pytest.mark.device
@pytest.mark.parametrize("name", STRATEGIES)
@settings(batches, max_examples=1)
@given(data=st.data())
def test_python_is_the_chip(name, data):
    chosen = data.draw(st.lists(programs(name), min_size=6, max_size=6))
    raws = [any_rows(program, 8, seed) for seed, program in enumerate(chosen)]
    for program, raw, run in zip(chosen, raws, run_avr_many(chosen, raws), strict=True):
        check(program, raw, run.scores, run.decisions)
