"""Repetition: the same ops again and again, on a state that they replace."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from tinyml.codegen.fixed import Fixed, IntArray, index_ctype
from tinyml.codegen.ops.base import Code, Op, Ref, Store
from tinyml.codegen.ops.elementwise import Input
from tinyml.codegen.ops.layout import peak_bytes


@dataclass(eq=False)
class Local(Op):
    """What a body begins from: a state, a value from outside, or one step of a sequence."""

    type: Fixed
    inputs: tuple[Op, ...] = field(default=(), init=False)

    def run(self, *args: IntArray) -> IntArray:
        raise AssertionError("a local has the value that its scan gives it")

    def emit(self, c: Code, store: Store, *args: Ref) -> None:
        raise AssertionError("a local is an array of its scan; it is never computed")


@dataclass(eq=False)
class Scan(Op):
    """The last of `states` after `n_steps` times replacing each by its result, zeros at first.

    `results` are ops on the `states`, on `held`, the locals that stand for `sources`, and on
    `frame`, that for the next elements of `sequence` in each step. Each has the bounds of its
    state: what holds before a step holds after it. All ends before a frame of missing values.
    """

    sources: tuple[Op, ...]
    held: tuple[Local, ...]
    states: tuple[Local, ...]
    results: tuple[Op, ...]
    n_steps: int
    sequence: Input | None = None
    frame: Local | None = None

    def __post_init__(self) -> None:
        self.body = self.results
        self.inputs = self.sources if self.sequence is None else (*self.sources, self.sequence)
        for state, result in zip(self.states, self.results, strict=True):
            t, after = state.type, result.type
            if np.any(after.lo < t.lo) or np.any(after.hi > t.hi) or np.any(after.frac != t.frac):
                raise ValueError("a result must have the format of the state that it replaces")
        self.type = self.states[-1].type

    def run(self, *args: IntArray) -> IntArray:
        *_, last = self.steps(*args)
        return last

    def steps(self, *args: IntArray) -> Iterator[IntArray]:
        """Yield the last of the states after each step."""
        n_rows = len(args[0])
        values = [np.zeros((n_rows, s.type.size), dtype=np.int64) for s in self.states]
        going = np.ones((n_rows, 1), dtype=bool)
        for t in range(self.n_steps):
            known: dict[Op, IntArray] = dict(zip(self.held, args, strict=False))
            if self.frame is not None:
                width = self.frame.type.size
                known[self.frame] = args[-1][:, t * width : (t + 1) * width]
                going &= np.any(known[self.frame] != self.missing, axis=1, keepdims=True)
            known |= dict(zip(self.states, values, strict=True))
            after = evaluate(self.results, known)
            values = [np.where(going, new, old) for new, old in zip(after, values, strict=True)]
            yield values[-1]

    @property
    def missing(self) -> int | None:
        """The value of which a frame consists that ends the sequence."""
        return None if self.sequence is None else self.sequence.missing

    @property
    def state_bytes(self) -> int:
        """Bytes of what is carried from step to step."""
        return sum(s.type.nbytes for s in self.states)

    @property
    def step_bytes(self) -> int:
        """Bytes of what replaces the states and of the arrays of the body."""
        known = {*self.states, *self.held} | ({self.frame} if self.frame is not None else set())
        return self.state_bytes + peak_bytes(self.results, known)

    @property
    def scratch_bytes(self) -> int:
        return self.state_bytes + self.step_bytes

    @property
    def work(self) -> int:
        return (self.n_steps - 1) * sum(op.work for op in in_order(self.results))

    @property
    def cost(self) -> str:
        return f"{self.n_steps} steps"

    def emit(self, c: Code, store: Store, *args: Ref) -> None:
        arrays: dict[Op, str] = {h: x.name for h, x in zip(self.held, args, strict=False)}
        for state in self.states:
            arrays[state] = c.fresh("state")
            c.line(f"{state.type.ctype} {arrays[state]}[{state.type.size}] = {{0}};")
        with c.loop("t", self.n_steps) as t:
            if self.frame is not None:
                arrays[self.frame] = self._next_frame(c, args[-1].name, t)
            self.emit_step(c, arrays)
        with c.loop("i", self.type.size) as i:
            store(i, f"{arrays[self.states[-1]]}[{i}]")

    def _next_frame(self, c: Code, sequence: str, t: str) -> str:
        """Point to the part of the sequence that is next, or leave the loop."""
        assert self.frame is not None
        ctype, width = self.frame.type.ctype, self.frame.type.size
        position = index_ctype(max(256, self.n_steps * width))
        frame = c.fresh("frame")
        c.line(f"const {ctype} *{frame} = {sequence} + ({position})({t} * {width}U);")
        if self.missing is not None:
            c.line(f"if ({c.ended(frame, width, self.missing, ctype)}) break;")
        return frame

    def emit_step(self, c: Code, arrays: Mapping[Op, str]) -> None:
        """Write one step: all results are computed before the first of them replaces its state."""
        after = [c.fresh("next") for _ in self.states]
        for name, state in zip(after, self.states, strict=True):
            c.line(f"{state.type.ctype} {name}[{state.type.size}];")
        stores = [
            Store(_assignment(c, name, state.type.ctype), name)
            for name, state in zip(after, self.states, strict=True)
        ]
        c.compute(list(zip(self.results, stores, strict=True)), arrays)
        for name, state in zip(after, self.states, strict=True):
            with c.loop("i", state.type.size) as i:
                c.line(f"{arrays[state]}[{i}] = {name}[{i}];")


def _assignment(c: Code, name: str, ctype: str) -> Callable[[str, str], None]:
    return lambda i, value: c.line(f"{name}[{i}] = ({ctype})({value});")


def evaluate(targets: Iterable[Op], known: Mapping[Op, IntArray]) -> list[IntArray]:
    """Execute what computes `targets`, beginning with the values that are `known`."""
    values = dict(known)

    def value(op: Op) -> IntArray:
        if op not in values:
            result = values[op] = op.run(*(value(source) for source in op.inputs))
            assert np.all((result >= op.type.lo) & (result <= op.type.hi)), f"{op} broke its bounds"
        return values[op]

    return [value(op) for op in targets]


def in_order(targets: Iterable[Op]) -> list[Op]:
    """Return `targets` and all that they are computed from, each once and after what it reads."""
    order: dict[Op, None] = {}

    def visit(op: Op) -> None:
        for source in (*op.inputs, *op.body):
            visit(source)
        order.setdefault(op)

    for op in targets:
        visit(op)
    return list(order)
