"""Decision trees on integers: what they add to a score vector, however they are stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tinyml.codegen.fixed import (
    Exponent,
    Fixed,
    IntArray,
    arithmetic_ctype,
    ctype_bytes,
    index_ctype,
    storage_ctype,
)
from tinyml.codegen.ops.base import Code, Op, Ref, Store, Table
from tinyml.codegen.storage import (
    LeafTables,
    SplitTables,
    bits_for,
    output_of_trees,
    row_leaf_tables,
    scalar_leaf_tables,
    shape_bytes,
    split_tables,
)


@dataclass(frozen=True, eq=False)
class IntTree:
    """A tree on raw integers: left where ``x[feature] <= threshold``; `leaf` where `left` is -1.

    At the nodes that `intervals` names, left where x[feature] lies in one of the intervals given
    there, first and last included.
    """

    left: IntArray
    right: IntArray
    feature: IntArray
    threshold: IntArray
    leaf: IntArray
    intervals: Mapping[int, tuple[tuple[int, int], ...]] = field(default_factory=dict)

    @property
    def is_leaf(self) -> NDArray[np.bool_]:
        """Mask of the leaves."""
        return self.left < 0

    def walk(self, x: IntArray) -> IntArray:
        """Return the leaf number that each row of `x` reaches."""
        node = np.zeros(len(x), dtype=np.int64)
        rows = np.flatnonzero(self.left[node] >= 0)
        while rows.size:
            at = node[rows]
            goes_left = self._goes_left(at, x[rows, self.feature[at]])
            node[rows] = np.where(goes_left, self.left[at], self.right[at])
            rows = rows[self.left[node[rows]] >= 0]
        return self.leaf[node]

    def _goes_left(self, node: IntArray, x: IntArray) -> NDArray[np.bool_]:
        goes_left: NDArray[np.bool_] = x <= self.threshold[node]
        for here, intervals in self.intervals.items():
            rows = node == here
            inside = [(x[rows] >= first) & (x[rows] <= last) for first, last in intervals]
            goes_left[rows] = np.any(inside, axis=0)
        return goes_left

    def depths(self) -> IntArray:
        """Return the height of the subtree under every node."""
        height = np.zeros(len(self.left), dtype=np.int64)
        for node in range(len(self.left) - 1, -1, -1):  # children come after their parent
            if self.left[node] >= 0:
                height[node] = 1 + max(height[self.left[node]], height[self.right[node]])
        return height

    def reached(self) -> IntArray:
        """Return the leaf numbers of this tree."""
        return np.unique(self.leaf[self.left < 0])


@dataclass(eq=False)
class _TreeWalk(Op):
    """s = Σ_t values[leaf_t(x)] + offset: soft votes, or sums of leaf means.

    `values` has one row per different leaf of the whole forest. Where every tree adds to one
    output, leaves are single numbers; else rows are stored as the pairs (output, value) that are
    not zero, packed into 16 bits where both fit.
    """

    x: Op
    trees: tuple[IntTree, ...]
    values: IntArray
    offset: IntArray
    frac: Exponent

    def __post_init__(self) -> None:
        self.inputs = (self.x,)
        self.outputs = self._outputs()
        if self.outputs is not None:  # sums of whole numbers are the same in any order
            order = np.argsort(self.outputs, kind="stable")
            self.trees = tuple(self.trees[t] for t in order)
            self.outputs = self.outputs[order]
        per_tree = [self.values[tree.reached()] for tree in self.trees]
        lo = sum(v.min(axis=0) for v in per_tree) + self.offset
        hi = sum(v.max(axis=0) for v in per_tree) + self.offset
        self.type = Fixed((self.values.shape[1],), self.frac, lo, hi)
        partial = sum(abs(v).max(axis=0) for v in per_tree) + abs(self.offset)
        self.accumulator = arithmetic_ctype(-int(partial.max()), int(partial.max()))
        if self.accumulator == "int24_t" and not self._is_single:
            self.accumulator = "int32_t"  # summed in place, in the vector of the scores
        if not self._is_single and self._holds_all_sums(per_tree):
            self.accumulator = self.type.ctype

    def _holds_all_sums(self, per_tree: list[IntArray]) -> bool:
        """Whether the type of the scores also holds the sums of some of the trees."""
        parts = [*per_tree, self.offset[None]]
        least = sum(np.minimum(v.min(axis=0), 0) for v in parts)
        most = sum(np.maximum(v.max(axis=0), 0) for v in parts)
        return storage_ctype(int(np.min(least)), int(np.max(most))) == self.type.ctype

    def run(self, *args: IntArray) -> IntArray:
        scores = np.tile(self.offset, (len(args[0]), 1))
        for tree in self.trees:
            scores += self.values[tree.walk(args[0])]
        return scores

    @property
    def _is_single(self) -> bool:
        return bool(self.values.shape[1] == 1)

    def _outputs(self) -> IntArray | None:
        """Return the one output that each tree adds to; None if a tree adds to several."""
        numbers = [tree.leaf[tree.is_leaf] for tree in self.trees]
        tree = np.repeat(np.arange(len(numbers)), [len(n) for n in numbers])
        return output_of_trees(self.values[np.concatenate(numbers)], tree, len(self.trees))

    def scalar(self, t: int) -> IntArray:
        """Return the numbers at the leaves of tree t, which adds to one output."""
        assert self.outputs is not None
        tree = self.trees[t]
        values: IntArray = self.values[tree.leaf[tree.is_leaf], self.outputs[t]]
        return values

    @cached_property
    def splits(self) -> tuple[IntArray, IntArray]:
        """Features and thresholds of all splits, tree by tree in depth-first order."""
        feature = [tree.feature[~tree.is_leaf] for tree in self.trees]
        threshold = [tree.threshold[~tree.is_leaf] for tree in self.trees]
        return np.concatenate(feature), np.concatenate(threshold)

    @cached_property
    def split_tables(self) -> SplitTables:
        """How the splits are stored in tables."""
        feature, threshold = self.splits
        spread = int(np.ptp(threshold)) if len(threshold) else 0
        width = ctype_bytes(Table.of(threshold).ctype)
        return split_tables(feature, threshold, width, spread.bit_length())

    @cached_property
    def leaf_tables(self) -> LeafTables:
        """How the leaves are stored in tables."""
        if self.outputs is None:
            return row_leaf_tables(self.values, self.n_leaves)
        return scalar_leaf_tables(np.concatenate([self.scalar(t) for t in range(len(self.trees))]))

    @property
    def n_splits(self) -> int:
        """Splits of all trees."""
        return len(self.splits[0])

    @property
    def n_leaves(self) -> int:
        """Leaves of all trees."""
        return self.n_splits + len(self.trees)

    @property
    def n_intervals(self) -> int:
        """Intervals that splits ask for."""
        return sum(len(i) for tree in self.trees for i in tree.intervals.values())

    def row_tables(self) -> dict[str, Table]:
        """Return the tables of rows of values, by the number of the row."""
        row, output = np.nonzero(self.values)
        value = self.values[row, output]
        tables = {"start": Table.of_indices(np.searchsorted(row, np.arange(len(self.values) + 1)))}
        if self._value_bits:
            return tables | {"pairs": Table((output << self._value_bits) | value, "uint16_t")}
        return tables | {"outputs": Table.of_indices(output), "values": Table.of(value)}

    @cached_property
    def _value_bits(self) -> int:
        """Bits of the value in a packed pair; 0 where a pair does not fit 16 bits."""
        if self.values.min(initial=0) < 0:
            return 0
        value_bits = max(8, int(self.values.max()).bit_length())
        return value_bits if value_bits + bits_for(self.values.shape[1]) <= 16 else 0

    def offset_table(self) -> dict[str, Table]:
        """Return the table of what the scores begin from, if not from 0."""
        return {"offset": Table.of(self.offset)} if np.any(self.offset) else {}

    @property
    def table_bytes(self) -> int:
        """Bytes of the packed tables; what is printed as code counts as these."""
        offset = 0 if self._is_single else sum(t.nbytes for t in self.offset_table().values())
        intervals = 2 * self.n_intervals * ctype_bytes(self.x.type.ctype)
        parts = self.split_tables.nbytes, intervals, self.leaf_tables.nbytes, offset, self._n_counts
        return shape_bytes(self.n_splits, len(self.trees)) + sum(parts)

    @property
    def flash_bytes(self) -> int:
        """Bytes of flash that an AVR is expected to need, code included."""
        raise NotImplementedError

    @property
    def _n_counts(self) -> int:
        """Bytes of the number of trees of each output."""
        if self.outputs is None or self._is_single:
            return 0
        return self.type.size * ctype_bytes(index_ctype(len(self.trees)))

    @property
    def scratch_bytes(self) -> int:
        """Bytes of the votes, where they do not have the type of the scores."""
        apart = not self._is_single and self.accumulator != self.type.ctype
        return self.type.size * ctype_bytes(self.accumulator) if apart else 0

    @property
    def cost(self) -> str:
        return f"{len(self.trees)} trees, {self.n_splits} splits"

    def declare_add(self, c: Code) -> None:
        """Write the function that adds the row of a leaf to the votes."""
        leaf, total = index_ctype(len(self.values) - 1), c.ctype(self.accumulator)
        n = index_ctype(self.values.shape[1])
        with c.block(f"static void {c.name(self, 'add')}({leaf} leaf, {total} *sum)"):
            start, step = c.cursor(self, "start", "leaf")
            c.line(f"const {self.tables()['start'].ctype} first = {step}(&{start});")
            c.line(f"{n} n = ({n})({step}(&{start}) - first);")
            if self._value_bits:
                self._add_packed(c, total)
            else:
                self._add_split(c, total)

    def _add_packed(self, c: Code, total: str) -> None:
        p, step = c.cursor(self, "pairs", "first")
        index, mask = f"pair >> {self._value_bits}", (1 << self._value_bits) - 1
        with c.block("for (; n > 0; n--)"):
            c.line(f"const uint16_t pair = {step}(&{p});")
            c.line(f"sum[{index}] = ({total})(sum[{index}] + ({total})(pair & {mask}));")

    def _add_split(self, c: Code, total: str) -> None:
        o, next_output = c.cursor(self, "outputs", "first")
        v, next_value = c.cursor(self, "values", "first")
        with c.block("for (; n > 0; n--)"):
            c.line(f"const {self.tables()['outputs'].ctype} k = {next_output}(&{o});")
            c.line(f"sum[k] = ({total})(sum[k] + ({total}){next_value}(&{v}));")

    def emit(self, c: Code, store: Store, *args: Ref) -> None:
        (x,) = args
        features = c.fresh("features")
        x_ctype = self.x.type.ctype
        pointer = c.routine(self, "pointer", x=x_ctype)
        c.line(f"const {x_ctype} *{features} = {pointer}({x.name});")
        if self._is_single:
            self.emit_sum(c, store, features)
        else:
            self._emit_votes(c, store, features)

    def _emit_votes(self, c: Code, store: Store, x: str) -> None:
        in_place = store.buffer is not None and self.accumulator == self.type.ctype
        total = store.buffer if in_place else c.fresh("sum")
        assert total is not None
        if not in_place:
            c.line(f"{c.ctype(self.accumulator)} {total}[{self.type.size}];")
        with c.loop("i", self.type.size) as i:
            start = c.read(self, "offset", i) if np.any(self.offset) else "0"
            stored = self.offset_table().get("offset")
            if stored and self.accumulator.startswith("u") and not stored.ctype.startswith("u"):
                start = f"({self.accumulator}){start}"
            c.line(f"{total}[{i}] = {start};")
        self.emit_votes(c, x, total)
        if not in_place:
            with c.loop("i", self.type.size) as i:
                store(i, f"{total}[{i}]")

    def emit_sum(self, c: Code, store: Store, x: str) -> None:
        """Write what hands the sum of the one output to `store`."""
        raise NotImplementedError

    def emit_votes(self, c: Code, x: str, total: str) -> None:
        """Write what adds the leaves to the array `total`."""
        raise NotImplementedError


TreeWalk = _TreeWalk
