"""Linear models and forests on the simulated Arduino Uno, and their agreement with scikit-learn.

    TINYML_DATA=... python benchmarks/uno.py

The same `compile(model, X)` is compared with scikit-learn's own `predict` on every test
row and measured; cycles are means over the test rows.
"""

from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

import tinyml
from tinyml.datasets import load

LARGE = "RandomForest 100, full"
FORESTS = {
    "DecisionTree depth 8": DecisionTreeClassifier(max_depth=8, random_state=0),
    "RandomForest 10 x depth 5": RandomForestClassifier(10, max_depth=5, random_state=0),
    "RandomForest 20 x 16 leaves": RandomForestClassifier(20, max_leaf_nodes=16, random_state=0),
    "ExtraTrees 10 x depth 5": ExtraTreesClassifier(10, max_depth=5, random_state=0),
    LARGE: RandomForestClassifier(100, random_state=0),
}
LINEAR = {"LogisticRegression": LogisticRegression(max_iter=3000)}
CASES = [
    ("digits", False, FORESTS | LINEAR, "auto"),
    ("letter", False, FORESTS, "auto"),
    ("magic_gamma", True, FORESTS, 16),
]


def row(name, data, label, model, bits):
    """Print agreement and, where the board has room, the measured figures."""
    X, y, X_test, y_test = data
    model.fit(X, y)
    program = tinyml.compile(model, X, bits=bits, layout="code")
    differ = int((program.predict(X_test) != model.predict(X_test)).sum())
    cells = [f"{name:11}", f"{label:27}", f"{100 * model.score(X_test, y_test):6.2f}"]
    cells += [f"{100 * program.score(X_test, y_test):6.2f}", f"{differ:3} of {len(X_test)}"]
    cells.append("too large" if label == LARGE else figures(program, X_test))
    print(" | ".join(cells), flush=True)


def figures(program, X_test):
    """Measure a program on every test row."""
    report = tinyml.measure(program, X_test, board="uno", n_rows=len(X_test))
    text = f"{report.flash} B, {report.static_ram} B static, {report.stack} B stack"
    if report.cycles is None:
        return f"{text}; {report.why}"
    return f"{text}, {report.cycles:.0f} cycles, {report.n_identical} of {report.n_rows} identical"


def main():
    """Print the table."""
    print("set | model | float | integer | differ from scikit-learn | on the Uno, -Os")
    for name, as_float, models, bits in CASES:
        data = load(name, as_float=as_float)
        for label, model in models.items():
            row(name, data, label, model, bits)


if __name__ == "__main__":
    main()
