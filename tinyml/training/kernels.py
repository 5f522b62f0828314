"""Kernels of rows and points, and their gradients.

Rows have the shape (n, d), points (m, d), kernels (n, m), and all have one type of floats.
`values` returns the kernel and what it is a function of: distances or products. `slope` turns a
gradient by the kernel, which it overwrites, into one by these, and into one by log(gamma); `pull`
turns the gradient by these into that by the rows, or with the arguments swapped by the points.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit


class _Radial:
    """exp(-gamma d) of a distance d."""

    def values(self, rows, points, gamma):
        distances = self._distances(rows, points)
        return np.exp(-gamma * distances), distances

    def slope(self, d_kernel, kernel, distances, gamma):
        d_kernel *= kernel
        d_kernel *= -gamma
        return d_kernel, np.vdot(d_kernel, distances)


class Gaussian(_Radial):
    """exp(-gamma ||p - z||^2)."""

    def _distances(self, rows, points):
        return squared_distances(rows, points)

    def pull(self, d_distances, rows, points):
        # ||p_i - z_j||^2 has the gradient 2 (p_i - z_j) by p_i
        return 2 * (d_distances.sum(axis=1)[:, None] * rows - d_distances @ points)


class Laplacian(_Radial):
    """exp(-gamma ||p - z||_1), which needs no products of differences."""

    def _distances(self, rows, points):
        return _absolute_distances(rows, np.ascontiguousarray(points.T))

    def pull(self, d_distances, rows, points):
        return _sums_of_signs(np.ascontiguousarray(d_distances), rows, points)


@dataclass(frozen=True)
class Polynomial:
    """(p · z + 1)^degree; gamma is part of the rows and points."""

    degree: int

    def values(self, rows, points, gamma):
        base = rows @ points.T
        base += 1
        return base**self.degree, base

    def slope(self, d_kernel, kernel, base, gamma):
        d_kernel *= self.degree * base ** (self.degree - 1)
        return d_kernel, 0.0

    def pull(self, d_base, rows, points):
        return d_base @ points


def squared_distances(rows, points):
    """||p_i - z_j||^2 by one product; what rounding makes negative becomes zero."""
    distances = rows @ (-2 * points.T)
    distances += (rows * rows).sum(axis=1)[:, None]
    distances += (points * points).sum(axis=1)
    return np.maximum(distances, 0, out=distances)


@njit(cache=True)
def _absolute_distances(rows, columns):
    """Σ_k |rows_ik - columns_kj|; the sums run side by side, none is split."""
    n, d = rows.shape
    distances = np.zeros((n, columns.shape[1]), dtype=rows.dtype)
    for i in range(n):
        for k in range(d):
            x = rows[i, k]
            for j in range(columns.shape[1]):
                distances[i, j] += abs(x - columns[k, j])
    return distances


@njit(cache=True)
def _sums_of_signs(factors, rows, points):
    """Σ_j factors_ij sign(rows_ik - points_jk), without a branch in the inner loop."""
    sums = np.zeros_like(rows)
    nothing = rows.dtype.type(0)
    for i in range(len(rows)):
        for j in range(len(points)):
            factor = factors[i, j]
            for k in range(rows.shape[1]):
                above = factor if rows[i, k] > points[j, k] else nothing
                below = factor if rows[i, k] < points[j, k] else nothing
                sums[i, k] += above - below
    return sums
