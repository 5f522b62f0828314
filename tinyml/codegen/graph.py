"""The float graph: what a fitted model computes, in a few formulas, before any integer is chosen.

A lowering takes the node of its input and returns the node of its output, written with ordinary
operators: ``(x - mean) / scale``, ``x @ W + b``, ``x[columns]``. Every node can be evaluated in
NumPy; that is the float twin against which the integer program is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Node:
    """A vector per sample, computed from the vectors of its `inputs`."""

    size: int = field(init=False)

    @property
    def inputs(self) -> tuple[Node, ...]:
        """The nodes this one reads."""
        return ()

    def evaluate(self, *values: Floats) -> Floats:
        """Compute the node for a batch, ``(n_samples, size)``, from the values of its inputs."""
        raise NotImplementedError

    def seen(self, *values: Floats) -> dict[Node, Floats]:
        """Compute the node and whatever nodes it consists of."""
        return {self: self.evaluate(*values)}

    def __add__(self, other: Any) -> Node:
        return Sum(self, other) if isinstance(other, Node) else Step(self, "add", other)

    def __sub__(self, constant: Any) -> Node:
        return Step(self, "sub", constant)

    def __mul__(self, other: Any) -> Node:
        return Product(self, other) if isinstance(other, Node) else Step(self, "mul", other)

    def __truediv__(self, constant: Any) -> Node:
        return Step(self, "div", constant)

    def __getitem__(self, columns: Any) -> Node:
        return Take(self, np.arange(self.size)[columns])

    def __matmul__(self, matrix: Any) -> Affine:
        return Affine(self, np.asarray(matrix, dtype=np.float64).T)

    def clip(self, lo: Any, hi: Any) -> Node:
        """Limit every element to [`lo`, `hi`]."""
        return Step(Step(self, "min", hi), "max", lo)


@dataclass(frozen=True, eq=False)
class Input(Node):
    """The features of a sample."""

    n_features: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", self.n_features)

    def evaluate(self, *values: Floats) -> Floats:
        return values[0]


STEPS: dict[str, Callable[[Any, Any], Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "min": np.minimum,
    "max": np.maximum,
}


@dataclass(frozen=True, eq=False)
class Step(Node):
    """One elementwise operation with a constant.

    The operation is kept as scikit-learn performs it (a division stays a division), because a
    threshold behind a scaler is placed by evaluating these very steps.
    """

    x: Node
    operation: str
    constant: Any

    def __post_init__(self) -> None:
        constant = np.broadcast_to(np.asarray(self.constant, dtype=np.float64), (self.x.size,))
        object.__setattr__(self, "constant", constant)
        object.__setattr__(self, "size", self.x.size)

    @property
    def inputs(self) -> tuple[Node, ...]:
        return (self.x,)

    def evaluate(self, *values: Floats) -> Floats:
        (x,) = values
        result: Floats = STEPS[self.operation](x, self.constant).astype(x.dtype, copy=False)
        return result


@dataclass(frozen=True, eq=False)
class Take(Node):
    """y = x[columns]."""

    x: Node
    columns: NDArray[np.intp]

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", len(self.columns))

    @property
    def inputs(self) -> tuple[Node, ...]:
        return (self.x,)

    def evaluate(self, *values: Floats) -> Floats:
        return values[0][:, self.columns]


@dataclass(frozen=True, eq=False)
class Affine(Node):
    """y = W x + b, with `weights` of shape (n_outputs, n_inputs).

    Weights that were trained on a grid say so: ``weights * 2.0**grid`` are whole numbers of 8 bits,
    with one `grid` or one for each column. They are kept as they are.
    """

    x: Node
    weights: Floats
    bias: Any = 0.0
    grid: Any = None

    def __post_init__(self) -> None:
        n_outputs = len(self.weights)
        bias = np.broadcast_to(np.asarray(self.bias, dtype=np.float64), (n_outputs,))
        object.__setattr__(self, "bias", bias)
        object.__setattr__(self, "size", n_outputs)

    @property
    def inputs(self) -> tuple[Node, ...]:
        return (self.x,)

    def __add__(self, other: Any) -> Node:
        if isinstance(other, Node):
            return Sum(self, other)
        return Affine(self.x, self.weights, self.bias + other, self.grid)

    def __sub__(self, constant: Any) -> Affine:
        return Affine(self.x, self.weights, self.bias - constant, self.grid)

    def __mul__(self, constant: Any) -> Node:
        return Product(self, constant) if isinstance(constant, Node) else self.scaled(constant)

    def scaled(self, constant: Any) -> Affine:
        """Multiply every output by its constant."""
        factor = np.broadcast_to(np.asarray(constant, dtype=np.float64), (self.size,))
        return Affine(self.x, self.weights * factor[:, None], self.bias * factor)

    def __truediv__(self, constant: Any) -> Affine:
        return self.scaled(1.0 / np.asarray(constant, dtype=np.float64))

    def evaluate(self, *values: Floats) -> Floats:
        result: Floats = values[0] @ self.weights.T + self.bias
        return result


@dataclass(frozen=True, eq=False)
class AbsoluteDistance(Node):
    """d_j = Σ_k |x_k - p_jk|, with `points` of shape (n_points, n_inputs).

    Where `grid` is given, ``points * 2.0**grid`` are whole numbers of 8 bits.
    """

    x: Node
    points: Floats
    grid: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", len(self.points))

    @property
    def inputs(self) -> tuple[Node, ...]:
        return (self.x,)

    def evaluate(self, *values: Floats) -> Floats:
        (x,) = values
        distances = [np.abs(x - point).sum(axis=1) for point in self.points]
        return np.stack(distances, axis=1)


@dataclass(frozen=True, eq=False)
class SquaredDistance(Node):
    """d_j = ‖x - p_j‖², with `points` of shape (n_points, n_inputs).

    Where `grid` is given, ``points * 2.0**grid`` are whole numbers of 8 bits.
    """

    x: Node
    points: Floats
    grid: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", len(self.points))

    @property
    def inputs(self) -> tuple[Node, ...]:
        return (self.x,)

    def evaluate(self, *values: Floats) -> Floats:
        (x,) = values
        distance: Floats = (
            (x**2).sum(axis=1, keepdims=True)
            - 2.0 * x @ self.points.T
            + (self.points**2).sum(axis=1)
        )
        return np.maximum(distance, 0.0)


@dataclass(frozen=True, eq=False)
class ScaledDistance(Node):
    """d_j = Σ_k (s_jk (x_k - p_jk))², with points and scales of shape (n_points, n_inputs)."""

    x: Node
    points: Floats
    scales: Floats

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", len(self.points))

    @property
    def inputs(self) -> tuple[Node, ...]:
        return (self.x,)

    def evaluate(self, *values: Floats) -> Floats:
        (x,) = values
        pairs = zip(self.points, self.scales, strict=True)
        return np.column_stack([(((x - p) * s) ** 2).sum(axis=1) for p, s in pairs])


@dataclass(frozen=True, eq=False)
class Decay(Node):
    """k = exp(-rate · d) for d ≥ 0."""

    x: Node
    rate: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", self.x.size)

    @property
    def inputs(self) -> tuple[Node, ...]:
        return (self.x,)

    def evaluate(self, *values: Floats) -> Floats:
        return np.exp(-self.rate * values[0])


@dataclass(frozen=True, eq=False)
class Tree:
    """A binary decision tree in arrays; node 0 is the root.

    A sample goes to `left` where ``x[feature] <= threshold``, or, at the nodes that `sets` names,
    where ``x[feature]`` is one of the whole numbers given there. What is missing (NaN) goes to the
    left where `missing_left` says so. A leaf has ``left == -1``, and its `value` row is what the
    tree adds to the scores.
    """

    left: NDArray[np.intp]
    right: NDArray[np.intp]
    feature: NDArray[np.intp]
    threshold: Floats
    value: Floats
    missing_left: NDArray[np.bool_] | None = None
    sets: Mapping[int, NDArray[np.intp]] = field(default_factory=dict)

    @property
    def is_leaf(self) -> NDArray[np.bool_]:
        """Mask of the leaves."""
        return self.left < 0

    @property
    def sends_missing_left(self) -> NDArray[np.bool_]:
        """Mask of the nodes at which NaN goes to the left."""
        nowhere = np.zeros(len(self.left), dtype=bool)
        return nowhere if self.missing_left is None else self.missing_left

    def leaves(self, x: Floats) -> NDArray[np.intp]:
        """Return the leaf that each row of `x` reaches."""
        node = np.zeros(len(x), dtype=np.intp)
        rows = np.flatnonzero(~self.is_leaf[node])
        while rows.size:
            at = node[rows]
            goes_left = self._goes_left(at, x[rows, self.feature[at]])
            node[rows] = np.where(goes_left, self.left[at], self.right[at])
            rows = rows[~self.is_leaf[node[rows]]]
        return node

    def _goes_left(self, node: NDArray[np.intp], x: Floats) -> NDArray[np.bool_]:
        goes_left = x <= self.threshold[node]
        for here, members in self.sets.items():
            rows = node == here
            goes_left[rows] = np.isin(x[rows], members)
        return np.where(np.isnan(x), self.sends_missing_left[node], goes_left)


@dataclass(frozen=True, eq=False)
class Forest(Node):
    """s = Σ_t value_t[leaf_t(x)] + offset: trees whose leaves add to a score vector.

    Features are compared with thresholds in `precision`; scikit-learn's trees do it in single.
    """

    x: Node
    trees: tuple[Tree, ...]
    offset: Any = 0.0
    precision: Any = np.float32

    def __post_init__(self) -> None:
        n_outputs = self.trees[0].value.shape[1]
        offset = np.broadcast_to(np.asarray(self.offset, dtype=np.float64), (n_outputs,))
        object.__setattr__(self, "offset", offset)
        object.__setattr__(self, "size", n_outputs)

    @property
    def inputs(self) -> tuple[Node, ...]:
        return (self.x,)

    def evaluate(self, *values: Floats) -> Floats:
        x = values[0].astype(self.precision)
        scores = np.tile(self.offset, (len(x), 1))
        for tree in self.trees:
            scores += tree.value[tree.leaves(x)]
        return scores


@dataclass(frozen=True, eq=False)
class _Pair(Node):
    """An elementwise function of two nodes of one size."""

    a: Node
    b: Node

    def __post_init__(self) -> None:
        assert self.a.size == self.b.size, "elementwise operands must have one size"
        object.__setattr__(self, "size", self.a.size)

    @property
    def inputs(self) -> tuple[Node, ...]:
        return (self.a, self.b)


class Sum(_Pair):
    """y = a + b."""

    def evaluate(self, *values: Floats) -> Floats:
        return np.asarray(values[0] + values[1])


class Product(_Pair):
    """y = a ∘ b."""

    def evaluate(self, *values: Floats) -> Floats:
        return np.asarray(values[0] * values[1])


@dataclass(frozen=True, eq=False)
class _OfOne(Node):
    """A function of one node that has its size, unless a subclass says otherwise."""

    x: Node

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", self.x.size)

    @property
    def inputs(self) -> tuple[Node, ...]:
        return (self.x,)


@dataclass(frozen=True, eq=False)
class Function(_OfOne):
    """y = f(x): the same function of one number for every element.

    Outside of what calibration rows reach, y is what it is at the ends.
    """

    function: Callable[[Floats], Floats]

    def evaluate(self, *values: Floats) -> Floats:
        return np.asarray(self.function(values[0]))


@dataclass(frozen=True, eq=False)
class Above(_OfOne):
    """y = 1 where x > threshold, else 0."""

    thresholds: Floats

    def evaluate(self, *values: Floats) -> Floats:
        return (values[0] > self.thresholds).astype(np.float64)


@dataclass(frozen=True, eq=False)
class Filled(_OfOne):
    """y = x, and the value given where x is `missing`: NaN, or a number."""

    values: Floats
    missing: Any = np.nan

    def evaluate(self, *values: Floats) -> Floats:
        (x,) = values
        absent = np.isnan(x) if self.fills_nan else x == self.missing
        return np.where(absent, self.values, x)

    @property
    def fills_nan(self) -> bool:
        """Whether NaN is what is missing."""
        return bool(np.all(np.isnan(self.missing)))


@dataclass(frozen=True, eq=False)
class Joined(Node):
    """The elements of several nodes, one after another."""

    parts: tuple[Node, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", sum(part.size for part in self.parts))

    @property
    def inputs(self) -> tuple[Node, ...]:
        return self.parts

    def evaluate(self, *values: Floats) -> Floats:
        return np.hstack(values)


def joined(parts: Sequence[Node]) -> Node:
    """Put nodes one after another; products with one input become one product."""
    if len(parts) == 1:
        return parts[0]
    products = [part for part in parts if isinstance(part, Affine) and part.grid is None]
    if len(products) == len(parts) and len({product.x for product in products}) == 1:
        weights = np.vstack([product.weights for product in products])
        return Affine(products[0].x, weights, np.concatenate([p.bias for p in products]))
    return Joined(tuple(parts))


class BelowLargest(_OfOne):
    """y_i = max_j x_j - x_i."""

    def evaluate(self, *values: Floats) -> Floats:
        (x,) = values
        return np.asarray(x.max(axis=1, keepdims=True) - x)


class Normalized(_OfOne):
    """y_i = x_i / sum_j x_j for x ≥ 0; where nothing is above 0 all elements are equal."""

    def evaluate(self, *values: Floats) -> Floats:
        (x,) = values
        total = x.sum(axis=1, keepdims=True)
        equal = np.full(x.shape, 1.0 / self.size)
        return np.asarray(np.divide(x, total, out=equal, where=total > 0))


@dataclass(frozen=True, eq=False)
class Winner(_OfOne):
    """y = 1 for the largest element, of equal ones the first, and 0 for the others.

    One score decides between two by its sign.
    """

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", max(2, self.x.size))

    def evaluate(self, *values: Floats) -> Floats:
        (x,) = values
        k = (x[:, 0] > 0).astype(int) if x.shape[1] == 1 else x.argmax(axis=1)
        return np.asarray(np.eye(self.size)[k])


@dataclass(frozen=True, eq=False)
class PairVotes(_OfOne):
    """Votes of the pairs (0, 1), (0, 2), ..., (1, 2), ...: for the first where x > 0."""

    n_classes: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", self.n_classes)

    def evaluate(self, *values: Floats) -> Floats:
        return pair_votes(values[0], self.n_classes).astype(np.float64)


def pair_votes(x: NDArray[Any], n_classes: int) -> NDArray[np.int64]:
    """Count for each class the pairs that decide for it."""
    votes = np.zeros((len(x), n_classes), dtype=np.int64)
    for k, (i, j) in enumerate(combinations(range(n_classes), 2)):
        votes[:, i] += x[:, k] > 0
        votes[:, j] += x[:, k] <= 0
    return votes


@dataclass(frozen=True, eq=False)
class Nearest(_OfOne):
    """y_c = sum of the values of those of the `k` smallest elements whose output is c.

    Of equal ones the first are taken.

    Parameters
    ----------
    x : Node
    k : int
    outputs : ndarray of int, shape (x.size,)
        The output that each element adds to, numbered from 0.
    values : ndarray of shape (x.size,)
    """

    k: int
    outputs: NDArray[np.intp]
    values: Floats

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", int(self.outputs.max()) + 1)

    def evaluate(self, *values: Floats) -> Floats:
        return sums_of_nearest(values[0], self.k, self.outputs, self.values)


def sums_of_nearest(
    x: NDArray[Any], k: int, outputs: NDArray[np.intp], values: NDArray[Any]
) -> NDArray[Any]:
    """Sum the values of the `k` smallest elements of each row by their outputs."""
    nearest = np.argsort(x, axis=1, kind="stable")[:, :k]
    sums = np.zeros((len(x), int(outputs.max()) + 1), dtype=values.dtype)
    np.add.at(sums, (np.arange(len(x))[:, None], outputs[nearest]), values[nearest])
    return sums


@dataclass(frozen=True, eq=False)
class Chosen(Node):
    """y = W_k x + b_k, where k, a whole number, is the one element of `index`.

    `weights` has shape (n_choices, n_outputs, n_inputs), `bias` (n_choices, n_outputs); `grid` is
    as in `Affine`, one number.
    """

    x: Node
    index: Node
    weights: Floats
    bias: Any = 0.0
    grid: int | None = None

    def __post_init__(self) -> None:
        bias = np.broadcast_to(np.asarray(self.bias, dtype=np.float64), self.weights.shape[:2])
        object.__setattr__(self, "bias", bias)
        object.__setattr__(self, "size", self.weights.shape[1])

    @property
    def inputs(self) -> tuple[Node, ...]:
        return (self.x, self.index)

    def evaluate(self, *values: Floats) -> Floats:
        x, k = values[0], values[1][:, 0].astype(np.intp)
        return np.asarray(np.einsum("nij,nj->ni", self.weights[k], x) + self.bias[k])


@dataclass(frozen=True, eq=False)
class Child(Node):
    """The child of node k in a complete binary tree of `n_nodes`: 2k + 1 where s > 0, else 2k + 2.

    What would be beyond the last node is the last node.
    """

    k: Node
    s: Node
    n_nodes: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", 1)

    @property
    def inputs(self) -> tuple[Node, ...]:
        return (self.k, self.s)

    def evaluate(self, *values: Floats) -> Floats:
        k, s = values
        return np.asarray(np.minimum(2 * k + 1 + (s <= 0), self.n_nodes - 1))


def visit(node: Node, order: list[Node]) -> None:
    """Append a node to `order`, behind all that it reads."""
    for source in node.inputs:
        visit(source, order)
    if node not in order:
        order.append(node)


class Graph:
    """What one fitted model computes: from its features to a vector of scores.

    Parameters
    ----------
    n_features : int

    Attributes
    ----------
    input : Input
        The features.
    scores : Node
        The end of the graph, set once the model is lowered.
    link : {"softmax", "expit", "normalize"} or None
        How probabilities follow from the scores; a lowering sets it where they do.
    """

    def __init__(self, n_features: int) -> None:
        self.input = Input(n_features)
        self.scores: Node = self.input
        self.link: str | None = None

    def evaluate(self, X: Any) -> Floats:
        """Compute the float scores of `X`, shape (n_samples, n_outputs)."""
        values: dict[Node, Floats] = {self.input: as_float(X)}
        for node in self.nodes()[1:]:
            values[node] = node.evaluate(*(values[i] for i in node.inputs))
        return values[self.scores]

    def values(self, X: Any) -> dict[Node, Floats]:
        """Compute every node for `X`, shape (n_samples, n_features).

        Nodes inside a `Scan` have all samples of the first step, then all of the second, and so on,
        without the steps of sequences that have ended.
        """
        values: dict[Node, Floats] = {self.input: as_float(X)}
        for node in self.nodes()[1:]:
            values |= node.seen(*(values[i] for i in node.inputs))
        return values

    def nodes(self) -> list[Node]:
        """Return the nodes in order of evaluation, the input first."""
        order: list[Node] = [self.input]
        visit(self.scores, order)
        return order


def as_float(X: Any) -> Floats:
    """Return `X` in the precision in which scikit-learn would compute on it."""
    X = np.asarray(X)
    return X if X.dtype in (np.float32, np.float64) else np.asarray(X, dtype=np.float64)


def check_names(X: Any, names: Any) -> None:
    """Raise ValueError if `X` has named columns in another order than `names`, where both exist."""
    columns = getattr(X, "columns", None)
    if columns is not None and names is not None and list(columns) != list(names):
        raise ValueError(
            f"The columns must be those the model was fitted on, {list(names)}. "
            f"Got {list(columns)} instead."
        )


def as_numeric(X: NDArray[Any], expected: str) -> NDArray[Any]:
    """Return `X` as numbers; where it holds anything else the error begins with `expected`."""
    if X.dtype.kind in "biuf":
        return X
    try:
        return np.asarray(X, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{expected} Got dtype {X.dtype} instead.") from error


def relative_error(got: Floats, wanted: Floats, *, each: bool) -> float:
    """Return the root mean square error over the spread of what is wanted.

    With `each` every output is held against its own spread and the worst counts; else outputs are
    compared with one another, and their mean spread is the measure.
    """
    spread, size = wanted.std(axis=0), np.abs(wanted).max(axis=0)
    spread = np.where(spread > 1e-9 * size, spread, np.where(size > 0, size, 1.0))
    error = np.sqrt(((got - wanted) ** 2).mean(axis=0))
    if each:
        return float((error / spread).max())
    return float(np.sqrt((error**2).mean()) / spread.mean())
