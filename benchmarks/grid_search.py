"""A grid search under the limits of a board, timed from empty caches.

24 candidates in three folds on digits: every one is fitted, compiled, built for the Uno and run on
the simulated chip; the winner is measured once more, over all held-out rows.
"""

import os
import tempfile
import time
import warnings

GRID = {
    "estimator__protonnclassifier__max_bytes": [800, 1200, 1600, 2000, 2500, 3000, 3500, 4000],
    "estimator__protonnclassifier__input_noise": [0.2, "auto", 0.7],
}
FLASH, RAM = 4096, 512


def run(n_jobs=2):
    """Search, and return the fitted search with its duration in seconds."""
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from tinyml.datasets import load
    from tinyml.estimators import ProtoNNClassifier
    from tinyml.model_selection import FixedPointClassifier

    X, y, _, _ = load("digits")
    model = FixedPointClassifier(
        make_pipeline(StandardScaler(), ProtoNNClassifier(random_state=0)),
        board="uno", flash="4KB", ram="512B",
    )  # fmt: skip
    start = time.perf_counter()
    search = GridSearchCV(model, GRID, cv=3, n_jobs=n_jobs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # candidates that do not fit are counted below
        search.fit(X, y)
    return search, time.perf_counter() - start


def report(search, seconds):
    """Print the time, what was left out, and the winner measured again."""
    import numpy as np

    import tinyml
    from tinyml.datasets import load

    _, _, X_test, y_test = load("digits")
    results = search.cv_results_
    left_out = np.isnan(results["mean_test_score"])
    print(f"{len(left_out)} candidates x 3 folds in {seconds:.0f} s, from empty caches")
    for k in np.argsort(-np.where(left_out, -1, results["mean_test_score"]), kind="stable"):
        values = ", ".join(str(v) for v in results["params"][k].values())
        score = "left out" if left_out[k] else f"{results['mean_test_score'][k]:.4f}"
        print(f"  input_noise, max_bytes = {values:12s}  {score}")
    print(f"left out: {left_out.sum()}; winner: {search.best_params_}")
    print(f"its cross-validated accuracy {search.best_score_:.4f}, held-out accuracy "
          f"{search.score(X_test, y_test):.4f}, both of the integers")  # fmt: skip
    measured = tinyml.measure(search.best_estimator_.program_, X_test, board="uno", n_rows=None)
    print(measured)
    assert measured.fits
    assert measured.flash <= FLASH
    assert measured.ram <= RAM
    print(f"The winner fits {FLASH} B of flash and {RAM} B of RAM.")
    assert seconds < 300, "the search took longer than five minutes"


def main():
    with tempfile.TemporaryDirectory() as empty:
        # Before numba is imported; the workers of joblib inherit it.
        os.environ["NUMBA_CACHE_DIR"] = os.path.join(empty, "numba")
        os.environ["XDG_CACHE_HOME"] = os.path.join(empty, "cache")
        report(*run())


if __name__ == "__main__":
    main()
