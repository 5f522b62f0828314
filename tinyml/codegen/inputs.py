"""What the features of calibration rows say about the type of the input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyml.codegen.fixed import storage_ctype
from tinyml.codegen.graph import Floats

_SMALLEST, _LARGEST = 1e-30, 1e30  # of the largest real feature


@dataclass(frozen=True)
class InputRange:
    """What is known of the raw features: whole numbers of a C type, or reals with their extent.

    `has_gaps` says that a value is wanted for what is missing, `is_declared` that the extent is the
    user's and not only that of the rows.
    """

    ctype: str | None
    extent: Floats
    has_gaps: bool = False
    is_declared: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether features are taken as they are."""
        return self.ctype is not None


def range_of(
    X: NDArray[Any], declared: tuple[float, float] | None, *, has_gaps: bool = False
) -> InputRange:
    """Decide whether features are whole numbers, and of which C type.

    With `has_gaps` the lowest value of the type stays free, to say that something is missing.
    """
    whole = X.dtype.kind in "iub" or bool(np.all((np.floor(X) == X) | np.isnan(X)))
    extent = np.abs(np.nan_to_num(np.asarray(X, dtype=np.float64))).max(axis=0, initial=0)
    if not whole or extent.max(initial=0) >= 2**22:
        reach = np.maximum(extent, np.abs(declared).max()) if declared else extent
        _check_size(reach)
        return InputRange(None, reach, has_gaps, declared is not None)
    lo, hi = _whole_range(X, declared)
    if has_gaps:
        lo = min(lo, 0) - 1
    if not -(2**31) <= lo <= hi < 2**31:
        raise ValueError(
            "The 'input_range' parameter of compile must lie within 32 bits where features "
            f"are whole numbers. Got {declared} instead."
        )
    return InputRange(storage_ctype(lo, hi), extent, has_gaps)


def _check_size(reach: Floats) -> None:
    largest = float(reach.max(initial=0))
    if largest and not _SMALLEST < largest < _LARGEST:
        raise ValueError(
            f"The 'X' parameter of compile must hold numbers between {_SMALLEST:g} and {_LARGEST:g}"
            f" in size, which single precision can scale. Got {largest:g} as the largest."
        )


def _whole_range(X: NDArray[Any], declared: tuple[float, float] | None) -> tuple[int, int]:
    if declared is not None:
        return int(np.floor(declared[0])), int(np.ceil(declared[1]))
    if X.dtype.itemsize <= 2 and X.dtype.kind in "iu":
        limits = np.iinfo(X.dtype)
        return int(limits.min), int(limits.max)
    X = np.nan_to_num(X)
    return _with_spare_bit(int(X.min(initial=0)), int(X.max(initial=0)))


def _with_spare_bit(lo: int, hi: int) -> tuple[int, int]:
    top = (1 << max(abs(lo), abs(hi)).bit_length() + 1) - 1
    return (-top - 1 if lo < 0 else 0), top
