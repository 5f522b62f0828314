"""Many programs at once, against Python: on the host under sanitizers, on the chip by the firmware.

Building is what costs, so all programs share one executable on the host, and on the chip as many
share a firmware as its flash allows.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tinyml.device.boards import Board, get_board
from tinyml.device.build import OS, AvrBuild, CModel, compile_host
from tinyml.device.driving import ByRow
from tinyml.device.elf import Elf
from tinyml.device.firmware import build_bench, compile_model
from tinyml.device.simulate import Run, run_bench
from tinyml.device.toolchain import shorten

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from tinyml.codegen.program import Program

#: Scores and, where the program has a predict, decisions.
Outputs = tuple[NDArray[np.int64], NDArray[np.int64] | None]

_MAIN = """\
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
/* Every buffer is a heap block of its exact size, so that the sanitizer sees a step beyond it. */
static void *block(size_t size) {
    void *p = malloc(size);
    if (p == NULL) exit(2);
    return p;
}
static void get(void *to, size_t size) { if (fread(to, size, 1, stdin) != 1) exit(2); }
static void put(const void *from, size_t size) { if (fwrite(from, size, 1, stdout) != 1) exit(2); }
"""


def run_host(
    programs: Sequence[Program],
    raws: Sequence[NDArray[np.generic]],
    *,
    sanitize: bool = True,
    compiler: str | None = None,
    kind: str = "arduino",
) -> list[Outputs]:
    """Run programs as C on this machine, all in one executable.

    Parameters
    ----------
    programs : sequence of Program
        What to print and compile, as strict C99.
    raws : sequence of ndarray of shape (n, n_features)
        Integer rows for each program.
    sanitize : bool
        Stop at undefined behaviour and at steps beyond a buffer.
    compiler : str, optional
        ``"gcc"`` or ``"clang"``; by default the first that is installed.
    kind : {"arduino", "header"}
        Which form of the C to compile: a header and a source for each, or one header.

    Returns
    -------
    list of (scores, decisions)
        Decisions are None for programs of several outputs that have no predict.
    """
    models = [CModel.of(program, f"m{i}", kind) for i, program in enumerate(programs)]
    return run_models_host(models, raws, sanitize=sanitize, compiler=compiler)


def run_models_host(
    models: Sequence[CModel],
    raws: Sequence[NDArray[np.generic]],
    *,
    sanitize: bool = True,
    compiler: str | None = None,
) -> list[Outputs]:
    """`run_host` for models that are C already."""
    if not models:
        return []
    main = _driver(models, [_run_function(model) for model in models])
    lengths = [len(raw) for raw in raws]
    rows = [
        np.ascontiguousarray(raw, dtype=model.input_dtype)
        for model, raw in zip(models, raws, strict=True)
    ]
    answer = _execute(models, main, lengths, rows, sanitize=sanitize, compiler=compiler)
    tables = _split(answer, [_answer_layout(model) for model in models], lengths)
    return [_outputs(table) for table in tables]


def quantize_host(
    program: Program, X: ArrayLike, *, sanitize: bool = True, compiler: str | None = None
) -> NDArray[np.generic]:
    """What the C function ``<name>_quantize`` makes of float rows on this machine."""
    model = CModel.of(program, "m0")
    features = np.ascontiguousarray(X, dtype=np.float32)
    main = _driver([model], [_quantize_function(model)])
    answer = _execute(
        [model], main, [len(features)], [features], sanitize=sanitize, compiler=compiler
    )
    return np.frombuffer(answer, model.input_dtype).reshape(-1, model.n_features)


def _driver(models: Sequence[CModel], functions: Sequence[str]) -> str:
    """C that reads how many rows each model gets, then the rows, model after model."""
    includes = "".join(f'#include "{model.name}.h"\n' for model in models)
    calls = "".join(f"    get(&n, sizeof n); serve_{model.name}(n);\n" for model in models)
    body = f"int main(void) {{\n    uint32_t n;\n{calls}    return 0;\n}}\n"
    return _MAIN + includes + "".join(functions) + body


def _run_function(model: CModel) -> str:
    name = model.name
    decide = ""
    if model.predict_ctype is not None:
        decide = f"{model.predict_ctype} y = {name}_predict(x); put(&y, sizeof y);"
    return (
        f"static void serve_{name}(uint32_t n) {{\n"
        f"    size_t rows = {model.n_features}u * sizeof({name}_input_t);\n"
        f"    size_t wide = {model.n_outputs}u * sizeof({name}_score_t);\n"
        f"    {name}_input_t *x = ({name}_input_t *)block(rows);\n"
        f"    {name}_score_t *out = ({name}_score_t *)block(wide);\n"
        f"    while (n-- > 0) {{\n"
        f"        get(x, rows); {name}_scores(x, out); put(out, wide); {decide}\n"
        f"    }}\n"
        f"    free(x); free(out);\n"
        f"}}\n"
    )


def _quantize_function(model: CModel) -> str:
    name = model.name
    return (
        f"static void serve_{name}(uint32_t n) {{\n"
        f"    size_t floats = {model.n_features}u * sizeof(float);\n"
        f"    size_t rows = {model.n_features}u * sizeof({name}_input_t);\n"
        f"    float *features = (float *)block(floats);\n"
        f"    {name}_input_t *x = ({name}_input_t *)block(rows);\n"
        f"    while (n-- > 0) {{ get(features, floats); {name}_quantize(features, x);"
        f" put(x, rows); }}\n"
        f"    free(features); free(x);\n"
        f"}}\n"
    )


def _execute(
    models: Sequence[CModel],
    main: str,
    lengths: Sequence[int],
    rows: Sequence[NDArray[np.generic]],
    *,
    sanitize: bool,
    compiler: str | None,
) -> bytes:
    request = b"".join(
        np.uint32(n).tobytes() + block.tobytes() for n, block in zip(lengths, rows, strict=True)
    )
    with tempfile.TemporaryDirectory(prefix="tinyml-") as temporary:
        folder = Path(temporary)
        program = compile_host(models, main, folder, sanitize=sanitize, compiler=compiler)
        done = subprocess.run([str(program)], input=request, capture_output=True)
        if done.returncode:
            complaint = shorten(done.stderr.decode(errors="replace"), folder)
            raise RuntimeError(f"The program failed on the host: {complaint}")
    return done.stdout


def _answer_layout(model: CModel) -> np.dtype[np.void]:
    fields: list[tuple[str, np.dtype[np.generic], tuple[int, ...]]] = [
        ("scores", model.score_dtype, (model.n_outputs,))
    ]
    if model.decision_dtype is not None:
        fields.append(("decision", model.decision_dtype, ()))
    return np.dtype(fields)


def _split(
    answer: bytes, layouts: Sequence[np.dtype[np.void]], lengths: Sequence[int]
) -> Iterator[NDArray[np.void]]:
    at = 0
    for layout, length in zip(layouts, lengths, strict=True):
        yield np.frombuffer(answer, layout, count=length, offset=at)
        at += length * layout.itemsize


def _outputs(table: NDArray[np.void]) -> Outputs:
    has_decision = "decision" in (table.dtype.names or ())
    decisions = table["decision"].astype(np.int64) if has_decision else None
    return table["scores"].astype(np.int64), decisions


# --- the chip -------------------------------------------------------------------------------------


def run_avr_many(
    programs: Sequence[Program],
    raws: Sequence[NDArray[np.generic]],
    board: str | Board = "uno",
) -> list[Run]:
    """Run programs on a simulated board, several to a firmware.

    Parameters
    ----------
    programs : sequence of Program
        Each must fit the board by itself.
    raws : sequence of ndarray of shape (n, n_features)
        Integer rows for each program.
    board : str or Board
        Where to run them.

    Returns
    -------
    list of Run
        Scores, decisions, cycles and stack of each program, built with -Os.
    """
    models = [CModel.of(program, f"m{i}") for i, program in enumerate(programs)]
    return run_models_avr(models, raws, get_board(board))


def quantize_avr(program: Program, X: ArrayLike, board: str | Board = "uno") -> NDArray[np.int64]:
    """What ``<name>_quantize`` makes of float rows on a simulated board, where floats are software.

    Examples
    --------
    ::

        np.testing.assert_array_equal(quantize_avr(program, X), program.quantize(X))
    """
    features = np.ascontiguousarray(X, dtype="<f4")
    model = _quantizer(CModel.of(program, "m0"))
    (run,) = run_models_avr([model], [features.view(np.uint8)], get_board(board))
    assert run.scores is not None
    return run.scores


def _quantizer(model: CModel) -> CModel:
    """Quantisation in the clothes of a model: the bytes of a float row in, integers out."""
    signature = "void q_scores(const q_input_t *x, q_score_t *out)"
    header = (
        "#include <stdint.h>\ntypedef uint8_t q_input_t;\n"
        f"typedef {model.input_ctype} q_score_t;\n{signature};\n"
    )
    definition = (
        f'#include "q.h"\n#include "{model.name}.h"\n#include <string.h>\n{signature}\n'
        f"{{ float f[{model.n_features}]; memcpy(f, x, sizeof f);"
        f" {model.name}_quantize(f, out); }}\n"
    )
    sources = {**model.sources, "q.h": header, "q.c": definition}
    n = model.n_features
    return CModel("q", sources, "uint8_t", model.input_ctype, None, 4 * n, n)


def run_models_avr(
    models: Sequence[CModel], raws: Sequence[NDArray[np.generic]], board: Board
) -> list[Run]:
    """`run_avr_many` for models that are C already."""
    runs: list[Run] = []
    with AvrBuild(board, OS) as avr:
        for batch in _batches(avr, models):
            chosen = [ByRow(model) for model in models[batch]]
            elf = build_bench(avr, chosen)
            runs += run_bench(elf, board, chosen, raws[batch])
    return runs


#: Tables are read with 16-bit addresses, so a firmware stops below 64 KB on any chip. The
#: simulated chip has that much, whatever the board has.
_FLASH_PER_FIRMWARE = 60_000


def _batches(avr: AvrBuild, models: Sequence[CModel]) -> Iterator[slice]:
    """Runs of models whose sizes add up to no more than a firmware's flash."""
    limit = min(avr.board.flash_reach, _FLASH_PER_FIRMWARE)
    start, used = 0, 0
    for i, model in enumerate(models):
        size = _flash_of(avr, model)
        if i > start and used + size > limit:
            yield slice(start, i)
            start, used = i, 0
        used += size
    if models:
        yield slice(start, len(models))


def _flash_of(avr: AvrBuild, model: CModel) -> int:
    """All sections of its objects, the functions that will be left out included: enough."""
    call_and_marks = 150
    objects = compile_model(avr, ByRow(model))
    return call_and_marks + sum(Elf(path.read_bytes()).flash for path in objects)
