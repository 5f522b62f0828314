"""Forests as code: nested comparisons with immediates."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from tinyml.codegen.fixed import IntArray, ctype_bytes, ctype_range, index_ctype, storage_ctype
from tinyml.codegen.ops.base import Code, Store, Table
from tinyml.codegen.ops.elementwise import c_int
from tinyml.codegen.ops.tree_rows import MaskedRows
from tinyml.codegen.ops.trees import IntTree, TreeWalk

_AT_ONCE = 32  # trees, for each of which there is an address on the stack
_REGISTERS = 16  # bytes of sums that an AVR has room for
_MASK_BITS = 8
_NEAR = 50  # splits of a tree; where there are more, short branches do not reach


class TreeCode(TreeWalk):
    """A forest whose trees are functions of nested ``if``, the fast layout.

    A tree returns the value of its leaf, or says where its row of values is. Rows are stored behind
    masks and added for many trees at once, or as pairs where most values are zero.
    """

    def tables(self) -> dict[str, Table]:
        if self._is_single:
            return {}
        return self.offset_table() | self._leaf_rows()

    def _leaf_rows(self) -> dict[str, Table]:
        if self.outputs is not None:
            return {}
        return self.row_tables() if self._masked is None else {"rows": self._masked.table}

    @cached_property
    def _masked(self) -> MaskedRows | None:
        """Rows behind masks, where they take less flash than pairs."""
        if self.outputs is not None:
            return None
        leaves = [tree.reached() for tree in self.trees]
        group = min(_REGISTERS // ctype_bytes(self.accumulator), _MASK_BITS)
        rows = MaskedRows.of(self.values, leaves, group)
        n_trees, pairs = len(self.trees), sum(t.nbytes for t in self.row_tables().values())
        pairs += self._leaf_bytes(index_ctype(len(self.values) - 1)) + _pairs_bytes(n_trees)
        masked = rows.table.nbytes + self._leaf_bytes(rows.offset_ctype)
        return rows if masked + _masks_bytes(rows.sizes, n_trees) < pairs else None

    def _leaf_bytes(self, ctype: str) -> int:
        """Bytes of the code of all leaves, where they return a `ctype`."""
        return self.n_leaves * (2 + 2 * ctype_bytes(ctype))

    @property
    def flash_bytes(self) -> int:
        n_trees, wide = len(self.trees), ctype_bytes(self.x.type.ctype) - 1
        rows = None if self._masked is None else self._masked.sizes
        add = _pairs_bytes(n_trees) if rows is None else _masks_bytes(rows, n_trees)
        interval = 2 * (4 + 2 * wide)
        split = (6 if self.n_splits <= _NEAR * n_trees else 9) + 4 * wide
        code = (
            self.n_splits * split
            + self.n_intervals * interval
            + self._leaf_bytes(self._leaf_ctype)
            + add
        )
        return code + sum(table.nbytes for table in self.tables().values())

    @property
    def scratch_bytes(self) -> int:
        addresses = 0 if self._masked is None else 2 * min(_AT_ONCE, len(self.trees))
        return super().scratch_bytes + addresses

    def declare(self, c: Code) -> None:
        for t, tree in enumerate(self.trees):
            self._declare_tree(c, t, tree)
        if self._masked is not None:
            for size in dict.fromkeys(self._masked.sizes):
                self._declare_rows(c, size)
        elif self.outputs is None:
            self.declare_add(c)

    def _declare_tree(self, c: Code, t: int, tree: IntTree) -> None:
        x_ctype = c.ctype(self.x.type.ctype)
        with c.block(f"static {self._leaf_ctype} {c.name(self, f'tree{t}')}(const {x_ctype} *x)"):
            if tree.is_leaf[0]:
                c.line("(void)x;")
            self._branch(c, tree, tree.depths(), self._leaves(t), 0)

    @property
    def _leaf_ctype(self) -> str:
        if self._masked is not None:
            return self._masked.offset_ctype
        if self.outputs is None:
            return index_ctype(len(self.values) - 1)
        return storage_ctype(int(self.values.min()), int(self.values.max()))

    def _leaves(self, t: int) -> IntArray:
        """Return what the nodes of a tree return, where they are leaves."""
        tree = self.trees[t]
        if self._masked is not None:
            row = np.searchsorted(tree.reached(), tree.leaf[tree.is_leaf])
            offsets = np.zeros_like(tree.leaf)
            offsets[tree.is_leaf] = self._masked.offsets[t][row]
            return offsets
        return tree.leaf if self.outputs is None else self.values[tree.leaf, self.outputs[t]]

    def _branch(
        self, c: Code, tree: IntTree, height: IntArray, leaves: IntArray, node: int
    ) -> None:
        """Nest the shallower side, so that nesting grows with the logarithm of the tree's size."""
        while not tree.is_leaf[node]:
            left, right = int(tree.left[node]), int(tree.right[node])
            is_deeper = height[left] > height[right]
            test = _test(tree, node, self.x.type.ctype, to_right=bool(is_deeper))
            inner, node = (right, left) if is_deeper else (left, right)
            with c.block(f"if ({test})"):
                self._branch(c, tree, height, leaves, inner)
        c.line(f"return {c_int(int(leaves[node]))};")

    def emit_sum(self, c: Code, store: Store, x: str) -> None:
        acc, total = c.fresh("acc"), c.ctype(self.accumulator)
        c.line(f"{total} {acc} = {c_int(int(self.offset[0]))};")
        for t in range(len(self.trees)):
            c.line(f"{acc} = ({total})({acc} + {c.name(self, f'tree{t}')}({x}));")
        store("0", acc)

    def emit_votes(self, c: Code, x: str, total: str) -> None:
        if self._masked is not None:
            self._emit_rows(c, x, total, self._masked)
            return
        ctype = c.ctype(self.accumulator)
        for t in range(len(self.trees)):
            leaf = f"{c.name(self, f'tree{t}')}({x})"
            if self.outputs is None:
                c.line(f"{c.name(self, 'add')}({leaf}, {total});")
            else:
                vote = f"{total}[{self.outputs[t]}]"
                c.line(f"{vote} = ({ctype})({vote} + {leaf});")

    def _emit_rows(self, c: Code, x: str, total: str, masked: MaskedRows) -> None:
        row, n_trees = c.fresh("row"), len(self.trees)
        c.line(f"const {masked.table.ctype} *{row}[{min(_AT_ONCE, n_trees)}];")
        for first in range(0, n_trees, _AT_ONCE):
            batch = range(first, min(first + _AT_ONCE, n_trees))
            for t in batch:
                start = _behind(c.name(self, "rows"), int(masked.starts[t]))
                c.line(f"{row}[{t - first}] = {start} + {c.name(self, f'tree{t}')}({x});")
            for group, size in zip(masked.groups, masked.sizes, strict=True):
                add = c.name(self, f"add{size}")
                c.line(f"{add}({row}, {len(batch)}, {_behind(total, group.start)});")

    def _declare_rows(self, c: Code, size: int) -> None:
        """Write the function that adds one group of `size` outputs of several rows.

        Sums are variables of their own, so that they stay in registers.
        """
        total, value = c.ctype(self.accumulator), self.tables()["rows"].ctype
        next_value, sums = c.stepper(self, "rows"), [f"sum{k}" for k in range(size)]
        name = c.name(self, f"add{size}")
        with c.block(f"static void {name}(const {value} **row, uint8_t n, {total} *sum)"):
            for k, local in enumerate(sums):
                c.line(f"{total} {local} = sum[{k}];")
            with c.block("for (; n > 0; n--)"):
                c.line(f"const {value} *p = *row;")
                c.line(f"const {value} present = {next_value}(&p);")
                for k, local in enumerate(sums):
                    more = f"({total})({local} + ({total}){next_value}(&p))"
                    c.line(f"if (present & {1 << k}) {local} = {more};")
                c.line("*row++ = p; /* the next group is behind it */")
            for k, local in enumerate(sums):
                c.line(f"sum[{k}] = {local};")


def _test(tree: IntTree, node: int, x_ctype: str, *, to_right: bool) -> str:
    """Return the condition under which a row goes to the left, or to the right."""
    x, intervals = f"x[{tree.feature[node]}]", tree.intervals.get(node)
    if intervals is None:
        return f"{x} {'>' if to_right else '<='} {c_int(int(tree.threshold[node]))}"
    tests = [_inside(x, a, b, *ctype_range(x_ctype)) for a, b in intervals]
    inside = tests[0] if len(tests) == 1 else " || ".join(f"({test})" for test in tests)
    return f"!({inside})" if to_right else inside


def _inside(x: str, first: int, last: int, lo: int, hi: int) -> str:
    """Compare with both ends; compilers complain of comparisons that are always true."""
    if first == last:
        return f"{x} == {c_int(first)}"
    above, below = f"{x} >= {c_int(first)}", f"{x} <= {c_int(last)}"
    return " && ".join([above] * (first > lo) + [below] * (last < hi))


def _behind(pointer: str, n: int) -> str:
    return f"{pointer} + {c_int(n)}" if n else pointer


def _pairs_bytes(n_trees: int) -> int:
    """Bytes of code that adds rows of pairs on an AVR, about."""
    return 80 + 8 * n_trees


def _masks_bytes(sizes: list[int], n_trees: int) -> int:
    """Bytes of code that adds rows behind masks on an AVR, about."""
    return sum(20 + 28 * size for size in set(sizes)) + 12 * len(sizes) + 14 * n_trees
