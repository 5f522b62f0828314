"""Pruned forests: any forest cut down to bytes, its leaves refitted to each other.

A forest votes with trees that were grown without knowing of one another. Pruning takes what each
byte buys least; refitting the leaves of what remains, all at once, wins back more than was lost: on
the same splits the sum of refitted leaves is a far better model than the mean of votes.
"""

from copy import copy
from functools import partial
from numbers import Integral, Real
from typing import ClassVar

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.model_selection import train_test_split

from ..base import Interval, StrOptions, _fit_context, blas_single_thread
from ..codegen.lower import lower
from ..training.trees import share_thresholds
from ._forests import (
    CompactForest,
    CompactForestClassifier,
    CompactForestRegressor,
    lower_forest,
)
from ._growing import grown
from ._pruning import METHODS, Pruning

_BITS_OF_A_SPLIT = 18  # with its leaf, on average
_FULL = 0.95  # of the bytes; where less is taken there is a second try
_HALVINGS = 10  # of the size, until less is no longer tolerated


class _PrunedForest(CompactForest):
    """Growing, pruning and refitting; a subclass knows the targets."""

    _parameter_constraints: ClassVar[dict] = {
        "estimator": [BaseEstimator, None],
        "method": [StrOptions(set(METHODS))],
        "max_bytes": [Interval(Integral, 1, None, closed="left"), None],
        "max_nodes": [Interval(Integral, 1, None, closed="left"), None],
        "tolerance": [Interval(Real, 0, None, closed="left")],
        "feature_costs": ["array-like", None],
        "cost_weight": [Interval(Real, 0, None, closed="left")],
        "refine": ["boolean"],
        "ridge": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
        "n_codes": [Interval(Integral, 2, None, closed="left"), StrOptions({"auto"})],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        estimator=None,
        *,
        method="cost-complexity",
        max_bytes=None,
        max_nodes=None,
        tolerance=0.01,
        feature_costs=None,
        cost_weight=0.01,
        refine=True,
        ridge="auto",
        n_codes="auto",
        random_state=None,
    ):
        self.estimator = estimator
        self.method = method
        self.max_bytes = max_bytes
        self.max_nodes = max_nodes
        self.tolerance = tolerance
        self.feature_costs = feature_costs
        self.cost_weight = cost_weight
        self.refine = refine
        self.ridge = ridge
        self.n_codes = n_codes
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y, sample_weight=None):
        """Grow a forest, or take the given one, and prune it.

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
            max_bytes = self.max_bytes
            if max_bytes is None and self.max_nodes is None:
                max_bytes = self._tolerated_bytes(*rows)
            return self._prune(self._task(*rows), max_bytes)

    def path(self, X, y, max_bytes, sample_weight=None):
        """Prune one forest to several sizes, which takes less than a fit for each.

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
            the largest bound grows.
        """
        model = clone(self).set_params(max_bytes=max(max_bytes))
        model._validate_params()
        rows = model._training_rows(X, y, sample_weight)
        with blas_single_thread():
            task = model._task(*rows)
            return [copy(model).set_params(max_bytes=b)._prune(task, b) for b in max_bytes]

    # Growing -------------------------------------------------------------------------------------

    def _task(self, X, y, weight):
        """Grow the forest; return it with the rows on which it is pruned."""
        rng = self._rng()
        forest = grown(self._forest(), X, y, weight, rng)
        self._check(forest)
        costs = self.cost_weight * self._costs(X.shape[1])
        seed = int(rng.integers(2**31))
        return Pruning(forest, X, self._target(y), weight, self._loss_name, costs, seed)

    def _forest(self):
        """Return the forest to grow: few trees where there is little room."""
        if self.estimator is not None:
            return self.estimator
        n_splits = 8 * (self.max_bytes or 16384) / _BITS_OF_A_SPLIT
        if self.max_nodes is not None:
            n_splits = min(n_splits, self.max_nodes / 2)
        return self._default_forest(int(np.clip(np.sqrt(n_splits) / 4, 4, 50)))

    def _costs(self, n_features):
        costs = np.ones(n_features) if self.feature_costs is None else self.feature_costs
        costs = np.asarray(costs, dtype=np.float64)
        if costs.shape != (n_features,) or not np.all(costs >= 0):
            raise ValueError(
                f"The 'feature_costs' parameter of {type(self).__name__} must be {n_features} "
                f"numbers that are not negative. Got {self.feature_costs!r} instead."
            )
        return costs

    def _check(self, forest):
        n_outputs = forest.trees.value.shape[1]
        if forest.adds_up and n_outputs != self._n_outputs:
            raise ValueError(
                f"The 'estimator' parameter of {type(self).__name__} must be boosted for the same "
                f"targets. Got {n_outputs} scores instead of {self._n_outputs}."
            )

    # Pruning -------------------------------------------------------------------------------------

    def _prune(self, task, max_bytes):
        """Keep as much as `max_bytes` and `max_nodes` allow."""
        if max_bytes is None:
            return self._finish(task, *self._pruned(task, None))
        return self._spend(max_bytes, lambda n: self._finish(task, *self._pruned(task, n)))

    def _pruned(self, task, max_bytes):
        found = METHODS[self.method](task, partial(self._fits, task, max_bytes))
        if found is None:
            self._refuse_budget(self._expected_bytes(task, task.stumps.without_stumps()[0]))
        return found

    def _fits(self, task, max_bytes, trees):
        trees, _ = trees.without_stumps()
        if self.max_nodes is not None and trees.n_nodes > self.max_nodes:
            return False
        return max_bytes is None or self._expected_bytes(task, trees) <= max_bytes

    def _expected_bytes(self, task, trees):
        """Bytes of the tables, at most: leaves may not have their values yet."""
        trees = share_thresholds(trees, task.X)
        return (self._coded_bytes if self.refine else self._bare_bytes)(trees, task.width)

    def _finish(self, task, trees, offset):
        """Share thresholds, and give the leaves their values."""
        trees = share_thresholds(trees, task.X)
        if self.refine:
            rows = task.X, task.target, task.weight
            trees, offset = self._refitted(trees, *rows, self._loss_name, task.seed)
        self._keep(trees, offset, task.X)
        return self

    def _tolerated_bytes(self, X, y, weight):
        """Return the smallest of several sizes that scores on a quarter of the rows like the best.

        All of them are pruned from one forest.
        """
        rng = np.random.RandomState(self._rng().integers(2**31))
        train, held = train_test_split(
            np.arange(len(X)), test_size=0.25, random_state=rng, stratify=self._strata(y)
        )
        model = copy(self)
        task = model._task(X[train], y[train], weight[train])
        sizes = [model._prune(task, None).n_model_bytes_]
        scores = [model._quality(X[held], y[held], weight[held])]
        while len(sizes) < _HALVINGS and scores[-1] >= max(scores) - self.tolerance:
            sizes.append(sizes[-1] // 2)
            model = model._prune(task, sizes[-1])
            scores.append(model._quality(X[held], y[held], weight[held]))
        enough = max(scores) - self.tolerance
        return min(size for size, score in zip(sizes, scores, strict=True) if score >= enough)


class PrunedForestClassifier(CompactForestClassifier, _PrunedForest):
    """A forest pruned to bytes, for classification.

    The score of a class is ``offset + sum_t value_t[leaf_t(x)]``; of two classes the second
    has one.

    Parameters
    ----------
    estimator : estimator, default=None
        What grows the forest: a tree, a forest, bagged or boosted trees, of scikit-learn or of
        anything that `compile` takes for trees. One that is fitted already is taken as it is if it
        comes in a `sklearn.frozen.FrozenEstimator`. None means a `RandomForestClassifier` of 4 to
        50 trees, few where there is little room.
    method : {"cost-complexity", "budget", "depth", "levels"}, default="cost-complexity"
        ``"cost-complexity"`` finds by dynamic programming the least error of every tree with any
        number of splits [1]_, and gives splits to the trees whose error they lower most.
        ``"budget"`` adds a price for each feature that a row asks for, once for all trees [2]_.
        ``"depth"`` cuts every tree at a depth of its own [4]_. ``"levels"`` shrinks subtrees level
        by level, some of them to a leaf [5]_. The last two weigh the trees against each other.
    max_bytes : int, default=None
        Bound of `n_model_bytes_`.
    max_nodes : int, default=None
        Bound of `n_nodes_`.
    tolerance : float, default=0.01
        Where neither bound is given: how much less accuracy than the best of several sizes is
        tolerated, measured on a quarter of the rows. The smallest such size is taken.
    feature_costs : array-like of shape (n_features,), default=None
        What each feature costs a row that asks for it, with ``method="budget"``; 1 by default.
    cost_weight : float, default=0.01
        Of these costs, against the squared error of a tree.
    refine : bool, default=True
        Whether the leaves of what remains are refitted together [3]_, and share few different
        rows of values. Otherwise they keep what their rows say on average.
    ridge : float or "auto", default="auto"
        Penalty of that regression, in rows: a leaf of that many rows is halved. "auto" is 0.3 with
        several classes, else 30.
    n_codes : int or "auto", default="auto"
        Different rows of values that refitted leaves share; "auto" depends on the number of leaves.
    class_weight : dict, "balanced" or None, default=None
        Weight of each class; "balanced" makes their total weights equal.
    random_state : int, RandomState instance or None, default=None
        Grows the forest and groups its leaves.

    Attributes
    ----------
    trees_ : Trees
        What remains of the forest, in flat arrays.
    offset_ : ndarray of shape (n_outputs,)
        What the leaves add to.
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
    .. [1] H. D. Sherali, A. G. Hobeika and C. Jeenanunta, "An optimal constrained pruning strategy
       for decision trees", INFORMS Journal on Computing, 2009.
    .. [2] F. Nan, J. Wang and V. Saligrama, "Pruning random forests for prediction on a budget",
       NIPS 2016.
    .. [3] S. Ren, X. Cao, Y. Wei and J. Sun, "Global refinement of random forest", CVPR 2015.
    .. [4] B. Liu and R. Mazumder, "ForestPrune: compact depth-pruned tree ensembles", AISTATS
       2023.
    .. [5] L. Devos, T. Martens, D. C. Oruc, W. Meert, H. Blockeel and J. Davis, "Compressing tree
       ensembles through level-wise optimization and pruning", ICML 2025.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from tinyml.estimators import PrunedForestClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> model = PrunedForestClassifier(max_bytes=2048, random_state=0).fit(X, y)
    >>> model.n_model_bytes_ <= 2048
    True
    >>> model.score(X, y) > 0.95
    True
    """

    _parameter_constraints: ClassVar[dict] = (
        CompactForestClassifier._parameter_constraints | _PrunedForest._parameter_constraints
    )

    def __init__(
        self,
        estimator=None,
        *,
        method="cost-complexity",
        max_bytes=None,
        max_nodes=None,
        tolerance=0.01,
        feature_costs=None,
        cost_weight=0.01,
        refine=True,
        ridge="auto",
        n_codes="auto",
        class_weight=None,
        random_state=None,
    ):
        super().__init__(
            estimator,
            method=method,
            max_bytes=max_bytes,
            max_nodes=max_nodes,
            tolerance=tolerance,
            feature_costs=feature_costs,
            cost_weight=cost_weight,
            refine=refine,
            ridge=ridge,
            n_codes=n_codes,
            random_state=random_state,
        )
        self.class_weight = class_weight

    def _default_forest(self, n_trees):
        return RandomForestClassifier(n_trees)

    def _strata(self, codes):
        return codes if np.bincount(codes).min() > 1 else None

    def _quality(self, X, codes, weight):
        scores = self.trees_.scores(X) + self.offset_
        decided = scores.argmax(axis=1) if self._n_outputs > 1 else (scores[:, 0] > 0).astype(int)
        return np.average(decided == codes, weights=weight)


class PrunedForestRegressor(CompactForestRegressor, _PrunedForest):
    """A forest pruned to bytes, for regression.

    The value is ``offset + sum_t value_t[leaf_t(x)]``.

    Parameters
    ----------
    estimator : estimator, default=None
        What grows the forest: a tree, a forest, bagged or boosted trees, of scikit-learn or of
        anything that `compile` takes for trees. One that is fitted already is taken as it is if it
        comes in a `sklearn.frozen.FrozenEstimator`. None means a `RandomForestRegressor` of 4 to 50
        trees, few where there is little room.
    method : {"cost-complexity", "budget", "depth", "levels"}, default="cost-complexity"
        ``"cost-complexity"`` finds by dynamic programming the least error of every tree with any
        number of splits [1]_, and gives splits to the trees whose error they lower most.
        ``"budget"`` adds a price for each feature that a row asks for, once for all trees [2]_.
        ``"depth"`` cuts every tree at a depth of its own [4]_. ``"levels"`` shrinks subtrees level
        by level, some of them to a leaf [5]_. The last two weigh the trees against each other.
    max_bytes : int, default=None
        Bound of `n_model_bytes_`.
    max_nodes : int, default=None
        Bound of `n_nodes_`.
    tolerance : float, default=0.01
        Where neither bound is given: how much less R² than the best of several sizes is
        tolerated, measured on a quarter of the rows. The smallest such size is taken.
    feature_costs : array-like of shape (n_features,), default=None
        What each feature costs a row that asks for it, with ``method="budget"``; 1 by default.
    cost_weight : float, default=0.01
        Of these costs, against the squared error of a tree.
    refine : bool, default=True
        Whether the leaves of what remains are refitted together [3]_, and share few different
        values. Otherwise they keep what their rows say on average.
    ridge : float or "auto", default="auto"
        Penalty of that regression, in rows: a leaf of that many rows is halved. "auto" is 30.
    n_codes : int or "auto", default="auto"
        Different values that refitted leaves share; "auto" depends on the number of leaves.
    random_state : int, RandomState instance or None, default=None
        Grows the forest and groups its leaves.

    Attributes
    ----------
    trees_ : Trees
        What remains of the forest, in flat arrays.
    offset_ : ndarray of shape (n_outputs,)
        What the leaves add to.
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
    .. [1] H. D. Sherali, A. G. Hobeika and C. Jeenanunta, "An optimal constrained pruning strategy
       for decision trees", INFORMS Journal on Computing, 2009.
    .. [2] F. Nan, J. Wang and V. Saligrama, "Pruning random forests for prediction on a budget",
       NIPS 2016.
    .. [3] S. Ren, X. Cao, Y. Wei and J. Sun, "Global refinement of random forest", CVPR 2015.
    .. [4] B. Liu and R. Mazumder, "ForestPrune: compact depth-pruned tree ensembles", AISTATS
       2023.
    .. [5] L. Devos, T. Martens, D. C. Oruc, W. Meert, H. Blockeel and J. Davis, "Compressing tree
       ensembles through level-wise optimization and pruning", ICML 2025.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from tinyml.estimators import PrunedForestRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = PrunedForestRegressor(max_bytes=2048, random_state=0).fit(X, y)
    >>> model.n_model_bytes_ <= 2048
    True
    >>> model.score(X, y) > 0.6
    True
    """

    def _default_forest(self, n_trees):
        return RandomForestRegressor(n_trees)

    def _strata(self, y):
        return None

    def _quality(self, X, y, weight):
        error = np.average((self.trees_.scores(X)[:, 0] + self.offset_[0] - y) ** 2, weights=weight)
        spread = np.average((y - np.average(y, weights=weight)) ** 2, weights=weight)
        return 1.0 - error / spread if spread > 0 else 0.0


lower.register(PrunedForestClassifier, lower_forest)
lower.register(PrunedForestRegressor, lower_forest)
