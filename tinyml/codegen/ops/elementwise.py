"""Ops on single elements: reading the input, choosing columns, narrowing, looking up."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tinyml.codegen.fixed import Exponent, Fixed, IntArray, arithmetic_ctype, ctype_range, rshift
from tinyml.codegen.ops.base import Code, Elementwise, Op, Ref, Store, Table


@dataclass(eq=False)
class Input(Op):
    """The raw features. Their bounds are those of the whole C type: any value is legal.

    Where `missing` is given, that value says that there is none.
    """

    size: int
    frac: int | IntArray
    ctype: str
    missing: int | None = None
    inputs: tuple[Op, ...] = field(default=(), init=False)

    def __post_init__(self) -> None:
        self.type = Fixed((self.size,), self.frac, *ctype_range(self.ctype))

    def run(self, *args: IntArray) -> IntArray:
        return np.asarray(args[0], dtype=np.int64)

    def emit(self, c: Code, store: Store, *args: Ref) -> None:
        raise AssertionError("the input is the function's argument; it is never computed")


@dataclass(eq=False)
class Gather(Op):
    """y_i = x[columns_i]."""

    x: Op
    columns: IntArray

    def __post_init__(self) -> None:
        self.inputs = (self.x,)
        source = self.x.type

        def take(bound: int | IntArray) -> IntArray:
            return np.asarray(np.broadcast_to(bound, source.shape)[self.columns])

        self.type = Fixed((len(self.columns),), take(source.frac), take(source.lo), take(source.hi))

    def run(self, *args: IntArray) -> IntArray:
        return args[0][:, self.columns]

    def tables(self) -> dict[str, Table]:
        return {"columns": Table.of_indices(self.columns)}

    def emit(self, c: Code, store: Store, *args: Ref) -> None:
        (x,) = args
        with c.loop("i", self.type.size) as i:
            store(i, x(c.read(self, "columns", i)))


@dataclass(eq=False)
class Scale(Elementwise):
    """y_i = factor_i x_i + offset_i, in units of ``2**-frac``: a power of two costs nothing."""

    x: Op
    factor: int | IntArray
    offset: int | IntArray
    frac: Exponent

    def __post_init__(self) -> None:
        self.inputs = (self.x,)
        t = self.x.type
        self.factor, self.offset = _collapsed(self.factor), _collapsed(self.offset)
        products = [np.asarray(self.factor * end, dtype=np.int64) for end in (t.lo, t.hi)]
        lo = np.asarray(np.minimum(*products) + self.offset, dtype=np.int64)
        hi = np.asarray(np.maximum(*products) + self.offset, dtype=np.int64)
        self.type = Fixed(t.shape, self.frac, lo, hi)
        ends = [t.lo, t.hi, *products, self.factor, self.offset, lo, hi]
        lowest, highest = min(int(np.min(e)) for e in ends), max(int(np.max(e)) for e in ends)
        self._working = arithmetic_ctype(lowest, highest)

    def run(self, *args: IntArray) -> IntArray:
        return np.asarray(self.factor * args[0] + self.offset)

    def tables(self) -> dict[str, Table]:
        parts = {"factor": self.factor, "offset": self.offset}
        return {key: Table.of(np.asarray(v)) for key, v in parts.items() if np.ndim(v) > 0}

    @property
    def work(self) -> int:
        return self.type.size * (1 if np.ndim(self.factor) == 0 and self.factor == 1 else 8)

    def element(self, c: Code, index: str, *values: str) -> str:
        working, (value,) = c.ctype(self._working), values
        expression = f"({working}){value}"
        if np.ndim(self.factor) > 0 or self.factor != 1:
            factor = self._part(c, "factor", self.factor, index)
            expression = f"({working})({expression} * ({working}){factor})"
        if np.ndim(self.offset) > 0 or self.offset != 0:
            offset = self._part(c, "offset", self.offset, index)
            expression = f"({working})({expression} + ({working}){offset})"
        return expression

    def _part(self, c: Code, key: str, values: int | IntArray, index: str) -> str:
        return c_int(int(values)) if np.ndim(values) == 0 else c.read(self, key, index)


@dataclass(eq=False)
class Add(Elementwise):
    """y_i = a_i + b_i, both on one grid."""

    a: Op
    b: Op

    def __post_init__(self) -> None:
        self.inputs = (self.a, self.b)
        a, b = self.a.type, self.b.type
        assert a.scalar_frac == b.scalar_frac, "summands must be aligned"
        self.type = Fixed(a.shape, a.scalar_frac, a.lo + b.lo, a.hi + b.hi)
        self._working = arithmetic_ctype(self.type.lowest, self.type.highest)

    def run(self, *args: IntArray) -> IntArray:
        return np.asarray(args[0] + args[1])

    def element(self, c: Code, index: str, *values: str) -> str:
        working, (a, b) = c.ctype(self._working), values
        return f"({working})(({working}){a} + ({working}){b})"


@dataclass(eq=False)
class Mul(Elementwise):
    """y_i = a_i b_i."""

    a: Op
    b: Op

    def __post_init__(self) -> None:
        self.inputs = (self.a, self.b)
        a, b = self.a.type, self.b.type
        ends = np.array(
            np.broadcast_arrays(a.lo * b.lo, a.lo * b.hi, a.hi * b.lo, a.hi * b.hi), dtype=np.int64
        )
        frac = np.asarray(np.add(a.frac, b.frac), dtype=np.int64)
        self.type = Fixed(a.shape, frac, ends.min(axis=0), ends.max(axis=0))
        self._working = arithmetic_ctype(self.type.lowest, self.type.highest)

    def run(self, *args: IntArray) -> IntArray:
        return np.asarray(args[0] * args[1])

    @property
    def work(self) -> int:
        return 8 * self.type.size

    def element(self, c: Code, index: str, *values: str) -> str:
        working, (a, b) = c.ctype(self._working), values
        return f"({working})(({working}){a} * ({working}){b})"


@dataclass(eq=False)
class Above(Elementwise):
    """y_i = 1 where x_i > threshold_i, else 0."""

    x: Op
    thresholds: IntArray

    def __post_init__(self) -> None:
        self.inputs = (self.x,)
        t, thresholds = self.x.type, np.asarray(self.thresholds)
        self.type = Fixed(t.shape, 0, (t.lo > thresholds) * 1, (t.hi > thresholds) * 1)
        ends = t.lowest, t.highest, int(thresholds.min()), int(thresholds.max())
        self._working = arithmetic_ctype(min(ends), max(ends))

    def run(self, *args: IntArray) -> IntArray:
        return (args[0] > self.thresholds).astype(np.int64)

    def tables(self) -> dict[str, Table]:
        return {"thresholds": Table.of(self.thresholds)}

    def element(self, c: Code, index: str, *values: str) -> str:
        working, (x,) = c.ctype(self._working), values
        threshold = c.read(self, "thresholds", index)
        return f"(({working}){x} > ({working}){threshold} ? 1 : 0)"


@dataclass(eq=False)
class Fill(Elementwise):
    """y_i = value_i where x_i is the code that says so, else x_i · 2^left."""

    x: Op
    codes: int | IntArray
    values: int | IntArray
    left: int

    def __post_init__(self) -> None:
        self.inputs = (self.x,)
        t = self.x.type
        lo, hi = (np.left_shift(np.asarray(end, dtype=np.int64), self.left) for end in (t.lo, t.hi))
        self.codes, self.values = _collapsed(self.codes), _collapsed(self.values)
        self.type = Fixed(
            t.shape,
            np.asarray(t.frac, dtype=np.int64) + self.left,
            np.minimum(lo, self.values),
            np.maximum(hi, self.values),
        )
        ends = [self.type.lo, self.type.hi, t.lo, t.hi, self.codes]
        lowest, highest = min(int(np.min(e)) for e in ends), max(int(np.max(e)) for e in ends)
        self._working = arithmetic_ctype(lowest, highest)

    def run(self, *args: IntArray) -> IntArray:
        (x,) = args
        return np.where(x == self.codes, self.values, np.left_shift(x, self.left))

    def tables(self) -> dict[str, Table]:
        parts = {"codes": self.codes, "values": self.values}
        return {key: Table.of(np.asarray(v)) for key, v in parts.items() if np.ndim(v) > 0}

    def element(self, c: Code, index: str, *values: str) -> str:
        working, v = c.ctype(self._working), c.fresh("v")
        code, value = (
            c_int(int(part)) if np.ndim(part) == 0 else c.read(self, key, index)
            for key, part in (("codes", self.codes), ("values", self.values))
        )
        c.line(f"{working} {v} = ({working}){values[0]};")
        otherwise = f"({working})({v} * {c_int(1 << self.left)})" if self.left else v
        c.line(f"{v} = {v} == ({working}){code} ? ({working}){value} : {otherwise};")
        return v


@dataclass(eq=False)
class Child(Elementwise):
    """y = min(2k + 1, last) where s > 0, else min(2k + 2, last): one step down a complete tree."""

    k: Op
    s: Op
    last: int

    def __post_init__(self) -> None:
        self.inputs = (self.k, self.s)
        if self.k.type.size != 1 or self.k.type.lowest < 0:
            raise ValueError("Child descends from one node, counted from 0")
        self.type = Fixed((1,), 0, 0, self.last)
        self._working = arithmetic_ctype(0, 2 * self.k.type.highest + 2)

    def run(self, *args: IntArray) -> IntArray:
        k, s = args
        return np.asarray(np.minimum(2 * k + 1 + (s <= 0), self.last))

    def element(self, c: Code, index: str, *values: str) -> str:
        working, (k, s) = c.ctype(self._working), values
        child = c.fresh("child")
        c.line(f"{working} {child} = ({working})(2 * ({working}){k} + ({s} > 0 ? 1 : 2));")
        if self.type.highest < 2 * self.k.type.highest + 2:
            c.line(f"if ({child} > {c_int(self.last)}) {child} = {c_int(self.last)};")
        return child


@dataclass(eq=False)
class Narrow(Elementwise):
    """y = clip(x >> shift, lo, hi), rounded half up; a negative shift multiplies.

    With `shift` 0 it is a plain clip. `shift` may differ from element to element; then one
    multiplication by a power of two from a table and one common shift do it. Where 32 bits could
    not hold the product, x is first limited to where every element has saturated.
    """

    x: Op
    shift: int | IntArray
    lo: int | IntArray
    hi: int | IntArray

    def __post_init__(self) -> None:
        self.inputs = (self.x,)
        source = self.x.type
        self.shift, self.lo, self.hi = map(_collapsed, (self.shift, self.lo, self.hi))
        lowest, highest = rshift(source.lo, self.shift), rshift(source.hi, self.shift)
        self._below = bool(np.any(lowest < self.lo))
        self._above = bool(np.any(highest > self.hi))
        self.type = Fixed(
            source.shape,
            np.asarray(source.frac, dtype=np.int64) - self.shift,
            np.clip(lowest, self.lo, self.hi),
            np.clip(highest, self.lo, self.hi),
        )
        self._right = max(0, int(np.max(self.shift)))
        self._limits_first = not self._fits(source.lo, source.hi)
        self._working_ctype()  # refuses now what 32 bits cannot hold

    def run(self, *args: IntArray) -> IntArray:
        return np.clip(rshift(args[0], self.shift), self.lo, self.hi)

    @property
    def _factor(self) -> IntArray:
        """Powers of two that turn the per-element shifts into one common right shift."""
        return np.left_shift(1, self._right - np.asarray(self.shift, dtype=np.int64))

    def _before_rounding(self, lo: Exponent, hi: Exponent) -> tuple[int, int]:
        """Return the range of what is shifted to the right, for x in [`lo`, `hi`]."""
        half = (1 << self._right) >> 1
        lo, hi, factor = (  # 64 bits may not hold what is to be refused
            np.asarray(a).astype(object) for a in (lo, hi, self._factor)
        )
        return int(np.min(lo * factor)), int(np.max(hi * factor)) + half

    def _fits(self, lo: Exponent, hi: Exponent) -> bool:
        lowest, highest = self._before_rounding(lo, hi)
        return lowest >= -(2**31) and highest < 2**31

    @property
    def _saturated(self) -> tuple[int, int]:
        """The values of x at which y has reached its bounds whatever the element's shift."""
        lo, hi = min(0, int(np.min(self.lo))), max(0, int(np.max(self.hi)))
        source, left = self.x.type, max(0, -int(np.max(self.shift)))
        if left:  # every element is multiplied by this much at least
            lo, hi = lo >> left, -(-hi >> left)
        return max(lo << self._right, source.lowest), min(hi << self._right, source.highest)

    def _ends(self) -> tuple[int, int]:
        """Return the range of what is shifted, as far as x is let through."""
        ends = self._saturated if self._limits_first else (self.x.type.lo, self.x.type.hi)
        return self._before_rounding(*ends)

    @property
    def _largest(self) -> int:
        return max(map(abs, self._ends()))

    def _working_ctype(self) -> str:
        lowest, highest = self._ends()
        return arithmetic_ctype(min(lowest, self.type.lowest), max(highest, self.type.highest))

    def tables(self) -> dict[str, Table]:
        tables = {} if np.ndim(self.shift) == 0 else {"factor": Table.of_indices(self._factor)}
        for key, bound, needed in (("lo", self.lo, self._below), ("hi", self.hi, self._above)):
            if needed and np.ndim(bound) > 0:
                reached = np.clip(bound, self.type.lowest, self.type.highest)
                tables[key] = Table.of(reached)
        return tables

    def element(self, c: Code, index: str, *values: str) -> str:
        (value,) = values
        working = c.ctype(self._working_ctype())
        expression = f"({working}){self._limited(c, value) if self._limits_first else value}"
        if np.ndim(self.shift) > 0:
            expression = f"({working})({expression} * ({working}){c.read(self, 'factor', index)})"
        elif np.max(self.shift) < 0:
            expression = f"({working})({expression} * {c_int(1 << -int(np.max(self.shift)))})"
        if self._right:
            half = 1 << (self._right - 1)
            rounded = f"({working})({expression} + {c_int(half)})"
            ctype, largest = self._working_ctype(), self._largest
            expression = f"({working}){shifted(c, rounded, ctype, self._right, largest)}"
        return self._clipped(c, working, expression, index)

    def _limited(self, c: Code, value: str) -> str:
        lo, hi = self._saturated
        v, wide = c.fresh("v"), arithmetic_ctype(self.x.type.lowest, self.x.type.highest)
        c.line(f"{c.ctype(wide)} {v} = {value};")
        c.line(f"if ({v} < {c_int(lo)}) {v} = {c_int(lo)};")
        c.line(f"if ({v} > {c_int(hi)}) {v} = {c_int(hi)};")
        return v

    def _clipped(self, c: Code, working: str, expression: str, index: str) -> str:
        if not (self._below or self._above):
            return expression
        v = c.fresh("v")
        c.line(f"{working} {v} = {expression};")
        if self._below:
            lo = self._bound(c, "lo", self.lo, index)
            c.line(f"if ({v} < {lo}) {v} = {lo};")
        if self._above:
            hi = self._bound(c, "hi", self.hi, index)
            c.line(f"if ({v} > {hi}) {v} = {hi};")
        return v

    def _bound(self, c: Code, key: str, bound: int | IntArray, index: str) -> str:
        return c_int(int(bound)) if np.ndim(bound) == 0 else c.read(self, key, index)


@dataclass(eq=False)
class Lookup(Elementwise):
    """y = table[clip((x >> shift) - base)], the shift rounding down: any function of one number."""

    x: Op
    values: IntArray
    base: int
    shift: int
    frac: int

    def __post_init__(self) -> None:
        self.inputs = (self.x,)
        self.type = Fixed(
            self.x.type.shape, self.frac, int(self.values.min()), int(self.values.max())
        )
        self._first = (self.x.type.lowest >> self.shift) - self.base
        self._last = (self.x.type.highest >> self.shift) - self.base
        ends = (self.x.type.lowest, self.x.type.highest, self._first, self._last)
        self._working = arithmetic_ctype(min(*ends, 0), max(*ends, len(self.values)))

    def run(self, *args: IntArray) -> IntArray:
        index = np.clip((args[0] >> self.shift) - self.base, 0, len(self.values) - 1)
        return np.asarray(self.values[index], dtype=np.int64)

    def tables(self) -> dict[str, Table]:
        return {"values": Table.of(self.values)}

    def element(self, c: Code, index: str, *values: str) -> str:
        (value,) = values
        working = c.ctype(self._working)
        x = f"({working}){value}"
        largest = self.x.type.magnitude
        position = f"({working}){shifted(c, x, self._working, self.shift, largest)}"
        if self.base:
            position = f"({working})({position} - {c_int(self.base)})"
        k, end = c.fresh("k"), len(self.values) - 1
        c.line(f"{working} {k} = {position};")
        if self._first < 0:
            c.line(f"if ({k} < 0) {k} = 0;")
        if self._last > end:
            c.line(f"if ({k} > {c_int(end)}) {k} = {c_int(end)};")
        return c.read(self, "values", k)


@dataclass(eq=False)
class Interpolate(Elementwise):
    """y = t[k] + ((t[k+1] - t[k]) · r >> bits), k = x >> shift, r the next `bits` bits of x.

    x is not negative; beyond the table y is its last value. `bits` is 8, or `shift` where less.
    """

    x: Op
    values: IntArray
    shift: int
    frac: int

    def __post_init__(self) -> None:
        self.inputs = (self.x,)
        if self.x.type.lowest < 0 or len(self.values) < 2:
            raise ValueError(
                "Interpolate reads numbers that are not negative from two values or more"
            )
        lo, hi = int(self.values.min()), int(self.values.max())
        self.type = Fixed(self.x.type.shape, self.frac, lo, hi)
        self.bits = min(8, self.shift)
        rise = int(np.abs(np.diff(self.values)).max())
        product = rise * (1 << self.bits) + (1 << self.bits >> 1)
        self._product = arithmetic_ctype(min(lo, -product), max(hi, product))
        self._working = arithmetic_ctype(0, max(self.x.type.highest, len(self.values)))

    def run(self, *args: IntArray) -> IntArray:
        (x,) = args
        values = np.asarray(self.values, dtype=np.int64)
        k = np.minimum(x >> self.shift, len(values) - 2)
        r = (x >> (self.shift - self.bits)) & ((1 << self.bits) - 1)
        between = values[k] + rshift((values[k + 1] - values[k]) * r, self.bits)
        return np.asarray(np.where(x >> self.shift > k, values[-1], between))

    @property
    def work(self) -> int:
        return 8 * self.type.size

    def tables(self) -> dict[str, Table]:
        return {"values": Table.of(self.values)}

    def element(self, c: Code, index: str, *values: str) -> str:
        (value,) = values
        working, product = c.ctype(self._working), c.ctype(self._product)
        z, k, y, end = c.fresh("z"), c.fresh("k"), c.fresh("y"), len(self.values) - 1
        largest = self.x.type.magnitude
        c.line(f"const {working} {z} = ({working}){value};")
        c.line(
            f"const {working} {k} = ({working}){shifted(c, z, self._working, self.shift, largest)};"
        )
        c.line(f"{product} {y} = {c.read(self, 'values', f'({k} < {end} ? {k} : {end})')};")
        with c.block(f"if ({k} < {end})"):
            after = c.read(self, "values", f"{k} + 1")
            rise = f"({product})(({product}){after} - {y})"
            part = f"({z} >> {self.shift - self.bits}) & {(1 << self.bits) - 1}"
            step = self._rounded(product, f"({product})({rise} * ({product})({part}))")
            c.line(f"{y} = ({product})({y} + {step});")
        return y

    def _rounded(self, product: str, expression: str) -> str:
        if not self.bits:
            return expression
        half = c_int(1 << (self.bits - 1))
        return f"({product})(({product})({expression} + {half}) >> {self.bits})"


def _collapsed(values: int | IntArray) -> int | IntArray:
    """Return one number where all elements have the same."""
    different = np.unique(values)
    return int(different[0]) if different.size == 1 else np.asarray(values, dtype=np.int64)


def shifted(c: Code, expression: str, ctype: str, n: int, magnitude: int) -> str:
    """Spell ``expression >> n`` so that an 8-bit chip moves bytes where it can.

    `expression` has the type `ctype` and is at most `magnitude` from zero. A shift by 8 or 16 is
    free there and any other a loop over all bytes; so whole bytes go first, in a narrower type.
    """
    if ctype == "int24_t" and 4 < n < 8 and magnitude << (8 - n) < 2**23:
        wide = c.ctype(ctype)
        return f"(({wide})({expression} * {1 << (8 - n)}) >> 8)"
    if ctype == "int24_t" and n > 8:
        return f"((int16_t)({expression} >> 8) >> {n - 8})"
    if ctype == "int32_t" and n > 16:
        return f"((int16_t)({expression} >> 16) >> {n - 16})"
    if ctype == "int32_t" and 8 < n < 16:
        return f"(({c.ctype('int24_t')})({expression} >> 8) >> {n - 8})"
    return f"({expression} >> {n})"


def c_int(value: int) -> str:
    """Spell an integer constant for C, on a target whose `int` may have 16 bits."""
    text = str(value) if abs(value) <= 32767 else f"INT32_C({value})"
    if value == -(2**31):
        text = "(-INT32_C(2147483647) - 1)"
    return f"({text})" if value < 0 and not text.startswith("(") else text
