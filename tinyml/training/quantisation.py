"""Rounding of parameters to the grids of 8-bit integers that they will be stored on."""

import numpy as np
from numba import njit

from ..codegen import fixed

BITS = 8
LARGEST = 2 ** (BITS - 1) - 1
_LITTLE = 1e-3
_MOST_SATURATED = 4  # bits by which the largest values may exceed a common grid


class Grid:
    """Values that a part of a flat vector may take: ``unit * 2**-frac * {-127, ..., 127}``.

    Parameters
    ----------
    part : slice
        Where the values are; with a start and a stop.
    unit : float or array of the size of the part, default=1.0
        Positive unit of each value.

    Attributes
    ----------
    frac : int or None
        Fractional bits, set by `choose`.
    """

    def __init__(self, part, unit=1.0):
        self.part, self.unit, self.frac = part, np.asarray(unit, dtype=np.float64), None

    def choose(self, theta):
        """Take the finest grid that holds the values which the part has now."""
        self._set_frac(fixed.grid(theta[self.part] / self.unit, BITS), theta)

    def _set_frac(self, frac, theta):
        self.frac, size = frac, self.part.stop - self.part.start
        self.steps = np.broadcast_to(np.ldexp(self.unit, -self.frac), size).astype(theta.dtype)

    def write(self, latent, theta):
        """Write the points of the grid nearest to the latent values; those off its ends saturate.

        Zeros stay zero, and no other value becomes zero: the number of zeros is that of training.
        """
        _round(latent[self.part], self.steps, theta[self.part])

    def integers(self, theta):
        """Return the whole numbers, within ±127, that multiply the steps of the grid."""
        return np.rint(theta[self.part] / self.steps).astype(np.int64)


class FoldedGrid(Grid):
    """A grid of values that are divided by a scale when training is over.

    The quotients are on a grid again whose steps are powers of two: the unit of a value is its
    scale over a power of two. That power is 1 for all values where rounding to such a grid changes
    little, a few of the largest quotients saturating, because the features then need no shift on
    the device; otherwise it is the one nearest to the scale.

    Parameters
    ----------
    part : slice
        Where the values are; with a start and a stop.
    scale : float or array of the size of the part
        Positive; what is divided by infinity becomes zero.
    """

    def __init__(self, part, scale):
        self.finite = np.isfinite(scale)
        self.scale = np.where(self.finite, scale, 1)
        self._set_powers(np.zeros_like(self.scale, dtype=int))
        super().__init__(part, self.unit)

    def _set_powers(self, powers):
        self.powers, self.unit = powers, np.ldexp(self.scale, -powers)

    def choose(self, theta):
        """Take one step for all quotients if rounding changes little, else one for each scale."""
        trials = range(_MOST_SATURATED + 1) if np.ptp(np.log2(self.scale)) < BITS else ()
        for finer in trials:
            super().choose(theta)
            self._set_frac(self.frac + finer, theta)
            if self._change(theta) <= _LITTLE:
                return
        self._set_powers(np.rint(np.log2(self.scale)).astype(int))
        super().choose(theta)

    def _change(self, theta):
        """Sum of squares of what rounding changes, relative to that of the values."""
        rounded = theta.copy()
        self.write(theta, rounded)
        before, after = theta[self.part], rounded[self.part]
        return np.sum((after - before) ** 2) / max(np.sum(before**2), 1e-30)

    @property
    def folded_frac(self):
        """Fractional bits of each quotient."""
        return self.frac + self.powers

    def folded(self, theta):
        """Return the quotients, in float64 and exactly on their grids."""
        return np.ldexp(1.0 * self.finite * self.integers(theta), -self.folded_frac)


@njit(cache=True)
def _round(values, steps, rounded):
    for i in range(values.size):
        count = np.rint(values[i] / steps[i])
        if count == 0 and values[i] != 0:
            count = np.sign(values[i])
        rounded[i] = min(max(count, -LARGEST), LARGEST) * steps[i]
