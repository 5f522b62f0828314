"""What the comparisons with other generators have in common; `peers_trees` and `peers_models` run.

Programs are built with the same flags and given the same rows on the simulated Arduino Uno; sizes
are net of a firmware around an empty program with the same interface. What is too large for the
Uno runs on one with more memory, so that its cycles can be told.
"""

import copy
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.naive_bayes import GaussianNB

from tinyml.codegen.lower import labels
from tinyml.device import BuildError, SimulationError, get_board
from tinyml.device.build import CPLUSPLUS, OS, AvrBuild, CModel, DoesNotLink, Flags
from tinyml.device.driving import ByRow
from tinyml.device.firmware import build_bench, build_minimal
from tinyml.device.simulate import run_bench

UNO = get_board("uno")
N_ROWS = 100
_COLUMNS = "flash B | static RAM B | stack B | cycles | differ | fits"


@dataclass(frozen=True)
class Task:
    """A fitted model, the data it was fitted to, and the rows it is asked about."""

    model: BaseEstimator
    X: np.ndarray
    y: np.ndarray
    rows: np.ndarray

    @property
    def size(self):
        return self.X.shape[1], len(labels(self.model))

    @property
    def wanted(self):
        return np.searchsorted(labels(self.model), self.model.predict(self.rows))


@dataclass(frozen=True)
class Candidate:
    """C for a task, and the rows as it reads them."""

    model: CModel
    rows: np.ndarray
    flags: Flags = OS


def ours(program, rows):
    """Return a candidate of a compiled program; its rows are quantised beforehand."""
    return Candidate(CModel.of(program, "model"), program.quantize(rows))


def around(text, call, input_ctype, task):
    """Give a peer's text the interface that the firmware calls."""
    head = "int16_t model_predict(const model_input_t *x)"
    header = (
        "#pragma once\n#include <stdint.h>\n"
        f"typedef {input_ctype} model_input_t;\ntypedef int16_t model_score_t;\n{head};\n"
    )
    source = f'#include "model.h"\n{text}\n{head} {{ {call} }}\n'
    sources = {"model.h": header, "model.c": source}
    return CModel("model", sources, input_ctype, "int16_t", "int16_t", *task.size)


def largest(values, n):
    """Return C that ends a function with the index of the largest of `n` values."""
    return (
        f"int16_t best = 0; for (int16_t i = 1; i < {n}; i++)"
        f" if ({values}[i] > {values}[best]) best = i; return best;"
    )


def sample(X):
    """Return the same rows of a test set whenever it is asked about."""
    return X[np.random.default_rng(0).permutation(len(X))[:N_ROWS]]


def split_digits():
    """Return digits, whole numbers, with a third held out at random."""
    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.33, random_state=0, stratify=y)
    return X, y, X_test, y_test


def from_class(text, task):
    """Return a candidate of a class with micromlgen's interface."""
    name = re.search(r"class (\w+) \{", text)[1]
    call = f"return (int16_t)Eloquent::ML::Port::{name}().predict((float *)x);"
    model = around(text.replace("#pragma once", ""), call, "float", task)
    return Candidate(model, task.rows, CPLUSPLUS)


# What Arduino.h gives to every sketch, and the name that the compiler for AVR has for a header.
_OF_ARDUINO = """\
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#undef abs
#define abs(x) ((x) > 0 ? (x) : -(x))
"""


def micromlgen_class(task, platform="arduino"):
    from micromlgen import port

    model = copy.copy(task.model)
    if isinstance(model, GaussianNB):
        model.sigma_ = model.var_  # its name until scikit-learn 1.2
    text = port(model, platform=platform).replace("#include <cstdarg>", "")
    return from_class(_OF_ARDUINO + text, task)


def m2cgen_text(model):
    """Return C in which a double is called a float, which on AVR it is."""
    from m2cgen import export_to_c

    return export_to_c(model).replace("double", "float")


# What they cost ----------------------------------------------------------------------------------


def sizes(avr, model):
    """Flash and static RAM of a program that does nothing but predict."""
    try:
        elf = build_minimal(avr, ByRow(model))
    except DoesNotLink as error:
        elf = error.sizes
    return np.array([elf.flash, elf.static_ram])


def run(avr, candidate):
    """What the chip answers, its cycles and its stack; None if even more memory is too little."""
    driver = ByRow(candidate.model)
    rows = candidate.rows.astype(candidate.model.input_dtype)
    elf = build_bench(avr, [driver], scores=False)
    try:
        return run_bench(elf, UNO, [driver], [rows], scores=False)[0]
    except SimulationError:
        return None


def cells(candidate, task):
    """Columns of the table: sizes, cycles, and rows decided otherwise than by scikit-learn."""
    model = candidate.model
    try:
        with AvrBuild(UNO, candidate.flags) as avr:
            total = sizes(avr, model)
            net = total - sizes(avr, model.empty("model"))
            seen = run(avr, candidate)
    except BuildError:
        return ["", "", "", "", "", "no: it cannot be built"]
    if seen is None:
        return [*net, "", "", "", "no: it overran 18 KB of RAM"]
    stack = int(seen.stack.max())
    differ = f"{np.sum(seen.decisions != task.wanted)} of {len(candidate.rows)}"
    return [*net, stack, f"{seen.cycles.mean():.0f}", differ, verdict(total, stack)]


def verdict(total, stack):
    lacks = {"flash": total[0] > UNO.flash, "RAM": total[1] + stack > UNO.ram}
    lacking = " and ".join(what for what, is_lacking in lacks.items() if is_lacking)
    return f"no: {lacking}" if lacking else "yes"


def print_table(
    kind: str,
    tasks: Iterable[tuple[str, Any]],
    programs: Callable[[Any], Mapping[str, Callable[[Any], Candidate]]],
):
    """Print a row for each task and each program that there is for it."""
    titles = f"{kind} | program | {_COLUMNS}"
    print(f"| {titles} |\n|{re.sub('[^|]+', '---', titles)}|")
    absent = set()
    for label, task in tasks:
        for name, program in programs(task).items():
            try:
                candidate = program(task)
            except ModuleNotFoundError as error:
                absent.add(error.name)
                continue
            row = [label, name, *cells(candidate, task)]
            print("| " + " | ".join(map(str, row)) + " |", flush=True)
    if absent:
        print(f"\nNot installed, and left out: {', '.join(sorted(absent))}.")
