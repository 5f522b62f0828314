"""Scaling of sequences."""

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from tinyml.estimators import SequenceScaler


@pytest.fixture
def X():
    rng = np.random.default_rng(0)
    return rng.normal(size=(30, 5, 2)) * [3, 0.1] + [100, -7]


def test_all_steps_of_a_channel_are_scaled_alike(X):
    wanted = StandardScaler().fit_transform(X.reshape(-1, 2)).reshape(30, 10)
    scaler = SequenceScaler(2)
    np.testing.assert_allclose(scaler.fit_transform(X.reshape(30, 10)), wanted)
    np.testing.assert_allclose(scaler.fit_transform(X), wanted)


def test_missing_steps_count_for_nothing_and_stay_missing(X):
    X[::2, 3:] = np.nan
    Z = SequenceScaler(2).fit_transform(X).reshape(X.shape)
    np.testing.assert_array_equal(np.isnan(Z), np.isnan(X))
    np.testing.assert_allclose(np.nanmean(Z, axis=(0, 1)), 0, atol=1e-12)
    np.testing.assert_allclose(np.nanstd(Z, axis=(0, 1)), 1)


def test_a_constant_channel_is_only_moved(X):
    X[:, :, 1] = 4
    scaler = SequenceScaler(2).fit(X)
    assert scaler.scale_[1] == 1
    assert not scaler.transform(X).reshape(X.shape)[:, :, 1].any()


def test_a_channel_without_numbers_is_refused(X):
    X[:, :, 1] = np.nan
    with pytest.raises(ValueError, match="at least one number in every channel"):
        SequenceScaler(2).fit(X)


@pytest.mark.parametrize("shape", [(4, 7), (4, 5, 3)])
def test_channels_must_fit(shape):
    with pytest.raises(ValueError, match="n_channels=2"):
        SequenceScaler(2).fit(np.zeros(shape))
