"""Projection onto the arrays with a given number of non-zeros."""

import numpy as np


def largest(values, count):
    """Mask of the `count` entries of largest magnitude; of equals the first is kept.

    The count is exact, which a comparison with the threshold alone does not give.
    """
    magnitude = np.abs(values).ravel()
    if count >= magnitude.size:
        return np.ones(values.shape, dtype=bool)
    if count == 0:
        return np.zeros(values.shape, dtype=bool)
    threshold = np.partition(magnitude, -count)[-count]
    mask = magnitude > threshold
    ties = np.flatnonzero(magnitude == threshold)
    mask[ties[: count - np.count_nonzero(mask)]] = True
    return mask.reshape(values.shape)


def hard_threshold(values, count):
    """Set all but the `count` entries of largest magnitude to zero, in place; return the mask."""
    mask = largest(values, count)
    values[~mask] = 0
    return mask
