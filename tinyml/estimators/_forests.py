"""What estimators that end in trees share: rows, scores, bytes, and their one lowering."""

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from scipy.special import expit, softmax
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from ..codegen.storage import bits_for, packed_bytes
from ..training.refinement import LeafRegression
from ..training.trees import Trees, threshold_bytes
from ._trained import TrainedClassifier, TrainedRegressor

_FREE_RATE, _FREE_SWEEPS = 0.1, (10, 5)  # of leaves of which nothing is known, and of new ones
_ROUNDS, _FEWEST_ROUNDS, _STEPS = 6, 3, (15, 8)
_NEARLY_FULL, TRIES = 0.95, 4  # share of the bytes that is enough, and how often to try
_MANY_LEAVES = 1000
_FEWEST_CODE_BITS, _MOST_CODE_BITS = 4, 7
_TABLE_SHARE, _BYTES_OF_A_LEAF = 0.3, 2.1  # a leaf with its split
_DISTILLED_RIDGE = 0.1  # scores that are to stay as they are know no noise
CODE_ENTRIES = 4  # of a row of values that leaves share
CODE_BITS = (8, 6)  # of a value: one alone fills a byte, a row shares 16 bits with its outputs


def _n_codes_for(n_leaves, n_outputs):
    """Return how many rows of values suit so many leaves.

    Their table takes about a third of the bytes, but there are as many as classes.
    """
    if n_outputs == 1:
        return 16 if n_leaves < _MANY_LEAVES else 32
    room = _TABLE_SHARE * n_leaves * _BYTES_OF_A_LEAF / _code_bytes(n_outputs)
    least = max(_FEWEST_CODE_BITS, bits_for(n_outputs))
    return int(2 ** np.clip(np.floor(np.log2(max(room, 1))), least, max(least, _MOST_CODE_BITS)))


def _table_bytes(n_codes, n_outputs):
    """Bytes of the tables of rows of values and of their offset, at most."""
    return n_codes * _code_bytes(n_outputs) + 2 + _offset_bytes(n_outputs)


def _offset_bytes(n_outputs):
    """Bytes of a table of what leaves add to; of one output it is part of the code."""
    return 2 * n_outputs if n_outputs > 1 else 0


def _code_bytes(n_outputs):
    return 1 if n_outputs == 1 else 2 + 2 * min(n_outputs, CODE_ENTRIES)


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
        self.offset_ = np.zeros(self._n_outputs) + offset + constant
        if self._n_outputs > 1:  # only differences count, and zeros take no table
            self.offset_ -= np.sort(self.offset_)[self._n_outputs // 2]
        self.n_nodes_ = self.trees_.n_nodes
        table = _offset_bytes(self._n_outputs) if np.any(self.offset_) else 0
        self.n_model_bytes_ = self.trees_.n_bytes(threshold_bytes(X)) + table

    def _scores(self, X):
        check_is_fitted(self)
        return self.trees_.scores(self._checked(X, reset=False)) + self.offset_

    def _spend(self, max_bytes, fit_within, n_tries=TRIES):
        """Fit within `max_bytes`; where rows of values took less than they might have, again."""
        fit_within(max_bytes)
        low, high = max_bytes, None  # bounds that led to too little and to too much
        for _ in range(n_tries - 1):
            if self.n_model_bytes_ > _NEARLY_FULL * max_bytes:
                break
            best = vars(self).copy()
            bound = low + max_bytes - self.n_model_bytes_ if high is None else (low + high) // 2
            fit_within(bound)
            if self.n_model_bytes_ == best["n_model_bytes_"]:  # there is no more to be had
                break
            if self.n_model_bytes_ <= max_bytes:
                low = bound
            else:
                high = bound
                self.__dict__.update(best)
        return self

    def _penalty(self, trees):
        """Rows that a leaf must outweigh: few where rows of values are to be told apart."""
        if self.ridge != "auto":
            return self.ridge
        return 0.3 if self._n_outputs > 1 else 30.0

    def _codes_of(self, trees):
        """Return how many rows of values the leaves share."""
        n_leaves = int(trees.is_leaf.sum())
        wanted = _n_codes_for(n_leaves, self._n_outputs) if self.n_codes == "auto" else self.n_codes
        return max(1, min(wanted, n_leaves))

    def _coded_bytes(self, trees, width):
        """Bytes of the tables once leaves share rows of values, at most."""
        leaves = packed_bytes(int(trees.is_leaf.sum()), bits_for(self._codes_of(trees)))
        bare = replace(trees, value=np.zeros((trees.n_nodes, 1)))
        return bare.n_bytes(width) + leaves + self._fixed_bytes(trees)

    def _bare_bytes(self, trees, width):
        """Bytes of the tables of leaves as they are, at most."""
        return trees.n_bytes(width) + _offset_bytes(self._n_outputs)

    def _fixed_bytes(self, trees):
        """Bytes of these rows of values, at most."""
        return _table_bytes(self._codes_of(trees), self._n_outputs)

    def _shared(self, regression, value, seed, effort=(_ROUNDS, _STEPS[0])):
        """Fit leaves that share few rows of values; return trees and offset."""
        n_codes = self._codes_of(regression.trees)
        bits = CODE_BITS[self._n_outputs > 1]
        parts = {"n_entries": CODE_ENTRIES, "bits": bits, "rng": seed}
        value, offset = regression.shared(value, n_codes, *effort, **parts)
        return replace(regression.trees, value=value), offset

    def _refitted(self, trees, X, target, weight, loss, seed, memory=None, prior=None):
        """Refit the leaves, first freely, then with few rows; return trees and offset.

        What is remembered of leaves saves work; a prior is known up to a factor.
        """
        rows = X, target, weight
        regression = LeafRegression(trees, *rows, loss, self._penalty(trees), memory=memory)
        if prior is not None:
            regression = regression.with_prior(prior)
        start, news = memory.recall(trees) if memory else (None, 1.0)
        is_warm = start is not None
        n_sweeps = int(np.ceil(_FREE_SWEEPS[is_warm] * news))
        value = regression.free(n_sweeps, _FREE_RATE, start)
        if memory:
            memory.keep(regression, value)
        n_rounds = max(_FEWEST_ROUNDS, int(np.ceil(_ROUNDS * news)))
        return self._shared(regression, value, seed, (n_rounds, _STEPS[is_warm]))

    def _distilled(self, trees, X, weight, offset, seed):
        """Let leaves share few rows of values so that the sums stay as they are."""
        scores = offset + trees.scores(X)
        regression = LeafRegression(trees, X, scores, weight, "squared", _DISTILLED_RIDGE, offset)
        return self._shared(regression, trees.value, seed)

    def _refuse_budget(self, smallest):
        raise ValueError(
            f"The 'max_bytes' parameter of {type(self).__name__} must be at least "
            f"{smallest} for these data and the other parameters. Got {self.max_bytes} instead."
        )


class CompactForestClassifier(TrainedClassifier):
    """A forest whose scores are log-odds: of the classes, or of the second of two."""

    @property
    def _loss_name(self):
        return "logistic" if self._n_outputs == 1 else "softmax"

    def _training_rows(self, X, y, sample_weight):
        return self._read(X, y, sample_weight)

    def _target(self, codes):
        """1 for the class of a row, 0 for the others; of two classes the second has a column."""
        return np.eye(len(self.classes_))[codes][:, -self._n_outputs :]

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

    _n_outputs = 1
    _loss_name = "squared"

    def _training_rows(self, X, y, sample_weight):
        return self._read(X, y, sample_weight)[:3]

    def _target(self, y):
        return y.astype(np.float64)[:, None]


def lower_forest(model, g, x):
    """Record the sum of leaves."""
    if isinstance(model, CompactForestClassifier):
        g.link = "expit" if len(model.classes_) == 2 else "softmax"
    return model.trees_.as_node(x, model.offset_)
