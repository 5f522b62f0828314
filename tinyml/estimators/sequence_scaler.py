"""Standardisation of sequences: one mean and one scale for each channel, whatever the time step."""

from numbers import Integral
from typing import ClassVar

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from ..base import Interval, _fit_context
from ..codegen.graph import Graph, Node
from ..codegen.lower import lower
from ._sequences import as_rows, n_steps


class SequenceScaler(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Bring each channel of sequences to mean 0 and standard deviation 1.

    A column-wise scaler would give each time step a scale of its own, which a recurrent model, for
    which all steps are alike, cannot take in.

    Parameters
    ----------
    n_channels : int, default=1
        Numbers in one time step.

    Attributes
    ----------
    mean_, scale_ : ndarray of shape (n_channels,)
        Mean and standard deviation of each channel over all steps that are not missing; the scale
        of a constant channel is 1.
    n_features_in_ : int
        Number of features seen in fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, if `X` had string names only.

    See Also
    --------
    FastGRNNClassifier : Reads such sequences; it standardises channels by itself too.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.estimators import SequenceScaler
    >>> X = np.array([[0.0, 10.0, 2.0, 30.0], [4.0, 50.0, 6.0, 70.0]])  # two steps of two channels
    >>> SequenceScaler(n_channels=2).fit(X).mean_
    array([ 3., 40.])
    """

    _parameter_constraints: ClassVar[dict] = {
        "n_channels": [Interval(Integral, 1, None, closed="left")]
    }

    def __init__(self, n_channels=1):
        self.n_channels = n_channels

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Find mean and scale of each channel.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_steps * n_channels)
            Sequences, or an array of shape (n_samples, n_steps, n_channels); NaN where there is
            nothing.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted transformer.
        """
        X = self._checked(X)
        n_steps(X, self.n_channels)
        frames = X.reshape(-1, self.n_channels)
        if np.isnan(frames).all(axis=0).any():
            raise ValueError("SequenceScaler needs at least one number in every channel.")
        size = np.nanmax(np.abs(frames), axis=0).astype(np.float64)
        size[size == 0] = 1.0  # squares of what is divided by it neither overflow nor vanish
        mean, deviation = np.nanmean(frames / size, axis=0), np.nanstd(frames / size, axis=0)
        self.mean_ = mean * size
        self.scale_ = np.where(deviation > 1e-12 * np.abs(mean), deviation * size, 1.0)
        return self

    def transform(self, X):
        """Subtract the means and divide by the scales.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_steps * n_channels)
            Sequences, or an array of shape (n_samples, n_steps, n_channels).

        Returns
        -------
        X : ndarray of shape (n_samples, n_steps * n_channels)
            Scaled sequences; NaN stays NaN.
        """
        check_is_fitted(self)
        X = self._checked(X, reset=False)
        frames = X.reshape(len(X), -1, self.n_channels).copy()
        frames -= self.mean_  # in the precision of X, step by step, as a program's twin does
        frames /= self.scale_
        return frames.reshape(X.shape)

    def _checked(self, X, **parameters):
        parameters |= {"dtype": [np.float64, np.float32], "ensure_all_finite": "allow-nan"}
        return validate_data(self, as_rows(X, self.n_channels), **parameters)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


@lower.register
def _(model: SequenceScaler, g: Graph, x: Node) -> Node:
    repeats = x.size // model.n_channels
    return (x - np.tile(model.mean_, repeats)) / np.tile(model.scale_, repeats)
