"""Q-formats: what an integer on the chip means, and the one rule by which it is rounded.

A value is an integer array ``raw`` that stands for ``raw * 2**-frac``. Its `Fixed` also carries
proven bounds, so no sum or product can overflow: wrap-around never has to be modelled, in Python or
in C.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
Exponent = int | IntArray

# Narrowest first. Unsigned types are storage only: every element is cast to a signed type
# before it takes part in arithmetic.
STORAGE = ("int8_t", "uint8_t", "int16_t", "uint16_t", "int32_t")
_RANGE = {
    "int8_t": (-(2**7), 2**7 - 1),
    "uint8_t": (0, 2**8 - 1),
    "int16_t": (-(2**15), 2**15 - 1),
    "uint16_t": (0, 2**16 - 1),
    "int24_t": (-(2**23), 2**23 - 1),
    "int32_t": (-(2**31), 2**31 - 1),
}
LARGEST_INPUT = 2**23 - 1
"""The largest raw feature that `quantize` gives: beyond it single precision skips integers."""

_SIGNED = ("int16_t", "int24_t", "int32_t")


def ctype_range(ctype: str) -> tuple[int, int]:
    """Return the smallest and the largest value of a C type of ours.

    Examples
    --------
    >>> from tinyml.codegen.fixed import ctype_range
    >>> ctype_range("uint8_t")
    (0, 255)
    """
    return _RANGE[ctype]


def _narrowest(candidates: tuple[str, ...], lo: int, hi: int) -> str:
    for ctype in candidates:
        if _RANGE[ctype][0] <= lo and hi <= _RANGE[ctype][1]:
            return ctype
    raise OverflowError(f"the range [{lo}, {hi}] needs more than 32 bits")


def storage_ctype(lo: int, hi: int) -> str:
    """Return the narrowest C type that stores every integer from `lo` to `hi`."""
    return _narrowest(STORAGE, lo, hi)


def arithmetic_ctype(lo: int, hi: int) -> str:
    """Return the narrowest signed type of at least 16 bits for arithmetic in [`lo`, `hi`].

    24 bits are a type of their own on AVR and the same as 32 elsewhere.
    """
    return _narrowest(_SIGNED, lo, hi)


def index_ctype(largest: int) -> str:
    """Return the C type of a count or position of at most `largest`."""
    return _narrowest(("uint8_t", "uint16_t", "int32_t"), 0, largest)


def ctype_bytes(ctype: str) -> int:
    """Return the bytes one element of `ctype` takes in a table or a buffer."""
    return np.dtype(ctype.removesuffix("_t")).itemsize


@dataclass(frozen=True, eq=False)
class Fixed:
    """The type of a value: shape, Q-format and proven range of its raw integers.

    Parameters
    ----------
    shape : tuple of int
        Shape of one sample.
    frac : int or ndarray of int
        Fractional bits; an array gives every element its own.
    lo, hi : int or ndarray of int
        Inclusive bounds on the raw integers, proven for any input.

    Examples
    --------
    >>> from tinyml.codegen.fixed import Fixed
    >>> t = Fixed((3,), frac=4, lo=-100, hi=100)
    >>> t.ctype, t.size
    ('int8_t', 3)
    """

    shape: tuple[int, ...]
    frac: Exponent
    lo: Exponent
    hi: Exponent

    @property
    def size(self) -> int:
        """Number of elements in one sample."""
        return int(np.prod(self.shape, dtype=int))

    @property
    def lowest(self) -> int:
        """The smallest raw integer of any element."""
        return int(np.min(self.lo))

    @property
    def highest(self) -> int:
        """The largest raw integer of any element."""
        return int(np.max(self.hi))

    @property
    def magnitude(self) -> int:
        """The largest absolute raw integer of any element."""
        return max(abs(self.lowest), abs(self.highest))

    @property
    def ctype(self) -> str:
        """C type that stores one element."""
        return storage_ctype(self.lowest, self.highest)

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy twin of `ctype`."""
        return np.dtype(self.ctype.removesuffix("_t"))

    @property
    def nbytes(self) -> int:
        """Bytes of one sample in memory."""
        return self.size * ctype_bytes(self.ctype)

    @property
    def scalar_frac(self) -> int:
        """The one `frac` of all elements; an error of ours if they differ."""
        frac = np.unique(self.frac)
        assert frac.size == 1, "elements of different frac must be aligned first"
        return int(frac[0])

    def to_float(self, raw: IntArray) -> NDArray[np.float64]:
        """Return the real numbers that `raw` stands for."""
        return np.asarray(np.ldexp(np.asarray(raw, dtype=np.float64), -np.asarray(self.frac)))


def rshift(raw: Exponent, shift: Exponent) -> IntArray:
    """Divide by ``2**shift``, rounding half up; a negative `shift` multiplies exactly.

    This is the only rounding rule of integers in the project.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.codegen.fixed import rshift
    >>> rshift(np.array([-3, 3, 5]), 1), rshift(np.array([3]), -2)
    (array([-1,  2,  3]), array([12]))
    """
    raw, shift = np.asarray(raw, dtype=np.int64), np.asarray(shift, dtype=np.int64)
    right, left = np.maximum(shift, 0), np.maximum(-shift, 0)
    half = np.where(right > 0, np.left_shift(1, np.maximum(right - 1, 0)), 0)
    return np.asarray(np.right_shift(np.left_shift(raw, left) + half, right))


def to_raw(value: Any, frac: Exponent, lo: Exponent, hi: Exponent) -> IntArray:
    """Round real numbers half up to the grid ``2**-frac`` and saturate them to [`lo`, `hi`]."""
    scaled = np.floor(np.ldexp(np.asarray(value, dtype=np.float64), frac) + 0.5)
    return np.clip(scaled, lo, hi).astype(np.int64)


def frac_for(magnitude: float, limit: int) -> int:
    """Return the largest `frac` whose grid holds `magnitude` without exceeding `limit`.

    Examples
    --------
    >>> from tinyml.codegen.fixed import frac_for
    >>> frac_for(1.0, 127), frac_for(300.0, 127)
    (6, -2)
    """
    if not magnitude > 0:
        return 0
    frac = int(np.floor(np.log2(limit) - np.log2(magnitude)))
    while np.floor(np.ldexp(magnitude, frac) + 0.5) > limit:
        frac -= 1
    while np.floor(np.ldexp(magnitude, frac + 1) + 0.5) <= limit:
        frac += 1
    return frac


def grid(tensor: Any, bits: int) -> int:
    """Return the `frac` of the finest `bits`-bit grid that holds a weight tensor.

    The one choice of weight grids in the project: training on the quantised weights and lowering
    them both call it.

    Parameters
    ----------
    tensor : array-like of float
    bits : int
        Width of one stored value, sign included.

    Returns
    -------
    frac : int
        Values are stored as ``round(tensor * 2**frac)``, within ``±(2**(bits - 1) - 1)``.

    Examples
    --------
    >>> from tinyml.codegen.fixed import grid
    >>> grid([0.5, -0.9], 8)
    7
    """
    tensor = np.asarray(tensor, dtype=np.float64)
    return frac_for(float(np.abs(tensor).max(initial=0.0)), 2 ** (bits - 1) - 1)


def exact_frac(tensor: Any, bits: int = 16) -> int | None:
    """Return the smallest `frac` that holds a tensor exactly, None if `bits` bits cannot.

    Examples
    --------
    >>> from tinyml.codegen.fixed import exact_frac
    >>> exact_frac([0.5, -0.75]), exact_frac([3.0, 4096.0]), exact_frac([0.1])
    (2, 0, None)
    """
    tensor = np.asarray(tensor, dtype=np.float64)
    finest = grid(tensor, bits)
    whole = np.ldexp(tensor, finest)
    if not np.array_equal(whole, np.floor(whole)):
        return None
    factor = int(np.gcd.reduce(whole.astype(np.int64), axis=None))
    return finest - max(0, (factor & -factor).bit_length() - 1)
