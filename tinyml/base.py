"""What every estimator shares, and the one place that touches scikit-learn's private modules."""

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import numpy as np
from scipy.special import expit, softmax
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _check_sample_weight
from threadpoolctl import threadpool_limits

__all__ = [
    "Interval",
    "ScoreClassifierMixin",
    "StrOptions",
    "_check_sample_weight",
    "_fit_context",
    "allows_nan",
    "blas_single_thread",
    "boosting_start",
    "flattened",
    "histogram_columns",
    "histogram_start",
    "histogram_trees",
    "probabilities",
    "progress",
]

T = TypeVar("T")


def blas_single_thread() -> threadpool_limits:
    """Context in which BLAS uses one thread, so that sums come in one order whatever `n_jobs`."""
    return threadpool_limits(limits=1, user_api="blas")


def progress(items: Iterable[T], description: str, *, verbose: bool | int) -> Iterator[T]:
    """Iterate over `items`, with a bar on stderr if `verbose`."""
    if not verbose:
        return iter(items)
    from rich.console import Console
    from rich.progress import track

    return iter(track(items, description, console=Console(stderr=True)))


def flattened(X: Any) -> Any:
    """Sequences (n_samples, n_steps, n_channels) as rows, time-major; others as they are."""
    if getattr(X, "ndim", 2) != 3:
        return X
    return np.reshape(X, (len(X), X.shape[1] * X.shape[2]))


def allows_nan(model: Any) -> bool:
    """Whether a model knows what NaN means; a pipeline does not say so of its steps.

    What follows a step that fills gaps sees none.
    """
    steps = _parts(model)
    if not isinstance(model, Pipeline):
        return bool(get_tags(model).input_tags.allow_nan) or any(map(_fills_gaps, steps))
    filling = [k for k, step in enumerate(steps) if _fills_gaps(step)]
    return all(allows_nan(step) for step in steps[: min(filling, default=len(steps)) + 1])


def _fills_gaps(model: Any) -> bool:
    return isinstance(model, SimpleImputer) or any(map(_fills_gaps, _parts(model)))


def _parts(model: Any) -> list[Any]:
    """Return the estimators that a pipeline or a transformer of columns consists of."""
    parts = getattr(model, "steps" if isinstance(model, Pipeline) else "transformers", ())
    if not isinstance(model, Pipeline | ColumnTransformer):
        return []
    return [part[1] for part in parts if part[1] is not None and not isinstance(part[1], str)]


def boosting_start(model: Any, n_features: int) -> np.ndarray:
    """Scores of a gradient boosting model before its first tree, whatever the row."""
    return model._raw_predict_init(np.zeros((1, n_features), dtype=np.float32))[0]


def histogram_start(model: Any) -> np.ndarray:
    """Scores of a histogram gradient boosting model before its first tree."""
    return np.ravel(model._baseline_prediction)


def histogram_trees(model: Any) -> list[list[Any]]:
    """Trees of a histogram gradient boosting model, by iteration and output."""
    return [list(iteration) for iteration in model._predictors]


def histogram_columns(model: Any) -> list[tuple[int, np.ndarray | None]]:
    """Say which feature each column is that its trees read, and which categories its codes mean.

    The model moves categorical features to the front and numbers their categories.
    """
    if model.is_categorical_ is None:
        return [(k, None) for k in range(model.n_features_in_)]
    kinds = np.flatnonzero(model.is_categorical_), np.flatnonzero(~model.is_categorical_)
    categories = model._preprocessor.named_transformers_["encoder"].categories_
    known = [_whole_categories(values) for values in categories]
    return [*zip(kinds[0].tolist(), known, strict=True), *((int(k), None) for k in kinds[1])]


def _whole_categories(values: np.ndarray) -> np.ndarray:
    try:
        numbers = np.asarray(values, dtype=np.float64)
        numbers = numbers[~np.isnan(numbers)]
        if np.array_equal(numbers, np.floor(numbers)):
            return numbers.astype(np.intp)
    except ValueError:
        pass
    raise TypeError(
        f"Categories must be whole numbers to be compiled. Got {', '.join(map(str, values[:5]))}."
    )


def probabilities(scores: np.ndarray) -> np.ndarray:
    """Softmax of the scores; of two classes, which have one, the logistic function."""
    if scores.ndim == 2:
        return softmax(scores, axis=1)
    return np.column_stack([expit(-scores), expit(scores)])


def _gives_probabilities(estimator):
    if estimator.loss == "cross_entropy":
        return True
    raise AttributeError(f"Probabilities are not available for loss={estimator.loss!r}")


class ScoreClassifierMixin(ClassifierMixin):
    """A classifier by the `_scores` of its model, one of which means two classes."""

    def decision_function(self, X):
        """Scores of the classes, or of the second class if there are two.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        scores : ndarray of shape (n_samples, n_classes) or (n_samples,)
            The class of the highest score is predicted, of two the second if its score is
            positive.
        """
        scores = self._scores(X)
        return scores.ravel() if len(self.classes_) == 2 else scores

    def predict(self, X):
        """Predict classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            The predicted class of each row.
        """
        scores = self.decision_function(X)
        return self.classes_[
            scores.argmax(axis=1) if scores.ndim == 2 else (scores > 0).astype(int)
        ]

    @available_if(_gives_probabilities)
    def predict_proba(self, X):
        """Softmax of the scores, of two classes the logistic function of the one score.

        Available for ``loss="cross_entropy"``, which fits exactly these.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes)
            Probability of each class, in the order of `classes_`.
        """
        return probabilities(self.decision_function(X))
