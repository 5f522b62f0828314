"""The float graph computes what scikit-learn computes."""

import numpy as np
import pytest
from instances import CLASSIFIERS, INSTANCES, compiled, data, fitted

from tinyml.codegen.graph import Decay, Graph, SquaredDistance, Tree
from tinyml.codegen.program import probabilities

# Scores that are not those of `decision_function`, but give the same probabilities or decisions.
OTHER_SCALES = ("adaboost", "boosting_exponential", "lightgbm_binary", "lightgbm_forest")
DECISIONS_ALONE = (
    "isolation", "isolation_reals", "xgboost_scaled", "svc_rbf", "svc_rbf_raw", "svc_linear",
    "svc_linear_few", "svc_poly", "svc_sigmoid", "centroids", "centroids_binary", "kmeans",
    "kmeans_batches", "one_vs_rest_forests", "one_vs_rest_binary", "one_vs_one_trees",
    "voting_hard", "voting_binary",
)  # fmt: skip


@pytest.mark.parametrize("name", [name for name in INSTANCES if name not in DECISIONS_ALONE])
def test_the_graph_is_the_model(name):
    X, _ = data(INSTANCES[name].data)
    graph, model = compiled(name).graph, fitted(name)
    scores = graph.evaluate(X)
    if hasattr(model, "decision_function") and name not in OTHER_SCALES:
        wanted = model.decision_function(X).reshape(len(X), -1)
    elif graph.link is not None:
        scores, wanted = probabilities(graph.link, scores), model.predict_proba(X)
    else:
        wanted = model.predict(X).reshape(len(X), -1)
    np.testing.assert_allclose(scores, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", DECISIONS_ALONE)
def test_the_graph_decides_as_the_model(name):
    if name not in INSTANCES:
        pytest.skip("xgboost is not installed")
    X, _ = data(INSTANCES[name].data)
    program = compiled(name)
    scores = program.graph.evaluate(X)
    decided = scores[:, 0] > 0 if scores.shape[1] == 1 else scores.argmax(axis=1)
    np.testing.assert_array_equal(program.classes[decided.astype(int)], fitted(name).predict(X))


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_probabilities_follow_from_the_scores(name):
    program, model = compiled(name, 16), fitted(name)
    X, _ = data(INSTANCES[name].data)
    if program.graph.link is None:
        with pytest.raises(AttributeError, match="gives no probabilities"):
            program.predict_proba(X)
        return
    np.testing.assert_allclose(program.predict_proba(X).sum(axis=1), 1)
    off = np.abs(program.predict_proba(X) - model.predict_proba(X)).max(axis=1)
    assert np.median(off) < 0.02


def test_nodes_come_in_order_and_once():
    g = Graph(3)
    y = (g.input - 1.0) * np.array([1.0, 2.0, 3.0])
    g.scores = y.clip(-1.0, 1.0)[[2, 0]]
    nodes = g.nodes()
    assert nodes[0] is g.input
    assert len(nodes) == len(set(nodes))
    assert all(nodes.index(s) < nodes.index(n) for n in nodes for s in n.inputs)
    assert g.evaluate(np.array([[1.0, 2.0, 0.9]])).tolist() == [[pytest.approx(-0.3), 0.0]]


def test_kernel_nodes():
    g = Graph(2)
    points = np.array([[0.0, 0.0], [3.0, 4.0]])
    g.scores = Decay(SquaredDistance(g.input, points), 0.1)
    np.testing.assert_allclose(g.evaluate([[3.0, 4.0]]), [[np.exp(-2.5), 1.0]])


def test_a_tree_goes_left_up_to_its_threshold():
    stump = Tree(*(np.array(a) for a in ([1, -1, -1], [2, -1, -1], [0, 0, 0])),
                 np.array([0.5, 0, 0]), np.array([[0.0], [1], [2]]))  # fmt: skip
    assert stump.leaves(np.array([[0.5], [np.nextafter(0.5, 1)]])).tolist() == [1, 2]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floats_keep_their_precision(dtype):
    g = Graph(1)
    g.scores = (g.input - 0.1) / 3.0
    assert g.evaluate(np.ones((1, 1), dtype)).dtype == dtype
