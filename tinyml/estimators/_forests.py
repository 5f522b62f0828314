"""What estimators that end in trees share: rows, scores, bytes, and their one lowering."""

from typing import Any, ClassVar

import numpy as np
from scipy.special import expit, softmax
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from ..codegen.lower import lower
from ..training.trees import Trees, threshold_bytes
from ._trained import TrainedClassifier, TrainedRegressor


class CompactForest(BaseEstimator):
    """Scores that are a sum of leaves: `trees_` and `offset_`, and what they take.

    A subclass fits them and calls `_keep`.
    """

    _finite: ClassVar[bool | str] = True

    def _rng(self):
        return np.random.default_rng(check_random_state(self.random_state).randint(2**31))

    def _checked(self, X, **parameters):
        parameters |= {"dtype": [np.float64, np.float32], "ensure_all_finite": self._finite}
        return validate_data(self, X, **parameters)

    def _keep(self, trees: Trees, offset: Any, X: np.ndarray) -> None:
        """Store a fitted forest, without trees that are one leaf."""
        self.trees_, constant = trees.without_stumps()
        self.offset_ = np.asarray(offset, dtype=np.float64) + constant
        self.n_nodes_ = self.trees_.n_nodes
        self.n_model_bytes_ = self.trees_.n_bytes(threshold_bytes(X))

    def _scores(self, X):
        check_is_fitted(self)
        return self.trees_.scores(self._checked(X, reset=False)) + self.offset_

    def _refuse_budget(self, smallest):
        raise ValueError(
            f"The 'max_bytes' parameter of {type(self).__name__} must be at least "
            f"{smallest} for these data and the other parameters. Got {self.max_bytes} instead."
        )


class CompactForestClassifier(TrainedClassifier):
    """A forest whose scores are log-odds: of the classes, or of the second of two."""

    def predict_proba(self, X):
        """Softmax of the scores, of two classes the logistic function of the one score.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes)
            Probability of each class, in the order of `classes_`.
        """
        scores = self.decision_function(X)
        if scores.ndim == 2:
            return softmax(scores, axis=1)
        return np.column_stack([expit(-scores), expit(scores)])


class CompactForestRegressor(TrainedRegressor):
    """A forest whose one score is the value."""


@lower.register
def _(model: CompactForest, g, x):
    if isinstance(model, CompactForestClassifier):
        g.link = "expit" if len(model.classes_) == 2 else "softmax"
    return model.trees_.as_node(x, model.offset_)
