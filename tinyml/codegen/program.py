"""The integer program: what is evaluated in Python is what runs on the chip."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax
from sklearn.metrics import accuracy_score, r2_score

from tinyml.base import flattened
from tinyml.codegen.fixed import LARGEST_INPUT, IntArray, ctype_bytes, index_ctype
from tinyml.codegen.graph import Graph, as_numeric, check_names
from tinyml.codegen.ops.base import Op
from tinyml.codegen.ops.elementwise import Input
from tinyml.codegen.ops.heads import ArgMax, Identity, Sign
from tinyml.codegen.ops.layout import peak_bytes
from tinyml.codegen.ops.scan import Scan, evaluate, in_order

if TYPE_CHECKING:
    from pathlib import Path

HEADS: dict[str, Callable[[Op], Op]] = {"argmax": ArgMax, "sign": Sign, "identity": Identity}
N_SELFTEST_ROWS = 16


@dataclass(frozen=True)
class Agreement:
    """How closely the integers follow the float model on calibration rows kept out of all ranges.

    Attributes
    ----------
    n_rows, n_same : int
        Rows compared, and those with the same predicted class (classifiers).
    relative_error : float
        Root mean square difference of the scores over the standard deviation of the float's.
    """

    n_rows: int
    n_same: int | None
    relative_error: float

    @property
    def text(self) -> str:
        """One line for headers and summaries."""
        if self.n_same is None:
            difference = f"differs from the float model by {self.relative_error:.2%} of its spread"
            return f"{difference} on {self.n_rows} calibration rows"
        return f"agrees with the float model on {self.n_same} of {self.n_rows} calibration rows"


@dataclass(frozen=True, eq=False)
class Program:
    """A fitted model as a sequence of integer operations.

    Made by `tinyml.compile`. Everything it answers is computed with the integers the chip computes
    with, bit for bit.

    Attributes
    ----------
    graph : Graph
        The float model this program was made from.
    input : Input
        The op that stands for the raw features; ``input.type`` gives their C type and Q-format.
    scores : Op
        The op that yields the score vector.
    head : {"argmax", "sign", "identity"}
        What ``predict`` does with the scores.
    classes : ndarray or None
        The labels of a classifier, in the order of the scores; None for a regressor.
    agreement : Agreement
        Fidelity on calibration rows that took no part in choosing ranges.
    """

    graph: Graph
    input: Input
    scores: Op
    head: str
    classes: NDArray[Any] | None
    description: str
    whole_numbers: bool = False
    feature_names: NDArray[Any] | None = None
    agreement: Agreement = field(default=Agreement(0, None, 0.0))
    selftest_rows: IntArray = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int64))

    def __post_init__(self) -> None:
        object.__setattr__(self, "ops", tuple(in_order([self.scores])))
        object.__setattr__(self, "head_op", HEADS[self.head](self.scores))
        object.__setattr__(self, "recurrence", _recurrence(self.scores))

    ops: tuple[Op, ...] = field(init=False)
    head_op: Op = field(init=False)
    recurrence: Scan | None = field(init=False)

    # Types ---------------------------------------------------------------------------------------

    @property
    def n_features(self) -> int:
        """Number of features a row has."""
        return self.input.type.size

    @property
    def n_outputs(self) -> int:
        """Number of scores."""
        return self.scores.type.size

    @property
    def has_predict(self) -> bool:
        """Whether one number can be predicted; several outputs have scores only."""
        return self.head != "identity" or self.n_outputs == 1

    @property
    def score_ctype(self) -> str:
        """C type of one score."""
        return self.scores.type.ctype

    @property
    def score_dtype(self) -> np.dtype[Any]:
        """NumPy type of one score."""
        return self.scores.type.dtype

    @property
    def predict_ctype(self) -> str:
        """C type that ``<name>_predict`` returns."""
        if self.head == "identity":
            return self.score_ctype
        return index_ctype(max(1, self.n_outputs - 1))

    @property
    def output_fracs(self) -> list[int]:
        """Fractional bits of each score; may be negative. All the same but for several targets."""
        t = self.scores.type
        return [int(frac) for frac in np.broadcast_to(t.frac, t.shape)]

    @property
    def input_limits(self) -> tuple[int, int]:
        """Smallest and largest raw feature that `quantize` gives."""
        t = self.input.type
        lowest = t.lowest + (self.input.missing is not None)
        return max(lowest, -LARGEST_INPUT), min(t.highest, LARGEST_INPUT)

    # Sequences -----------------------------------------------------------------------------------

    @property
    def n_channels(self) -> int:
        """Features of one time step; all of them where the input is no sequence."""
        frame = None if self.recurrence is None else self.recurrence.frame
        return self.n_features if frame is None else frame.type.size

    @property
    def state_bytes(self) -> int:
        """Bytes of ``<name>_state_t``, which the caller of ``<name>_step`` keeps."""
        return 0 if self.recurrence is None else self.recurrence.state_bytes

    def n_steps(self, raw: IntArray) -> IntArray:
        """Count the steps of each raw sequence before it ends; 1 where rows are no sequences.

        Parameters
        ----------
        raw : ndarray of int, shape (n_samples, n_features)

        Returns
        -------
        n_steps : ndarray of int, shape (n_samples,)
        """
        frames = self._frames(raw)
        if self.input.missing is None:
            return np.full(len(raw), frames.shape[1])
        going = np.any(frames != self.input.missing, axis=2)
        return np.asarray(np.logical_and.accumulate(going, axis=1).sum(axis=1))

    # Execution -----------------------------------------------------------------------------------

    def quantize(self, X: Any) -> NDArray[Any]:
        """Turn features into the integers the chip receives, in single precision as the C does.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Any real numbers; NaN becomes 0, a time step that is nothing but NaN the value that says
            so, and infinities the ends of the format. Sequences may have the shape (n_samples,
            n_steps, n_channels).

        Returns
        -------
        raw : ndarray of shape (n_samples, n_features)
            With the dtype of the C input type.
        """
        X = self._rows(X)
        lo, hi = (np.float32(v) for v in self.input_limits)
        with np.errstate(over="ignore", invalid="ignore"):
            scale = np.ldexp(np.float32(1), self.input.type.frac).astype(np.float32)
            scaled = X.astype(np.float32) * scale
        scaled = np.where(np.isnan(scaled), self._code_of_nan(scaled), np.clip(scaled, lo, hi))
        return np.floor(scaled + np.float32(0.5)).astype(self.input.type.dtype)

    def _frames(self, X: NDArray[Any]) -> NDArray[Any]:
        """Cut rows into time steps; there may be no rows."""
        return X.reshape(len(X), self.n_features // self.n_channels, self.n_channels)

    def _code_of_nan(self, X: NDArray[Any]) -> NDArray[np.float32]:
        """Return what NaN becomes: 0, in a time step that is nothing but NaN the missing code."""
        if self.input.missing is None or self.recurrence is None:
            return np.full(1, self.input.missing or 0, dtype=np.float32)
        ended = np.isnan(self._frames(X)).all(axis=2)
        codes = np.where(ended, np.float32(self.input.missing), np.float32(0))
        return np.repeat(codes, self.n_channels, axis=1)

    def run(self, raw: Any) -> IntArray:
        """Execute the program on raw features.

        Parameters
        ----------
        raw : array-like of int, shape (n_samples, n_features)
            Any values of the C input type.

        Returns
        -------
        scores : ndarray of int64, shape (n_samples, n_outputs)
            Exactly what ``<name>_scores`` writes; score k in units of ``2**-output_fracs[k]``.
        """
        return evaluate([self.scores], {self.input: self._raw(raw)})[0]

    def run_steps(self, raw: Any) -> IntArray:
        """Execute the program on raw sequences; return the scores after every time step.

        Parameters
        ----------
        raw : array-like of int, shape (n_samples, n_features)
            Any values of the C input type.

        Returns
        -------
        scores : ndarray of int64, shape (n_samples, n_steps, n_outputs)
            What ``<name>_result_scores`` writes after each ``<name>_step``.

        Raises
        ------
        AttributeError
            If the rows of this program are no sequences.
        """
        if self.recurrence is None:
            raise AttributeError(f"{self.description} reads no sequences step by step.")
        states = self.recurrence.steps(self._raw(raw))
        scores = [evaluate([self.scores], {self.recurrence: state})[0] for state in states]
        return np.stack(scores, axis=1)

    def decide(self, scores: IntArray) -> IntArray:
        """Apply the head to a score array: exactly what ``<name>_predict`` returns.

        Parameters
        ----------
        scores : ndarray of int64, shape (n_samples, n_outputs)

        Returns
        -------
        decisions : ndarray of int64, shape (n_samples,)
        """
        return np.asarray(self.head_op.run(scores)[:, 0])

    def _raw(self, raw: Any) -> IntArray:
        rows, t = self._rows(raw), self.input.type
        if rows.dtype.kind not in "iu" or np.any((rows < t.lowest) | (rows > t.highest)):
            raise ValueError(f"The 'raw' parameter of run must hold integers of type {t.ctype}.")
        return np.asarray(rows, dtype=np.int64)

    def _rows(self, X: Any) -> NDArray[Any]:
        check_names(X, self.feature_names)
        X = np.asarray(X)
        if X.ndim == 3 and X.shape[2] == self.n_channels:
            X = flattened(X)
        if X.ndim != 2 or X.shape[1] != self.n_features:
            raise ValueError(
                f"The program expects rows of {self.n_features} features, an array of shape "
                f"(n_samples, {self.n_features}). Got shape {X.shape} instead."
            )
        return as_numeric(X, "The program expects numeric features.")

    # In the user's own terms ---------------------------------------------------------------------

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Return the scores as real numbers.

        Returns
        -------
        scores : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            One-dimensional where there is one score.
        """
        scores = self.scores.type.to_float(self.run(self._checked(X)))
        return scores[:, 0] if self.n_outputs == 1 else scores

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict labels, or target values of a regressor, as the chip does.

        Warns with the number of rows that had to be saturated or rounded where features are whole
        numbers.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        """
        if self.classes is None:
            return self.decision_function(X)
        return self.classes[self.decide(self.run(self._checked(X)))]

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return class probabilities computed on the host from the integer scores.

        The C gives scores only, except where scores are probabilities.

        Returns
        -------
        p : ndarray of shape (n_samples, n_classes)
        """
        link = self.graph.link
        if link is None:
            raise AttributeError(f"{self.description} gives no probabilities.")
        scores = self.scores.type.to_float(self.run(self._checked(X)))
        return probabilities(link, scores)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy of a classifier, or R² of a regressor, on `X` and `y`."""
        metric = r2_score if self.classes is None else accuracy_score
        return float(metric(y, self.predict(X), sample_weight=sample_weight))

    def _checked(self, X: Any) -> NDArray[Any]:
        raw = self.quantize(X)
        if self.recurrence is not None and self.input.missing is None:
            n = int(np.isnan(self._rows(X)).any(axis=1).sum())
            if n:
                warnings.warn(
                    f"{n} of {len(raw)} sequences hold NaN, which this program reads as 0: none "
                    "ended early among those the model was fitted on and compiled with.",
                    stacklevel=3,
                )
        if self.whole_numbers:
            X = self._rows(X)
            n = int(np.any((raw != X) & ~np.isnan(X), axis=1).sum())
            if n:
                t = self.input.type
                warnings.warn(
                    f"{n} of {len(X)} rows were saturated or rounded to whole numbers in "
                    f"[{t.lowest}, {t.highest}], the range this program was compiled for.",
                    stacklevel=3,
                )
        return raw

    # What it is ----------------------------------------------------------------------------------

    @property
    def table_bytes(self) -> int:
        """Bytes of constants in flash; trees, which are code, count as the table they could be."""
        return sum(op.table_bytes for op in self.ops)

    @property
    def narrow_share(self) -> float:
        """Share of the table bytes that hold 8-bit values."""
        tables = [t for op in self.ops for t in op.tables().values()]
        narrow = sum(t.nbytes for t in tables if ctype_bytes(t.ctype) == 1)
        return narrow / max(1, sum(t.nbytes for t in tables))

    @property
    def buffer_bytes(self) -> int:
        """Bytes of buffers alive at once inside ``<name>_predict``, the input row not counted."""
        return self.scores.type.nbytes + peak_bytes([self.scores], {self.input})

    @property
    def least_ram(self) -> int:
        """Bytes of RAM without which it cannot run: input and buffers, of a sequence one step."""
        if self.recurrence is None:
            return self.input.type.nbytes + self.buffer_bytes
        step = self.n_channels * self.input.type.dtype.itemsize
        result = self.scores.type.nbytes + peak_bytes([self.scores], {self.recurrence})
        return self.state_bytes + step + max(self.recurrence.step_bytes, result)

    def summary(self) -> str:
        """Return a table of the ops: format, storage, bytes and cost."""
        rows = [("op", "shape", "type", "frac", "bytes", "cost")]
        for op in self.ops:
            shape = "x".join(map(str, op.type.shape))
            rows.append(
                (
                    type(op).__name__,
                    shape,
                    op.type.ctype,
                    _frac_text(op),
                    str(op.table_bytes),
                    op.cost,
                )
            )
        widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
        lines = [
            "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        lines.insert(1, "-" * max(map(len, lines)))
        total = f"{self.table_bytes} bytes of constants, {self.buffer_bytes} bytes of buffers"
        return "\n".join([self.description, *lines, f"{total}; {self.agreement.text}"])

    def __repr__(self) -> str:
        size = f"{self.n_features} features, {self.table_bytes} bytes of constants"
        return f"<Program {self.description}: {size}>"

    # Out to C ------------------------------------------------------------------------------------

    def to_c(self, name: str = "model") -> str:
        """Return the program as one self-contained C99 header; the same text every time.

        Parameters
        ----------
        name : str
            Prefix of every identifier.
        """
        from tinyml.codegen.export import header

        return header(self, name)

    def export(self, path: str | Path, name: str = "model", kind: str = "header") -> Path:
        """Write the program for a C project or as an Arduino library.

        Parameters
        ----------
        path : str or Path
            Folder to write into; it is made if it does not exist.
        name : str
            Prefix of every identifier and name of the files.
        kind : {"header", "arduino"}
            One header file, or an Arduino library in ``path/name``.

        Returns
        -------
        path : Path
            The header, or the library's folder.
        """
        from tinyml.codegen.export import export

        return export(self, path, name, kind)


def _recurrence(scores: Op) -> Scan | None:
    """Return the scan over a sequence from whose last state alone the scores follow, if any."""
    scans = [op for op in in_order([scores]) if isinstance(op, Scan) and op.frame is not None]
    if len(scans) != 1 or scans[0].held or _reads_beside(scores, scans[0]):
        return None
    return scans[0]


def _reads_beside(op: Op, scan: Scan) -> bool:
    """Whether an op reads the input in another way than through a scan."""
    if op is scan:
        return False
    return isinstance(op, Input) or any(_reads_beside(x, scan) for x in op.inputs)


def _frac_text(op: Op) -> str:
    lo, hi = int(np.min(op.type.frac)), int(np.max(op.type.frac))
    return str(lo) if lo == hi else f"{lo}..{hi}"


def probabilities(link: str, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    if link == "softmax":
        return np.asarray(softmax(scores, axis=1))
    if link == "expit" and scores.shape[1] == 1:
        p = expit(scores)
        return np.hstack([1 - p, p])
    p = np.asarray(expit(scores)) if link == "expit" else np.maximum(scores, 0.0)
    total = p.sum(axis=1, keepdims=True)
    uniform = np.full_like(p, 1 / p.shape[1])
    return np.asarray(np.divide(p, total, out=uniform, where=total > 0))
