"""Lowerings of scikit-learn's transformers of features."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_selection import SelectorMixin
from sklearn.impute import SimpleImputer
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    RobustScaler,
    StandardScaler,
)

from tinyml.codegen.graph import Above, Affine, Filled, Floats, Graph, Node, joined
from tinyml.codegen.lower import lower, transform


@lower.register
def _(model: Pipeline, g: Graph, x: Node) -> Node:
    *first, (_, last) = model.steps
    for _name, step in first:
        x = _passed(step, g, x)
    return x if last in (None, "passthrough") else lower(last, g, x)


@transform.register
def _(model: Pipeline, g: Graph, x: Node) -> Node:
    for _name, step in model.steps:
        x = _passed(step, g, x)
    return x


def _passed(step: Any, g: Graph, x: Node) -> Node:
    return x if step is None or isinstance(step, str) else transform(step, g, x)


@lower.register
def _(model: FunctionTransformer, g: Graph, x: Node) -> Node:
    if model.func is not None:
        raise TypeError(
            "FunctionTransformer can be compiled only where it passes on what it reads."
        )
    return x


# Scales -------------------------------------------------------------------------------------------


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


# Choices and mixtures of columns ------------------------------------------------------------------


@lower.register
def _(model: PCA, g: Graph, x: Node) -> Node:
    y: Node = Affine(x - model.mean_, model.components_.astype(np.float64))
    if model.whiten:
        deviation = np.sqrt(model.explained_variance_)
        y = y / np.maximum(deviation, np.finfo(deviation.dtype).eps)
    return y


@lower.register
def _(model: TruncatedSVD, g: Graph, x: Node) -> Node:
    return Affine(x, model.components_.astype(np.float64))


@lower.register
def _(model: SelectorMixin, g: Graph, x: Node) -> Node:
    return x[model.get_support()]


@lower.register
def _(model: ColumnTransformer, g: Graph, x: Node) -> Node:
    parts = []
    for name, step, _columns in model.transformers_:
        columns = np.arange(x.size)[model._transformer_to_input_indices[name]]
        if len(columns) and not (isinstance(step, str) and step == "drop"):
            parts.append(_passed(step, g, x[columns]))
    return joined(parts)


@lower.register
def _(model: FeatureUnion, g: Graph, x: Node) -> Node:
    weights = model.transformer_weights or {}
    steps = [(name, step) for name, step in model.transformer_list if step != "drop"]
    parts = ((name, _passed(step, g, x)) for name, step in steps)
    return joined([part * weights[name] if name in weights else part for name, part in parts])


@lower.register
def _(model: PolynomialFeatures, g: Graph, x: Node) -> Node:
    """Products of two columns, columns, and the constant 1, in scikit-learn's order."""
    degree = model.powers_.sum(axis=1)
    if degree.max(initial=0) > 2:
        raise TypeError("PolynomialFeatures of a degree above 2 cannot be compiled.")
    factors = [np.repeat(np.arange(x.size), powers) for powers in model.powers_]
    first, second = (
        np.array([f[k] for f in factors if len(f) == 2], dtype=np.intp) for k in (0, 1)
    )
    parts = {0: x[[0]] * 0.0 + 1.0, 1: x[[f[0] for f in factors if len(f) == 1]]}
    parts[2] = x[first] * x[second]
    present = [d for d in (0, 1, 2) if np.any(degree == d)]
    order = np.argsort(np.argsort(degree, kind="stable"))
    return joined([parts[d] for d in present])[order]


# Codes --------------------------------------------------------------------------------------------


def counted(x: Node, thresholds: list[Floats], weights: list[Floats], start: Floats) -> Node:
    """Return steps: outputs begin at `start` and change where a column passes a threshold.

    Parameters
    ----------
    x : Node
    thresholds : list of ndarray of shape (n_thresholds,)
        Of each column.
    weights : list of ndarray of shape (n_outputs of the column, n_thresholds)
        By how much outputs change.
    start : ndarray of shape (n_outputs,)
    """
    columns = np.repeat(np.arange(len(thresholds)), [len(t) for t in thresholds])
    if not len(columns):  # nothing to tell apart
        return Affine(x, np.zeros((len(start), x.size)), start)
    matrix = np.zeros((len(start), len(columns)))
    row = column = 0
    for w in weights:
        matrix[row : row + w.shape[0], column : column + w.shape[1]] = w
        row, column = row + w.shape[0], column + w.shape[1]
    return Affine(Above(x[columns], np.concatenate(thresholds)), matrix, start)


@lower.register
def _(model: Binarizer, g: Graph, x: Node) -> Node:
    return Above(x, np.full(x.size, float(model.threshold)))


@lower.register
def _(model: KBinsDiscretizer, g: Graph, x: Node) -> Node:
    edges = [np.nextafter(e[1:-1].astype(np.float64), -np.inf) for e in model.bin_edges_]
    if model.encode == "ordinal":
        return counted(x, edges, [np.ones((1, len(e))) for e in edges], np.zeros(x.size))
    steps = [_one_hot_steps(len(e)) for e in edges]
    start = np.concatenate([np.eye(len(e) + 1)[0] for e in edges])
    return counted(x, edges, steps, start)


def _one_hot_steps(n: int) -> Floats:
    """Return how indicators of n + 1 intervals change at the n places between them."""
    return np.eye(n + 1)[:, 1:] - np.eye(n + 1)[:, :-1]


@lower.register
def _(model: OneHotEncoder, g: Graph, x: Node) -> Node:
    categories = _numbers(model)
    if model.min_frequency is not None or model.max_categories is not None:
        raise TypeError("OneHotEncoder that joins infrequent categories cannot be compiled.")
    dropped = [None] * x.size if model.drop_idx_ is None else model.drop_idx_
    kept = [
        np.delete(np.arange(len(c)), [] if d is None else [d])
        for c, d in zip(categories, dropped, strict=True)
    ]
    steps = [_equality_steps(len(c))[k] for c, k in zip(categories, kept, strict=True)]
    return counted(x, _around(categories), steps, np.zeros(sum(map(len, kept))))


@lower.register
def _(model: OrdinalEncoder, g: Graph, x: Node) -> Node:
    categories = _numbers(model)
    if model.min_frequency is not None or model.max_categories is not None:
        raise TypeError("OrdinalEncoder that joins infrequent categories cannot be compiled.")
    if model.handle_unknown == "error":
        middles = [(c[1:] + c[:-1]) / 2 for c in categories]
        return counted(x, middles, [np.ones((1, len(m))) for m in middles], np.zeros(x.size))
    unknown = float(model.unknown_value)
    if np.isnan(unknown):
        raise TypeError("OrdinalEncoder that turns what is unknown into NaN cannot be compiled.")
    steps = [(np.arange(len(c)) - unknown) @ _equality_steps(len(c)) for c in categories]
    return counted(x, _around(categories), [s[None] for s in steps], np.full(x.size, unknown))


def _numbers(model: Any) -> list[Floats]:
    """Return the categories of each column, which have to be numbers."""
    try:
        categories = [np.asarray(c, dtype=np.float64) for c in model.categories_]
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{type(model).__name__} of categories that are no numbers cannot be compiled; give "
            "each category an integer."
        ) from error
    if any(np.isnan(c).any() for c in categories):
        raise TypeError(f"{type(model).__name__} with NaN as a category cannot be compiled.")
    return categories


def _around(categories: list[Floats]) -> list[Floats]:
    """Return the thresholds right below and at each category: it is what lies between."""
    return [np.column_stack([np.nextafter(c, -np.inf), c]).ravel() for c in categories]


def _equality_steps(n: int) -> Floats:
    return np.kron(np.eye(n), [[1.0, -1.0]])


@lower.register
def _(model: SimpleImputer, g: Graph, x: Node) -> Node:
    if model.add_indicator:
        raise TypeError("SimpleImputer with add_indicator=True cannot be compiled.")
    known = ~np.isnan(np.asarray(model.statistics_, dtype=np.float64))
    missing = float(model.missing_values)
    return Filled(x[known], np.asarray(model.statistics_, dtype=np.float64)[known], missing)
