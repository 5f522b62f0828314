"""What is done to rows and targets before training: weights, groups, standardisation, noise."""

import numpy as np
from scipy.linalg import eigh

from ..base import _check_sample_weight
from .clustering import group_sums


def present(X, y, sample_weight):
    """Rows of positive weight and their weights."""
    weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
    if weights.all():
        return X, y, weights
    kept = weights > 0
    return X[kept], y[kept], weights[kept]


def one_hot(codes, n_classes):
    """1 for the class and 0 for the others; of two classes one column of -1 and 1."""
    if n_classes == 2:
        return 2.0 * codes[:, None] - 1
    return np.eye(n_classes)[codes]


def slices(y, weights, n_slices=10):
    """Group the values by weighted quantiles, as sliced inverse regression does (Li, 1991)."""
    inner = np.arange(1, n_slices) / n_slices
    order = np.argsort(y)
    below = np.cumsum(weights[order])
    edges = y[order][np.searchsorted(below, inner * below[-1])]
    return np.unique(np.searchsorted(edges, y), return_inverse=True)[1]


def held_out(groups, rng):
    """Mask of a fifth of the rows, drawn at random so that every group has about its share."""
    order = np.lexsort((rng.permutation(len(groups)), groups))
    mask = np.zeros(len(groups), dtype=bool)
    mask[order[::5]] = True
    return mask


def standardisation(X, weights):
    """Mean and scale of each column; the scale of a constant column is infinite.

    No two values may end up more than 20 scales apart: a column that is nearly constant would
    otherwise turn its few other values into outliers.
    """
    size = np.abs(X).max(axis=0).astype(np.float64)
    size = np.where(size > 0, size, 1.0)  # squares of what is divided by it cannot overflow
    X = X / size
    mean = np.average(X, axis=0, weights=weights)
    deviation = np.sqrt(np.average((X - mean) ** 2, axis=0, weights=weights))
    scale = np.maximum(deviation, np.ptp(X, axis=0) / 20)
    return mean * size, np.where(scale > 1e-12 * np.abs(mean), scale, np.inf) * size


def supervised_projection(X, weights, groups, n_components):
    """Linear discriminants of the groups, followed by directions of large variance."""
    total = (X * weights[:, None]).T @ X
    sums, mass = group_sums(X, weights, groups, groups.max() + 1)
    between = (sums / mass[:, None]).T @ sums
    within = total - between
    n_features = X.shape[1]
    within[np.diag_indices(n_features)] += 0.1 * np.trace(total) / n_features + 1e-6
    chosen = (n_features - n_components, n_features - 1)
    # a little of the total variance orders the directions in which the groups do not differ
    vectors = eigh(between + 1e-3 * total, within, subset_by_index=chosen)[1]
    return vectors.T[::-1] * np.sqrt(weights.sum())


class Jitter:
    """Adds Gaussian noise to a batch, from a stock of draws entered at a random place."""

    def __init__(self, scale, largest, rng):
        self.rng = rng
        self.stock = np.float32(scale) * rng.standard_normal(8 * largest, dtype=np.float32)

    def __call__(self, X):
        start = self.rng.integers(self.stock.size - X.size)
        X += self.stock[start : start + X.size].reshape(X.shape)
