"""Lowerings of scikit-learn's pipelines, transformers and linear models, a few lines each."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.feature_selection import SelectorMixin
from sklearn.linear_model import (
    ElasticNet,
    Lasso,
    LinearRegression,
    LogisticRegression,
    Ridge,
    RidgeClassifier,
    SGDClassifier,
)
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from sklearn.svm import LinearSVC

from tinyml.codegen.graph import Affine, Graph, Node
from tinyml.codegen.lower import lower


@lower.register
def _(model: Pipeline, g: Graph, x: Node) -> Node:
    for _name, step in model.steps:
        if step is not None and step != "passthrough":
            x = lower(step, g, x)
    return x


# Features -----------------------------------------------------------------------------------------


@lower.register
def _(model: StandardScaler, g: Graph, x: Node) -> Node:
    if model.with_mean:
        x = x - model.mean_
    return x / model.scale_ if model.with_std else x


@lower.register
def _(model: RobustScaler, g: Graph, x: Node) -> Node:
    if model.with_centering:
        x = x - model.center_
    return x / model.scale_ if model.with_scaling else x


@lower.register
def _(model: MinMaxScaler, g: Graph, x: Node) -> Node:
    x = x * model.scale_ + model.min_
    return x.clip(*model.feature_range) if model.clip else x


@lower.register
def _(model: MaxAbsScaler, g: Graph, x: Node) -> Node:
    x = x / model.scale_
    return x.clip(-1.0, 1.0) if getattr(model, "clip", False) else x


@lower.register
def _(model: PCA, g: Graph, x: Node) -> Node:
    y: Node = Affine(x - model.mean_, model.components_.astype(np.float64))
    if model.whiten:
        deviation = np.sqrt(model.explained_variance_)
        y = y / np.maximum(deviation, np.finfo(deviation.dtype).eps)
    return y


@lower.register
def _(model: SelectorMixin, g: Graph, x: Node) -> Node:
    return x[model.get_support()]


# Linear models ------------------------------------------------------------------------------------


def _linear(model: Any, x: Node) -> Affine:
    weights = np.atleast_2d(model.coef_).astype(np.float64)
    return Affine(x, weights, model.intercept_)


@lower.register(LinearSVC)
@lower.register(RidgeClassifier)
def _(model: Any, g: Graph, x: Node) -> Node:
    if np.ndim(getattr(model, "classes_", [])) != 1 or isinstance(model.classes_, list):
        raise TypeError(f"{type(model).__name__} fitted on several targets cannot be compiled.")
    return _linear(model, x)


@lower.register
def _(model: LogisticRegression, g: Graph, x: Node) -> Node:
    g.link = "expit" if len(model.coef_) == 1 else "softmax"
    return _linear(model, x)


@lower.register
def _(model: SGDClassifier, g: Graph, x: Node) -> Node:
    g.link = "expit" if model.loss == "log_loss" else None
    return _linear(model, x)


@lower.register(LinearRegression)
@lower.register(Ridge)
@lower.register(Lasso)
@lower.register(ElasticNet)
def _(model: Any, g: Graph, x: Node) -> Node:
    return _linear(model, x)
