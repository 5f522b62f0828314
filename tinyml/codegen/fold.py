"""Graph → stages: elementwise steps are folded into the formulas around them.

What stays are stages that each cost arithmetic on the chip. Between two stages lies at most a
`View`: a choice of columns and a clipped affine map, still symbolic, which the next stage absorbs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyml.codegen.graph import (
    STEPS,
    Above,
    AbsoluteDistance,
    Affine,
    BelowLargest,
    Chosen,
    Decay,
    Filled,
    Floats,
    Forest,
    Function,
    Graph,
    Joined,
    Nearest,
    Node,
    Normalized,
    PairVotes,
    ScaledDistance,
    SquaredDistance,
    Step,
    Take,
    Winner,
)
from tinyml.codegen.sequences import Frame, Held, Scan

_CLIPS = ("min", "max")
_FEW = 0.01  # share of many points that may lie off their middle
_MUCH = 0.7  # of the largest number, which is half a bit
_NOTHING = {"add": 0.0, "sub": 0.0, "mul": 1.0, "div": 1.0, "min": np.inf, "max": -np.inf}
_SETTLED = (BelowLargest, Decay, Function, Nearest, Normalized, PairVotes, Winner)


@dataclass(frozen=True, eq=False)
class View:
    """Columns of a source and the elementwise steps on them, in the order they are evaluated."""

    columns: NDArray[np.intp]
    steps: tuple[tuple[str, Floats], ...] = ()

    def take(self, columns: NDArray[np.intp]) -> View:
        """Choose among the columns of this view."""
        return View(self.columns[columns], tuple((op, c[columns]) for op, c in self.steps))

    def evaluate(self, source: Floats) -> Floats:
        """Compute the view of a batch (n_samples, source size) as scikit-learn would."""
        value = source[:, self.columns]
        for operation, constant in self.steps:
            value = STEPS[operation](value, constant).astype(value.dtype, copy=False)
        return value

    def at(self, value: Floats, column: NDArray[np.intp]) -> Floats:
        """Evaluate single numbers: `value[i]` as an entry of column `column[i]` of this view."""
        for operation, constant in self.steps:
            value = STEPS[operation](value, constant[column]).astype(value.dtype, copy=False)
        return value

    def as_clipped_affine(self) -> tuple[Floats, Floats, Floats, Floats]:
        """Return ``a, b, lo, hi`` with view(x) = a · clip(x, lo, hi) + b."""
        n = len(self.columns)
        a, b = np.ones(n), np.zeros(n)
        lo, hi = np.full(n, -np.inf), np.full(n, np.inf)
        for operation, c in self.steps:
            if operation in _CLIPS:
                with np.errstate(divide="ignore", invalid="ignore"):
                    bound = (c - b) / a
                still = a == 0  # nothing of x is left: the clip acts on the constant
                b = np.where(still, STEPS[operation](b, c), b)
                is_upper = (operation == "min") == (a > 0)
                lo, hi = (
                    np.where(
                        still, e, np.where(is_upper, np.minimum(e, bound), np.maximum(e, bound))
                    )
                    for e in (lo, hi)
                )
            elif operation in ("mul", "div"):
                factor = c if operation == "mul" else 1.0 / c
                a, b = a * factor, b * factor
            else:
                b = b + (c if operation == "add" else -c)
        return a, b, lo, hi

    @property
    def shifts(self) -> bool:
        """Whether all it does is to add and to multiply by powers of two."""
        a, _, lo, hi = self.as_clipped_affine()
        return bool(np.all(np.frexp(a)[0] == 0.5) and np.all(np.isinf(lo) & np.isinf(hi)))

    def limits(self) -> tuple[float, float] | None:
        """Return the ends within which every element lies; None where they differ.

        They are equal but for rounding, because each is computed from its own factors.
        """
        a, b, lo, hi = self.as_clipped_affine()
        if not np.all(a):
            return None
        ends = np.sort([a * lo + b, a * hi + b], axis=0)
        finite = np.abs(ends[np.isfinite(ends)]).max(initial=0)
        tolerance = 1e-9 * float(np.abs(b).max(initial=0) + finite)
        alike = np.allclose(ends, ends[:, :1], rtol=0, atol=tolerance)
        return (float(ends[0, 0]), float(ends[1, 0])) if alike else None


@dataclass(frozen=True, eq=False)
class Stage:
    """One node that costs arithmetic, and how it sees the stages that it reads.

    `sources` are positions in the list of stages, -1 is the input; to each belongs a view. A stage
    inside a `Scan` comes before it, and after the stages of `State`, `Held` and `Frame` that it
    begins from.
    """

    node: Node
    sources: tuple[int, ...]
    views: tuple[View, ...]

    def evaluate(self, *sources: Floats) -> Floats:
        """Compute the stage for a batch of its sources."""
        return self.node.evaluate(
            *(view.evaluate(source) for view, source in zip(self.views, sources, strict=True))
        )


_Seen = tuple[int, View]


def fold(graph: Graph) -> list[Stage]:
    """Return the stages of a graph, each after those it reads.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.codegen.fold import fold
    >>> from tinyml.codegen.graph import Graph
    >>> g = Graph(3)
    >>> g.scores = ((g.input - np.ones(3)) / 2.0) @ np.eye(3)[:, :2]
    >>> [type(stage.node).__name__ for stage in fold(g)]
    ['Affine']
    """
    return _Folding(graph).stages


class _Folding:
    """Goes through the nodes of a graph and remembers as what view of which stage each is seen."""

    def __init__(self, graph: Graph) -> None:
        self.stages: list[Stage] = []
        self.readers = _readers(graph)
        self.frozen: set[int] = set()  # stages that more than one node sees
        self.seen: dict[Node, _Seen] = {}
        self._see(graph.input, (-1, _whole(graph.input)))
        for node in graph.nodes()[1:]:
            self._fold(node)
        self.seen[graph.scores] = self._settled(graph.scores)

    def _fold(self, node: Node) -> None:
        if isinstance(node, Take):
            seen = self._take(node)
        elif isinstance(node, Step):
            seen = self._step(node)
        elif isinstance(node, Affine):
            seen = self._affine(node)
        elif isinstance(node, SquaredDistance):
            seen = self._distance(node)
        elif isinstance(node, AbsoluteDistance):
            seen = self._push(node, self._shifted(node.x))
        elif isinstance(node, Scan):
            seen = self._scan(node)
        elif isinstance(node, ScaledDistance):
            seen = self._scaled_distance(node)
        elif isinstance(node, Joined):
            seen = self._joined(node)
        elif isinstance(node, Filled):
            seen = self._filled(node)
        else:
            seen = self._push(node, *(read(self, x) for read, x in _reads(node)))
        self._see(node, seen)

    def _see(self, node: Node, seen: _Seen) -> None:
        self.seen[node] = seen
        if self.readers[node] > 1:
            self.frozen.add(seen[0])

    def _push(self, node: Node, *reads: _Seen) -> _Seen:
        sources, views = zip(*reads, strict=True) if reads else ((), ())
        self.stages.append(Stage(node, tuple(sources), tuple(views)))
        return len(self.stages) - 1, _whole(node)

    # How a stage may see what it reads -----------------------------------------------------------

    def _as_it_is(self, node: Node) -> _Seen:
        return self.seen[node]

    def _settled(self, node: Node) -> _Seen:
        """A stage, unchanged; where anything is pending, a product by 1 does it."""
        position, view = self.seen[node]
        if view.steps or not self._has_one_grid(position):
            return self._put(node)
        is_whole = np.array_equal(view.columns, _whole(self._node(position)).columns)
        return (position, view) if is_whole else self._put(node)

    def _elementwise(self, node: Node) -> _Seen:
        """Elements of a stage behind elementwise steps that limit all of them alike."""
        position, view = self.seen[node]
        pending = not self._has_one_grid(position) or view.limits() is None
        return self._put(node) if pending else (position, view)

    def _shifted(self, node: Node) -> _Seen:
        """A stage behind additions and shifts."""
        return self.seen[node] if self.seen[node][1].shifts else self._put(node)

    def _put(self, node: Node) -> _Seen:
        """Compute what is pending, once for all who read it."""
        self.seen[node] = self._push(Affine(node, np.eye(node.size)), self.seen[node])
        self.frozen.add(self.seen[node][0])
        return self.seen[node]

    def _has_one_grid(self, position: int) -> bool:
        """Whether all elements of a stage are on one grid, which those of the input are not."""
        return position >= 0 and not isinstance(self._node(position), Joined | Filled)

    def _node(self, position: int) -> Node:
        return self.stages[position].node

    # Nodes that disappear, or change the stage before ---------------------------------------------

    def _changeable(self, seen: _Seen) -> Affine | None:
        """Return the stage if its rows may change: nothing clips it and nobody else reads it."""
        position, view = seen
        if position < 0 or view.steps or position in self.frozen:
            return None
        node = self.stages[position].node
        return node if isinstance(node, Affine) else None

    def _change(self, position: int, node: Node) -> _Seen:
        self.stages[position] = replace(self.stages[position], node=node)
        return position, _whole(node)

    def _take(self, node: Take) -> _Seen:
        position, view = seen = self.seen[node.x]
        last = self._changeable(seen)
        if last is None:
            return position, view.take(node.columns)
        columns = node.columns
        rows = Affine(last.x, last.weights[columns], last.bias[columns], last.grid)
        return self._change(position, rows)

    def _step(self, node: Step) -> _Seen:
        position, view = seen = self.seen[node.x]
        last = self._changeable(seen)
        if last is None or node.operation in _CLIPS:
            return position, View(view.columns, (*view.steps, (node.operation, node.constant)))
        operations: dict[str, Any] = {
            "add": last.__add__,
            "sub": last.__sub__,
            "mul": last.scaled,
            "div": last.__truediv__,
        }
        return self._change(position, operations[node.operation](node.constant))

    def _affine(self, node: Affine) -> _Seen:
        """Multiply two matrices where the product is no larger than the two factors."""
        seen = self.seen[node.x]
        last = self._changeable(seen)
        if last is not None:
            product = node.weights @ last.weights
            if np.count_nonzero(product) <= np.count_nonzero(node.weights) + np.count_nonzero(
                last.weights
            ):
                folded = Affine(last.x, product, node.weights @ last.bias + node.bias)
                return self._change(seen[0], folded)
        return self._push(node, seen)

    def _joined(self, node: Joined) -> _Seen:
        """Join views; of one stage they are one view, of several the steps stay pending."""
        reads = [self.seen[part] for part in node.parts]
        steps = _joined_steps([view for _, view in reads])
        if len({position for position, _ in reads}) == 1:
            columns = np.concatenate([view.columns for _, view in reads])
            return reads[0][0], View(columns, steps)
        position, view = self._push(node, *((at, View(view.columns)) for at, view in reads))
        return position, View(view.columns, steps)

    def _filled(self, node: Filled) -> _Seen:
        """Fill gaps in the features themselves, with what the steps turn into the values."""
        position, view = self.seen[node.x]
        if position >= 0:
            raise TypeError(
                "SimpleImputer can be compiled only where it reads features, or what scalers make "
                "of them."
            )
        a, b, _, _ = view.as_clipped_affine()
        with np.errstate(divide="ignore", invalid="ignore"):
            values = np.where(a == 0, 0.0, (node.values - b) / a)
            missing = node.missing if node.fills_nan else (node.missing - b) / a
        raw = Filled(node.x, values, missing)
        position, _ = self._push(raw, (position, View(view.columns)))
        return position, View(np.arange(node.size), view.steps)

    def _distance(self, node: SquaredDistance) -> _Seen:
        """Move the origin into the middle of the points, if a stage before takes that up."""
        lowest = np.quantile(node.points, _FEW, axis=0, method="lower")
        highest = np.quantile(node.points, 1 - _FEW, axis=0, method="higher")
        middle = (lowest + highest) / 2
        if np.abs(node.points - middle).max() > _MUCH * np.abs(node.points).max():
            middle = np.zeros_like(middle)  # an offset of each column would cost more than it gains
        if node.grid is not None:
            middle = np.ldexp(np.floor(np.ldexp(middle, node.grid)), -node.grid)
        seen = self.seen[node.x]
        if self._changeable(seen) is None and not seen[1].shifts:
            seen = self._push(Affine(node.x, np.eye(node.x.size)), seen)
        last = self._changeable(seen)
        if last is None:
            return self._push(node, seen)
        seen = self._change(seen[0], last - middle)
        return self._push(SquaredDistance(node.x, node.points - middle, node.grid), seen)

    def _scaled_distance(self, node: ScaledDistance) -> _Seen:
        """Move elementwise steps into points and scales."""
        if any(operation in _CLIPS for operation, _ in self.seen[node.x][1].steps):
            self._put(node.x)
        position, view = self.seen[node.x]
        a, b, _, _ = view.as_clipped_affine()
        with np.errstate(divide="ignore", invalid="ignore"):
            points = np.where(a == 0, 0.0, (node.points - b) / a)
        raw = ScaledDistance(node.x, points, node.scales * a)
        return self._push(raw, (position, View(view.columns)))

    def _scan(self, node: Scan) -> _Seen:
        """Put the stages of the body before the stage that repeats them."""
        for inner in (*node.states, *node.body):
            if isinstance(inner, Held):
                self._see(inner, self._push(inner, self._settled(inner.source)))
            elif isinstance(inner, Frame):
                self._see(inner, self._push(inner, self.seen[inner.source]))
            elif inner not in self.seen:
                self._fold(inner)
        parts = (*node.states, *node.results, *node.held)
        parts += () if node.frame is None else (node.frame,)
        return self._push(node, *(self._settled(part) for part in parts))


_Read = Callable[[_Folding, Node], _Seen]


def _reads(node: Node) -> list[tuple[_Read, Node]]:
    """Return how a node reads its inputs."""
    if isinstance(node, _SETTLED):
        return [(_Folding._settled, x) for x in node.inputs]
    if isinstance(node, Forest | Above):
        return [(_Folding._as_it_is, node.x)]
    if isinstance(node, Chosen):
        return [(_Folding._as_it_is, node.x), (_Folding._elementwise, node.index)]
    return [(_Folding._elementwise, x) for x in node.inputs]


def _joined_steps(views: list[View]) -> tuple[tuple[str, Floats], ...]:
    """Return the steps of all views, each of which leaves the elements of the others alone."""
    sizes = [len(view.columns) for view in views]
    ends = np.cumsum(sizes)
    steps = []
    for view, end in zip(views, ends, strict=True):
        for operation, constant in view.steps:
            everywhere = np.full(ends[-1], _NOTHING[operation])
            everywhere[end - len(constant) : end] = constant
            steps.append((operation, everywhere))
    return tuple(steps)


def _whole(node: Node) -> View:
    return View(np.arange(node.size))


def _readers(graph: Graph) -> Counter[Node]:
    """Count how many nodes read each node."""
    readers: Counter[Node] = Counter()
    for node in graph.nodes():
        inner = (*node.body, *node.states) if isinstance(node, Scan) else ()
        read_at_end = node.results if isinstance(node, Scan) else ()
        for reader in (node, *inner):
            readers.update(reader.inputs)
        readers.update(read_at_end)
    return readers
