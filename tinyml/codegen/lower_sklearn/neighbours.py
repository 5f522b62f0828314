"""Lowerings of scikit-learn's nearest neighbours, for few of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from tinyml.codegen.graph import Graph, Nearest, Node, SquaredDistance
from tinyml.codegen.lower import lower
from tinyml.codegen.lower_sklearn.vectors import dense


@lower.register
def _(model: KNeighborsClassifier, g: Graph, x: Node) -> Node:
    if isinstance(model.classes_, list):
        raise TypeError("KNeighborsClassifier fitted on several targets cannot be compiled.")
    g.link = "normalize"
    outputs = np.asarray(model._y).ravel().astype(np.intp)
    return Nearest(_distances(model, x), model.n_neighbors, outputs, np.ones(len(outputs)))


@lower.register
def _(model: KNeighborsRegressor, g: Graph, x: Node) -> Node:
    if np.ndim(model._y) == 2 and np.shape(model._y)[1] > 1:
        raise TypeError("KNeighborsRegressor fitted on several targets cannot be compiled.")
    values = np.asarray(model._y, dtype=np.float64).ravel()
    middle, k = values.mean(), model.n_neighbors
    outputs = np.zeros(len(values), dtype=np.intp)
    mean: Node = Nearest(_distances(model, x), k, outputs, (values - middle) / k) + middle
    return mean


def _distances(model: Any, x: Node) -> Node:
    if model.weights not in ("uniform", None):
        raise TypeError(
            f"{type(model).__name__} with weights={model.weights!r} cannot be compiled; the "
            "weights must be 'uniform'."
        )
    if model.effective_metric_ not in ("euclidean", "sqeuclidean"):
        raise TypeError(
            f"{type(model).__name__} with the metric {model.effective_metric_!r} cannot be "
            "compiled; the metric must be 'euclidean'."
        )
    return SquaredDistance(x, dense(model._fit_X))
