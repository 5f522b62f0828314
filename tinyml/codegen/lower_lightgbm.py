"""Lowerings of LightGBM's estimators; imported only once one of them is met."""

from __future__ import annotations

from typing import Any

from lightgbm import LGBMClassifier, LGBMRegressor

from tinyml.codegen.boosted import check_kind, check_named_objective
from tinyml.codegen.graph import Graph, Node
from tinyml.codegen.lower import lower
from tinyml.codegen.read_lightgbm import read_lightgbm


@lower.register(LGBMClassifier)
@lower.register(LGBMRegressor)
def _(model: Any, g: Graph, x: Node) -> Node:
    check_named_objective(model)
    boosted = read_lightgbm(model.booster_.model_to_string())
    check_kind(boosted, model, is_classifier=isinstance(model, LGBMClassifier))
    return boosted.lower(g, x)
