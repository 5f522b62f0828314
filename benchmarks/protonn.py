"""ProtoNN at the sizes of its paper: accuracy on the official test rows, mean of five seeds.

The hyper-parameters below were chosen by `python benchmarks/protonn.py --select`, which
cross-validates on training rows only, and were fixed before any test row was scored.
"""

import argparse
import itertools
import time

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import StratifiedKFold
from threadpoolctl import threadpool_limits

from tinyml.datasets import load
from tinyml.estimators import ProtoNNClassifier

MAX_ITER = 300
SEEDS = range(5)

# (data set, bytes by the rule of the paper) -> components, prototypes, noise
CHOSEN = {
    ("usps10", 7296): (14, 30, 0.7),
    ("usps10", 21360): (20, 80, 0.9),
}
GRIDS = {
    ("usps10", 7296): ((10, 12, 14, 16), (30, 40, 50), (0.5, 0.7)),
    ("usps10", 21360): ((15, 20), (60, 80, 100), (0.5, 0.7, 0.9)),
}
# test accuracy, measured on the same rows with the authors' code: PyTorch (three seeds), C++
AUTHORS = {("usps10", 7296): "91.2, 91.6", ("usps10", 21360): "90.9, 92.7"}


def model(n_features, n_classes, size, n_components, n_prototypes, noise, seed=0):
    """Give the projection all bytes that prototypes and labels leave."""
    left = size - 4 * n_prototypes * (n_components + n_classes)
    entries = n_components * n_features
    density = 1.0 if left >= 4 * entries else min(left // 8, (entries - 1) // 2) / entries
    return ProtoNNClassifier(
        n_components,
        n_prototypes,
        projection_density=density,
        input_noise=noise,
        max_iter=MAX_ITER,
        random_state=seed,
    )


def cross_validate(estimator, X, y, n_splits=3):
    """Mean accuracy over folds of the training rows."""
    folds = StratifiedKFold(n_splits, shuffle=True, random_state=0).split(X, y)
    return np.mean([clone(estimator).fit(X[a], y[a]).score(X[b], y[b]) for a, b in folds])


def select(name, size):
    """Print the cross-validated accuracy of every point of the grid, the best last."""
    X, y, _, _ = load(name)
    scores = {}
    for point in itertools.product(*GRIDS[name, size]):
        scores[point] = cross_validate(model(X.shape[1], len(np.unique(y)), size, *point), X, y)
        print(f"{name} {size} B  {point}  {100 * scores[point]:.2f} %", flush=True)
    best = max(scores, key=scores.get)
    print(f"{name} {size} B  best {best}  {100 * scores[best]:.2f} %")


def measure(name, size):
    """Print one row of the table."""
    X, y, X_test, y_test = load(name)
    accuracy, seconds, fitted = [], [], None
    for seed in SEEDS:
        estimator = model(X.shape[1], len(np.unique(y)), size, *CHOSEN[name, size], seed=seed)
        start = time.process_time()
        fitted = estimator.fit(X, y)
        seconds.append(time.process_time() - start)
        accuracy.append(100 * fitted.score(X_test, y_test))
    print(
        f"| {name} | {fitted.paper_size_} | {fitted.n_model_bytes_} "
        f"| {np.mean(accuracy):.2f} ± {np.std(accuracy):.2f} | {min(accuracy):.2f} "
        f"| {AUTHORS[name, size]} | {max(seconds):.1f} |",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--select", action="store_true", help="cross-validate on training rows")
    parser.add_argument("--size", type=int, help="only the rows of this size in bytes")
    arguments = parser.parse_args()
    rows = [row for row in CHOSEN if arguments.size in (None, row[1])]
    with threadpool_limits(1):
        if not arguments.select:
            print(
                "| data | paper bytes | table bytes | test accuracy % | worst seed "
                "| authors' code % | most CPU s |"
            )
            print("|---|---|---|---|---|---|---|")
        for row in rows:
            (select if arguments.select else measure)(*row)


if __name__ == "__main__":
    main()
