"""Boosted trees from files: `read_forest`, and the estimators that it returns.

Neither XGBoost nor LightGBM is needed to read their files.
"""

from functools import cached_property
from pathlib import Path

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import validate_data

from tinyml.codegen.graph import Graph
from tinyml.codegen.lower import lower
from tinyml.codegen.program import probabilities
from tinyml.codegen.read_lightgbm import is_lightgbm, read_lightgbm
from tinyml.codegen.read_xgboost import is_xgboost, read_xgboost

__all__ = ["ImportedClassifier", "ImportedRegressor", "read_forest"]


def read_forest(source):
    """Read the boosted trees that XGBoost or LightGBM trained.

    Parameters
    ----------
    source : str, Path or Booster
        A file in XGBoost's JSON or UBJSON or in LightGBM's text, or the `Booster` of either. Their
        scikit-learn estimators need not be read: `tinyml.compile` takes them as they are.

    Returns
    -------
    model : ImportedClassifier or ImportedRegressor
        By the objective it was trained for. It predicts as the library does, with all of the trees
        that the file holds, and can be compiled or be the last step of a pipeline.

    Raises
    ------
    TypeError
        If the model is of a kind that cannot be compiled.
    ValueError
        If the file is of neither library, or is not complete.

    Examples
    --------
    >>> import tinyml
    >>> model = tinyml.read_forest("model.ubj")  # doctest: +SKIP
    >>> program = tinyml.compile(model, X_train)  # doctest: +SKIP
    """
    boosted = _read(_contents(source), source)
    return (ImportedClassifier if boosted.n_classes else ImportedRegressor)(boosted)


def _contents(source):
    """Return the bytes of a file, or of what a booster would write into one."""
    package, kind = type(source).__module__.split(".")[0], type(source).__name__
    if kind == "Booster" and package == "xgboost":
        return bytes(source.save_raw("ubj"))
    if kind == "Booster" and package == "lightgbm":
        return source.model_to_string().encode()
    if not isinstance(source, str | Path):
        raise TypeError(
            "The 'source' parameter of read_forest must be the name of a file or a Booster of "
            f"XGBoost or LightGBM. Got {kind} instead."
        )
    return Path(source).read_bytes()


def _read(data, source):
    if is_xgboost(data):
        return read_xgboost(data)
    if is_lightgbm(data):
        return read_lightgbm(data.decode())
    raise ValueError(
        "The 'source' parameter of read_forest must be a file in XGBoost's JSON or UBJSON or in "
        f"LightGBM's text. Got {str(source)!r} instead."
    )


class ImportedForest(BaseEstimator):
    """What is predicted is what the float graph computes; there is nothing to fit."""

    def __init__(self, boosted):
        self.boosted = boosted

    def fit(self, X=None, y=None):
        """Do nothing: the trees stay as they were read.

        Parameters
        ----------
        X, y : ignored

        Returns
        -------
        self : object
        """
        return self

    def __sklearn_is_fitted__(self):
        return True

    def __sklearn_clone__(self):
        return self

    @property
    def n_features_in_(self):
        """Number of features."""
        return self.boosted.n_features

    @property
    def feature_names_in_(self):
        """Names of the features, where the file holds some."""
        if not self.boosted.names:
            raise AttributeError("The features of this model have no names.")
        return np.array(self.boosted.names, dtype=object)

    @cached_property
    def _graph(self):
        graph = Graph(self.n_features_in_)
        graph.scores = self.boosted.lower(graph, graph.input)
        return graph

    def _scores(self, X):
        return self._graph.evaluate(validate_data(self, X, reset=False))


def _has_probabilities(model):
    if model.boosted.link is None:
        raise AttributeError("The scores of this objective give no probabilities.")
    return True


class ImportedClassifier(ClassifierMixin, ImportedForest):
    """A classifier from a file; `read_forest` makes it.

    Parameters
    ----------
    boosted : Boosted
        What the file says.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Numbers of the classes from 0; files do not hold labels.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features,)
        Where the file holds names.
    """

    @property
    def classes_(self):
        """Numbers of the classes."""
        return np.arange(self.boosted.n_classes)

    def decision_function(self, X):
        """Sum of the leaves of each row: log-odds, before any link.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        scores : ndarray of shape (n_samples,) or (n_samples, n_classes)
            Of two classes the score of the second.
        """
        scores = self._scores(X)
        return scores[:, 0] if scores.shape[1] == 1 else scores

    def predict(self, X):
        """Predict the numbers of classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            The class of the largest score, of two the second if the one score is positive.
        """
        scores = self.decision_function(X)
        return self.classes_[scores.argmax(axis=1) if scores.ndim == 2 else (scores > 0) * 1]

    @available_if(_has_probabilities)
    def predict_proba(self, X):
        """Predict probabilities of the classes, where the objective has them.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        p : ndarray of shape (n_samples, n_classes)
            Probability of each class.
        """
        return probabilities(self.boosted.link, self._scores(X))


class ImportedRegressor(RegressorMixin, ImportedForest):
    """A regressor from a file; `read_forest` makes it.

    Parameters
    ----------
    boosted : Boosted
        What the file says.

    Attributes
    ----------
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features,)
        Where the file holds names.
    """

    def predict(self, X):
        """Predict target values.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_targets)
            The sum of the leaves of each row.
        """
        scores = self._scores(X)
        return scores[:, 0] if scores.shape[1] == 1 else scores


@lower.register
def _(model: ImportedForest, g, x):
    return model.boosted.lower(g, x)
