"""Lowerings of scikit-learn's own models, a few lines each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
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
from sklearn.tree import (
    DecisionTreeClassifier,
    DecisionTreeRegressor,
)

from tinyml.codegen.graph import Affine, Forest, Graph, Node, Tree
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


# Trees --------------------------------------------------------------------------------------------


def _tree(estimator: Any, scale: float = 1.0) -> Tree:
    """Copy scikit-learn's arrays; `value` holds the classes of one target, or several targets."""
    t = estimator.tree_
    if not np.isfinite(t.threshold).all():
        raise TypeError(f"{type(estimator).__name__} fitted on missing values cannot be compiled.")
    value = t.value[:, 0, :] if t.value.shape[1] == 1 else t.value[:, :, 0]
    return Tree(
        left=t.children_left,
        right=t.children_right,
        feature=t.feature,
        threshold=t.threshold,
        value=value * scale,
    )


def _classifier_tree(estimator: Any) -> Tree:
    tree = _tree(estimator)
    return Tree(tree.left, tree.right, tree.feature, tree.threshold, _shares(tree.value))


def _shares(value: Any) -> Any:
    return value / value.sum(axis=1, keepdims=True)


def _one_target(model: Any) -> None:
    if model.n_outputs_ != 1:
        raise TypeError(f"{type(model).__name__} fitted on several targets cannot be compiled.")


@lower.register
def _(model: DecisionTreeClassifier, g: Graph, x: Node) -> Node:
    _one_target(model)
    g.link = "normalize"
    return Forest(x, (_classifier_tree(model),))


@lower.register(RandomForestClassifier)
@lower.register(ExtraTreesClassifier)
def _(model: Any, g: Graph, x: Node) -> Node:
    _one_target(model)
    g.link = "normalize"
    return Forest(x, tuple(_classifier_tree(tree) for tree in model.estimators_))


@lower.register
def _(model: DecisionTreeRegressor, g: Graph, x: Node) -> Node:
    return _sum_of_trees(x, [_tree(model)])


@lower.register(RandomForestRegressor)
@lower.register(ExtraTreesRegressor)
def _(model: Any, g: Graph, x: Node) -> Node:
    scale = 1.0 / len(model.estimators_)
    return _sum_of_trees(x, [_tree(tree, scale) for tree in model.estimators_])


def _sum_of_trees(x: Node, trees: list[Tree]) -> Forest:
    """Count leaves from the middle of their tree, so that their width is spent on their spread."""
    middles = [(tree.value.max(axis=0) + tree.value.min(axis=0)) / 2 for tree in trees]
    centred = zip(trees, middles, strict=True)
    return Forest(
        x, tuple(replace(tree, value=tree.value - m) for tree, m in centred), sum(middles)
    )
