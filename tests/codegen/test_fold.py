"""Folding moves elementwise steps and changes no number."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from instances import INSTANCES, compiled, data

from tinyml.codegen.fold import View, fold
from tinyml.codegen.graph import Affine, Graph
from tinyml.codegen.sequences import Frame, Held, Scan, State, steps_before_end

numbers = st.floats(-50, 50).map(lambda v: round(v, 3))
nonzero = numbers.filter(lambda v: abs(v) > 0.01)
steps = st.one_of(
    st.tuples(st.sampled_from(["add", "sub", "min", "max"]), numbers),
    st.tuples(st.sampled_from(["mul", "div"]), nonzero),
)


def evaluate(stages, X):
    """Evaluate every stage as it is, the body of a scan once for every step."""
    values = {-1: np.asarray(X, dtype=np.float64)}
    inner = set()
    for position, stage in enumerate(stages):
        if isinstance(stage.node, Scan):
            values[position] = repeated(stages, inner, stage, values)
        elif isinstance(stage.node, State | Held | Frame) or inner & {*stage.sources}:
            inner.add(position)
        else:
            values[position] = stage.evaluate(*(values[k] for k in stage.sources))
    return values[len(stages) - 1]


def repeated(stages, inner, scan, outside):
    n = len(scan.node.states)
    states, results = scan.sources[:n], scan.sources[n : 2 * n]
    n_rows = len(outside[-1])
    values = outside | {k: np.zeros((n_rows, stages[k].node.size)) for k in states}
    frame = scan.node.frame
    counts = None if frame is None else steps_before_end(outside[-1], frame.width)
    for t in range(scan.node.n_steps):
        for position in sorted(inner - {*states}):
            node, sources = stages[position].node, stages[position].sources
            if isinstance(node, Frame):
                values[position] = np.nan_to_num(outside[-1][:, t * node.width :][:, : node.width])
            elif isinstance(node, Held):
                values[position] = values[sources[0]]
            else:
                values[position] = stages[position].evaluate(*(values[k] for k in sources))
        for state, result in list(zip(states, [values[k] for k in results], strict=True)):
            going = np.ones((n_rows, 1), bool) if counts is None else counts[:, None] > t
            values[state] = np.where(going, result, values[state])
    return values[states[-1]]


@pytest.mark.parametrize("name", INSTANCES)
def test_stages_evaluate_to_the_graph(name):
    graph = compiled(name).graph
    X = data(INSTANCES[name].data)[0][:100]
    wanted = graph.evaluate(X)
    np.testing.assert_allclose(evaluate(fold(graph), X), wanted, rtol=1e-7, atol=1e-7)


@given(st.lists(steps, max_size=6), st.lists(numbers, min_size=5, max_size=5))
def test_any_steps_are_one_clipped_affine_map(chain, values):
    view = View(np.array([0]), tuple((name, np.array([c])) for name, c in chain))
    x = np.array(values)[:, None]
    a, b, lo, hi = view.as_clipped_affine()
    size = np.abs([c for _, c in chain] + [1.0]).max()
    got = a * np.clip(x, lo, hi) + b
    np.testing.assert_allclose(got, view.evaluate(x), rtol=1e-6, atol=1e-9 * size**3)


@given(st.lists(steps, max_size=4), st.permutations(range(3)))
def test_taking_columns_commutes_with_steps(chain, order):
    view = View(np.arange(3), tuple((name, np.full(3, c)) for name, c in chain))
    x = np.array([[1.0, -2.0, 30.0]])
    columns = np.array(order)[:2]
    np.testing.assert_array_equal(view.take(columns).evaluate(x), view.evaluate(x)[:, columns])


def test_a_view_of_single_numbers_is_the_view_of_rows():
    view = View(np.arange(3), (("sub", np.array([1.0, 2, 3])), ("div", np.array([2.0, 4, 8]))))
    x = np.array([[5.0, 6, 7]])
    np.testing.assert_array_equal(view.at(x[0], np.arange(3)), view.evaluate(x)[0])


def test_scalers_around_a_matrix_cost_nothing():
    g = Graph(4)
    g.scores = (((g.input - 1.0) / 2.0) @ np.ones((4, 3)) + 1.0)[[2, 0]] * 5.0
    (stage,) = fold(g)
    assert isinstance(stage.node, Affine)
    assert stage.node.size == 2


@pytest.mark.parametrize(("middle", "stages"), [(2, 2), (30, 1)])
def test_matrices_are_multiplied_where_that_is_smaller(middle, stages):
    g = Graph(20)
    rng = np.random.default_rng(0)
    g.scores = (g.input @ rng.normal(size=(20, middle))) @ rng.normal(size=(middle, 10))
    assert len(fold(g)) == stages


def test_a_graph_of_steps_alone_still_has_a_stage():
    g = Graph(2)
    g.scores = (g.input * 2.0).clip(0.0, 1.0)
    np.testing.assert_array_equal(evaluate(fold(g), [[0.25, 3.0]]), [[0.5, 1.0]])
