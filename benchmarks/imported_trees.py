"""Trees that others trained, against their own library: rows that integers decide otherwise.

    TINYML_DATA=... python benchmarks/imported_trees.py

Features are the whole numbers that the data sets store. Every model is fitted on the training rows,
compiled with ``bits="auto"`` and 16, and its program compared with the library's `predict` on every
test row. XGBoost and LightGBM are compared once more by way of a file.
"""

import tempfile
import warnings
from pathlib import Path

import numpy as np
from lightgbm import LGBMClassifier
from sklearn.base import is_classifier
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
)
from sklearn.tree import DecisionTreeClassifier
from xgboost import XGBClassifier

import tinyml
from tinyml.datasets import load

SETS = ("digits", "letter", "covtype_15k")
SEED = {"random_state": 0}
TREE = DecisionTreeClassifier(max_depth=6, **SEED)
QUIET = {"n_jobs": 1, **SEED}
MODELS = {
    "RandomForest 100": RandomForestClassifier(100, **SEED),
    "ExtraTrees 100": ExtraTreesClassifier(100, **SEED),
    "Bagging 50 × 0.7 of features": BaggingClassifier(n_estimators=50, max_features=0.7, **SEED),
    "AdaBoost 50 × depth 6": AdaBoostClassifier(TREE, n_estimators=50, **SEED),
    "GradientBoosting 50": GradientBoostingClassifier(n_estimators=50, max_features=0.3, **SEED),
    "HistGradientBoosting 50": HistGradientBoostingClassifier(
        max_iter=50, early_stopping=False, **SEED
    ),
    "IsolationForest 100": IsolationForest(contamination=0.1, **SEED),
    "XGBoost 100 × depth 4": XGBClassifier(n_estimators=100, max_depth=4, **QUIET),
    "XGBoost dart 50": XGBClassifier(n_estimators=50, booster="dart", rate_drop=0.1, **QUIET),
    "XGBoost forest 100": XGBClassifier(
        n_estimators=1,
        num_parallel_tree=100,
        learning_rate=1.0,
        subsample=0.8,
        colsample_bynode=0.8,
        reg_lambda=1e-5,
        **QUIET,
    ),
    "LightGBM 100 × 15 leaves": LGBMClassifier(
        n_estimators=100, num_leaves=15, verbose=-1, **QUIET
    ),
    "LightGBM dart 50": LGBMClassifier(
        n_estimators=50, num_leaves=15, boosting_type="dart", verbose=-1, **QUIET
    ),
}


def from_file(model, folder):
    """Return the model as it is read back from a file; None where it is of scikit-learn."""
    path = Path(folder) / "model"
    if isinstance(model, XGBClassifier):
        path = path.with_suffix(".ubj")
        model.save_model(path)
    elif isinstance(model, LGBMClassifier):
        model.booster_.save_model(path)
    else:
        return None
    return tinyml.read_forest(path)


def differing(model, X, X_test, wanted, bits="auto"):
    program = tinyml.compile(model, X, bits=bits)
    return program, int((program.predict(X_test) != wanted).sum())


def row(name, label, model, X, y, X_test, y_test):
    """Print one line of the table."""
    model.fit(X, y)
    wanted = model.predict(X_test)
    program, differ = differing(model, X, X_test, wanted)
    cells = [f"{name:11}", f"{label:28}", f"{len(program.graph.scores.trees):5}"]
    cells += [f"{len(X_test):5}", f"{differ:4}"]
    cells += [f"{differing(model, X, X_test, wanted, 16)[1]:7}"]
    with tempfile.TemporaryDirectory() as folder:
        read = from_file(model, folder)
        cells += [f"{'' if read is None else differing(read, X, X_test, wanted)[1]:>9}"]
    accuracy = f"{100 * np.mean(wanted == y_test):6.2f}" if is_classifier(model) else ""
    print(" | ".join([*cells, accuracy]), flush=True)


def main():
    """Print the table."""
    warnings.simplefilter("ignore")
    print("rows of the test set that are decided otherwise than by the library; accuracy in %")
    print(f"{'set':11} | {'model':28} | trees |  rows | auto | bits=16 | from file |  acc.")
    for name in SETS:
        X, y, X_test, y_test = load(name, as_float=False)
        y, y_test = (np.searchsorted(np.unique(y), labels) for labels in (y, y_test))
        for label, model in MODELS.items():
            row(name, label, model, X, y, X_test, y_test)


if __name__ == "__main__":
    main()
