"""Forests as tables: shapes, tests and leaves packed bit by bit, without a pointer."""

from __future__ import annotations

import numpy as np

from tinyml.codegen.fixed import (
    IntArray,
    arithmetic_ctype,
    index_ctype,
)
from tinyml.codegen.ops.base import Code, Store, Table
from tinyml.codegen.ops.elementwise import c_int
from tinyml.codegen.ops.trees import TreeWalk
from tinyml.codegen.storage import field_bytes, packed_bytes

_WALK_BYTES = 400


class TreeTable(TreeWalk):
    """A forest in packed tables, the small layout.

    `shape` has one bit for each node in depth-first order, 1 for a split. One pass over these bits
    walks all trees: a branch that is not taken is passed over, counting its splits and leaves, so
    that no node has to say where its children are. Each split has a field in `tests`, each leaf one
    in `leaves`.
    """

    # Tables --------------------------------------------------------------------------------------

    def tables(self) -> dict[str, Table]:
        shape = np.concatenate([~tree.is_leaf for tree in self.trees]).astype(np.int64)
        offset = {} if self._is_single else self.offset_table()
        return offset | {"shape": packed(shape, 1)} | self._test_tables() | self._leaf_tables()

    def _test_tables(self) -> dict[str, Table]:
        feature, threshold = self.splits
        if not len(feature):
            return {}
        how = self.split_tables
        if how.is_shared:
            tests, number = np.unique(
                np.column_stack([feature, threshold]), axis=0, return_inverse=True
            )
            columns = {
                "feature": Table.of_indices(tests[:, 0]),
                "threshold": Table.of(tests[:, 1]),
            }
            return fields("tests", number.ravel(), how.field_bits) | columns
        threshold_bits = how.field_bits - how.feature_bits
        return fields("features", feature, how.feature_bits) | fields(
            "thresholds", threshold - self._least_threshold, threshold_bits
        )

    @property
    def _least_threshold(self) -> int:
        return int(self.splits[1].min(initial=0 if not self.n_splits else 2**31))

    def _leaf_tables(self) -> dict[str, Table]:
        bits = self.leaf_tables.field_bits
        if self.outputs is None:
            numbers = np.concatenate([tree.leaf[tree.is_leaf] for tree in self.trees])
            return fields("leaves", numbers, bits) | self.row_tables()
        values = self._scalars
        tables = {}
        if self.leaf_tables.is_shared:
            distinct, values = np.unique(values, return_inverse=True)
            tables["values"] = Table.of(distinct)
        else:
            values = values - values.min()
        if not self._is_single:
            counts = np.bincount(self.outputs, minlength=self.type.size)
            tables["counts"] = Table(counts, index_ctype(len(self.trees)))
        return fields("leaves", values, bits) | tables

    @property
    def _scalars(self) -> IntArray:
        return np.concatenate([self.scalar(t) for t in range(len(self.trees))])

    @property
    def flash_bytes(self) -> int:
        return self.table_bytes + _WALK_BYTES

    # C -------------------------------------------------------------------------------------------

    def declare(self, c: Code) -> None:
        tables = self.tables()
        for name, bits in self._field_bits().items():
            if name in tables:
                self._declare_field(c, name, bits)
        if self.outputs is None:
            self.declare_add(c)
        self._declare_walk(c)

    def _field_bits(self) -> dict[str, int]:
        how = self.split_tables
        bits = {"leaves": self.leaf_tables.field_bits}
        if how.is_shared:
            return bits | {"tests": how.field_bits}
        return bits | {
            "features": how.feature_bits,
            "thresholds": how.field_bits - how.feature_bits,
        }

    def _declare_field(self, c: Code, name: str, bits: int) -> None:
        """Write the function that reads one field of a packed table."""
        n = self.n_leaves if name == "leaves" else self.n_splits
        address, n_bytes = index_ctype(n * bits).replace("int32", "uint32"), field_bytes(bits)
        word = index_ctype(2 ** (8 * n_bytes) - 1) if n_bytes < 3 else "uint32_t"
        result = index_ctype(2**bits - 1) if bits <= 16 else "uint32_t"
        signature = f"static {result} {c.name(self, f'{name}_at')}({self._count_ctype} k)"
        with c.block(signature):
            c.line(f"const {address} at = ({address})(({address})k * {bits});")
            p, step = c.cursor(self, name, "(at >> 3)")
            c.line(f"{word} word = {step}(&{p});")
            for k in range(1, n_bytes):
                c.line(f"word = ({word})(word | ({word})(({word}){step}(&{p}) << {8 * k}));")
            if bits % 8 or n_bytes > bits // 8:
                c.line(f"word = ({word})((word >> (at & 7)) & {c_int(2**bits - 1)});")
            c.line(f"return ({result})word;")

    @property
    def _count_ctype(self) -> str:
        """C type of the number of a node."""
        return index_ctype(self.n_leaves).replace("int32", "uint32").replace("uuint", "uint")

    def _field(self, c: Code, name: str, number: str) -> str:
        return f"{c.name(self, f'{name}_at')}({number})" if name in self.tables() else "0"

    def _declare_walk(self, c: Code) -> None:
        """Write the function that walks all trees in one pass over their shape."""
        x, total, tables = c.ctype(self.x.type.ctype), c.ctype(self.accumulator), self.tables()
        head = f"static {total} {c.name(self, 'walk')}(const {x} *x)"
        if not self._is_single:
            head = f"static void {c.name(self, 'walk')}(const {x} *x, {total} *sum)"
        with c.block(head):
            s, step = c.cursor(self, "shape")
            c.line("uint8_t bits = 0, unread = 0;")
            also = ", leaf = 0" if "leaves" in tables else ""
            c.line(f"{self._count_ctype} split = 0{also};")
            if self._is_single:
                c.line(f"{total} sum = {c_int(int(self.offset[0]))};")
            if not self.n_splits:
                c.line("(void)x;")
            self._for_each_tree(c, s, step)
            if self._is_single:
                c.line("return sum;")

    def _for_each_tree(self, c: Code, s: str, step: str) -> None:
        n = len(self.trees)
        count = index_ctype(n)
        if self.outputs is None or self._is_single:
            with c.block(f"for ({count} n = {n}; n > 0; n--)"):
                self._walk_one(c, s, step, "sum")
            return
        counts, next_count = c.cursor(self, "counts")
        each = f"for ({count} n = {next_count}(&{counts}); n > 0; n--)"
        with c.loop("i", self.type.size) as i, c.block(each):
            self._walk_one(c, s, step, f"sum[{i}]")

    def _walk_one(self, c: Code, s: str, step: str, into: str) -> None:
        counts_leaves = "leaves" in self.tables()
        count = "leaf++; " if counts_leaves else ""
        depth = index_ctype(max(int(tree.depths()[0]) for tree in self.trees) + 1)
        c.line(f"{depth} later = 0, passing = 0; /* subtrees to pass over: at the end, now */")
        c.line("uint8_t arrived = 0;")
        if counts_leaves:
            c.line(f"{self._count_ctype} reached = 0;")
        with c.block("for (;;)"):
            with c.block("while (passing > 0)"):
                self._next_bit(c, s, step)
                c.line(f"if (is_split) {{ split++; passing++; }} else {{ {count}passing--; }}")
            c.line("if (arrived) break;")
            self._next_bit(c, s, step)
            with c.block("if (is_split)"):
                if self.n_splits:
                    c.line(f"if ({self._test(c)}) later++; else passing = 1;")
                c.line("split++;")
            with c.block("else"):
                if counts_leaves:
                    c.line("reached = leaf++;")
                c.line("passing = later;")
                c.line("arrived = 1;")
        self._add(c, into)

    def _next_bit(self, c: Code, s: str, step: str) -> None:
        with c.block("if (unread == 0)"):
            c.line(f"bits = {step}(&{s});")
            c.line("unread = 8;")
        c.line("const uint8_t is_split = bits & 1;")
        c.line("bits = (uint8_t)(bits >> 1);")
        c.line("unread--;")

    def _test(self, c: Code) -> str:
        """Return the condition under which a row goes to the left of the split `split`."""
        x = c.ctype(self.x.type.ctype)
        if self.split_tables.is_shared:
            c.line(
                f"const {index_ctype(len(self.tables()['feature'].values) - 1)} test = "
                f"{self._field(c, 'tests', 'split')};"
            )
            feature, threshold = c.read(self, "feature", "test"), c.read(self, "threshold", "test")
            return f"x[{feature}] <= ({x}){threshold}"
        least, bits = self._least_threshold, self._field_bits()["thresholds"]
        ctype = c.ctype(arithmetic_ctype(min(least, 0), max(2**bits - 1, least + 2**bits - 1)))
        field = self._field(c, "thresholds", "split")
        threshold = f"({x})(({ctype}){field} + {c_int(least)})"
        return f"x[{self._field(c, 'features', 'split')}] <= {threshold}"

    def _add(self, c: Code, into: str) -> None:
        total, field = c.ctype(self.accumulator), self._field(c, "leaves", "reached")
        if self.outputs is None:
            c.line(f"{c.name(self, 'add')}({field}, sum);")
            return
        values = self._scalars
        if self.leaf_tables.is_shared:
            value = c.read(self, "values", field)
        else:
            least = int(values.min())
            value = f"({total}){field} + {c_int(least)}" if least else f"({total}){field}"
        c.line(f"{into} = ({total})({into} + {value});")

    def emit_sum(self, c: Code, store: Store, x: str) -> None:
        acc = c.fresh("acc")
        c.line(f"const {c.ctype(self.accumulator)} {acc} = {c.name(self, 'walk')}({x});")
        store("0", acc)

    def emit_votes(self, c: Code, x: str, total: str) -> None:
        c.line(f"{c.name(self, 'walk')}({x}, {total});")


def fields(name: str, values: IntArray, bits: int) -> dict[str, Table]:
    """Return a packed table, or none where one value is all there is."""
    return {name: packed(values, bits)} if bits else {}


def packed(values: IntArray, bits: int) -> Table:
    """Put fields of `bits` bits end to end, the lowest bit first.

    Behind the last one are as many bytes as reading it touches.
    """
    single = (np.asarray(values)[:, None] >> np.arange(bits)) & 1
    data = np.packbits(single.ravel().astype(np.uint8), bitorder="little")
    padded = np.zeros(packed_bytes(len(values), bits), dtype=np.int64)
    padded[: len(data)] = data
    return Table(padded, "uint8_t")
