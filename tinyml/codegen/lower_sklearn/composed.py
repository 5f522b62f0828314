"""Lowerings of scikit-learn's models that are made of other models."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import Any

import numpy as np
from scipy.special import expit
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import VotingClassifier, VotingRegressor
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC, NuSVC

from tinyml.codegen.graph import (
    Affine,
    BelowLargest,
    Decay,
    Floats,
    Function,
    Graph,
    Node,
    Normalized,
    Winner,
    joined,
)
from tinyml.codegen.lower import lower, transform
from tinyml.codegen.lower_sklearn.vectors import confident_votes, pairs_of


def part(model: Any, g: Graph, x: Node) -> tuple[Node, str | None]:
    """Lower a model inside another one: return its scores and how probabilities follow."""
    outer, g.link = g.link, None
    scores = lower(model, g, x)
    link, g.link = g.link, outer
    return scores, link


def shares(model: Any, g: Graph, x: Node) -> Node:
    """Return the probabilities of all classes of a model inside another one."""
    scores, link = part(model, g, x)
    if link is None:
        raise TypeError(
            f"{type(model).__name__} gives no probabilities that could be compiled inside of "
            "another model."
        )
    if link == "softmax" and scores.size == 2:
        scores, link = Affine(scores, np.array([[-1.0, 1.0]])), "expit"
    if link == "softmax":
        return Normalized(Decay(BelowLargest(scores), 1.0))
    if link == "expit" and scores.size == 1:
        return Affine(Function(scores, expit), np.array([[-1.0], [1.0]]), np.array([1.0, 0.0]))
    return Normalized(Function(scores, expit) if link == "expit" else scores)


def decision(model: Any, g: Graph, x: Node) -> Node:
    """Return the decision function of a model inside another one, else its probabilities.

    Of two classes it is one number, of the second.
    """
    while isinstance(model, Pipeline):
        x = transform(Pipeline(model.steps[:-1]), g, x) if len(model.steps) > 1 else x
        model = model.steps[-1][1]
    if isinstance(model, SVC | NuSVC) and len(model.classes_) > 2:
        return confident_votes(pairs_of(model, x), len(model.classes_))
    if hasattr(model, "decision_function"):
        scores, _ = part(model, g, x)
        return scores if scores.size != 2 else Affine(scores, np.array([[-1.0, 1.0]]))
    p = shares(model, g, x)
    return p[[1]] if p.size == 2 else p


def mean(parts: Sequence[Node], weights: Any = None) -> Node:
    """Return the weighted mean of nodes."""
    share = np.full(len(parts), 1.0) if weights is None else np.asarray(weights, dtype=np.float64)
    share = share / share.sum()
    total: Node = reduce(add, (node * s for node, s in zip(parts, share, strict=True)))
    return total


# Votes --------------------------------------------------------------------------------------------


@lower.register
def _(model: VotingClassifier, g: Graph, x: Node) -> Node:
    if model.voting == "hard":
        parts: list[Node] = [Winner(part(member, g, x)[0]) for member in model.estimators_]
        return mean(parts, model._weights_not_none)
    g.link = "normalize"
    return mean([shares(member, g, x) for member in model.estimators_], model._weights_not_none)


@lower.register
def _(model: VotingRegressor, g: Graph, x: Node) -> Node:
    parts = [lower(member, g, x) for member in model.estimators_]
    return mean(parts, model._weights_not_none)


# Binary models for several classes ----------------------------------------------------------------


@lower.register
def _(model: OneVsRestClassifier, g: Graph, x: Node) -> Node:
    if model.multilabel_:
        raise TypeError("OneVsRestClassifier fitted on several labels cannot be compiled.")
    scores = joined([decision(member, g, x) for member in model.estimators_])
    if len(model.estimators_) == 1 and not hasattr(model.estimators_[0], "decision_function"):
        return scores - 0.5
    return scores


@lower.register
def _(model: OneVsOneClassifier, g: Graph, x: Node) -> Node:
    columns = model.pairwise_indices_ or [slice(None)] * len(model.estimators_)
    members = zip(model.estimators_, columns, strict=True)
    pairs = joined([_above_zero(member, decision(member, g, x[c])) for member, c in members])
    return pairs if pairs.size == 1 else confident_votes(pairs * -1.0, len(model.classes_))


def _above_zero(model: Any, decision: Node) -> Node:
    """Count probabilities from one half on."""
    return decision if hasattr(model, "decision_function") else decision - 0.5


@lower.register
def _(model: MultiOutputRegressor, g: Graph, x: Node) -> Node:
    return joined([lower(member, g, x) for member in model.estimators_])


# Calibration --------------------------------------------------------------------------------------


@lower.register
def _(model: CalibratedClassifierCV, g: Graph, x: Node) -> Node:
    g.link = "normalize"
    members, n_classes = model.calibrated_classifiers_, len(model.classes_)
    if members[0].method not in ("sigmoid", "isotonic"):
        raise TypeError(
            f"CalibratedClassifierCV with method={members[0].method!r} cannot be compiled; the "
            "method must be 'sigmoid' or 'isotonic'."
        )
    if n_classes == 2:
        p = mean([_calibrated(member, g, x) for member in members])
        return Affine(p, np.array([[-1.0], [1.0]]), np.array([1.0, 0.0]))
    if len(members) == 1:
        return _calibrated(members[0], g, x)
    return mean([Normalized(_calibrated(member, g, x)) for member in members])


def _calibrated(member: Any, g: Graph, x: Node) -> Node:
    """Return the calibrated probability of each class, of two of the second."""
    scores = decision(member.estimator, g, x)
    if member.method == "sigmoid":
        slopes, offsets = (
            np.array([getattr(c, key) for c in member.calibrators]) for key in ("a_", "b_")
        )
        return Function(scores * -slopes - offsets, expit)
    columns = enumerate(member.calibrators)
    return joined([Function(scores[[k]], _curve(calibrator)) for k, calibrator in columns])


def _curve(calibrator: Any) -> Any:
    def curve(x: Floats) -> Floats:
        return np.asarray(calibrator.predict(x.ravel())).reshape(x.shape)

    return curve
