"""Few vectors in the place of many: a kernel expansion f = Σ_i a_i k(x_i, ·), several at once.

Vectors z_j and coefficients b_j are sought for which ||Σ_i a_i k(x_i, ·) - Σ_j b_j k(z_j, ·)||²,
summed over the functions, is small (Burges, "Simplified support vector decision rules", 1996). For
given vectors the best coefficients solve K_zz b = K_zx a, so only the vectors are searched for.
"""

import numpy as np
from scipy.linalg import solve
from scipy.optimize import minimize

_RIDGE = 0.1  # relative to the mean of the diagonal: keeps coefficients small enough for 8 bits


def reduced_set(rows, coefficients, start, kernel, gamma, n_iter=60):
    """Return points and their coefficients that stand in for rows and theirs.

    Parameters
    ----------
    rows : ndarray of shape (n, d)
    coefficients : ndarray of shape (n, n_functions)
    start : ndarray of shape (m, d)
        Points to begin from.
    kernel : Gaussian, Laplacian or Polynomial
    gamma : float
    n_iter : int, default=60
        Iterations of L-BFGS.

    Returns
    -------
    points : ndarray of shape (m, d)
    coefficients : ndarray of shape (m, n_functions)
    """

    def value_and_slope(flat):
        value, slope = distance(rows, coefficients, flat.reshape(start.shape), kernel, gamma)
        return value, slope.ravel()

    options = {"maxiter": n_iter, "maxcor": 20}
    found = minimize(value_and_slope, start.ravel(), jac=True, method="L-BFGS-B", options=options)
    points = found.x.reshape(start.shape)
    return points, projected(rows, coefficients, points, kernel, gamma)


def projected(rows, coefficients, points, kernel, gamma):
    """Return the best coefficients of given points."""
    among, _ = kernel.values(points, points, gamma)
    across, _ = kernel.values(points, rows, gamma)
    return _solved(among, across @ coefficients)


def distance(rows, coefficients, points, kernel, gamma):
    """Return the squared distance, less a constant, and its gradient by the points."""
    among, kept_among = kernel.values(points, points, gamma)
    across, kept_across = kernel.values(points, rows, gamma)
    target = across @ coefficients
    best = _solved(among, target)
    d_across, _ = kernel.slope(-2 * best @ coefficients.T, across, kept_across, gamma)
    d_among = best @ best.T
    d_among[np.diag_indices(len(best))] += _RIDGE * np.vdot(best, best) / len(best)
    d_among, _ = kernel.slope(d_among, among, kept_among, gamma)
    slope = kernel.pull(d_across, points, rows)
    slope += 2 * kernel.pull(d_among, points, points)  # d_among is symmetric
    return -np.vdot(best, target), slope


def _solved(among, target):
    damped = among + _RIDGE * np.trace(among) / len(among) * np.eye(len(among))
    return solve(damped, target, assume_a="pos")
