"""LightGBM's own text: the trees in it, without the package."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyml.codegen.boosted import Boosted, Objective, objective_of
from tinyml.codegen.graph import Floats, Tree
from tinyml.codegen.lower_trees import members

_OBJECTIVES = {
    "binary": Objective(True, "expit"),
    "fair": Objective(),
    "huber": Objective(),
    "mape": Objective(),
    "multiclass": Objective(True, "softmax"),
    "multiclassova": Objective(True),
    "quantile": Objective(),
    "regression": Objective(),
    "regression_l1": Objective(),
}
_IS_CATEGORICAL, _DEFAULT_LEFT, _MISSING = 1, 2, 12  # bits of a decision type
_ZERO_IS_MISSING, _NAN_IS_MISSING = 4, 8

Fields = dict[str, str]


def is_lightgbm(data: bytes) -> bool:
    """Whether a file begins as LightGBM's text does."""
    return data[:5].split() == [b"tree"]


def read_lightgbm(text: str) -> Boosted:
    """Return the forest in LightGBM's text, which compares in double precision."""
    head, *parts = text.split("\nTree=")
    if not parts or "\nend of trees" not in parts[-1]:
        raise ValueError("The file is no complete model of LightGBM.")
    parts[-1] = parts[-1].split("\nend of trees")[0]
    try:
        return _boosted(_fields(head), [_fields(part) for part in parts])
    except KeyError as error:
        raise ValueError(f"The file is no model of LightGBM: it lacks {error}.") from error


def _fields(text: str) -> Fields:
    """Return the lines ``name=value``; a name alone has the value ""."""
    return {name: value for name, _, value in (line.partition("=") for line in text.split("\n"))}


def _boosted(head: Fields, trees: list[Fields]) -> Boosted:
    name, *details = head.get("objective", "custom").split()
    if "sqrt" in details:
        name += " sqrt"
    objective = objective_of(name, _OBJECTIVES, "LightGBM")
    n_outputs = int(head["num_tree_per_iteration"])
    scale = _steepness(details) if objective.link == "expit" else 1.0
    if "average_output" in head:
        scale *= n_outputs / len(trees)
    return Boosted(
        library="LightGBM",
        trees=tuple(_tree(fields, scale) for fields in trees),
        outputs=np.arange(len(trees)) % n_outputs,
        offset=np.zeros(n_outputs),
        link=objective.link,
        n_classes=objective.n_classes(n_outputs),
        n_features=int(head["max_feature_idx"]) + 1,
        names=_names(head["feature_names"].split()),
        precision=np.float64,
    )


def _steepness(details: list[str]) -> float:
    """Return what scores are multiplied by before the logistic function."""
    values = dict(detail.split(":") for detail in details)
    return float(values.get("sigmoid", 1.0))


def _names(names: list[str]) -> list[str]:
    """Return the names of features, unless LightGBM made them up."""
    return [] if names == [f"Column_{k}" for k in range(len(names))] else names


def _tree(fields: Fields, scale: float) -> Tree:
    """Number leaves behind splits; in the text the leaf k is the child ``-k - 1``."""
    if fields.get("is_linear", "0") != "0":
        raise TypeError("LightGBM's trees with linear leaves cannot be compiled.")
    value = scale * _numbers(fields, "leaf_value", np.float64)
    n_splits = len(value) - 1
    decision = _numbers(fields, "decision_type", np.int64)[:n_splits]
    threshold = _numbers(fields, "threshold", np.float64)[:n_splits]
    leaves = np.zeros(len(value))
    left, right = (
        np.where(child < 0, n_splits - 1 - child, child)
        for child in (_numbers(fields, f"{side}_child", np.intp) for side in ("left", "right"))
    )
    return Tree(
        left=np.append(left[:n_splits], leaves - 1).astype(np.intp),
        right=np.append(right[:n_splits], leaves - 1).astype(np.intp),
        feature=np.append(_numbers(fields, "split_feature", np.intp), leaves).astype(np.intp),
        threshold=np.append(threshold, leaves),
        value=np.append(np.zeros(n_splits), value)[:, None],
        missing_left=np.append(_missing_left(decision, threshold), leaves).astype(bool),
        sets=_sets(fields, decision, threshold),
    )


def _missing_left(decision: Any, threshold: Floats) -> Any:
    """Say where NaN goes to the left: by a default, or as 0 does; never at categories."""
    kind = decision & _MISSING
    is_categorical = (decision & _IS_CATEGORICAL) > 0
    if np.any((kind == _ZERO_IS_MISSING) & ~is_categorical):
        raise TypeError("A model of LightGBM with zero_as_missing cannot be compiled.")
    by_default = (decision & _DEFAULT_LEFT) > 0
    return np.where(kind == _NAN_IS_MISSING, by_default, threshold >= 0) & ~is_categorical


def _sets(fields: Fields, decision: Any, threshold: Floats) -> dict[int, Any]:
    """Return the categories that go to the left; the threshold is the number of their piece."""
    sets = {}
    for node in np.flatnonzero(decision & _IS_CATEGORICAL):
        bounds = _numbers(fields, "cat_boundaries", np.intp)
        first, end = bounds[int(threshold[node]) :][:2]
        words = _numbers(fields, "cat_threshold", np.int64)[first:end]
        sets[int(node)] = np.flatnonzero(members(words))
    return sets


def _numbers(fields: Fields, name: str, dtype: Any) -> Floats:
    return np.array(fields[name].split(), dtype=dtype)
