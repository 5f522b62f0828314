"""Adam, its schedules, and the fall to an exact number of non-zeros."""

import naive
import numpy as np
import pytest

from tinyml.training import optimizers


def test_adam_is_that_of_the_paper():
    rng = np.random.default_rng(0)
    start, rates = rng.standard_normal(5), rng.uniform(0.01, 0.1, 5)
    gradients = rng.standard_normal((20, 5))
    theta, mean, square = start.copy(), np.zeros(5), np.zeros(5)
    for step, gradient in enumerate(gradients, start=1):
        optimizers.adam_step(theta, gradient, mean, square, rates, step)
    # constants such as 0.1 are rounded to float32 inside
    np.testing.assert_allclose(theta, naive.adam(start, gradients, rates), rtol=1e-5)


def test_an_entry_of_rate_zero_stays():
    theta, ones = np.ones(2, dtype=np.float32), np.ones(2, dtype=np.float32)
    rates = np.array([0, 0.1], dtype=np.float32)
    optimizers.adam_step(theta, ones, 0 * ones, 0 * ones, rates, 1)
    assert theta[0] == 1
    assert theta[1] < 1


def test_one_cycle_rises_and_falls_to_zero():
    factors = [optimizers.one_cycle(t) for t in np.linspace(0, 1, 101)]
    assert np.argmax(factors) == 10
    assert max(factors) == 1
    assert factors[-1] == pytest.approx(0, abs=1e-15)


def test_kept_fraction_falls_from_one_to_its_end():
    kept = [optimizers.kept_fraction(t, 0.2) for t in np.linspace(0, 1, 21)]
    assert kept[0] == kept[2] == 1
    assert kept[12] == kept[-1] == pytest.approx(0.2)
    assert (np.diff(kept) <= 0).all()


def test_views_share_memory():
    flat = np.arange(7.0)
    matrix, vector = optimizers.views(flat, [(2, 3), (1,)])
    vector[0] = matrix[1, 2] = -1
    np.testing.assert_array_equal(flat, [0, 1, 2, 3, 4, -1, -1])


@pytest.mark.parametrize(("n_rows", "batch_size"), [(10, 3), (5, 100), (128, 128), (129, 128)])
def test_minibatches_hold_every_row_once(n_rows, batch_size):
    batches = optimizers.minibatches(n_rows, batch_size, np.random.default_rng(0))
    assert len(batches) == optimizers.batches_per_epoch(n_rows, batch_size)
    assert sorted(np.concatenate(batches)) == list(range(n_rows))
    assert np.ptp([len(batch) for batch in batches]) <= 1


def descend_to(target, sparse, n_epochs=300):
    theta = np.ones(target.size, dtype=np.float32)
    epochs = ([None] for _ in range(n_epochs))

    def objective(rows):
        return float(((theta - target) ** 2).sum()), 2 * (theta - target)

    rates = np.full(target.size, 0.1, dtype=np.float32)
    curve = optimizers.descend(theta, rates, objective, sparse, epochs, n_epochs)
    return theta, curve


def test_descend_finds_a_minimum():
    target = np.array([3, -0.1, 2, 0.5], dtype=np.float32)
    theta, curve = descend_to(target, [])
    np.testing.assert_allclose(theta, target, atol=1e-2)
    assert curve[-1] < 1e-3 * curve[0]


def test_descend_keeps_the_largest_of_a_part():
    target = np.array([3, -0.1, 2, 0.5], dtype=np.float32)
    theta, _ = descend_to(target, [(slice(0, 3), 1)])
    np.testing.assert_allclose(theta, [3, 0, 0, 0.5], atol=1e-2)
    assert np.count_nonzero(theta) == 2


def test_a_single_step_still_reaches_the_count():
    theta, _ = descend_to(np.arange(6, dtype=np.float32), [(slice(0, 6), 2)], n_epochs=1)
    assert np.count_nonzero(theta) == 2
