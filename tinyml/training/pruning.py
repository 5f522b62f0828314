"""Cost-complexity pruning of a whole forest: exact for every tree, one price for all of them."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numba import njit


@dataclass(frozen=True, eq=False)
class NodeErrors:
    """What the rows say of every node of a forest.

    `mean` is the mean target of the rows that reach it, shape (n_nodes, n_outputs); `error` is the
    squared error of the node as a leaf, a sum over rows that the mean does not come from, if any.
    """

    mean: np.ndarray
    error: np.ndarray


def node_errors(trees, X, target, weight, is_held=None):
    """Let every row say how well each node on its path would do as a leaf.

    Parameters
    ----------
    trees : Trees
    X : ndarray of shape (n_samples, n_features)
    target : ndarray of shape (n_samples, n_outputs) or None
        What each tree on its own is to predict; None for trees that add up to the scores: then
        it is what the tree predicts today, so that the error is what pruning would change.
    weight : ndarray of shape (n_samples,)
    is_held : ndarray of shape (n_samples, n_trees), bool, optional
        Rows that a tree was not grown on: these tell its errors, the others its means. Without
        it all rows do both.

    Returns
    -------
    NodeErrors
    """
    X = np.ascontiguousarray(X, dtype=trees.precision)
    arrays = trees.left, trees.right, trees.feature, trees.threshold, trees.root
    own = target is None
    if own:
        target = np.zeros((len(X), trees.value.shape[1]))
    if is_held is None:
        is_held = np.zeros((0, len(trees.root)), dtype=np.bool_)
    mean, error = _node_errors(
        X,
        *arrays,
        trees.value,
        np.ascontiguousarray(target, dtype=np.float64),
        own,
        weight,
        is_held,
    )
    return NodeErrors(mean, error / weight.sum())


@njit(cache=True)
def _node_errors(X, left, right, feature, threshold, root, value, target, own, weight, is_held):
    n_outputs = target.shape[1]
    total = np.zeros((len(left), n_outputs))
    squares = np.zeros(len(left))
    count = np.zeros(len(left))
    for t in range(len(root)):
        for i in range(len(X)):
            if len(is_held) and is_held[i, t]:
                continue
            node = root[t]
            y = value[_leaf(X[i], left, right, feature, threshold, node)] if own else target[i]
            square = 0.0
            for k in range(n_outputs):
                square += y[k] * y[k]
            while True:
                count[node] += weight[i]
                squares[node] += weight[i] * square
                for k in range(n_outputs):
                    total[node, k] += weight[i] * y[k]
                if left[node] < 0:
                    break
                goes_left = X[i, feature[node]] <= threshold[node]
                node = left[node] if goes_left else right[node]
    for node in range(len(left)):
        if count[node] > 0:
            for k in range(n_outputs):
                total[node, k] /= count[node]
                squares[node] -= count[node] * total[node, k] ** 2
    for node in range(len(left)):  # what no row reaches is as what is above it
        if left[node] >= 0:
            for child in (left[node], right[node]):
                if count[child] == 0:
                    total[child] = total[node]
    if len(is_held):
        squares[:] = 0.0
        _held_errors(
            X, left, right, feature, threshold, root, value, target, own, weight, is_held,
            total, squares,
        )  # fmt: skip
    return total, np.maximum(squares, 0.0)


@njit(cache=True)
def _held_errors(
    X, left, right, feature, threshold, root, value, target, own, weight, is_held, mean, error
):
    """Add to `error` what the nodes on the path of every held row do wrong."""
    for t in range(len(root)):
        share = 0.0  # of the rows that are held: errors of all trees count alike
        for i in range(len(X)):
            if is_held[i, t]:
                share += weight[i]
        scale = weight.sum() / share if share > 0 else 0.0
        for i in range(len(X)):
            if not is_held[i, t]:
                continue
            node = root[t]
            y = value[_leaf(X[i], left, right, feature, threshold, node)] if own else target[i]
            while True:
                for k in range(target.shape[1]):
                    error[node] += scale * weight[i] * (y[k] - mean[node, k]) ** 2
                if left[node] < 0:
                    break
                goes_left = X[i, feature[node]] <= threshold[node]
                node = left[node] if goes_left else right[node]


@njit(cache=True)
def _leaf(x, left, right, feature, threshold, node):
    while left[node] >= 0:
        node = left[node] if x[feature[node]] <= threshold[node] else right[node]
    return node


class ErrorCurves:
    """The least error of every tree with any number of splits, by dynamic programming.

    ``f(v, 0) = error(v)``, ``f(v, s) = min over a + b = s - 1 of f(left, a) + f(right, b)``: exact,
    while a path of prunings that grows out of itself knows nested trees only.

    Parameters
    ----------
    trees : Trees
    error : ndarray of shape (n_nodes,)
        Error of every node as a leaf.
    """

    def __init__(self, trees, error):
        self.trees = trees
        self.start, self.least, self.goes_left = _curves(trees.left, trees.right, error)
        self._of_tree = [self.least[self.start[root] : self.start[root + 1]] for root in trees.root]

    @property
    def most_splits(self):
        """Splits of the whole forest."""
        return sum(len(curve) - 1 for curve in self._of_tree)

    def of_tree(self, t):
        """Return f(root, s) for s = 0, 1, ..."""
        return self._of_tree[t]

    @cached_property
    def _steps(self):
        """Prices per split at which trees grow, descending; with the tree and the splits it gains.

        They are the edges of the convex hulls of the curves.
        """
        price, tree, gained = _hull_edges(self.trees.root, self.start, self.least)
        order = np.argsort(-price, kind="stable")
        return tree[order], gained[order]

    def with_total(self, n):
        """Return how many splits each tree keeps if all together keep n, or as many as pay.

        Every split pays more than those that are left out, but for those of one tree.
        """
        tree, gained = self._steps
        total = np.cumsum(gained)
        whole = np.searchsorted(total, n, side="right")
        kept = np.bincount(tree[:whole], gained[:whole], len(self.trees.root)).astype(np.int64)
        if whole < len(tree):
            kept[tree[whole]] += n - (total[whole - 1] if whole else 0)
        return kept

    def is_leaf(self, n_splits):
        """Return the mask of nodes that are leaves if the trees keep so many splits each."""
        arrays = self.trees.left, self.trees.right, self.trees.root
        return _leaves_of(*arrays, np.asarray(n_splits), self.start, self.goes_left)


@njit(cache=True)
def _curves(left, right, error):
    n_nodes = len(left)
    size = np.zeros(n_nodes, dtype=np.int64)  # splits under a node, itself included
    for v in range(n_nodes - 1, -1, -1):
        if left[v] >= 0:
            size[v] = 1 + size[left[v]] + size[right[v]]
    start = np.zeros(n_nodes + 1, dtype=np.int64)
    start[1:] = np.cumsum(size + 1)
    least = np.full(start[-1], np.inf)
    goes_left = np.zeros(start[-1], dtype=np.int32)
    for v in range(n_nodes - 1, -1, -1):
        here = start[v]
        least[here] = error[v]
        if left[v] < 0:
            continue
        a, b = left[v], right[v]
        for i in range(size[a] + 1):
            fa = least[start[a] + i]
            for j in range(size[b] + 1):
                together = fa + least[start[b] + j]
                s = here + 1 + i + j
                if together < least[s]:
                    least[s] = together
                    goes_left[s] = i
    return start, least, goes_left


@njit(cache=True)
def _hull_edges(root, start, least):
    """Return price, tree and splits of the falling edges of the lower hull of every tree's curve.

    The edges of a tree follow each other, and their prices fall.
    """
    n_most = 0
    for r in root:
        n_most += start[r + 1] - start[r]
    price, tree, gained = np.empty(n_most), np.empty(n_most, np.int64), np.empty(n_most, np.int64)
    n = 0
    for t in range(len(root)):
        curve = least[start[root[t]] : start[root[t] + 1]]
        first = n
        for s in range(1, len(curve)):
            splits, fall = 1, curve[s - 1] - curve[s]
            while n > first and fall >= price[n - 1] * splits:
                n -= 1  # the edge before is not as steep: both become one
                splits, fall = splits + gained[n], fall + price[n] * gained[n]
            price[n], tree[n], gained[n] = fall / splits, t, splits
            n += 1
        while n > first and price[n - 1] <= 0.0:
            n -= 1
    return price[:n], tree[:n], gained[:n]


@njit(cache=True)
def _leaves_of(left, right, root, n_splits, start, goes_left):
    is_leaf = np.ones(len(left), dtype=np.bool_)
    given = np.zeros(len(left), dtype=np.int64)
    for t in range(len(root)):
        given[root[t]] = n_splits[t]
    for v in range(len(left)):  # parents come before their children
        if given[v] > 0:
            is_leaf[v] = False
            in_left = goes_left[start[v] + given[v]]
            given[left[v]] = in_left
            given[right[v]] = given[v] - 1 - in_left
    return is_leaf
