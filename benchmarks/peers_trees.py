"""Forests on the simulated Arduino Uno, beside what emlearn, micromlgen and m2cgen make of them.

    TINYML_DATA=... python benchmarks/peers_trees.py

The other packages are installed by `pip install emlearn==0.23.0 m2cgen==0.10.0 micromlgen==1.1.28`;
those that are absent are left out.
"""

from collections.abc import Callable

import numpy as np
from peers import (
    Candidate,
    Task,
    around,
    largest,
    m2cgen_text,
    micromlgen_class,
    ours,
    print_table,
    sample,
    split_digits,
)
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier

import tinyml
from tinyml.datasets import load

FORESTS = {
    "10 × depth 5": RandomForestClassifier(10, max_depth=5, random_state=0),
    "20 × 16 leaves": RandomForestClassifier(20, max_leaf_nodes=16, random_state=0),
}


def tinyml_forest(task, layout):
    return ours(tinyml.compile(task.model, task.X, layout=layout), task.rows)


def emlearn(task, factor=1, **options):
    """Convert the same trees with larger thresholds: whole ones, where the factor is even."""
    from emlearn import convert

    forest = task.model
    if factor > 1:
        forest = clone(forest).fit(task.X.astype(np.float64) * factor, task.y)
    text = convert(forest, method="inline", **options).save(name="peer")
    call = f"return (int16_t)peer_predict(x, {task.X.shape[1]});"
    rows = task.rows.astype(np.int16) * factor
    return Candidate(around(text, call, "int16_t", task), rows)


def m2cgen(task):
    n = len(task.model.classes_)
    call = f"float p[{n}]; score((float *)x, p); {largest('p', n)}"
    return Candidate(around(m2cgen_text(task.model), call, "float", task), task.rows)


PROGRAMS: dict[str, Callable[[Task], Candidate]] = {
    "tinyml, code, soft votes": lambda task: tinyml_forest(task, "code"),
    "tinyml, tables, soft votes": lambda task: tinyml_forest(task, "table"),
    "emlearn, inline int16": emlearn,
    "emlearn, inline int16, 128 X": lambda task: emlearn(task, 128),
    "emlearn, inline int16, 128 X, soft votes": lambda task: emlearn(task, 128, leaf_bits=8),
    "micromlgen": micromlgen_class,
    "m2cgen": m2cgen,
}


def tasks():
    for name in ("digits", "letter"):
        X, y, X_test, _ = split_digits() if name == "digits" else load(name, as_float=False)
        for label, forest in FORESTS.items():
            yield f"{name}, {label}", Task(clone(forest).fit(X, y), X, y, sample(X_test))


if __name__ == "__main__":
    print_table("forest", tasks(), lambda task: PROGRAMS)
