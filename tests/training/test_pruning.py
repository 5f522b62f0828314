"""Pruning is exact: against brute force, and against the linear programme of its paper."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from instances import SEED, data
from scipy.optimize import linprog
from sklearn.ensemble import RandomForestClassifier

from tinyml.codegen.lower import lowered
from tinyml.training.budget_pruning import BudgetPruning, _shifted
from tinyml.training.pruning import ErrorCurves, node_errors
from tinyml.training.trees import Trees


def forest(n_trees=3, depth=3, n_features=5):
    X, y = data("wine")
    X, y = X[:, :n_features], np.unique(y, return_inverse=True)[1]
    model = RandomForestClassifier(n_trees, max_depth=depth, **SEED).fit(X, y)
    trees = Trees.from_node(lowered(model, n_features).scores)
    weight = 1.0 + (np.arange(len(X)) % 3)
    return trees, X, np.eye(3)[y], weight


def paths(trees, X):
    """Yield, for each row and tree, the nodes on its way."""
    for i, x in enumerate(np.float32(X)):
        for t, node in enumerate(trees.root):
            way = [node]
            while trees.left[node] >= 0:
                goes_left = x[trees.feature[node]] <= trees.threshold[node]
                node = (trees.left if goes_left else trees.right)[node]
                way.append(node)
            yield i, t, way


@pytest.mark.parametrize("held", [False, True])
def test_errors_of_nodes(held):
    trees, X, Y, weight = forest()
    is_held = np.random.default_rng(0).random((len(X), 3)) < 0.4 if held else None
    found = node_errors(trees, X, Y, weight, is_held)
    mass, total = np.zeros(trees.n_nodes), np.zeros(trees.value.shape)
    for i, t, way in paths(trees, X):
        if not (held and is_held[i, t]):
            mass[way] += weight[i]
            total[way] += weight[i] * Y[i]
    reached = mass > 0
    np.testing.assert_allclose(found.mean[reached], total[reached] / mass[reached, None])
    error = np.zeros(trees.n_nodes)
    for i, t, way in paths(trees, X):
        if held and not is_held[i, t]:
            continue
        share = weight[is_held[:, t]].sum() if held else weight.sum()
        error[way] += weight[i] * ((Y[i] - found.mean[way]) ** 2).sum(axis=1) / share
    np.testing.assert_allclose(found.error, error, atol=1e-9)


def test_errors_of_trees_that_add_up():
    trees, X, _, weight = forest()
    found = node_errors(trees, X, None, weight)
    np.testing.assert_allclose(found.error[trees.is_leaf], 0, atol=1e-9)
    assert np.all(found.error[~trees.is_leaf] >= 0)


def prunings(trees, node, n):
    """Yield the sets of splits under a node with exactly n of them."""
    if n == 0:
        yield frozenset()
    elif trees.left[node] >= 0:
        for k in range(n):
            for a in prunings(trees, trees.left[node], k):
                for b in prunings(trees, trees.right[node], n - 1 - k):
                    yield a | b | {node}


def test_curves_are_the_best_of_all_prunings():
    trees, X, Y, weight = forest()
    error = node_errors(trees, X, Y, weight).error
    curves = ErrorCurves(trees, error)
    for t, root in enumerate(trees.root):
        for n, least in enumerate(curves.of_tree(t)):
            sums = []
            for kept in prunings(trees, root, n):
                leaves = [c for v in kept for c in (trees.left[v], trees.right[v])]
                leaves = [c for c in leaves if c not in kept] or [root]
                sums.append(error[leaves].sum())
            assert least == pytest.approx(min(sums, default=np.inf))


def test_masks_have_the_error_and_the_splits_that_were_asked_for():
    trees, X, Y, weight = forest(4, 6)
    error = node_errors(trees, X, Y, weight).error
    curves = ErrorCurves(trees, error)
    for total in range(0, curves.most_splits + 1, 7):
        n_splits = curves.with_total(total)
        assert n_splits.sum() <= total
        kept = replace_value(trees, error).cut(curves.is_leaf(n_splits))
        assert (~kept.is_leaf).sum() == n_splits.sum()
        best = sum(curves.of_tree(t)[n] for t, n in enumerate(n_splits))
        assert kept.value[kept.is_leaf].sum() == pytest.approx(best)


def replace_value(trees, number):
    return Trees(**{**vars(trees), "value": number[:, None]})


def programme(trees, X, weight, error, costs, price):
    """Return the optimum of the linear programme over leaves and features that rows meet."""
    n, parent = trees.n_nodes, np.full(trees.n_nodes, -1)
    splits = np.flatnonzero(~trees.is_leaf)
    parent[trees.left[splits]] = parent[trees.right[splits]] = splits

    def above(v):
        """1 for the node and all above it: whether one of these is a leaf."""
        row = np.zeros(n + X.size)
        while v >= 0:
            row[v], v = 1.0, parent[v]
        return row

    goal = np.concatenate([error, np.outer(weight / weight.sum(), costs).ravel()])
    goal = goal - price * sum(above(v) for v in splits)
    one_leaf = [above(v) for v in np.flatnonzero(trees.is_leaf)]
    meets = []
    for i, _, way in paths(trees, X):
        for v in way[:-1]:
            row = -above(v)
            row[n + i * X.shape[1] + trees.feature[v]] = -1.0
            meets.append(row)
    found = linprog(
        goal,
        np.array(meets),
        -np.ones(len(meets)),
        np.array(one_leaf),
        np.ones(len(one_leaf)),
        (0, 1),
    )
    return found.fun + price * len(splits)


@pytest.mark.parametrize("cost", [0.0, 0.01, 0.05])
@pytest.mark.parametrize(("n_trees", "depth"), [(3, 3), (5, 2), (2, 5)])
def test_budget_pruning_solves_the_linear_programme(n_trees, depth, cost):
    trees, X, Y, weight = forest(n_trees, depth)
    X, Y, weight = X[::3], Y[::3], weight[::3]
    error = node_errors(trees, X, Y, weight).error
    costs = cost * np.arange(1, 6)
    _, primal, dual, _ = BudgetPruning(trees, X, weight, error, costs).solve(0.002, 300)
    optimum = programme(trees, X, weight, error, costs, 0.002)
    assert dual <= optimum + 1e-9
    assert primal == pytest.approx(optimum, rel=1e-3)  # the subgradient comes close, no more


def splits_that_pay(curves, price):
    """Return the splits that each tree keeps if one costs `price`, the fewest of the best."""
    of_tree = map(curves.of_tree, range(len(curves.trees.root)))
    return [int(np.argmin(c + price * np.arange(len(c)))) for c in of_tree]


def test_a_total_keeps_what_pays_most():
    trees, X, Y, weight = forest(4, 6)
    curves = ErrorCurves(trees, node_errors(trees, X, Y, weight).error)
    for price in np.geomspace(1e-4, 1, 30):
        n_splits = splits_that_pay(curves, price)
        np.testing.assert_array_equal(curves.with_total(sum(n_splits)), n_splits)


def test_without_costs_it_is_cost_complexity():
    trees, X, Y, weight = forest(4, 6)
    error = node_errors(trees, X, Y, weight).error
    budget = BudgetPruning(trees, X, weight, error, np.zeros(5))
    curves = ErrorCurves(trees, error)
    for price in (0.001, 0.01, 0.1):
        leaves, primal, dual, _ = budget.solve(price)
        n_splits = splits_that_pay(curves, price)
        wanted = sum(curves.of_tree(t)[n] + price * n for t, n in enumerate(n_splits))
        assert primal == pytest.approx(dual)
        assert primal == pytest.approx(wanted)
        assert (~trees.cut(leaves).is_leaf).sum() == sum(n_splits)


def test_with_costs_trees_share_features():
    """The same splits are worth it where other trees have asked for their features."""
    trees, X, Y, weight = forest(5, 4)
    error = node_errors(trees, X, Y, weight).error
    masks = [
        BudgetPruning(trees, X, weight, error, c * np.ones(5)).solve(0.002)[0] for c in (0, 0.5)
    ]
    free, charged = (trees.cut(mask) for mask in masks)
    assert n_features_met(charged, X) < n_features_met(free, X)
    assert not np.array_equal(*masks)


def test_tolls_of_a_neighbouring_price_do_nearly_as_well():
    trees, X, Y, weight = forest(5, 4)
    error = node_errors(trees, X, Y, weight).error
    budget = BudgetPruning(trees, X, weight, error, 0.2 * np.ones(5))
    toll = budget.solve(0.002, 100).toll
    for price in (0.0015, 0.0028):
        leaves = budget.with_tolls(toll, price)
        primal = budget._primal(leaves, budget._used(leaves), price)
        assert primal <= 1.01 * budget.solve(price, 100).primal


@given(data=st.data(), shape=array_shapes(min_dims=3, max_dims=3, max_side=5))
def test_shares_move_and_keep_their_sums(data, shape):
    numbers = st.floats(0, 2, width=32)
    share = data.draw(arrays(float, shape, elements=numbers))
    may_use, used = (data.draw(arrays(bool, shape)) for _ in range(2))
    total = data.draw(arrays(float, shape[1:], elements=numbers))
    gap = data.draw(st.floats(0.001, 10))
    used &= may_use
    n_users = np.maximum(may_use.sum(axis=0), 1)
    direction = np.where(may_use, used - used.sum(axis=0) / n_users, 0.0)
    size = (direction**2).sum()
    got = _shifted(share, used, may_use, total, gap)
    if size < 1e-12:
        np.testing.assert_array_equal(got, share)
        return
    wanted = np.zeros(shape)
    for i, f in np.ndindex(*shape[1:]):
        users = may_use[:, i, f]
        moved = (share + gap / size * direction)[users, i, f]
        wanted[users, i, f] = on_simplex(moved, total[i, f])
    np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-6 * (1 + gap / size))


def on_simplex(values, total):
    """Lower all values by the number that leaves the sum of the positive ones, by bisection."""
    if not len(values):
        return values
    low, high = values.min() - total, values.max()
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if np.maximum(values - middle, 0).sum() > total else (low, middle)
        )
    return np.maximum(values - high, 0)


def n_features_met(trees, X):
    met = {(i, trees.feature[v]) for i, _, way in paths(trees, X) for v in way[:-1]}
    return len(met)


def test_all_that_pays_is_reached():
    trees, X, Y, weight = forest(2, 4)
    curves = ErrorCurves(trees, node_errors(trees, X, Y, weight).error)
    assert curves.with_total(0).sum() == 0
    assert curves.with_total(curves.most_splits).sum() == sum(splits_that_pay(curves, 0.0))
