"""scikit-learn's own checks, for every estimator there is here."""

import pytest
from instances import INSTANCES, steps
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.utils.estimator_checks import parametrize_with_checks

import tinyml.estimators
from tinyml import model_selection
from tinyml.estimators import (
    BonsaiClassifier,
    BonsaiRegressor,
    CompactBoostingClassifier,
    CompactBoostingRegressor,
    CompactSVC,
    CompactSVR,
    FastGRNNClassifier,
    FastGRNNRegressor,
    L1ForestClassifier,
    L1ForestRegressor,
    ProtoNNClassifier,
    ProtoNNRegressor,
    PrunedForestClassifier,
    PrunedForestRegressor,
)
from tinyml.model_selection import FixedPointClassifier, FixedPointRegressor


def ours():
    """Return one instance of each estimator of ours that the table holds."""
    found = {}
    for instance in INSTANCES.values():
        for step in steps(instance.estimator):
            if type(step).__name__ in tinyml.estimators.__all__:
                found.setdefault(type(step), step)
    return [_for_any_columns(estimator) for estimator in found.values()]


def _for_any_columns(estimator):
    """Take what reads sequences as a user gets it: time steps of one column, so any number fits."""
    return type(estimator)() if hasattr(estimator, "n_channels") else estimator


ESTIMATORS = [*ours(), FixedPointClassifier(LogisticRegression()), FixedPointRegressor(Ridge())]

# Rows are drawn at random, into batches or for each tree: a weight of two is a repeated row in
# expectation only.
DRAWS_ROWS = (
    BonsaiClassifier,
    BonsaiRegressor,
    CompactSVC,
    CompactSVR,
    FastGRNNClassifier,
    FastGRNNRegressor,
    L1ForestClassifier,
    L1ForestRegressor,
    ProtoNNClassifier,
    ProtoNNRegressor,
    PrunedForestClassifier,
    PrunedForestRegressor,
)
GROUPS_LEAVES = (CompactBoostingClassifier, CompactBoostingRegressor)
WEIGHT_CHECK = "check_sample_weight_equivalence_on_dense_data"


def expected_failed_checks(estimator):
    if isinstance(estimator, DRAWS_ROWS):
        return {WEIGHT_CHECK: "rows are drawn at random"}
    if isinstance(estimator, GROUPS_LEAVES):
        return {WEIGHT_CHECK: "leaves are grouped by k-means, which scikit-learn excepts as well"}
    return {}


@pytest.mark.filterwarnings("ignore")  # what the checks feed is meant to be warned of
@parametrize_with_checks(ESTIMATORS, expected_failed_checks=expected_failed_checks)
def test_sklearn_check(estimator, check):
    check(estimator)


def test_no_estimator_is_forgotten():
    searched = {n for n in model_selection.__all__ if n.startswith("FixedPoint")}
    tested = {type(estimator).__name__ for estimator in ESTIMATORS}
    assert tested == searched | set(tinyml.estimators.__all__)
