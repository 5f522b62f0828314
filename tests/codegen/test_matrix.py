"""Every instance, every width: the integers of Python are those of the C, on host and chip."""

import hard_rows
import numpy as np
import pytest
from instances import INSTANCES, compiled, data

from tinyml.device import quantize_avr, quantize_host, run_avr_many, run_host


def features(name):
    return data(INSTANCES[name].data)[0]


def assert_identical(program, raw, outputs, name):
    scores, decisions = outputs
    wanted = program.run(raw)
    np.testing.assert_array_equal(scores, wanted, err_msg=name)
    if program.has_predict:
        np.testing.assert_array_equal(decisions, program.decide(wanted), err_msg=name)
    else:
        assert decisions is None


@pytest.mark.parametrize("bits", [8, 16, "auto"])
def test_python_is_the_sanitised_c(bits):
    programs = [compiled(name, bits) for name in INSTANCES]
    raws = [hard_rows.raw_rows(compiled(name, bits), features(name), 1000) for name in INSTANCES]
    assert min(map(len, raws)) >= 1000
    results = run_host(programs, raws)
    for name, program, raw, outputs in zip(INSTANCES, programs, raws, results, strict=True):
        assert_identical(program, raw, outputs, name)


@pytest.mark.device
def test_python_is_the_chip():
    programs = [compiled(name) for name in INSTANCES]
    raws = [hard_rows.raw_rows(compiled(name), features(name), 24) for name in INSTANCES]
    runs = run_avr_many(programs, raws)
    for name, program, raw, run in zip(INSTANCES, programs, raws, runs, strict=True):
        assert_identical(program, raw, (run.scores, run.decisions), name)


def one_for_each_input():
    """Names of instances whose inputs differ in type, in having one scale or many, or gaps."""
    kinds = {}
    for name in INSTANCES:
        t = compiled(name).input.type
        kinds.setdefault((t.ctype, np.unique(t.frac).size > 1, compiled(name).input.missing), name)
    return list(kinds.values())


@pytest.mark.parametrize("bits", [8, 16])
def test_quantize_is_the_c_for_every_float(bits):
    for name in one_for_each_input():
        program = compiled(name, bits)
        X = hard_rows.float_rows(program, features(name), 2000)
        np.testing.assert_array_equal(quantize_host(program, X), program.quantize(X), err_msg=name)


@pytest.mark.device
def test_quantize_is_the_chip_for_every_float():
    for name in one_for_each_input():
        program = compiled(name)
        X = hard_rows.float_rows(program, features(name), 40)
        np.testing.assert_array_equal(quantize_avr(program, X), program.quantize(X), err_msg=name)
