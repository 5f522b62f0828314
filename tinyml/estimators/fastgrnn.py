"""FastGRNN: a gated recurrent cell whose gate and update share their matrices.

    a = W x_t + U h,  z = gate(a + b_z),  g = bend(a + b_h)
    h <- (zeta (1 - z) + nu) g + z h                               (Kusupati et al., 2018, eq. 2)

with gate(v) = clip((v + 1) / 2, 0, 1) and bend(v) = clip(v, -1, 1), the paper's non-linearities for
integers. A linear head reads the last state. W and U may be products of two thin matrices and
sparse. Two other cells take its place where asked: FastRNN, without a gate, and the GRU.
Top to bottom: the size of a model, the cells and their gradient, the estimators.
"""

import itertools
from numbers import Integral, Real
from typing import ClassVar, NamedTuple

import numpy as np
from scipy.special import expit
from sklearn.utils.validation import check_is_fitted

from ..base import Interval, StrOptions, _fit_context, blas_single_thread
from ..codegen.graph import Affine, Graph, Node
from ..codegen.lower import lower
from ..codegen.sequences import Scan, State, frame_of, steps_before_end
from ..codegen.storage import paper_bytes, smallest_bytes, table_bytes
from ..training import losses, preparation
from ..training import recurrence as cells
from ..training.optimizers import views
from ..training.quantisation import FoldedGrid
from ._sequences import as_rows, n_steps
from ._trained import GradientTrained, TrainedClassifier, TrainedRegressor, auto_noise

N_BLOCKS = {"fastgrnn": 1, "fastrnn": 1, "gru": 3}  # how often W and U have n_hidden rows
N_BIASES = {"fastgrnn": lambda n: 2 * n + 2, "fastrnn": lambda n: n + 2, "gru": lambda n: 4 * n}
_LARGEST_GRADIENT = 1.0
_ROWS_AT_ONCE = 512

# ---------------------------------------------------------------------------------------------
# The size of a model
# ---------------------------------------------------------------------------------------------


class _Structure(NamedTuple):
    """How large the matrices are and how many entries of each may differ from zero."""

    n_hidden: int
    w_shapes: list[tuple[int, int]]
    u_shapes: list[tuple[int, int]]
    w_kept: list[int]
    u_kept: list[int]


class _Sizing(NamedTuple):
    """What data and parameters say about the size of a model; None is free to choose."""

    cell: str
    n_channels: int
    n_outputs: int
    n_hidden: int | None
    w_rank: int | None
    u_rank: int | None
    w_density: float | None
    u_density: float | None

    def unbounded(self):
        """The structure where no size is asked for."""
        return self.structure(self.n_hidden or 32, 1.0)

    def within(self, available):
        """The structure of most states, then of most non-zeros, that fits; None if none does."""
        for n_hidden, density in self.choices():
            structure = self.structure(n_hidden, density)
            if self.bytes(structure) <= available:
                return structure
        return None

    def smallest_bytes(self):
        """Bytes of the plainest structure."""
        *_, (n_hidden, density) = self.choices()
        return self.bytes(self.structure(n_hidden, density))

    def choices(self):
        """Numbers of states and densities to choose from, the plainest last."""
        if self.n_hidden is None:
            return ((n_hidden, 1.0) for n_hidden in range(256, 0, -1))
        return ((self.n_hidden, density) for density in np.linspace(1, 0.02, 99))

    def structure(self, n_hidden, density):
        rows = N_BLOCKS[self.cell] * n_hidden
        shapes = [
            _factors(rows, columns, rank)
            for columns, rank in ((self.n_channels, self.w_rank), (n_hidden, self.u_rank))
        ]
        kept = [
            [max(1, round((density if given is None else given) * r * c)) for r, c in factors]
            for factors, given in zip(shapes, (self.w_density, self.u_density), strict=True)
        ]
        return _Structure(n_hidden, *shapes, *kept)

    def bytes(self, structure):
        """Bytes of all constants, wherever the zeros are."""
        factors = zip(
            structure.w_shapes + structure.u_shapes,
            structure.w_kept + structure.u_kept,
            strict=True,
        )
        matrices = sum(smallest_bytes(shape, kept, 1) for shape, kept in factors)
        n_biases = N_BIASES[self.cell](structure.n_hidden)
        head = table_bytes([np.ones((self.n_outputs, structure.n_hidden)), np.ones(self.n_outputs)])
        return matrices + table_bytes([np.ones(n_biases)]) + head


def _factors(n_rows, n_columns, rank):
    """Shapes of the matrices whose product has `n_rows` and `n_columns`."""
    if rank is None or rank >= min(n_rows, n_columns):
        return [(n_rows, n_columns)]
    return [(n_rows, rank), (rank, n_columns)]


# ---------------------------------------------------------------------------------------------
# The cells and their gradient
# ---------------------------------------------------------------------------------------------

_FORWARD = {
    "fastgrnn": cells.fastgrnn_forward,
    "fastrnn": cells.fastrnn_forward,
    "gru": cells.gru_forward,
}


class _Parameters(NamedTuple):
    """The parts of a model, as views of one flat vector or on their own."""

    W: list
    U: list
    extras: list
    head: np.ndarray
    head_bias: np.ndarray

    @classmethod
    def of(cls, parts, structure):
        """Sort arrays that lie one after the other."""
        n_w, n_u = len(structure.w_shapes), len(structure.u_shapes)
        W, U, extras = parts[:n_w], parts[n_w : n_w + n_u], parts[n_w + n_u : -2]
        return cls(W, U, extras, *parts[-2:])

    def flat(self):
        """All arrays, one after the other."""
        return [*self.W, *self.U, *self.extras, self.head, self.head_bias]


def _product(factors):
    return factors[0] if len(factors) == 1 else factors[0] @ factors[1]


def _share(gradient, factors, shares):
    """Write the gradients by the factors of a product, given that by the product."""
    if len(factors) == 1:
        shares[0][:] = gradient
    else:
        np.dot(gradient, factors[1].T, out=shares[0])
        np.dot(factors[0].T, gradient, out=shares[1])


class _Objective:
    """Loss of a batch and its gradient by the flat vector of W, U, the cell's vectors and the head.

    The two mixing weights of FastGRNN and FastRNN are trained as logits.
    """

    def __init__(self, cell, start, structure, X, counts, targets, weights, loss, noise):
        parts = start.flat()
        shapes = [part.shape for part in parts]
        self.theta = np.concatenate([part.ravel() for part in parts]).astype(np.float32)
        self.gradient = np.empty_like(self.theta)
        self.parameters = _Parameters.of(views(self.theta, shapes), structure)
        self.gradients = _Parameters.of(views(self.gradient, shapes), structure)
        self.cell, self.X, self.counts = cell, X, counts
        self.targets, self.weights, self.loss, self.noise = targets, weights, loss, noise

    def __call__(self, rows):
        counts = self.counts[rows]
        X = self.X[rows, : max(1, counts.max())].transpose(1, 0, 2)
        X = np.ascontiguousarray(X)
        self.noise(X)
        value = self._backward(X, counts, self.targets[rows], self.weights[rows])
        norm = np.linalg.norm(self.gradient)
        if norm > _LARGEST_GRADIENT:
            self.gradient *= np.float32(_LARGEST_GRADIENT / norm)
        return value, self.gradient

    def _backward(self, X, counts, targets, weights):
        """The loss; the gradient is left in `self.gradient`."""
        p, d = self.parameters, self.gradients
        U, extras = _product(p.U), _squashed(self.cell, p.extras)
        inputs, sums, states = _follow(self.cell, X, counts, _product(p.W), U, extras)
        last = states[-1]
        scores = last @ p.head.T + p.head_bias
        d_scores = np.empty_like(scores)
        value = self.loss(scores, targets, weights, d_scores)
        np.dot(d_scores.T, last, out=d.head)
        d.head_bias[:] = d_scores.sum(axis=0)
        d_last = np.dot(d_scores, p.head)
        d_inputs = self._back_in_time(inputs, counts, U, extras, sums, states, d_last)
        n_inputs = X.shape[2]
        d_sums = sums.reshape(-1, sums.shape[2])
        d_W = d_inputs.reshape(-1, sums.shape[2]).T @ X.reshape(-1, n_inputs)
        d_U = d_sums.T @ states[:-1].reshape(len(d_sums), -1)
        _share(d_W, p.W, d.W)
        _share(d_U, p.U, d.U)
        return value

    def _back_in_time(self, inputs, counts, U, extras, sums, states, d_last):
        """The gradient by W x of every step; those by U h + ... are left in `sums`."""
        into = self.gradients.extras
        if self.cell == "gru":
            d_inputs = np.empty_like(sums)
            cells.gru_backward(inputs, counts, U, *extras, sums, states, d_last, d_inputs, *into)
            return d_inputs
        backward = cells.fastgrnn_backward if self.cell == "fastgrnn" else cells.fastrnn_backward
        backward(counts, U, *extras, sums, states, d_last, *into)
        into[-1][:] *= extras[-1] * (1 - extras[-1])
        return sums


def _squashed(cell, extras):
    """The vectors of a cell with mixing weights between 0 and 1 instead of their logits."""
    if cell == "gru":
        return extras
    return [*extras[:-1], expit(extras[-1])]


def _follow(cell, X, counts, W, U, extras):
    """What enters the cell, what its gates read, and its states.

    X has the shape (n_steps, n, n_channels).
    """
    n_steps, n, n_channels = X.shape
    inputs = (X.reshape(-1, n_channels) @ W.T).reshape(n_steps, n, len(W))
    sums = np.empty_like(inputs)
    states = np.zeros((n_steps + 1, n, U.shape[1]), dtype=X.dtype)
    _FORWARD[cell](inputs, counts, U, *extras, sums, states)
    return inputs, sums, states


class _SequenceNoise:
    """Noise on every number of a batch, and on each channel of a whole sequence."""

    def __init__(self, each, offset, largest, n_channels, rng):
        self.each = preparation.Jitter(each, largest * n_channels, rng)
        self.offset, self.rng = np.float32(offset), rng

    def __call__(self, X):
        self.each(X)
        X += self.offset * self.rng.standard_normal(X.shape[1:], dtype=np.float32)


# ---------------------------------------------------------------------------------------------
# The estimators
# ---------------------------------------------------------------------------------------------


class _FastGRNN(GradientTrained):
    """All but the targets, the loss and the reading of the scores."""

    _parameter_constraints: ClassVar[dict] = {
        **GradientTrained._parameter_constraints,
        "n_hidden": [Interval(Integral, 1, None, closed="left"), None],
        "cell": [StrOptions(set(N_BLOCKS))],
        "n_channels": [Interval(Integral, 1, None, closed="left")],
        "w_rank": [Interval(Integral, 1, None, closed="left"), None],
        "u_rank": [Interval(Integral, 1, None, closed="left"), None],
        "w_density": [Interval(Real, 0, 1, closed="right"), None],
        "u_density": [Interval(Real, 0, 1, closed="right"), None],
        "input_noise": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "offset_noise": [Interval(Real, 0, None, closed="left")],
    }
    _finite = "allow-nan"
    _MOST_NOISE = 0.5  # that "auto" gives

    def _rows(self, X):
        return as_rows(X, self.n_channels)

    def _fit_model(self, X, y, weights, loss, n_outputs, unit=1.0, intercept=0.0):
        """Train on standardised channels and fold the standardisation into the result.

        The scores are multiplied by `unit`, and `intercept` is added.
        """
        rng = self._rng()
        weights = (weights / weights.mean()).astype(np.float32)
        T, C = n_steps(X, self.n_channels), self.n_channels
        counts = steps_before_end(X, C)
        self.ends_early_ = bool((counts < T).any())
        mean, scale = self._standardisation(X.reshape(-1, C), counts, weights, T)
        X = np.nan_to_num((X.reshape(len(X), T, C) - mean) / scale).astype(np.float32)
        structure = self._structure(n_outputs)
        start = self._start(structure, n_outputs, rng)
        most = self._largest_batch(len(X)) * T
        noise = _SequenceNoise(self._noise(*X.shape), self.offset_noise, most, C, rng)
        objective = _Objective(self.cell, start, structure, X, counts, y, weights, loss, noise)
        grids = _grids(start, scale, unit)
        self.loss_curve_ = self._descend(
            objective,
            self._step_sizes(start),
            _sparse_parts(start, structure),
            grids,
            len(X),
            rng,
        )
        self.n_iter_ = self.max_iter
        self._keep(objective, start, structure, grids, mean, unit, intercept)

    def _noise(self, n_rows, n_steps, n_channels):
        if self.input_noise != "auto":
            return self.input_noise
        return min(self._MOST_NOISE, 5 / n_steps, auto_noise(n_rows, n_steps * n_channels))

    def _standardisation(self, frames, counts, weights, n_steps):
        """Mean and scale of each channel over the steps that there are."""
        there = (np.arange(n_steps) < counts[:, None]).ravel()
        if not there.any():
            raise ValueError(
                f"{type(self).__name__} needs at least one time step. Got NaN at the beginning of "
                "every sequence."
            )
        return preparation.standardisation(frames[there], np.repeat(weights, n_steps)[there])

    def _structure(self, n_outputs):
        sizing = _Sizing(
            self.cell,
            self.n_channels,
            n_outputs,
            self.n_hidden,
            self.w_rank,
            self.u_rank,
            self.w_density,
            self.u_density,
        )
        if self.max_bytes is None:
            return sizing.unbounded()
        structure = sizing.within(self.max_bytes)
        if structure is None:
            self._refuse_budget(sizing.smallest_bytes())
        return structure

    def _start(self, structure, n_outputs, rng):
        """All parameters before training; gates begin open to the past."""
        n_hidden = structure.n_hidden
        W = _random(structure.w_shapes, 1.0, rng)
        U = _random(structure.u_shapes, 0.5, rng)
        zero, one = np.zeros(n_hidden), np.ones(n_hidden)
        extras = {
            "fastgrnn": [one, zero, np.array([1.0, -4.0])],
            "fastrnn": [zero, np.array([-3.0, 3.0])],
            "gru": [np.concatenate([zero, one, zero]), zero],
        }[self.cell]
        head = rng.standard_normal((n_outputs, n_hidden)) / np.sqrt(n_hidden)
        return _Parameters(W, U, extras, head, np.zeros(n_outputs))

    def _step_sizes(self, start):
        """A step is relative to the size a matrix starts with, of a vector to that of gates."""
        sizes = [np.sqrt(np.mean(part**2)) if part.ndim == 2 else 0.3 for part in start.flat()]
        counts = [part.size for part in start.flat()]
        return self.learning_rate * np.repeat(sizes, counts).astype(np.float32)

    def _keep(self, objective, start, structure, grids, mean, unit, intercept):
        """Set the attributes of the model, in units of the user's channels and targets."""
        theta, p = objective.theta, objective.parameters
        matrices = [*start.W, *start.U, start.head]
        folded = [
            grid.folded(theta).reshape(matrix.shape)
            for grid, matrix in zip(grids, matrices, strict=True)
        ]
        n_w = len(start.W)
        self.W_factors_, self.U_factors_, self.coef_ = folded[:n_w], folded[n_w:-1], folded[-1]
        self.W_, self.U_ = _product(self.W_factors_), _product(self.U_factors_)
        shift = self.W_ @ mean
        extras = [np.asarray(part, dtype=np.float64) for part in _squashed(self.cell, p.extras)]
        if self.cell == "gru":
            self.bias_, self.inner_bias_ = extras[0] - shift, extras[1]
        elif self.cell == "fastgrnn":
            self.gate_bias_, self.update_bias_ = extras[0] - shift, extras[1] - shift
            self.zeta_, self.nu_ = map(float, extras[2])
        else:
            self.bias_ = extras[0] - shift
            self.alpha_, self.beta_ = map(float, extras[1])
        self.intercept_ = unit * np.asarray(p.head_bias, dtype=np.float64) + intercept
        self.W_grids_ = [_grid_of(g, m) for g, m in zip(grids[:n_w], start.W, strict=True)]
        self.U_grids_ = [_grid_of(g, m) for g, m in zip(grids[n_w:-1], start.U, strict=True)]
        self.coef_grid_ = _grid_of(grids[-1], start.head)
        self._count_bytes()

    def _extras(self):
        """The vectors of the cell, as its kernels take them."""
        if self.cell == "gru":
            return [self.bias_, self.inner_bias_]
        if self.cell == "fastgrnn":
            return [self.gate_bias_, self.update_bias_, np.array([self.zeta_, self.nu_])]
        return [self.bias_, np.array([self.alpha_, self.beta_])]

    def _count_bytes(self):
        arrays = [*self.W_factors_, *self.U_factors_, *self._extras(), self.coef_, self.intercept_]
        self.n_model_bytes_ = table_bytes(arrays)
        self.paper_size_ = paper_bytes(arrays)

    def _scores(self, X):
        check_is_fitted(self)
        X = np.asarray(self._checked(X, reset=False), dtype=np.float64)
        counts = steps_before_end(X, self.n_channels)
        X = np.nan_to_num(X).reshape(len(X), -1, self.n_channels)
        scores = np.empty((len(X), len(self.coef_)))
        for start in range(0, len(X), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            frames = np.ascontiguousarray(X[rows].transpose(1, 0, 2))
            _, _, states = _follow(
                self.cell, frames, counts[rows], self.W_, self.U_, self._extras()
            )
            scores[rows] = states[-1] @ self.coef_.T + self.intercept_
        return scores

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


def _random(shapes, gain, rng):
    """One or two matrices whose product maps unit vectors to vectors of elements of size `gain`."""
    if len(shapes) == 1:
        ((_, columns),) = shapes
        return [gain / np.sqrt(columns) * rng.standard_normal(shapes[0])]
    (_, rank), (_, columns) = shapes
    sizes = np.sqrt(gain / np.sqrt(columns * rank)) * np.ones(2)
    return [size * rng.standard_normal(shape) for size, shape in zip(sizes, shapes, strict=True)]


def _sparse_parts(start, structure):
    """Where the factors of W and U are in the flat vector, each with its number of entries."""
    return list(zip(_slices(start)[:-1], structure.w_kept + structure.u_kept, strict=True))


def _slices(start):
    """Where the matrices are in the flat vector: the factors of W and U, and the head."""
    ends = np.cumsum([0, *(part.size for part in start.flat())])
    parts = [slice(a, b) for a, b in itertools.pairwise(ends)]
    n_factors = len(start.W) + len(start.U)
    return [*parts[:n_factors], parts[-2]]


def _grids(start, scale, unit):
    """Grids of all matrices; the last factor of W is divided by `scale` after training."""
    scales = [1.0] * (len(start.W) + len(start.U))
    scales[len(start.W) - 1] = np.tile(scale, len(start.W[-1]))
    return list(map(FoldedGrid, _slices(start), [*scales, 1 / unit]))


def _grid_of(grid, matrix):
    """Fractional bits of the columns of a matrix, or one number where all have the same."""
    frac = np.broadcast_to(grid.folded_frac, matrix.size)[: matrix.shape[1]]
    return int(frac[0]) if np.all(frac == frac[0]) else frac


class FastGRNNClassifier(TrainedClassifier, _FastGRNN):
    """A small recurrent network for classifying sequences.

    A cell reads the time steps of a sequence one after the other and keeps `n_hidden` states; the
    scores are ``coef_ @ h + intercept_`` with the states h after the last step [1]_.

    Parameters
    ----------
    n_hidden : int, default=None
        Number of states. None means 32, or as many as `max_bytes` allows.
    cell : {"fastgrnn", "fastrnn", "gru"}, default="fastgrnn"
        What replaces the states in each step. With ``a = W x + U h``, "fastgrnn" is
        ``(zeta (1 - z) + nu) g + z h`` with ``z = gate(a + b_z)`` and ``g = bend(a + b_h)``;
        "fastrnn" is ``alpha bend(a + b) + beta h``; "gru" has three such W and U, for
        ``(1 - z) g + z h`` with ``g = bend(W x + b + r (U h + c))`` and two gates r and z [2]_. All
        use ``gate(v) = clip((v + 1) / 2, 0, 1)`` and ``bend(v) = clip(v, -1, 1)``.
    n_channels : int, default=1
        Numbers in one time step; the number of features is a multiple of it.
    w_rank, u_rank : int, default=None
        Rank of W and U, which are then stored as products of two matrices. None means full rank.
    w_density, u_density : float, default=None
        Share of the entries of W and U (of each factor) that are not zero, reached exactly but for
        constant channels. None means 1, or with `n_hidden` given as much as `max_bytes` allows.
    max_bytes : int, default=None
        Bound of `n_model_bytes_`. What is left at None above is chosen for it.
    loss : {"cross_entropy", "hinge"}, default="cross_entropy"
        What is minimised: the negative log-likelihood of the softmax of the scores, or by how much
        the score of the class fails to exceed the best other one by 1, which knows no
        probabilities.
    input_noise : float or "auto", default="auto"
        Standard deviation of the Gaussian noise added to every number while training, in standard
        deviations of its channel. It pays where sequences are short and few: "auto" means
        ``min(0.5, 5 / n_steps, 2 * sqrt(n_features / n_samples))``.
    offset_noise : float, default=0.1
        The same for noise that is added to a channel in all steps of a sequence alike. More than
        the default pays where sensors are worn or calibrated differently from one recording to the
        next, none where the level of a channel carries the information.
    learning_rate : float, default=0.05
        Highest step size of Adam, relative to the size of the values a matrix starts with. It
        rises during the first tenth of training and then falls to zero by a cosine.
    max_iter : int, default=100
        Number of passes over the rows. Entries of sparse matrices become zero gradually between
        0.1 and 0.6 of training, the rest goes on with the zeros fixed. From 0.8 on all matrices
        are rounded to 8 bits, as they are stored on a device, and learn to make up for it.
    batch_size : int or "auto", default="auto"
        Rows in a step; "auto" means a tenth of the rows, but at least 8 and at most 128.
    class_weight : dict, "balanced" or None, default=None
        Weight of each class; "balanced" makes their total weights equal.
    verbose : bool or int, default=False
        Show a progress bar on stderr.
    random_state : int, RandomState instance or None, default=None
        Draws the matrices to start with, the order of the rows, and the noise.

    Attributes
    ----------
    W_ : ndarray of shape (n_blocks * n_hidden, n_channels)
        W, with the standardisation of the channels folded in. The GRU's three gates r, z and g lie
        below one another; the other cells have ``n_blocks = 1``.
    U_ : ndarray of shape (n_blocks * n_hidden, n_hidden)
        U.
    W_factors_, U_factors_ : list of ndarray
        The one or two matrices whose product `W_` and `U_` are.
    gate_bias_, update_bias_ : ndarray of shape (n_hidden,)
        b_z and b_h of FastGRNN, with the mean of the channels folded in.
    zeta_, nu_ : float
        Mixing weights of FastGRNN.
    bias_ : ndarray of shape (n_blocks * n_hidden,)
        b of FastRNN and the GRU, with the mean of the channels folded in.
    alpha_, beta_ : float
        Mixing weights of FastRNN.
    inner_bias_ : ndarray of shape (n_hidden,)
        c of the GRU.
    coef_ : ndarray of shape (n_outputs, n_hidden)
        Weights of the head: one row per class, or a single one if there are two classes.
    intercept_ : ndarray of shape (n_outputs,)
        What is added.
    W_grids_, U_grids_ : list of int or ndarray
        ``factor * 2.0**grid`` are whole numbers within ±127, for each factor and its grid, which is
        one number or one for each column.
    coef_grid_ : int
        So are ``coef_ * 2.0**coef_grid_``.
    classes_ : ndarray of shape (n_classes,)
        The classes.
    ends_early_ : bool
        Whether a training sequence ended before its last step.
    n_features_in_ : int
        Number of features seen in fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, if `X` had string names only.
    n_iter_ : int
        Number of passes over the rows.
    loss_curve_ : list of float
        Mean loss of each pass.
    n_model_bytes_ : int
        Bytes of all constants in their smallest storage with 8-bit values.
    paper_size_ : int
        Bytes by the rule of the paper, 4 per entry or 8 per non-zero entry, for comparisons.

    See Also
    --------
    FastGRNNRegressor : The same model for numbers.
    SequenceScaler : Standardises the channels of sequences.

    Notes
    -----
    A row holds the time steps one after the other, each with all its channels; an array of shape
    (n_samples, n_steps, n_channels) is taken as well. A sequence ends before its first step that is
    NaN in every channel; what follows is ignored.

    Channels need no scaling: they are standardised inside `fit`, and the result is folded into W
    and the biases.

    Training differs from the paper where that gives better models of the same size: the gates are
    piecewise linear from the beginning, entries become zero gradually, noise is added to the
    sequences, and the head is trained with the cell. Where memory is short a GRU of fewer states
    may do better than a FastGRNN of the same size; it costs about three times the work per state.

    Batches depend on the order of rows: `sample_weight` multiplies the loss of a row and is
    equivalent to repeating it in expectation only.

    References
    ----------
    .. [1] A. Kusupati et al., "FastGRNN: A Fast, Accurate, Stable and Tiny Kilobyte Sized Gated
       Recurrent Neural Network", NeurIPS 2018.
    .. [2] K. Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder for Statistical
       Machine Translation", EMNLP 2014.

    Examples
    --------
    Digits as sequences of eight rows of eight pixels:

    >>> from sklearn.datasets import load_digits
    >>> from sklearn.model_selection import train_test_split
    >>> from tinyml.estimators import FastGRNNClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
    >>> model = FastGRNNClassifier(n_channels=8, max_bytes=1024, random_state=0)
    >>> model.fit(X_train, y_train).n_model_bytes_ <= 1024
    True
    >>> model.score(X_test, y_test) > 0.93
    True
    """

    _parameter_constraints: ClassVar[dict] = {
        **_FastGRNN._parameter_constraints,
        **TrainedClassifier._parameter_constraints,
        "loss": [StrOptions({"cross_entropy", "hinge"})],
    }

    def __init__(
        self,
        n_hidden=None,
        *,
        cell="fastgrnn",
        n_channels=1,
        w_rank=None,
        u_rank=None,
        w_density=None,
        u_density=None,
        max_bytes=None,
        loss="cross_entropy",
        input_noise="auto",
        offset_noise=0.1,
        learning_rate=0.05,
        max_iter=100,
        batch_size="auto",
        class_weight=None,
        verbose=False,
        random_state=None,
    ):
        self.n_hidden = n_hidden
        self.cell = cell
        self.n_channels = n_channels
        self.w_rank = w_rank
        self.u_rank = u_rank
        self.w_density = w_density
        self.u_density = u_density
        self.max_bytes = max_bytes
        self.loss = loss
        self.input_noise = input_noise
        self.offset_noise = offset_noise
        self.learning_rate = learning_rate
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.class_weight = class_weight
        self.verbose = verbose
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Fit the model.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_steps * n_channels)
            Training sequences, or an array of shape (n_samples, n_steps, n_channels).
        y : array-like of shape (n_samples,)
            Their classes.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row; a row of weight 0 counts as absent.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        X, codes, weights = self._read(X, y, sample_weight)
        with blas_single_thread():
            self._fit_model(X, codes, weights, self._loss(), self._n_outputs)
        return self


class FastGRNNRegressor(TrainedRegressor, _FastGRNN):
    """A small recurrent network that predicts a number from a sequence.

    A cell reads the time steps of a sequence one after the other and keeps `n_hidden` states; the
    prediction is ``coef_ @ h + intercept_`` with the states h after the last step [1]_. The squared
    error is minimised.

    Parameters
    ----------
    n_hidden : int, default=None
        Number of states. None means 32, or as many as `max_bytes` allows.
    cell : {"fastgrnn", "fastrnn", "gru"}, default="fastgrnn"
        What replaces the states in each step. With ``a = W x + U h``, "fastgrnn" is
        ``(zeta (1 - z) + nu) g + z h`` with ``z = gate(a + b_z)`` and ``g = bend(a + b_h)``;
        "fastrnn" is ``alpha bend(a + b) + beta h``; "gru" has three such W and U, for
        ``(1 - z) g + z h`` with ``g = bend(W x + b + r (U h + c))`` and two gates r and z [2]_. All
        use ``gate(v) = clip((v + 1) / 2, 0, 1)`` and ``bend(v) = clip(v, -1, 1)``.
    n_channels : int, default=1
        Numbers in one time step; the number of features is a multiple of it.
    w_rank, u_rank : int, default=None
        Rank of W and U, which are then stored as products of two matrices. None means full rank.
    w_density, u_density : float, default=None
        Share of the entries of W and U (of each factor) that are not zero, reached exactly but for
        constant channels. None means 1, or with `n_hidden` given as much as `max_bytes` allows.
    max_bytes : int, default=None
        Bound of `n_model_bytes_`. What is left at None above is chosen for it.
    input_noise : float or "auto", default="auto"
        Standard deviation of the Gaussian noise added to every number while training, in standard
        deviations of its channel. It pays where sequences are short and few: "auto" means
        ``min(0.1, 5 / n_steps, 2 * sqrt(n_features / n_samples))``.
    offset_noise : float, default=0.1
        The same for noise that is added to a channel in all steps of a sequence alike. More than
        the default pays where sensors are worn or calibrated differently from one recording to the
        next, none where the level of a channel carries the information.
    learning_rate : float, default=0.05
        Highest step size of Adam, relative to the size of the values a matrix starts with. It
        rises during the first tenth of training and then falls to zero by a cosine.
    max_iter : int, default=100
        Number of passes over the rows. Entries of sparse matrices become zero gradually between
        0.1 and 0.6 of training, the rest goes on with the zeros fixed. From 0.8 on all matrices
        are rounded to 8 bits, as they are stored on a device, and learn to make up for it.
    batch_size : int or "auto", default="auto"
        Rows in a step; "auto" means a tenth of the rows, but at least 8 and at most 128.
    verbose : bool or int, default=False
        Show a progress bar on stderr.
    random_state : int, RandomState instance or None, default=None
        Draws the matrices to start with, the order of the rows, and the noise.

    Attributes
    ----------
    W_ : ndarray of shape (n_blocks * n_hidden, n_channels)
        W, with the standardisation of the channels folded in. The GRU's three gates r, z and g lie
        below one another; the other cells have ``n_blocks = 1``.
    U_ : ndarray of shape (n_blocks * n_hidden, n_hidden)
        U.
    W_factors_, U_factors_ : list of ndarray
        The one or two matrices whose product `W_` and `U_` are.
    gate_bias_, update_bias_ : ndarray of shape (n_hidden,)
        b_z and b_h of FastGRNN, with the mean of the channels folded in.
    zeta_, nu_ : float
        Mixing weights of FastGRNN.
    bias_ : ndarray of shape (n_blocks * n_hidden,)
        b of FastRNN and the GRU, with the mean of the channels folded in.
    alpha_, beta_ : float
        Mixing weights of FastRNN.
    inner_bias_ : ndarray of shape (n_hidden,)
        c of the GRU.
    coef_ : ndarray of shape (1, n_hidden)
        Weights of the head, in units of the target.
    intercept_ : ndarray of shape (1,)
        What is added.
    W_grids_, U_grids_ : list of int or ndarray
        ``factor * 2.0**grid`` are whole numbers within ±127, for each factor and its grid, which is
        one number or one for each column.
    coef_grid_ : int
        So are ``coef_ * 2.0**coef_grid_``.
    ends_early_ : bool
        Whether a training sequence ended before its last step.
    n_features_in_ : int
        Number of features seen in fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, if `X` had string names only.
    n_iter_ : int
        Number of passes over the rows.
    loss_curve_ : list of float
        Mean loss of each pass.
    n_model_bytes_ : int
        Bytes of all constants in their smallest storage with 8-bit values.
    paper_size_ : int
        Bytes by the rule of the paper, 4 per entry or 8 per non-zero entry, for comparisons.

    See Also
    --------
    FastGRNNClassifier : The same model for classes.
    SequenceScaler : Standardises the channels of sequences.

    Notes
    -----
    A row holds the time steps one after the other, each with all its channels; an array of shape
    (n_samples, n_steps, n_channels) is taken as well. A sequence ends before its first step that is
    NaN in every channel; what follows is ignored.

    Channels need no scaling: they are standardised inside `fit`, and the result is folded into W
    and the biases.

    Training differs from the paper where that gives better models of the same size: the gates are
    piecewise linear from the beginning, entries become zero gradually, noise is added to the
    sequences, and the head is trained with the cell. Where memory is short a GRU of fewer states
    may do better than a FastGRNN of the same size; it costs about three times the work per state.

    Batches depend on the order of rows: `sample_weight` multiplies the loss of a row and is
    equivalent to repeating it in expectation only.

    References
    ----------
    .. [1] A. Kusupati et al., "FastGRNN: A Fast, Accurate, Stable and Tiny Kilobyte Sized Gated
       Recurrent Neural Network", NeurIPS 2018.
    .. [2] K. Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder for Statistical
       Machine Translation", EMNLP 2014.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.estimators import FastGRNNRegressor
    >>> rng = np.random.default_rng(0)
    >>> X = rng.uniform(size=(500, 12))
    >>> y = X.mean(axis=1)
    >>> model = FastGRNNRegressor(n_hidden=4, random_state=0).fit(X[:400], y[:400])
    >>> model.score(X[400:], y[400:]) > 0.9
    True
    """

    _MOST_NOISE = 0.1

    def __init__(
        self,
        n_hidden=None,
        *,
        cell="fastgrnn",
        n_channels=1,
        w_rank=None,
        u_rank=None,
        w_density=None,
        u_density=None,
        max_bytes=None,
        input_noise="auto",
        offset_noise=0.1,
        learning_rate=0.05,
        max_iter=100,
        batch_size="auto",
        verbose=False,
        random_state=None,
    ):
        self.n_hidden = n_hidden
        self.cell = cell
        self.n_channels = n_channels
        self.w_rank = w_rank
        self.u_rank = u_rank
        self.w_density = w_density
        self.u_density = u_density
        self.max_bytes = max_bytes
        self.input_noise = input_noise
        self.offset_noise = offset_noise
        self.learning_rate = learning_rate
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.verbose = verbose
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Fit the model.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_steps * n_channels)
            Training sequences, or an array of shape (n_samples, n_steps, n_channels).
        y : array-like of shape (n_samples,)
            Their values.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row; a row of weight 0 counts as absent.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        X, y, weights, mean, scale = self._read(X, y, sample_weight)
        targets = ((y - mean) / scale)[:, None].astype(np.float32)
        with blas_single_thread():
            self._fit_model(X, targets, weights, losses.squared, 1, scale, mean)
        return self


# ---------------------------------------------------------------------------------------------
# Lowering
# ---------------------------------------------------------------------------------------------


def _thinned(x: Node, factors, grids) -> Node:
    """Multiply by all factors of a matrix but the first."""
    for factor, grid in zip(factors[1:], grids[1:], strict=True):
        x = Affine(x, factor, grid=grid)
    return x


def _multiplied(x: Node, factors, grids, bias=0.0) -> Node:
    """Multiply by a matrix and add the bias."""
    return Affine(_thinned(x, factors, grids), factors[0], bias, grids[0])


def _gate(x: Node) -> Node:
    return ((x + 1.0) * 0.5).clip(0, 1)


def _bend(x: Node) -> Node:
    return x.clip(-1, 1)


def _fastgrnn(model: _FastGRNN, x: Node, h: Node) -> Node:
    """H' = z (h - zeta g) + (zeta + nu) g, which reads z only once."""
    a = _multiplied(x, model.W_factors_, model.W_grids_)
    a = a + _multiplied(h, model.U_factors_, model.U_grids_, model.update_bias_)
    z, g = _gate(a + (model.gate_bias_ - model.update_bias_)), _bend(a)
    return z * (h + g * -model.zeta_) + g * (model.zeta_ + model.nu_)


def _fastrnn(model: _FastGRNN, x: Node, h: Node) -> Node:
    a = _multiplied(x, model.W_factors_, model.W_grids_)
    a = a + _multiplied(h, model.U_factors_, model.U_grids_, model.bias_)
    return _bend(a) * model.alpha_ + h * model.beta_


def _gru(model: _FastGRNN, x: Node, h: Node) -> Node:
    """H' = g + z (h - g); the matrices are cut into the rows of r, z and g."""
    n = h.size
    outer = np.concatenate([np.zeros(2 * n), model.bias_[2 * n :]])
    inner = np.concatenate([model.bias_[: 2 * n], model.inner_bias_])
    from_x = _in_parts(x, model.W_factors_, model.W_grids_, outer)
    from_h = _in_parts(h, model.U_factors_, model.U_grids_, inner)
    r, z = (_gate(a + b) for a, b in zip(from_x[:2], from_h[:2], strict=True))
    g = _bend(from_x[2] + r * from_h[2])
    return z * (h + g * -1.0) + g


def _in_parts(x: Node, factors, grids, bias) -> list[Node]:
    """Multiply by the three parts of a matrix and add those of the bias."""
    x = _thinned(x, factors, grids)
    parts = zip(np.split(factors[0], 3), np.split(bias, 3), strict=True)
    return [Affine(x, rows, b, grids[0]) for rows, b in parts]


_CELLS = {"fastgrnn": _fastgrnn, "fastrnn": _fastrnn, "gru": _gru}


def _lower(model: _FastGRNN, x: Node) -> Node:
    """Write the model as a loop over the time steps and a product with the last state."""
    h = State(model.U_.shape[1])
    frame = frame_of(x, model.n_channels, model.ends_early_)
    after = _CELLS[model.cell](model, frame, h)
    states = Scan((h,), (after,), x.size // model.n_channels)
    return Affine(states, model.coef_, model.intercept_, model.coef_grid_)


@lower.register
def _(model: FastGRNNClassifier, g: Graph, x: Node) -> Node:
    if model.loss == "cross_entropy":
        g.link = "expit" if len(model.classes_) == 2 else "softmax"
    return _lower(model, x)


@lower.register
def _(model: FastGRNNRegressor, g: Graph, x: Node) -> Node:
    return _lower(model, x)
