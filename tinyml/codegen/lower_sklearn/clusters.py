"""Lowerings of scikit-learn's clusters, centroids and mixtures."""

from __future__ import annotations

import numpy as np
from scipy.special import digamma
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn.neighbors import NearestCentroid

from tinyml.codegen.graph import (
    Affine,
    Floats,
    Graph,
    Node,
    ScaledDistance,
    SquaredDistance,
    joined,
)
from tinyml.codegen.lower import lower
from tinyml.codegen.lower_sklearn.linear import length_squared


def nearness(x: Node, points: Floats, bias: Floats | float = 0.0) -> Affine:
    """Return ``bias_k - ‖x - p_k‖²`` without the part that all have in common."""
    points = np.asarray(points, dtype=np.float64)
    middle = points.mean(axis=0)
    points = points - middle
    return Affine(x - middle, 2.0 * points, bias - (points**2).sum(axis=1))


@lower.register(KMeans)
@lower.register(MiniBatchKMeans)
def _(model: KMeans | MiniBatchKMeans, g: Graph, x: Node) -> Node:
    return nearness(x, model.cluster_centers_)


@lower.register
def _(model: NearestCentroid, g: Graph, x: Node) -> Node:
    if model.metric != "euclidean":
        raise TypeError(
            f"NearestCentroid with metric={model.metric!r} cannot be compiled; the metric must be "
            "'euclidean'."
        )
    if np.isclose(model.class_prior_, 1 / len(model.classes_)).all():
        return _two_as_one(nearness(x, model.centroids_))
    deviation = np.where(model.within_class_std_dev_ != 0, model.within_class_std_dev_, 1.0)
    bias = 2.0 * np.log(model.class_prior_)
    return _two_as_one(nearness(x / deviation, model.centroids_ / deviation, bias))


def _two_as_one(scores: Affine) -> Affine:
    """Let one score decide between two classes."""
    if scores.size != 2:
        return scores
    weights, bias = np.diff(scores.weights, axis=0), np.diff(scores.bias)
    return Affine(scores.x, weights, bias)


@lower.register(GaussianMixture)
@lower.register(BayesianGaussianMixture)
def _(model: GaussianMixture | BayesianGaussianMixture, g: Graph, x: Node) -> Node:
    """score_k = log weight_k + log density_k(x), without what all components have in common."""
    g.link = "softmax"
    means, factors = model.means_, model.precisions_cholesky_
    bias = model._estimate_log_weights() + _log_determinants(model, x.size)
    if isinstance(model, BayesianGaussianMixture):
        bias = bias + _log_expectations(model, x.size)
    if model.covariance_type == "tied":
        return nearness(x @ factors, means @ factors, 2.0 * bias) * 0.5
    pairs, factor = zip(means, factors, strict=True), -0.5
    distances: Node = SquaredDistance(x, means)
    if model.covariance_type == "spherical":
        factor = -0.5 * factors**2
    elif model.covariance_type == "diag":
        distances = ScaledDistance(x, means, factors)
    else:
        distances = joined([length_squared((x - m) @ f) for m, f in pairs])
    scores: Node = distances * factor + bias
    return scores


def _log_expectations(model: BayesianGaussianMixture, n: int) -> Floats:
    """Return what the uncertainty of precisions and means adds to the log density."""
    freedom = model.degrees_of_freedom_
    digammas = digamma(0.5 * (freedom - np.arange(n)[:, None])).sum(axis=0)
    spread = n * np.log(2.0) + digammas - n / model.mean_precision_
    return np.asarray(0.5 * spread - 0.5 * n * np.log(freedom))


def _log_determinants(model: GaussianMixture | BayesianGaussianMixture, n: int) -> Floats:
    """Return half the logarithm of the determinant of each precision, 0 where all share one."""
    factors, kind = model.precisions_cholesky_, model.covariance_type
    if kind == "tied":
        return np.zeros(len(model.means_))
    if kind == "spherical":
        return np.asarray(n * np.log(factors))
    diagonals = factors if kind == "diag" else np.diagonal(factors, axis1=1, axis2=2)
    return np.asarray(np.log(diagonals).sum(axis=1))
