"""Trees to integers: thresholds found by evaluation, votes as narrow as calibration allows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyml.codegen.fixed import IntArray, exact_frac, to_raw
from tinyml.codegen.fold import View
from tinyml.codegen.graph import Above, Floats, Forest, Tree
from tinyml.codegen.narrowing import gathered
from tinyml.codegen.ops import Above as AboveOp
from tinyml.codegen.ops import IntTree, Op, Scale, TreeCode, TreeTable, TreeWalk

Intervals = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class ForestFormat:
    """Width of what trees compare, of votes and of a regressor's leaves."""

    table_bits: int


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
        self.seen = np.take_along_axis(seen, order, axis=0).astype(np.float64)
        ordered = np.take_along_axis(raw * sign, order, axis=0)
        end = np.full((1, raw.shape[1]), 2**40)  # beyond any integer
        below, above = (np.where(np.isnan(self.seen), e, ordered) for e in (-end, end))
        most_below = np.maximum.accumulate(np.vstack([-end, below]))
        least_above = np.minimum.accumulate(np.vstack([above, end])[::-1])[::-1]
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
    x: Op, forest: Forest, view: View, frac: int, layout: str, gaps: Gaps | None, missing: Missing
) -> TreeWalk:
    """Return the op that walks `forest` over the view of x, with leaves of `frac` bits.

    The layout decides about flash and time, never about a number; "auto" is the smaller one.
    Tables know only splits by a threshold.
    """
    rows = [to_raw(tree.value[tree.is_leaf], frac, -(2**31), 2**31 - 1) for tree in forest.trees]
    values, number = np.unique(np.vstack(rows), axis=0, return_inverse=True)
    split = np.split(number.ravel(), np.cumsum([len(r) for r in rows])[:-1])
    placed = _Placed(x, view, forest.precision, gaps, missing)
    trees = tuple(placed.tree(*parts) for parts in zip(forest.trees, split, strict=True))
    offset = to_raw(forest.offset, frac, -(2**31), 2**31 - 1)
    code = TreeCode(x, trees, values, offset, frac)
    if code.n_intervals:
        if layout == "table":
            raise ValueError(
                "The 'layout' parameter of compile must be 'auto' or 'code' for trees that split "
                "by categories or send missing values to the right. Got 'table' instead."
            )
        return code
    table = TreeTable(x, trees, values, offset, frac)
    if layout == "auto":
        return min(code, table, key=lambda op: op.flash_bytes)
    return code if layout == "code" else table


def above(x: Op, node: Above, view: View, gaps: Gaps | None) -> Op:
    """Return the op that compares the view of x with thresholds, placed as those of trees are."""
    column = np.arange(len(view.columns))
    nowhere = Missing(None, np.zeros(len(column), dtype=bool))
    placed = _Placed(x, view, np.float64, gaps, nowhere)
    threshold, falls = placed.among_integers(node.thresholds, column)
    is_above = AboveOp(gathered(x, view), threshold)
    if not falls.any():
        return is_above
    return Scale(is_above, np.where(falls, -1, 1), np.where(falls, 1, 0), 0)


@dataclass(frozen=True, eq=False)
class Missing:
    """The lowest integer, which says that there is no value, and the columns where it may be."""

    code: int | None
    columns: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class _Placed:
    """Trees among the raw integers of `x`, of which they see a view."""

    x: Op
    view: View
    precision: Any
    gaps: Gaps | None
    missing: Missing

    def tree(self, tree: Tree, leaf_numbers: IntArray) -> IntTree:
        """Place thresholds and categories, and cut branches that no integer takes."""
        leaf = np.zeros(len(tree.left), dtype=np.int64)
        leaf[tree.is_leaf] = leaf_numbers
        column = np.where(tree.is_leaf, 0, tree.feature)
        lo, hi, _ = self._bounds(column)
        threshold, falls = self.among_integers(tree.threshold, column)
        has_set = np.isin(np.arange(len(leaf)), list(tree.sets))
        turns = falls & ~tree.is_leaf & ~has_set
        left, right = np.where(turns, tree.right, tree.left), np.where(turns, tree.left, tree.right)
        intervals = {node: self._members(node, tree) for node in tree.sets}
        if self.missing.code is not None:
            guarded = np.flatnonzero(~tree.is_leaf & self.missing.columns[column])
            to_left = tree.sends_missing_left ^ turns
            for node in guarded[to_left[guarded]]:
                self._take_missing(int(node), threshold, intervals)
            for node in guarded[~to_left[guarded]]:
                self._pass_missing(int(node), threshold, intervals, hi, left, right)
        for node in [node for node, inside in intervals.items() if not inside]:
            threshold[node] = lo[node] - 1  # nothing goes to the left
            del intervals[node]
        placed = IntTree(left, right, self.view.columns[column], threshold, leaf, intervals)
        return _pruned(placed, lo, hi)

    def among_integers(
        self, threshold: Floats, column: IntArray
    ) -> tuple[IntArray, NDArray[np.bool_]]:
        """Return integer thresholds, and where the view falls as the integers grow."""
        lo, hi, falls = self._bounds(column)
        placed = self._largest(threshold, column)
        if self.gaps is not None:
            placed = np.clip(self.gaps.limit(placed, threshold, column), lo - 1, hi)
        return placed, falls

    def _bounds(self, column: IntArray) -> tuple[IntArray, IntArray, NDArray[np.bool_]]:
        """Return the range of the integers of columns, and where the view falls as they grow."""
        t, source = self.x.type, self.view.columns[column]
        lo, hi = (np.broadcast_to(end, t.shape)[source] for end in (t.lo, t.hi))
        return lo, hi, self.view.as_clipped_affine()[0][column] < 0

    def _largest(self, threshold: Floats, column: IntArray) -> IntArray:
        """Return the largest integer whose view is at most the threshold, `lo` - 1 if none is.

        Where the view falls, the largest whose view is above it. Bisection over the integers,
        evaluating the float steps in the forest's precision, as it would; the steps are monotone.
        """
        lo, hi, falls = self._bounds(column)
        frac = np.broadcast_to(self.x.type.frac, self.x.type.shape)[self.view.columns[column]]
        below, above = np.asarray(lo - 1, dtype=np.int64), np.asarray(hi + 1, dtype=np.int64)
        while np.any(above - below > 1):
            middle = (below + above) >> 1
            real = np.ldexp(middle.astype(np.float64), -frac)
            seen = self.view.at(real, column).astype(self.precision)
            passes = ((seen <= threshold) != falls) & (middle <= hi) & (middle >= lo)
            open_ = above - below > 1
            below = np.where(open_ & passes, middle, below)
            above = np.where(open_ & ~passes, middle, above)
        return below

    def _members(self, node: int, tree: Tree) -> Intervals:
        """Return the intervals of integers that mean the categories of a split."""
        members = np.sort(np.asarray(tree.sets[node], dtype=np.float64))
        column = np.full(len(members), tree.feature[node])
        ends = [self._largest(members + half, column) for half in (-0.5, 0.5)]
        lo, hi, falls = self._bounds(column)
        first = np.where(falls, ends[1], ends[0]) + 1
        last = np.where(falls, ends[0], ends[1])
        if np.any((first > last) & (first > lo) & (last < hi)):
            raise TypeError(
                "Categories need an integer each; features of this range have too few at this "
                "width. Give them as whole numbers, or pass bits=16 to compile."
            )
        return _joined(first[first <= last], last[first <= last])

    def _take_missing(
        self, node: int, threshold: IntArray, intervals: dict[int, Intervals]
    ) -> None:
        """Let the lowest integer go to the left, where it goes by itself but for categories."""
        code = self.missing.code
        assert code is not None
        if node in intervals:
            intervals[node] = ((code, code), *intervals[node])
        threshold[node] = max(threshold[node], code)

    def _pass_missing(
        self,
        node: int,
        threshold: IntArray,
        intervals: dict[int, Intervals],
        hi: IntArray,
        left: IntArray,
        right: IntArray,
    ) -> None:
        """Let the lowest integer go to the right."""
        code = self.missing.code
        assert code is not None
        if node in intervals:
            return
        if threshold[node] >= hi[node]:  # all others go to the left: the sides change places
            left[node], right[node] = right[node], left[node]
            threshold[node] = code
        elif threshold[node] > code:
            intervals[node] = ((code + 1, int(threshold[node])),)
        else:
            threshold[node] = code - 1


def _joined(first: IntArray, last: IntArray) -> Intervals:
    """Join intervals that touch, in ascending order."""
    joined: list[tuple[int, int]] = []
    for a, b in sorted(zip(first.tolist(), last.tolist(), strict=True)):
        if joined and joined[-1][1] + 1 == a:
            joined[-1] = (joined[-1][0], b)
        else:
            joined.append((a, b))
    return tuple(joined)


def _pruned(tree: IntTree, lo: IntArray, hi: IntArray) -> IntTree:
    """Renumber in depth-first order, passing through splits that always go one way."""
    threshold, intervals = tree.threshold, tree.intervals
    may_stay = (lo <= threshold) & (threshold < hi)
    may_stay[list(intervals)] = True
    left: list[int] = []
    nodes: list[int] = []
    right: list[int] = []
    stack = [(0, -1, False)]
    while stack:
        node, parent, is_right = stack.pop()
        while tree.left[node] >= 0 and not may_stay[node]:
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
    return IntTree(
        np.array(left),
        np.array(right),
        tree.feature[kept],
        threshold[kept],
        tree.leaf[kept],
        {here: intervals[node] for here, node in enumerate(nodes) if node in intervals},
    )


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
