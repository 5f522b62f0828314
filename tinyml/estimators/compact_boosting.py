"""Compact boosting: boosted trees that are charged for memory, with shared thresholds and leaves.

"Boosted trees on a diet" lower the gain of a split by a price where its feature, or its threshold,
is not in use yet, and keep thresholds and leaves in tables for the whole forest. Here one tree
serves all classes: its leaves hold a value for each, and such rows of values come from a small
codebook that is learned against the loss when all trees are grown.
"""

from dataclasses import dataclass
from functools import cached_property
from numbers import Integral, Real
from typing import ClassVar

import numpy as np
from scipy.special import log_softmax

from ..base import Interval, StrOptions, _fit_context, blas_single_thread, progress
from ..codegen.lower import lower
from ..training.boosting import Plan, boosted
from ..training.growing import Bins, binned
from ..training.refinement import constant
from ..training.trees import share_thresholds, threshold_bytes
from ._forests import (
    CompactForest,
    CompactForestClassifier,
    CompactForestRegressor,
    lower_forest,
)
from ._growing import Grown
from ._pruning import Pruning

_BITS_OF_A_SPLIT = 18  # with its leaf, on average
_PASSES = 6  # of growing, until the bytes are used up
_FULL = 0.97  # of the bytes
_HIGHEST_RATE = 0.6
_EASY = 0.02  # of the loss, if large trees leave no more than this,
_EASY_FOR_SMALL = 0.04  # and small trees no more than this
_AHEAD = 1.05  # times the splits that fit, where the last trees can be left out
_OVERGROWN = 2.5  # times the bytes, of which the best are kept
_MANY_LEAVES = 1000  # of which each weighs less when they are refitted


@dataclass(frozen=True, eq=False)
class _Task:
    """Rows to grow trees on."""

    X: np.ndarray
    target: np.ndarray
    weight: np.ndarray
    offset: np.ndarray
    seed: int

    @cached_property
    def width(self):
        """Bytes of a threshold."""
        return threshold_bytes(self.X)

    def left(self, scores):
        """Return the share of the cross-entropy that scores of several classes leave."""
        return self._loss(scores) / self._loss(self.offset[None])

    def _loss(self, scores):
        return -(self.weight * (self.target * log_softmax(scores, axis=1)).sum(axis=1)).sum()


@dataclass(frozen=True)
class _Guess:
    """What a pass of growing begins with.

    `price` is what a byte is to gain, in the mean loss; small trees have a leaf for each class.
    """

    n_splits: int
    price: float = 0.0
    are_small: bool = False


class _CompactBoosting(CompactForest):
    """Growing and sharing; a subclass knows the targets."""

    _parameter_constraints: ClassVar[dict] = {
        "max_bytes": [Interval(Integral, 1, None, closed="left"), None],
        "max_iter": [Interval(Integral, 1, None, closed="left"), None],
        "max_leaf_nodes": [Interval(Integral, 2, None, closed="left"), None],
        "learning_rate": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
        "max_bins": [Interval(Integral, 2, 256, closed="both"), StrOptions({"auto"})],
        "min_samples_leaf": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "l2_regularization": [Interval(Real, 0, None, closed="neither")],
        "threshold_penalty": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "feature_penalty": [Interval(Real, 0, None, closed="left")],
        "prune": ["boolean", StrOptions({"auto"})],
        "refine": ["boolean", StrOptions({"auto"})],
        "ridge": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
        "n_codes": [Interval(Integral, 2, None, closed="left"), StrOptions({"auto"})],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        max_bytes=None,
        *,
        max_iter=None,
        max_leaf_nodes=None,
        learning_rate="auto",
        max_bins="auto",
        min_samples_leaf="auto",
        l2_regularization=1.0,
        threshold_penalty="auto",
        feature_penalty=0.0,
        prune="auto",
        refine="auto",
        ridge="auto",
        n_codes="auto",
        verbose=False,
        random_state=None,
    ):
        self.max_bytes = max_bytes
        self.max_iter = max_iter
        self.max_leaf_nodes = max_leaf_nodes
        self.learning_rate = learning_rate
        self.max_bins = max_bins
        self.min_samples_leaf = min_samples_leaf
        self.l2_regularization = l2_regularization
        self.threshold_penalty = threshold_penalty
        self.feature_penalty = feature_penalty
        self.prune = prune
        self.refine = refine
        self.ridge = ridge
        self.n_codes = n_codes
        self.verbose = verbose
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Grow trees and let their leaves share values.

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
        X, y, weight = self._training_rows(X, y, sample_weight)
        target = self._target(y)
        with blas_single_thread():
            offset = constant(target, weight, self._loss_name)
            task = _Task(X, target, weight, offset, int(self._rng().integers(2**31)))
            if self.max_bytes is None:
                return self._finish(task, self._pass(task, _Guess(self._n_splits))[0])
            if self._prunes:
                forest = self._overgrown(task)
                return self._spend(self.max_bytes, lambda n: self._pruned(task, forest, n))
            return self._spend(self.max_bytes, lambda n: self._finish(task, self._within(task, n)))

    def _finish(self, task, trees):
        """Let the leaves share values, and keep the forest."""
        refine = self._n_outputs > 1 if self.refine == "auto" else self.refine
        if refine:
            rows = task.X, task.target, task.weight
            trees, offset = self._refitted(trees, *rows, self._loss_name, task.seed)
        else:
            trees, offset = self._distilled(trees, task.X, task.weight, task.offset, task.seed)
        self.n_iter_ = len(trees.root)
        self._keep(trees, offset, task.X)
        return self

    # Pruning -------------------------------------------------------------------------------------

    @property
    def _prunes(self):
        is_default = self._loss_name == "squared" and self.refine is not False
        return self.max_bytes is not None and (is_default if self.prune == "auto" else self.prune)

    def _penalty(self, trees):
        """Let more leaves weigh less: together they would learn the rows by heart."""
        penalty = super()._penalty(trees)
        if self.ridge != "auto" or not self._prunes:
            return penalty
        return penalty * max(1.0, trees.is_leaf.sum() / _MANY_LEAVES) ** (2 / 3)

    def _overgrown(self, task):
        """Grow more than there is room for."""
        trees = self._within(task, int(_OVERGROWN * self.max_bytes))
        self.n_iter_ = len(trees.root)
        rows = task.X, task.target, task.weight, self._loss_name, task.seed
        return Pruning(Grown(trees, task.offset, None, True), *rows, np.zeros(task.X.shape[1]))

    def _pruned(self, task, forest, max_bytes):
        """Keep the splits that lower the error most, and refit the leaves."""

        def share(trees):
            trees = share_thresholds(trees.without_stumps()[0], task.X)
            return self._coded_bytes(trees, task.width) / max_bytes

        found = forest.cost_complexity(share)
        if found is None:
            self._refuse_budget(self._coded_bytes(forest.stumps.without_stumps()[0], task.width))
        trees, _ = share_thresholds(found[0], task.X).without_stumps()
        rows = task.X, task.target, task.weight, self._loss_name, task.seed
        self._keep(*self._refitted(trees, *rows, forest.memory), task.X)
        return self

    # Growing -------------------------------------------------------------------------------------

    @property
    def _n_splits(self):
        """Splits of the forest, where bytes do not decide."""
        leaves = 31 if self.max_leaf_nodes is None else self.max_leaf_nodes
        return (leaves - 1) * (30 if self.max_iter is None else self.max_iter)

    def _within(self, task, max_bytes):
        """Grow as many splits as fit, in passes."""
        low, high, best = 0, self._most_splits, None
        guess = _Guess(min(high - 1, 8 * max_bytes // _BITS_OF_A_SPLIT + 1))
        for n_before in range(_PASSES):
            n_splits = guess.n_splits
            trees, scores, price = self._pass(task, guess)
            size = self._coded_bytes(trees, task.width)
            wanted = n_splits * self._share(trees, size, max_bytes)
            if n_before == 0 and self._may_be_small and task.left(scores) <= _EASY:
                small = self._small_trees(task, wanted, price, max_bytes)
                if small:
                    return small
            if size <= max_bytes:
                low, best = n_splits, trees
                if size >= _FULL * max_bytes or (~trees.is_leaf).sum() < n_splits:
                    break
            else:
                high = n_splits
            if high <= low + 1:
                break
            guess = _Guess(int(np.clip(wanted, low + 1, high - 1)), price)
        return best or self._fewer(task, guess, max_bytes)

    def _share(self, trees, size, max_bytes):
        """Return how many times the splits would fill the bytes."""
        fixed = self._fixed_bytes(trees)  # grows in steps, if at all
        return max(max_bytes - fixed, 1) / max(size - fixed, 1)

    @property
    def _may_be_small(self):
        is_given = self.max_iter is not None or self.max_leaf_nodes is not None
        return self._loss_name == "softmax" and not is_given

    def _small_trees(self, task, wanted, price, max_bytes):
        """Grow many small trees that fit.

        Return None where they leave too much of the loss: large trees learn rows by heart where
        there are few rows for each split, small ones cannot, and so tell whether classes are easy
        indeed.
        """
        best = None
        for _ in range(_PASSES - 1):
            n_splits = max(1, int(_AHEAD * wanted))
            trees, scores, price = self._pass(task, _Guess(n_splits, price, are_small=True))
            if task.left(scores) > _EASY_FOR_SMALL:
                return None
            size = self._coded_bytes(trees, task.width)
            if size > max_bytes:
                return self._first_trees(task, trees, max_bytes)
            best = trees
            if size >= _FULL * max_bytes or (~trees.is_leaf).sum() < n_splits:
                break
            wanted = n_splits * self._share(trees, size, max_bytes)
        return best

    def _first_trees(self, task, trees, max_bytes):
        """Leave out the last trees, so that the others fit; None if not even the first does."""
        few, many = 0, len(trees.root)
        while many > few + 1:
            n = (few + many) // 2
            size = self._coded_bytes(trees.first(n), task.width)
            few, many = (n, many) if size <= max_bytes else (few, n)
        return trees.first(few) if few else None

    def _fewer(self, task, guess, max_bytes):
        """Grow half of the splits, and again half of them, until they fit."""
        n_splits = guess.n_splits
        while True:
            n_splits = max(1, n_splits // 2)
            trees, _, _ = self._pass(task, _Guess(n_splits, guess.price))
            size = self._coded_bytes(trees, task.width)
            if size <= max_bytes:
                return trees
            if n_splits == 1:
                self._refuse_budget(size)

    @property
    def _most_splits(self):
        """One more splits than parameters allow."""
        given = self.max_iter is not None and self.max_leaf_nodes is not None
        return 1 + self._n_splits if given else np.iinfo(np.int64).max

    def _pass(self, task, guess):
        """Grow trees; return them, their scores, and the price of a byte."""
        plan, bins = self._plan(task, guess), self._binned(task.X, guess.n_splits)

        def rounds(trees):
            return progress(trees, type(self).__name__, verbose=self.verbose)

        rows = bins, task.target, task.weight, self._loss_name, task.offset
        trees, scores, least = boosted(*rows, plan, rounds)
        return share_thresholds(trees, task.X), scores, 8 * least / _BITS_OF_A_SPLIT

    def _binned(self, X, n_splits) -> Bins:
        if self.max_bins != "auto":
            return binned(X, self.max_bins)
        return binned(X, int(2 ** np.clip(np.floor(np.log2(n_splits / 16)), 5, 7)))

    def _plan(self, task, guess):
        n_leaves = self._n_leaves(guess)
        n_trees = self._n_trees(guess.n_splits, n_leaves)
        prices = guess.price * (1 + task.width), self.feature_penalty
        if self.threshold_penalty != "auto":
            prices = self.threshold_penalty, self.feature_penalty
        rate, rows = self.learning_rate, self.min_samples_leaf
        if rate == "auto":
            rate = self._rate(n_trees, len(task.X))
        if rows == "auto":
            rows = 5 if self._n_outputs > 1 else int(np.clip(len(task.X) // 20, 1, 20))
        parts = n_trees, n_leaves, rate, rows, self.l2_regularization, prices
        return Plan(guess.n_splits, *parts)

    def _rate(self, n_trees, n_rows):
        """Return a learning rate: less with more trees, and where few rows would be overfitted."""
        if self._n_outputs > 1:
            return min(_HIGHEST_RATE, 2.0 * n_trees**-0.5)
        cautious = min(_HIGHEST_RATE, 3.0 * n_trees**-0.4, 0.01 * n_rows**0.5)
        return min(_HIGHEST_RATE, max(cautious, 3.0 / n_trees))

    def _n_leaves(self, guess):
        """Return how many leaves a tree may have; None where it does not matter."""
        if guess.are_small:
            return self._n_outputs  # one for each class
        return self.max_leaf_nodes

    def _n_trees(self, n_splits, n_leaves):
        if self.max_iter is not None:
            return self.max_iter
        if n_leaves is not None:
            return -(-n_splits // (n_leaves - 1))
        wanted = (
            0.5 * n_splits**0.5 if self._n_outputs > 1 else n_splits / max(4, n_splits**0.5 / 8)
        )
        return max(1, round(wanted))


class CompactBoostingClassifier(CompactForestClassifier, _CompactBoosting):
    """Boosted trees in few bytes, for classification.

    The score of a class is ``offset + sum_t value_t[leaf_t(x)]``; of two classes the second has
    one. Trees are grown on the gradient of the cross-entropy [1]_, in which all classes share each
    tree; a split with a new threshold or feature has to be worth the bytes that these take.

    Parameters
    ----------
    max_bytes : int, default=None
        Bound of `n_model_bytes_`, which as many splits as possible use up.
    max_iter : int, default=None
        Number of trees. None means what suits the number of splits: few large ones with several
        classes, else many of about four splits.
    max_leaf_nodes : int, default=None
        Leaves of a tree, at most. None means what `max_bytes` allows, or 31 without it. Where trees
        of any size would leave hardly anything of the loss of several classes, it means one for
        each class.
    learning_rate : float or "auto", default="auto"
        Share of the Newton step that a leaf takes; "auto" takes less with more trees.
    max_bins : int or "auto", default="auto"
        Bins into which the values of a feature are put, 256 at most; between them lie the
        thresholds. "auto" means 32 to 128, fewer where there is little room.
    min_samples_leaf : int or "auto", default="auto"
        Rows of a leaf, at least; "auto" means 5 with several classes, else 20, or a twentieth of
        all rows if that is less.
    l2_regularization : float, default=1.0
        Penalty on the values of leaves while trees grow, in rows.
    threshold_penalty : float or "auto", default="auto"
        By how much a split with a new threshold must lower the mean loss more than others; "auto"
        takes what other splits achieve with the bytes of an entry in the table of thresholds.
    feature_penalty : float, default=0.0
        The same for a feature that no split uses yet.
    prune : bool or "auto", default="auto"
        Whether trees of 2.5 times the bytes are grown, of which those splits are kept that lower
        the error of their tree most [2]_. "auto" means False.
    refine : bool or "auto", default="auto"
        Whether the leaves are refitted to the targets, all at once, when the trees are grown; they
        always are once they are pruned. Otherwise their values are those of boosting, rounded so
        that the sums stay as they were. "auto" means with several classes.
    ridge : float or "auto", default="auto"
        Penalty of the refit, in rows: a leaf of that many rows is halved. "auto" is 0.3 with
        several classes, else 30.
    n_codes : int or "auto", default="auto"
        Different rows of values that leaves share; "auto" depends on the number of leaves.
    class_weight : dict, "balanced" or None, default=None
        Weight of each class; "balanced" makes their total weights equal.
    verbose : bool or int, default=False
        Show a progress bar on stderr.
    random_state : int, RandomState instance or None, default=None
        Groups the leaves before they share values.

    Attributes
    ----------
    trees_ : Trees
        The forest, in flat arrays.
    offset_ : ndarray of shape (n_outputs,)
        What the leaves add to.
    n_iter_ : int
        Trees that were grown.
    n_nodes_ : int
        Splits and leaves.
    n_model_bytes_ : int
        Bytes of the packed tables.
    classes_ : ndarray of shape (n_classes,)
        The class labels.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if they have any.

    References
    ----------
    .. [1] "Boosted trees on a diet: compact models for resource-constrained devices", ICLR 2026,
       arXiv:2510.26557.
    .. [2] H. D. Sherali, A. G. Hobeika and C. Jeenanunta, "An optimal constrained pruning strategy
       for decision trees", INFORMS Journal on Computing, 2009.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from tinyml.estimators import CompactBoostingClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> model = CompactBoostingClassifier(max_bytes=1024).fit(X, y)
    >>> model.n_model_bytes_ <= 1024
    True
    >>> model.score(X, y) > 0.95
    True
    """

    _parameter_constraints: ClassVar[dict] = (
        CompactForestClassifier._parameter_constraints | _CompactBoosting._parameter_constraints
    )

    def __init__(
        self,
        max_bytes=None,
        *,
        max_iter=None,
        max_leaf_nodes=None,
        learning_rate="auto",
        max_bins="auto",
        min_samples_leaf="auto",
        l2_regularization=1.0,
        threshold_penalty="auto",
        feature_penalty=0.0,
        prune="auto",
        refine="auto",
        ridge="auto",
        n_codes="auto",
        class_weight=None,
        verbose=False,
        random_state=None,
    ):
        super().__init__(
            max_bytes,
            max_iter=max_iter,
            max_leaf_nodes=max_leaf_nodes,
            learning_rate=learning_rate,
            max_bins=max_bins,
            min_samples_leaf=min_samples_leaf,
            l2_regularization=l2_regularization,
            threshold_penalty=threshold_penalty,
            feature_penalty=feature_penalty,
            prune=prune,
            refine=refine,
            ridge=ridge,
            n_codes=n_codes,
            verbose=verbose,
            random_state=random_state,
        )
        self.class_weight = class_weight


class CompactBoostingRegressor(CompactForestRegressor, _CompactBoosting):
    """Boosted trees in few bytes, for regression.

    The value is ``offset + sum_t value_t[leaf_t(x)]``. Trees are grown on the squared error [1]_; a
    split with a new threshold or feature has to be worth the bytes that these take.

    Parameters
    ----------
    max_bytes : int, default=None
        Bound of `n_model_bytes_`, which as many splits as possible use up.
    max_iter : int, default=None
        Number of trees. None means one for every four splits.
    max_leaf_nodes : int, default=None
        Leaves of a tree, at most. None means what `max_bytes` allows, or 31 without it.
    learning_rate : float or "auto", default="auto"
        Share of the Newton step that a leaf takes; "auto" takes less with more trees.
    max_bins : int or "auto", default="auto"
        Bins into which the values of a feature are put, 256 at most; between them lie the
        thresholds. "auto" means 32 to 128, fewer where there is little room.
    min_samples_leaf : int or "auto", default="auto"
        Rows of a leaf, at least; "auto" means 20, or a twentieth of all rows if that is less.
    l2_regularization : float, default=1.0
        Penalty on the values of leaves while trees grow, in rows.
    threshold_penalty : float or "auto", default="auto"
        By how much a split with a new threshold must lower the mean loss more than others; "auto"
        takes what other splits achieve with the bytes of an entry in the table of thresholds.
    feature_penalty : float, default=0.0
        The same for a feature that no split uses yet.
    prune : bool or "auto", default="auto"
        Whether trees of 2.5 times the bytes are grown, of which those splits are kept that lower
        the error of their tree most [2]_. "auto" means where `max_bytes` is given and `refine` is
        not False.
    refine : bool or "auto", default="auto"
        Whether the leaves are refitted to the targets, all at once, when the trees are grown; they
        always are once they are pruned. Otherwise their values are those of boosting, rounded so
        that the sums stay as they were. "auto" means False.
    ridge : float or "auto", default="auto"
        Penalty of the refit, in rows: a leaf of that many rows is halved. "auto" is 30, and more
        where pruning leaves more than a thousand leaves.
    n_codes : int or "auto", default="auto"
        Different values that leaves share; "auto" depends on the number of leaves.
    verbose : bool or int, default=False
        Show a progress bar on stderr.
    random_state : int, RandomState instance or None, default=None
        Groups the leaves before they share values.

    Attributes
    ----------
    trees_ : Trees
        The forest, in flat arrays.
    offset_ : ndarray of shape (n_outputs,)
        What the leaves add to.
    n_iter_ : int
        Trees that were grown.
    n_nodes_ : int
        Splits and leaves.
    n_model_bytes_ : int
        Bytes of the packed tables.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if they have any.

    References
    ----------
    .. [1] "Boosted trees on a diet: compact models for resource-constrained devices", ICLR 2026,
       arXiv:2510.26557.
    .. [2] H. D. Sherali, A. G. Hobeika and C. Jeenanunta, "An optimal constrained pruning strategy
       for decision trees", INFORMS Journal on Computing, 2009.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from tinyml.estimators import CompactBoostingRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = CompactBoostingRegressor(max_bytes=1024).fit(X, y)
    >>> model.n_model_bytes_ <= 1024
    True
    >>> model.score(X, y) > 0.6
    True
    """


lower.register(CompactBoostingClassifier, lower_forest)
lower.register(CompactBoostingRegressor, lower_forest)
