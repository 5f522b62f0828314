"""Nodes of the float graph that repeat: what a loop carries, what it reads, and the loop."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tinyml.codegen.graph import Floats, Input, Node, Step, visit


@dataclass(frozen=True, eq=False)
class State(Node):
    """What a `Scan` carries from step to step: zeros at first.

    Where `largest` is given they are whole numbers from 0 to it.
    """

    n: int
    largest: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", self.n)


@dataclass(frozen=True, eq=False)
class Held(Node):
    """A node from outside, the same in every step of a `Scan`."""

    source: Node

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", self.source.size)


@dataclass(frozen=True, eq=False)
class Frame(Node):
    """What one step of a `Scan` reads of a sequence: entries t·size to (t + 1)·size of `source`.

    A sequence ends before the first step all of whose entries are missing, that is NaN. `may_end`
    says that the model has seen this.
    """

    source: Node
    width: int
    may_end: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", self.width)

    @property
    def n_steps(self) -> int:
        """Number of steps of a whole sequence."""
        return self.source.size // self.width


def frame_of(x: Node, width: int, may_end: bool = False) -> Node:
    """Return one step of the sequence `x`: steps before it are done to each frame by itself.

    Raises
    ------
    TypeError
        Where the steps of the sequence are not treated alike.
    """
    if isinstance(x, Step):
        constant = x.constant.reshape(-1, width)
        if np.all(constant == constant[0]):
            return Step(frame_of(x.x, width, may_end), x.operation, constant[0])
    if not isinstance(x, Input):
        raise TypeError(
            "Before a recurrent model only what treats all time steps alike can be compiled: use "
            "SequenceScaler instead of a transformer that works column by column."
        )
    return Frame(x, width, may_end)


def steps_before_end(X: Floats, width: int) -> NDArray[np.intp]:
    """Count the steps of each sequence before the first that is missing.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_steps * width)
        Sequences, time-major.

    Raises
    ------
    ValueError
        Where a step before the end is missing in part.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.codegen.sequences import steps_before_end
    >>> steps_before_end(np.array([[1.0, 2, 3, 4], [1, 2, np.nan, np.nan]]), 2)
    array([2, 1])
    """
    missing = np.isnan(X).reshape(len(X), X.shape[1] // width, width)
    ended = np.logical_or.accumulate(missing.all(axis=2), axis=1)
    if np.any(missing.any(axis=2) & ~ended):
        raise ValueError(
            "A missing time step must be NaN in every channel. Got NaN in some channels only."
        )
    return np.asarray((~ended).sum(axis=1), dtype=np.intp)


@dataclass(frozen=True, eq=False)
class Scan(Node):
    """The last of `states` after `n_steps` times replacing each by its node of `results`.

    The results are formulas in the states, in `Held` nodes, in one `Frame` and in nothing else.
    The states of a sequence that has ended stay as they are.
    """

    states: tuple[State, ...]
    results: tuple[Node, ...]
    n_steps: int

    def __post_init__(self) -> None:
        order: list[Node] = []
        for result in self.results:
            visit(result, order)
        object.__setattr__(self, "body", tuple(order))
        object.__setattr__(self, "size", self.states[-1].size)

    body: tuple[Node, ...] = field(init=False)

    @property
    def held(self) -> tuple[Held, ...]:
        """What the body reads from outside, the same in every step."""
        return tuple(node for node in self.body if isinstance(node, Held))

    @property
    def frame(self) -> Frame | None:
        """What the body reads of a sequence."""
        return next((node for node in self.body if isinstance(node, Frame)), None)

    @property
    def inputs(self) -> tuple[Node, ...]:
        sequence = () if self.frame is None else (self.frame.source,)
        return (*(held.source for held in self.held), *sequence)

    def rows_alive(self, *values: Floats) -> list[NDArray[np.intp]]:
        """Return for each step which rows have not ended, given the values of `inputs`."""
        if self.frame is None:
            return [np.arange(len(values[0]))] * self.n_steps
        counts = steps_before_end(values[-1], self.frame.width)
        return [np.flatnonzero(counts > t) for t in range(self.n_steps)]

    def evaluate(self, *values: Floats) -> Floats:
        states: list[Floats] = []
        for known in self.trace(*values):
            states = known
        return states[-1]

    def seen(self, *values: Floats) -> dict[Node, Floats]:
        """Compute the node, and those of its body with the rows of all steps below one another."""
        steps: dict[Node, list[Floats]] = {}
        *_, states = self.trace(*values, seen=steps)
        return {node: np.concatenate(parts) for node, parts in steps.items()} | {self: states[-1]}

    def trace(
        self, *values: Floats, seen: dict[Node, list[Floats]] | None = None
    ) -> Iterator[list[Floats]]:
        """Yield the states after each step; append what every node of the body was to `seen`.

        Of a sequence that has ended nothing more is seen.
        """
        n_rows = len(values[0])
        states = [np.zeros((n_rows, state.size)) for state in self.states]
        for t, rows in enumerate(self.rows_alive(*values)):
            known: dict[Node, Floats] = {}
            known |= zip(self.held, (value[rows] for value in values), strict=False)
            if self.frame is not None:
                width = self.frame.width
                known[self.frame] = values[-1][rows, t * width : (t + 1) * width]
            known |= {s: value[rows] for s, value in zip(self.states, states, strict=True)}
            for node in self.body:
                if node not in known:
                    known[node] = node.evaluate(*(known[i] for i in node.inputs))
            if seen is not None:
                for node in dict.fromkeys((*self.states, *self.body)):
                    seen.setdefault(node, []).append(known[node])
            for state, result in zip(states, self.results, strict=True):
                state[rows] = known[result]
            yield states
