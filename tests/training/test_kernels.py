"""Kernels equal slow obvious twins, and their gradients finite differences of these."""

import naive
import numpy as np
import pytest

from tinyml.training import kernels, reduced_set

KERNELS = {
    "rbf": kernels.Gaussian(),
    "laplacian": kernels.Laplacian(),
    "poly": kernels.Polynomial(3),
}


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return rng.standard_normal((7, 4)), rng.standard_normal((5, 4)), 0.3


def slopes(value, x, step=1e-6):
    """Central differences of a number by every element of x."""
    result = np.empty_like(x)
    for index in np.ndindex(x.shape):
        ends = []
        for sign in (1, -1):
            moved = x.copy()
            moved[index] += sign * step
            ends.append(value(moved))
        result[index] = (ends[0] - ends[1]) / (2 * step)
    return result


@pytest.mark.parametrize("name", KERNELS)
def test_values_are_those_of_the_naive_twin(name, arrays):
    rows, points, gamma = arrays
    values, _ = KERNELS[name].values(rows, points, gamma)
    wanted = [[naive.kernel(name, x, z, gamma, 3) for z in points] for x in rows]
    np.testing.assert_allclose(values, wanted, rtol=1e-12)


@pytest.mark.parametrize("name", KERNELS)
def test_gradients_are_those_of_finite_differences(name, arrays):
    rows, points, gamma = arrays
    kernel, factors = KERNELS[name], np.random.default_rng(1).standard_normal((7, 5))

    def total(rows, points, gamma):
        return np.vdot(factors, kernel.values(rows, points, gamma)[0])

    d_kept, by_log = kernel.slope(factors.copy(), *kernel.values(rows, points, gamma), gamma)
    by_rows = slopes(lambda x: total(x, points, gamma), rows)
    by_points = slopes(lambda z: total(rows, z, gamma), points)
    np.testing.assert_allclose(kernel.pull(d_kept, rows, points), by_rows, rtol=1e-6)
    np.testing.assert_allclose(kernel.pull(d_kept.T, points, rows), by_points, rtol=1e-6)
    by_log_gamma = slopes(lambda g: total(rows, points, np.exp(g[0])), np.log([gamma]))
    np.testing.assert_allclose(by_log, by_log_gamma[0], rtol=1e-6, atol=1e-9)


def test_equal_numbers_have_no_sign():
    rows = np.array([[1.0, 2.0]])
    pulled = kernels.Laplacian().pull(np.ones((1, 1)), rows, np.array([[1.0, 5.0]]))
    np.testing.assert_array_equal(pulled, [[0, -1]])


# --- the reduced set ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KERNELS)
def test_the_gradient_of_the_distance_is_that_of_finite_differences(name, arrays):
    rows, points, gamma = arrays
    coefficients = np.random.default_rng(2).standard_normal((7, 3))

    def value(points):
        return reduced_set.distance(rows, coefficients, points, KERNELS[name], gamma)[0]

    _, slope = reduced_set.distance(rows, coefficients, points, KERNELS[name], gamma)
    np.testing.assert_allclose(slope, slopes(value, points), rtol=1e-5, atol=1e-6)


def test_points_approach_the_functions(arrays):
    rows, points, gamma = arrays
    coefficients = np.random.default_rng(2).standard_normal((7, 2))
    kernel = KERNELS["rbf"]
    before, _ = reduced_set.distance(rows, coefficients, points, kernel, gamma)
    found, _ = reduced_set.reduced_set(rows, coefficients, points, kernel, gamma)
    after, _ = reduced_set.distance(rows, coefficients, found, kernel, gamma)
    assert after < before - 0.1 * abs(before)


def test_one_point_stands_for_equal_ones():
    rows, kernel = np.full((4, 2), 3.0), KERNELS["rbf"]
    start = np.array([[2.5, 3.2]])
    point, coefficient = reduced_set.reduced_set(rows, np.ones((4, 1)), start, kernel, 0.5)
    np.testing.assert_allclose(point, [[3, 3]], atol=1e-3)
    np.testing.assert_allclose(coefficient, [[4 / 1.1]], rtol=1e-6)  # less what the ridge takes
