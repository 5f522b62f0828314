"""Rows like those a fitted model has seen, drawn from its parameters: for those who have no others.

Every family says in one function what its parameters tell. In a pipeline the last step that tells
anything is asked, and what it says is carried back through the steps before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_selection import SelectorMixin
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from sklearn.svm import SVC, SVR, NuSVC, NuSVR, OneClassSVM

from tinyml.codegen.graph import Floats, Forest
from tinyml.codegen.lower import describe, final_step, lowered

N_ROWS = 500
_MOST_ROWS = 10_000
_TIMES = 6  # that each interval between thresholds is drawn from
_QUARTILES = 1.349  # standard deviations between the quartiles of a normal distribution
_INVERTIBLE = (
    PCA,
    TruncatedSVD,
    SelectorMixin,
    StandardScaler,
    RobustScaler,
    MinMaxScaler,
    MaxAbsScaler,
)


@dataclass(frozen=True)
class Drawn:
    """Rows of features, and what tells whether these are whole numbers.

    They are if all that `evidence` holds are multiples of the `unit`, but for the columns that are
    `silent`.
    """

    rows: Floats
    evidence: Floats
    unit: float = 1.0
    silent: Any = False

    @classmethod
    def from_reals(cls, rows: Floats) -> Drawn:
        """Rows that were computed, so that whether features are whole cannot be told."""
        return cls(rows, rows[:1], silent=True)


def typical_rows(model: Any) -> Floats:
    """Return rows like those that a fitted model has seen, the same ones every time.

    Raises
    ------
    ValueError
        If the parameters of the model do not tell.
    """
    steps = _steps(model)
    for k in reversed(range(len(steps))):
        before = steps[:k]
        if all(isinstance(step, _INVERTIBLE) for step in before):
            drawn = draw(steps[k], np.random.default_rng(0))
            if drawn is not None:
                rows = _carried_back(drawn.rows, before)
                return np.floor(rows + 0.5) if _are_whole(drawn, before) else _measured(rows)
    raise ValueError(
        f"The parameters of {describe(model)} do not tell the range of its features; give rows of "
        "them as the 'X' parameter of port."
    )


def needs_precision(model: Any, rows: Floats) -> bool:
    """Whether trees read reals: drawn rows do not show how close to thresholds these come."""
    return bool(_forests(final_step(model))) and not np.array_equal(rows, np.rint(rows))


def _steps(model: Any) -> list[Any]:
    if isinstance(model, Pipeline):
        return [inner for _, step in model.steps for inner in _steps(step)]
    return [] if model in (None, "passthrough") else [model]


def _carried_back(rows: Floats, steps: Sequence[Any]) -> Floats:
    for step in reversed(steps):
        rows = step.inverse_transform(rows)
    return np.asarray(rows, dtype=np.float64)


def _are_whole(drawn: Drawn, before: Sequence[Any]) -> bool:
    """Whether the evidence, carried back, is multiples of the unit, but for rounding."""
    seen = _carried_back(drawn.evidence, before)
    moved = _carried_back(drawn.evidence + 1.0 * np.asarray(drawn.silent), before)
    seen = seen[:, np.all(seen == moved, axis=0)] / drawn.unit
    return seen.size > 0 and np.allclose(seen, np.rint(seen), rtol=1e-6, atol=1e-4)


def _measured(rows: Floats) -> Floats:
    """Round to single precision, and where that hardly matters to six digits.

    A threshold that is nearly a value which features take becomes that value.
    """
    single = rows.astype(np.float32)
    short = np.array([float(f"{value:.6g}") for value in rows.ravel()]).reshape(rows.shape)
    is_near = np.abs(short - rows) <= 2.0 * np.spacing(np.abs(single))
    return np.where(is_near, short, single.astype(np.float64))


@singledispatch
def draw(step: Any, rng: np.random.Generator) -> Drawn | None:
    """Return rows that a step of a pipeline may have been given, or None if it does not tell."""
    return _around_thresholds(step, rng) if isinstance(step, BaseEstimator) else None


# Trees --------------------------------------------------------------------------------------------


def _around_thresholds(model: Any, rng: np.random.Generator) -> Drawn | None:
    """Draw values between the thresholds of each feature, where nothing but trees reads them.

    Thresholds lie in the middle between whole numbers if features are whole.
    """
    forests = _forests(model)
    if not forests:
        return None
    splits = [_splits(forests, k) for k in range(model.n_features_in_)]
    told = [np.append(*s) for s in splits]
    n = min(_MOST_ROWS, max(N_ROWS, *(_TIMES * (len(values) + 2) for values in told)))
    rows = np.column_stack([_between(*s, n, rng) for s in splits])
    evidence = np.column_stack([np.resize(values, max(map(len, told))) for values in told])
    return Drawn(rows, evidence, 0.5, silent=[not len(values) for values in told])


def _forests(model: Any) -> list[Forest]:
    """Return the forests that read the features of a model, if whatever reads them is one."""
    if not hasattr(model, "predict"):
        return []
    graph = lowered(model, model.n_features_in_)
    readers = [node for node in graph.nodes() if graph.input in node.inputs]
    forests = [node for node in readers if isinstance(node, Forest)]
    return forests if len(forests) == len(readers) else []


def _splits(forests: Sequence[Forest], feature: int) -> tuple[Floats, Floats]:
    """Return the thresholds of a feature, and the codes in its sets of categories."""
    thresholds: list[Floats] = [np.zeros(0)]
    codes: list[Floats] = [np.zeros(0)]
    for tree in (tree for forest in forests for tree in forest.trees):
        splits = ~tree.is_leaf & (tree.feature == feature)
        codes += [members for node, members in tree.sets.items() if splits[node]]
        splits[list(tree.sets)] = False
        thresholds.append(tree.threshold[splits])
    finite = [t[np.isfinite(t)] for t in thresholds]  # beyond the others only NaN lies
    return np.unique(np.concatenate(finite)), np.unique(np.concatenate(codes))


def _between(thresholds: Floats, codes: Floats, n: int, rng: np.random.Generator) -> Floats:
    """Draw as many values from each interval between thresholds, and as many times each code.

    Half of them are the ends of the intervals: thresholds are often values that features take.
    """
    starts, ends = _intervals(thresholds, codes)
    which = np.resize(np.arange(len(ends)), n)
    inside = starts[which] + (ends - starts)[which] * rng.uniform(0.03, 0.97, n)
    at_end = np.arange(n) // len(ends) % 2 == 0
    return rng.permutation(np.where(at_end, ends[which], inside))


def _intervals(thresholds: Floats, codes: Floats) -> tuple[Floats, Floats]:
    """Return where the intervals begin and end; a code is an interval by itself."""
    known = np.append(codes, codes.max() + 1.0) if len(codes) else codes
    if not len(thresholds):
        return (known, known) if len(known) else (np.zeros(1), np.zeros(1))
    first, last = thresholds[[0, -1]]
    gaps = np.diff(thresholds) if len(thresholds) > 1 else np.array([abs(first) or 1.0])
    lowest = first - gaps[0]
    if first > 0.0:  # what is never negative stays so
        lowest = max(lowest, 0.0)
    starts, ends = np.append(lowest, thresholds), np.append(thresholds, last + gaps[-1])
    return np.append(starts, known), np.append(ends, known)


# Models that keep rows, or their distribution -----------------------------------------------------


@draw.register(SVC)
@draw.register(NuSVC)
@draw.register(SVR)
@draw.register(NuSVR)
@draw.register(OneClassSVM)
def _(model: Any, rng: np.random.Generator) -> Drawn | None:
    """Take the support vectors, and points on lines through two of them, also beyond these."""
    vectors = np.asarray(model.support_vectors_, dtype=np.float64)
    first, second = vectors[rng.integers(len(vectors), size=(2, max(0, N_ROWS - len(vectors))))]
    lines = first + (second - first) * rng.uniform(-0.5, 1.5, (len(first), 1))
    return Drawn(rng.permutation(np.concatenate([vectors, lines])), vectors)


@draw.register(KNeighborsClassifier)
@draw.register(KNeighborsRegressor)
def _(model: Any, rng: np.random.Generator) -> Drawn | None:
    rows = np.asarray(model._fit_X, dtype=np.float64)
    return Drawn(rng.permutation(rows), rows)


@draw.register
def _(model: GaussianNB, rng: np.random.Generator) -> Drawn | None:
    """Draw the features of a row from one class, and of every other row from any."""
    n_classes, n_features = model.theta_.shape
    classes = rng.choice(n_classes, (N_ROWS, n_features), p=model.class_prior_)
    classes[::2] = classes[::2, :1]
    k = np.arange(n_features)
    mean, deviation = model.theta_[classes, k], np.sqrt(model.var_[classes, k])
    return Drawn.from_reals(rng.normal(mean, deviation))


@draw.register(GaussianMixture)
@draw.register(BayesianGaussianMixture)
def _(model: Any, rng: np.random.Generator) -> Drawn | None:
    factors = _covariances(model)
    components = rng.choice(len(model.means_), N_ROWS, p=model.weights_)
    return Drawn.from_reals(
        np.stack([rng.multivariate_normal(model.means_[k], factors[k]) for k in components])
    )


def _covariances(model: Any) -> NDArray[np.float64]:
    """Return a matrix for each component, whatever they are kept as."""
    n_components, n_features = model.means_.shape
    covariances = np.asarray(model.covariances_, dtype=np.float64)
    if model.covariance_type == "tied":
        return np.broadcast_to(covariances, (n_components, n_features, n_features))
    if model.covariance_type == "spherical":
        covariances = np.broadcast_to(covariances[:, None], (n_components, n_features))
    return covariances if covariances.ndim == 3 else np.stack([np.diag(c) for c in covariances])


# Transformers -------------------------------------------------------------------------------------


def _normal(mean: Floats, deviation: Floats, rng: np.random.Generator) -> Drawn:
    return Drawn.from_reals(rng.normal(mean, deviation, (N_ROWS, len(mean))))


def _uniform(lowest: Floats, highest: Floats, rng: np.random.Generator) -> Drawn:
    return Drawn.from_reals(rng.uniform(lowest, highest, (N_ROWS, len(lowest))))


@draw.register
def _(model: StandardScaler, rng: np.random.Generator) -> Drawn | None:
    if model.mean_ is None or model.var_ is None:
        return None
    return Drawn.from_reals(
        rng.normal(model.mean_, np.sqrt(model.var_), (N_ROWS, model.n_features_in_))
    )


@draw.register
def _(model: RobustScaler, rng: np.random.Generator) -> Drawn | None:
    if model.center_ is None or model.scale_ is None:
        return None
    return _normal(model.center_, model.scale_ / _QUARTILES, rng)


@draw.register
def _(model: MinMaxScaler, rng: np.random.Generator) -> Drawn | None:
    return Drawn.from_reals(
        rng.uniform(model.data_min_, model.data_max_, (N_ROWS, model.n_features_in_))
    )


@draw.register
def _(model: MaxAbsScaler, rng: np.random.Generator) -> Drawn | None:
    return _uniform(-model.max_abs_, model.max_abs_, rng)


@draw.register
def _(model: PCA, rng: np.random.Generator) -> Drawn | None:
    """Normal along each component, and the noise that they leave out."""
    deviation = np.sqrt(model.explained_variance_)
    rows = rng.normal(0.0, deviation, (N_ROWS, len(deviation))) @ model.components_ + model.mean_
    return Drawn.from_reals(rows + rng.normal(0.0, np.sqrt(model.noise_variance_), rows.shape))
