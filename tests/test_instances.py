"""The table of instances is complete, so what a test says of it holds of all that is supported."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from instances import INSTANCES, data, fitted, steps
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

import tinyml.codegen.compile
import tinyml.estimators
from tinyml.codegen.lower import OPTIONAL, labels, lower, lowered

ROOT = Path(__file__).parent.parent


def registration(step):
    """Return the name of the class under which a step is lowered."""
    names = {cls.__name__ for cls in lower.registry if cls is not object} | set(OPTIONAL)
    return next(cls.__name__ for cls in type(step).__mro__ if cls.__name__ in names)


def present():
    return [step for name in INSTANCES for step in steps(INSTANCES[name].estimator)]


def test_every_registered_class_is_in_the_table():

    classes = [cls for cls in lower.registry if cls is not object]
    ours = [cls for cls in classes if cls.__module__.split(".")[0] in ("sklearn", "tinyml")]
    registered = {cls.__name__ for cls in ours}  # tests register classes of their own
    installed = {name for name, package in OPTIONAL.items() if find_spec(package)}
    assert registered | installed == {registration(step) for step in present()}


def test_every_estimator_of_ours_is_in_the_table():
    ours = set(tinyml.estimators.__all__)
    assert ours <= {type(step).__name__ for step in present()}


def test_the_page_of_supported_models_is_what_the_script_writes():
    """In a process of its own, because tests register classes of theirs."""
    code = "import supported_models, sys; sys.stdout.write(supported_models.table())"
    scripts = ROOT / "scripts"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=scripts, capture_output=True, check=True
    )
    page = (ROOT / "docs" / "supported_models.md").read_bytes()
    assert done.stdout.decode() == page.decode()


@pytest.mark.parametrize("gap", [None, "passthrough"])
def test_pipelines_with_gaps_are_in_the_table(gap):
    pipelines = [step for step in present() if isinstance(step, Pipeline)]
    assert any(step is gap or step == gap for p in pipelines for _, step in p.steps)


def test_every_instance_is_fitted_without_a_warning():
    for name in INSTANCES:
        check_is_fitted(fitted(name))


@pytest.mark.parametrize("name", sorted(INSTANCES))
def test_the_float_graph_is_the_model(name):
    """What is lowered is what the model computes; integers are compared with it elsewhere."""
    X = data(INSTANCES[name].data)[0]
    model = fitted(name)
    scores = lowered(model, X.shape[1]).evaluate(X)
    if not INSTANCES[name].is_classifier:
        np.testing.assert_allclose(np.squeeze(scores), model.predict(X), rtol=1e-5, atol=1e-6)
    elif scores.shape[1] == 1:
        np.testing.assert_array_equal(labels(model)[(scores[:, 0] > 0) * 1], model.predict(X))
    else:
        np.testing.assert_array_equal(labels(model)[scores.argmax(axis=1)], model.predict(X))
