"""W x + b in integers: how columns are conditioned, the grid of the weights, the width of the sum.

Several spellings of one product are tried on the calibration rows, from cheap to dear, and the
first that is accurate enough is kept. In all of them the sum is proven to fit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cholesky, inv

from tinyml.codegen.elementwise import elementwise
from tinyml.codegen.fixed import LARGEST_INPUT, IntArray, grid, rshift
from tinyml.codegen.fold import View
from tinyml.codegen.graph import Floats, relative_error
from tinyml.codegen.narrowing import WIDEST, narrow_parts, raw_bound, run_between, within_32_bits
from tinyml.codegen.ops import Gather, Join, MatVec, Narrow, Op, Scale

_SUM_BITS = (16, 24, 32)
_MOST_LEFT = 14  # of a column's shift
_FINER = 4  # grids tried beyond the one that holds every weight
_COARSER = 8  # grids given up for a narrower sum
_KEPT_ENOUGH = 0.05  # error at which no other than the trained weights are tried
_FAR = 4  # times its spread; beyond, a column is moved to zero
_MOST_FEEDBACK = 1024  # columns; the factor costs their cube


@dataclass(frozen=True)
class AffineFormat:
    """Widths of a matrix product, and the error (relative to its spread) that is small enough."""

    table_bits: int
    input_bits: int
    tolerance: float


def affine(
    x: Op,
    raw: IntArray,
    view: View,
    weights: Floats,
    bias: Floats,
    fmt: AffineFormat,
    grid: Any = None,
) -> Op:
    """Return the ops of ``weights @ view(x) + bias``: the cheapest that is accurate enough.

    Parameters
    ----------
    x : Op
    raw : ndarray of int, shape (n_rows, x.type.size)
        Values of x on calibration rows.
    view : View
    weights : ndarray of shape (n_outputs, n_columns)
    bias : ndarray of shape (n_outputs,)
    fmt : AffineFormat
    grid : int or ndarray of shape (n_columns,), optional
        Where given, ``weights * 2.0**grid`` are whole numbers, and these are what is stored.
    """
    if grid is None and np.all(np.count_nonzero(weights, axis=1) == 1):
        return elementwise(x, raw, view, weights, bias, fmt.input_bits)
    if isinstance(x, Join):
        x, raw = narrow_parts(x, raw, WIDEST)
    a, b, lo, hi = view.as_clipped_affine()
    bias = bias + weights @ b
    exponents = _scaled_grid(grid, a)
    x, raw, weights, (lo, hi, exponents) = _columns(
        x, raw, view.columns, weights * a, (lo, hi, exponents), fill=(-np.inf, np.inf, 0)
    )
    x, raw, offset = _centred(x, raw)
    problem = _Product.of(x, raw, weights, lo - offset, hi - offset, bias + weights @ offset, fmt)
    if np.all(np.isfinite(exponents)):
        problem.grid = exponents.astype(np.int64)
    best: tuple[float, Op] | None = None
    for error, candidate in problem.candidates():
        if error <= fmt.tolerance:
            return candidate
        if best is None or error < 0.8 * best[0]:  # a dearer spelling must be worth it
            best = (error, candidate)
    assert best is not None, "a 32-bit sum holds any product on some grid"
    return best[1]


def _scaled_grid(grid: Any, factor: Floats) -> Floats:
    """Return the grid of each column once it is multiplied; NaN where no power of two does that."""
    if grid is None:
        return np.full(len(factor), np.nan)
    with np.errstate(divide="ignore"):
        mantissa, exponent = np.frexp(np.abs(factor))
    return np.where(mantissa == 0.5, grid - (exponent - 1.0), np.nan)


def _columns(
    x: Op,
    raw: IntArray,
    columns: NDArray[np.intp],
    weights: Floats,
    others: tuple[Floats, ...],
    fill: tuple[float, ...],
) -> tuple[Op, IntArray, Floats, tuple[Floats, ...]]:
    """Spread the weights over all columns of x, or gather the used ones where that is smaller.

    So are `others`, one number per column each, with `fill` where no column is used.
    """
    size = x.type.size
    used = np.flatnonzero(np.any(weights != 0, axis=0))
    dense = 2 * np.count_nonzero(weights) > weights.size
    repeated = len(np.unique(columns[used])) < len(used)  # each may clip differently
    if repeated or (dense and (size - len(used)) * len(weights) > len(used) > 0):
        gather = Gather(x, columns[used])
        return gather, gather.run(raw), weights[:, used], tuple(o[used] for o in others)
    spread = np.zeros((len(weights), size))
    spread[:, columns[used]] = weights[:, used]
    ends = tuple(np.full(size, value, dtype=np.float64) for value in fill)
    for end, other in zip(ends, others, strict=True):
        end[columns[used]] = other[used]
    return x, raw, spread, ends


def _centred(x: Op, raw: IntArray) -> tuple[Op, IntArray, Floats]:
    """Move columns whose distance from zero would waste their bits; return by how much."""
    nothing = np.zeros(x.type.size)
    lowest, highest = raw.min(axis=0), raw.max(axis=0)
    middle, half = (lowest + highest) >> 1, (highest - lowest) >> 1
    far = (np.abs(middle) > _FAR * half) & (half > 0)
    if x.type.dtype.itemsize == 1 or not far.any():
        return x, raw, nothing
    offset = np.where(far, middle, 0)
    limit = LARGEST_INPUT
    near = x if x.type.magnitude <= limit else Narrow(x, 0, -limit, limit)
    centred = Scale(near, 1, -offset, near.type.frac)
    frac = np.broadcast_to(x.type.frac, x.type.shape)
    return centred, run_between(x, centred, raw), np.ldexp(offset.astype(np.float64), -frac)


@dataclass(eq=False)
class _Conditioned:
    """What the matrix reads: an op behind x, and its values on calibration rows."""

    op: Op
    seen: IntArray

    @property
    def scale(self) -> Floats:
        """The real number that one unit of each column stands for."""
        frac = np.broadcast_to(self.op.type.frac, self.op.type.shape)
        return np.asarray(np.ldexp(1.0, -frac))

    @cached_property
    def bounds(self) -> Floats:
        """The proven magnitude of each column."""
        t = self.op.type
        largest = np.maximum(np.abs(t.lo), np.abs(t.hi))
        return np.broadcast_to(largest, t.shape).astype(np.float64)

    @cached_property
    def feedback(self) -> Floats | None:
        """Upper Cholesky factor of the inverse covariance; None if the columns are too many."""
        n = self.seen.shape[1]
        if n > _MOST_FEEDBACK or len(self.seen) < 2:
            return None
        centred = self.seen - self.seen.mean(axis=0)
        covariance = centred.T @ centred / len(centred)
        damping = 0.01 * max(1e-6, float(np.trace(covariance)) / n)
        try:
            return np.asarray(cholesky(inv(covariance + damping * np.eye(n))))
        except LinAlgError:
            return None


def _round_together(weights: Floats, limit: int, feedback: Floats | None) -> Floats:
    """Round to whole numbers within ±limit so that errors of correlated columns cancel.

    Column by column the error is passed on to the columns still to come, as far as these can make
    up for it on the calibration rows (optimal brain quantisation with a fixed order, Frantar et al.
    2022, "GPTQ").
    """
    if feedback is None:
        return np.clip(np.floor(weights + 0.5), -limit, limit)
    kept = weights != 0  # what is sparse stays sparse
    weights = weights.copy()
    for j in range(weights.shape[1]):
        rounded = np.clip(np.floor(weights[:, j] + 0.5), -limit, limit)
        error = (weights[:, j] - rounded) / feedback[j, j]
        weights[:, j + 1 :] -= error[:, None] * feedback[j, j + 1 :] * kept[:, j + 1 :]
        weights[:, j] = rounded
    return weights


@dataclass(eq=False)
class _Product:
    """One product to be spelled: real weights, the values its input takes, and where it clips."""

    x: Op
    raw: IntArray
    weights: Floats
    clip: tuple[IntArray, IntArray] | None
    bias: Floats
    fmt: AffineFormat
    grid: IntArray | None = None  # weights[:, j] * 2**grid[j] are whole numbers to be kept

    @classmethod
    def of(
        cls,
        x: Op,
        raw: IntArray,
        weights: Floats,
        lo: Floats,
        hi: Floats,
        bias: Floats,
        fmt: AffineFormat,
    ) -> _Product:
        """Express the clip to [`lo`, `hi`] in raw units of x."""
        clip = None
        if np.any(np.isfinite(lo) | np.isfinite(hi)):
            clip = raw_bound(x, lo, x.type.lo), raw_bound(x, hi, x.type.hi)
        return cls(x, raw, weights, clip, bias, fmt)

    def __post_init__(self) -> None:
        self.frac = np.asarray(np.broadcast_to(self.x.type.frac, self.x.type.shape))
        seen = self.raw if self.clip is None else np.clip(self.raw, *self.clip)
        self.reach = np.maximum(1, np.abs(seen).max(axis=0, initial=1))
        self.weights, self.bias = self._without_giants(seen)
        self.signed = bool(seen.min(initial=0) < 0)
        unsigned = not self.signed and self.fmt.input_bits == 8
        self.limit = 2 ** (self.fmt.input_bits - (0 if unsigned else 1)) - 1
        self.weight_limit = 2 ** (self.fmt.table_bits - 1) - 1
        self.wanted = np.ldexp(seen.astype(np.float64), -self.frac) @ self.weights.T + self.bias

    def _without_giants(self, seen: IntArray) -> tuple[Floats, Floats]:
        """Limit the weights of columns that never varied to the largest of the others.

        Behind a scaler they may be any size, and one grid for all would leave the others nothing.
        The bias takes up the difference.
        """
        still = seen.min(axis=0) == seen.max(axis=0)
        if still.all() or not still.any():
            return self.weights, self.bias
        unit = np.ldexp(1.0, -self.frac)
        largest = float(np.abs(self.weights * unit)[:, ~still].max())
        limited = np.clip(self.weights * unit, -largest, largest) / unit
        weights = np.where(still, limited, self.weights)
        return weights, self.bias + (self.weights - weights) @ (seen[0] * unit)

    def candidates(self) -> Iterator[tuple[float, MatVec]]:
        """Yield spellings from cheap to dear, each with its error."""
        if self.grid is not None and np.any(self.weights):
            kept = [found for bits in _SUM_BITS for found in self._kept(self.grid, bits)]
            yield from kept
            if min((error for error, _ in kept), default=np.inf) < _KEPT_ENOUGH:
                return
        plain = self._conditioned(self.x if self._as_is else self._uniform())
        for sum_bits in _SUM_BITS:
            yield from self._with(plain, sum_bits)
            yield from self._shifted_as_needed(sum_bits)
        filled = self._shifted(self._least_shift)
        if filled is not None:
            for sum_bits in _SUM_BITS:
                yield from self._with(filled, sum_bits)
        if self.fmt.input_bits == 8:  # a few rows may lie so far out that nothing is left of others
            for finer in (1, 2, 3):
                saturated = self._shifted(self._least_shift - finer)
                if saturated is not None:
                    yield from self._with(saturated, 32)
        if self._as_is:
            clipped = self._conditioned(self._uniform())
            for sum_bits in _SUM_BITS:
                yield from self._with(clipped, sum_bits)
        if self.fmt.input_bits == 16:  # a large bias may leave the weights too few bits
            for coarser in (2, 4, 6, 8):
                yield from self._with(self._conditioned(self._uniform(coarser)), 32)

    def _kept(self, grid: IntArray, sum_bits: int) -> Iterator[tuple[float, MatVec]]:
        """Yield the product with the very weights that lie on `grid`.

        The sum then has one grid: columns are shifted to it.
        """
        fracs = self.frac + grid
        used = np.any(self.weights != 0, axis=0)
        usual = int(np.median(fracs[used]))
        fracs = np.where(used, fracs, usual)  # what is not read needs no shift of its own
        fills = int((fracs - self._least_shift)[used & (self.reach > 1)].min(initial=2**10))

        def conditioned(frac: int) -> _Conditioned | None:
            shift = fracs - frac
            if self._as_is and not shift.any():
                return self._conditioned(self.x)
            if np.all(shift == shift[0]):
                return self._conditioned(self._narrow(int(shift[0]), self.limit))
            u = self._shifted(shift)
            exact = u is not None and np.all((np.asarray(u.op.type.frac) + grid == frac)[used])
            return u if exact else None

        yield from self._best(conditioned, min(fills, int(fracs.max())), sum_bits)

    # One spelling --------------------------------------------------------------------------------

    def _with(self, u: _Conditioned, sum_bits: int) -> Iterator[tuple[float, MatVec]]:
        """Yield the product of u on the best grid whose sum fits, if a sensible one does."""
        yield from self._best(lambda _: u, self._finest(u), sum_bits)

    def _finest(self, u: _Conditioned) -> int:
        """Return the finest grid that holds every weight."""
        scaled = self.weights * u.scale
        return grid(scaled, self.fmt.table_bits) if scaled.any() else grid(self.bias, 16)

    def _best(
        self, conditioned: Callable[[int], _Conditioned | None], finest: int, sum_bits: int
    ) -> Iterator[tuple[float, MatVec]]:
        """Yield the most accurate grid.

        On grids finer than the `finest` that holds every weight the largest saturate. That pays
        where these belong to columns that hardly ever vary.
        """
        found: list[tuple[float, MatVec]] = []
        frac = finest + _FINER
        while not (found and frac < finest) and (sum_bits == 32 or frac > finest - _COARSER):
            u = conditioned(frac)
            op = None if u is None else self._product(u, frac, sum_bits)
            if u is not None and op is not None:
                found.append((self._error(op, u), op))
            frac = frac - 1 if u is None or op is not None else self._lower(u, frac, sum_bits)
            if frac < finest - 200:
                break
        if found:
            yield min(found, key=lambda f: f[0])

    def _lower(self, u: _Conditioned, frac: int, sum_bits: int) -> int:
        """Return the next coarser grid on which the sum may fit."""
        total = (np.abs(self.weights * u.scale) @ u.bounds + np.abs(self.bias)).max()
        return min(frac - 1, int(np.floor(sum_bits - 1 - np.log2(total))) + 1)

    def _product(self, u: _Conditioned, frac: int, sum_bits: int) -> MatVec | None:
        """Return the product on one grid if its sum is proven to fit, else None.

        Weights saturate, and the bias takes up what rounding changes for the mean row.
        """
        scaled = np.ldexp(self.weights * u.scale, frac)
        if np.abs(scaled).max(initial=0) > 2.0**40:
            return None
        feedback = u.feedback if self.fmt.table_bits == 8 else None
        rounded = _round_together(scaled, self.weight_limit, feedback)
        change = (scaled - rounded) @ u.seen.mean(axis=0)
        offset = np.floor(np.ldexp(self.bias, frac) + change + 0.5)
        if np.any(np.abs(rounded) @ u.bounds + np.abs(offset) >= 2.0 ** (sum_bits - 1)):
            return None
        return MatVec(u.op, rounded.astype(np.int64), offset.astype(np.int64), frac)

    def _error(self, op: MatVec, u: _Conditioned) -> float:
        """Return the root mean square error on calibration rows over the spread of the result."""
        return relative_error(op.type.to_float(op.run(u.seen)), self.wanted, each=False)

    # Conditioning --------------------------------------------------------------------------------

    @property
    def _as_is(self) -> bool:
        """Whether x needs no conditioning: narrow enough, and nothing clips."""
        return self.clip is None and self.x.type.dtype.itemsize * 8 <= self.fmt.input_bits

    def _conditioned(self, op: Op) -> _Conditioned:
        return _Conditioned(op, run_between(self.x, op, self.raw))

    def _uniform(self, coarser: int = 0) -> Op:
        """Condition with one shift and one clip for all columns, `coarser` bits than needed."""
        farthest = int(self.reach.max())
        shift = max(0, farthest.bit_length() - self.limit.bit_length()) + coarser
        top = min(self.limit, (1 << int(rshift(farthest, shift)).bit_length()) - 1)
        return self._narrow(shift, top)

    @cached_property
    def _least_shift(self) -> IntArray:
        """The shift of each column that makes it fill the width."""
        bits = np.array([int(r).bit_length() for r in self.reach], dtype=np.int64)
        return np.asarray(np.maximum(bits - self.limit.bit_length(), -_MOST_LEFT))

    def _shifted_as_needed(self, sum_bits: int) -> Iterator[tuple[float, MatVec]]:
        """Yield the product behind a power of two per column, with the finest weights that fit.

        A column is shifted left only as far as its weight would not fit otherwise; the shift
        saturates it near its calibrated range.
        """
        largest = np.abs(self.weights).max(axis=0) * np.ldexp(1.0, -self.frac)
        if not largest.any():
            return
        with np.errstate(divide="ignore"):
            room = np.log2(self.weight_limit) - np.log2(largest)

        def conditioned(frac: int) -> _Conditioned | None:
            shift = np.floor(
                np.clip(room - frac, self._least_shift, np.maximum(self._least_shift, 0))
            )
            return self._shifted(shift.astype(np.int64))

        yield from self._best(
            conditioned, int(np.floor((room - self._least_shift).min())), sum_bits
        )

    def _shifted(self, shift: IntArray) -> _Conditioned | None:
        """Condition with a shift per column; None if all are the same or a product too wide.

        A single row tells nothing of how far columns reach.
        """
        if len(self.raw) < 2:
            return None
        shift = within_32_bits(shift, self.x, self.limit)
        if np.all(shift == shift[0]):
            return None
        try:
            return self._conditioned(self._narrow(shift, self.limit))
        except OverflowError:
            return None

    def _narrow(self, shift: int | IntArray, top: int) -> Op:
        lo = -top if self.signed else 0
        if self.clip is None:
            return Narrow(self.x, shift, lo, top)
        ends = (np.clip(rshift(end, shift), lo, top) for end in self.clip)
        return Narrow(self.x, shift, *ends)
