"""Fitted model → Program: lower it, choose formats, and widen what costs agreement."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

import tinyml.codegen.lower_sklearn
import tinyml.codegen.lower_trees
import tinyml.estimators  # noqa: F401  importing these registers every lowering
from tinyml.base import allows_nan, blas_single_thread, flattened
from tinyml.codegen.builder import Builder
from tinyml.codegen.graph import Filled, Floats, Graph, as_numeric, check_names, relative_error
from tinyml.codegen.inputs import range_of
from tinyml.codegen.lower import describe, final_step, labels, lowered
from tinyml.codegen.program import N_SELFTEST_ROWS, Agreement, Program
from tinyml.codegen.sequences import Scan

_MOST_ROWS = 10_000
_LARGEST_TABLE, _LARGEST_TABLES = 32_767, 60_000  # what the addresses of an AVR reach
_REACH = 10.0  # times the median distance of scores from their median
_TELLING_ROWS = 20  # held; fewer say nothing of how well a program agrees
_POOR = 0.1  # of the rows, or error of a regressor: worth a warning
_FEW_ROWS = 333  # held; of fewer a single one would decide, so all are judged


class _Tolerance(NamedTuple):
    """What integers may lose: decisions, and the error of scores relative to their spread.

    Rows that a model was fitted on lie farther from its boundaries than others do. That is why few
    decisions alone do not satisfy "auto".
    """

    decisions: float  # share of held rows
    scores: float  # of a classifier
    targets: float  # of a regressor


_TOLERANCES = {"auto": _Tolerance(0.003, 0.025, 0.01), 8: _Tolerance(0.012, np.inf, 0.04)}


def compile(
    model: Any,
    X: Any,
    *,
    bits: int | str = "auto",
    board: Any = None,
    input_range: tuple[float, float] | None = None,
    layout: str = "auto",
) -> Program:
    """Compile a fitted model into an integer program.

    Parameters
    ----------
    model : estimator
        A fitted predictor of scikit-learn, XGBoost or LightGBM, one of `tinyml.estimators`, what
        `read_forest` returns, or a Pipeline that ends in one of them.
    X : array-like of shape (n_samples, n_features)
        Representative rows, usually those the model was fitted on. Ranges come from four fifths of
        them; every fifth row is kept out and decides what ``bits="auto"`` widens. Sequences may
        have the shape (n_samples, n_steps, n_channels). Trees take NaN for missing in the features
        in which these rows have some, and for the lowest value elsewhere.
    bits : {"auto", 8, 16}
        Width of what is stored, at most. With 8, everything is computed with 8 bits as well, but
        for what would change more than some 1 % of the decisions. ``"auto"`` starts at 8 and widens
        whatever costs agreement with the float model.
    board : str or Board, optional
        A board whose flash the tables must fit. It never changes a number.
    input_range : (low, high), optional
        Range of whole-number features, where the rows do not show it.
    layout : {"auto", "code", "table"}
        How forests are stored: as code of nested comparisons, which is fast, or in packed tables,
        which take a fraction of the flash and some ten times as long. ``"auto"`` takes what is
        expected to be smaller. It never changes a number.

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
    if layout not in ("auto", "code", "table"):
        raise ValueError(
            "The 'layout' parameter of compile must be 'auto', 'code' or 'table'. "
            f"Got {layout!r} instead."
        )
    _check_fitted(model)
    X = _calibration_rows(model, X)
    declared = _declared_range(input_range)
    graph = lowered(model, X.shape[1])
    has_gaps = bool(np.isnan(X).any()) or _may_have_gaps(graph)
    X = X[:: -(-len(X) // _MOST_ROWS)]
    with blas_single_thread():  # the products are small, threads only wait for one another
        program = _Compiler(model, graph, X, declared, has_gaps, layout).compile(bits)
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
    """Check X and bring it into two dimensions."""
    if issparse(X):
        raise TypeError("The 'X' parameter of compile must be dense. Got a sparse matrix instead.")
    check_names(X, getattr(model, "feature_names_in_", None))
    X = X.to_numpy() if hasattr(X, "to_numpy") else np.asarray(X)
    _check_channels(model, X)
    X = flattened(X)
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
    if X.dtype.kind == "f" and not np.all(np.isfinite(X) | (allows_nan(model) & np.isnan(X))):
        raise ValueError("The 'X' parameter of compile must be finite. Got NaN or infinity in it.")
    return np.asarray(X)


def _check_channels(model: Any, X: NDArray[Any]) -> None:
    """Refuse sequences of three dimensions whose last is not that of the model's time steps."""
    expected = getattr(final_step(model), "n_channels", None)
    if X.ndim == 3 and expected not in (None, X.shape[2]):
        raise ValueError(
            "The 'X' parameter of compile must have the time steps before the "
            f"{expected} channels of the {type(final_step(model)).__name__}. "
            f"Got shape {X.shape} instead."
        )


def _may_have_gaps(graph: Graph) -> bool:
    """Whether the model fills gaps, or has seen sequences that end early."""
    if any(isinstance(node, Filled) and node.fills_nan for node in graph.nodes()):
        return True
    scans = (node for node in graph.nodes() if isinstance(node, Scan))
    return any(scan.frame is not None and scan.frame.may_end for scan in scans)


def _n_features(model: Any) -> int | None:
    """Return how many features a model knows; a pipeline that begins with a gap has to be asked."""
    while isinstance(model, Pipeline):
        model = next((s for _, s in model.steps if s is not None and s != "passthrough"), None)
    return getattr(model, "n_features_in_", None)


def _check_board(program: Program, board: Any) -> None:
    """Refuse what cannot fit or cannot be addressed; whatever else it takes `measure` tells."""
    from tinyml.device.boards import get_board

    board = get_board(board)
    sizes = [table.nbytes for op in program.ops for table in op.tables().values()]
    for needed, allowed, what in (
        (program.table_bytes, board.flash, "bytes of flash for its constants"),
        (program.least_ram, board.ram, "bytes of RAM for its buffers and its input"),
        (max(sizes, default=0), _LARGEST_TABLE, "bytes for its largest table"),
        (sum(sizes), _LARGEST_TABLES, "bytes for all its tables"),
    ):
        if needed > allowed:
            raise ValueError(
                f"The program needs {needed} {what}, more than the {allowed} of the {board.name}. "
                "Compress the model further."
            )


class _Trial(NamedTuple):
    """A program, the levels it was built with, what it loses and how far its scores are off.

    The loss, which may be 1, says when a program is good enough; the error, which changes smoothly,
    what to try next.
    """

    levels: tuple[int, ...]
    program: Program
    loss: float
    error: float


class _Rows(NamedTuple):
    """Rows on which programs are judged, and the scores of the float model."""

    X: NDArray[Any]
    wanted: NDArray[np.float64]

    @classmethod
    def of(cls, graph: Graph, X: NDArray[Any]) -> _Rows:
        return cls(X, np.asarray(graph.evaluate(X), dtype=np.float64))


class _Compiler:
    """Searches the levels of a builder; the graph is lowered once."""

    def __init__(
        self,
        model: Any,
        graph: Graph,
        X: NDArray[Any],
        declared: Any,
        has_gaps: bool,
        layout: str,
    ) -> None:
        self.model = model
        self.graph = graph
        is_held = np.arange(len(X)) % 5 == 4
        self.held = _Rows.of(graph, X[is_held] if is_held.any() else X)
        self.judged = _Rows.of(graph, X) if len(self.held.X) < _FEW_ROWS else self.held
        self.final = final_step(model)
        self.classes = labels(model)
        self.head = _head(self.classes, graph.scores.size)
        self.input_range = range_of(X[~is_held], declared, has_gaps=has_gaps)
        votes = self.classes is not None
        self.builder = Builder(graph, X[~is_held], self.input_range, votes, layout)

    def compile(self, bits: int | str) -> Program:
        highest = self.builder.top_levels(32 if bits == "auto" else 16, 8 if bits == 8 else 16)
        program = self._program(highest) if bits == 16 else self._search(bits, highest)
        _say_if_poor(program)
        return program

    def _search(self, bits: int | str, highest: tuple[int, ...]) -> Program:
        """Promote what buys most accuracy per byte, a rung or two at a time, until it is enough."""
        self.tolerance = _TOLERANCES[bits]
        lowest = found = self._trial((0,) * len(highest))
        if found.loss <= 1:
            return found.program
        enough = max(1.0, self._trial(highest).loss + 1 / 3)
        while found.loss > enough and found.levels != highest:
            promoted = _promoted(found.levels, highest, self.builder.alike)
            trials = [self._trial(levels) for levels in promoted]
            if bits == 8:
                trials = [trial for trial in trials if not self._beyond_budget(lowest, trial)]
            if not trials:
                break
            found = max(trials, key=lambda trial: _worth(found, trial))
        self._say_if_beyond_budget(lowest, found)
        return found.program

    def _beyond_budget(self, lowest: _Trial, found: _Trial) -> int:
        """Return by how many bytes widening took the estimator beyond its own `max_bytes`."""
        allowed = getattr(self.final, "max_bytes", None)
        after = found.program.table_bytes
        added = after - lowest.program.table_bytes
        if allowed is None or added <= 0:
            return 0
        return int(max(0, min(self.final.n_model_bytes_ + added, after) - allowed))

    def _say_if_beyond_budget(self, lowest: _Trial, found: _Trial) -> None:
        beyond = self._beyond_budget(lowest, found)
        if beyond:
            added = found.program.table_bytes - lowest.program.table_bytes
            warnings.warn(
                f"bits='auto' took the constants {beyond} bytes beyond the "
                f"{self.final.max_bytes} that 'max_bytes' of {type(self.final).__name__} allows; "
                f"bits=8 takes {added} less.",
                stacklevel=5,
            )

    def _trial(self, levels: tuple[int, ...]) -> _Trial:
        """Build and judge a program."""
        program, allowed = self._program(levels), self.tolerance
        a = self._agreement(program, self.judged)
        if a.n_same is None:
            return _Trial(levels, program, a.relative_error / allowed.targets, a.relative_error)
        otherwise = (1 - a.n_same / a.n_rows) / allowed.decisions
        feared = a.relative_error / allowed.scores
        loss = max(otherwise, feared) + 0.01 * min(otherwise, feared)
        return _Trial(levels, program, loss, a.relative_error)

    def _program(self, levels: tuple[int, ...]) -> Program:
        source, scores = self.builder.build(levels)
        program = Program(
            graph=self.graph,
            input=source,
            scores=scores,
            head=self.head,
            classes=self.classes,
            description=describe(self.model),
            whole_numbers=self.input_range.is_whole,
            feature_names=getattr(self.model, "feature_names_in_", None),
        )
        n_rows = len(self.held.X)
        spread = np.linspace(0, n_rows - 1, min(N_SELFTEST_ROWS, n_rows)).astype(int)
        return replace(
            program,
            agreement=self._agreement(program, self.held),
            selftest_rows=program.quantize(self.held.X[spread]).astype(np.int64),
        )

    def _agreement(self, program: Program, rows: _Rows) -> Agreement:
        n_rows, wanted = len(rows.X), rows.wanted
        scores = program.run(program.quantize(rows.X))
        got = program.scores.type.to_float(scores)
        if self.classes is None:
            return Agreement(n_rows, None, relative_error(got, wanted, each=True))
        error = relative_error(*_within_reach(got, wanted), each=False)
        decided = wanted[:, 0] > 0 if self.head == "sign" else wanted.argmax(axis=1)
        return Agreement(n_rows, int((program.decide(scores) == decided).sum()), error)


def _within_reach(got: Floats, wanted: Floats) -> tuple[Floats, Floats]:
    """Limit scores to some times their usual distance from the median: beyond, nothing is close."""
    middle = float(np.median(wanted))
    reach = _REACH * float(np.median(np.abs(wanted - middle)))
    if not reach:
        return got, wanted
    ends = middle - reach, middle + reach
    return np.clip(got, *ends), np.clip(wanted, *ends)


def _say_if_poor(program: Program) -> None:
    """Warn where the integers do not follow the float model."""
    a = program.agreement
    lost = a.relative_error if a.n_same is None else 1 - a.n_same / a.n_rows
    if lost > _POOR and a.n_rows >= _TELLING_ROWS:
        warnings.warn(
            f"The program {a.text}. Features may need more than the format gives them: bring them "
            "to a common scale and offset before the model.",
            stacklevel=4,
        )


def _promoted(
    levels: tuple[int, ...], highest: tuple[int, ...], alike: Sequence[Sequence[int]]
) -> Iterator[tuple[int, ...]]:
    """Yield the levels with each that can be one rung higher, and two: one may not help yet.

    Stages that are alike rise together.
    """
    for group in alike:
        level, top = levels[group[0]], highest[group[0]]
        for higher in range(level + 1, min(level + 2, top) + 1):
            yield tuple(higher if k in group else now for k, now in enumerate(levels))


def _price(program: Program) -> float:
    """Count flash thrice, because 8-bit constants are what 8 bits were asked for."""
    return 3 * program.table_bytes + program.least_ram + 0.1 * sum(op.work for op in program.ops)


def _worth(now: _Trial, then: _Trial) -> float:
    """Error removed per price added: bytes of flash and RAM, and a little for time."""
    gain, price = now.error - then.error, _price(now.program)
    cost = max(0.0, _price(then.program) - price) + 0.02 * price + 16
    return gain / cost if gain > 0 else gain * cost


def _head(classes: Any, n_outputs: int) -> str:
    if classes is None:
        return "identity"
    return "sign" if n_outputs == 1 and len(classes) == 2 else "argmax"
