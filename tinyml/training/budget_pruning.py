"""Pruning a forest under a price on the features that a row asks for (BudgetPrune).

The primal: choose a subtree of every tree to minimise

    Σ_t error_t + price · splits + Σ_i w_i Σ_f c_f · [row i meets feature f in any tree].

A feature that one tree has asked for is free for the others. The linear programme over "node v is
a leaf", "row i meets f in tree t" and "row i meets f" has whole-numbered corners. Its coupling is
dualised: each (tree, feature, row) pays a share β_tfi ≥ 0 of the cost, with Σ_t β_tfi = w_i c_f;
then the trees fall apart, and each is solved exactly from its leaves up. A step along the
subgradient raises the shares of the trees that use the feature.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

_GAP = 1e-6  # between solution and bound, at which both are good enough


class Solution(NamedTuple):
    """The leaves of every tree, what they cost, the bound, and the tolls that they were found with.

    The toll of a split is the sum of the shares of the rows that meet its feature there first.
    """

    is_leaf: np.ndarray
    primal: float
    dual: float
    toll: np.ndarray


class BudgetPruning:
    """A forest, its errors, and rows whose features cost something.

    Parameters
    ----------
    trees : Trees
    X : ndarray of shape (n_samples, n_features)
    weight : ndarray of shape (n_samples,)
        Of the rows.
    error : ndarray of shape (n_nodes,)
        Error of every node as a leaf.
    costs : ndarray of shape (n_features,)
        What it costs that a row of weight 1, of a total of 1, asks for a feature.
    """

    def __init__(self, trees, X, weight, error, costs):
        self.trees = trees
        self.error = error
        X = np.ascontiguousarray(X, dtype=trees.precision)
        self._walks = X, trees.left, trees.right, trees.feature, trees.threshold, trees.root
        self._shape = trees.left, trees.right, trees.root
        self.cost = (weight / weight.sum())[:, None] * costs[None, :]
        self._may_use = self._used(trees.is_leaf)
        self._n_users = np.maximum(self._may_use.sum(axis=0), 1)
        self._share = np.where(self._may_use, self.cost / self._n_users, 0.0)

    def solve(self, price, n_steps=60):
        """Choose the leaves of every tree, beginning from the shares found last.

        Parameters
        ----------
        price : float
            Of one split.
        n_steps : int, default=60
            Steps of the subgradient, at most.

        Returns
        -------
        solution : Solution
            The best that was found.
        """
        best, least, bound = None, np.inf, -np.inf
        for step in range(n_steps):
            toll = _first_meetings(*self._walks, self._share)
            is_leaf, dual = _cheapest(*self._shape, self.error, toll, price)
            used = self._used(is_leaf)
            primal = self._primal(is_leaf, used, price)
            bound = max(bound, dual)
            if primal < least:
                best, least = (is_leaf, toll), primal
            if least - bound <= _GAP * abs(least):
                break
            step_size = (least - dual) / (1 + step) ** 0.5
            self._share = _shifted(self._share, used, self._may_use, self.cost, step_size)
        return Solution(best[0], least, bound, best[1])

    def with_tolls(self, toll, price):
        """Choose the leaves of every tree for a price of splits, where tolls are given."""
        return _cheapest(*self._shape, self.error, toll, price)[0]

    def _used(self, is_leaf):
        """Whether each row meets each feature in each tree, shape (n_trees, n_rows, n_features)."""
        return _features_met(*self._walks, is_leaf)

    def _primal(self, is_leaf, used, price):
        """Return the objective of a pruned forest."""
        error, n_splits = _error_and_splits(*self._shape, is_leaf, self.error)
        return error + price * n_splits + self.cost[used.any(axis=0)].sum()


@njit(cache=True)
def _shifted(share, used, may_use, total, gap):
    """Raise the shares of trees that use a feature, lower the others', and keep their sums.

    What lies below the level that the sum asks for is dropped until nothing does (Michelot 1986).
    """
    n_trees, n_rows, n_features = share.shape
    mean = np.zeros((n_rows, n_features))
    size = 0.0  # of the direction, squared
    for i in range(n_rows):
        for f in range(n_features):
            n, n_used = 0, 0
            for t in range(n_trees):
                n += may_use[t, i, f]
                n_used += used[t, i, f]
            if n:
                mean[i, f] = n_used / n
                size += n_used - n_used * mean[i, f]
    if size <= 0:
        return share
    step = gap / size
    moved, left = np.zeros_like(share), np.empty(n_trees)
    for i in range(n_rows):
        for f in range(n_features):
            n, summed = 0, 0.0
            for t in range(n_trees):
                if may_use[t, i, f]:
                    moved[t, i, f] = share[t, i, f] + step * (used[t, i, f] - mean[i, f])
                    left[n] = moved[t, i, f]
                    summed += left[n]
                    n += 1
            level = 0.0
            while n > 0:
                level = (summed - total[i, f]) / n
                n_before, n, summed = n, 0, 0.0
                for k in range(n_before):
                    if left[k] > level:
                        left[n] = left[k]
                        summed += left[n]
                        n += 1
                if n == n_before:
                    break
            for t in range(n_trees):
                if may_use[t, i, f]:
                    moved[t, i, f] = max(moved[t, i, f] - level, 0.0)
    return moved


@njit(cache=True)
def _features_met(X, left, right, feature, threshold, root, is_leaf):
    met = np.zeros((len(root), len(X), X.shape[1]), dtype=np.bool_)
    for t in range(len(root)):
        for i in range(len(X)):
            node = root[t]
            while left[node] >= 0 and not is_leaf[node]:
                met[t, i, feature[node]] = True
                goes_left = X[i, feature[node]] <= threshold[node]
                node = left[node] if goes_left else right[node]
    return met


@njit(cache=True)
def _first_meetings(X, left, right, feature, threshold, root, share):
    """Sum, at every split, of the shares of the rows that meet its feature there first."""
    toll = np.zeros(len(left))
    last = np.full(X.shape[1], -1, dtype=np.int64)
    visit = 0
    for t in range(len(root)):
        for i in range(len(X)):
            visit += 1
            node = root[t]
            while left[node] >= 0:
                f = feature[node]
                if last[f] != visit:
                    last[f] = visit
                    toll[node] += share[t, i, f]
                node = left[node] if X[i, f] <= threshold[node] else right[node]
    return toll


@njit(cache=True)
def _cheapest(left, right, root, error, toll, price):
    """Solve every tree from its leaves up."""
    best = error.copy()
    is_leaf = np.ones(len(left), dtype=np.bool_)
    for v in range(len(left) - 1, -1, -1):
        if left[v] >= 0:
            split = best[left[v]] + best[right[v]] + toll[v] + price
            if split < best[v]:
                best[v] = split
                is_leaf[v] = False
    return is_leaf, best[root].sum()


@njit(cache=True)
def _error_and_splits(left, right, root, is_leaf, error):
    kept = np.zeros(len(left), dtype=np.bool_)
    total, n_splits = 0.0, 0
    for start in root:
        kept[start] = True
    for v in range(len(left)):  # parents come before their children
        if not kept[v]:
            continue
        if left[v] < 0 or is_leaf[v]:
            total += error[v]
        else:
            n_splits += 1
            kept[left[v]] = True
            kept[right[v]] = True
    return total, n_splits
