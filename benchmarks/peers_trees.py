"""Forests on the simulated Arduino Uno, beside what emlearn, micromlgen and m2cgen make of them.

    TINYML_DATA=... python benchmarks/peers_trees.py

The other packages are installed by `pip install emlearn==0.23.0 m2cgen==0.10.0 micromlgen==1.1.28`;
those that are absent are left out. Every program is built with the same flags and given the same
100 test rows; sizes are net of a firmware around an empty program with the same interface. What
is too large for the Uno runs on one with more memory, so that its cycles can be told.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split

import tinyml
from tinyml.datasets import load
from tinyml.device import BuildError, SimulationError, get_board
from tinyml.device.build import OS, AvrBuild, CModel, DoesNotLink, Flags
from tinyml.device.driving import ByRow
from tinyml.device.firmware import build_bench, build_minimal
from tinyml.device.simulate import run_bench

UNO = get_board("uno")
N_ROWS = 100
FORESTS = {
    "10 × depth 5": RandomForestClassifier(10, max_depth=5, random_state=0),
    "20 × 16 leaves": RandomForestClassifier(20, max_leaf_nodes=16, random_state=0),
}
CPLUSPLUS = Flags(
    "c++",
    ("-x", "c++", "-std=gnu++11", "-fno-exceptions", *OS.compile[1:]),
    OS.link,
)


class FloatModel(CModel):
    """A program that reads floats, which ours never do; a double of AVR is one too."""

    @property
    def input_dtype(self):
        return np.dtype(np.float32)


@dataclass(frozen=True)
class Candidate:
    """C for a forest, and the factor by which the rows that it reads are multiplied."""

    model: CModel
    factor: int = 1
    flags: Flags = OS


@dataclass(frozen=True)
class Task:
    """A forest, the data it was fitted to, and the rows it is asked about."""

    forest: RandomForestClassifier
    X: np.ndarray
    y: np.ndarray
    rows: np.ndarray

    @property
    def size(self):
        return self.X.shape[1], len(self.forest.classes_)

    def times(self, factor):
        """The same trees with larger thresholds: whole ones, where the factor is even."""
        X = self.X.astype(np.float64) * factor
        return self if factor == 1 else replace(self, forest=clone(self.forest).fit(X, self.y))


# The programs ------------------------------------------------------------------------------------


def ours(task, layout):
    program = tinyml.compile(task.forest, task.X, layout=layout)
    return Candidate(CModel.of(program, "model"))


def emlearn(task, factor=1, **options):
    from emlearn import convert

    text = convert(task.times(factor).forest, method="inline", **options).save(name="peer")
    call = f"return (int16_t)peer_predict(x, {task.X.shape[1]});"
    return Candidate(_around(text, call, "int16_t", task), factor)


def micromlgen(task):
    from micromlgen import port

    # Neither avr-libc nor the Arduino core has this header, and nothing of it is used.
    text = port(task.forest).replace("#include <cstdarg>", "").replace("#pragma once", "")
    call = "return Eloquent::ML::Port::RandomForest().predict((float *)x);"
    return Candidate(_around(text, call, "float", task, FloatModel), flags=CPLUSPLUS)


def m2cgen(task):
    from m2cgen import export_to_c

    n = len(task.forest.classes_)
    call = (
        f"double p[{n}]; score((double *)x, p); int16_t best = 0;"
        f" for (int16_t i = 1; i < {n}; i++) if (p[i] > p[best]) best = i;"
        " return best;"
    )
    return Candidate(_around(export_to_c(task.forest), call, "double", task, FloatModel))


def _around(text, call, input_ctype, task, kind=CModel):
    """Give a peer's text the interface that the firmware calls."""
    head = "int16_t model_predict(const model_input_t *x)"
    header = (
        "#pragma once\n#include <stdint.h>\n"
        f"typedef {input_ctype} model_input_t;\ntypedef int16_t model_score_t;\n{head};\n"
    )
    source = f'#include "model.h"\n{text}\n{head} {{ {call} }}\n'
    sources = {"model.h": header, "model.c": source}
    return kind("model", sources, input_ctype, "int16_t", "int16_t", *task.size)


PROGRAMS: dict[str, Callable[[Any], Candidate]] = {
    "tinyml, code, soft votes": lambda task: ours(task, "code"),
    "tinyml, tables, soft votes": lambda task: ours(task, "table"),
    "emlearn, inline int16": emlearn,
    "emlearn, inline int16, 128 X": lambda task: emlearn(task, 128),
    "emlearn, inline int16, 128 X, soft votes": lambda task: emlearn(task, 128, leaf_bits=8),
    "micromlgen": micromlgen,
    "m2cgen": m2cgen,
}


# What they cost ----------------------------------------------------------------------------------


def sizes(avr, model):
    """Flash and static RAM of a program that does nothing but predict."""
    try:
        elf = build_minimal(avr, ByRow(model))
    except DoesNotLink as error:
        elf = error.sizes
    return np.array([elf.flash, elf.static_ram])


def run(avr, candidate, rows):
    """What the chip answers, its cycles and its stack; None if even more memory is too little."""
    driver = ByRow(candidate.model)
    elf = build_bench(avr, [driver], scores=False)
    try:
        return run_bench(elf, UNO, [driver], [rows * candidate.factor], scores=False)[0]
    except SimulationError:
        return None


def cells(candidate, task):
    """Columns of the table: sizes, cycles, and rows decided otherwise than by scikit-learn."""
    model = candidate.model
    try:
        with AvrBuild(UNO, candidate.flags) as avr:
            total = sizes(avr, model)
            net = total - sizes(avr, model.empty("model"))
            seen = run(avr, candidate, task.rows.astype(model.input_dtype))
    except BuildError:
        return ["", "", "", "", "", "no: it cannot be built"]
    if seen is None:
        return [*net, "", "", "", "no: it overran 18 KB of RAM"]
    wanted = np.searchsorted(task.forest.classes_, task.forest.predict(task.rows))
    stack = int(seen.stack.max())
    differ = f"{np.sum(seen.decisions != wanted)} of {len(wanted)}"
    return [*net, stack, f"{seen.cycles.mean():.0f}", differ, verdict(total, stack)]


def verdict(total, stack):
    lacks = {"flash": total[0] > UNO.flash, "RAM": total[1] + stack > UNO.ram}
    lacking = " and ".join(what for what, is_lacking in lacks.items() if is_lacking)
    return f"no: {lacking}" if lacking else "yes"


def split(name):
    """Digits held out at random, letter as published; whole numbers both."""
    if name == "letter":
        return load(name, as_float=False)
    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.33, random_state=0, stratify=y)
    return X, y, X_test, y_test


def tasks():
    for name in ("digits", "letter"):
        X, y, X_test, _ = split(name)
        rows = X_test[np.random.default_rng(0).permutation(len(X_test))[:N_ROWS]]
        for label, forest in FORESTS.items():
            yield f"{name}, {label}", Task(clone(forest).fit(X, y), X, y, rows)


def main():
    titles = "forest | program | flash B | static RAM B | stack B | cycles | differ | fits"
    print(f"| {titles} |\n|{re.sub('[^|]+', '---', titles)}|")
    absent = set()
    for label, task in tasks():
        for name, program in PROGRAMS.items():
            try:
                candidate = program(task)
            except ModuleNotFoundError as error:
                absent.add(error.name)
                continue
            row = [label, name, *cells(candidate, task)]
            print("| " + " | ".join(map(str, row)) + " |", flush=True)
    if absent:
        print(f"\nNot installed, and left out: {', '.join(sorted(absent))}.")


if __name__ == "__main__":
    main()
