"""`tinyml.port` in the place of micromlgen's `port`, on the simulated Arduino Uno.

    python benchmarks/ported.py

The models that micromlgen knows, fitted to two thirds of iris, as its README does, and of digits,
and asked about the rest. Both read the same floats. Ours know nothing but the fitted model, save
for LogisticRegression, whose parameters do not tell the range of its features.
"""

from collections.abc import Iterator

from peers import Task, from_class, micromlgen_class, print_table, split_digits
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.naive_bayes import GaussianNB
from sklearn.svm import SVC, OneClassSVM
from sklearn.tree import DecisionTreeClassifier
from xgboost import XGBClassifier

import tinyml

MODELS = {
    "DecisionTree": DecisionTreeClassifier(random_state=0),
    "RandomForest": RandomForestClassifier(10, max_depth=5, random_state=0),
    "XGBClassifier": XGBClassifier(n_estimators=5, max_depth=3),
    "SVC, linear": SVC(kernel="linear", gamma=0.001),
    "SVC, RBF": SVC(gamma=0.001, C=10),
    "OneClassSVM": OneClassSVM(gamma=0.001, nu=0.1),
    "GaussianNB": GaussianNB(var_smoothing=1e-2),
    "LogisticRegression": LogisticRegression(max_iter=5000),
}
N_KERNEL_ROWS = 100  # of digits: more vectors than the Uno has room for say little


def ported(task):
    X = task.X if isinstance(task.model, LogisticRegression) else None
    return from_class(tinyml.port(task.model, X=X), task)


def tasks() -> Iterator[tuple[str, Task]]:
    X, y = load_iris(return_X_y=True)
    X, X_test, y, _ = train_test_split(X, y, test_size=0.33, random_state=0, stratify=y)
    digits, classes, digits_test, _ = split_digits()
    for label, model in MODELS.items():
        n = N_KERNEL_ROWS if "SVM" in label or "SVC" in label else len(digits)
        yield f"iris, {label}", Task(clone(model).fit(X, y), X, y, X_test)
        fitted = clone(model).fit(digits[:n], classes[:n])
        yield f"digits, {label}", Task(fitted, digits[:n], classes[:n], digits_test[:200])


def programs(task):
    return {"tinyml.port": ported, "micromlgen": micromlgen_class}


if __name__ == "__main__":
    print_table("model", tasks(), programs)
