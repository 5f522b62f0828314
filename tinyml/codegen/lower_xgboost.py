"""Lowerings of XGBoost's estimators; imported only once one of them is met."""

from __future__ import annotations

from typing import Any

import numpy as np
from xgboost import XGBClassifier, XGBRegressor

from tinyml.codegen.boosted import check_kind, check_named_objective
from tinyml.codegen.graph import Graph, Node
from tinyml.codegen.lower import lower
from tinyml.codegen.read_xgboost import read_xgboost


@lower.register(XGBClassifier)
@lower.register(XGBRegressor)
def _(model: Any, g: Graph, x: Node) -> Node:
    """Take the trees that `predict` uses, which are those up to the best iteration if it knows."""
    check_named_objective(model)
    if not np.isnan(model.missing):
        raise TypeError(
            f"{type(model).__name__} with missing={model.missing!r} cannot be compiled."
        )
    booster, best = model.get_booster(), getattr(model, "best_iteration", None)
    if best is not None:
        booster = booster[: best + 1]
    boosted = read_xgboost(bytes(booster.save_raw("ubj")))
    check_kind(boosted, model, is_classifier=isinstance(model, XGBClassifier))
    return boosted.lower(g, x)
