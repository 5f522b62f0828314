"""The C text: stable, clean for every compiler at hand, and nothing in it that is not named.

``python tests/codegen/test_c.py`` writes the golden files anew.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from instances import compiled
from strategies import literal

from tinyml import __version__
from tinyml.codegen.c import check_name, comment_safe
from tinyml.codegen.export import header, sources
from tinyml.codegen.fixed import Fixed
from tinyml.codegen.ops import (
    Add,
    Gather,
    Input,
    IntTree,
    Local,
    Lookup,
    MatVec,
    Narrow,
    Scale,
    Scan,
    SquaredDistance,
    TreeCode,
    TreeTable,
)
from tinyml.device import ToolNotFound
from tinyml.device.build import STRICT
from tinyml.device.toolchain import find_tool

GOLDEN = Path(__file__).parent / "golden"
COMPILERS = {"c99": ["gcc", "clang"], "c++11": ["g++", "clang++"]}


# Literal programs ---------------------------------------------------------------------------------


def linear():
    """Columns of unlike range, dense weights, names."""
    x = Narrow(Input(4, 0, "int16_t"), np.array([0, 3, 8, 8]), -128, 127)
    weights = np.array([[1, -2, 3, -4], [50, 60, -70, 80], [0, 0, 127, -127]])
    product = MatVec(x, weights, np.array([-300, 0, 40_000]), 7)
    return literal(product, "argmax", np.array(["red", "gr\u00fcn", 'say "blue"']))


def kernel():
    """Distances, a table, a sparse matrix, one score with a sign."""
    x = Gather(Input(5, np.array([2, 2, 2, 4, 4]), "int8_t"), np.array([2, 0, 1]))
    distance = SquaredDistance(x, np.array([[1, 2, 3], [-40, 50, -60]]), 1, 127)
    decay = Lookup(distance, np.array([255, 90, 33, 12, 4, 0]), 0, 6, 8)
    weights = MatVec(decay, np.array([[0, -9]]), np.array([1234]), 12)
    return literal(weights, "sign")


def trees():
    """Two trees that add to a regressor's score."""
    x = Input(3, 0, "uint8_t")
    one = IntTree(*map(np.array, ([1, -1, 3, -1, -1], [2, -1, 4, -1, -1], [2, 0, 0, 0, 0],
                                  [100, 0, 7, 0, 0], [0, 1, 0, 2, 0])))  # fmt: skip
    two = IntTree(*map(np.array, ([1, -1, -1], [2, -1, -1], [1, 0, 0], [0, 0, 0], [0, 3, 1])))
    values = np.array([[-70_000], [5], [300], [8_000_000]])
    return literal(TreeCode(x, (one, two), values, np.array([-12]), -3), "identity")


def table():
    """Four trees in packed tables, the votes of which go to two classes each."""
    x = Input(4, 0, "int8_t")
    one = IntTree(*map(np.array, ([1, -1, 3, -1, -1], [2, -1, 4, -1, -1], [2, 0, 0, 0, 0],
                                  [100, 0, -7, 0, 0], [0, 1, 0, 2, 0])))  # fmt: skip
    two = IntTree(*map(np.array, ([1, -1, -1], [2, -1, -1], [2, 0, 0], [-7, 0, 0], [0, 3, 1])))
    values = np.array([[3, 0, 5], [0, 8, 0], [1, 1, 6], [2, 0, 0]])
    return literal(TreeTable(x, (one, two, one, two), values, np.zeros(3, int), 3), "argmax")


def votes():
    """Four trees of three splits, the votes of which go to ten classes."""
    x = Input(4, 0, "int8_t")
    shape = ([1, 2, -1, -1, 5, -1, -1], [4, 3, -1, -1, 6, -1, -1], [0, 1, 0, 0, 3, 0, 0])
    threshold, leaf = np.array([0, -9, 0, 0, 99, 0, 0]), np.array([0, 0, 0, 1, 0, 2, 3])
    trees = [IntTree(*map(np.array, shape), threshold + t, leaf + 4 * t) for t in range(4)]
    values = np.arange(160).reshape(16, 10) * 37 % 64
    return literal(TreeCode(x, tuple(trees), values, np.zeros(10, int), 6), "argmax")


def sequence():
    """Five steps of two channels, a state that forgets, and an end before a missing step."""
    source = Input(10, 0, "int8_t", missing=-128)
    frame, state = Local(Fixed((2,), 0, -128, 127)), Local(Fixed((3,), 3, -999, 999))
    entering = MatVec(frame, np.array([[8, 0], [0, 8], [-8, 4]]), np.array([0, 0, 40]), 3)
    after = Narrow(Add(entering, Scale(state, 1, np.array([-1, 0, 1]), 3)), 0, -999, 999)
    last = Scan((), (), (state,), (after,), 5, source, frame)
    return literal(MatVec(last, np.array([[1, -2, 3]]), np.array([7]), 3), "identity")


PROGRAMS = {
    "linear": linear,
    "kernel": kernel,
    "trees": trees,
    "table": table,
    "votes": votes,
    "sequence": sequence,
}


def golden_text(name):
    """Yield the golden files of a program, with the version left open."""
    for file, text in sources(PROGRAMS[name](), name).items():
        yield GOLDEN / file, text.replace(__version__, "VERSION")


@pytest.mark.parametrize("name", PROGRAMS)
def test_golden(name):
    for path, text in golden_text(name):
        assert text == path.read_text(), f"{path.name} differs: run {Path(__file__).name} if meant"


SCRIPT = """
import sys
sys.path[:0] = {path!r}
from test_c import PROGRAMS
from instances import compiled
from tinyml.codegen.export import header, selftest
for make in PROGRAMS.values():
    print(header(make(), "m"))
for name in ("forest", "protonn"):
    print(header(compiled(name), "m"), selftest(compiled(name), "m"))
"""


def test_text_does_not_depend_on_the_process():
    script = SCRIPT.format(path=sys.path)
    texts = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(texts) == 1
    assert len(texts.pop()) > 10_000


# Names --------------------------------------------------------------------------------------------

ALL = [*PROGRAMS, "forest", "protonn", "logistic_digits", "linear_several", "tree_regressor"]


def program_of(name):
    return PROGRAMS[name]() if name in PROGRAMS else compiled(name)


@pytest.mark.parametrize("name", ALL)
def test_everything_carries_the_name(name, tmp_path):
    text = header(program_of(name), "zebra")
    macros = set(re.findall(r"#\s*define\s+(\w+)", text))
    plain = re.sub(r"struct \{.*?\}", "struct", text)
    types = set(re.findall(r"typedef\b[^;]*?\b(\w+)(?:\[[^;]*\])?;", plain))
    assert all(macro.startswith("ZEBRA_") for macro in macros)
    assert all(ctype.startswith("zebra_") for ctype in types)
    for file, content in sources(program_of(name), "zebra").items():
        (tmp_path / file).write_text(content)
    run("gcc", "-std=c99", "-O0", "-c", "zebra.c", cwd=tmp_path)
    symbols = run("nm", "zebra.o", cwd=tmp_path).split("\n")
    names = {line.split()[-1] for line in symbols if line and line.split()[-2] != "U"}
    assert names
    assert all(symbol.startswith("zebra_") for symbol in names)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "1st",
        "a-b",
        "a b",
        "int",
        "Class",
        "loop",
        "a__b",
        "_a",
        "é",
        "a" * 41,
        None,
        3,
        "a;",
        "\n",
    ],
)
def test_illegal_names_are_refused(name):
    with pytest.raises(ValueError, match=r"'name' parameter must be a C identifier .* Got"):
        check_name(name)
    with pytest.raises(ValueError, match="'name' parameter"):
        linear().to_c(name)


@pytest.mark.parametrize("name", ["m", "Model2", "a_b", "a" * 40])
def test_legal_names(name):
    assert check_name(name) == name


@pytest.mark.parametrize("text", ["*/ int x; /*", "a\nb", "??/\n", "\\", "é", "//*/"])
def test_comments_stay_closed(text):
    safe = comment_safe(text)
    assert not any(bad in safe for bad in ("*/", "/*", "\n", "??", "\\"))
    assert safe.isascii()


# Compilers ----------------------------------------------------------------------------------------


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stderr[:3000]
    return done.stdout


def compilers(standard):
    for compiler in COMPILERS[standard]:
        try:
            yield find_tool(compiler)
        except ToolNotFound:
            continue


def user_of(program, name):
    """C that calls everything a header declares."""
    calls = [
        f"{name}_quantize(f, x)",
        f"{name}_scores(x, out)",
        f"f[0] = (float){name}_quantize_feature(0, f[0])",
    ]
    calls += [f"f[0] += (float){name}_predict(x)"] if program.has_predict else []
    calls += [f"f[0] += (float){name}_label(0)[0]"] if program.classes is not None else []
    body = "".join(f"    {call};\n" for call in calls)
    return (
        f"static float f[{program.n_features}];\n"
        f"float use_{name}(void);\nfloat use_{name}(void)\n{{\n"
        f"    {name}_input_t x[{name.upper()}_N_FEATURES];\n"
        f"    {name}_score_t out[{name.upper()}_N_OUTPUTS];\n"
        f"{body}    return f[0] + (float)out[0];\n}}\n"
    )


@pytest.mark.parametrize("standard", COMPILERS)
@pytest.mark.parametrize("name", ALL)
def test_headers_are_clean_used_and_unused_from_two_files(name, standard, tmp_path):
    program = program_of(name)
    suffix = "c" if standard == "c99" else "cpp"
    (tmp_path / "m.h").write_text(header(program, "m"))
    include = '#include "m.h"\n#include "m.h"\n'
    (tmp_path / f"unused.{suffix}").write_text(f"{include}int main(void) {{ return 0; }}\n")
    (tmp_path / f"used.{suffix}").write_text(include + user_of(program, "m"))
    for compiler in compilers(standard):
        for level in ("-O0", "-O2"):
            flags = [f"-std={standard}", level, *STRICT]
            run(compiler, *flags, f"unused.{suffix}", f"used.{suffix}", "-o", "both", cwd=tmp_path)


@pytest.mark.parametrize("name", ALL)
def test_library_sources_are_clean_from_c_and_from_cpp(name, tmp_path):
    program = program_of(name)
    for file, text in sources(program, "m").items():
        (tmp_path / file).write_text(text)
    (tmp_path / "main.cpp").write_text(
        '#include "m.h"\n' + user_of(program, "m") + "int main() { return use_m() < 0; }\n"
    )
    for c, cpp in zip(compilers("c99"), compilers("c++11"), strict=True):
        run(c, "-std=c99", *STRICT, "-c", "m.c", cwd=tmp_path)
        run(cpp, "-std=c++11", *STRICT, "main.cpp", "m.o", "-o", "main", cwd=tmp_path)


# Labels -------------------------------------------------------------------------------------------

HOSTILE = [
    'a "quoted" name', "back\\slash", "\\", "*/ int x; /*", "what??/", "??=??'", "line\nbreak",
    "\r\t\v", "größe", "日本", "😀", "%s%n", "", "\x7f\x01", "0", "\\x41", "\\0", '"', "'",
    "// no", "x" * 1000,
]  # fmt: skip

PRINT = """
#include <stdio.h>
#include <string.h>
#include "m.h"
int main(void)
{{
    for (int k = 0; k < {n}; k++) {{
        const char *name = m_label(({index})k);
        fwrite(name, 1, strlen(name) + 1, stdout);
    }}
    return 0;
}}
"""


def printed_labels(labels, tmp_path, compiler="gcc", standard="c99"):
    n = len(labels)
    x = Input(1, 0, "int8_t")
    product = MatVec(x, np.zeros((n, 1), int), np.zeros(n, int), 0)
    program = literal(product, "argmax", np.array(labels, dtype=object))
    (tmp_path / "m.h").write_text(header(program, "m"))
    index = "uint8_t" if n <= 256 else "uint16_t"
    suffix = "c" if standard == "c99" else "cpp"
    (tmp_path / f"main.{suffix}").write_text(PRINT.format(n=n, index=index))
    run(compiler, f"-std={standard}", *STRICT, f"main.{suffix}", "-o", "main", cwd=tmp_path)
    printed = subprocess.run([tmp_path / "main"], capture_output=True, check=True).stdout
    return [text.decode() for text in printed.split(b"\0")[:-1]]


@pytest.mark.parametrize("standard", COMPILERS)
def test_hostile_labels_come_back(standard, tmp_path):
    for compiler in compilers(standard):
        assert printed_labels(HOSTILE, tmp_path, compiler, standard) == HOSTILE


@pytest.mark.parametrize("n", [2, 255, 256, 257, 1000])
def test_many_labels_come_back(n, tmp_path):
    labels = [f"class number {k}" for k in range(n)]
    assert printed_labels(labels, tmp_path) == labels


def test_one_very_long_label_comes_back(tmp_path):
    labels = ["x" * 70_000, "y"]
    assert printed_labels(labels, tmp_path) == labels


def test_a_label_out_of_range_is_empty(tmp_path):
    program = linear()
    (tmp_path / "m.h").write_text(header(program, "m"))
    (tmp_path / "main.c").write_text(PRINT.format(n=256, index="uint8_t"))
    run("gcc", "-std=c99", "-fsanitize=address", "main.c", "-o", "main", cwd=tmp_path)
    printed = run(tmp_path / "main")
    assert printed == "".join(f"{c}\0" for c in program.classes) + "\0" * 253


if __name__ == "__main__":
    for golden in PROGRAMS:
        for path, text in golden_text(golden):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
