"""Integer programs and the limits of a board inside scikit-learn's model selection.

`FixedPointClassifier` and `FixedPointRegressor` fit a model, compile it, and answer with the
integers of the chip, so that a search scores what will run. With limits a model that is too large
or too slow raises `DoesNotFit`, and the search leaves it out.
"""

import math
import re
import sys
from dataclasses import dataclass
from numbers import Integral, Real
from typing import ClassVar

import numpy as np
from sklearn import get_config
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    MetaEstimatorMixin,
    RegressorMixin,
    clone,
    is_classifier,
    is_regressor,
)
from sklearn.pipeline import Pipeline
from sklearn.utils import column_or_1d, get_tags
from sklearn.utils.metadata_routing import UNUSED, MetadataRouter, MethodMapping, process_routing
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, has_fit_parameter, validate_data

from .base import (
    Interval,
    StrOptions,
    _check_sample_weight,
    _fit_context,
    allows_nan,
    flattened,
)
from .codegen.compile import compile
from .codegen.ops import TreeTable
from .device.boards import Board, get_board
from .device.measure import measure
from .device.toolchain import ToolNotFound

__all__ = ["DoesNotFit", "FixedPointClassifier", "FixedPointRegressor", "board_scoring"]

# Rows run in the simulator for each candidate: the mean of the cycles is steady long before 200.
_N_MEASURED_ROWS = 32


class DoesNotFit(ValueError):
    """A program that needs more than its limits allow."""


# ---------------------------------------------------------------------------------------------
# Limits
# ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Limits:
    """What a program may take; None is no limit."""

    flash: int | None
    ram: int | None
    ms: float | None

    def __bool__(self):
        return (self.flash, self.ram, self.ms) != (None, None, None)

    def check_tables(self, program, board):
        """Refuse without a compiler what is too large by its constants alone."""
        allowed = min(board.flash, board.flash if self.flash is None else self.flash)
        if program.table_bytes > allowed:
            raise DoesNotFit(
                f"The program needs {_spaced(program.table_bytes)} B of flash for its constants "
                f"alone, {_spaced(allowed)} allowed."
            )

    def check_report(self, report, board):
        """Refuse what was measured to be too much; of the times seen the longest counts."""
        if not report.fits:
            raise DoesNotFit(f"The program does not fit the {board.name}: {report.why}.")
        slowest = board.milliseconds(report.cycles_max)
        excess = [
            f"{show(needed)} {unit}, {show(allowed)} allowed"
            for needed, allowed, unit, show in (
                (report.flash, self.flash, "B of flash", _spaced),
                (report.ram, self.ram, "B of RAM", _spaced),
                (slowest, self.ms, "ms", "{:.4g}".format),
            )
            if allowed is not None and needed > allowed
        ]
        if excess:
            raise DoesNotFit(f"The program needs {'; '.join(excess)}.")


def _spaced(number):
    """1234567 as 1 234 567."""
    return f"{number:,}".replace(",", " ")


def _n_bytes(value):
    """Bytes that a limit allows: 4096, '4096 B' and '4KB' are the same; None if it says nothing."""
    if not isinstance(value, str):
        return int(value)
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(B|KB)?\s*", value, re.IGNORECASE)
    if match is None:
        return None
    number, unit = match.groups()
    return math.floor(float(number) * (1024 if (unit or "").upper() == "KB" else 1))


# ---------------------------------------------------------------------------------------------
# Rows and where they come from
# ---------------------------------------------------------------------------------------------


def _representative(rows, weights):
    """What a program's ranges come from: the rows, without those of weight 0.

    Where there are weights or repeated rows, each row counts once and their order depends on their
    values alone: a weight of 2 and a row given twice lead to the same program.
    """
    present = rows if weights is None else rows[weights > 0]
    words = np.ascontiguousarray(present + rows.dtype.type(0))  # turns -0.0 into 0.0
    # Rows sort much quicker as bytes than as numbers where there are hundreds of columns.
    words = words.view(np.dtype((np.void, words.dtype.itemsize * words.shape[1])))
    first = np.unique(words.ravel(), return_index=True)[1]
    return rows if weights is None and len(first) == len(rows) else present[first]


def _spread(rows, n_rows):
    """At most `n_rows` of the rows, evenly spread."""
    return rows[np.linspace(0, len(rows) - 1, min(n_rows, len(rows))).round().astype(int)]


def _weights_of_steps(estimator, sample_weight):
    """`sample_weight` as parameters of `fit`, which in a Pipeline carry the names of steps."""
    if not isinstance(estimator, Pipeline):
        return {"sample_weight": sample_weight}
    return {
        f"{name}__{key}": value
        for name, step in estimator.steps
        if isinstance(step, Pipeline) or has_fit_parameter(step, "sample_weight")
        for key, value in _weights_of_steps(step, sample_weight).items()
    }


def _is_step_after_others(estimator):
    """Whether a Pipeline is fitting `estimator` on rows that earlier steps have transformed.

    Pipeline hands its last step transformed rows and nothing that says so; the call stack is where
    it can be seen.
    """
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "fit" and _transforms_for(frame.f_locals.get("self"), estimator):
            return True
        frame = frame.f_back
    return False


def _transforms_for(owner, estimator):
    if not isinstance(owner, Pipeline) or owner is estimator:
        return False
    transforms = any(step not in (None, "passthrough") for _, step in owner.steps[:-1])
    last = owner.steps[-1][1]
    while isinstance(last, Pipeline):
        last = last.steps[-1][1]
    return transforms and last is estimator


# ---------------------------------------------------------------------------------------------
# The estimators
# ---------------------------------------------------------------------------------------------


class _FixedPoint(MetaEstimatorMixin, BaseEstimator):
    """What the classifier and the regressor share: all but the names of their answers."""

    _parameter_constraints: ClassVar[dict] = {
        "estimator": [BaseEstimator],
        "bits": [StrOptions({"auto"}), Integral],
        "board": [str, Board, None],
        "flash": [Interval(Integral, 1, None, closed="left"), str, None],
        "ram": [Interval(Integral, 1, None, closed="left"), str, None],
        "ms": [Interval(Real, 0, None, closed="neither"), None],
    }

    # Weights are for the inner estimator, which says whether it requests them.
    __metadata_request__fit: ClassVar[dict] = {"sample_weight": UNUSED}

    def __init__(self, estimator, *, bits="auto", board=None, flash=None, ram=None, ms=None):
        self.estimator = estimator
        self.bits = bits
        self.board = board
        self.flash = flash
        self.ram = ram
        self.ms = ms

    # The inner estimator validates its own parameters.
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y, sample_weight=None, **fit_params):
        """Fit the estimator, compile it, and compare the program with the limits.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows. The program is what `tinyml.compile` makes of the fitted estimator and
            these rows; where some repeat or have weights, each row of positive weight once.
        y : array-like of shape (n_samples,)
            Their targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row; in a Pipeline, for every step that takes weights. If metadata
            routing is enabled, for those that request it.
        **fit_params : dict
            Passed to `fit` of the estimator, or routed to it if metadata routing is enabled.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        DoesNotFit
            If the program exceeds a limit.
        ToolNotFound
            If there are limits, and no compiler or simulator to measure with.
        TypeError
            If the estimator is of a kind that cannot be compiled.
        """
        self._check_place()
        board, limits = self._settings()
        rows, weights = self._checked(X), None
        if sample_weight is not None:
            weights = _check_sample_weight(sample_weight, rows)
        fit_params = self._routed(sample_weight, fit_params)
        estimator = clone(self.estimator).fit(X, self._targets(y), **fit_params)
        rows = _representative(rows, weights)
        program = compile(estimator, rows, bits=self.bits)
        try:
            self._adopt(estimator, program, rows, board, limits)
        except DoesNotFit:  # the smaller layout of a forest may be too slow
            if self.ms is None or not any(isinstance(op, TreeTable) for op in program.ops):
                raise
            program = compile(estimator, rows, bits=self.bits, layout="code")
            self._adopt(estimator, program, rows, board, limits)
        return self

    def _check_place(self):
        name = type(self).__name__
        if not self._is_kind(self.estimator):
            raise ValueError(f"{name} needs a {self._kind}. Got {self.estimator!r} instead.")
        if _is_step_after_others(self):
            raise ValueError(
                f"{name} must be outermost, because the steps before it would not be compiled: "
                f"write {name}(make_pipeline(..., estimator)) instead of "
                f"make_pipeline(..., {name}(estimator))."
            )

    def _settings(self):
        """Board and limits, checked before any work is done."""
        if self.bits not in ("auto", 8, 16):
            raise self._complaint("bits", "8, 16 or 'auto'")
        board = None if self.board is None else get_board(self.board)
        limits = _Limits(self._bytes_allowed("flash"), self._bytes_allowed("ram"), self.ms)
        if limits and board is None:
            raise self._complaint("board", "given where there are limits, to measure on")
        return board, limits

    def _bytes_allowed(self, name):
        value = getattr(self, name)
        if value is None:
            return None
        allowed = _n_bytes(value)
        if not allowed:
            raise self._complaint(name, "a number of bytes such as 4096 or '4KB'")
        return allowed

    def _complaint(self, name, wanted):
        return ValueError(
            f"The {name!r} parameter of {type(self).__name__} must be {wanted}. "
            f"Got {getattr(self, name)!r} instead."
        )

    def _routed(self, sample_weight, fit_params):
        """Parameters for `fit` of the estimator."""
        routing = get_config()["enable_metadata_routing"]
        if sample_weight is not None:
            steps = {} if routing else _weights_of_steps(self.estimator, sample_weight)
            fit_params = {**fit_params, **(steps or {"sample_weight": sample_weight})}
        return process_routing(self, "fit", **fit_params).estimator.fit if routing else fit_params

    def _targets(self, y):
        """Targets as a vector, unless several outputs are allowed."""
        if y is None or get_tags(self).target_tags.multi_output:
            return y
        return column_or_1d(y, warn=True)

    def _adopt(self, estimator, program, rows, board, limits):
        """Take a fitted model over if it keeps the limits."""
        measured_rows = _spread(rows, _N_MEASURED_ROWS)
        reports = {}
        if board is not None:
            limits.check_tables(program, board)
        if limits:
            reports[board] = _measure(program, measured_rows, board)
            limits.check_report(reports[board], board)
        self.estimator_, self.program_ = estimator, program
        self._measured_rows, self._reports = measured_rows, reports

    def __sklearn_is_fitted__(self):
        return hasattr(self, "program_")

    @property
    def report_(self):
        """Report of the program on the board, measured once, on first use or by the limits."""
        if not self.__sklearn_is_fitted__() or self.board is None:
            raise AttributeError(
                f"{type(self).__name__} has a report_ once it is fitted with a board."
            )
        try:
            return self._report_on(get_board(self.board))
        except ToolNotFound as error:
            # Notebooks read every attribute that hasattr promises.
            raise AttributeError(str(error)) from error

    def _report_on(self, board):
        if board not in self._reports:
            self._reports[board] = _measure(self.program_, self._measured_rows, board)
        return self._reports[board]

    def predict(self, X):
        """Predict with the integer program.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            What the chip answers, as classes or in units of the target.
        """
        rows = self._validated(X)
        return self.program_.predict(rows)

    def _validated(self, X):
        check_is_fitted(self)
        return self._checked(X, reset=False)

    def _checked(self, X, **parameters):
        missing = "allow-nan" if allows_nan(self.estimator) else True
        parameters |= {"dtype": "numeric", "ensure_all_finite": missing}
        return validate_data(self, flattened(X), **parameters)

    def get_metadata_routing(self):
        """Get metadata routing of this object.

        Returns
        -------
        routing : MetadataRouter
            Parameters of `fit` go to the estimator; `score` takes its own.
        """
        mapping = MethodMapping().add(caller="fit", callee="fit")
        router = MetadataRouter(owner=self).add_self_request(self)
        return router.add(estimator=self.estimator, method_mapping=mapping)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        inner = get_tags(self.estimator)
        # Programs read dense rows.
        tags.input_tags.allow_nan = allows_nan(self.estimator)
        tags.input_tags.positive_only = inner.input_tags.positive_only
        tags.target_tags.positive_only = inner.target_tags.positive_only
        tags.non_deterministic = inner.non_deterministic
        return tags


def _measure(program, rows, board):
    return measure(program, rows, board, flags=("os",))


def _gives_probabilities(self):
    if self.__sklearn_is_fitted__():
        return self.program_.graph.link is not None
    return hasattr(self.estimator, "predict_proba")


class FixedPointClassifier(ClassifierMixin, _FixedPoint):
    """A classifier that answers with the integers of its compiled program.

    `fit` fits a clone of `estimator` and compiles it; what is predicted and scored from then on is
    what runs on the chip, bit for bit. With limits, `fit` raises `DoesNotFit` where the program
    exceeds them, so that a search leaves the candidate out.

    Parameters
    ----------
    estimator : estimator
        A classifier, or a Pipeline that ends in one: the whole of what is to run on the chip.
    bits : {"auto", 8, 16}, default="auto"
        Width of what is stored, at most, as in `tinyml.compile`.
    board : str or Board, default=None
        Where limits are measured, one of `tinyml.device.BOARDS`. It never changes a prediction.
    flash : int or str, default=None
        Most bytes of flash, net of an empty firmware: 4096 or "4KB", of 1024 bytes each.
    ram : int or str, default=None
        Most bytes of RAM: static RAM, deepest stack and one row of features.
    ms : float, default=None
        Most milliseconds that a prediction may take, of those seen. Where tables of a forest take
        longer, it becomes code.

    Attributes
    ----------
    estimator_ : estimator
        The fitted clone of `estimator`.
    program_ : Program
        The compiled model.
    report_ : Report
        What the program takes on `board` at ``-Os``, seen over 32 of the training rows; measured
        on first use, or by `fit` where there are limits.
    classes_ : ndarray of shape (n_classes,)
        The class labels.
    n_features_in_ : int
        Number of features seen in fit.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names, if `X` had string names only.

    See Also
    --------
    FixedPointRegressor : The same for regressors.
    board_scoring : Size and speed as further columns of a search.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from tinyml.model_selection import FixedPointClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = FixedPointClassifier(make_pipeline(StandardScaler(), LogisticRegression()))
    >>> model.fit(X, y).score(X, y) > 0.95
    True
    >>> model.set_params(board="uno", flash=10).fit(X, y)
    Traceback (most recent call last):
    ...
    tinyml.model_selection.DoesNotFit: The program needs ... B of flash for its constants alone, ...
    """

    _kind = "classifier"
    _is_kind = staticmethod(is_classifier)

    @property
    def classes_(self):
        """The class labels."""
        return self.estimator_.classes_

    def decision_function(self, X):
        """Scores of the classes, or of the second class if there are two.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        scores : ndarray of shape (n_samples, n_classes) or (n_samples,)
            The program's integers as real numbers.
        """
        rows = self._validated(X)
        scores = self.program_.decision_function(rows)
        # Programs of trees have two scores for two classes.
        return scores[:, 1] - scores[:, 0] if scores.shape[1:] == (2,) else scores

    @available_if(_gives_probabilities)
    def predict_proba(self, X):
        """Probabilities of the classes, computed from the program's integer scores.

        Available where the estimator's probabilities are a function of its scores.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes)
            Probability of each class, in the order of `classes_`.
        """
        rows = self._validated(X)
        return self.program_.predict_proba(rows)


class FixedPointRegressor(RegressorMixin, _FixedPoint):
    """A regressor that answers with the integers of its compiled program.

    `fit` fits a clone of `estimator` and compiles it; what is predicted and scored from then on is
    what runs on the chip, bit for bit. With limits, `fit` raises `DoesNotFit` where the program
    exceeds them, so that a search leaves the candidate out.

    Parameters
    ----------
    estimator : estimator
        A regressor, or a Pipeline that ends in one: the whole of what is to run on the chip.
    bits : {"auto", 8, 16}, default="auto"
        Width of what is stored, at most, as in `tinyml.compile`.
    board : str or Board, default=None
        Where limits are measured, one of `tinyml.device.BOARDS`. It never changes a prediction.
    flash : int or str, default=None
        Most bytes of flash, net of an empty firmware: 4096 or "4KB", of 1024 bytes each.
    ram : int or str, default=None
        Most bytes of RAM: static RAM, deepest stack and one row of features.
    ms : float, default=None
        Most milliseconds that a prediction may take, of those seen. Where tables of a forest take
        longer, it becomes code.

    Attributes
    ----------
    estimator_ : estimator
        The fitted clone of `estimator`.
    program_ : Program
        The compiled model.
    report_ : Report
        What the program takes on `board` at ``-Os``, seen over 32 of the training rows; measured
        on first use, or by `fit` where there are limits.
    n_features_in_ : int
        Number of features seen in fit.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names, if `X` had string names only.

    See Also
    --------
    FixedPointClassifier : The same for classifiers.
    board_scoring : Size and speed as further columns of a search.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.linear_model import Ridge
    >>> from tinyml.model_selection import FixedPointRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = FixedPointRegressor(Ridge(alpha=0.1)).fit(X, y)
    >>> abs(model.score(X, y) - model.estimator_.score(X, y)) < 0.01
    True
    """

    _kind = "regressor"
    _is_kind = staticmethod(is_regressor)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        inner = get_tags(self.estimator)
        tags.target_tags.multi_output = inner.target_tags.multi_output
        tags.regressor_tags.poor_score = inner.regressor_tags.poor_score
        return tags


# ---------------------------------------------------------------------------------------------
# Further columns
# ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _BoardScoring:
    """See `board_scoring`."""

    board: Board

    def __call__(self, estimator, X, y=None, sample_weight=None):
        if not isinstance(estimator, _FixedPoint):
            raise TypeError(
                "board_scoring needs a FixedPointClassifier or a FixedPointRegressor. "
                f"Got {estimator!r} instead."
            )
        check_is_fitted(estimator)
        report = estimator._report_on(self.board)
        figures = {name: getattr(report, name) for name in ("flash", "ram", "cycles", "ms")}
        score = estimator.score(X, y, sample_weight=sample_weight)
        return {"score": score, **{f"neg_{name}": _negative(v) for name, v in figures.items()}}


def _negative(value):
    # What does not fit the board cannot be run.
    return math.nan if value is None else -float(value)


def board_scoring(board):
    """Score a fixed-point estimator together with what it takes on a board.

    Parameters
    ----------
    board : str or Board
        One of `tinyml.device.BOARDS`.

    Returns
    -------
    scoring : callable
        ``scoring(estimator, X, y)`` gives ``{"score", "neg_flash", "neg_ram", "neg_cycles",
        "neg_ms"}``, from one measurement however often it is called. Pass it to a search as
        `scoring`, with ``refit="score"``.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.model_selection import GridSearchCV
    >>> from tinyml.model_selection import FixedPointClassifier, board_scoring
    >>> X, y = load_iris(return_X_y=True)
    >>> search = GridSearchCV(
    ...     FixedPointClassifier(LogisticRegression(max_iter=500)),
    ...     {"estimator__C": [0.1, 1.0]},
    ...     scoring=board_scoring("uno"),
    ...     refit="score",
    ... )
    >>> results = search.fit(X, y).cv_results_  # doctest: +SKIP
    >>> results["mean_test_neg_flash"]  # doctest: +SKIP
    """
    return _BoardScoring(get_board(board))
