"""Forests as code: nested comparisons with immediates."""

from __future__ import annotations

from tinyml.codegen.fixed import IntArray, ctype_bytes, index_ctype, storage_ctype
from tinyml.codegen.ops.base import Code, Store, Table
from tinyml.codegen.ops.elementwise import c_int
from tinyml.codegen.ops.trees import IntTree, TreeWalk


class TreeCode(TreeWalk):
    """A forest whose trees are functions of nested ``if``, the fast layout.

    A tree returns the number of its leaf's row of values, or the value itself.
    """

    def tables(self) -> dict[str, Table]:
        if self._is_single:
            return {}
        return self.offset_table() | (self.row_tables() if self.outputs is None else {})

    @property
    def flash_bytes(self) -> int:
        wide = ctype_bytes(self.x.type.ctype) - 1
        leaf = 4 + 2 * (ctype_bytes(self._leaf_ctype) - 1)
        code = self.n_splits * (8 + 3 * wide) + self.n_leaves * leaf + 8 * len(self.trees)
        return code + sum(table.nbytes for table in self.tables().values())

    def declare(self, c: Code) -> None:
        for t, tree in enumerate(self.trees):
            self._declare_tree(c, t, tree)
        if self.outputs is None:
            self.declare_add(c)

    def _declare_tree(self, c: Code, t: int, tree: IntTree) -> None:
        x_ctype = c.ctype(self.x.type.ctype)
        with c.block(f"static {self._leaf_ctype} {c.name(self, f'tree{t}')}(const {x_ctype} *x)"):
            if tree.is_leaf[0]:
                c.line("(void)x;")
            self._branch(c, tree, tree.depths(), self._leaves(t), 0)

    @property
    def _leaf_ctype(self) -> str:
        if self.outputs is None:
            return index_ctype(len(self.values) - 1)
        return storage_ctype(int(self.values.min()), int(self.values.max()))

    def _leaves(self, t: int) -> IntArray:
        """Return what the nodes of a tree return, where they are leaves."""
        leaf = self.trees[t].leaf
        return leaf if self.outputs is None else self.values[leaf, self.outputs[t]]

    def _branch(
        self, c: Code, tree: IntTree, height: IntArray, leaves: IntArray, node: int
    ) -> None:
        """Nest the shallower side, so that nesting grows with the logarithm of the tree's size."""
        while not tree.is_leaf[node]:
            left, right = int(tree.left[node]), int(tree.right[node])
            test, inner, node = (
                f"x[{tree.feature[node]}] <= {c_int(int(tree.threshold[node]))}",
                left,
                right,
            )
            if height[left] > height[right]:
                test, inner, node = test.replace("<=", ">"), right, left
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
        ctype = c.ctype(self.accumulator)
        for t in range(len(self.trees)):
            leaf = f"{c.name(self, f'tree{t}')}({x})"
            if self.outputs is None:
                c.line(f"{c.name(self, 'add')}({leaf}, {total});")
            else:
                vote = f"{total}[{self.outputs[t]}]"
                c.line(f"{vote} = ({ctype})({vote} + {leaf});")
