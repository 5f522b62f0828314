"""Stochastic descent on one flat vector of parameters, some of whose entries become zero."""

import numpy as np
from numba import njit

from .proximal import hard_threshold

ROUNDING_BEGINS = 0.8


@njit(cache=True)
def adam_step(theta, gradient, mean, square, rates, step):
    """One step of Adam (Kingma & Ba, 2015, Algorithm 1), with a rate for each entry.

    An entry of rate 0 stays as it is: this is how a support is held fixed.
    """
    correct_mean = np.float32(1 - 0.9**step)
    correct_square = np.float32(1 - 0.999**step)
    for i in range(theta.size):
        mean[i] += np.float32(0.1) * (gradient[i] - mean[i])
        square[i] += np.float32(0.001) * (gradient[i] * gradient[i] - square[i])
        scale = np.sqrt(square[i] / correct_square) + np.float32(1e-8)
        theta[i] -= rates[i] * (mean[i] / correct_mean) / scale


def one_cycle(t, warm_up=0.1):
    """Factor of the learning rate at the fraction t of training: up linearly, down by a cosine."""
    if t < warm_up:
        return 0.1 + 0.9 * t / warm_up
    return 0.5 * (1 + np.cos(np.pi * (t - warm_up) / (1 - warm_up)))


def kept_fraction(t, final, begin=0.1, end=0.6):
    """Fraction of entries kept at the fraction t of training, falling by a cubic.

    Zhu & Gupta, "To prune, or not to prune", 2017, equation 1.
    """
    left = 1 - np.clip((t - begin) / (end - begin), 0, 1)
    return final + (1 - final) * left**3


def views(flat, shapes):
    """Cut a flat vector into arrays of the given shapes, which share its memory."""
    ends = np.cumsum([np.prod(shape, dtype=int) for shape in shapes])
    parts = np.split(flat, ends[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def minibatches(n_rows, batch_size, rng):
    """Row indices of one epoch in random order, cut into equal batches."""
    return np.array_split(rng.permutation(n_rows), batches_per_epoch(n_rows, batch_size))


def batches_per_epoch(n_rows, batch_size):
    return max(1, round(n_rows / batch_size))


def descend(theta, rates, objective, sparse, epochs, n_steps, quantised=()):
    """Minimise by Adam with an annealed step; return the mean loss of each epoch.

    In the last fifth of training the quantised parts are rounded: the gradient at the rounded
    values moves latent ones, which are rounded anew after each step (the straight-through
    estimator; Courbariaux, Bengio & David, "BinaryConnect", 2015).

    Parameters
    ----------
    theta : float32 array of shape (n_parameters,)
        Where to start; overwritten by the result.
    rates : float32 array of shape (n_parameters,)
        The highest step size of each parameter.
    objective : callable
        `objective(rows)` returns the loss of a batch at `theta` and its gradient.
    sparse : list of (slice, int)
        Parts of `theta`, each with the number of its entries that shall not be zero. The number
        falls gradually to this; after that the support is fixed.
    epochs : iterable of lists of index arrays
        The batches of each epoch.
    n_steps : int
        Number of batches in all epochs.
    quantised : list of Grid, default=()
        Parts of `theta` that shall end on a grid, which is chosen when rounding begins.
    """
    latent = theta
    mean, square = np.zeros((2, theta.size), dtype=np.float32)
    alive = np.ones(theta.size, dtype=np.float32)
    curve, step = [], 0
    for batches in epochs:
        losses = []
        for rows in batches:
            t, step = step / n_steps, step + 1
            if t >= ROUNDING_BEGINS and latent is theta:
                latent = _begin_rounding(theta, quantised)
            loss, gradient = objective(rows)
            losses.append(loss)
            sizes = np.float32(one_cycle(t)) * rates * alive
            adam_step(latent, gradient, mean, square, sizes, step)
            if step % 10 == 0 or step == n_steps:
                _thin(latent, alive, sparse, step / n_steps)
            if latent is not theta:
                _write(latent, theta, quantised)
        curve.append(float(np.mean(losses)))
    if latent is theta:  # fewer steps than fifths
        _begin_rounding(theta, quantised)
    return curve


def _begin_rounding(theta, quantised):
    """Choose the grids and round `theta` to them; return the latent values."""
    if not quantised:
        return theta
    latent = theta.copy()
    for grid in quantised:
        grid.choose(latent)
    _write(latent, theta, quantised)
    return latent


def _write(latent, theta, quantised):
    theta[:] = latent
    for grid in quantised:
        grid.write(latent, theta)


def _thin(theta, alive, sparse, t):
    """Reduce each sparse part to the number of entries kept at the fraction t of training."""
    for part, count in sparse:
        size = part.stop - part.start
        kept = round(size * kept_fraction(t, count / size))
        if kept < np.count_nonzero(alive[part]):
            alive[part] = hard_threshold(theta[part], kept)
