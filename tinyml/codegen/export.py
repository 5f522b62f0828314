"""A Program as files: one header, or an Arduino library."""

from __future__ import annotations

import os
import tempfile
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tinyml import __version__
from tinyml.codegen.c import Printer, check_name, comment_safe, table_entry

if TYPE_CHECKING:
    from tinyml.codegen.program import Program

_LARGEST_SELFTEST = 8_192  # bytes of rows, unless one row is larger
_SPDX = "/* SPDX-License-Identifier: 0BSD"


def header(program: Program, name: str) -> str:
    """Return one header with everything in it, for a single C or C++ file to include."""
    printer = Printer(program, name)
    definitions = printer.definitions("static inline ")
    body = printer.declarations("static inline ") + "\n" + definitions
    return _guarded(
        program, name, "", _extern_c(body), includes="#include <stdint.h>\n#include <string.h>\n"
    )


def sources(program: Program, name: str) -> dict[str, str]:
    """Return a header of declarations and one C file, so that tables exist once per firmware.

    Examples
    --------
    >>> from tinyml.codegen.export import sources
    >>> sorted(sources(program, "digits"))  # doctest: +SKIP
    ['digits.c', 'digits.h']
    """
    printer = Printer(program, name)
    declarations = _guarded(
        program, name, "", _extern_c(printer.declarations()), "#include <stdint.h>\n"
    )
    top = f"{_SPDX}\n   {_made_by()} */\n\n"
    includes = f'#include "{name}.h"\n\n#include <string.h>\n\n'
    return {f"{name}.h": declarations, f"{name}.c": top + includes + printer.definitions()}


def selftest(program: Program, name: str) -> str:
    """Return a header with raw rows and the answers that Python's integers give for them."""
    room = _LARGEST_SELFTEST // max(program.input.type.nbytes, program.scores.type.nbytes)
    rows = program.selftest_rows[: max(1, room)]
    scores = program.run(rows)
    upper = check_name(name).upper()
    table = f"{upper}_SELFTEST_TABLE"
    lines = [
        f"#define {upper}_SELFTEST_N {len(rows)}",
        "#if defined(__AVR__)\n#include <avr/pgmspace.h>\n" + f"#define {table} PROGMEM",
        f"#else\n#define {table}\n#endif\n",
        _matrix(f"{name}_input_t", f"{name}_selftest_x", f"{upper}_N_FEATURES", rows, table),
        _matrix(f"{name}_score_t", f"{name}_selftest_scores", f"{upper}_N_OUTPUTS", scores, table),
    ]
    return _guarded(program, name, "_SELFTEST", "\n".join(lines), f'#include "{name}.h"\n')


def export(program: Program, path: str | os.PathLike[str], name: str, kind: str) -> Path:
    """Write the files of `kind` below `path`; either all of them appear or none."""
    check_name(name)
    if kind not in ("header", "arduino"):
        raise ValueError(
            f"The 'kind' parameter of export must be 'header' or 'arduino'. Got {kind!r} instead."
        )
    if kind == "header":
        return _write_together(Path(path), {f"{name}.h": header(program, name)}) / f"{name}.h"
    return _write_together(Path(path) / name, _arduino_files(program, name), whole=True)


def _arduino_files(program: Program, name: str) -> dict[str, str]:
    files = {f"src/{k}": text for k, text in sources(program, name).items()}
    files[f"src/{name}_selftest.h"] = selftest(program, name)
    files["library.properties"] = _properties(program, name)
    files["keywords.txt"] = _keywords(program, name)
    sketch = _sketch(program, name)
    return files | {f"examples/{name}_serial/{name}_serial.ino": sketch}


def _write_together(folder: Path, files: dict[str, str], whole: bool = False) -> Path:
    """Write to a sibling folder first, so that an interruption leaves nothing half-written."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
        for relative, text in files.items():
            target = Path(temporary) / "new" / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="ascii", newline="\n")
        if whole:
            if folder.exists():
                if any(folder.iterdir()) and not _is_ours(folder):
                    raise FileExistsError(
                        f"{folder} exists and is no library written by tinyml; "
                        "choose another name or remove it."
                    )
                os.replace(folder, Path(temporary) / "old")
            os.replace(Path(temporary) / "new", folder)
        else:
            folder.mkdir(exist_ok=True)
            for relative in files:
                os.replace(Path(temporary) / "new" / relative, folder / relative)
    return folder


def _is_ours(library: Path) -> bool:
    """Whether a folder is a library that `export` wrote."""
    properties = library / "library.properties"
    return properties.is_file() and "author=tinyml\n" in properties.read_text(errors="replace")


def _made_by() -> str:
    return f"Generated by tinyml {__version__}. This file is yours: use it as you like."


def _extern_c(body: str) -> str:
    opening = '#ifdef __cplusplus\nextern "C" {\n#endif\n\n'
    return f"{opening}{body}\n#ifdef __cplusplus\n}}\n#endif\n"


def _guarded(program: Program, name: str, suffix: str, body: str, includes: str) -> str:
    guard = f"{check_name(name).upper()}{suffix}_H"
    contract = _contract(program, name) if not suffix else f"{_SPDX}\n   {_made_by()} */\n"
    return f"{contract}\n#ifndef {guard}\n#define {guard}\n\n{includes}\n{body}\n#endif\n"


def _contract(program: Program, name: str) -> str:
    """Say at the top what the code does, costs and promises."""
    n = program.n_outputs
    meaning = {
        "argmax": "the index of the largest score, the lowest of equals",
        "sign": "1 where the score is positive, else 0",
        "identity": "the score",
    }[program.head]
    unit = (
        "as they are: whole numbers" if program.whole_numbers else f"as {name}_quantize gives them"
    )
    frac = "OUTPUT_FRACS[k]" if _has_many(program) else "OUTPUT_FRAC"
    lines = [
        _SPDX,
        _made_by(),
        "",
        comment_safe(program.description),
        f"{program.n_features} features, {n} {'score' if n == 1 else 'scores'}; "
        f"{program.table_bytes} bytes of constants in flash, no static RAM, "
        f"{program.buffer_bytes} bytes of buffers on the stack.",
        comment_safe(f"It {program.agreement.text}."),
        "",
        f"{name}_scores(x, out) writes {n} scores from {program.n_features} features {unit}.",
        *([f"{name}_predict(x) returns {meaning}."] if program.has_predict else []),
        "Every value of the input type is legal. The functions read only their arguments and",
        "constant tables, write only what these point to, never call themselves, allocate nothing,",
        f"use no floating point (except {name}_quantize) and may be called from anywhere at any",
        "time.",
        f"A score s stands for s * 2^-{name.upper()}_{frac}.",
        *_streaming(program, name),
        "",
        *_units(program),
        *_gaps(program),
    ]
    return "\n   ".join(lines).replace("\n   \n", "\n\n") + " */\n"


def _streaming(program: Program, name: str) -> list[str]:
    """Say how a sequence is read step by step."""
    if program.recurrence is None:
        return []
    steps, channels = program.recurrence.n_steps, program.n_channels
    result = "result(&s)" if program.has_predict else "result_scores(&s, out)"
    lines = [
        "",
        f"The features are {steps} time steps of {channels}. They need not be kept: after",
        f"{name}_reset(&s) call {name}_step(&s, x) for the {channels} features of each step as it",
        f"comes, and {name}_{result} when an answer is wanted. The state s is yours,",
        f"{program.state_bytes} bytes; there may be several at a time.",
    ]
    if program.input.missing is not None:
        lines += [
            f"A sequence ends before a step that is {program.input.missing} (NaN) throughout,",
            f"which {name}_ended(x) tells; {name}_step does not ask.",
        ]
    return lines


def _has_many(program: Program) -> bool:
    """Whether the scores are several targets, each in a unit of its own."""
    return program.head == "identity" and program.n_outputs > 1


def _gaps(program: Program) -> list[str]:
    """Say what a missing feature is, where trees were taught what to do without it."""
    if program.input.missing is None or program.recurrence is not None:
        return []
    return ["", f"A feature that is {program.input.missing} is missing (NaN)."]


def _units(program: Program) -> list[str]:
    """Say what a raw feature stands for."""
    t = program.input.type
    if program.whole_numbers:
        return [f"A feature is a whole number of type {t.ctype}."]
    fracs = np.broadcast_to(t.frac, t.shape).tolist()
    if len(set(fracs)) == 1:
        return [f"A feature, of type {t.ctype}, is a number r that stands for r * 2^-({fracs[0]})."]
    exponents = textwrap.wrap(", ".join(map(str, fracs)), 95)
    return [
        f"Feature k, of type {t.ctype}, is a number r that stands for r * 2^-f[k], f =",
        *exponents,
    ]


def _matrix(ctype: str, name: str, columns: str, values: np.ndarray, table: str) -> str:
    rows = ",\n".join("    {" + ", ".join(table_entry(int(v)) for v in row) + "}" for row in values)
    return f"static const {ctype} {name}[{len(values)}][{columns}] {table} = {{\n{rows}\n}};\n"


def _properties(program: Program, name: str) -> str:
    sentence = comment_safe(f"{program.description} in fixed point.")
    return "\n".join(
        [
            f"name={name}",
            "version=1.0.0",
            "author=tinyml",
            "maintainer=tinyml",
            f"sentence={sentence}",
            "paragraph=Integer arithmetic only; tables in flash, no static RAM.",
            "category=Data Processing",
            "url=https://example.com/",
            "architectures=*",
            f"includes={name}.h",
            "",
        ]
    )


def _keywords(program: Program, name: str) -> str:
    functions = [
        "scores",
        "quantize",
        "quantize_feature",
        *(["predict"] if program.has_predict else []),
    ]
    functions += ["label"] if program.classes is not None else []
    types, sizes = ["input_t", "score_t"], ["N_FEATURES", "N_OUTPUTS"]
    if program.recurrence is not None:
        functions += ["reset", "step", "result_scores", "quantize_step"]
        functions += ["result"] if program.has_predict else []
        functions += ["ended"] if program.input.missing is not None else []
        types.append("state_t")
        sizes += ["N_STEPS", "N_CHANNELS"]
    rows = [f"{name}_{f}\tKEYWORD2" for f in functions]
    rows += [f"{name}_{t}\tKEYWORD1" for t in types]
    rows += [f"{name.upper()}_{c}\tLITERAL1" for c in sizes]
    return "\n".join(rows) + "\n"


def _sketch(program: Program, name: str) -> str:
    upper = name.upper()
    steps = program.recurrence is not None
    decision = f"{name}_result(&state)" if steps else f"{name}_predict(x)"
    scores = f"{name}_result_scores(&state, out)" if steps else f"{name}_scores(x, out)"
    if program.classes is not None:
        answer = f"Serial.println({name}_label({decision}));"
    elif program.has_predict:
        answer = f"Serial.println(ldexp({decision}, -({upper}_OUTPUT_FRAC)), 6);"
    else:
        answer = (
            f"static const int8_t frac[] = {upper}_OUTPUT_FRACS;\n"
            f"    {name}_score_t out[{upper}_N_OUTPUTS];\n    {scores};\n"
            f"    for (uint16_t k = 0; k < {upper}_N_OUTPUTS; k++)\n"
            f"        Serial.println(ldexp(out[k], -frac[k]), 6);"
        )
    ended = f"\n        if ({name}_ended(x))\n            break;"
    parts = {
        "COPY": _COPY,
        "COMPUTE": _COMPUTE_STEPS if steps else _COMPUTE_ROW,
        "PREDICT": _PREDICT_STEPS if steps else _PREDICT_ROW,
        "SIZE": "N_CHANNELS" if steps else "N_FEATURES",
        "ENDED": ended if steps and program.input.missing is not None else "",
        "ANSWER": answer,
        "NAME": upper,
        "name": name,
    }
    text = _SKETCH
    for key, part in parts.items():
        text = text.replace(f"@{key}@", part)
    return text


_COPY = """\
#if defined(__AVR__)
#define COPY(to, from) memcpy_P(to, from, sizeof(to))
#else
#define COPY(to, from) memcpy(to, from, sizeof(to))
#endif
"""

_COMPUTE_ROW = """\
    COPY(x, @name@_selftest_x[row]);
    @name@_scores(x, got);
"""

_COMPUTE_STEPS = """\
    @name@_state_t state;
    @name@_reset(&state);
    for (uint16_t t = 0; t < @NAME@_N_STEPS; t++) {
        COPY(x, @name@_selftest_x[row] + t * @NAME@_N_CHANNELS);@ENDED@
        @name@_step(&state, x);
    }
    @name@_result_scores(&state, got);
"""

_PREDICT_ROW = """\
    @ANSWER@
"""

_PREDICT_STEPS = """\
    static @name@_state_t state;
    static uint16_t t = 0;
    if (t == 0)
        @name@_reset(&state);
    @name@_step(&state, x);
    if (++t < @NAME@_N_STEPS)
        return;
    t = 0;
    @ANSWER@
"""

_SKETCH = """\
/* Runs the self-test, then predicts for every @NAME@_N_FEATURES numbers that arrive over Serial,
   separated by spaces, commas or line ends, without exponents. */
#include <@name@.h>
#include <@name@_selftest.h>

@COPY@
static bool same_as_python(uint16_t row)
{
    @name@_input_t x[@NAME@_@SIZE@];
    @name@_score_t want[@NAME@_N_OUTPUTS], got[@NAME@_N_OUTPUTS];
    COPY(want, @name@_selftest_scores[row]);
@COMPUTE@    return memcmp(want, got, sizeof want) == 0;
}

/* Skips separators, so that the end of a line does not count as a feature. */
static bool number_waits()
{
    while (Serial.available()) {
        const int c = Serial.peek();
        if ((c >= '0' && c <= '9') || c == '-' || c == '.')
            return true;
        Serial.read();
    }
    return false;
}

void setup()
{
    Serial.begin(115200);
    Serial.setTimeout(1000);
    uint16_t same = 0;
    for (uint16_t row = 0; row < @NAME@_SELFTEST_N; row++)
        same += same_as_python(row);
    Serial.print(F("self-test: "));
    Serial.print(same);
    Serial.print(F(" of "));
    Serial.print(@NAME@_SELFTEST_N);
    Serial.println(F(" rows identical to Python"));
}

void loop()
{
    static @name@_input_t x[@NAME@_@SIZE@];
    static uint16_t n = 0;
    if (!number_waits())
        return;
    x[n] = @name@_quantize_feature(n, Serial.parseFloat());
    if (++n < @NAME@_@SIZE@)
        return;
    n = 0;
@PREDICT@}
"""
