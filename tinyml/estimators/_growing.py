"""The forest that an estimator begins from: grown here, or the user's own."""

from dataclasses import dataclass

import numpy as np
from sklearn.base import clone
from sklearn.ensemble import (
    BaggingClassifier,
    BaggingRegressor,
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.frozen import FrozenEstimator
from sklearn.tree import BaseDecisionTree
from sklearn.utils.validation import has_fit_parameter

from ..codegen.graph import Forest, Input
from ..codegen.lower import lowered
from ..training.trees import Trees

_VOTERS = (
    BaggingClassifier,
    BaggingRegressor,
    BaseDecisionTree,
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)


@dataclass(frozen=True, eq=False)
class Grown:
    """A forest before it is compressed.

    `is_held`, shape (n_samples, n_trees), marks the rows that a tree has not seen, where that is
    known. `adds_up` says that the trees add to one another, as boosted ones do; else each predicts
    the target. `offset` is what they add to.
    """

    trees: Trees
    offset: np.ndarray
    is_held: np.ndarray | None
    adds_up: bool


def grown(estimator, X, y, weight, rng):
    """Fit a clone of `estimator` on rows; one in a `FrozenEstimator` is taken as it is."""
    frozen = isinstance(estimator, FrozenEstimator)
    model = estimator.estimator if frozen else _fitted(estimator, X, y, weight, rng)
    forest = _forest_of(model, X.shape[1])
    held = None if frozen else _rows_not_seen(model, len(X))
    return Grown(Trees.from_node(forest), forest.offset, held, not isinstance(model, _VOTERS))


def _fitted(estimator, X, y, weight, rng):
    model = clone(estimator)
    if "random_state" in model.get_params() and model.random_state is None:
        model.set_params(random_state=int(rng.integers(2**31)))
    if has_fit_parameter(model, "sample_weight"):
        return model.fit(X, y, sample_weight=weight)
    return model.fit(X, y)


def _forest_of(model, n_features):
    forest = lowered(model, n_features).scores
    if not isinstance(forest, Forest) or not isinstance(forest.x, Input):
        raise TypeError(
            "The 'estimator' parameter must be a forest, a tree or boosted trees. "
            f"Got {model!r} instead."
        )
    return forest


def _rows_not_seen(model, n_rows):
    if not (getattr(model, "bootstrap", False) and hasattr(model, "estimators_samples_")):
        return None
    held = np.ones((n_rows, len(model.estimators_samples_)), dtype=bool)
    for t, rows in enumerate(model.estimators_samples_):
        held[rows, t] = False
    return held if held.any(axis=0).all() else None
