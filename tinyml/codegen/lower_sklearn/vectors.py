"""Lowerings of scikit-learn's kernel machines."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.svm import SVC, SVR, NuSVC, NuSVR, OneClassSVM

from tinyml.codegen.graph import (
    Affine,
    Decay,
    Floats,
    Function,
    Graph,
    Node,
    PairVotes,
    SquaredDistance,
)
from tinyml.codegen.lower import lower


@lower.register(SVR)
@lower.register(NuSVR)
@lower.register(OneClassSVM)
def _(model: Any, g: Graph, x: Node) -> Node:
    return _combined(model, x, dense(model.dual_coef_), model.intercept_)


@lower.register(SVC)
@lower.register(NuSVC)
def _(model: Any, g: Graph, x: Node) -> Node:
    """Votes of the pairs, as `predict` counts them; of two classes the one decision."""
    pairs, n_classes = pairs_of(model, x), len(model.classes_)
    if n_classes == 2:
        return pairs
    return confident_votes(pairs, n_classes) if model.break_ties else PairVotes(pairs, n_classes)


def pairs_of(model: Any, x: Node) -> Node:
    """Return one score for each pair of classes: above zero for the first; of two the second."""
    if len(model.classes_) == 2:
        return _combined(model, x, dense(model.dual_coef_), model.intercept_)
    n_classes, ends = len(model.classes_), np.cumsum([0, *model.n_support_])
    weights = np.zeros((n_classes * (n_classes - 1) // 2, ends[-1]))
    coefficients = dense(model.dual_coef_)
    for k, (i, j) in enumerate(combinations(range(n_classes), 2)):
        of_i, of_j = slice(ends[i], ends[i + 1]), slice(ends[j], ends[j + 1])
        weights[k, of_i] = coefficients[j - 1, of_i]
        weights[k, of_j] = coefficients[i, of_j]
    return _combined(model, x, weights, model.intercept_)


def confident_votes(pairs: Node, n_classes: int) -> Node:
    """Return the votes of pairs and, between -⅓ and ⅓, how sure they are, which decides ties."""
    sums = np.zeros((n_classes, pairs.size))
    for k, (i, j) in enumerate(combinations(range(n_classes), 2)):
        sums[i, k], sums[j, k] = 1.0, -1.0
    return PairVotes(pairs, n_classes) + Function(Affine(pairs, sums), _less_than_a_third)


def _less_than_a_third(x: Floats) -> Floats:
    return np.asarray(x / (3.0 * (np.abs(x) + 1.0)))


def dense(matrix: Any) -> Floats:
    """Return a matrix that may have been fitted on sparse rows."""
    return np.asarray(matrix.toarray() if issparse(matrix) else matrix, dtype=np.float64)


def _combined(model: Any, x: Node, weights: Floats, bias: Floats) -> Node:
    """Return ``weights k(x, vectors) + bias``; a linear kernel is multiplied out."""
    if model.kernel not in ("linear", "poly", "rbf", "sigmoid"):
        raise TypeError(
            f"{type(model).__name__} with kernel={model.kernel!r} cannot be compiled; the kernel "
            "must be 'linear', 'poly', 'rbf' or 'sigmoid'."
        )
    vectors = dense(model.support_vectors_)
    if not len(vectors):  # a constant
        return Affine(x, np.zeros((len(bias), x.size)), bias)
    if model.kernel == "linear" and weights.shape[0] < len(vectors):
        return Affine(x, weights @ vectors, bias)
    return Affine(_kernel(model, x, vectors), weights, bias)


def _kernel(model: Any, x: Node, vectors: Floats) -> Node:
    gamma = model._gamma
    if model.kernel == "linear":
        return Affine(x, vectors)
    if model.kernel == "rbf":
        return Decay(SquaredDistance(x, vectors), gamma)
    if model.kernel == "poly":
        return power(Affine(x, gamma * vectors, model.coef0), model.degree)
    return Function(Affine(x, gamma * vectors, model.coef0), np.tanh)


def power(x: Node, degree: int) -> Node:
    """Return x to a whole power of at least 1."""
    if degree < 1:
        raise TypeError(f"A polynomial kernel of degree {degree} cannot be compiled.")
    y = x
    for _ in range(degree - 1):
        y = y * x
    return y
