"""What integers cost in accuracy: float, bits=8 and bits="auto" on held-out rows.

    TINYML_DATA=... python benchmarks/fixed_point.py

Pixels of digits and mnist are whole numbers and are taken as they are; usps10 has real features.
"""

import warnings

from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import LinearSVC

import tinyml
from tinyml.datasets import load
from tinyml.estimators import ProtoNNClassifier

SETS = {"digits": False, "usps10": True, "mnist": False}  # name -> whether features are reals
MODELS = {
    "StandardScaler, LogisticRegression": (StandardScaler, lambda: LogisticRegression()),
    "MinMaxScaler, LinearSVC": (MinMaxScaler, lambda: LinearSVC(random_state=0)),
    "StandardScaler, ProtoNN 2 KB": (
        StandardScaler,
        lambda: ProtoNNClassifier(max_bytes=2048, max_iter=30, random_state=0),
    ),
}


def row(name, as_float, label, scaler, classifier):
    """Print the accuracies of one model on one set."""
    X, y, X_test, y_test = load(name, as_float=as_float)
    model = make_pipeline(scaler(), classifier())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, y)
    cells = [f"{name:8}", f"{label:36}", f"{100 * model.score(X_test, y_test):6.2f}"]
    for bits in (8, "auto"):
        program = tinyml.compile(model, X, bits=bits)
        same = (program.predict(X_test) == model.predict(X_test)).mean()
        share = f"{100 * program.narrow_share:3.0f} %"
        cells.append(f"{100 * program.score(X_test, y_test):6.2f} {100 * same:6.2f} {share}")
    print(" | ".join(cells), flush=True)


def main():
    """Print the table."""
    print("accuracy and rows decided as in float, in %; share of the table bytes that are 8-bit")
    print(f"{'set':8} | {'model':36} | float  | bits=8: score, same | bits=auto: score, same")
    for name, as_float in SETS.items():
        for label, (scaler, classifier) in MODELS.items():
            row(name, as_float, label, scaler, classifier)


if __name__ == "__main__":
    main()
