"""Forests in flat arrays: what growing, pruning and refitting them have in common."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numba import njit

from ..codegen import storage
from ..codegen.fixed import ctype_bytes, exact_frac, grid, storage_ctype
from ..codegen.graph import Forest, Node, Tree
from ..codegen.inputs import range_of


@dataclass(frozen=True, eq=False)
class Trees:
    """A forest in arrays over all its nodes; each tree in depth-first order, its root first.

    A row goes to `left` where ``x[feature] <= threshold``; numbers of nodes count from the first
    tree's root. A leaf has ``left == -1``. The `value` row of a leaf is what the tree adds to the
    scores; that of a split is what it would add if it were a leaf.

    Parameters
    ----------
    left, right : ndarray of shape (n_nodes,), int32
    feature : ndarray of shape (n_nodes,), int32
    threshold : ndarray of shape (n_nodes,), float64
    value : ndarray of shape (n_nodes, n_outputs), float64
    root : ndarray of shape (n_trees,), int32
    precision : dtype, default=float32
        In which features are compared with thresholds.
    gap : ndarray of shape (n_nodes, 2), optional
        The largest value that goes left at each node and the smallest that goes right, among rows
        that are known; see `with_gaps`.
    origin : ndarray of shape (n_nodes,), optional
        Number of each node in the forest that all of this was cut from.
    """

    left: np.ndarray
    right: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    value: np.ndarray
    root: np.ndarray
    precision: Any = np.float32
    gap: np.ndarray | None = None
    origin: np.ndarray | None = None

    @property
    def n_nodes(self):
        """Number of nodes of all trees."""
        return len(self.left)

    @property
    def is_leaf(self):
        """Mask of the leaves."""
        return self.left < 0

    @property
    def tree(self):
        """Number of the tree of every node."""
        return np.repeat(np.arange(len(self.root)), np.diff(self.root, append=self.n_nodes))

    def apply(self, X):
        """Return the leaf of every row in every tree, shape (n_samples, n_trees), int32."""
        X = np.ascontiguousarray(X, dtype=self.precision)
        return _leaves(X, self.left, self.right, self.feature, self.threshold, self.root)

    def scores(self, X):
        """Return the sum of the leaves of every row, shape (n_samples, n_outputs)."""
        return sum_of_leaves(self.apply(X), self.value)

    def cut(self, is_leaf):
        """Make leaves of the nodes that `is_leaf` marks; what is under them goes."""
        is_leaf = self.is_leaf | is_leaf
        kept = _reached(self.left, self.right, self.root, is_leaf)
        return self.restricted(kept, ~is_leaf, self.root)

    def first(self, n_trees: int) -> Trees:
        """Return the first trees."""
        kept = self.tree < n_trees
        return self.restricted(kept, ~self.is_leaf, self.root[:n_trees])

    def without_stumps(self):
        """Drop trees that are one leaf; return the others and the sum of what the dropped add."""
        alone = self.is_leaf[self.root]
        dropped = self.value[self.root[alone]].sum(axis=0)
        if alone.all():
            alone = np.arange(len(self.root)) > 0  # a forest has a tree
            dropped = dropped - self.value[self.root[0]]
        return self.restricted(~alone[self.tree], ~self.is_leaf, self.root[~alone]), dropped

    def restricted(self, kept, is_split, root, stand_in=None):
        """Keep some nodes, of which some remain splits, under the given roots.

        Where children are not kept, `stand_in` says for every node which one takes its place.
        """
        number = np.cumsum(kept, dtype=np.int32) - 1
        number = number if stand_in is None else number[stand_in]
        splits = is_split[kept]
        return replace(
            self,
            left=np.where(splits, number[self.left[kept]], -1).astype(np.int32),
            right=np.where(splits, number[self.right[kept]], -1).astype(np.int32),
            feature=np.where(splits, self.feature[kept], 0).astype(np.int32),
            threshold=np.where(splits, self.threshold[kept], 0.0),
            value=self.value[kept],
            root=number[root],
            gap=None if self.gap is None else self.gap[kept],
            origin=None if self.origin is None else self.origin[kept],
        )

    def with_gaps(self, X: np.ndarray) -> Trees:
        """Find between which values of the rows each threshold lies, for all that is cut later."""
        X = np.ascontiguousarray(X, dtype=self.precision)
        tests = self.feature, self.threshold, self.root
        return replace(self, gap=_gaps(X, self.left, self.right, *tests))

    def as_node(self, x: Node, offset: Any = 0.0) -> Forest:
        """Return the node of the graph that adds the leaves of these trees to `offset`."""
        ends = np.append(self.root[1:], self.n_nodes)
        trees = []
        for start, end in zip(self.root, ends, strict=True):
            part = slice(start, end)
            left, right = self.left[part], self.right[part]
            trees.append(
                Tree(
                    np.where(left < 0, -1, left - start).astype(np.intp),
                    np.where(right < 0, -1, right - start).astype(np.intp),
                    self.feature[part].astype(np.intp),
                    self.threshold[part],
                    self.value[part],
                )
            )
        return Forest(x, tuple(trees), offset, self.precision)

    @classmethod
    def from_node(cls, forest: Forest) -> Trees:
        """Return the trees of a node of the graph, in depth-first order.

        Where missing values go is forgotten, and splits that tell only these apart are left out.
        """
        if any(tree.sets for tree in forest.trees):
            raise TypeError("Forests that split by sets of categories cannot be compressed.")
        parts = [(t.left, t.right, t.feature, t.threshold, t.value) for t in forest.trees]
        finite = [_without_infinite(*part) for part in parts]
        return joined([preorder(*part) for part in finite], forest.precision)

    def n_bytes(self, threshold_bytes: int) -> int:
        """Bytes of the tables of these trees.

        A threshold takes `threshold_bytes` bytes where it is not a whole number. Leaves that lie on
        a grid of 16 bits are stored as they are, others with 8 bits.
        """
        splits, leaves = ~self.is_leaf, self.is_leaf
        threshold, bits = self.threshold[splits], 8 * threshold_bytes
        if len(threshold) and np.array_equal(threshold, np.floor(threshold)):
            lo, hi = int(threshold.min()), int(threshold.max())
            threshold_bytes, bits = ctype_bytes(storage_ctype(lo, hi)), (hi - lo).bit_length()
        tests = storage.split_tables(self.feature[splits], threshold, threshold_bytes, bits)
        rows = whole(self.value[leaves])
        shape = storage.shape_bytes(int(splits.sum()), len(self.root))
        return shape + tests.nbytes + storage.leaf_bytes(rows, self.tree[leaves], len(self.root))


def joined(parts: Iterable[tuple[np.ndarray, ...]], precision: Any = np.float32) -> Trees:
    """Join trees, each given as (left, right, feature, threshold, value) with root 0."""
    parts = list(parts)
    root = np.cumsum([0, *(len(part[0]) for part in parts)])[:-1]
    left, right = (
        np.concatenate([np.where(p[k] < 0, -1, p[k] + r) for p, r in zip(parts, root, strict=True)])
        for k in (0, 1)
    )
    feature, threshold, value = (np.concatenate([p[k] for p in parts]) for k in (2, 3, 4))
    return Trees(
        left.astype(np.int32),
        right.astype(np.int32),
        np.where(left < 0, 0, feature).astype(np.int32),
        np.where(left < 0, 0.0, threshold).astype(np.float64),
        np.ascontiguousarray(value, dtype=np.float64),
        root.astype(np.int32),
        precision,
    )


def whole(values: np.ndarray) -> np.ndarray:
    """Return values as whole numbers: exactly where 16 bits do, else on the grid of 8 bits."""
    exact = exact_frac(values)
    frac = grid(values, 8) if exact is None else exact
    return np.floor(np.ldexp(values, frac) + 0.5).astype(np.int64)


def sum_of_leaves(leaves: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Return Σ_t value[leaves[:, t]], shape (n_samples, n_outputs)."""
    return _sum_of_leaves(np.ascontiguousarray(leaves), np.ascontiguousarray(value))


def share_thresholds(trees: Trees, X: np.ndarray) -> Trees:
    """Move thresholds so that as few different ones as possible remain, and no row of `X` changes.

    Between the largest value that goes left and the smallest that goes right at a node every
    threshold does the same to the rows of `X`. For each feature the fewest numbers that hit all
    these intervals are found by the greedy rule; each is put in the middle of what they share, or
    on a whole number if all features are.
    """
    gap = trees.with_gaps(X).gap if trees.gap is None else trees.gap
    threshold = trees.threshold.copy()
    splits = np.flatnonzero(~trees.is_leaf)
    for feature in np.unique(trees.feature[splits]):
        nodes = splits[trees.feature[splits] == feature]
        threshold[nodes] = _stabbed(*gap[nodes].T, threshold[nodes])
    if np.array_equal(X, np.floor(X)):
        threshold = np.floor(threshold)
    return replace(trees, threshold=threshold)


def _stabbed(lo, hi, threshold):
    """Return one number of each [lo, hi) so that few differ."""
    order = np.argsort(hi, kind="stable")
    lo, hi, threshold = lo[order], hi[order], threshold[order]
    first = np.flatnonzero(np.diff(_groups(lo, hi), prepend=-1))
    size = np.diff(first, append=len(lo))
    below, above = np.maximum.reduceat(lo, first), np.minimum.reduceat(hi, first)
    known = np.isfinite(below) & np.isfinite(above)
    with np.errstate(invalid="ignore"):
        middle = below + (above - below) / 2  # as far from any row as can be
    for k in np.flatnonzero(~known):
        middle[k] = np.median(threshold[first[k] : first[k] + size[k]])
    moved = np.empty_like(threshold)
    middle = np.clip(middle, below, np.nextafter(above, -np.inf))
    moved[order] = np.repeat(middle, size)
    return moved


@njit(cache=True)
def _groups(lo, hi):
    """Number of the group of each interval [lo, hi), in ascending order of `hi`."""
    group = np.zeros(len(lo), dtype=np.int64)
    first_end = hi[0]
    lowest = lo[0]
    for k in range(1, len(lo)):
        lowest = max(lowest, lo[k])
        if lo[k] >= first_end:
            group[k] = group[k - 1] + 1
            first_end = hi[k]
        else:
            group[k] = group[k - 1]
    return group


@njit(cache=True)
def _gaps(X, left, right, feature, threshold, root):
    """Largest value that goes left at each node, and the smallest that goes right."""
    gap = np.empty((len(left), 2))
    gap[:, 0], gap[:, 1] = -np.inf, np.inf
    for i in range(len(X)):
        for t in range(len(root)):
            node = root[t]
            while left[node] >= 0:
                value = X[i, feature[node]]
                if value <= threshold[node]:
                    gap[node, 0] = max(gap[node, 0], value)
                    node = left[node]
                else:
                    gap[node, 1] = min(gap[node, 1], value)
                    node = right[node]
    return gap


@njit(cache=True)
def _leaves(X, left, right, feature, threshold, root):
    leaves = np.empty((len(X), len(root)), dtype=np.int32)
    for t in range(len(root)):
        for i in range(len(X)):
            node = root[t]
            while left[node] >= 0:
                node = left[node] if X[i, feature[node]] <= threshold[node] else right[node]
            leaves[i, t] = node
    return leaves


@njit(cache=True)
def _sum_of_leaves(leaves, value):
    scores = np.zeros((len(leaves), value.shape[1]))
    for i in range(len(leaves)):
        for t in range(leaves.shape[1]):
            for k in range(value.shape[1]):
                scores[i, k] += value[leaves[i, t], k]
    return scores


@njit(cache=True)
def _reached(left, right, root, is_leaf):
    """Mark what is left of trees whose marked nodes are leaves."""
    kept = np.zeros(len(left), dtype=np.bool_)
    for start in root:
        kept[start] = True
    for node in range(len(left)):  # parents come before their children
        if kept[node] and not is_leaf[node]:
            kept[left[node]] = True
            kept[right[node]] = True
    return kept


def _without_infinite(left, right, feature, threshold, value):
    """Put in the place of a split at infinity the one child that all finite values go to."""
    ends = np.isinf(threshold) & (left >= 0)
    if not ends.any():
        return left, right, feature, threshold, value
    stand_in = np.where(ends, np.where(threshold > 0, left, right), np.arange(len(left)))
    while np.any(stand_in[stand_in] != stand_in):
        stand_in = stand_in[stand_in]
    left, right = (np.where(side < 0, -1, stand_in[side]) for side in (left, right))
    order = np.arange(len(left))
    order[0] = stand_in[0]  # the root is the first node
    return tuple(array[order] for array in (left, right, feature, threshold, value))


def preorder(left, right, feature, threshold, value):
    """Return the arrays of a tree in depth-first order."""
    order = _depth_first_order(np.asarray(left), np.asarray(right))
    number = np.empty(len(left), dtype=np.int64)
    number[order] = np.arange(len(order))
    is_leaf = left[order] < 0
    left = np.where(is_leaf, -1, number[left[order]])
    right = np.where(is_leaf, -1, number[right[order]])
    return left, right, feature[order], threshold[order], value[order]


@njit(cache=True)
def _depth_first_order(left, right):
    """Return the nodes under node 0, parents first, then the left subtree, then the right one."""
    order = np.empty(len(left), dtype=np.int64)
    stack = np.empty(len(left) + 1, dtype=np.int64)
    stack[0], height, n = 0, 1, 0
    while height:
        height -= 1
        node = stack[height]
        order[n] = node
        n += 1
        if left[node] >= 0:
            stack[height], stack[height + 1] = right[node], left[node]
            height += 2
    return order[:n]


def threshold_bytes(X: np.ndarray) -> int:
    """Bytes of one threshold on the features `X`: those of whole numbers, else two."""
    ctype = range_of(X, None).ctype
    return 2 if ctype is None else ctype_bytes(ctype)
