"""Trees to integers: thresholds found by evaluation, votes as narrow as calibration allows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyml.codegen.fixed import IntArray, to_raw
from tinyml.codegen.fold import View
from tinyml.codegen.graph import Floats, Forest, Tree
from tinyml.codegen.ops import IntTree, Op, TreeWalk
from tinyml.codegen.storage import output_of_trees


@dataclass(frozen=True)
class ForestFormat:
    """Width of what trees compare, and of a regressor's leaves."""

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
    x: Op, forest: Forest, view: View, frac: int, gaps: Gaps | None = None
) -> TreeWalk:
    """Return the op that walks `forest` over the view of x, with leaves of `frac` bits."""
    rows = [to_raw(tree.value[tree.is_leaf], frac, -(2**31), 2**31 - 1) for tree in forest.trees]
    values, number = np.unique(np.vstack(rows), axis=0, return_inverse=True)
    split = np.split(number.ravel(), np.cumsum([len(r) for r in rows])[:-1])
    trees = tuple(
        _int_tree(tree, leaf, x, view, forest.precision, gaps)
        for tree, leaf in zip(forest.trees, split, strict=True)
    )
    offset = to_raw(forest.offset, frac, -(2**31), 2**31 - 1)
    return TreeWalk(x, trees, values, offset, frac)


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


class Ballot:
    """The votes of calibration rows, rounded to any number of bits.

    Parameters
    ----------
    forest : Forest
    reached : list of ndarray
        For each tree the leaf that each row reaches.
    """

    def __init__(self, forest: Forest, reached: list[NDArray[np.intp]]) -> None:
        self.forest = forest
        self.reached = reached
        leaves = [tree.value[tree.is_leaf] for tree in forest.trees]
        tree = np.repeat(np.arange(len(leaves)), [len(rows) for rows in leaves])
        self.table = np.vstack(leaves)
        self.outputs = output_of_trees(self.table, tree, len(leaves))
        self.exact = self.total(None) + forest.offset
        self.wanted = self.exact[:, 0] > 0 if self.is_single else self.exact.argmax(axis=1)

    @property
    def is_single(self) -> bool:
        """Whether there is one score, which decides by its sign."""
        return self.forest.size == 1

    def total(self, frac: int | None) -> Floats:
        """Sum the leaves of every row, without the offset: as they are, or as whole numbers."""
        total = np.zeros((len(self.reached[0]), self.forest.size))
        for t, (tree, leaf) in enumerate(zip(self.forest.trees, self.reached, strict=True)):
            column = slice(None) if self.outputs is None else int(self.outputs[t])
            value = tree.value[:, column]
            total[:, column] += (value if frac is None else _rounded(value, frac))[leaf]
        return total

    def offset(self, frac: int, total: Floats) -> Floats:
        """Return the whole-numbered offset that goes with the whole-numbered sums of the rows."""
        offset = _rounded(self.forest.offset, frac)
        if not self.is_single:
            return offset
        least = 1 - total[self.wanted].min(initial=np.inf)
        most = -total[~self.wanted].max(initial=-np.inf)
        return np.clip(offset, least, most) if least <= most else offset

    def changes(self, frac: int, total: Floats) -> bool:
        """Whether any row is decided otherwise with so many bits."""
        scores = total + self.offset(frac, total)
        decided = scores[:, 0] > 0 if self.is_single else scores.argmax(axis=1)
        return bool(np.any(decided != self.wanted))

    def is_fine(self, frac: int, total: Floats) -> bool:
        """Whether rounding changes margins by little beside the median margin."""
        rounded = np.ldexp(total + _rounded(self.forest.offset, frac), -frac)
        margin = self._margin(self.exact)
        error = np.sqrt(np.mean((self._margin(rounded) - margin) ** 2))
        return bool(error <= _ROUNDING * np.median(margin))

    def _margin(self, scores: Floats) -> Floats:
        """Return by how much the wanted class is ahead of the next."""
        if self.is_single:
            return np.where(self.wanted, scores[:, 0], -scores[:, 0])
        first = np.take_along_axis(scores, self.wanted[:, None], axis=1)[:, 0]
        others = scores.copy()
        np.put_along_axis(others, self.wanted[:, None], -np.inf, axis=1)
        return np.asarray(first - others.max(axis=1))


def votes(ballot: Ballot) -> tuple[int, Forest]:
    """Return the fractional bits of votes, and the forest with the offset that goes with them.

    Exact bits are taken if few do. Leaves of one number get the fewest with which no calibration
    row changes and rounding is small beside the median margin; rows of numbers what `_row_frac`
    says. The offset of one score is the one nearest to the model's that changes no calibration row,
    so that a row that lies exactly on the boundary stays on its side.
    """
    forest = ballot.forest
    numbers = np.vstack([ballot.table, forest.offset])
    for frac in range(8):
        if np.array_equal(np.ldexp(numbers, frac), np.floor(np.ldexp(numbers, frac))):
            return frac, forest
    fracs = range(-int(np.floor(np.log2(np.abs(ballot.table).max()))), _most_frac(forest))
    frac = _row_frac(ballot, fracs) if ballot.outputs is None else _scalar_frac(ballot, fracs)
    return frac, replace(forest, offset=np.ldexp(ballot.offset(frac, ballot.total(frac)), -frac))


_ROUNDING = 2.0**-18  # of margins, root mean square, beside the median: 1 row in a million changes


def _rounded(value: Floats, frac: int) -> Floats:
    return np.floor(np.ldexp(value, frac) + 0.5)


def _most_frac(forest: Forest) -> int:
    """Return the fractional bits with which no sum can leave 30 bits."""
    reach = sum(np.abs(tree.value[tree.is_leaf]).max(axis=0) for tree in forest.trees)
    largest = float((reach + np.abs(forest.offset)).max())
    return int(np.floor(np.log2((2**30 - len(forest.trees)) / largest)))


def _scalar_frac(ballot: Ballot, fracs: range) -> int:
    for frac in fracs:
        total = ballot.total(frac)
        if ballot.is_fine(frac, total) and not ballot.changes(frac, total):
            return frac
    return fracs.stop


def _row_frac(ballot: Ballot, fracs: range) -> int:
    """Return the coarsest from which on no calibration row changes, one bit more, and room's rest.

    The bit more is for rows not seen, the rest what the storage of that holds anyway.
    """
    fewest = fracs.start
    for frac in fracs[:16]:
        if ballot.changes(frac, ballot.total(frac)):
            fewest = frac + 1
    return _widened(ballot.forest, ballot.table, min(fewest + 1, fracs.stop))


def _widened(forest: Forest, table: Floats, frac: int) -> int:
    """Spend the bits that a 16-bit pair and a 16-bit sum leave unused, else those of 16 bits."""
    top, total = float(table.max()), float(np.abs(table).max()) * len(forest.trees)
    output_bits = max(1, (table.shape[1] - 1).bit_length())

    def fits(f: int) -> bool:
        return top * 2.0**f < 2 ** (16 - output_bits) and total * 2.0**f < 2**15

    if fits(frac):
        while fits(frac + 1):
            frac += 1
        return frac
    return max(frac, 15 - max(0, int(np.ceil(np.log2(top)))))


def sum_frac(forest: Forest, bits: int) -> int:
    """Return the fractional bits of a regressor: of a 16-bit sum, or of 16-bit leaves."""
    largest = [float(np.abs(tree.value[tree.is_leaf]).max()) for tree in forest.trees]
    offset = float(np.abs(forest.offset).max())
    scale, limit = (
        (sum(largest) + offset, 2**15 - 1 - len(largest))
        if bits == 8
        else (max(largest), 2**15 - 1)
    )
    frac = int(np.floor(np.log2(limit / scale))) if scale > 0 else 0
    if offset > 0:
        frac = min(frac, int(np.floor(30 - np.log2(sum(largest) + offset))))
    return frac
