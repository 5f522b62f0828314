"""Models that are no trees on the simulated Arduino Uno, beside what other generators make of them.

    python benchmarks/peers_models.py

Digits, with a third of them held out. The models are fitted to standardised features; all training
rows, but for kernels, which get 60, so that the Uno has room for the support vectors. The others
are given standardised floats and do not standardise themselves. Ours come as three programs: with
standardised rows that were quantised beforehand, with the scaler inside and whole numbers as rows,
and as `tinyml.port` writes them, with the floats of the others.

The other packages are installed by `pip install emlearn==0.23.0 m2cgen==0.10.0 micromlgen==1.1.28`;
those that are absent are left out.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from peers import (
    Candidate,
    Task,
    around,
    from_class,
    largest,
    m2cgen_text,
    micromlgen_class,
    ours,
    print_table,
    sample,
    split_digits,
)
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

import tinyml
from tinyml.device.build import OS

MODELS = {
    "LinearSVC": LinearSVC(random_state=0, max_iter=5000),
    "LogisticRegression": LogisticRegression(max_iter=500),
    "SVC, linear": SVC(kernel="linear", gamma=0.05),
    "SVC, RBF": SVC(kernel="rbf", gamma=0.02, C=10),
    "GaussianNB": GaussianNB(),
    "MLPClassifier, 16": MLPClassifier((16,), max_iter=400, random_state=0),
}
N_KERNEL_ROWS = 60


@dataclass(frozen=True)
class ScaledTask(Task):
    """A task of standardised rows that knows their scaler and what they were before."""

    scaler: StandardScaler
    X_before: np.ndarray
    rows_before: np.ndarray


# Ours --------------------------------------------------------------------------------------------


def model_alone(task, bits="auto"):
    return ours(tinyml.compile(task.model, task.X, bits=bits), task.rows)


def whole_pipeline(task):
    pipeline = make_pipeline(task.scaler, task.model)
    return ours(tinyml.compile(pipeline, task.X_before), task.rows_before)


def ported(task):
    return from_class(tinyml.port(task.model, X=task.X), task)


# Theirs ------------------------------------------------------------------------------------------


def m2cgen(task):
    n = len(task.model.classes_)
    if isinstance(task.model, SVC):
        call = _VOTES.replace("@N@", str(n)) + largest("votes", n)
    else:
        call = f"float p[{n}]; score((float *)x, p); {largest('p', n)}"
    return Candidate(around(m2cgen_text(task.model), call, "float", task), task.rows)


_VOTES = """
    float pairs[@N@ * (@N@ - 1) / 2];
    uint8_t votes[@N@] = {0}, k = 0;
    score((float *)x, pairs);
    for (uint8_t i = 0; i < @N@; i++)
        for (uint8_t j = i + 1; j < @N@; j++)
            votes[pairs[k++] > 0 ? i : j]++;
    """


def emlearn(task, method=None):
    import emlearn

    options = {} if method is None else {"inference": [method]}
    with tempfile.TemporaryDirectory() as folder, chdir(folder), _names_as_constants():
        converted = emlearn.convert(task.model, **({} if method is None else {"method": method}))
        text = converted.save(name="peer", **options)
    call = f"return (int16_t)peer_predict(x, {task.X.shape[1]});"
    headers = f"-I{Path(emlearn.__file__).parent}"
    flags = replace(OS, compile=(*OS.compile, headers))
    return Candidate(around(text, call, "float", task), task.rows, flags)


@contextmanager
def _names_as_constants() -> Iterator[None]:
    """Let emlearn write the name of an activation, which by itself it takes for a number."""
    from emlearn import cgen

    constant = cgen.constant
    cgen.constant = lambda value, *rest, **options: (
        value if isinstance(value, str) else constant(value, *rest, **options)
    )
    try:
        yield
    finally:
        cgen.constant = constant


# The table ---------------------------------------------------------------------------------------


def programs(task) -> dict[str, Callable[[ScaledTask], Candidate]]:
    """Return who can write the model of a task, by name."""
    known: dict[str, Callable[[ScaledTask], Candidate]] = {
        "tinyml, model": model_alone,
        "tinyml, model, 8 bits": lambda task: model_alone(task, 8),
        "tinyml, pipeline": whole_pipeline,
        "tinyml.port, from floats": ported,
    }
    both = {
        "micromlgen": micromlgen_class,
        "micromlgen, attiny": lambda task: micromlgen_class(task, "attiny"),
    }
    kind = type(task.model)
    if kind is GaussianNB:
        return known | {"micromlgen": micromlgen_class, "emlearn": emlearn}
    if kind is MLPClassifier:
        return known | {
            "emlearn, loadable": lambda task: emlearn(task, "loadable"),
            "emlearn, inline": lambda task: emlearn(task, "inline"),
        }
    return known | ({} if kind is LinearSVC else both) | {"m2cgen": m2cgen}


def tasks() -> Iterator[tuple[str, ScaledTask]]:
    X, y, X_test, _ = split_digits()
    scaler = StandardScaler().fit(X)
    Z, rows = (scaler.transform(part).astype(np.float32) for part in (X, sample(X_test)))
    order = np.random.default_rng(1).permutation(len(Z))
    for label, model in MODELS.items():
        seen = order[: N_KERNEL_ROWS if isinstance(model, SVC) else len(Z)]
        model.fit(Z[seen].astype(np.float64), y[seen])
        parts = {"X_before": X[seen], "rows_before": sample(X_test), "scaler": scaler}
        yield label, ScaledTask(model, Z[seen], y[seen], rows, **parts)


if __name__ == "__main__":
    print_table("model", tasks(), programs)
