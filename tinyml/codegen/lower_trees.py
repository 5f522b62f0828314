"""Lowerings of scikit-learn's trees and of ensembles of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    BaggingRegressor,
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from tinyml.base import boosting_start, histogram_columns, histogram_start, histogram_trees
from tinyml.codegen.graph import Floats, Forest, Graph, Node, Tree
from tinyml.codegen.lower import lower


def sum_of_trees(
    x: Node, trees: Sequence[Tree], offset: Any = 0.0, precision: Any = np.float32
) -> Forest:
    """Count leaves from the middle of their tree, so that their width is spent on their spread."""
    leaves = [tree.value[tree.is_leaf] for tree in trees]
    middles = [(value.max(axis=0) + value.min(axis=0)) / 2 for value in leaves]
    centred = zip(trees, middles, strict=True)
    return Forest(
        x,
        tuple(replace(tree, value=tree.value - m) for tree, m in centred),
        offset + sum(middles),
        precision,
    )


def in_column(tree: Tree, k: int, n_outputs: int) -> Tree:
    """Let a tree of one output add to the output `k` of several."""
    value = np.zeros((len(tree.value), n_outputs))
    value[:, k] = tree.value[:, 0]
    return replace(tree, value=value)


def _tree(estimator: Any, scale: float = 1.0) -> Tree:
    """Copy scikit-learn's arrays; `value` holds the classes of one target, or several targets."""
    t = estimator.tree_
    value = t.value[:, 0, :] if t.value.shape[1] == 1 else t.value[:, :, 0]
    return Tree(
        left=t.children_left,
        right=t.children_right,
        feature=t.feature,
        threshold=t.threshold,
        value=value * scale,
        missing_left=t.missing_go_to_left.astype(bool),
    )


def _classifier_tree(estimator: Any) -> Tree:
    tree = _tree(estimator)
    return replace(tree, value=tree.value / tree.value.sum(axis=1, keepdims=True))


def _one_target(model: Any) -> None:
    if model.n_outputs_ != 1:
        raise TypeError(f"{type(model).__name__} fitted on several targets cannot be compiled.")


# Trees, and means of them -------------------------------------------------------------------------


@lower.register
def _(model: DecisionTreeClassifier, g: Graph, x: Node) -> Node:
    _one_target(model)
    g.link = "normalize"
    return Forest(x, (_classifier_tree(model),))


@lower.register(RandomForestClassifier)
@lower.register(ExtraTreesClassifier)
def _(model: Any, g: Graph, x: Node) -> Node:
    _one_target(model)
    g.link = "normalize"
    return Forest(x, tuple(_classifier_tree(tree) for tree in model.estimators_))


@lower.register
def _(model: DecisionTreeRegressor, g: Graph, x: Node) -> Node:
    return sum_of_trees(x, [_tree(model)])


@lower.register(RandomForestRegressor)
@lower.register(ExtraTreesRegressor)
def _(model: Any, g: Graph, x: Node) -> Node:
    scale = 1.0 / len(model.estimators_)
    return sum_of_trees(x, [_tree(tree, scale) for tree in model.estimators_])


@lower.register
def _(model: BaggingClassifier, g: Graph, x: Node) -> Node:
    g.link = "normalize"
    trees = [
        replace(tree, value=_among_all(tree.value, estimator.classes_, len(model.classes_)))
        for estimator, tree in _bagged(model, DecisionTreeClassifier, _classifier_tree)
    ]
    return Forest(x, tuple(trees))


@lower.register
def _(model: BaggingRegressor, g: Graph, x: Node) -> Node:
    scale = 1.0 / len(model.estimators_)
    bagged = _bagged(model, DecisionTreeRegressor, lambda estimator: _tree(estimator, scale))
    return sum_of_trees(x, [tree for _, tree in bagged])


def _bagged(model: Any, kind: type, tree_of: Any) -> Iterator[tuple[Any, Tree]]:
    """Yield the estimators of a bag and their trees, which have seen some features each."""
    for estimator, columns in zip(model.estimators_, model.estimators_features_, strict=True):
        _check_member(model, estimator, kind)
        yield estimator, _of_columns(tree_of(estimator), columns)


def _check_member(model: Any, estimator: Any, kind: type) -> None:
    if not isinstance(estimator, kind):
        raise TypeError(
            f"{type(model).__name__} of {type(estimator).__name__} cannot be compiled; its "
            f"estimators must be a {kind.__name__}."
        )


def _of_columns(tree: Tree, columns: Any) -> Tree:
    """Let a tree that was fitted on some columns read all of them."""
    return replace(tree, feature=np.asarray(columns)[np.where(tree.is_leaf, 0, tree.feature)])


def _among_all(shares: Floats, codes: Any, n_classes: int) -> Floats:
    """Put the shares of the classes that a tree knows among those of all classes."""
    value = np.zeros((len(shares), n_classes))
    value[:, codes] = shares
    return value


# Boosting -----------------------------------------------------------------------------------------


@lower.register
def _(model: AdaBoostClassifier, g: Graph, x: Node) -> Node:
    """Weighted votes; those of several classes are scaled to give the probabilities."""
    n_classes = len(model.classes_)
    g.link = "expit" if n_classes == 2 else "softmax"
    votes = np.array([[-2.0], [2.0]]) if n_classes == 2 else np.eye(n_classes)
    if n_classes > 2:
        votes *= n_classes / (n_classes - 1) ** 2
    total = model.estimator_weights_.sum()
    weighted = zip(model.estimators_, model.estimator_weights_, strict=False)
    return Forest(x, tuple(_voting(model, tree, votes * (w / total)) for tree, w in weighted))


def _voting(model: Any, estimator: Any, votes: Floats) -> Tree:
    """Return the tree whose leaves hold the votes for the classes that they decide for."""
    _check_member(model, estimator, DecisionTreeClassifier)
    tree = _tree(estimator)
    codes = np.searchsorted(model.classes_, estimator.classes_)
    return replace(tree, value=votes[codes[tree.value.argmax(axis=1)]])


@lower.register
def _(model: GradientBoostingClassifier, g: Graph, x: Node) -> Node:
    n_outputs = model.estimators_.shape[1]
    g.link = "expit" if n_outputs == 1 else "softmax"
    forest = _gradient_boosting(model, x)
    if model.loss == "exponential":  # its scores are half the log-odds
        doubled = tuple(replace(tree, value=2 * tree.value) for tree in forest.trees)
        forest = replace(forest, trees=doubled, offset=2 * forest.offset)
    return _with_zero_positive(forest) if n_outputs == 1 else forest


@lower.register
def _(model: GradientBoostingRegressor, g: Graph, x: Node) -> Node:
    return _gradient_boosting(model, x)


def _gradient_boosting(model: Any, x: Node) -> Forest:
    constant = isinstance(model.init_, DummyClassifier | DummyRegressor)
    if not constant and model.init_ != "zero":
        raise TypeError(
            f"{type(model).__name__} that begins from a {type(model.init_).__name__} cannot be "
            "compiled; its 'init' must be 'zero' or None."
        )
    n_outputs = model.estimators_.shape[1]
    trees = [
        in_column(_tree(estimator, model.learning_rate), k, n_outputs)
        for stage in model.estimators_
        for k, estimator in enumerate(stage)
    ]
    return sum_of_trees(x, trees, boosting_start(model, x.size))


@lower.register
def _(model: HistGradientBoostingClassifier, g: Graph, x: Node) -> Node:
    g.link = "expit" if model.n_trees_per_iteration_ == 1 else "softmax"
    return _histogram_boosting(model, x)


@lower.register
def _(model: HistGradientBoostingRegressor, g: Graph, x: Node) -> Node:
    if model.loss in ("gamma", "poisson"):
        raise TypeError(
            f"{type(model).__name__} with loss={model.loss!r} cannot be compiled; it predicts "
            "the exponential of a sum of trees."
        )
    return _histogram_boosting(model, x)


def _histogram_boosting(model: Any, x: Node) -> Forest:
    n_outputs, columns = model.n_trees_per_iteration_, histogram_columns(model)
    trees = [
        in_column(_histogram_tree(predictor, columns), k, n_outputs)
        for iteration in histogram_trees(model)
        for k, predictor in enumerate(iteration)
    ]
    return sum_of_trees(x, trees, histogram_start(model), np.float64)


def _histogram_tree(predictor: Any, columns: list[tuple[int, Floats | None]]) -> Tree:
    """Copy the nodes of a tree, which read numbered columns and codes of categories."""
    nodes = predictor.nodes
    is_leaf = nodes["is_leaf"].astype(bool)
    left, right = (np.where(is_leaf, -1, nodes[side].astype(np.intp)) for side in ("left", "right"))
    feature = np.where(is_leaf, 0, nodes["feature_idx"])
    missing_left = nodes["missing_go_to_left"].astype(bool) & ~is_leaf
    sets = {}
    for node in np.flatnonzero(nodes["is_categorical"].astype(bool) & ~is_leaf):
        known = columns[feature[node]][1]
        assert known is not None
        bits = predictor.raw_left_cat_bitsets[nodes["bitset_idx"][node]]
        goes_left = members(bits)[: len(known)]
        goes_left = np.pad(goes_left, (0, len(known) - len(goes_left)))
        if missing_left[node]:  # and with it what is unknown: only what is known goes apart
            left[node], right[node] = right[node], left[node]
            goes_left = ~goes_left
        sets[int(node)] = known[goes_left]
    categorical = np.isin(np.arange(len(nodes)), list(sets))
    return Tree(
        left,
        right,
        np.array([column for column, _ in columns])[feature],
        nodes["num_threshold"],
        nodes["value"][:, None],
        missing_left & ~categorical,
        sets,
    )


def members(words: Any) -> NDArray[np.bool_]:
    """Unpack a set of small numbers from words of 32 bits, the lowest bit first."""
    words = np.ascontiguousarray(words, dtype="<u4")
    return np.unpackbits(words.view(np.uint8), bitorder="little").astype(bool)


# Outliers -----------------------------------------------------------------------------------------


@lower.register
def _(model: IsolationForest, g: Graph, x: Node) -> Node:
    """Path lengths, summed over the trees, beyond the sum from which on a row is no outlier."""
    n_trees = len(model.estimators_)
    members = zip(model.estimators_, model.estimators_features_, strict=True)
    trees = [_of_columns(_path_lengths(tree), columns) for tree, columns in members]
    ordinary = n_trees * float(_average_path_length(np.array([model.max_samples_]))[0])
    least = -np.log2(-model.offset_) * ordinary
    return _with_zero_positive(sum_of_trees(x, trees, -least))


def _path_lengths(estimator: Any) -> Tree:
    """Return a tree whose leaves hold their depth and what splitting on would add to it."""
    t = estimator.tree_
    depth = t.compute_node_depths() - 1
    return replace(
        _tree(estimator), value=(depth + _average_path_length(t.n_node_samples))[:, None]
    )


def _average_path_length(n_samples: Any) -> Floats:
    """Return the mean depth at which a random tree isolates one of `n_samples` rows."""
    n = np.maximum(n_samples, 2).astype(np.float64)
    length = 2.0 * (np.log(np.maximum(n - 1.0, 1.0)) + np.euler_gamma) - 2.0 * (n - 1.0) / n
    return np.select([n_samples <= 1, n_samples == 2], [0.0, 1.0], length)


def _with_zero_positive(forest: Forest) -> Forest:
    """Raise a score by less than any difference that counts: scikit-learn takes 0 as positive."""
    reach = sum(np.abs(tree.value[tree.is_leaf]).max(axis=0) for tree in forest.trees)
    return replace(forest, offset=forest.offset + 1e-12 * (reach + np.abs(forest.offset)))
