"""Compact SVMs at equal bytes: accuracy of the integer program on the official test rows.

Rows of the table: scikit-learn's SVC in full, its reduced set before any training, the trained
kernels, and ProtoNN, each the mean of five seeds. The hyper-parameters below were chosen by
`python benchmarks/compact_svm.py --select`, which cross-validates on training rows only.
"""

import argparse
import itertools
import time

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits

import tinyml
from tinyml.codegen.storage import table_bytes
from tinyml.datasets import load
from tinyml.estimators import CompactSVC, ProtoNNClassifier

MAX_ITER = {"usps10": 300, "letter": 100, "usps10-2": 300}
SEEDS = range(5)
REDUCED = 40  # vectors

ROWS = {"usps10": 16_384, "letter": 16_384, "usps10-2": 4_096}  # data -> bytes
KERNELS = ("rbf", "poly", "laplacian", "linear")
FULL_GRID = [{"C": C, "gamma": gamma} for C in (1, 3, 10, 30, 100) for gamma in (1, 2, 4, 8)]
NOISE = {"usps10": (0.5, 0.7, 0.9), "letter": (0.05, 0.1, 0.15), "usps10-2": (0.5, 0.7, 0.9)}
FOLDS = {"usps10": 2, "letter": 1, "usps10-2": 2}  # scored, of three
# data -> C and gamma of the full SVC, and the noise of each other model
CHOSEN = {
    "usps10": {
        "full": (30, 2),
        "rbf": 0.9,
        "poly": 0.9,
        "laplacian": 0.5,
        "linear": 0.9,
        "protonn": 0.9,
    },
    "letter": {
        "full": (100, 4),
        "rbf": 0.15,
        "poly": 0.15,
        "laplacian": 0.15,
        "linear": 0.15,
        "protonn": 0.1,
    },
    "usps10-2": {
        "full": (3, 2),
        "rbf": 0.9,
        "poly": 0.5,
        "laplacian": 0.5,
        "linear": 0.5,
        "protonn": 0.9,
    },
}


def data(name):
    """Training and test rows; of usps10-2 the digits from 5 on are one class, as in papers."""
    X, y, X_test, y_test = load(name.removesuffix("-2"))
    return (X, y >= 5, X_test, y_test >= 5) if name.endswith("-2") else (X, y, X_test, y_test)


def full(X, C, gamma):
    """Return scikit-learn's SVC, `gamma` in units of gamma="scale"."""
    gamma = gamma / (X.shape[1] * X.var())
    return SVC(C=C, gamma=gamma, cache_size=1000)


def compact(name, kernel, noise, seed=0):
    parameters = {"max_bytes": ROWS[name], "input_noise": noise, "random_state": seed}
    if kernel == "protonn":
        return ProtoNNClassifier(max_iter=MAX_ITER[name], **parameters)
    return CompactSVC(kernel=kernel, max_iter=MAX_ITER[name], **parameters)


def cross_validate(estimator, X, y, n_scored):
    """Mean accuracy over the first of three folds of the training rows."""
    folds = StratifiedKFold(3, shuffle=True, random_state=0).split(X, y)
    chosen = itertools.islice(folds, n_scored)
    return np.mean([clone(estimator).fit(X[a], y[a]).score(X[b], y[b]) for a, b in chosen])


def select(name):
    """Print the cross-validated accuracy of every setting, and the best of each model."""
    X, y, _, _ = data(name)
    settings = {("full", *point.values()): full(X, **point) for point in FULL_GRID}
    for kernel in (*KERNELS, "protonn"):
        settings |= {(kernel, noise): compact(name, kernel, noise) for noise in NOISE[name]}
    best = {}
    for (model, *point), estimator in settings.items():
        score = cross_validate(estimator, X, y, FOLDS[name])
        print(f"{name} {model} {point}  {100 * score:.2f} %", flush=True)
        best[model] = max(best.get(model, (0.0, None)), (score, point))
    for model, (score, point) in best.items():
        print(f"{name} {model} best {point}  {100 * score:.2f} %", flush=True)


def measure(name):
    """Print the rows of one data set."""
    X, y, X_test, y_test = data(name)
    _row(name, "SVC, all vectors", [_measured_in_full(name, X, y, X_test, y_test)])
    reduced = CompactSVC(REDUCED, 0, max_iter=0)
    estimators = {
        f"reduced set of {REDUCED}": [clone(reduced).set_params(random_state=s) for s in SEEDS]
    }
    for model in (*KERNELS, "protonn"):
        noise = CHOSEN[name][model]
        label = "ProtoNN" if model == "protonn" else f"CompactSVC, {model}"
        estimators[label] = [compact(name, model, noise, seed) for seed in SEEDS]
    for label, seeds in estimators.items():
        _row(name, label, [_measured(e, X, y, X_test, y_test) for e in seeds])


def _measured_in_full(name, X, y, X_test, y_test):
    model = full(X, *CHOSEN[name]["full"])
    seconds = time.process_time()
    model.fit(X, y)
    seconds = time.process_time() - seconds
    n_bytes = table_bytes([model.support_vectors_, model.dual_coef_, model.intercept_])
    accuracy = 100 * model.score(X_test, y_test)
    return len(model.support_), n_bytes, accuracy, np.nan, seconds


def _measured(model, X, y, X_test, y_test):
    """Vectors, bytes, accuracy in float and in integers, seconds."""
    seconds = time.process_time()
    model.fit(X, y)
    seconds = time.process_time() - seconds
    program = tinyml.compile(model, X, bits=8)
    vectors = getattr(model, "vectors_", getattr(model, "prototypes_", ()))
    accuracy, integer = 100 * model.score(X_test, y_test), 100 * program.score(X_test, y_test)
    return len(vectors), model.n_model_bytes_, accuracy, integer, seconds


def _row(name, label, figures):
    n_vectors, n_bytes, accuracy, integer, seconds = np.array(figures, dtype=float).T
    in_integers = f"{integer.mean():.2f} ± {integer.std():.2f} | {integer.min():.2f}"
    print(
        f"| {name} | {label} | {n_vectors[0]:.0f} | {n_bytes.max():.0f} "
        f"| {accuracy.mean():.2f} ± {accuracy.std():.2f} "
        f"| {' | ' if np.isnan(integer).any() else in_integers} | {seconds.max():.1f} |",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--select", action="store_true", help="cross-validate on training rows")
    parser.add_argument("--data", choices=list(ROWS), help="only this data set")
    arguments = parser.parse_args()
    with threadpool_limits(1):
        if not arguments.select:
            print(
                "| data | model | vectors | table bytes | float % | integer program % "
                "| worst seed | most CPU s |"
            )
            print("|---|---|---|---|---|---|---|---|")
        for name in [arguments.data] if arguments.data else ROWS:
            (select if arguments.select else measure)(name)


if __name__ == "__main__":
    main()
