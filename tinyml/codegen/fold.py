"""Graph → stages: elementwise steps are folded into the formulas around them.

What stays is a chain of stages that each cost arithmetic on the chip. Between two stages lies at
most a `View`: a choice of columns and a clipped affine map, still symbolic, which the next stage
absorbs.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyml.codegen.graph import (
    STEPS,
    Affine,
    Decay,
    Floats,
    Forest,
    Graph,
    Node,
    SquaredDistance,
    Step,
    Take,
)

_CLIPS = ("min", "max")


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


@dataclass(frozen=True, eq=False)
class Stage:
    """One node that costs arithmetic, and how it sees the stage before it (or the input)."""

    node: Node
    view: View

    def evaluate(self, source: Floats) -> Floats:
        """Compute the stage for a batch of its source."""
        return self.node.evaluate(self.view.evaluate(source))


@dataclass
class _Chain:
    stages: list[Stage] = field(default_factory=list)
    view: View = field(default_factory=lambda: View(np.arange(0)))

    @property
    def is_settled(self) -> bool:
        """Whether the view is the last stage, unchanged."""
        if not self.stages or self.view.steps:
            return False
        return np.array_equal(self.view.columns, np.arange(self.stages[-1].node.size))

    def push(self, node: Node) -> None:
        self.stages.append(Stage(node, self.view))
        self.view = View(np.arange(node.size))


def fold(graph: Graph) -> list[Stage]:
    """Return the stages of a graph, the first one reading the input.

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
    chain = _Chain(view=View(np.arange(graph.input.size)))
    for node in graph.nodes()[1:]:
        if isinstance(node, Take):
            _take(chain, node)
        elif isinstance(node, Step):
            _step(chain, node)
        elif isinstance(node, Affine):
            _affine(chain, node)
        else:
            _other(chain, node)
    _materialise(chain, graph.scores, unless=chain.is_settled)
    return chain.stages


def _identity(node: Node) -> Affine:
    return Affine(node, np.eye(node.size))


def _last_affine(chain: _Chain) -> Affine | None:
    """Return the stage whose rows may still change: the last one, if nothing clips behind it."""
    if chain.stages and not chain.view.steps and isinstance(chain.stages[-1].node, Affine):
        return chain.stages[-1].node
    return None


def _replace_last(chain: _Chain, node: Affine) -> None:
    chain.stages[-1] = replace(chain.stages[-1], node=node)
    chain.view = View(np.arange(node.size))


def _take(chain: _Chain, node: Take) -> None:
    last = _last_affine(chain)
    if last is None:
        chain.view = chain.view.take(node.columns)
    else:
        columns = node.columns
        _replace_last(chain, Affine(last.x, last.weights[columns], last.bias[columns]))


def _step(chain: _Chain, node: Step) -> None:
    last = _last_affine(chain)
    if last is None or node.operation in _CLIPS:
        chain.view = View(chain.view.columns, (*chain.view.steps, (node.operation, node.constant)))
        return
    operations: dict[str, Any] = {
        "add": last.__add__,
        "sub": last.__sub__,
        "mul": last.__mul__,
        "div": last.__truediv__,
    }
    _replace_last(chain, operations[node.operation](node.constant))


def _affine(chain: _Chain, node: Affine) -> None:
    """Multiply two matrices where the product is no larger than the two factors."""
    last = _last_affine(chain)
    if last is not None:
        product = node.weights @ last.weights
        if np.count_nonzero(product) <= np.count_nonzero(node.weights) + np.count_nonzero(
            last.weights
        ):
            _replace_last(chain, Affine(last.x, product, node.weights @ last.bias + node.bias))
            return
    chain.push(node)


def _other(chain: _Chain, node: Node) -> None:
    if isinstance(node, SquaredDistance):
        _materialise(chain, node.x, unless=_last_affine(chain) is not None)
        _centre(chain, node)
    elif isinstance(node, Decay):
        _materialise(chain, node.x, unless=chain.is_settled)
        chain.push(node)
    elif isinstance(node, Forest):
        chain.push(node)
    else:
        raise AssertionError(f"{type(node).__name__} has no stage")


def _materialise(chain: _Chain, source: Node, *, unless: bool) -> None:
    """Put a product by 1 before a stage that reads its source as it is, if anything is pending."""
    if not unless:
        chain.push(_identity(source))


def _centre(chain: _Chain, node: SquaredDistance) -> None:
    """Move the origin into the middle of the points: distances do not change, numbers get small."""
    middle = (node.points.max(axis=0) + node.points.min(axis=0)) / 2
    last = _last_affine(chain)
    assert last is not None
    _replace_last(chain, last - middle)
    chain.push(SquaredDistance(node.x, node.points - middle))
