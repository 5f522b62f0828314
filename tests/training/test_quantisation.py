"""Grids of 8-bit integers: their choice, rounding to them, and training on rounded values."""

import naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tinyml.codegen import fixed
from tinyml.training import optimizers
from tinyml.training.quantisation import FoldedGrid, Grid

UNITS = np.array([1, 0.75, 1.4, 1, 0.9])


def round_once(values, grid):
    theta = np.array([7, *values, 7], dtype=np.float32)
    rounded = theta.copy()
    grid.choose(theta)
    grid.write(theta, rounded)
    assert rounded[0] == rounded[-1] == 7
    return rounded


@given(arrays(np.float32, 5, elements=st.floats(-100, 100, width=16)), st.sampled_from([1, UNITS]))
def test_rounding_is_that_of_the_naive_twin(values, unit):
    grid = Grid(slice(1, 6), unit)
    rounded = round_once(values, grid)[1:-1]
    units = np.broadcast_to(unit, 5)
    assert grid.frac == fixed.grid(values / units, 8)
    expected = naive.rounded(values, units, grid.frac)
    # of two points at the same distance, up to rounding, either will do
    np.testing.assert_allclose(abs(rounded - values), abs(expected - values), rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(rounded == 0, values == 0)


@pytest.mark.parametrize("unit", [1.0, UNITS])
def test_rounded_values_are_whole_numbers_of_steps(unit):
    grid = Grid(slice(1, 6), unit)
    rounded = round_once([0.3, -0.02, 0, 1e-9, -0.7], grid)
    counts = grid.integers(rounded)
    assert abs(counts).max() <= 127
    assert counts[3] == 1
    np.testing.assert_array_equal(rounded[1:-1], np.ldexp(counts * unit, -grid.frac).astype("f4"))
    np.testing.assert_array_equal(round_once(rounded[1:-1], grid), rounded)


def test_values_beyond_the_grid_saturate():
    grid = Grid(slice(0, 2))
    grid.choose(np.float32([0.99, 0]))
    theta = np.zeros(2, dtype=np.float32)
    grid.write(np.float32([5, -5]), theta)
    np.testing.assert_array_equal(theta, [127 / 128, -127 / 128])


def test_zeros_fit_any_grid():
    assert not round_once(np.zeros(5), Grid(slice(1, 6)))[1:-1].any()


@pytest.mark.parametrize("scale", [[1e-5, 3, 1e7, np.inf, 1], [0.4, 0.3, 0.6, np.inf, 0.5]])
def test_quotients_are_whole_numbers_of_powers_of_two(scale):
    grid = FoldedGrid(slice(1, 6), scale)
    theta = round_once([0.3, -0.02, 0, 1, -0.7], grid)
    quotients = grid.folded(theta)
    np.testing.assert_allclose(quotients, theta[1:-1].astype(float) / scale, rtol=1e-6)
    np.testing.assert_array_equal(np.ldexp(quotients, grid.folded_frac) % 1, 0)


def test_scales_that_differ_little_share_one_step():
    values = np.random.default_rng(0).normal(size=40)
    alike = FoldedGrid(slice(1, 41), np.linspace(0.1, 1, 40))
    round_once(values, alike)
    assert not alike.powers.any()
    unlike = FoldedGrid(slice(1, 41), np.geomspace(0.01, 100, 40))
    round_once(values, unlike)
    assert ((unlike.unit > 0.7) & (unlike.unit < 1.42)).all()


def descend(n_steps, quantised=(), sparse=(), target=(3, -0.1, 2, 0.5)):
    """Minimise the distance to a target; return the result and where each step was evaluated."""
    theta, visited = np.ones(4, dtype=np.float32), []

    def objective(rows):
        visited.append(theta.copy())
        return float(((theta - target) ** 2).sum()), np.float32(2 * (theta - target))

    epochs, rates = [[None] * n_steps], np.full(4, 0.1, dtype=np.float32)
    optimizers.descend(theta, rates, objective, sparse, epochs, n_steps, quantised)
    return theta, np.array(visited)


def test_training_is_that_of_the_naive_twin():
    grid = Grid(slice(0, 3))
    theta, visited = descend(100, [grid])
    latent = np.ones(4)
    mean, square = np.zeros(4), np.zeros(4)
    for step in range(100):
        at = latent.copy()
        if step >= 80:
            at[:3] = naive.rounded(latent[:3], np.ones(3), grid.frac)
        np.testing.assert_allclose(visited[step], at, rtol=1e-4, atol=1e-6)
        rates = 0.1 * optimizers.one_cycle(step / 100) * np.ones(4)
        gradient = 2 * (at - [3, -0.1, 2, 0.5])
        optimizers.adam_step(latent, gradient, mean, square, rates, step + 1)
    latent[:3] = naive.rounded(latent[:3], np.ones(3), grid.frac)
    np.testing.assert_allclose(theta, latent, rtol=1e-4)


@pytest.mark.parametrize("n_steps", [1, 3, 300])
def test_the_result_is_on_the_grid(n_steps):
    grids = [Grid(slice(0, 1)), Grid(slice(1, 4), UNITS[:3])]
    theta, _ = descend(n_steps, grids)
    for grid in grids:
        points = np.ldexp(grid.integers(theta) * grid.unit, -grid.frac)
        np.testing.assert_array_equal(theta[grid.part], points.astype(np.float32))


@pytest.mark.parametrize("n_steps", [1, 7, 300])
def test_the_number_of_zeros_is_exact(n_steps):
    theta, _ = descend(n_steps, [Grid(slice(0, 4))], [(slice(0, 4), 2)], (100, -0.01, 0.01, 0.02))
    assert np.count_nonzero(theta) == 2


def test_what_is_not_quantised_is_trained_as_before():
    exact, visited = descend(50)
    theta, rounded = descend(50, [Grid(slice(0, 2))])
    np.testing.assert_array_equal(theta[2:], exact[2:])
    np.testing.assert_array_equal(rounded[:40], visited[:40])
