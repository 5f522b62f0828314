"""Fitted model → graph: `lower` records what a model computes, without a word of integers."""

from __future__ import annotations

from difflib import get_close_matches
from functools import singledispatch
from importlib import import_module
from typing import Any

import numpy as np
from sklearn.base import is_classifier, is_outlier_detector, is_regressor
from sklearn.pipeline import Pipeline

from tinyml.codegen.graph import Graph, Node

OPTIONAL = {
    "LGBMClassifier": "lightgbm",
    "LGBMRegressor": "lightgbm",
    "XGBClassifier": "xgboost",
    "XGBRegressor": "xgboost",
}
"""Classes of packages that are not imported for them; by name, because they may not be there."""


@singledispatch
def lower(model: Any, g: Graph, x: Node) -> Node:
    """Record in `g` what a fitted model computes from the node `x`; return the node of its result.

    Register a function for your estimator's class; subclasses are found by their parents.

    Parameters
    ----------
    model : estimator
    g : Graph
        Its `link` is set by models whose scores give probabilities.
    x : Node
        What the model reads.

    Returns
    -------
    y : Node
        A transformer's features or a predictor's scores.
    """
    package = _optional_package(model)
    if package is None:
        name, known = type(model).__name__, supported()
        alike = ", ".join(get_close_matches(name, known, n=5, cutoff=0.0))
        raise TypeError(
            f"{name} cannot be compiled; of the {len(known)} classes that can, which "
            f"docs/supported_models.md lists, {alike} have the names most like it."
        )
    import_module(f"tinyml.codegen.lower_{package}")  # registers what `lower` then finds
    return lower(model, g, x)


@singledispatch
def transform(model: Any, g: Graph, x: Node) -> Node:
    """Record what a model that is not the last step makes of `x`.

    That is what `lower` records, but for models that predict as well; those register here.
    """
    if hasattr(model, "predict") and type(model).__name__ in supported():
        raise TypeError(
            f"{type(model).__name__} can be compiled as the last step only; it is a step that "
            "transforms here."
        )
    return lower(model, g, x)


def _optional_package(model: Any) -> str | None:
    """Return the package of a model whose lowering is not registered yet."""
    for cls in type(model).__mro__:
        package = OPTIONAL.get(cls.__name__)
        if package is not None and cls.__module__.split(".")[0] == package:
            return package
    return None


def supported() -> list[str]:
    """Return the names of the classes that can be compiled."""
    registered = {cls.__name__ for cls in lower.registry if cls is not object}
    return sorted(registered | set(OPTIONAL))


def lowered(model: Any, n_features: int) -> Graph:
    """Return the float graph of a fitted predictor."""
    import tinyml.codegen.lower_sklearn
    import tinyml.codegen.lower_trees  # noqa: F401  importing both registers their lowerings

    final = final_step(model)
    if not hasattr(final, "predict"):
        raise TypeError(
            "compile needs a model that ends in a predictor, such as a classifier. Got "
            f"{type(final).__name__} at the end instead."
        )
    graph = Graph(n_features)
    graph.scores = lower(model, graph, graph.input)
    return graph


def labels(model: Any) -> Any:
    """Return what a fitted predictor decides between, in the order of its scores; else None."""
    final = final_step(model)
    if is_outlier_detector(final):
        return np.array([-1, 1])
    if is_classifier(final):
        return final.classes_
    if is_regressor(final):
        return None
    return np.arange(len(final.means_ if hasattr(final, "means_") else final.cluster_centers_))


def final_step(model: Any) -> Any:
    """Return what a pipeline, nested or not, ends in."""
    while isinstance(model, Pipeline):
        model = model.steps[-1][1]
    return model


def describe(model: Any) -> str:
    """Return the class names of a model, the steps of a pipeline joined by arrows."""
    if isinstance(model, Pipeline):
        steps = [s for _, s in model.steps if s is not None and s != "passthrough"]
        return " -> ".join(describe(s) for s in steps)
    return type(model).__name__
