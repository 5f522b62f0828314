"""Boosting: trees grown one after another on the gradient of what those before leave."""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, softmax

from .growing import grown_tree
from .trees import joined, preorder

_LONGEST_STEP = 2.0  # of a log-odd, in one tree


@dataclass(frozen=True)
class Plan:
    """How trees are grown.

    Parameters
    ----------
    n_splits, n_trees : int
        In all; each tree takes its share of what the ones before it left.
    max_leaves : int or None
        Of a tree.
    learning_rate : float
        Share of the Newton step that a leaf takes.
    min_rows : int
        Of a leaf.
    ridge : float
        Added to the curvature of a leaf.
    prices : (float, float)
        Of a new threshold and of a new feature, in the mean loss of a row.
    """

    n_splits: int
    n_trees: int
    max_leaves: int | None
    learning_rate: float
    min_rows: int
    ridge: float
    prices: tuple[float, float]


def expected(scores, loss):
    """Return what scores predict: values, or the probability of each class."""
    if loss == "squared":
        return scores
    return expit(scores) if loss == "logistic" else softmax(scores, axis=1)


def boosted(bins, target, weight, loss, offset, plan, rounds):
    """Grow trees.

    Parameters
    ----------
    bins : Bins
    target : ndarray of shape (n_samples, n_outputs)
        Values, or 1 for the class of the row and 0 for the others.
    weight : ndarray of shape (n_samples,)
    loss : {"squared", "logistic", "softmax"}
    offset : ndarray of shape (n_outputs,)
        The scores to begin from.
    plan : Plan
    rounds : callable
        Wraps the iterable of trees, to show progress.

    Returns
    -------
    trees : Trees
    scores : ndarray of shape (n_samples, n_outputs)
    least : float
        The gain of the last split of a tree, as a rule.
    """
    tests, features = np.zeros(bins.start[-1], bool), np.zeros(len(bins.start) - 1, bool)
    scores = np.tile(offset, (len(target), 1))
    prices = [price * weight.sum() for price in plan.prices]
    trees, least, left = [], [], plan.n_splits
    for t in rounds(range(plan.n_trees)):
        slope, curvature = _derivatives(scores, target, weight, loss)
        n_leaves = 1 + max(1, round(left / (plan.n_trees - t)))
        n_leaves = min(n_leaves, plan.max_leaves or n_leaves)
        parts = n_leaves, plan.min_rows, plan.ridge, tests, features, prices
        tree = grown_tree(bins, weight, slope, curvature, *parts)
        is_leaf = tree.left < 0
        if is_leaf[0] or left <= 0:
            break
        value = _steps(tree, slope, curvature, plan, loss, scores)
        left -= int((~is_leaf).sum())
        least.append(tree.gain[~is_leaf].min())
        threshold = bins.threshold[tree.bin]
        trees.append(preorder(tree.left, tree.right, tree.feature, threshold, value))
    if not trees:  # nothing is to be gained: a forest is one leaf at least
        return joined([_stump(target.shape[1])], np.float64), scores, 0.0
    return joined(trees, np.float64), scores, float(np.median(least)) / weight.sum()


def _stump(n_outputs):
    nowhere, nothing = np.full(1, -1), np.zeros(1)
    return nowhere, nowhere, nothing, nothing, np.zeros((1, n_outputs))


def _derivatives(scores, target, weight, loss):
    mean = expected(scores, loss)
    spread = np.ones_like(mean) if loss == "squared" else mean * (1.0 - mean)
    return weight[:, None] * (target - mean), weight[:, None] * spread


def _steps(tree, slope, curvature, plan, loss, scores):
    """Return the values of the leaves, and add them to the scores."""
    value = np.zeros((len(tree.left), slope.shape[1]))
    for leaf in np.flatnonzero(tree.left < 0):
        rows = tree.order[tree.begin[leaf] : tree.end[leaf]]
        step = slope[rows].sum(axis=0) / (curvature[rows].sum(axis=0) + plan.ridge)
        if loss != "squared":
            step = np.clip(step, -_LONGEST_STEP, _LONGEST_STEP)
        value[leaf] = plan.learning_rate * step
        scores[rows] += value[leaf]
    return value
