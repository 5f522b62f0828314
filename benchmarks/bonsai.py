"""Bonsai at the sizes of its paper: accuracy on the official test rows, mean of five seeds.

The hyper-parameters below were chosen on training rows only and fixed before a test row of their
data set was scored. `python benchmarks/bonsai.py --select` cross-validates; of more than 15000 rows
it takes 15000 and scores a quarter of them. For MNIST the choice was made with other numbers of
passes (300, 200 and 100 in the order below), where the points chosen were the best. With those
given here, other points lead by 0.1 to 0.6 %: the selection is of one split and one seed.
Sizes follow the rule of the paper; the bias of the projection counts as the column of a constant
feature. The sets that end in -2 have two classes, the digits up to 4 and those from 5 on.
"""

import argparse
import itertools
import time

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import StratifiedKFold, StratifiedShuffleSplit
from threadpoolctl import threadpool_limits

import tinyml
from tinyml.datasets import load
from tinyml.estimators import BonsaiClassifier

SEEDS = range(5)
MAX_ITER = {"usps10-2": 300, "usps10": 300, "letter": 100, "mnist-2": 150, "mnist": 80}
LARGEST_SELECTION = 15000

# (data set, bytes by the rule of the paper) -> components, depth, tree density, noise, loss
CHOSEN = {
    ("usps10-2", 2016): ((8, 2, 1.0), 0.5, "hinge"),  # as below, in 512 bytes of 8-bit tables
    ("usps10-2", 2048): ((8, 2, 1.0), 0.5, "hinge"),
    ("usps10", 7544): ((14, 1, 1.0), 0.7, "hinge"),
    ("usps10", 32464): ((20, 2, 1.0), 0.9, "hinge"),
    ("letter", 31488): ((17, 2, 1.0), 0.2, "hinge"),
    ("mnist-2", 2048): ((7, 2, 1.0), 0.3, "hinge"),
    ("mnist-2", 16384): ((24, 3, 0.3), 0.6, "hinge"),
    ("mnist", 86016): ((28, 3, 1.0), 0.6, "hinge"),
}
GRIDS = {
    ("usps10-2", 2048): (
        ((8, 2, 1.0), (8, 2, 0.3), (6, 2, 0.45), (10, 2, 0.3)),
        (0.5, 0.7),
        ("hinge",),
    ),
    ("usps10", 7544): (
        ((12, 1, 1.0), (14, 1, 1.0), (14, 1, 0.48), (10, 2, 0.3), (20, 0, 1.0)),
        (0.7, 0.9),
        ("hinge",),
    ),
    ("usps10", 32464): (
        ((28, 3, 0.3), (20, 2, 1.0), (36, 2, 0.2), (36, 1, 0.48)),
        (0.7, 0.9),
        ("hinge",),
    ),
    ("letter", 31488): (
        ((17, 2, 1.0), (17, 3, 0.28)),
        (0.1, 0.2, 0.3),
        ("hinge", "cross_entropy"),
    ),
    ("mnist-2", 2048): (
        ((8, 2, 1.0), (7, 2, 1.0), (6, 2, 1.0), (6, 3, 0.5), (8, 1, 1.0)),
        (0.3, 0.6),
        ("hinge",),
    ),
    ("mnist-2", 16384): (
        ((16, 3, 1.0), (20, 3, 1.0), (24, 3, 0.3), (20, 4, 1.0)),
        (0.3, 0.6),
        ("hinge",),
    ),
    ("mnist", 86016): (
        ((28, 3, 0.3), (28, 2, 1.0), (28, 3, 1.0), (20, 4, 1.0), (40, 1, 1.0)),
        (0.6, 0.8),
        ("hinge",),
    ),
}
# test accuracy: published, and measured on the same rows with the authors' PyTorch code
PUBLISHED = {
    ("usps10-2", 2048): "94.42",
    ("mnist-2", 2048): "94.38",
    ("mnist-2", 16384): "96.47",
    ("mnist", 86016): "97.01",
}
AUTHORS = {
    ("usps10-2", 2048): "93.57",
    ("usps10", 7544): "90.78",
    ("usps10", 32464): "93.87",
    ("letter", 31488): "89.92",
}


def rows_of(name):
    """Training and test rows."""
    X, y, X_test, y_test = load(name.removesuffix("-2"))
    if name.endswith("-2"):
        y, y_test = (y >= 5).astype(int), (y_test >= 5).astype(int)
    return X, y, X_test, y_test


def model(X, y, size, max_iter, tree, noise, loss, seed=0):
    """Give the projection all bytes that the tree leaves."""
    n_components, depth, tree_density = tree
    n_classes = len(np.unique(y))
    n_outputs = 1 if n_classes == 2 else n_classes
    entries = (2 ** (depth + 1) - 1) * n_outputs * n_components
    kept = round(tree_density * entries)
    left = size - 2 * _bytes(kept, entries) - 4 * (2**depth - 1) * n_components
    with_bias = n_components * (X.shape[1] + 1)
    density = 1.0
    if left < 4 * with_bias:
        kept = min(left // 8, (with_bias - 1) // 2) - n_components
        density = kept / (n_components * X.shape[1])
    return BonsaiClassifier(
        n_components,
        depth,
        projection_density=density,
        tree_density=tree_density,
        loss=loss,
        input_noise=noise,
        max_iter=max_iter,
        random_state=seed,
    )


def _bytes(kept, entries):
    return 8 * kept if 2 * kept < entries else 4 * entries


def cross_validate(estimator, X, y):
    """Mean accuracy over three folds of the training rows, or on a quarter of many."""
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    if len(X) > LARGEST_SELECTION:
        chosen = np.random.default_rng(0).permutation(len(X))[:LARGEST_SELECTION]
        X, y = X[chosen], y[chosen]
        folds = StratifiedShuffleSplit(1, test_size=0.25, random_state=0)
    scores = [clone(estimator).fit(X[a], y[a]).score(X[b], y[b]) for a, b in folds.split(X, y)]
    return np.mean(scores)


def select(name, size):
    """Print the cross-validated accuracy of every point of the grid, the best last."""
    X, y, _, _ = rows_of(name)
    scores = {}
    for point in itertools.product(*GRIDS[name, size]):
        scores[point] = cross_validate(model(X, y, size, MAX_ITER[name], *point), X, y)
        print(f"{name} {size} B  {point}  {100 * scores[point]:.2f} %", flush=True)
    best = max(scores, key=scores.get)
    print(f"{name} {size} B  best {best}  {100 * scores[best]:.2f} %")


def measure(name, size):
    """Print one row of the table."""
    X, y, X_test, y_test = rows_of(name)
    accuracy, integer, seconds, fitted, program = [], [], [], None, None
    for seed in SEEDS:
        estimator = model(X, y, size, MAX_ITER[name], *CHOSEN[name, size], seed=seed)
        start = time.process_time()
        fitted = estimator.fit(X, y)
        seconds.append(time.process_time() - start)
        accuracy.append(100 * fitted.score(X_test, y_test))
        program = tinyml.compile(fitted, X, bits=8)
        integer.append(100 * np.mean(program.predict(X_test) == y_test))
    print(
        f"| {name} | {fitted.paper_size_} | {program.table_bytes} "
        f"| {np.mean(accuracy):.2f} ± {np.std(accuracy):.2f} | {min(accuracy):.2f} "
        f"| {np.mean(integer):.2f} ± {np.std(integer):.2f} | {on_the_uno(program, X_test)} "
        f"| {PUBLISHED.get((name, size), '')} | {AUTHORS.get((name, size), '')} "
        f"| {max(seconds):.1f} |",
        flush=True,
    )


def on_the_uno(program, X):
    """Net flash, RAM and mean cycles of a program on the simulated chip."""
    figures = tinyml.measure(program, X, "uno", n_rows=50, flags=("os",))
    if figures.cycles is None:
        return "too large | |"
    return f"{figures.flash} | {figures.ram} | {figures.cycles:.0f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--select", action="store_true", help="cross-validate on training rows")
    parser.add_argument("--data", help="only the rows of this data set")
    parser.add_argument("--size", type=int, help="only the rows of this size in bytes")
    arguments = parser.parse_args()
    rows = [
        row
        for row in (GRIDS if arguments.select else CHOSEN)
        if arguments.data in (None, row[0]) and arguments.size in (None, row[1])
    ]
    with threadpool_limits(1):
        if not arguments.select:
            print(
                "| data | paper bytes | table bytes | test accuracy % | worst seed "
                "| integer program % | flash B | RAM B | cycles "
                "| published % | authors' code % | most CPU s |"
            )
            print("|---|---|---|---|---|---|---|---|---|---|---|---|")
        for row in rows:
            (select if arguments.select else measure)(*row)


if __name__ == "__main__":
    main()
