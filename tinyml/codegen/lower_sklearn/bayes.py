"""Lowerings of scikit-learn's naive Bayes classifiers."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.naive_bayes import BernoulliNB, ComplementNB, GaussianNB, MultinomialNB

from tinyml.codegen.graph import Above, Affine, Floats, Graph, Node
from tinyml.codegen.lower import lower

_FARTHEST = 16.0  # standard deviations; what is beyond says no more
_STILL = 1e-4  # of a feature's variance: in this class it does not vary


def compared(g: Graph, x: Node, weights: Floats, bias: Any) -> Affine:
    """Return linear scores without what all classes have in common; of two classes one score."""
    g.link = "softmax" if len(weights) > 2 else "expit"
    weights, bias = weights - weights.mean(axis=0), bias - np.mean(bias)
    if len(weights) != 2:
        return Affine(x, weights, bias)
    bias = np.broadcast_to(bias, (2,))
    return Affine(x, np.diff(weights, axis=0), np.diff(bias))


@lower.register
def _(model: BernoulliNB, g: Graph, x: Node) -> Node:
    if model.binarize is not None:
        x = Above(x, np.full(x.size, float(model.binarize)))
    absent = np.log1p(-np.exp(model.feature_log_prob_))
    bias = model.class_log_prior_ + absent.sum(axis=1)
    return compared(g, x, model.feature_log_prob_ - absent, bias)


@lower.register
def _(model: MultinomialNB, g: Graph, x: Node) -> Node:
    return compared(g, x, model.feature_log_prob_, model.class_log_prior_)


@lower.register
def _(model: ComplementNB, g: Graph, x: Node) -> Node:
    bias = model.class_log_prior_ if len(model.classes_) == 1 else 0.0
    return compared(g, x, model.feature_log_prob_, bias)


@lower.register
def _(model: GaussianNB, g: Graph, x: Node) -> Node:
    """score_k = c_k - Σ_j w_kj (z_j - m_kj)², with z the features on their own scale.

    A feature that does not vary in a class has a variance close to 0 there, and a weight beside
    which no integer could hold the others: it becomes one that still outweighs what these say.
    """
    g.link = "softmax"
    middle = model.class_prior_ @ model.theta_
    spread = model.class_prior_ @ (model.var_ + (model.theta_ - middle) ** 2)
    z = ((x - middle) / np.sqrt(spread)).clip(-_FARTHEST, _FARTHEST)
    mean, variance = (model.theta_ - middle) / np.sqrt(spread), model.var_ / spread
    still = variance < _STILL
    bias = np.log(model.class_prior_) - 0.5 * np.log(2 * np.pi * model.var_).sum(axis=1)
    square = z * z
    scores = _quadratic(z, square, np.where(still, 0.0, 0.5 / variance), mean, bias)
    if not still.any():
        return scores
    return scores + _quadratic(z, square, _outweighing(variance, mean, still), mean, 0.0)


def _quadratic(z: Node, square: Node, weight: Floats, mean: Floats, bias: Any) -> Node:
    """Return bias_k - Σ_j weight_kj (z_j - mean_kj)²."""
    constant = bias - (weight * mean**2).sum(axis=1)
    return Affine(square, -weight) + Affine(z, 2 * weight * mean, constant)


def _outweighing(variance: Floats, mean: Floats, still: Any) -> Floats:
    """Return weights by which a deviation of one exceeds what separates classes otherwise."""
    weight = np.where(still, 0.0, 0.5 / variance)
    between = weight[:, None] * (mean[None] - mean[:, None]) ** 2
    return np.where(still, float(between.sum(axis=2).max()), 0.0)
