"""Each loss equals its naive twin, and its gradient the finite differences of that."""

import naive
import numpy as np
import pytest

from tinyml.training import losses

LOSSES = {
    "softmax_cross_entropy": 4,
    "logistic": 1,
    "squared": 3,
    "hinge": 1,
    "multiclass_hinge": 4,
    "squared_hinge": 4,
}


def batch(name, n=13):
    rng = np.random.default_rng(0)
    n_outputs = LOSSES[name]
    scores = 2 * rng.standard_normal((n, n_outputs))
    targets = rng.integers(max(2, n_outputs), size=n)
    if name == "squared":
        targets = rng.standard_normal((n, n_outputs))
    return scores, targets, rng.uniform(0.5, 2, n)


def evaluate(name, scores, targets, weights):
    gradient = np.full_like(scores, np.nan)
    return getattr(losses, name)(scores, targets, weights, gradient), gradient


@pytest.mark.parametrize("name", LOSSES)
def test_value_is_that_of_the_naive_twin(name):
    value, _ = evaluate(name, *batch(name))
    np.testing.assert_allclose(value, getattr(naive, name)(*batch(name)), rtol=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_is_that_of_finite_differences(name):
    scores, targets, weights = batch(name)
    _, gradient = evaluate(name, scores, targets, weights)
    step = 1e-6
    for index in np.ndindex(scores.shape):
        up, down = scores.copy(), scores.copy()
        up[index] += step
        down[index] -= step
        twin = getattr(naive, name)
        slope = (twin(up, targets, weights) - twin(down, targets, weights)) / (2 * step)
        # the error of a central difference in float64 with this step is about 1e-10
        np.testing.assert_allclose(gradient[index], slope, atol=1e-8)


@pytest.mark.parametrize("name", ["softmax_cross_entropy", "logistic"])
def test_huge_scores_stay_finite(name):
    scores = np.array([[1e4, -1e4, 0, 5][: LOSSES[name]]] * 2, dtype=np.float32)
    value, gradient = evaluate(name, scores, np.array([0, 1]), np.ones(2, dtype=np.float32))
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
