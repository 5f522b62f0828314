"""Cut every tree of a forest at a depth of its own, and weigh what remains (ForestPrune).

    1/2 Σ_i w_i ‖y_i - c - Σ_t s_t (F_t(x_i, d_t) - F_t(x_i, 0))‖² + penalty · number of nodes

F_t(x, d) is the value of the node that ends the first d splits of x in tree t, so that a tree of
depth 0 costs nothing and adds nothing; the weights w_i have the sum 1, the roots are not counted.
Liu and Mazumder (AISTATS 2023) choose the depths with the weights of trees s_t given and fit these
afterwards. Here one pass over the trees chooses the depth and the weight s_t ≥ 0 of each, the best
of all given the other trees: sums over the rows of each node say for all depths at once what is the
best weight and what it is worth. Top to bottom: the search, the kernels.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
from numba import njit

from .subtrees import add_up, depths, ends, leaves_of_rows, node_weights, without_idle_splits
from .trees import Trees

_TOLERANCE = 1e-4  # of the loss, what a pass must gain to be followed by another
_PASSES = 30


def depth_solutions(
    trees: Trees, X: np.ndarray, Y: np.ndarray, weight: np.ndarray, penalties: Iterable[float]
) -> Iterator[tuple[Trees, np.ndarray]]:
    """Cut trees at the depths that are best for each penalty, which should ascend.

    Parameters
    ----------
    trees : Trees
        Splits have values too: those of a leaf in their place.
    X : ndarray of shape (n_samples, n_features)
    Y : ndarray of shape (n_samples, n_outputs)
        What is to be approximated, of one-hot rows or of numbers.
    weight : ndarray of shape (n_samples,)
    penalties : iterable of float
        Price of a node. From a quarter of the weighted mean of ``‖y - mean‖²`` on nothing is worth
        it, and the first millionth of that leaves nearly everything.

    Yields
    ------
    trees : Trees
        The cut trees, multiplied by their weights; some may be one leaf.
    constant : ndarray of shape (n_outputs,)
        What is to be added to their scores.
    """
    trees = without_idle_splits(trees, X, weight)
    search = _Search(trees, X, Y, weight / weight.sum())
    for penalty in penalties:
        search.settle(penalty)
        yield search.solution()


# ---------------------------------------------------------------------------------------------
# The search
# ---------------------------------------------------------------------------------------------


class _Search:
    """Depths and weights of trees, and what they leave of `Y`; it starts with all of the forest."""

    def __init__(self, trees, X, Y, weight):
        self.trees, self.row_weight = trees, weight
        self.leaves = leaves_of_rows(trees, X)
        self.depth = depths(trees.left, trees.right)
        self.node_weight = node_weights(trees, self.leaves, weight)
        self.value = trees.value - trees.value[trees.root][trees.tree]
        self.start = np.append(trees.root, trees.n_nodes)
        self.n_nodes = self._nodes_up_to_depth()
        self.cut = np.maximum.reduceat(self.depth, trees.root)
        self.residual = np.array(Y, dtype=np.float64)
        self.constant = np.zeros(Y.shape[1])
        self._centre()
        self._weigh_alike()

    def _nodes_up_to_depth(self):
        """Number of nodes below the root of each tree that remain at each depth of the cut."""
        counts = np.zeros((len(self.trees.root), self.depth.max() + 1))
        np.add.at(counts, (self.trees.tree, self.depth), 1.0)
        return np.cumsum(counts, axis=1) - 1

    def _weigh_alike(self):
        """Start with the one weight that is best for the whole forest."""
        scores = np.zeros_like(self.residual)
        for leaves in self.leaves:
            scores += self.value[leaves]
        mean = self.row_weight @ scores
        scores -= mean
        square = self.row_weight @ (scores**2).sum(axis=1)
        product = self.row_weight @ (scores * self.residual).sum(axis=1)
        best = max(product / square, 0.0) if square > 0 else 0.0
        self.weight = np.full(len(self.cut), best)
        self.residual -= best * scores
        self.constant -= best * mean

    def _centre(self):
        mean = self.row_weight @ self.residual
        self.residual -= mean
        self.constant += mean

    def loss(self):
        return 0.5 * self.row_weight @ (self.residual**2).sum(axis=1)

    def visit(self, visited, penalty):
        """Choose depth and weight of the visited trees, one by one; return what it gained."""
        self._centre()
        trees = self.trees
        return _visit(
            self.residual,
            self.row_weight,
            self.leaves,
            self.start,
            trees.left,
            trees.right,
            self.depth,
            self.value,
            self.node_weight,
            penalty * self.n_nodes,
            np.flatnonzero(visited),
            self.cut,
            self.weight,
        )

    def settle(self, penalty):
        """Visit all trees, then those that remain while it pays, until that ceases to pay."""
        everything = np.ones(len(self.cut), dtype=bool)
        n_passes = 0
        while n_passes < _PASSES and self._gains(everything, penalty):
            n_passes += 1
            while n_passes < _PASSES and self._gains(self.cut > 0, penalty):
                n_passes += 1

    def _gains(self, visited, penalty):
        return self.visit(visited, penalty) > _TOLERANCE * self.loss()

    def solution(self):
        trees = self.trees
        scaled = replace(trees, value=trees.value * self.weight[trees.tree, None])
        constant = self.constant - self.weight @ trees.value[trees.root]
        return scaled.cut(self.depth >= self.cut[trees.tree]), constant


# ---------------------------------------------------------------------------------------------
# Kernels
# ---------------------------------------------------------------------------------------------


@njit(cache=True)
def _visit(
    residual,
    row_weight,
    leaves,
    start,
    left,
    right,
    depth,
    value,
    node_weight,
    price,
    visited,
    cut,
    weight,
):
    gain = 0.0
    for t in visited:
        a, b = start[t], start[t + 1]
        nodes = left[a:b], right[a:b], depth[a:b], value[a:b], node_weight[a:b]
        end = ends(nodes[0], nodes[1], nodes[2] >= cut[t], a)
        sums = _sums_without(residual, row_weight, leaves[t], a, nodes, end, weight[t])
        square, product = _by_depth(sums, nodes)
        d, s, least = _best(square, product, price[t])
        now = _worth(weight[t], square[cut[t]], product[cut[t]]) + price[t, cut[t]]
        if least < now:
            gain += now - least
            new_end = ends(nodes[0], nodes[1], nodes[2] >= d, a)
            _change(residual, leaves[t], a, nodes[3], end, weight[t], new_end, s)
            cut[t], weight[t] = d, s
    return gain


@njit(cache=True)
def _best(square, product, price):
    """Return the best depth, the weight that suits it, and what both come to."""
    depth, weight, least = 0, 0.0, 0.0
    for d in range(1, len(square)):
        s = max(product[d] / square[d], 0.0) if square[d] > 0 else 0.0
        total = _worth(s, square[d], product[d]) + price[d]
        if total < least:
            depth, weight, least = d, s, total
    return depth, weight, least


@njit(cache=True)
def _worth(weight, square, product):
    """How much half the loss changes when a tree joins the others."""
    return weight * (0.5 * weight * square - product)


@njit(cache=True)
def _sums_without(residual, row_weight, leaves, first, nodes, end, weight):
    """Return for each node Σ_i w_i (residual if the tree were not there)."""
    left, right, _, value, node_weight = nodes
    sums = np.zeros(value.shape)
    for i in range(len(residual)):
        leaf = leaves[i] - first
        for k in range(residual.shape[1]):
            sums[leaf, k] += row_weight[i] * residual[i, k]
    for node in range(len(left)):
        if left[node] < 0:
            for k in range(value.shape[1]):
                sums[node, k] += weight * node_weight[node] * value[end[node], k]
    add_up(sums, left, right, first)
    return sums


@njit(cache=True)
def _by_depth(sums, nodes):
    """Return for each depth Σ_i w_i ‖F(x_i)‖² and Σ_i w_i F(x_i)·residual_i."""
    left, _, depth, value, node_weight = nodes
    square, product = np.zeros(depth.max() + 1), np.zeros(depth.max() + 1)
    for node in range(len(left)):
        s = p = 0.0
        for k in range(value.shape[1]):
            s += value[node, k] * value[node, k]
            p += value[node, k] * sums[node, k]
        last = len(square) if left[node] < 0 else depth[node] + 1
        for d in range(depth[node], last):
            square[d] += node_weight[node] * s
            product[d] += p
    return square, product


@njit(cache=True)
def _change(residual, leaves, first, value, end, weight, new_end, new_weight):
    """Take what a tree added from the residual and give what it adds now."""
    step = np.empty(value.shape)
    for node in range(len(value)):
        for k in range(value.shape[1]):
            step[node, k] = new_weight * value[new_end[node], k] - weight * value[end[node], k]
    for i in range(len(residual)):
        leaf = leaves[i] - first
        for k in range(residual.shape[1]):
            residual[i, k] -= step[leaf, k]
