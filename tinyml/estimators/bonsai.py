"""Bonsai: a shallow tree in a learned low-dimensional space, each of whose nodes predicts.

    score(x) = sum_k (W_k z) * clip(V_k z, -1, 1) over the nodes k on the path of z = Z x + c

This is equation 1 of Kumar et al. (2017), with the tanh of the paper's microcontrollers. Z, W, V
and the hyperplanes theta that choose the path are learned together.
Top to bottom: the size of a model, the tree and its gradient, the estimators.
"""

import itertools
from numbers import Integral, Real
from typing import ClassVar, NamedTuple

import numpy as np
from numba import njit
from sklearn.utils.validation import check_is_fitted

from ..base import Interval, StrOptions, _fit_context, blas_single_thread
from ..codegen.graph import Affine, Child, Chosen, Graph, Node
from ..codegen.lower import lower
from ..codegen.sequences import Held, Scan, State
from ..codegen.storage import max_nonzero, paper_bytes, smallest_bytes, table_bytes
from ..training import losses, preparation
from ..training.optimizers import views
from ..training.quantisation import FoldedGrid
from ._trained import GradientTrained, TrainedClassifier, TrainedRegressor, auto_noise

# ---------------------------------------------------------------------------------------------
# The size of a model
# ---------------------------------------------------------------------------------------------


class _Structure(NamedTuple):
    """How large the matrices are and how many of their entries may differ from zero."""

    n_components: int
    depth: int
    kept_projection: int
    kept_tree: int


class _Sizing(NamedTuple):
    """What data and parameters say about the size of a model; None is free to choose."""

    n_features: int
    n_outputs: int
    n_components: int | None
    depth: int | None
    projection_density: float | None
    tree_density: float | None

    def unbounded(self):
        """The structure where no size is asked for."""
        n_components = min(self.n_components or 10, self.n_features + 1)
        depth = 3 if self.depth is None else self.depth
        return self.structure(n_components, depth, n_components * self.n_features)

    def within(self, available):
        """The deepest, then widest structure that leaves half of `available` to the projection.

        Where there is none, the plainest; None if that does not fit either.
        """
        for n_components, depth in self.pairs():
            room = available - self.other_bytes(n_components, depth)
            size = n_components * self.n_features
            kept = max_nonzero((n_components, self.n_features), room, 1)
            if kept >= self.least(n_components) and (2 * room >= available or kept == size):
                break
        fits = kept >= self.least(n_components)
        return self.structure(n_components, depth, kept) if fits else None

    def smallest_bytes(self):
        """Bytes of the plainest structure."""
        *_, (n_components, depth) = self.pairs()
        shape = (n_components, self.n_features)
        projection = smallest_bytes(shape, self.least(n_components), 1)
        return projection + self.other_bytes(n_components, depth)

    def pairs(self):
        """Numbers of components and depths to choose from, the plainest last.

        A tree of depth 1, 2 or 3 pays only in 7, 14 or 28 dimensions, of one output in 4, 8 or 16,
        or in as many as there are: of less room a wider space makes more. These numbers did best
        in cross-validation on digits, usps, letter and magic_gamma.
        """
        most, first = self.n_features + 1, 4 if self.n_outputs == 1 else 7
        widths = range(min(28, most), 0, -1)
        if self.n_components is not None:
            widths = [min(self.n_components, most)]
        for depth in (3, 2, 1, 0) if self.depth is None else (self.depth,):
            least = 1 if depth in (0, self.depth) else min(first * 2 ** (depth - 1), most)
            yield from ((width, depth) for width in widths if width >= least)

    def least(self, n_components):
        """Non-zeros that the projection must have: those asked for, else one per component."""
        if self.projection_density is None:
            return n_components
        return max(1, round(self.projection_density * n_components * self.n_features))

    def other_bytes(self, n_components, depth):
        """Bytes of the tree and of the bias of the projection."""
        kept = self.kept_tree(n_components, depth)
        predictors = smallest_bytes((_n_nodes(depth) * self.n_outputs, n_components), kept, 1)
        hyperplanes = np.ones((_n_internal(depth), n_components))
        return 2 * predictors + table_bytes([hyperplanes, np.zeros(n_components)])

    def kept_tree(self, n_components, depth):
        """Non-zeros of W, and as many of V."""
        size = _n_nodes(depth) * self.n_outputs * n_components
        return size if self.tree_density is None else max(1, round(self.tree_density * size))

    def structure(self, n_components, depth, kept):
        if self.projection_density is not None:
            kept = self.least(n_components)
        return _Structure(n_components, depth, kept, self.kept_tree(n_components, depth))


def _n_nodes(depth):
    return 2 ** (depth + 1) - 1


def _n_internal(depth):
    return 2**depth - 1


# ---------------------------------------------------------------------------------------------
# The tree and its gradient
# ---------------------------------------------------------------------------------------------


@njit(cache=True)
def _forward(products, sharpness, n_nodes, gates, reach, scores):
    """Scores of a soft tree, whose nodes count as far as a row reaches them.

    `products` (n, 2 n_nodes L + n_internal) are those of z with W, V and theta. Node k passes the
    share (1 + gate) / 2 of what reaches it to node 2k+1 and the rest to node 2k+2, where
    gate = tanh(sharpness_k theta_k z).
    """
    n, n_outputs = scores.shape
    half = n_nodes * n_outputs
    for i in range(n):
        reach[i, 0] = 1.0
        for k in range(sharpness.size):
            gate = np.tanh(sharpness[k] * products[i, 2 * half + k])
            gates[i, k] = gate
            reach[i, 2 * k + 1] = reach[i, k] * np.float32(0.5) * (1 + gate)
            reach[i, 2 * k + 2] = reach[i, k] * np.float32(0.5) * (1 - gate)
        scores[i] = 0.0
        for k in range(n_nodes):
            if reach[i, k] == 0:
                continue
            for c in range(n_outputs):
                j = k * n_outputs + c
                bend = min(max(products[i, half + j], np.float32(-1.0)), np.float32(1.0))
                scores[i, c] += reach[i, k] * products[i, j] * bend


@njit(cache=True)
def _backward(products, sharpness, n_nodes, gates, reach, d_scores, d_reach):
    """Overwrite `products` by the gradient by them."""
    n, n_outputs = d_scores.shape
    half = n_nodes * n_outputs
    for i in range(n):
        for k in range(n_nodes):
            d_reach[k] = 0.0
            if reach[i, k] == 0:  # then the gate before it is closed and passes no gradient
                products[i, k * n_outputs : (k + 1) * n_outputs] = 0.0
                products[i, half + k * n_outputs : half + (k + 1) * n_outputs] = 0.0
                continue
            for c in range(n_outputs):
                j = k * n_outputs + c
                w, v = products[i, j], products[i, half + j]
                bend = min(max(v, np.float32(-1.0)), np.float32(1.0))
                d_reach[k] += d_scores[i, c] * w * bend
                products[i, j] = d_scores[i, c] * reach[i, k] * bend
                products[i, half + j] = d_scores[i, c] * reach[i, k] * w if bend == v else 0.0
        for k in range(sharpness.size - 1, -1, -1):
            gate, left, right = gates[i, k], d_reach[2 * k + 1], d_reach[2 * k + 2]
            d_reach[k] += np.float32(0.5) * ((1 + gate) * left + (1 - gate) * right)
            d_gate = np.float32(0.5) * reach[i, k] * (left - right)
            products[i, 2 * half + k] = d_gate * (1 - gate * gate) * sharpness[k]


class _Objective:
    """Loss of a batch and its gradient by the flat vector of Z, c, W, V and theta.

    The tree is soft at first and hardens with every batch: `sharpness` grows exponentially from
    `SOFT` to `HARD`, in units of the mean distance of the rows from each hyperplane.
    """

    SOFT, HARD, HARD_FROM = 0.3, 100.0, 0.8

    def __init__(self, parameters, X, targets, weights, loss, jitter, n_steps):
        self.theta = np.concatenate([part.ravel() for part in parameters]).astype(np.float32)
        self.gradient = np.empty_like(self.theta)
        self.shapes = [part.shape for part in parameters]
        self.parameters = views(self.theta, self.shapes)
        self.gradients = views(self.gradient, self.shapes)
        Z, c, W, _, theta = parameters
        self.n_nodes, self.n_outputs = W.shape[:2]
        # W, V and theta follow each other: one matrix multiplies z
        tree = [(Z.size,), (c.size,), (2 * self.n_nodes * self.n_outputs + len(theta), len(Z))]
        self.tree, self.d_tree = views(self.theta, tree)[2], views(self.gradient, tree)[2]
        self.sharpness = np.ones(len(theta), dtype=np.float32)
        self.X, self.targets, self.weights = X, targets, weights
        self.loss, self.jitter = loss, jitter
        self.step, self.n_steps = 0, n_steps

    def __call__(self, rows):
        X = self.X[rows]
        self.jitter(X)
        Z, c = self.parameters[:2]
        z = np.dot(X, Z.T)
        z += c
        products = np.dot(z, self.tree.T)
        self._harden(products[:, products.shape[1] - self.sharpness.size :])
        return self._descent(X, z, products, self.targets[rows], self.weights[rows]), self.gradient

    def _harden(self, distances):
        t = self.step / (self.HARD_FROM * self.n_steps)
        self.step += 1
        if distances.size:
            mean = np.abs(distances).mean(axis=0) + np.float32(1e-12)
            sharpness = self.SOFT * (self.HARD / self.SOFT) ** t if t < 1 else 1e6
            self.sharpness = (sharpness / mean).astype(np.float32)

    def _descent(self, X, z, products, targets, weights):
        """The loss; the gradient is left in `self.gradient`."""
        n = len(X)
        gates = np.empty((n, self.sharpness.size), dtype=np.float32)
        reach = np.empty((n, self.n_nodes), dtype=np.float32)
        scores, d_scores = np.empty((2, n, self.n_outputs), dtype=np.float32)
        _forward(products, self.sharpness, self.n_nodes, gates, reach, scores)
        value = self.loss(scores, targets, weights, d_scores)
        d_reach = np.empty(self.n_nodes, dtype=np.float32)
        _backward(products, self.sharpness, self.n_nodes, gates, reach, d_scores, d_reach)
        np.dot(products.T, z, out=self.d_tree)
        d_z = np.dot(products, self.tree)
        np.dot(d_z.T, X, out=self.gradients[0])
        self.gradients[1][:] = d_z.sum(axis=0)
        return value


def _step_sizes(parameters, learning_rate):
    """A step of each parameter is relative to the size its array starts with, of c to that of z."""
    sizes = [np.sqrt(np.mean(part**2)) if part.size else 0.0 for part in parameters]
    sizes[1] = 1.0
    counts = [part.size for part in parameters]
    return learning_rate * np.repeat(sizes, counts).astype(np.float32)


def _sparse_parts(parameters, structure):
    """Where Z, W and V are in the flat vector, each with its number of entries to keep."""
    Z, c, W, V, _ = parameters
    first = Z.size + c.size
    return [
        (slice(0, Z.size), structure.kept_projection),
        (slice(first, first + W.size), structure.kept_tree),
        (slice(first + W.size, first + W.size + V.size), structure.kept_tree),
    ]


def _grids(parameters, scale, unit):
    """Grids of Z, whose columns are divided by `scale` after training, of W times `unit`, V, theta.

    c is no table: it is added to sums, with as many bits as these have.
    """
    Z, c, W, V, theta = parameters
    ends = np.cumsum([0, Z.size, c.size, W.size, V.size, theta.size])
    parts = [slice(start, stop) for start, stop in itertools.pairwise(ends)]
    del parts[1]
    grids = map(FoldedGrid, parts, [np.tile(scale, len(Z)), 1 / unit, 1.0, 1.0])
    return [grid for grid in grids if grid.part.stop > grid.part.start]


# ---------------------------------------------------------------------------------------------
# The estimators
# ---------------------------------------------------------------------------------------------


class _Bonsai(GradientTrained):
    """All but the targets, the loss and the reading of the scores."""

    _parameter_constraints: ClassVar[dict] = {
        **GradientTrained._parameter_constraints,
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "depth": [Interval(Integral, 0, 10, closed="both"), None],
        "projection_density": [Interval(Real, 0, 1, closed="right"), None],
        "tree_density": [Interval(Real, 0, 1, closed="right"), None],
        "input_noise": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "n_restarts": [Interval(Integral, 1, None, closed="left")],
    }

    def _fit_model(self, X, y, groups, weights, loss, n_outputs, unit=1.0, n_biases=0):
        """Train on standardised columns and fold the standardisation into the result.

        `unit` will multiply the scores.
        """
        rng = self._rng()
        weights = (weights / weights.mean()).astype(np.float32)
        mean, scale = preparation.standardisation(X, weights)
        X = np.ascontiguousarray((X - mean) / scale, dtype=np.float32)
        structure = self._structure(X.shape[1], n_outputs, n_biases)
        n_components = min(structure.n_components, X.shape[1])
        Z = preparation.supervised_projection(X, weights, groups, n_components)
        # one component more than features starts as a constant
        c = np.repeat([0.0, 1.0], [n_components, structure.n_components - n_components])
        Z = np.pad(Z, [(0, len(c) - n_components), (0, 0)])

        def train(start, rows):
            grids = _grids(start, scale, unit)
            sets = X[rows], y[rows], weights[rows]
            return *self._train(start, *sets, loss, structure, grids, rng), grids

        starts = [
            (Z, c, *self._start(len(c), n_outputs, structure.depth, rng))
            for _ in range(self.n_restarts)
        ]
        if len(starts) > 1:
            held = preparation.held_out(groups, rng)
            sets = X[held], y[held], weights[held]
            starts.sort(key=lambda start: _hard_loss(train(start, ~held)[0], start, *sets, loss))
        start = starts[0]
        theta, self.loss_curve_, grids = train(start, slice(None))
        self.n_iter_ = self.max_iter
        _, c, *tree = views(theta.astype(np.float64), [part.shape for part in start])
        folded = [grid.folded(theta) for grid in grids]
        self.projection_ = folded[0].reshape(Z.shape)
        self.projection_bias_ = c - self.projection_ @ mean
        self.projection_grid_ = grids[0].folded_frac[: X.shape[1]]
        self.W_, self.V_ = (
            flat.reshape(part.shape) for flat, part in zip(folded[1:3], tree[:2], strict=True)
        )
        self.W_grid_, self.V_grid_ = (int(grid.folded_frac) for grid in grids[1:3])
        # a tree of depth 0 has no hyperplanes
        self.theta_ = folded[3].reshape(tree[2].shape) if structure.depth else tree[2]
        self.theta_grid_ = int(grids[3].folded_frac) if structure.depth else 0

    def _structure(self, n_features, n_outputs, n_biases):
        sizing = _Sizing(
            n_features,
            n_outputs,
            self.n_components,
            self.depth,
            self.projection_density,
            self.tree_density,
        )
        if self.max_bytes is None:
            return sizing.unbounded()
        fixed = table_bytes([np.zeros(n_biases)])
        structure = sizing.within(self.max_bytes - fixed)
        if structure is None:
            self._refuse_budget(fixed + sizing.smallest_bytes())
        return structure

    def _train(self, start, X, y, weights, loss, structure, grids, rng):
        """The flat vector after training, and the mean loss of each pass."""
        n_rows, n_features = X.shape
        noise = auto_noise(n_rows, n_features) if self.input_noise == "auto" else self.input_noise
        jitter = preparation.Jitter(noise, self._largest_batch(n_rows) * n_features, rng)
        objective = _Objective(start, X, y, weights, loss, jitter, self._n_updates(n_rows))
        sizes, sparse = _step_sizes(start, self.learning_rate), _sparse_parts(start, structure)
        curve = self._descend(objective, sizes, sparse, grids, n_rows, rng)
        return objective.theta, curve

    def _start(self, n_components, n_outputs, depth, rng):
        """W, V and theta before training."""
        shape = (_n_nodes(depth), n_outputs, n_components)
        W, V = rng.standard_normal((2, *shape)) / np.sqrt(n_components)
        theta = rng.standard_normal((_n_internal(depth), n_components)) / np.sqrt(n_components)
        return W, V, theta

    def _count_bytes(self, biases=()):
        predictors = [node.reshape(-1, node.shape[2]) for node in (self.W_, self.V_)]
        arrays = [self.projection_, *predictors, self.theta_, self.projection_bias_]
        self.n_model_bytes_ = table_bytes([*arrays, *biases])
        # the bias is the column of Z that multiplies a constant feature
        projection = np.column_stack([self.projection_, self.projection_bias_])
        self.paper_size_ = paper_bytes([projection, *predictors, self.theta_])

    def _scores(self, X):
        check_is_fitted(self)
        X = self._checked(X, reset=False)
        z = X @ self.projection_.T + self.projection_bias_
        return _tree_scores(z, self.W_, self.V_, self.theta_)


def _hard_loss(theta, start, X, y, weights, loss):
    """Loss of the tree that a flat vector describes."""
    Z, c, *tree = views(theta, [part.shape for part in start])
    scores = _tree_scores(X @ Z.T + c, *tree).astype(np.float32)
    return loss(scores, y, weights, np.empty_like(scores))


def _tree_scores(z, W, V, theta):
    """Sums of the predictions on the path of each row, node by node."""
    scores = np.zeros((len(z), W.shape[1]))
    rows = {0: np.arange(len(z))}
    for k in range(len(W)):
        here = rows.pop(k)
        part = z[here]
        scores[here] += (part @ W[k].T) * np.clip(part @ V[k].T, -1, 1)
        if k < len(theta):
            positive = part @ theta[k] > 0
            rows[2 * k + 1], rows[2 * k + 2] = here[positive], here[~positive]
    return scores


class BonsaiClassifier(TrainedClassifier, _Bonsai):
    """A shallow tree in a learned low-dimensional space, for classification.

    A row x is projected to ``z = Z x + c``. From node k of a complete binary tree its path goes on
    to node 2k + 1 if ``theta_k z > 0`` and to node 2k + 2 otherwise; node 0 is the root. The scores
    are the sums of ``(W_k z) * clip(V_k z, -1, 1)`` over all nodes k on the path [1]_.

    Parameters
    ----------
    n_components : int, default=None
        Dimensions of the learned space, at most one more than features; the last of so many starts
        as a constant. None means 10, or as many as `max_bytes` allows.
    depth : int, default=None
        Depth of the tree, of which 0 is a single node and 10 the highest. None means 3, or as much
        as `max_bytes` allows.
    projection_density : float, default=None
        Share of the entries of `projection_` that are not zero, reached exactly. None means 1, or
        as much as `max_bytes` allows.
    tree_density : float, default=None
        Share of the entries of `W_` and of `V_` that are not zero, reached exactly. None means 1.
    max_bytes : int, default=None
        Bound of `n_model_bytes_`. What is left at None above is chosen for it, up to 28 components
        and a depth of 3; at least half of the bytes goes to the projection.
    loss : {"cross_entropy", "hinge"}, default="cross_entropy"
        What is minimised: the negative log-likelihood of the softmax of the scores, or by how much
        the score of the class fails to exceed the best other one by 1, as in the paper, which is
        often more accurate but knows no probabilities.
    input_noise : float or "auto", default="auto"
        Standard deviation of the Gaussian noise added to the rows while training, in standard
        deviations of each feature. Like a ridge penalty, it pays where there are many features and
        few rows: "auto" means ``min(0.5, 2 * sqrt(n_features / n_samples))``.
    learning_rate : float, default=0.05
        Highest step size of Adam, relative to the size of the values a matrix starts with. It
        rises during the first tenth of training and then falls to zero by a cosine.
    max_iter : int, default=100
        Number of passes over the rows. The paths of rows are shared among all nodes at first and
        become those of a tree at 0.8 of training. Entries of sparse matrices become zero gradually
        between 0.1 and 0.6, the rest goes on with the zeros fixed. From 0.8 on all matrices are
        rounded to 8 bits, as they are stored on a device, and learn to make up for it.
    batch_size : int or "auto", default="auto"
        Rows in a step; "auto" means a tenth of the rows, but at least 8 and at most 128.
    n_restarts : int, default=1
        How many random trees to start from. Of several, each is trained without a fifth of the
        rows, and the one of the lowest loss on that fifth is trained anew on all rows.
    class_weight : dict, "balanced" or None, default=None
        Weight of each class; "balanced" makes their total weights equal.
    verbose : bool or int, default=False
        Show a progress bar on stderr.
    random_state : int, RandomState instance or None, default=None
        Draws the tree to start with, the order of the rows, and the noise.

    Attributes
    ----------
    projection_ : ndarray of shape (n_components, n_features)
        Z, with the standardisation of the features folded in.
    projection_bias_ : ndarray of shape (n_components,)
        c, with the mean of the features folded in.
    W_ : ndarray of shape (n_nodes, n_outputs, n_components)
        The W_k of the ``n_nodes = 2**(depth + 1) - 1`` nodes: one row per class, or a single one if
        there are two classes.
    V_ : ndarray of shape (n_nodes, n_outputs, n_components)
        The V_k.
    theta_ : ndarray of shape (n_internal, n_components)
        The hyperplanes of the ``n_internal = 2**depth - 1`` inner nodes.
    projection_grid_ : ndarray of shape (n_features,)
        ``projection_ * 2.0**projection_grid_`` are whole numbers within ±127.
    W_grid_ : int
        So are ``W_ * 2.0**W_grid_``.
    V_grid_ : int
        So are ``V_ * 2.0**V_grid_``.
    theta_grid_ : int
        So are ``theta_ * 2.0**theta_grid_``.
    classes_ : ndarray of shape (n_classes,)
        The classes.
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
        Bytes by the rule of the paper, 4 per entry or 8 per non-zero entry, for comparisons;
        `projection_bias_` counts as a column of `projection_`.

    See Also
    --------
    BonsaiRegressor : The same model for numbers.

    Notes
    -----
    Features need no scaling: they are standardised inside `fit`, and the result is folded into the
    projection.

    Training differs from the paper where that gives better models of the same size: all matrices
    are learned together by Adam on the clipped model, from a supervised projection, with noise on
    the rows, and by default for the cross-entropy.

    Batches depend on the order of rows: `sample_weight` multiplies the loss of a row and is
    equivalent to repeating it in expectation only.

    References
    ----------
    .. [1] A. Kumar, S. Goyal and M. Varma, "Resource-efficient Machine Learning in 2 KB RAM for the
       Internet of Things", ICML 2017.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.model_selection import train_test_split
    >>> from tinyml.estimators.bonsai import BonsaiClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
    >>> model = BonsaiClassifier(max_bytes=1024, random_state=0).fit(X_train, y_train)
    >>> model.n_model_bytes_ <= 1024
    True
    >>> model.score(X_test, y_test) > 0.93
    True
    """

    _parameter_constraints: ClassVar[dict] = {
        **_Bonsai._parameter_constraints,
        **TrainedClassifier._parameter_constraints,
        "loss": [StrOptions({"cross_entropy", "hinge"})],
    }

    def __init__(
        self,
        n_components=None,
        depth=None,
        *,
        projection_density=None,
        tree_density=None,
        max_bytes=None,
        loss="cross_entropy",
        input_noise="auto",
        learning_rate=0.05,
        max_iter=100,
        batch_size="auto",
        n_restarts=1,
        class_weight=None,
        verbose=False,
        random_state=None,
    ):
        self.n_components = n_components
        self.depth = depth
        self.projection_density = projection_density
        self.tree_density = tree_density
        self.max_bytes = max_bytes
        self.loss = loss
        self.input_noise = input_noise
        self.learning_rate = learning_rate
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.n_restarts = n_restarts
        self.class_weight = class_weight
        self.verbose = verbose
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Fit the model.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows.
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
            self._fit_model(X, codes, codes, weights, self._loss(), self._n_outputs)
        self._count_bytes()
        return self


class BonsaiRegressor(TrainedRegressor, _Bonsai):
    """A shallow tree in a learned low-dimensional space, for regression.

    A row x is projected to ``z = Z x + c``. From node k of a complete binary tree its path goes on
    to node 2k + 1 if ``theta_k z > 0`` and to node 2k + 2 otherwise; node 0 is the root. The
    prediction is `intercept_` plus the sum of ``(W_k z) * clip(V_k z, -1, 1)`` over all nodes k on
    the path [1]_.

    Parameters
    ----------
    n_components : int, default=None
        Dimensions of the learned space, at most one more than features; the last of so many starts
        as a constant. None means 10, or as many as `max_bytes` allows.
    depth : int, default=None
        Depth of the tree, of which 0 is a single node and 10 the highest. None means 3, or as much
        as `max_bytes` allows.
    projection_density : float, default=None
        Share of the entries of `projection_` that are not zero, reached exactly. None means 1, or
        as much as `max_bytes` allows.
    tree_density : float, default=None
        Share of the entries of `W_` and of `V_` that are not zero, reached exactly. None means 1.
    max_bytes : int, default=None
        Bound of `n_model_bytes_`. What is left at None above is chosen for it, up to 28 components
        and a depth of 3; at least half of the bytes goes to the projection.
    input_noise : float or "auto", default="auto"
        Standard deviation of the Gaussian noise added to the rows while training, in standard
        deviations of each feature. Like a ridge penalty, it pays where there are many features and
        few rows: "auto" means ``min(0.5, 2 * sqrt(n_features / n_samples))``.
    learning_rate : float, default=0.05
        Highest step size of Adam, relative to the size of the values a matrix starts with. It
        rises during the first tenth of training and then falls to zero by a cosine.
    max_iter : int, default=100
        Number of passes over the rows. The paths of rows are shared among all nodes at first and
        become those of a tree at 0.8 of training. Entries of sparse matrices become zero gradually
        between 0.1 and 0.6, the rest goes on with the zeros fixed. From 0.8 on all matrices are
        rounded to 8 bits, as they are stored on a device, and learn to make up for it.
    batch_size : int or "auto", default="auto"
        Rows in a step; "auto" means a tenth of the rows, but at least 8 and at most 128.
    n_restarts : int, default=1
        How many random trees to start from. Of several, each is trained without a fifth of the
        rows, and the one of the lowest loss on that fifth is trained anew on all rows.
    verbose : bool or int, default=False
        Show a progress bar on stderr.
    random_state : int, RandomState instance or None, default=None
        Draws the tree to start with, the order of the rows, and the noise.

    Attributes
    ----------
    projection_ : ndarray of shape (n_components, n_features)
        Z, with the standardisation of the features folded in.
    projection_bias_ : ndarray of shape (n_components,)
        c, with the mean of the features folded in.
    W_ : ndarray of shape (n_nodes, n_outputs, n_components)
        The W_k of the ``n_nodes = 2**(depth + 1) - 1`` nodes, in units of the target.
    V_ : ndarray of shape (n_nodes, n_outputs, n_components)
        The V_k.
    theta_ : ndarray of shape (n_internal, n_components)
        The hyperplanes of the ``n_internal = 2**depth - 1`` inner nodes.
    projection_grid_ : ndarray of shape (n_features,)
        ``projection_ * 2.0**projection_grid_`` are whole numbers within ±127.
    W_grid_ : int
        So are ``W_ * 2.0**W_grid_``.
    V_grid_ : int
        So are ``V_ * 2.0**V_grid_``.
    theta_grid_ : int
        So are ``theta_ * 2.0**theta_grid_``.
    intercept_ : ndarray of shape (1,)
        The mean of the training values.
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
        Bytes by the rule of the paper, 4 per entry or 8 per non-zero entry, for comparisons;
        `projection_bias_` counts as a column of `projection_`.

    See Also
    --------
    BonsaiClassifier : The same model for classes.

    Notes
    -----
    Features need no scaling: they are standardised inside `fit`, and the result is folded into the
    projection.

    Training differs from the paper where that gives better models of the same size: all matrices
    are learned together by Adam on the clipped model, from a supervised projection, with noise on
    the rows, and for standardised values.

    Batches depend on the order of rows: `sample_weight` multiplies the loss of a row and is
    equivalent to repeating it in expectation only.

    References
    ----------
    .. [1] A. Kumar, S. Goyal and M. Varma, "Resource-efficient Machine Learning in 2 KB RAM for the
       Internet of Things", ICML 2017.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from tinyml.estimators.bonsai import BonsaiRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = BonsaiRegressor(max_bytes=100, random_state=0).fit(X[:300], y[:300])
    >>> model.n_model_bytes_ <= 100
    True
    >>> model.score(X[300:], y[300:]) > 0.4
    True
    """

    def __init__(
        self,
        n_components=None,
        depth=None,
        *,
        projection_density=None,
        tree_density=None,
        max_bytes=None,
        input_noise="auto",
        learning_rate=0.05,
        max_iter=100,
        batch_size="auto",
        n_restarts=1,
        verbose=False,
        random_state=None,
    ):
        self.n_components = n_components
        self.depth = depth
        self.projection_density = projection_density
        self.tree_density = tree_density
        self.max_bytes = max_bytes
        self.input_noise = input_noise
        self.learning_rate = learning_rate
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.n_restarts = n_restarts
        self.verbose = verbose
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Fit the model.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows.
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
        groups = preparation.slices(y, weights)
        with blas_single_thread():
            self._fit_model(X, targets, groups, weights, losses.squared, 1, scale, n_biases=1)
        self.intercept_ = np.array([mean])
        self._count_bytes([self.intercept_])
        return self

    def _scores(self, X):
        return super()._scores(X) + self.intercept_


# ---------------------------------------------------------------------------------------------
# Lowering
# ---------------------------------------------------------------------------------------------


def _lower(model: _Bonsai, x: Node) -> Node:
    """Write the descent as a loop over the levels, in which only nodes on the path are computed."""
    z = Affine(x, model.projection_, model.projection_bias_, grid=model.projection_grid_)
    W, V, theta = model.W_, model.V_, model.theta_
    if not len(theta):
        gate = Affine(z, V[0], grid=model.V_grid_).clip(-1, 1)
        return Affine(z, W[0], grid=model.W_grid_) * gate
    n_nodes, n_outputs, _ = W.shape
    k, score, z = State(1, n_nodes - 1), State(n_outputs), Held(z)
    gate = Chosen(z, k, V, grid=model.V_grid_).clip(-1, 1)
    prediction = Chosen(z, k, W, grid=model.W_grid_) * gate
    parent = k.clip(0, len(theta) - 1)  # leaves have no hyperplane; where they lead is not used
    side = Chosen(z, parent, theta[:, None], grid=model.theta_grid_)
    n_levels = len(theta).bit_length() + 1
    return Scan((k, score), (Child(k, side, n_nodes), prediction + score), n_levels)


@lower.register
def _(model: BonsaiClassifier, g: Graph, x: Node) -> Node:
    if model.loss == "cross_entropy":
        g.link = "expit" if len(model.classes_) == 2 else "softmax"
    return _lower(model, x)


@lower.register
def _(model: BonsaiRegressor, g: Graph, x: Node) -> Node:
    return _lower(model, x) + model.intercept_
