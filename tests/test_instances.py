"""The table of instances is complete, so what a test says of it holds of all that is supported."""

import pytest
from instances import INSTANCES, fitted
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

import tinyml.codegen.compile
import tinyml.estimators
from tinyml.codegen.lower import lower, supported


def steps(model):
    """Yield a model and everything inside it that is lowered."""
    yield model
    if isinstance(model, Pipeline):
        for _, step in model.steps:
            if step not in (None, "passthrough"):
                yield from steps(step)


def registration(step):
    """Return the class under which a step is lowered."""
    supported()  # imports what registers
    return next(cls for cls in type(step).__mro__ if cls in lower.registry)


def present():
    return [step for name in INSTANCES for step in steps(INSTANCES[name].estimator)]


def test_every_registered_class_is_in_the_table():
    supported()
    registered = {cls.__name__ for cls in lower.registry if cls is not object}
    assert registered == {registration(step).__name__ for step in present()}


def test_every_estimator_of_ours_is_in_the_table():
    ours = set(tinyml.estimators.__all__)
    assert ours <= {type(step).__name__ for step in present()}


@pytest.mark.parametrize("gap", [None, "passthrough"])
def test_pipelines_with_gaps_are_in_the_table(gap):
    pipelines = [step for step in present() if isinstance(step, Pipeline)]
    assert any(step is gap or step == gap for p in pipelines for _, step in p.steps)


def test_every_instance_is_fitted_without_a_warning():
    for name in INSTANCES:
        check_is_fitted(fitted(name))
