"""L1-compressed forests: a linear model over the nodes of a forest that uses few of them.

Every node of every tree is a feature, 1 for the rows that reach it. A lasso over all of them
selects the nodes that matter; subtrees without a selected one are cut off, and the leaves of what
remains are refitted to each other.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property
from numbers import Integral
from typing import ClassVar

import numpy as np
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from ..base import Interval, progress
from ..codegen.lower import lower
from ..training import losses
from ..training.indicators import Indicators, SparseModel, path_sums, splits_needed
from ..training.subtrees import without_idle_splits
from ..training.trees import Trees
from ._forests import lower_forest
from ._reduction import ReducedForest, ReducedForestClassifier, ReducedForestRegressor, Reduction

_LOWEST = 1e-3  # penalty of the path, of the one that leaves nothing
_FINER = 8  # penalties between two of the path
_TOLERANCE = 0.02  # of the conditions of optimality, in penalties
_MOST_STEPS, _FINER_STEPS = 50, 10  # of Newton's method, for one penalty
_POINT = [("penalty", "f8"), ("n_bytes", "i8"), ("n_nodes", "i8"), ("loss", "f8")]


@dataclass(frozen=True, eq=False)
class _Selection(Reduction):
    """A forest of which nodes are to be selected, and how far its path is known."""

    n_penalties: int = field(kw_only=True)
    models: list = field(default_factory=list, init=False)
    solutions: list = field(default_factory=list, init=False)
    walks: dict = field(default_factory=dict, init=False)

    @cached_property
    def grown_trees(self) -> Trees:
        """The forest without splits that tell no rows apart."""
        return without_idle_splits(self.trees, self.X, self.weight)

    @cached_property
    def nothing(self):
        """The model of which only the constant is fitted; the first root stands for it."""
        indicators = Indicators.of(self.grown_trees, self.X)
        target = losses.compared(self.target, self.loss)
        parts = losses.BY_NAME[self.loss], target, self.weight / self.weight.mean()
        model = SparseModel(indicators, *parts, self.target.shape[1])
        return self._minimised(model, np.inf)

    @cached_property
    def penalties(self):
        """The path, from the penalty at which the first node is about to be selected."""
        nothing, limit = self.nothing, np.zeros(self.grown_trees.n_nodes)
        limit[self.grown_trees.root] = np.inf
        none = np.zeros((len(limit), self.target.shape[1]), dtype=bool)
        _, steepest, *_ = nothing.indicators.beyond(nothing.gradient, limit, none, np.inf)
        return (steepest or 1.0) * np.geomspace(1.0, _LOWEST, self.n_penalties)

    def _minimised(self, model, penalty, n_steps=_MOST_STEPS):
        model = model.copy()
        prices = np.full(self.grown_trees.n_nodes, float(penalty))
        prices[self.grown_trees.root] = np.inf  # all of them are one constant
        prices[0] = 0.0
        tolerance = _TOLERANCE * penalty if np.isfinite(penalty) else 1e-6
        model.minimise(prices, tolerance, n_steps)
        return model

    def point(self, k):
        """Return the solution at a penalty of the path."""
        while len(self.models) <= k:
            start = self.models[-1] if self.models else self.nothing
            model = self._minimised(start, self.penalties[len(self.models)])
            self.models.append(model)
            self.solutions.append(self._solution(model))
        return self.solutions[k]

    def between(self, k):
        """Yield solutions from one penalty of the path to the next, each of them found once."""
        known, walk = self.walks.setdefault(k, ([], self._walk(k)))
        for n in range(_FINER):
            if n == len(known):
                known.append(next(walk))
            yield known[n]

    def _walk(self, k):
        model = self.models[k]
        for penalty in np.geomspace(*self.penalties[k : k + 2], _FINER + 2)[1:-1]:
            model = self._minimised(model, penalty, _FINER_STEPS)
            yield self._solution(model)

    def _solution(self, model):
        """Return what is left of the forest, and what its leaves add to."""
        trees, coef = self.grown_trees, model.dense
        constant = coef[0].copy()
        coef[0] = 0.0
        value = path_sums(trees.left, trees.right, coef)
        needed = splits_needed(trees.left, trees.right, (coef != 0).any(axis=1))
        return replace(trees, value=value).cut(~needed), constant


class _L1Forest(ReducedForest):
    """The lasso; a subclass knows the targets."""

    _parameter_constraints: ClassVar[dict] = ReducedForest._parameter_constraints | {
        "n_penalties": [Interval(Integral, 2, None, closed="left")],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        estimator=None,
        *,
        max_bytes=None,
        max_nodes=None,
        tolerance=0.01,
        n_penalties=20,
        refine=True,
        ridge="auto",
        n_codes="auto",
        verbose=False,
        random_state=None,
    ):
        self.estimator = estimator
        self.max_bytes = max_bytes
        self.max_nodes = max_nodes
        self.tolerance = tolerance
        self.n_penalties = n_penalties
        self.refine = refine
        self.ridge = ridge
        self.n_codes = n_codes
        self.verbose = verbose
        self.random_state = random_state

    def _reduction(self, *parts):
        return _Selection(*parts, n_penalties=self.n_penalties)

    def _reduce(self, task, share):
        """Go along the path while it fits, at its end in smaller steps."""
        best = None
        numbers = range(self.n_penalties)
        for k in progress(numbers, type(self).__name__, verbose=self.verbose):
            found = task.point(k)
            if share(found[0]) > 1:
                break
            best = found
        else:
            k = self.n_penalties
        for found in task.between(k - 1) if 0 < k < self.n_penalties else ():
            if share(found[0]) > 1:
                break
            best = found
        self.path_ = self._path(task)
        return best

    def _path(self, task):
        """Say of every point of the path what it takes and what it is worth."""
        rows = []
        for k, (model, (trees, _)) in enumerate(zip(task.models, task.solutions, strict=True)):
            n_nodes, n_bytes = self._size(task, trees)
            rows.append((task.penalties[k], n_bytes, n_nodes, model.loss_value))
        return np.array(rows, dtype=_POINT)


class L1ForestClassifier(ReducedForestClassifier, _L1Forest):
    """A forest of which few nodes are kept, by a lasso, for classification.

    Every node of a forest is a feature that is 1 for the rows that reach it. A linear model of
    these with an L1 penalty selects some; what has none below it is cut off [1]_.

    The score of a class is ``offset + sum_t value_t[leaf_t(x)]``; of two classes the second
    has one.

    Parameters
    ----------
    estimator : estimator, default=None
        What grows the forest: a tree, a forest, bagged or boosted trees, of scikit-learn or of
        anything that `compile` takes for trees. One that is fitted already is taken as it is if it
        comes in a `sklearn.frozen.FrozenEstimator`. None means a `RandomForestClassifier` of 100
        trees with 64 leaves.
    max_bytes : int, default=None
        Bound of `n_model_bytes_`.
    max_nodes : int, default=None
        Bound of `n_nodes_`.
    tolerance : float, default=0.01
        Where neither bound is given: how much less accuracy than the best of several sizes is
        tolerated, measured on a quarter of the rows. The smallest such size is taken.
    n_penalties : int, default=20
        Points of the path, from one node to as many as the bounds allow.
    refine : bool, default=True
        Whether the leaves of what remains are refitted together [2]_, and share few different
        rows of values. Otherwise they keep the sum of the selected coefficients.
    ridge : float or "auto", default="auto"
        Penalty of that regression, in rows: a leaf of that many rows is halved, or with two classes
        goes half the way from what its rows say on average. "auto" is 0.3 with several classes,
        else 30.
    n_codes : int or "auto", default="auto"
        Different rows of values that refitted leaves share; "auto" depends on the number of leaves.
    class_weight : dict, "balanced" or None, default=None
        Weight of each class; "balanced" makes their total weights equal.
    verbose : bool or int, default=False
        Whether to show progress along the path.
    random_state : int, RandomState instance or None, default=None
        Grows the forest and groups its leaves.

    Attributes
    ----------
    path_ : structured ndarray of shape (n_points,)
        The points of the path that were visited: "penalty"; "n_bytes", an upper bound of what it
        takes; "n_nodes"; "loss", the mean over the training rows before leaves are refitted. With
        one of these "n_bytes" as `max_bytes`, a fit or `path` ends at this point or beyond.
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
    .. [1] A. Joly, F. Schnitzler, P. Geurts and L. Wehenkel, "L1-based compression of random
       forest models", ESANN 2012.
    .. [2] S. Ren, X. Cao, Y. Wei and J. Sun, "Global refinement of random forest", CVPR 2015.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from tinyml.estimators import L1ForestClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> model = L1ForestClassifier(max_bytes=2048, random_state=0).fit(X, y)
    >>> model.n_model_bytes_ <= 2048
    True
    >>> model.score(X, y) > 0.95
    True
    """

    _parameter_constraints: ClassVar[dict] = (
        ReducedForestClassifier._parameter_constraints | _L1Forest._parameter_constraints
    )

    def __init__(
        self,
        estimator=None,
        *,
        max_bytes=None,
        max_nodes=None,
        tolerance=0.01,
        n_penalties=20,
        refine=True,
        ridge="auto",
        n_codes="auto",
        verbose=False,
        class_weight=None,
        random_state=None,
    ):
        super().__init__(
            estimator,
            max_bytes=max_bytes,
            max_nodes=max_nodes,
            tolerance=tolerance,
            n_penalties=n_penalties,
            refine=refine,
            ridge=ridge,
            n_codes=n_codes,
            verbose=verbose,
            random_state=random_state,
        )
        self.class_weight = class_weight

    def _default_forest(self, n_rows):
        return RandomForestClassifier(100, max_leaf_nodes=64)


class L1ForestRegressor(ReducedForestRegressor, _L1Forest):
    """A forest of which few nodes are kept, by a lasso, for regression.

    Every node of a forest is a feature that is 1 for the rows that reach it. A linear model of
    these with an L1 penalty selects some; what has none below it is cut off [1]_.

    The value is ``offset + sum_t value_t[leaf_t(x)]``.

    Parameters
    ----------
    estimator : estimator, default=None
        What grows the forest: a tree, a forest, bagged or boosted trees, of scikit-learn or of
        anything that `compile` takes for trees. One that is fitted already is taken as it is if it
        comes in a `sklearn.frozen.FrozenEstimator`. None means a `RandomForestRegressor` of 30
        trees with 256 leaves.
    max_bytes : int, default=None
        Bound of `n_model_bytes_`.
    max_nodes : int, default=None
        Bound of `n_nodes_`.
    tolerance : float, default=0.01
        Where neither bound is given: how much less R² than the best of several sizes is
        tolerated, measured on a quarter of the rows. The smallest such size is taken.
    n_penalties : int, default=20
        Points of the path, from one node to as many as the bounds allow.
    refine : bool, default=True
        Whether the leaves of what remains are refitted together [2]_, and share few different
        values. Otherwise they keep the sum of the selected coefficients.
    ridge : float or "auto", default="auto"
        Penalty of that regression, in rows: a leaf of that many rows goes half the way from what
        they say on average, or of boosted trees from 0. "auto" is 30.
    n_codes : int or "auto", default="auto"
        Different values that refitted leaves share; "auto" depends on the number of leaves.
    verbose : bool or int, default=False
        Whether to show progress along the path.
    random_state : int, RandomState instance or None, default=None
        Grows the forest and groups its leaves.

    Attributes
    ----------
    path_ : structured ndarray of shape (n_points,)
        The points of the path that were visited: "penalty"; "n_bytes", an upper bound of what it
        takes; "n_nodes"; "loss", the mean over the training rows before leaves are refitted. With
        one of these "n_bytes" as `max_bytes`, a fit or `path` ends at this point or beyond.
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
    .. [1] A. Joly, F. Schnitzler, P. Geurts and L. Wehenkel, "L1-based compression of random
       forest models", ESANN 2012.
    .. [2] S. Ren, X. Cao, Y. Wei and J. Sun, "Global refinement of random forest", CVPR 2015.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from tinyml.estimators import L1ForestRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = L1ForestRegressor(max_bytes=2048, random_state=0).fit(X, y)
    >>> model.n_model_bytes_ <= 2048
    True
    >>> model.score(X, y) > 0.6
    True
    """

    def _default_forest(self, n_rows):
        return RandomForestRegressor(30, max_leaf_nodes=256)


lower.register(L1ForestClassifier, lower_forest)
lower.register(L1ForestRegressor, lower_forest)
