"""What estimators that compress a forest share: growing, bounds, the leaves at the end."""

from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from numbers import Integral, Real
from typing import ClassVar

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.model_selection import train_test_split

from ..base import Interval, StrOptions, _fit_context, blas_single_thread
from ..training.pruning import node_errors
from ..training.refinement import LeafMemory
from ..training.trees import share_thresholds, threshold_bytes
from ._forests import TRIES, CompactForest, CompactForestClassifier, CompactForestRegressor
from ._growing import Grown, grown

_HALVINGS = 10  # of the size, until less is no longer tolerated


@dataclass(frozen=True, eq=False)
class Reduction:
    """A forest to be compressed, and the rows that judge it.

    A way to reduce it is asked with a function that says which share of the bounds trees take; up
    to 1 they fit. It returns the most that fits, and what the scores are to be added to; None if
    nothing does. Leaves that are not
    refitted afterwards say what they should.
    """

    forest: Grown
    X: np.ndarray
    target: np.ndarray  # one-hot rows; one column for two classes and for numbers
    weight: np.ndarray
    loss: str  # of the scores
    seed: int
    sizes: dict = field(default_factory=dict, init=False)  # nodes and bytes of what was tried

    @cached_property
    def trees(self):
        """The forest as it was grown."""
        origin = np.arange(self.forest.trees.n_nodes)
        return replace(self.forest.trees, origin=origin).with_gaps(self.X)

    @cached_property
    def width(self):
        """Bytes of a threshold."""
        return threshold_bytes(self.X)

    @cached_property
    def memory(self):
        """What the leaves of the last of the compressed forests were worth."""
        return LeafMemory(self.trees, self.X)

    @cached_property
    def errors(self):
        """Mean and error of every node."""
        target = None if self.forest.adds_up else self.target
        return node_errors(self.trees, self.X, target, self.weight, self.forest.is_held)

    @cached_property
    def averages(self):
        """The forest with the mean of its rows at every node."""
        return replace(self.trees, value=self.errors.mean)

    @cached_property
    def stumps(self):
        """What is left if nothing fits."""
        return self.masked(np.ones(self.trees.n_nodes, dtype=bool))[0]

    def masked(self, is_leaf):
        """Cut at the marked nodes; the trees vote, or add up as they did."""
        trees = self.averages.cut(is_leaf)
        if self.forest.adds_up:
            return trees, self.forest.offset
        return self.as_scores(replace(trees, value=trees.value / len(trees.root)), 0.0)

    def as_scores(self, trees, constant):
        """Turn an approximation of the target into scores: half a share of two classes is 0."""
        if self.loss != "logistic":
            return trees, constant
        return replace(trees, value=2 * trees.value), 2 * constant - 1


class ReducedForest(CompactForest):
    """Growing, compressing and refitting; a subclass knows how to reduce, another the targets."""

    _parameter_constraints: ClassVar[dict] = {
        "estimator": [BaseEstimator, None],
        "max_bytes": [Interval(Integral, 1, None, closed="left"), None],
        "max_nodes": [Interval(Integral, 1, None, closed="left"), None],
        "tolerance": [Interval(Real, 0, None, closed="left")],
        "refine": ["boolean"],
        "ridge": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
        "n_codes": [Interval(Integral, 2, None, closed="left"), StrOptions({"auto"})],
        "random_state": ["random_state"],
    }

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y, sample_weight=None):
        """Grow a forest, or take the given one, and compress it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows.
        y : array-like of shape (n_samples,)
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows; those of weight 0 are left out.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        rows = self._training_rows(X, y, sample_weight)
        with blas_single_thread():
            task, max_bytes = self._task(*rows), self.max_bytes
            if max_bytes is None and self.max_nodes is None:
                max_bytes = max(self._tolerated_bytes(*rows), self._least_bytes(task))
            return self._compress(task, max_bytes)

    def path(self, X, y, max_bytes, sample_weight=None):
        """Compress one forest to several sizes, which takes less than a fit for each.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows.
        y : array-like of shape (n_samples,)
            Targets.
        max_bytes : sequence of int
            Bounds of `n_model_bytes_`.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        models : list of estimators
            A fitted one for each bound, in their order. All of them are cut from the forest that
            the largest bound grows, and the leaves of each are refitted from where those of the
            next larger one are. `fit` does better for a single bound, above all for one that is a
            small part of the largest: it grows fewer trees for it.
        """
        if not len(max_bytes):
            raise ValueError("The 'max_bytes' parameter of path must hold a number. Got none.")
        model = clone(self).set_params(max_bytes=max(max_bytes))
        model._validate_params()
        rows = model._training_rows(X, y, sample_weight)
        with blas_single_thread():
            task = model._task(*rows)
            found = {}
            for bound in sorted(max_bytes, reverse=True):  # leaves go on from those of a larger one
                found[bound] = copy(model).set_params(max_bytes=bound)
                found[bound]._compress(task, bound, n_tries=1 if len(found) > 1 else TRIES)
            return [found[bound] for bound in max_bytes]

    # Growing -------------------------------------------------------------------------------------

    def _task(self, X, y, weight):
        """Grow the forest; return it with the rows on which it is compressed."""
        rng = self._rng()
        forest = grown(self._forest(len(X)), X, y, weight, rng)
        self._check(forest)
        seed = int(rng.integers(2**31))
        return self._reduction(forest, X, self._target(y), weight, self._loss_name, seed)

    def _forest(self, n_rows):
        return self._default_forest(n_rows) if self.estimator is None else self.estimator

    def _check(self, forest):
        n_outputs = forest.trees.value.shape[1]
        if forest.adds_up and n_outputs != self._n_outputs:
            raise ValueError(
                f"The 'estimator' parameter of {type(self).__name__} must be boosted for the same "
                f"targets. Got {n_outputs} scores instead of {self._n_outputs}."
            )

    # Compressing ---------------------------------------------------------------------------------

    def _compress(self, task, max_bytes, **tries):
        """Keep as much as `max_bytes` and `max_nodes` allow."""
        if max_bytes is None:
            return self._finish(task, *self._reduced(task, None))
        return self._spend(
            max_bytes, lambda n: self._finish(task, *self._reduced(task, n)), **tries
        )

    def _reduced(self, task, max_bytes):
        found = self._reduce(task, partial(self._share, task, max_bytes))
        if found is None:
            self._refuse_budget(self._least_bytes(task))
        return found

    def _least_bytes(self, task):
        return self._expected_bytes(task, task.stumps.without_stumps()[0])

    def _share(self, task, max_bytes, trees):
        """Return the larger share of nodes and bytes that trees take; up to 1 they fit."""
        n_nodes, n_bytes = self._size(task, trees)
        of_nodes = 0.0 if self.max_nodes is None else n_nodes / self.max_nodes
        of_bytes = 0.0 if max_bytes is None else n_bytes / max_bytes
        return max(of_nodes, of_bytes)

    def _size(self, task, trees):
        """Return nodes and bytes of trees, those that are one leaf left out."""
        if trees not in task.sizes:
            remaining, _ = trees.without_stumps()
            task.sizes[trees] = remaining.n_nodes, self._expected_bytes(task, remaining)
        return task.sizes[trees]

    def _expected_bytes(self, task, trees):
        """Bytes of the tables, at most: leaves may not have their values yet."""
        trees = share_thresholds(trees, task.X)
        shares = self.refine or task.forest.adds_up
        return (self._coded_bytes if shares else self._bare_bytes)(trees, task.width)

    def _finish(self, task, trees, offset):
        """Share thresholds, and give the leaves their values."""
        trees, constant = share_thresholds(trees, task.X).without_stumps()
        offset = offset + constant
        if self.refine:
            rows = task.X, task.target, task.weight
            parts = self._loss_name, task.seed, task.memory, self._prior(task, trees)
            trees, offset = self._refitted(trees, *rows, *parts)
        elif task.forest.adds_up and len(trees.root):
            trees, offset = self._distilled(trees, task.X, task.weight, offset, task.seed)
        self._keep(trees, offset, task.X)
        return self

    def _prior(self, task, trees):
        """Return what the rows of leaves say on average: better than 0 where they are few.

        Of several classes these are shares, far from the log-odds that they are to become; of
        boosted trees they have learned by heart what they corrected.
        """
        is_apt = self._n_outputs == 1 and not task.forest.adds_up
        return task.averages.value[trees.origin] if is_apt else None

    def _tolerated_bytes(self, X, y, weight):
        """Return the smallest of several sizes that scores on a quarter of the rows like the best.

        All of them come from one forest.
        """
        rng = np.random.RandomState(self._rng().integers(2**31))
        train, held = train_test_split(
            np.arange(len(X)), test_size=0.25, random_state=rng, stratify=self._strata(y)
        )
        model = copy(self)
        task = model._task(X[train], y[train], weight[train])
        sizes = [model._compress(task, None).n_model_bytes_]
        scores = [model._quality(X[held], y[held], weight[held])]
        least = self._least_bytes(task)
        for size in sizes[0] // 2 ** np.arange(1, _HALVINGS):
            if size < least or scores[-1] < max(scores) - self.tolerance:
                break
            sizes.append(int(size))
            model = model._compress(task, sizes[-1])
            scores.append(model._quality(X[held], y[held], weight[held]))
        enough = max(scores) - self.tolerance
        return min(size for size, score in zip(sizes, scores, strict=True) if score >= enough)


class ReducedForestClassifier(CompactForestClassifier):
    """How well classes are told apart, and what tells them apart."""

    _grower = RandomForestClassifier

    def _strata(self, codes):
        return codes if np.bincount(codes).min() > 1 else None

    def _quality(self, X, codes, weight):
        scores = self.trees_.scores(X) + self.offset_
        decided = scores.argmax(axis=1) if self._n_outputs > 1 else (scores[:, 0] > 0).astype(int)
        return np.average(decided == codes, weights=weight)


class ReducedForestRegressor(CompactForestRegressor):
    """How well values are predicted, and by what."""

    _grower = RandomForestRegressor

    def _strata(self, y):
        return None

    def _quality(self, X, y, weight):
        error = np.average((self.trees_.scores(X)[:, 0] + self.offset_[0] - y) ** 2, weights=weight)
        spread = np.average((y - np.average(y, weights=weight)) ** 2, weights=weight)
        return 1.0 - error / spread if spread > 0 else 0.0
