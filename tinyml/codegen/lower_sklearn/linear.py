"""Lowerings of scikit-learn's linear models and linear discriminants."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.discriminant_analysis import (
    LinearDiscriminantAnalysis,
    QuadraticDiscriminantAnalysis,
)
from sklearn.linear_model import (
    ARDRegression,
    BayesianRidge,
    ElasticNet,
    ElasticNetCV,
    HuberRegressor,
    Lars,
    LarsCV,
    Lasso,
    LassoCV,
    LassoLarsCV,
    LassoLarsIC,
    LinearRegression,
    LogisticRegression,
    OrthogonalMatchingPursuit,
    OrthogonalMatchingPursuitCV,
    Perceptron,
    QuantileRegressor,
    Ridge,
    RidgeClassifier,
    RidgeClassifierCV,
    RidgeCV,
    SGDClassifier,
    SGDRegressor,
    TheilSenRegressor,
)
from sklearn.svm import LinearSVC, LinearSVR

from tinyml.codegen.graph import Affine, Graph, Node, SquaredDistance, joined
from tinyml.codegen.lower import lower, transform


def linear(model: Any, x: Node) -> Affine:
    """Return ``coef_ x + intercept_``."""
    weights = np.atleast_2d(model.coef_).astype(np.float64)
    return Affine(x, weights, model.intercept_)


@lower.register(LinearSVC)
@lower.register(RidgeClassifier)
@lower.register(RidgeClassifierCV)
@lower.register(Perceptron)
def _(model: Any, g: Graph, x: Node) -> Node:
    if np.ndim(getattr(model, "classes_", [])) != 1 or isinstance(model.classes_, list):
        raise TypeError(f"{type(model).__name__} fitted on several targets cannot be compiled.")
    return linear(model, x)


@lower.register
def _(model: LogisticRegression, g: Graph, x: Node) -> Node:
    g.link = "expit" if len(model.coef_) == 1 else "softmax"
    return linear(model, x)


@lower.register
def _(model: SGDClassifier, g: Graph, x: Node) -> Node:
    g.link = "expit" if model.loss == "log_loss" else None
    return linear(model, x)


@lower.register(ARDRegression)
@lower.register(BayesianRidge)
@lower.register(ElasticNet)
@lower.register(ElasticNetCV)
@lower.register(HuberRegressor)
@lower.register(Lars)
@lower.register(LarsCV)
@lower.register(Lasso)
@lower.register(LassoCV)
@lower.register(LassoLarsCV)
@lower.register(LassoLarsIC)
@lower.register(LinearRegression)
@lower.register(LinearSVR)
@lower.register(OrthogonalMatchingPursuit)
@lower.register(OrthogonalMatchingPursuitCV)
@lower.register(QuantileRegressor)
@lower.register(Ridge)
@lower.register(RidgeCV)
@lower.register(SGDRegressor)
@lower.register(TheilSenRegressor)
def _(model: Any, g: Graph, x: Node) -> Node:
    return linear(model, x)


# Discriminants ------------------------------------------------------------------------------------


@lower.register
def _(model: LinearDiscriminantAnalysis, g: Graph, x: Node) -> Node:
    g.link = "expit" if len(model.coef_) == 1 else "softmax"
    return linear(model, x)


@transform.register
def _(model: LinearDiscriminantAnalysis, g: Graph, x: Node) -> Node:
    if model.solver == "lsqr":
        raise TypeError("LinearDiscriminantAnalysis with solver='lsqr' transforms nothing.")
    centred = x - model.xbar_ if model.solver == "svd" else x
    projected: Node = centred @ model.scalings_[:, : model._max_components]
    return projected


@lower.register
def _(model: QuadraticDiscriminantAnalysis, g: Graph, x: Node) -> Node:
    """score_k = log prior_k - ½ Σ log s_ki - ½ ‖S_k^-½ R_k' (x - mean_k)‖²."""
    g.link = "expit" if len(model.classes_) == 2 else "softmax"
    distances, logarithms = [], []
    for mean, rotation, scaling in zip(
        model.means_, model.rotations_, model.scalings_, strict=True
    ):
        distances.append(length_squared((x - mean) @ (rotation / np.sqrt(scaling))))
        logarithms.append(np.log(scaling).sum())
    bias = np.log(model.priors_) - 0.5 * np.array(logarithms)
    if len(model.classes_) == 2:
        return Affine(joined(distances), np.array([[0.5, -0.5]]), bias[1] - bias[0])
    scores: Node = joined(distances) * -0.5 + bias
    return scores


def length_squared(x: Node) -> Node:
    """Return ‖x‖²."""
    return SquaredDistance(x, np.zeros((1, x.size)))
