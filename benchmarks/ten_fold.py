"""A random forest of 100 trees at one tenth of its bytes.

    TINYML_DATA=... python benchmarks/ten_fold.py --held [SET ...]   # a third of the training rows
    TINYML_DATA=... python benchmarks/ten_fold.py [SET ...]          # test rows, five seeds

Both are counted in packed tables; the compressed forest is scored as the program that runs.
"""

import argparse
from time import process_time

import numpy as np
from forests import REGRESSION, SETS, Rival, forest, rows
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split

import tinyml
from tinyml.estimators import PrunedForestClassifier, PrunedForestRegressor
from tinyml.training.trees import threshold_bytes

LEVELS = ("letter", "optdigits")  # chosen inside the training rows; elsewhere the default is used


def compared(name, X, y, X_test, y_test, seed):
    """Return bytes and loss of the whole forest and of a tenth, and the seconds this takes."""
    whole = Rival(*forest(100, name, X, y, seed), threshold_bytes(X))
    is_value = name in REGRESSION
    grower = RandomForestRegressor if is_value else RandomForestClassifier
    pruner = PrunedForestRegressor if is_value else PrunedForestClassifier
    grown = FrozenEstimator(grower(100, random_state=seed).fit(X, y))
    start = process_time()
    method = "levels" if name in LEVELS else "cost-complexity"
    tenth = whole.n_model_bytes_ // 10
    small = pruner(grown, method=method, max_bytes=tenth, random_state=seed).fit(X, y)
    seconds = process_time() - start
    program = tinyml.compile(small, X, bits=16)
    losses = [loss(name, m.predict(X_test), y_test) for m in (grown, program)]
    return whole.n_model_bytes_, small.n_model_bytes_, *losses, seconds


def loss(name, predicted, y):
    """Return the error in per cent, or the root of the mean square."""
    if name in REGRESSION:
        return np.sqrt(np.mean((predicted - y) ** 2))
    return 100 * np.mean(predicted != y)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="*", default=SETS)
    parser.add_argument("--held", action="store_true", help="score a third of the training rows")
    arguments = parser.parse_args()
    print("| data | bytes | error | bytes | error | lost | CPU s |\n|---|---|---|---|---|---|---|")
    for name in arguments.sets:
        X, y, X_test, y_test = rows(name)
        if arguments.held:
            X, X_test, y, y_test = train_test_split(X, y, test_size=1 / 3, random_state=0)
        seeds = range(1 if arguments.held else 5)
        found = np.mean([compared(name, X, y, X_test, y_test, s) for s in seeds], axis=0)
        whole, small, before, after, seconds = found
        lost = f"{100 * (after / before - 1):+.1f} %"
        if name not in REGRESSION:
            lost = f"{after - before:+.2f} points"
        print(
            f"| {name} | {whole:.0f} | {before:.4g} | {small:.0f} | {after:.4g} | {lost} "
            f"| {seconds:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
