"""What lies below the nodes of a forest: how deep they are, and sums over the rows they see.

Leaves of rows are given as an array of shape (n_trees, n_samples), a row for each tree.
"""

import numpy as np
from numba import njit

from .trees import Trees


def leaves_of_rows(trees: Trees, X: np.ndarray) -> np.ndarray:
    """Return the leaf of every row in every tree, shape (n_trees, n_samples)."""
    return np.ascontiguousarray(trees.apply(X).T)


def node_weights(trees: Trees, leaves: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the weight of the rows that pass each node."""
    sums = leaf_weights(leaves, weight, trees.n_nodes)[:, None]
    add_up(sums, trees.left, trees.right, 0)
    return sums[:, 0]


def without_idle_splits(trees: Trees, X: np.ndarray, weight: np.ndarray) -> Trees:
    """Drop splits that send all rows with a weight the same way; none of these changes."""
    seen = node_weights(trees, leaves_of_rows(trees, X), weight) > 0
    stand_in = _stand_ins(trees.left, trees.right, seen)
    kept = seen & (stand_in == np.arange(trees.n_nodes))
    return trees.restricted(kept, ~trees.is_leaf, trees.root, stand_in)


@njit(cache=True)
def depths(left, right):
    """Return the number of splits above each node."""
    depth = np.zeros(len(left), dtype=np.int32)
    for node in range(len(left)):  # parents come before their children
        if left[node] >= 0:
            depth[left[node]] = depth[node] + 1
            depth[right[node]] = depth[node] + 1
    return depth


@njit(cache=True)
def add_up(sums, left, right, first):
    """Give every split the sum of its children, in place; the nodes count from `first`."""
    for node in range(len(left) - 1, -1, -1):
        if left[node] >= 0:
            a, b = left[node] - first, right[node] - first
            for k in range(sums.shape[1]):
                sums[node, k] = sums[a, k] + sums[b, k]


@njit(cache=True)
def leaf_weights(leaves, weight, n_nodes):
    """Return the weight of the rows of each leaf, for splits 0."""
    sums = np.zeros(n_nodes)
    for t in range(len(leaves)):
        for i in range(len(weight)):
            sums[leaves[t, i]] += weight[i]
    return sums


@njit(cache=True)
def ends(left, right, is_leaf, first):
    """Return the node in which the rows of each node end where marked nodes are leaves."""
    end = np.arange(len(left), dtype=np.int32)
    for node in range(len(left)):
        if left[node] >= 0 and (is_leaf[node] or end[node] < node):
            end[left[node] - first] = end[node]
            end[right[node] - first] = end[node]
    return end


@njit(cache=True)
def _stand_ins(left, right, seen):
    """Return the node that takes the place of each: itself, or the one child that sees rows."""
    stand_in = np.arange(len(left), dtype=np.int32)
    for node in range(len(left) - 1, -1, -1):
        if left[node] >= 0 and not seen[right[node]]:
            stand_in[node] = stand_in[left[node]]
        elif left[node] >= 0 and not seen[left[node]]:
            stand_in[node] = stand_in[right[node]]
    return stand_in
