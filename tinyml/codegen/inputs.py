"""What the features of calibration rows say about the type of the input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyml.codegen.fixed import storage_ctype
from tinyml.codegen.graph import Floats


@dataclass(frozen=True)
class InputRange:
    """What is known of the raw features: whole numbers of a C type, or reals with their extent.

    `has_missing` says whether some are NaN.
    """

    ctype: str | None
    extent: Floats
    has_missing: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether features are taken as they are."""
        return self.ctype is not None


def range_of(X: NDArray[Any], declared: tuple[float, float] | None) -> InputRange:
    """Decide whether features are whole numbers, and of which C type."""
    has_missing = bool(np.isnan(X).any())
    X = np.nan_to_num(X)
    extent = np.abs(X).max(axis=0, initial=0).astype(np.float64)
    whole = X.dtype.kind in "iub" or bool(np.all(np.floor(X) == X))
    if not whole or extent.max(initial=0) >= 2**22:
        reach = np.maximum(extent, np.abs(declared).max()) if declared else extent
        return InputRange(None, reach, has_missing)
    if declared is not None:
        lo, hi = int(np.floor(declared[0])), int(np.ceil(declared[1]))
        if not -(2**31) <= lo <= hi < 2**31:
            raise ValueError(
                "The 'input_range' parameter of compile must lie within 32 bits where features "
                f"are whole numbers. Got {declared} instead."
            )
    elif X.dtype.itemsize <= 2 and X.dtype.kind in "iu":
        return InputRange(f"{X.dtype.name}_t", extent)
    else:
        lo, hi = _with_spare_bit(int(X.min(initial=0)), int(X.max(initial=0)))
    if has_missing:  # the lowest value of a signed type says so
        lo = min(lo, 0) - 1
    return InputRange(storage_ctype(lo, hi), extent, has_missing)


def _with_spare_bit(lo: int, hi: int) -> tuple[int, int]:
    top = (1 << max(abs(lo), abs(hi)).bit_length() + 1) - 1
    return (-top - 1 if lo < 0 else 0), top
