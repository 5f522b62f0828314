"""Processor time of compressing a forest of 100 trees on 15 000 rows, once and to 20 sizes.

    TINYML_DATA=... OMP_NUM_THREADS=1 python benchmarks/pruning_time.py [METHOD ...]

The forest is grown before; kernels are compiled before. All rows of covtype_15k, seven classes.
"""

import sys
from time import process_time

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator

from tinyml.datasets import load
from tinyml.estimators import L1ForestClassifier, PrunedForestClassifier

SIZES = np.geomspace(512, 16384, 20).astype(int).tolist()
METHODS = ("cost-complexity", "budget", "depth", "levels", "lasso")


def estimator(method, forest):
    frozen = FrozenEstimator(forest)
    if method == "lasso":
        return L1ForestClassifier(frozen, random_state=0)
    return PrunedForestClassifier(frozen, method=method, random_state=0)


def seconds(work):
    start = process_time()
    work()
    return process_time() - start


def main():
    X, y, X_test, y_test = load("covtype_15k")
    X, y = np.concatenate([X, X_test]), np.concatenate([y, y_test])  # nothing is scored here
    forest = RandomForestClassifier(100, random_state=0).fit(X, y)
    small = RandomForestClassifier(4, max_depth=5, random_state=0).fit(X[:500], y[:500])
    print("| method | one size | 20 sizes | ratio |\n|---|---|---|---|")
    for method in sys.argv[1:] or METHODS:
        estimator(method, small).set_params(max_bytes=300).fit(X[:500], y[:500])
        one = estimator(method, forest).set_params(max_bytes=SIZES[-1])
        alone = seconds(lambda one=one: one.fit(X, y))
        together = seconds(lambda one=one: one.path(X, y, SIZES))
        print(
            f"| {method} | {alone:.1f} s | {together:.1f} s | {together / alone:.1f} |", flush=True
        )


if __name__ == "__main__":
    main()
