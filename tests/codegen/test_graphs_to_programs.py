"""What a lowering may write, whatever the order: the program follows the float graph."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.linear_model import LinearRegression
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

import tinyml
from tinyml.codegen.graph import AbsoluteDistance, Affine, Decay, Forest, SquaredDistance, Tree
from tinyml.codegen.lower import lower

RNG_ROWS = np.random.default_rng(0).normal(size=(400, 4))
POINTS = np.random.default_rng(1).normal(size=(6, 4))
WEIGHTS = np.random.default_rng(2).normal(size=(6, 2))
UNLIKE = np.array([1.0, 8.0, 0.25, 2.0])
STUMP = Tree(
    left=np.array([1, -1, -1]),
    right=np.array([2, -1, -1]),
    feature=np.array([1, 0, 0]),
    threshold=np.array([0.25, 0.0, 0.0]),
    value=np.array([[0.0, 0.0], [1.0, 5.0], [-2.0, 3.0]]),
)


class Formula(RegressorMixin, BaseEstimator):
    """A regressor that is nothing but its lowering."""

    def __init__(self, formula=None):
        self.formula = formula

    def fit(self, X, y=None):
        self.n_features_in_ = X.shape[1]
        return self

    def predict(self, X):
        return X[:, 0]


@lower.register
def _(model: Formula, g, x):
    return model.formula(x)


FORMULAS = {
    "kernel": lambda x: Decay(SquaredDistance(x, POINTS), 0.4) @ WEIGHTS,
    "scaled distance": lambda x: Decay(SquaredDistance(x, POINTS) * 0.5, 0.4) @ WEIGHTS,
    "shifted distance": lambda x: Decay(SquaredDistance(x, POINTS) + 1, 0.4) @ WEIGHTS,
    "clipped distance": lambda x: Decay(SquaredDistance(x, POINTS).clip(0, 3), 0.4) @ WEIGHTS,
    "chosen distances": lambda x: Decay(SquaredDistance(x, POINTS)[[5, 2]], 0.4) @ WEIGHTS[:2],
    "a clip before": lambda x: Decay(SquaredDistance(x.clip(-1, 1), POINTS), 0.4) @ WEIGHTS,
    "kernels alone": lambda x: Decay(SquaredDistance(x, POINTS), 0.4) * 3 - 1,
    "distances alone": lambda x: SquaredDistance(x, POINTS),
    "distances of chosen features": lambda x: SquaredDistance(x[[3, 0]], POINTS[:, 1:3]),
    "distances behind shifts": lambda x: SquaredDistance((x - 0.7) * UNLIKE, POINTS * UNLIKE),
    "absolute distances": lambda x: AbsoluteDistance(x, POINTS),
    "absolute distances behind shifts": lambda x: AbsoluteDistance(
        (x - 0.7) * UNLIKE, POINTS * UNLIKE
    ),
    "absolute distances behind factors": lambda x: AbsoluteDistance(x * 0.3 + 1, POINTS),
    "absolute distances behind a clip": lambda x: AbsoluteDistance(x.clip(-1, 1), POINTS),
    "absolute distances of a product": lambda x: AbsoluteDistance(x @ WEIGHTS[:4], POINTS[:, 1:3]),
    "absolute distances of chosen features": lambda x: AbsoluteDistance(
        x[[3, 0]] + 2, POINTS[:, 1:3]
    ),
    "a choice alone": lambda x: x[[3, 2, 1, 0]],
    "a clip alone": lambda x: (x * 2 - 1).clip(-1, 1),
    "a factor of 0 before a clip": lambda x: (x * [0, 1, 1, 1] + 5).clip(-1, 5.5),
    "a product": lambda x: (x @ WEIGHTS[:4]).clip(-1, 1) * (x @ WEIGHTS[2:]),
    "a product with factors, one of them 0": lambda x: (
        (x @ WEIGHTS[:4]).clip(-1, 1) * [0, 3] * (x @ WEIGHTS[2:])
    ),
    "a product limited unlike": lambda x: (
        (x @ WEIGHTS[:4]).clip([-1, -2], [1, 3]) * (x @ WEIGHTS[2:])
    ),
    "a sum behind steps": lambda x: (x @ WEIGHTS[:4]).clip(-1, 1) * 0.3 + 2.0 + (x @ WEIGHTS[2:]),
    "a tree": lambda x: Forest(x, (STUMP,)),
    "a tree behind a falling step": lambda x: Forest(x * [1, -3, 1, 1] + 0.1, (STUMP,)),
    "a tree behind a falling clip": lambda x: Forest((x * -1).clip(-1, 1), (STUMP,)),
    "a tree turned round": lambda x: Forest(x, (STUMP,))[[1, 0]],
    "a tree scaled": lambda x: Forest(x, (STUMP,)) * 2 + 1,
}


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("bits", [16, "auto"])
def test_the_program_follows_the_graph(name, bits):
    program = tinyml.compile(Formula(FORMULAS[name]).fit(RNG_ROWS), RNG_ROWS, bits=bits)
    # of the rows the ranges come from; a row within one step of a threshold may go either way
    X = RNG_ROWS[np.arange(400) % 5 != 4]
    X = X[np.abs(X[:, 1] - 0.25) > 1e-3]
    wanted = program.graph.evaluate(X)
    error = np.sqrt(((program.decision_function(X) - wanted) ** 2).mean(axis=0))
    assert (error <= 0.02 * (wanted.std(axis=0) + 1e-9)).all() or np.abs(error).max() < 1e-3


@pytest.mark.parametrize("model", [LinearRegression(), DecisionTreeRegressor(max_depth=6)])
def test_targets_of_unlike_units(model):
    X = RNG_ROWS
    Y = np.c_[1e6 * X[:, 0] + 1e6 * X[:, 1], X[:, 2], np.full(len(X), 7.5)]
    model.fit(X, Y)
    program = tinyml.compile(model, X, bits=16)
    error = np.abs(program.predict(X) - model.predict(X)).mean(axis=0)
    assert (error < 0.01 * np.array([1e6, 1, 7.5])).all()


@pytest.mark.parametrize("bits", [8, 16, "auto"])
def test_a_threshold_at_zero_is_no_extent(bits):
    X = np.random.default_rng(0).choice([-0.25, 0.25], size=(200, 2))
    y = X[:, 0] > 0
    model = DecisionTreeClassifier().fit(X, y)
    assert tinyml.compile(model, X, bits=bits).score(X, y) == 1.0


def test_trees_far_from_zero_get_a_wider_input():
    X = 1e5 + RNG_ROWS
    y = X[:, 0] > X[:, 1]
    model = DecisionTreeClassifier(random_state=0).fit(X, y)
    program = tinyml.compile(model, X)
    assert program.input.type.ctype == "int32_t"
    assert (program.predict(X) == model.predict(X)).mean() > 0.98


def test_poor_agreement_is_said():
    X = 1e5 + RNG_ROWS
    model = DecisionTreeClassifier(random_state=0).fit(X, X[:, 0] > X[:, 1])
    with pytest.warns(UserWarning, match=r"agrees with the float model on \d+ of"):
        tinyml.compile(model, X, bits=8)


def test_columns_in_another_order_are_refused():
    pd = pytest.importorskip("pandas")
    X = pd.DataFrame(RNG_ROWS, columns=list("abcd"))
    program = tinyml.compile(LinearRegression().fit(X, RNG_ROWS[:, 0]), X)
    with pytest.raises(ValueError, match="columns must be"):
        program.predict(X[list("dcba")])
    with pytest.raises(ValueError, match="columns must be"):
        tinyml.compile(LinearRegression().fit(X, RNG_ROWS[:, 0]), X[list("dcba")])


def test_weights_on_a_grid_beside_columns_that_say_nothing():
    """One column has no weight, another is zero in all rows that ranges come from."""
    X = np.random.default_rng(0).uniform(size=(500, 6))
    X[:, 5] = 0
    X[4, 5] = 1e-3  # a row that is held out
    grid = np.array([6, 7, 5, 6, 0, -1])
    weights = np.array([[90, -70, 40, 100, 0, 1]]) / 2.0**grid
    model = Formula(lambda x: Affine(x, weights, 0.5, grid)).fit(X)
    assert tinyml.compile(model, X, bits=8).agreement.relative_error < 0.02
