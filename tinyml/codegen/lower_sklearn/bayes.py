"""Lowerings of scikit-learn's naive Bayes classifiers."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.naive_bayes import BernoulliNB, ComplementNB, GaussianNB, MultinomialNB

from tinyml.codegen.graph import Above, Affine, Floats, Graph, Node, ScaledDistance
from tinyml.codegen.lower import lower


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
    """score_k = log prior_k - Σ_j log(2π var_kj) / 2 - Σ_j (x_j - mean_kj)² / (2 var_kj)."""
    g.link = "softmax"
    tells = np.ptp(model.theta_, axis=0) + np.ptp(model.var_, axis=0) > 0
    if not tells.any():  # one class, or classes that are alike
        return Affine(x, np.zeros((len(model.theta_), x.size)), np.log(model.class_prior_))
    mean, variance = model.theta_[:, tells], model.var_[:, tells]
    bias = np.log(model.class_prior_) - 0.5 * np.log(2 * np.pi * variance).sum(axis=1)
    scores: Node = ScaledDistance(x[tells], mean, np.sqrt(0.5 / variance)) * -1.0 + bias
    return scores
