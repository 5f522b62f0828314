"""What estimators trained by gradient descent share: parameters, reading of rows, the descent."""

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from ..base import Interval, ScoreClassifierMixin, StrOptions, progress
from ..training import losses, preparation
from ..training.optimizers import batches_per_epoch, descend, minibatches, views


class GradientTrained(BaseEstimator):
    """Parameters of the descent, and the descent."""

    _parameter_constraints: ClassVar[dict] = {
        "max_bytes": [Interval(Integral, 1, None, closed="left"), None],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
    }
    _finite: ClassVar[bool | str] = (
        True  # what rows may hold; "allow-nan" where NaN means something
    )

    def _rng(self):
        return np.random.default_rng(check_random_state(self.random_state).randint(2**31))

    def _rows(self, X):
        """Rows as they were given, with two dimensions."""
        return X

    def _checked(self, X, **parameters):
        parameters |= {"dtype": [np.float64, np.float32], "ensure_all_finite": self._finite}
        return validate_data(self, self._rows(X), **parameters)

    def _n_batches(self, n_rows):
        """Number of batches of one pass over the rows."""
        size = np.clip(n_rows // 10, 8, 128) if self.batch_size == "auto" else self.batch_size
        return batches_per_epoch(n_rows, int(size))

    def _n_updates(self, n_rows):
        """Number of batches in all."""
        return self.max_iter * self._n_batches(n_rows)

    def _largest_batch(self, n_rows):
        return n_rows // self._n_batches(n_rows) + 1

    def _descend(self, objective, sizes, sparse, grids, n_rows, rng):
        """Minimise; return the mean loss of each pass."""
        size = n_rows / self._n_batches(n_rows)
        epochs = (
            minibatches(n_rows, size, rng)
            for _ in progress(range(self.max_iter), type(self).__name__, verbose=self.verbose)
        )
        n_steps = self._n_updates(n_rows)
        return descend(objective.theta, sizes, objective, sparse, epochs, n_steps, grids)

    def _refuse_budget(self, smallest):
        raise ValueError(
            f"The 'max_bytes' parameter of {type(self).__name__} must be at least "
            f"{smallest} for these data and the other parameters. Got {self.max_bytes} instead."
        )


def auto_noise(n_rows, n_features):
    """Standard deviation of noise that pays where features are many and rows are few."""
    return min(0.5, 2 * np.sqrt(n_features / n_rows))


class Objective:
    """Loss of a batch and its gradient by the flat vector of all parameters.

    A subclass computes `_backward`, which writes `gradients`: views of one flat vector, as
    `parameters` are of another.
    """

    def __init__(self, parameters, X, targets, weights, loss, jitter):
        self.theta = np.concatenate([part.ravel() for part in parameters]).astype(np.float32)
        self.gradient = np.empty_like(self.theta)
        self.shapes = [part.shape for part in parameters]
        self.parameters = views(self.theta, self.shapes)
        self.gradients = views(self.gradient, self.shapes)
        self.X, self.targets, self.weights = X, targets, weights
        self.loss, self.jitter = loss, jitter

    def __call__(self, rows):
        X = self.X[rows]
        self.jitter(X)
        return self._backward(X, self.targets[rows], self.weights[rows]), self.gradient


class TrainedClassifier(ScoreClassifierMixin):
    """Reads classes and chooses the loss of their scores."""

    _parameter_constraints: ClassVar[dict] = {
        "class_weight": [dict, StrOptions({"balanced"}), None]
    }

    def _read(self, X, y, sample_weight):
        """Present rows, the numbers of their classes, and weights."""
        X, y = self._checked(X, y=y, ensure_min_samples=2)
        check_classification_targets(y)
        X, y, weights = preparation.present(X, y, sample_weight)
        weights = weights * compute_sample_weight(self.class_weight, y)
        X, y, weights = preparation.present(X, y, weights)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"{type(self).__name__} needs rows of at least two classes. "
                f"Got only the class {str(self.classes_[0])!r}."
            )
        return X, codes, weights

    @property
    def _n_outputs(self):
        """Number of scores: one for two classes."""
        return 1 if len(self.classes_) == 2 else len(self.classes_)

    def _loss(self) -> Callable[..., Any]:
        binary = self._n_outputs == 1
        if self.loss == "hinge":
            return losses.hinge if binary else losses.multiclass_hinge
        return losses.logistic if binary else losses.softmax_cross_entropy


class TrainedRegressor(RegressorMixin):
    """Reads values and predicts them."""

    def _read(self, X, y, sample_weight):
        """Present rows, their values and weights, and the mean and the scale of the values."""
        X, y = self._checked(X, y=y, ensure_min_samples=2, y_numeric=True)
        X, y, weights = preparation.present(X, y, sample_weight)
        mean = np.average(y, weights=weights)
        with np.errstate(over="ignore"):
            scale = np.sqrt(np.average((y - mean) ** 2, weights=weights)) or 1.0
        if not np.isfinite(scale):
            raise ValueError(
                f"The values y must be smaller than about 1e150. Got {np.abs(y).max():g} instead."
            )
        return X, y, weights, mean, scale

    def predict(self, X):
        """Predict values.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            The predicted value of each row.
        """
        return self._scores(X).ravel()
