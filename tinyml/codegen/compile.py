"""Fitted model → Program: lower it, choose formats, and widen what costs agreement."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

import tinyml.codegen.lower_sklearn
import tinyml.estimators  # noqa: F401  importing both registers every lowering
from tinyml.base import blas_single_thread
from tinyml.codegen.builder import Builder, range_of
from tinyml.codegen.fold import fold
from tinyml.codegen.graph import Graph, as_numeric
from tinyml.codegen.lower import describe, final_step, lowered
from tinyml.codegen.program import N_SELFTEST_ROWS, Agreement, Program

_MOST_ROWS = 10_000
_LOSS_ALLOWED = 0.005
_ERROR_ALLOWED = 0.01


def compile(
    model: Any,
    X: Any,
    *,
    bits: int | str = "auto",
    board: Any = None,
    input_range: tuple[float, float] | None = None,
) -> Program:
    """Compile a fitted model into an integer program.

    Parameters
    ----------
    model : estimator
        A fitted scikit-learn predictor, one of `tinyml.estimators`, or a Pipeline that ends in one.
    X : array-like of shape (n_samples, n_features)
        Representative rows, usually those the model was fitted on. Ranges come from four fifths of
        them; every fifth row is kept out and decides what ``bits="auto"`` widens.
    bits : {"auto", 8, 16}
        Width of weights and activations, at most. ``"auto"`` starts at 8 and widens what costs
        agreement with the float model.
    board : str or Board, optional
        A board whose flash the tables must fit. It never changes a number.
    input_range : (low, high), optional
        Range of whole-number features, where the rows do not show it.

    Returns
    -------
    program : Program

    Raises
    ------
    TypeError
        If a step of the model is of a kind that cannot be compiled.
    ValueError
        If a parameter or X is out of range, or the tables cannot fit the board.

    Examples
    --------
    >>> import tinyml
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> X, y = load_iris(return_X_y=True)
    >>> program = tinyml.compile(LogisticRegression(max_iter=500).fit(X, y), X)
    >>> program.score(X, y) > 0.95
    True
    """
    if bits not in ("auto", 8, 16) or isinstance(bits, bool):
        raise ValueError(
            f"The 'bits' parameter of compile must be 8, 16 or 'auto'. Got {bits!r} instead."
        )
    _check_fitted(model)
    X = _calibration_rows(model, X)
    declared = _declared_range(input_range)
    graph = lowered(model, X.shape[1])
    with blas_single_thread():  # the products are small, threads only wait for one another
        program = _Compiler(model, graph, X, declared).compile(bits)
    if board is not None:
        _check_board(program, board)
    return program


def _check_fitted(model: Any) -> None:
    if isinstance(model, type) or not hasattr(model, "fit"):
        raise TypeError(f"compile needs a fitted estimator. Got {model!r} instead.")
    try:
        check_is_fitted(model)
    except NotFittedError as error:
        raise NotFittedError(
            f"This {type(model).__name__} is not fitted yet. Call 'fit' before compile."
        ) from error


def _declared_range(input_range: Any) -> tuple[float, float] | None:
    if input_range is None:
        return None
    try:
        lo, hi = (float(v) for v in input_range)
    except (TypeError, ValueError):
        lo, hi = np.nan, np.nan
    if not (np.isfinite(lo) and np.isfinite(hi) and lo < hi):
        raise ValueError(
            "The 'input_range' parameter of compile must be a pair (low, high) of finite numbers "
            f"with low < high. Got {input_range!r} instead."
        )
    return lo, hi


def _calibration_rows(model: Any, X: Any) -> NDArray[Any]:
    """Check X and thin it evenly to at most `_MOST_ROWS` rows."""
    X = X.to_numpy() if hasattr(X, "to_numpy") else np.asarray(X)
    if X.ndim != 2 or not len(X):
        raise ValueError(
            "The 'X' parameter of compile must be an array of shape (n_samples, n_features) with "
            f"at least one row. Got shape {X.shape} instead."
        )
    X = as_numeric(X, "The 'X' parameter of compile must be numeric.")
    expected = _n_features(model)
    if expected is not None and X.shape[1] != expected:
        raise ValueError(
            f"The 'X' parameter of compile must have the {expected} features that the "
            f"{type(model).__name__} was fitted on. Got {X.shape[1]} instead."
        )
    if X.dtype.kind == "f" and not np.isfinite(X).all():
        raise ValueError("The 'X' parameter of compile must be finite. Got NaN or infinity in it.")
    return np.asarray(X[:: -(-len(X) // _MOST_ROWS)])


def _n_features(model: Any) -> int | None:
    """Return how many features a model knows; a pipeline that begins with a gap has to be asked."""
    while isinstance(model, Pipeline):
        model = next((s for _, s in model.steps if s is not None and s != "passthrough"), None)
    return getattr(model, "n_features_in_", None)


def _spread(scores: NDArray[Any]) -> float:
    """Return how much scores vary; how large they are if that is nothing but rounding."""
    spread, size = float(scores.std(axis=0).mean()), float(np.abs(scores).max())
    return spread if spread > 1e-9 * size else size or 1.0


def _check_board(program: Program, board: Any) -> None:
    from tinyml.device.boards import get_board

    board = get_board(board)
    if program.table_bytes > board.flash:
        raise ValueError(
            f"The constants of this program take {program.table_bytes} bytes, more than the "
            f"{board.flash} bytes of flash of the {board.name}. Compress the model further."
        )


class _Compiler:
    """Searches the levels of a builder; the graph is lowered once."""

    def __init__(self, model: Any, graph: Graph, X: NDArray[Any], declared: Any) -> None:
        self.model = model
        self.graph = graph
        is_held = np.arange(len(X)) % 5 == 4
        self.held = X[is_held] if is_held.any() else X
        fit_rows = X[~is_held]
        self.final = final_step(model)
        self.classes = self.final.classes_ if is_classifier(self.final) else None
        self.input_range = range_of(fit_rows, declared)
        votes = self.classes is not None
        self.builder = Builder(fold(graph), fit_rows, self.input_range, votes)
        self.wanted = np.asarray(graph.evaluate(self.held), dtype=np.float64)
        self.head = _head(self.classes, graph.scores.size)

    def compile(self, bits: int | str) -> Program:
        lengths = self.builder.ladder_lengths()
        if bits == 8:
            return self._program([0] * len(lengths))
        finest = self._program([n - 1 for n in lengths])
        if bits == 16:
            return finest
        narrowest = self._program([0] * len(lengths))
        found = self._search(lengths, narrowest, finest)
        self._say_if_beyond_budget(found.table_bytes - narrowest.table_bytes)
        return found

    def _say_if_beyond_budget(self, added: int) -> None:
        """Warn if widening took the estimator beyond its own `max_bytes`."""
        allowed = getattr(self.final, "max_bytes", None)
        beyond = 0 if allowed is None else self.final.n_model_bytes_ + added - allowed
        if added > 0 and beyond > 0:
            warnings.warn(
                f"bits='auto' took the constants {beyond} bytes beyond the {allowed} that "
                f"'max_bytes' of {type(self.final).__name__} allows; bits=8 keeps to it.",
                stacklevel=4,
            )

    def _search(self, lengths: list[int], narrowest: Program, finest: Program) -> Program:
        """Promote one rung at a time what buys most agreement per byte, until it is enough."""
        levels, program = [0] * len(lengths), narrowest
        enough = self._enough(finest)
        while self._loss(program) > enough:
            trials = [
                (trial, self._program(trial))
                for k in range(len(levels))
                if (trial := [*levels[:k], levels[k] + 1, *levels[k + 1 :]])[k] < lengths[k]
            ]
            if not trials:
                break
            levels, program = max(trials, key=lambda t: self._worth(program, t[1]))
        return program

    def _worth(self, now: Program, then: Program) -> float:
        """Loss removed per byte of tables added; activations are dear by their time alone."""
        gain = self._loss(now) - self._loss(then)
        cost = max(0, then.table_bytes - now.table_bytes) + 0.05 * now.table_bytes + 16
        return gain / cost if gain > 0 else gain * cost

    def _enough(self, finest: Program) -> float:
        a = finest.agreement
        decisions = max(_LOSS_ALLOWED, 1 / a.n_rows) + _ERROR_ALLOWED / 100
        allowed = _ERROR_ALLOWED if a.n_same is None else decisions
        return self._loss(finest) + allowed

    def _loss(self, program: Program) -> float:
        """Return the share of held rows decided otherwise, or a regressor's relative error."""
        a = program.agreement
        if a.n_same is None:
            return a.relative_error
        return 1 - a.n_same / a.n_rows + min(1.0, a.relative_error) / 100

    def _program(self, levels: list[int]) -> Program:
        source, scores = self.builder.build(levels)
        program = Program(
            graph=self.graph,
            input=source,
            scores=scores,
            head=self.head,
            classes=self.classes,
            description=describe(self.model),
            whole_numbers=self.input_range.is_whole,
        )
        raw = program.quantize(self.held)
        object.__setattr__(program, "agreement", self._agreement(program, raw))
        spread = np.linspace(0, len(raw) - 1, min(N_SELFTEST_ROWS, len(raw))).astype(int)
        object.__setattr__(program, "selftest_rows", raw[spread].astype(np.int64))
        return program

    def _agreement(self, program: Program, raw: Any) -> Agreement:
        scores = program.run(raw)
        got = program.scores.type.to_float(scores)
        error = np.sqrt(np.mean((got - self.wanted) ** 2)) / _spread(self.wanted)
        if self.classes is None:
            return Agreement(len(raw), None, float(error))
        if self.head == "sign":
            same = program.decide(scores) == (self.wanted[:, 0] > 0)
        else:
            same = program.decide(scores) == self.wanted.argmax(axis=1)
        return Agreement(len(raw), int(same.sum()), float(error))


def _head(classes: Any, n_outputs: int) -> str:
    if classes is None:
        return "identity"
    return "sign" if n_outputs == 1 and len(classes) == 2 else "argmax"
