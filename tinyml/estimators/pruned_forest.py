"""Pruned forests: any forest cut down to bytes, its leaves refitted to each other.

A forest votes with trees that were grown without knowing of one another. Pruning takes what each
byte buys least; refitting the leaves of what remains, all at once, wins back more than was lost: on
the same splits the sum of refitted leaves is a far better model than the mean of votes.
"""

from numbers import Real
from typing import ClassVar

import numpy as np

from ..base import Interval, StrOptions
from ..codegen.lower import lower
from ._forests import lower_forest
from ._pruning import METHODS, Pruning
from ._reduction import ReducedForest, ReducedForestClassifier, ReducedForestRegressor

_BITS_OF_A_SPLIT = 18  # with its leaf, on average
_TREES, _FEWEST_TREES, _MOST_TREES = 40, 4, 100  # the first, where rows are as many as splits


class _PrunedForest(ReducedForest):
    """Pruning by one of several methods."""

    _parameter_constraints: ClassVar[dict] = ReducedForest._parameter_constraints | {
        "method": [StrOptions(set(METHODS))],
        "feature_costs": ["array-like", None],
        "cost_weight": [Interval(Real, 0, None, closed="left")],
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

    def _reduction(self, *parts):
        n_features = parts[1].shape[1]
        return Pruning(*parts, costs=self.cost_weight * self._costs(n_features))

    def _reduce(self, task, share):
        return METHODS[self.method](task, share)

    def _default_forest(self, n_rows):
        """Return the forest to grow: few trees where rows make large ones of which little stays."""
        n_splits = 8 * (self.max_bytes or 16384) / _BITS_OF_A_SPLIT
        if self.max_nodes is not None:
            n_splits = min(n_splits, self.max_nodes / 2)
        n_trees = _TREES * np.sqrt(n_splits / n_rows)
        return self._grower(int(np.clip(n_trees, _FEWEST_TREES, _MOST_TREES)))

    def _costs(self, n_features):
        costs = np.ones(n_features) if self.feature_costs is None else self.feature_costs
        costs = np.asarray(costs, dtype=np.float64)
        if costs.shape != (n_features,) or not np.all(costs >= 0):
            raise ValueError(
                f"The 'feature_costs' parameter of {type(self).__name__} must be {n_features} "
                f"numbers that are not negative. Got {self.feature_costs!r} instead."
            )
        return costs


class PrunedForestClassifier(ReducedForestClassifier, _PrunedForest):
    """A forest pruned to bytes, for classification.

    The score of a class is ``offset + sum_t value_t[leaf_t(x)]``; of two classes the second
    has one.

    Parameters
    ----------
    estimator : estimator, default=None
        What grows the forest: a tree, a forest, bagged or boosted trees, of scikit-learn or of
        anything that `compile` takes for trees. One that is fitted already is taken as it is if it
        comes in a `sklearn.frozen.FrozenEstimator`. None means a `RandomForestClassifier` of 4 to
        100 trees, few where there is little room for many rows.
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
        rows of values. Otherwise they keep what their rows say on average; those of boosted trees
        then share values that leave the sums as they were.
    ridge : float or "auto", default="auto"
        Penalty of that regression, in rows: a leaf of that many rows is halved, or with two classes
        goes half the way from what its rows say on average. "auto" is 0.3 with several classes,
        else 30.
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
        ReducedForestClassifier._parameter_constraints | _PrunedForest._parameter_constraints
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


class PrunedForestRegressor(ReducedForestRegressor, _PrunedForest):
    """A forest pruned to bytes, for regression.

    The value is ``offset + sum_t value_t[leaf_t(x)]``.

    Parameters
    ----------
    estimator : estimator, default=None
        What grows the forest: a tree, a forest, bagged or boosted trees, of scikit-learn or of
        anything that `compile` takes for trees. One that is fitted already is taken as it is if it
        comes in a `sklearn.frozen.FrozenEstimator`. None means a `RandomForestRegressor` of 4 to
        100 trees, few where there is little room for many rows.
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
        values. Otherwise they keep what their rows say on average; those of boosted trees then
        share values that leave the sums as they were.
    ridge : float or "auto", default="auto"
        Penalty of that regression, in rows: a leaf of that many rows goes half the way from what
        they say on average, or of boosted trees from 0. "auto" is 30.
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


lower.register(PrunedForestClassifier, lower_forest)
lower.register(PrunedForestRegressor, lower_forest)
