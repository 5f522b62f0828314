"""Lowerings of scikit-learn's multi-layer perceptrons."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import expit
from sklearn.neural_network import MLPClassifier, MLPRegressor

from tinyml.codegen.graph import Affine, Function, Graph, Node
from tinyml.codegen.lower import lower

_ACTIVATIONS: dict[str, Callable[[Node], Node]] = {
    "identity": lambda x: x,
    "relu": lambda x: x.clip(0.0, np.inf),
    "tanh": lambda x: Function(x, np.tanh),
    "logistic": lambda x: Function(x, expit),
}


@lower.register
def _(model: MLPClassifier, g: Graph, x: Node) -> Node:
    if model.out_activation_ == "logistic" and model.n_outputs_ > 1:
        raise TypeError("MLPClassifier fitted on several labels cannot be compiled.")
    g.link = "expit" if model.out_activation_ == "logistic" else "softmax"
    return _last_layer(model, x)


@lower.register
def _(model: MLPRegressor, g: Graph, x: Node) -> Node:
    return _last_layer(model, x)


def _last_layer(model: MLPClassifier | MLPRegressor, x: Node) -> Node:
    """Return what the last layer sums, before its activation."""
    *hidden, last = zip(model.coefs_, model.intercepts_, strict=True)
    for weights, bias in hidden:
        x = _ACTIVATIONS[model.activation](Affine(x, weights.T.astype(np.float64), bias))
    return Affine(x, last[0].T.astype(np.float64), last[1])
