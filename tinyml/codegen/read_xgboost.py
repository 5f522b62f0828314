"""XGBoost's own documents, JSON or UBJSON: the trees in them, without the package."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from tinyml.codegen.boosted import Boosted, Objective, as_numbers, objective_of
from tinyml.codegen.graph import Floats, Tree
from tinyml.codegen.ubjson import read_ubjson

_OBJECTIVES = {
    "binary:hinge": Objective(True),
    "binary:logistic": Objective(True, "expit"),
    "multi:softmax": Objective(True, "softmax"),
    "multi:softprob": Objective(True, "softmax"),
    "reg:absoluteerror": Objective(),
    "reg:pseudohubererror": Objective(),
    "reg:quantileerror": Objective(),
    "reg:squarederror": Objective(),
    "reg:squaredlogerror": Objective(),
}


def is_xgboost(data: bytes) -> bool:
    """Whether a file begins as XGBoost's documents do."""
    return data.lstrip()[:1] == b"{"


def read_xgboost(data: bytes) -> Boosted:
    """Return the forest in a document of XGBoost.

    A split of XGBoost sends what is less than its threshold to the left, in single precision; that
    is what is not above the number before.
    """
    is_json = data.lstrip()[1:].lstrip()[:1] in (b'"', b"}")
    document = _read_json(data) if is_json else read_ubjson(data)
    try:
        return _boosted(document["learner"])
    except KeyError as error:
        raise ValueError(f"The file is no model of XGBoost: it lacks {error}.") from error


def _read_json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise ValueError("The file is no complete document of JSON.") from error


def _boosted(learner: dict[str, Any]) -> Boosted:
    model, weights = _trees_and_weights(learner["gradient_booster"])
    name, parameters = learner["objective"]["name"], learner["learner_model_param"]
    objective = objective_of(name, _OBJECTIVES, "XGBoost")
    n_targets = int(parameters.get("num_target", 1))
    if objective.is_classifier and n_targets > 1:
        raise TypeError("A classifier of XGBoost with several targets cannot be compiled.")
    n_outputs = max(1, int(parameters["num_class"]), n_targets)
    score = as_numbers(json.loads(parameters["base_score"]), np.float64)
    offset = np.log(score / (1 - score)) if objective.link == "expit" else score
    return Boosted(
        library="XGBoost",
        trees=tuple(_tree(t, w) for t, w in zip(model["trees"], weights, strict=True)),
        outputs=as_numbers(model["tree_info"], np.intp),
        offset=np.broadcast_to(offset, (n_outputs,)),
        link=objective.link,
        n_classes=objective.n_classes(n_outputs),
        n_features=int(parameters["num_feature"]),
        names=list(learner.get("feature_names", [])),
        precision=np.float32,
    )


def _trees_and_weights(booster: dict[str, Any]) -> tuple[dict[str, Any], Floats]:
    """Return the part that holds the trees, and what each is multiplied by."""
    name = booster["name"]
    if name == "dart":
        return booster["gbtree"]["model"], as_numbers(booster["weight_drop"], np.float64)
    if name != "gbtree":
        raise TypeError(
            f"The booster {name!r} of XGBoost cannot be compiled; these can: dart, gbtree."
        )
    model = booster["model"]
    weights = as_numbers(model.get("weight_drop", ()), np.float64)  # dropout without a booster
    return model, weights if len(weights) else np.ones(len(model["trees"]))


def _tree(tree: dict[str, Any], weight: float) -> Tree:
    if int(tree["tree_param"].get("size_leaf_vector", 1)) > 1:
        raise TypeError("XGBoost's trees with several targets each cannot be compiled.")
    left, right, feature = (
        as_numbers(tree[key], np.intp)
        for key in ("left_children", "right_children", "split_indices")
    )
    condition = as_numbers(tree["split_conditions"], np.float32)
    kept = _reachable(left, right)
    number = np.cumsum(kept) - 1
    is_leaf = left[kept] < 0
    sets = {int(number[node]): members for node, members in _sets(tree).items() if kept[node]}
    has_set = np.isin(np.arange(len(is_leaf)), list(sets))
    default_left = as_numbers(tree["default_left"], np.intp)[kept] > 0
    first, second = (np.where(is_leaf, -1, number[side[kept]]) for side in (left, right))
    return Tree(
        left=np.where(has_set, second, first),  # categories of a set go to the right there
        right=np.where(has_set, first, second),
        feature=np.where(is_leaf, 0, feature[kept]),
        threshold=np.nextafter(condition[kept], np.float32(-np.inf)).astype(np.float64),
        value=condition[kept].astype(np.float64)[:, None] * weight,
        missing_left=(default_left ^ has_set) & ~is_leaf,
        sets=sets,
    )


def _sets(tree: dict[str, Any]) -> dict[int, Any]:
    """Return the categories of each node that splits by them."""
    nodes, starts, sizes, members = (
        as_numbers(tree.get(key, []), np.intp)
        for key in ("categories_nodes", "categories_segments", "categories_sizes", "categories")
    )
    pieces = zip(nodes.tolist(), starts, sizes, strict=True)
    return {node: members[start : start + size] for node, start, size in pieces}


def _reachable(left: Any, right: Any) -> Any:
    """Mark the nodes under the root: pruned ones may still be in the arrays."""
    kept = np.zeros(len(left), dtype=bool)
    level = np.array([0])
    while level.size:
        kept[level] = True
        level = level[left[level] >= 0]
        level = np.concatenate([left[level], right[level]])
    return kept
