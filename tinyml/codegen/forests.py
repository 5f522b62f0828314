"""Trees to integers: thresholds found by evaluation, votes as narrow as calibration allows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyml.codegen.fixed import IntArray, exact_frac, to_raw
from tinyml.codegen.fold import View
from tinyml.codegen.graph import Floats, Forest, Tree
from tinyml.codegen.ops import IntTree, Op, TreeCode, TreeTable, TreeWalk


@dataclass(frozen=True)
class ForestFormat:
    """Width of what trees compare, of votes and of a regressor's leaves."""

    bits: int


class Gaps:
    """Between which integers of calibration rows the thresholds of a forest lie.

    Real features are rounded to integers; where a row lies on a threshold, or closer to it than
    that, rounding could bring it to the other side.

    Parameters
    ----------
    raw : ndarray of shape (n_samples, n_columns)
    seen : ndarray of shape (n_samples, n_columns)
        The same rows as the forest sees them.
    falls : ndarray of shape (n_columns,)
        Mask of the columns in which the one falls where the other grows.
    """

    def __init__(self, raw: IntArray, seen: Floats, falls: NDArray[np.bool_]) -> None:
        order = np.argsort(seen, axis=0)
        sign = np.where(falls, -1, 1)
        ordered = np.take_along_axis(raw * sign, order, axis=0)
        end = np.full((1, raw.shape[1]), 2**40)  # beyond any integer
        most_below = np.maximum.accumulate(np.vstack([-end, ordered]))
        least_above = np.minimum.accumulate(np.vstack([ordered, end])[::-1])[::-1]
        self.seen = np.take_along_axis(seen, order, axis=0).astype(np.float64)
        self.lo = np.where(falls, -least_above, most_below)
        self.hi = np.where(falls, -most_below, least_above)

    def limit(self, raw: IntArray, threshold: Floats, column: IntArray) -> IntArray:
        """Move integer thresholds between the rows that the thresholds part, where these differ."""
        limited = raw.copy()
        for k in np.unique(column):
            nodes = np.flatnonzero(column == k)
            n_below = np.searchsorted(self.seen[:, k], threshold[nodes], side="right")
            lo, hi = self.lo[n_below, k], self.hi[n_below, k]
            inside = np.clip(raw[nodes], lo, hi - 1)
            limited[nodes] = np.where(lo < hi, inside, raw[nodes])
        return limited


def lower_forest(
    x: Op, forest: Forest, view: View, frac: int, layout: str, gaps: Gaps | None
) -> TreeWalk:
    """Return the op that walks `forest` over the view of x, with leaves of `frac` bits.

    The layout decides about flash and time, never about a number; "auto" is the smaller one.
    """
    rows = [to_raw(tree.value[tree.is_leaf], frac, -(2**31), 2**31 - 1) for tree in forest.trees]
    values, number = np.unique(np.vstack(rows), axis=0, return_inverse=True)
    split = np.split(number.ravel(), np.cumsum([len(r) for r in rows])[:-1])
    trees = tuple(
        _int_tree(tree, leaf, x, view, forest.precision, gaps)
        for tree, leaf in zip(forest.trees, split, strict=True)
    )
    offset = to_raw(forest.offset, frac, -(2**31), 2**31 - 1)
    code = TreeCode(x, trees, values, offset, frac)
    table = TreeTable(x, trees, values, offset, frac)
    if layout == "auto":
        return min(code, table, key=lambda op: op.flash_bytes)
    return code if layout == "code" else table


def _int_tree(
    tree: Tree, leaf_numbers: IntArray, x: Op, view: View, precision: Any, gaps: Gaps | None
) -> IntTree:
    """Place the thresholds among the raw integers and cut branches that no integer takes."""
    leaf = np.zeros(len(tree.left), dtype=np.int64)
    leaf[tree.is_leaf] = leaf_numbers
    column = np.where(tree.is_leaf, 0, tree.feature)
    source = view.columns[column]
    lo = np.broadcast_to(x.type.lo, x.type.shape)[source]
    hi = np.broadcast_to(x.type.hi, x.type.shape)[source]
    frac = np.broadcast_to(x.type.frac, x.type.shape)[source]
    falls = view.as_clipped_affine()[0][column] < 0
    threshold = _largest_on_one_side(tree.threshold, view, column, lo, hi, frac, falls, precision)
    if gaps is not None:
        threshold = np.clip(gaps.limit(threshold, tree.threshold, column), lo - 1, hi)
    turned = replace(
        tree,
        left=np.where(falls & ~tree.is_leaf, tree.right, tree.left),
        right=np.where(falls & ~tree.is_leaf, tree.left, tree.right),
    )
    return _pruned(turned, source, threshold, leaf, lo, hi)


def _largest_on_one_side(
    threshold: Floats,
    view: View,
    column: IntArray,
    lo: IntArray,
    hi: IntArray,
    frac: IntArray,
    falls: NDArray[np.bool_],
    precision: Any,
) -> IntArray:
    """Return the largest raw integer whose view is at most the threshold, `lo` - 1 if none is.

    Where the view falls, the largest whose view is above it. Bisection over the integers,
    evaluating the float steps in the forest's precision, as it would; the steps are monotone.
    """
    below, above = np.asarray(lo - 1, dtype=np.int64), np.asarray(hi + 1, dtype=np.int64)
    while np.any(above - below > 1):
        middle = (below + above) >> 1
        seen = view.at(np.ldexp(middle.astype(np.float64), -frac), column).astype(precision)
        passes = ((seen <= threshold) != falls) & (middle <= hi) & (middle >= lo)
        open_ = above - below > 1
        below = np.where(open_ & passes, middle, below)
        above = np.where(open_ & ~passes, middle, above)
    return below


def _pruned(
    tree: Tree, source: IntArray, threshold: IntArray, leaf: IntArray, lo: IntArray, hi: IntArray
) -> IntTree:
    """Renumber in depth-first order, passing through splits that always go one way."""
    left: list[int] = []
    nodes: list[int] = []
    right: list[int] = []
    stack = [(0, -1, False)]
    while stack:
        node, parent, is_right = stack.pop()
        while tree.left[node] >= 0 and not lo[node] <= threshold[node] < hi[node]:
            node = int(tree.left[node] if threshold[node] >= hi[node] else tree.right[node])
        here = len(nodes)
        nodes.append(node)
        left.append(-1)
        right.append(-1)
        if parent >= 0:
            (right if is_right else left)[parent] = here
        if tree.left[node] >= 0:
            stack.append((int(tree.right[node]), here, True))
            stack.append((int(tree.left[node]), here, False))
    kept = np.array(nodes)
    return IntTree(np.array(left), np.array(right), source[kept], threshold[kept], leaf[kept])


def sum_frac(forest: Forest, bits: int) -> int:
    """Return the fractional bits of a regressor: exact, or of a 16-bit sum, or of 16-bit leaves."""
    leaves = [tree.value[tree.is_leaf] for tree in forest.trees]
    largest = [float(np.abs(value).max()) for value in leaves]
    offset = float(np.abs(forest.offset).max())
    scale, limit = (
        (sum(largest) + offset, 2**15 - 1 - len(largest))
        if bits == 8
        else (max(largest), 2**15 - 1)
    )
    finest = 30.0 - np.log2(max(sum(largest) + offset, 2.0**-200))
    frac = int(np.floor(np.log2(limit / scale))) if scale > 0 else 0
    exact = exact_frac(np.vstack(leaves))
    if exact is not None and exact <= finest and max(largest) > 0:
        return exact
    return min(frac, int(np.floor(finest))) if offset > 0 else frac
