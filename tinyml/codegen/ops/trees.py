"""Decision trees as code: comparisons with immediates, leaves that add to a score vector."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
from tinyml.codegen.ops.elementwise import c_int


@dataclass(frozen=True, eq=False)
class IntTree:
    """A tree on raw integers: left where ``x[feature] <= threshold``; `leaf` where `left` is -1."""

    left: IntArray
    right: IntArray
    feature: IntArray
    threshold: IntArray
    leaf: IntArray

    def walk(self, x: IntArray) -> IntArray:
        """Return the leaf number that each row of `x` reaches."""
        node = np.zeros(len(x), dtype=np.int64)
        rows = np.flatnonzero(self.left[node] >= 0)
        while rows.size:
            at = node[rows]
            goes_left = x[rows, self.feature[at]] <= self.threshold[at]
            node[rows] = np.where(goes_left, self.left[at], self.right[at])
            rows = rows[self.left[node[rows]] >= 0]
        return self.leaf[node]

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
class TreeWalk(Op):
    """s = Σ_t values[leaf_t(x)] + offset: soft votes, or sums of leaf means.

    `values` has one row per different leaf of the whole forest. Trees are printed as nested ``if``;
    rows are stored as the pairs (output, value) that are not zero, packed into 16 bits where both
    fit. A forest with one output returns its leaf values directly.
    """

    x: Op
    trees: tuple[IntTree, ...]
    values: IntArray
    offset: IntArray
    frac: Exponent

    def __post_init__(self) -> None:
        self.inputs = (self.x,)
        per_tree = [self.values[tree.reached()] for tree in self.trees]
        lo = sum(v.min(axis=0) for v in per_tree) + self.offset
        hi = sum(v.max(axis=0) for v in per_tree) + self.offset
        self.type = Fixed((self.values.shape[1],), self.frac, lo, hi)
        partial = sum(abs(v).max(axis=0) for v in per_tree) + abs(self.offset)
        self.accumulator = arithmetic_ctype(-int(partial.max()), int(partial.max()))
        if self.accumulator == "int24_t" and not self._single:
            self.accumulator = "int32_t"  # summed in place, in the vector of the scores
        self._value_bits = self._packing()

    def run(self, *args: IntArray) -> IntArray:
        scores = np.tile(self.offset, (len(args[0]), 1))
        for tree in self.trees:
            scores += self.values[tree.walk(args[0])]
        return scores

    @property
    def _single(self) -> bool:
        return bool(self.values.shape[1] == 1)

    def _packing(self) -> int:
        """Bits of the value in a packed pair; 0 where a pair does not fit 16 bits."""
        if self._single or self.values.min(initial=0) < 0:
            return 0
        value_bits = max(8, int(self.values.max()).bit_length())
        output_bits = max(1, (self.values.shape[1] - 1).bit_length())
        return value_bits if value_bits + output_bits <= 16 else 0

    def tables(self) -> dict[str, Table]:
        if self._single:
            return {}
        row, output = np.nonzero(self.values)
        value = self.values[row, output]
        start = np.searchsorted(row, np.arange(len(self.values) + 1))
        tables = {"start": Table.of_indices(start)}
        if np.any(self.offset):
            tables["offset"] = Table.of(self.offset)
        if self._value_bits:
            packed = (output << self._value_bits) | value
            return tables | {"pairs": Table(packed, "uint16_t")}
        return tables | {"outputs": Table.of_indices(output), "values": Table.of(value)}

    @property
    def table_bytes(self) -> int:
        """Count a split as its feature, threshold and branch, a leaf as its number or value."""
        n_splits = sum(int((tree.left >= 0).sum()) for tree in self.trees)
        threshold = ctype_bytes(self.x.type.ctype)
        split = ctype_bytes(index_ctype(self.x.type.size - 1)) + threshold + 1
        return (
            super().table_bytes + n_splits * split + (n_splits + len(self.trees)) * self._leaf_bytes
        )

    @property
    def _leaf_bytes(self) -> int:
        if self._single:
            return Table.of(self.values).nbytes // len(self.values)
        return ctype_bytes(index_ctype(len(self.values) - 1))

    @property
    def scratch_bytes(self) -> int:
        """Bytes of the votes, where they do not have the type of the scores."""
        apart = not self._single and self.accumulator != self.type.ctype
        return self.type.size * ctype_bytes(self.accumulator) if apart else 0

    @property
    def cost(self) -> str:
        n_splits = sum(int((tree.left >= 0).sum()) for tree in self.trees)
        return f"{len(self.trees)} trees, {n_splits} splits"

    def declare(self, c: Code) -> None:
        for t, tree in enumerate(self.trees):
            self._declare_tree(c, t, tree)
        if not self._single:
            self._declare_add(c)

    def _declare_tree(self, c: Code, t: int, tree: IntTree) -> None:
        if self._single:
            leaf_ctype = c.ctype(storage_ctype(int(self.values.min()), int(self.values.max())))
        else:
            leaf_ctype = index_ctype(len(self.values) - 1)
        x_ctype = c.ctype(self.x.type.ctype)
        with c.block(f"static {leaf_ctype} {c.name(self, f'tree{t}')}(const {x_ctype} *x)"):
            if tree.left[0] < 0:
                c.line("(void)x;")
            self._branch(c, tree, tree.depths(), 0)

    def _branch(self, c: Code, tree: IntTree, height: IntArray, node: int) -> None:
        """Nest the shallower side, so that nesting grows with the logarithm of the tree's size."""
        while tree.left[node] >= 0:
            left, right = int(tree.left[node]), int(tree.right[node])
            test, inner, node = (
                f"x[{tree.feature[node]}] <= {c_int(int(tree.threshold[node]))}",
                left,
                right,
            )
            if height[left] > height[right]:
                test, inner, node = test.replace("<=", ">"), right, left
            with c.block(f"if ({test})"):
                self._branch(c, tree, height, inner)
        leaf = int(tree.leaf[node])
        c.line(f"return {c_int(int(self.values[leaf, 0])) if self._single else leaf};")

    def _declare_add(self, c: Code) -> None:
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
        if self._single:
            self._emit_single(c, store, features)
        else:
            self._emit_votes(c, store, features)

    def _emit_single(self, c: Code, store: Store, x: str) -> None:
        acc, total = c.fresh("acc"), c.ctype(self.accumulator)
        c.line(f"{total} {acc} = {c_int(int(self.offset[0]))};")
        for t in range(len(self.trees)):
            c.line(f"{acc} = ({total})({acc} + {c.name(self, f'tree{t}')}({x}));")
        store("0", acc)

    def _emit_votes(self, c: Code, store: Store, x: str) -> None:
        in_place = store.buffer is not None and self.accumulator == self.type.ctype
        total = store.buffer if in_place else c.fresh("sum")
        if not in_place:
            c.line(f"{c.ctype(self.accumulator)} {total}[{self.type.size}];")
        with c.loop("i", self.type.size) as i:
            start = c.read(self, "offset", i) if np.any(self.offset) else "0"
            c.line(f"{total}[{i}] = {start};")
        for t in range(len(self.trees)):
            c.line(f"{c.name(self, 'add')}({c.name(self, f'tree{t}')}({x}), {total});")
        if not in_place:
            with c.loop("i", self.type.size) as i:
                store(i, f"{total}[{i}]")
