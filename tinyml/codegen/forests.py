"""Trees to integers: thresholds found by evaluation, votes as narrow as calibration allows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyml.codegen.fixed import IntArray, to_raw
from tinyml.codegen.fold import View
from tinyml.codegen.graph import Floats, Forest, Tree
from tinyml.codegen.ops import IntTree, Op, TreeCode, TreeTable, TreeWalk
from tinyml.codegen.votes import byte_votes


@dataclass(frozen=True)
class ForestFormat:
    """Width of what trees compare, of votes and of a regressor's leaves."""

    bits: int


def lower_forest(x: Op, forest: Forest, view: View, frac: int, layout: str) -> TreeWalk:
    """Return the op that walks `forest` over the view of x, with leaves of `frac` bits.

    The layout decides about flash and time, never about a number; "auto" is the smaller one.
    """
    rows = [to_raw(tree.value[tree.is_leaf], frac, -(2**31), 2**31 - 1) for tree in forest.trees]
    values, number = np.unique(np.vstack(rows), axis=0, return_inverse=True)
    split = np.split(number.ravel(), np.cumsum([len(r) for r in rows])[:-1])
    trees = tuple(
        _int_tree(tree, leaf, x, view, forest.precision)
        for tree, leaf in zip(forest.trees, split, strict=True)
    )
    offset = to_raw(forest.offset, frac, -(2**31), 2**31 - 1)
    code = TreeCode(x, trees, values, offset, frac)
    table = TreeTable(x, trees, values, offset, frac)
    if layout == "auto":
        return min(code, table, key=lambda op: op.flash_bytes)
    return code if layout == "code" else table


def _int_tree(tree: Tree, leaf_numbers: IntArray, x: Op, view: View, precision: Any) -> IntTree:
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


def rounded_votes(forest: Forest, reached: list[NDArray[np.intp]], bits: int) -> tuple[Forest, int]:
    """Return a classifier's forest as its votes are rounded, and their fractional bits.

    Votes are exact if few bits do. Else 8 bits are a byte for each, where calibration rows can all
    be decided as in float; else there are as many bits as this takes by plain rounding. `reached`
    holds the leaf that each of these rows reaches in each tree.
    """
    table = np.vstack([tree.value[tree.is_leaf] for tree in forest.trees])
    for frac in range(8):
        if np.array_equal(np.ldexp(table, frac), np.floor(np.ldexp(table, frac))):
            return forest, frac
    in_bytes = byte_votes(forest, reached) if bits == 8 else None
    return in_bytes or (forest, _plain_frac(forest, table, reached))


def _plain_frac(forest: Forest, table: Floats, reached: list[NDArray[np.intp]]) -> int:
    """Return the fractional bits that every decision takes.

    That is the coarsest from which on no calibration row changes, one bit more for rows not seen,
    and then what the storage of that holds anyway.
    """

    def decided(frac: int | None) -> NDArray[np.intp]:
        values = [tree.value for tree in forest.trees]
        votes = values if frac is None else [np.floor(np.ldexp(v, frac) + 0.5) for v in values]
        total = sum(v[leaf] for v, leaf in zip(votes, reached, strict=True))
        return np.asarray(np.argmax(total, axis=1))

    wanted = decided(None)
    most = 30 - (len(forest.trees) * max(1, int(np.ceil(np.abs(table).max())))).bit_length()
    fewest = 0
    for frac in range(min(16, most)):
        if np.any(decided(frac) != wanted):
            fewest = frac + 1
    return _widened(forest, table, min(fewest + 1, most))


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
    largest = [float(np.abs(tree.value).max()) for tree in forest.trees]
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
