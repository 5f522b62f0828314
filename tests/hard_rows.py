"""Rows that are hard on a program: any value of its C type, and floats of every kind."""

import numpy as np


def raw_rows(program, X, n, seed=0):
    """Return at least `n` raw rows: random, extreme, and rows of X as they are and spoilt."""
    rng = np.random.default_rng(seed)
    limits = np.iinfo(program.input.type.dtype)
    size = program.n_features
    quarter = -(-n // 4)
    random = rng.integers(limits.min, limits.max, (quarter, size), endpoint=True)
    ends = np.array([limits.min, limits.min + 1, max(limits.min, -1), 0, 1, limits.max])
    extreme = rng.choice(ends, (quarter, size))
    constant = np.repeat(ends[:, None], size, axis=1)
    real = program.quantize(X)[rng.integers(0, len(X), quarter)].astype(np.int64)
    spoilt = np.where(rng.random(real.shape) < 1.5 / size, rng.choice(ends, real.shape), real)
    rows = np.vstack([random, extreme, constant, real, spoilt])
    return rng.permutation(rows).astype(limits.dtype)


def float_rows(program, X, n, seed=0):
    """Return at least `n` rows of float32: ordinary, half-way, huge, tiny, impossible."""
    rng = np.random.default_rng(seed)
    shape = (n, program.n_features)
    strange = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, -1e-45, 1e-39, 3.4e38, -3.4e38]
    exponents = rng.integers(-126, 127, shape)
    anything = np.ldexp(rng.uniform(-2, 2, shape), exponents)
    near = np.asarray(X, dtype=np.float64)[rng.integers(0, len(X), n)]
    halves = np.ldexp(rng.integers(-300, 300, shape) / 2, -np.asarray(program.input.type.frac))
    kinds = [anything, near, np.nextafter(near.astype(np.float32), np.float32(np.inf)), halves]
    chosen = np.choose(rng.integers(0, len(kinds), shape), kinds)
    return np.where(rng.random(shape) < 0.2, rng.choice(strange, shape), chosen).astype(np.float32)
