"""How a model is driven on a chip: a row at a call, or a sequence step by step.

Either way of driving knows what the firmware calls and times, and how rows are sent to it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinyml.device.build import CModel


@dataclass(frozen=True)
class ByRow:
    """Each row is a call of `predict`, or of `scores` where there is no predict."""

    model: CModel

    @property
    def timed(self) -> list[str]:
        """Declarations of the functions that are measured."""
        return [self.model.timed_declaration(self.model.name)]

    @property
    def row_member(self) -> str:
        """C declaration of what the simulator writes for each call."""
        return f"{self.model.name}_input_t {self.model.name}[{self.model.n_features}];"

    @property
    def variables(self) -> str:
        """C declarations of what else is needed."""
        return ""

    @property
    def minimal(self) -> tuple[str, str]:
        """Statements of a program that only uses the model: at first, and for ever."""
        return "", self._call(self.model.name)

    def function(self, scores: bool) -> str:
        """C function that serves one row."""
        name = self.model.name
        untimed = f"{name}_scores(bench_row.{name}, bench_scores.{name});"
        calls = _timed(self._call(f"{name}_empty"), self._call(name))
        also = untimed if scores and self.model.predict_ctype else ""
        return f"static void run_{name}(void) {{\n    {calls}\n    {also}\n    MARK(4);\n}}\n"

    def _call(self, name: str) -> str:
        model = self.model
        if model.predict_ctype is None:
            return f"{name}_scores(bench_row.{model.name}, bench_scores.{model.name});"
        return f"bench_decision.{model.name}[0] = {name}_predict(bench_row.{model.name});"

    def pack(self, raw: NDArray[np.generic]) -> NDArray[np.uint8]:
        """Rows as bytes."""
        n, model = len(raw), self.model
        if raw.shape != (n, model.n_features):
            raise ValueError(
                f"Rows of {model.name} must have {model.n_features} features. Got shape"
                f" {raw.shape}."
            )
        rows = np.ascontiguousarray(raw, dtype=model.input_dtype.newbyteorder("<"))
        return rows.view(np.uint8).reshape(n, model.n_features * rows.itemsize)


@dataclass(frozen=True)
class ByStep:
    """Each row is one time step, or the question for the result.

    A row begins with a byte that says what it is: `STEP`, `FIRST` of a sequence, or `RESULT`.
    """

    model: CModel
    STEP, FIRST, RESULT = 0, 1, 2

    @property
    def timed(self) -> list[str]:
        """Declarations of the functions that are measured."""
        name = self.model.name
        return [self.model.step_declaration(name), self.model.result_declaration(name)]

    @property
    def row_member(self) -> str:
        """C declaration of what the simulator writes for each call."""
        name = self.model.name
        return f"struct {{ uint8_t what; {name}_input_t x[{self.model.n_channels}]; }} {name};"

    @property
    def variables(self) -> str:
        """C declarations of what else is needed: the state, which is the caller's."""
        return f"SHARED {self.model.name}_state_t state_{self.model.name};"

    @property
    def minimal(self) -> tuple[str, str]:
        """Statements of a program that only uses the model: at first, and for ever."""
        name = self.model.name
        reset = f"{name}_reset(&state_{name});"
        return reset, f"{self._step(name)} BARRIER(); {self._result(name)}"

    def function(self, scores: bool) -> str:
        """C function that serves one row."""
        name = self.model.name
        result = _timed(self._result(f"{name}_empty"), self._result(name))
        step = _timed(self._step(f"{name}_empty"), self._step(name))
        untimed = f"{name}_result_scores(&state_{name}, bench_scores.{name});"
        return (
            f"static void run_{name}(void) {{\n"
            f"    if (bench_row.{name}.what == {self.FIRST}) {name}_reset(&state_{name});\n"
            f"    if (bench_row.{name}.what == {self.RESULT}) {{ {result} }} else {{ {step} }}\n"
            f"    {untimed if scores else ''}\n    MARK(4);\n}}\n"
        )

    def _step(self, name: str) -> str:
        own = self.model.name
        return f"{name}_step((void *)&state_{own}, bench_row.{own}.x);"

    def _result(self, name: str) -> str:
        own = self.model.name
        if self.model.predict_ctype is None:
            return f"{name}_result_scores((void *)&state_{own}, bench_scores.{own});"
        return f"bench_decision.{own}[0] = {name}_result((void *)&state_{own});"

    def pack(self, raw: NDArray[np.generic]) -> NDArray[np.uint8]:
        """Rows, each of which is `what` and one time step, as bytes."""
        frames = np.ascontiguousarray(raw[:, 1:], dtype=self.model.input_dtype.newbyteorder("<"))
        n = len(raw)
        what = raw[:, :1].astype(np.uint8)
        size = self.model.n_channels * frames.itemsize
        return np.hstack([what, frames.view(np.uint8).reshape(n, size)])


Driver = ByRow | ByStep


def _timed(empty: str, call: str) -> str:
    return f"MARK(5); {empty} MARK(6); MARK(2); {call} MARK(3);"
