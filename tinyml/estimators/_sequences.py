"""How sequences lie in rows: time-major, all channels of a step together."""

from ..base import flattened


def as_rows(X, n_channels):
    """Rows of shape (n_samples, n_steps * n_channels) from arrays of two or three dimensions."""
    if getattr(X, "ndim", 2) == 3 and X.shape[2] != n_channels:
        raise ValueError(
            f"Sequences of three dimensions must have n_channels={n_channels} in the last. "
            f"Got shape {X.shape} instead."
        )
    return flattened(X)


def n_steps(X, n_channels):
    """Number of time steps of each row."""
    if X.shape[1] % n_channels:
        raise ValueError(
            f"The number of features must be a multiple of n_channels={n_channels}. "
            f"Got {X.shape[1]} features instead."
        )
    return X.shape[1] // n_channels
