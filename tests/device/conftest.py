"""Models written in C by hand, so that what they do and cost is known beforehand."""

import tempfile

import numpy as np
import pytest

from tinyml.device.build import CModel

_HEADER = """\
#ifndef {upper}_H
#define {upper}_H
#include <stdint.h>
#define {upper}_N_FEATURES {n_features}
#define {upper}_N_OUTPUTS {n_outputs}
typedef {input_ctype} {name}_input_t;
typedef {score_ctype} {name}_score_t;
#ifdef __cplusplus
extern "C" {{
#endif
void {name}_scores(const {name}_input_t *x, {name}_score_t *out);
{predict_ctype} {name}_predict(const {name}_input_t *x);
#ifdef __cplusplus
}}
#endif
#endif
"""

_TOP = """\
#include "{name}.h"
#if defined(__AVR__)
#include <avr/io.h>
#include <avr/pgmspace.h>
#else
#define PROGMEM
#define pgm_read_byte(p) (*(p))
#endif
"""


def literal_model(
    predict, *, scores="out[0] = 0; (void)x;", top="", name="m", n_features=2, n_outputs=1,
    input_ctype="int16_t", score_ctype="int16_t", predict_ctype="int16_t",
):  # fmt: skip
    """A model of two C bodies: `predict`, which returns, and `scores`, which writes `out`."""
    words = {
        "name": name, "upper": name.upper(), "n_features": n_features, "n_outputs": n_outputs,
        "input_ctype": input_ctype, "score_ctype": score_ctype, "predict_ctype": predict_ctype,
    }  # fmt: skip
    source = (
        _TOP.format(**words)
        + top
        + f"\nvoid {name}_scores(const {name}_input_t *x, {name}_score_t *out) {{ {scores} }}\n"
        + f"{predict_ctype} {name}_predict(const {name}_input_t *x) {{ {predict} }}\n"
    )
    files = {f"{name}.h": _HEADER.format(**words), f"{name}.c": source}
    return CModel(name, files, input_ctype, score_ctype, predict_ctype, n_features, n_outputs)


@pytest.fixture
def c_model():
    """The function that makes a `CModel` of C bodies."""
    return literal_model


@pytest.fixture
def linear():
    """3 x0 + x1 as the decision; the row backwards as the scores."""
    return literal_model(
        "return (int16_t)(3 * x[0] + x[1]);", scores="out[0] = x[1]; out[1] = x[0];", n_outputs=2
    )


@pytest.fixture
def rows():
    """Rows for `linear`."""
    return np.array([[1, 2], [100, -5], [-7, 7], [0, 0]], dtype=np.int16)


@pytest.fixture
def temporary_files(tmp_path, monkeypatch):
    """The folder that temporary folders are made in, empty."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder
