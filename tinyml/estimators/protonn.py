"""ProtoNN: a few prototypes in a learned low-dimensional space, compared by a Gaussian kernel.

    score(x) = sum_j z_j exp(-gamma^2 ||W x - b_j||^2)                 (Gupta et al., 2017, eq. 1)

The projection W is sparse; W, the prototypes b_j, their labels z_j and gamma are learned together.
Top to bottom: the size of a model, where training starts, its gradient, the estimators.
"""

import itertools
from numbers import Integral, Real
from typing import ClassVar, NamedTuple

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.utils.validation import check_is_fitted

from ..base import Interval, StrOptions, _fit_context, blas_single_thread
from ..codegen.graph import Affine, Decay, Graph, Node, SquaredDistance
from ..codegen.lower import lower
from ..codegen.storage import EXP_TABLE_BYTES, max_nonzero, paper_bytes, smallest_bytes, table_bytes
from ..training import clustering, kernels, losses, preparation
from ..training.quantisation import FoldedGrid
from ._trained import (
    GradientTrained,
    Objective,
    TrainedClassifier,
    TrainedRegressor,
    auto_noise,
)

# ---------------------------------------------------------------------------------------------
# The size of a model
# ---------------------------------------------------------------------------------------------


class _Structure(NamedTuple):
    """How large the matrices are and how many of their entries may differ from zero."""

    n_components: int
    n_prototypes: int
    kept_projection: int
    kept_labels: int


class _Sizing(NamedTuple):
    """What data and parameters say about the size of a model; None is free to choose."""

    n_features: int
    n_outputs: int
    min_prototypes: int
    n_components: int | None
    n_prototypes: int | None
    projection_density: float | None
    label_density: float | None

    def unbounded(self):
        """The structure where no size is asked for."""
        n_components, n_prototypes = self.pair(10, per_dimension=0.4)
        return self.structure(n_components, n_prototypes, n_components * self.n_features)

    def with_few_labels(self):
        """Three labels per prototype, if not said otherwise, where classes are many."""
        if self.label_density is None and self.n_outputs > 15:
            return self._replace(label_density=3 / self.n_outputs)
        return self

    def within(self, available):
        """The richest structure that leaves half of `available` bytes to the projection.

        Where there is none, the plainest; None if that does not fit either. The constants of this
        rule did best in cross-validation on digits, usps, letter, covtype and har.
        """
        for richness in np.arange(80, -0.25, -0.25):
            n_components, n_prototypes = self.pair(richness)
            room = available - self.other_bytes(n_components, n_prototypes)
            size = n_components * self.n_features
            kept = max_nonzero((n_components, self.n_features), room, 1)
            if kept >= self.least(n_components) and (2 * room >= available or kept == size):
                break
        fits = kept >= self.least(n_components)
        return self.structure(n_components, n_prototypes, kept) if fits else None

    def smallest_bytes(self):
        """Bytes of the matrices of the plainest structure."""
        n_components, n_prototypes = self.pair(0)
        shape = (n_components, self.n_features)
        projection = smallest_bytes(shape, self.least(n_components), 1)
        return projection + self.other_bytes(n_components, n_prototypes)

    def pair(self, richness, per_dimension=0.2):
        """Numbers of components and prototypes: given, or growing together with `richness`.

        There are `per_dimension` prototypes per class and dimension.
        """
        n_components = int(np.clip(richness, 1, min(20, self.n_features)))
        usual = round(per_dimension * richness * max(self.n_outputs, 5))
        return (
            min(self.n_components or n_components, self.n_features),
            self.n_prototypes or max(self.min_prototypes, usual),
        )

    def least(self, n_components):
        """Non-zeros that the projection must have: those asked for, else one per component."""
        if self.projection_density is None:
            return n_components
        return max(1, round(self.projection_density * n_components * self.n_features))

    def other_bytes(self, n_components, n_prototypes):
        """Bytes of the prototypes and their labels."""
        labels = (n_prototypes, self.n_outputs)
        kept = self.kept_labels(n_prototypes)
        return n_components * n_prototypes + smallest_bytes(labels, kept, 1)

    def kept_labels(self, n_prototypes):
        """Non-zero labels: at least one of each prototype."""
        size = n_prototypes * self.n_outputs
        return max(n_prototypes, round((self.label_density or 1.0) * size))

    def structure(self, n_components, n_prototypes, kept):
        if self.projection_density is not None:
            kept = self.least(n_components)
        return _Structure(n_components, n_prototypes, kept, self.kept_labels(n_prototypes))


# ---------------------------------------------------------------------------------------------
# Where training starts
# ---------------------------------------------------------------------------------------------


def _random_projection(n_components, n_features, rng):
    return rng.standard_normal((n_components, n_features)) / np.sqrt(n_features)


def _average_targets(projected, prototypes, weights, targets):
    """Mean target of the rows nearest to each prototype."""
    nearest = clustering.assign(projected, prototypes)
    sums, mass = clustering.group_sums(targets, weights, nearest, len(prototypes))
    return sums / np.where(mass > 0, mass, 1)[:, None]


def _median_gamma(projected, prototypes):
    """2.5 / median distance of rows and prototypes (section 3).

    Of very many rows every k-th is taken.
    """
    step = 1 + len(projected) * len(prototypes) // 4_000_000
    median = np.median(cdist(projected[::step], prototypes))
    return 2.5 / median if median > 0 else 1.0


# ---------------------------------------------------------------------------------------------
# The gradient
# ---------------------------------------------------------------------------------------------


class _Objective(Objective):
    """Loss of a batch and its gradient by the flat vector of W, B, Z and log(gamma)."""

    kernel = kernels.Gaussian()

    def _backward(self, X, targets, weights):
        W, B, Z, log_gamma = self.parameters
        d_W, d_B, d_Z, d_log_gamma = self.gradients
        projected = X @ W.T
        gamma2 = np.exp(2 * log_gamma[0])
        kernel, distances = self.kernel.values(projected, B, gamma2)
        scores = kernel @ Z
        d_scores = np.empty_like(scores)
        value = self.loss(scores, targets, weights, d_scores)
        np.dot(kernel.T, d_scores, out=d_Z)
        d_distances, slope = self.kernel.slope(d_scores @ Z.T, kernel, distances, gamma2)
        d_B[:] = self.kernel.pull(d_distances.T, B, projected)
        np.dot(self.kernel.pull(d_distances, projected, B).T, X, out=d_W)
        d_log_gamma[0] = 2 * slope
        return value


def _step_sizes(parameters, learning_rate):
    """A step of each parameter is relative to the size its array starts with.

    That of log(gamma) is small: W and B together can change the scale of distances too.
    """
    sizes = [np.full(part.size, learning_rate * np.sqrt(np.mean(part**2))) for part in parameters]
    sizes[-1][:] = 0.1 * learning_rate
    return np.concatenate(sizes).astype(np.float32)


def _sparse_parts(parameters, structure):
    """Where W and the rows of Z are in the flat vector, each with its number of entries to keep.

    Each prototype keeps its share of labels: one threshold for all of Z leaves some with none.
    """
    W, B, Z, _ = parameters
    parts = [(slice(0, W.size), structure.kept_projection)]
    if structure.kept_labels < Z.size:
        counts = np.full(len(Z), structure.kept_labels // len(Z))
        counts[: structure.kept_labels % len(Z)] += 1
        starts = W.size + B.size + np.arange(len(Z)) * Z.shape[1]
        rows = [slice(start, start + Z.shape[1]) for start in starts]
        parts += zip(rows, counts, strict=True)
    return parts


def _grids(parameters, scale, unit):
    """Grids of W, whose columns are divided by `scale` after training, of B, and of Z times `unit`.

    gamma is no weight, but a factor of distances, and needs none.
    """
    W, B, Z, _ = parameters
    ends = np.cumsum([0, W.size, B.size, Z.size])
    parts = [slice(start, stop) for start, stop in itertools.pairwise(ends)]
    return list(map(FoldedGrid, parts, [np.tile(scale, len(W)), 1.0, 1 / unit]))


# ---------------------------------------------------------------------------------------------
# The estimators
# ---------------------------------------------------------------------------------------------


class _ProtoNN(GradientTrained):
    """All but the targets, the loss and the reading of the scores."""

    _parameter_constraints: ClassVar[dict] = {
        **GradientTrained._parameter_constraints,
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "n_prototypes": [Interval(Integral, 1, None, closed="left"), None],
        "projection_density": [Interval(Real, 0, 1, closed="right"), None],
        "projection": [StrOptions({"supervised", "random"})],
        "input_noise": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
    }

    def _fit_model(self, X, y, groups, targets, weights, loss, unit=1.0, n_biases=0):
        """Train on standardised columns and fold the standardisation into the result.

        `y` is what the loss compares scores with; `targets` are the scores of an ideal model, and
        `unit` will multiply them.
        """
        rng = self._rng()
        weights = weights / weights.mean()
        mean, scale = preparation.standardisation(X, weights)
        X = np.ascontiguousarray((X - mean) / scale, dtype=np.float32)
        structure = self._structure(X.shape[1], targets.shape[1], groups, n_biases)
        start = self._start(X, groups, targets, weights, structure, rng)
        grids = _grids(start, scale, unit)
        theta = self._train(start, X, y, weights, loss, structure, grids, rng)
        W, B, Z = (
            grid.folded(theta).reshape(part.shape)
            for grid, part in zip(grids, start[:3], strict=True)
        )
        self.projection_, self.prototype_labels_ = W, Z
        self.origin_ = W @ mean
        self.prototypes_ = B + self.origin_
        self.gamma_ = float(np.exp(theta[-1]))
        self.projection_grid_ = grids[0].folded_frac[: X.shape[1]]
        self.prototypes_grid_, self.labels_grid_ = (int(grid.folded_frac) for grid in grids[1:])

    def _structure(self, n_features, n_outputs, groups, n_biases):
        sizing = _Sizing(
            n_features,
            n_outputs,
            self._min_prototypes(groups),
            self.n_components,
            self.n_prototypes,
            self.projection_density,
            self.label_density,
        )
        if self.max_bytes is None:
            return sizing.unbounded()
        fixed = EXP_TABLE_BYTES + table_bytes([np.zeros(n_biases)])
        sizing = sizing.with_few_labels()
        structure = sizing.within(self.max_bytes - fixed)
        if structure is None:
            self._refuse_budget(fixed + sizing.smallest_bytes())
        return structure

    def _start(self, X, groups, targets, weights, structure, rng):
        """W, B, Z and log(gamma) before training."""
        if self.projection == "supervised":
            W = preparation.supervised_projection(
                X, weights.astype(np.float32), groups, structure.n_components
            )
        else:
            W = _random_projection(structure.n_components, X.shape[1], rng)
        projected = (X @ W.T).astype(np.float64)
        B = clustering.grouped_centres(projected, weights, groups, structure.n_prototypes)
        Z = _average_targets(projected, B, weights, targets)
        return W, B, Z, np.log([_median_gamma(projected, B)])

    def _train(self, start, X, y, weights, loss, structure, grids, rng):
        """The flat vector of W, B, Z and log(gamma) after training."""
        noise = auto_noise(*X.shape) if self.input_noise == "auto" else self.input_noise
        jitter = preparation.Jitter(noise, self._largest_batch(len(X)) * X.shape[1], rng)
        objective = _Objective(start, X, y, weights.astype(np.float32), loss, jitter)
        sizes, sparse = _step_sizes(start, self.learning_rate), _sparse_parts(start, structure)
        self.loss_curve_ = self._descend(objective, sizes, sparse, grids, len(X), rng)
        self.n_iter_ = self.max_iter
        return objective.theta

    def _count_bytes(self, biases=()):
        arrays = [self.projection_, self.prototypes_, self.prototype_labels_]
        self.n_model_bytes_ = EXP_TABLE_BYTES + table_bytes([*arrays, *biases])
        self.paper_size_ = paper_bytes(arrays)

    def _scores(self, X):
        check_is_fitted(self)
        X = self._checked(X, reset=False)
        distances = cdist(X @ self.projection_.T, self.prototypes_, "sqeuclidean")
        return np.exp(-(self.gamma_**2) * distances) @ self.prototype_labels_


class ProtoNNClassifier(TrainedClassifier, _ProtoNN):
    """Nearest prototypes in a learned low-dimensional space, for classification.

    The scores of a row x are ``sum_j z_j exp(-gamma^2 ||W x - b_j||^2)`` [1]_.

    Parameters
    ----------
    n_components : int, default=None
        Dimensions of the learned space, at most the number of features. None means 10, or as many
        as `max_bytes` allows.
    n_prototypes : int, default=None
        Number of prototypes. None means 4 per class, but at least 20, in 10 dimensions and in
        proportion in others, or as many as `max_bytes` allows.
    projection_density : float, default=None
        Share of the entries of `projection_` that are not zero, reached exactly. None means 1, or
        as much as `max_bytes` allows.
    label_density : float, default=None
        Share of the entries of `prototype_labels_` that are not zero, but at least one label of
        each prototype. None means 1, or three labels of each prototype if there are a `max_bytes`
        and more than 15 classes.
    max_bytes : int, default=None
        Bound of `n_model_bytes_`. What is left at None above is chosen for it, up to 20 components
        and 16 prototypes per class; about half of the bytes go to the projection.
    projection : {"supervised", "random"}, default="supervised"
        Where the projection starts: at the linear discriminants of the classes
        followed by directions of large variance, or at random numbers, which is faster for
        thousands of features.
    loss : {"cross_entropy", "squared"}, default="cross_entropy"
        What is minimised: the negative log-likelihood of the softmax of the scores, or the squared
        difference of scores and indicators of the classes, as in the paper.
    input_noise : float or "auto", default="auto"
        Standard deviation of the Gaussian noise added to the rows while training, in standard
        deviations of each feature. Like a ridge penalty, it pays where there are many features and
        few rows: "auto" means ``min(0.5, 2 * sqrt(n_features / n_samples))``.
    learning_rate : float, default=0.1
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
        Draws the order of the rows, the noise, and a random projection.

    Attributes
    ----------
    projection_ : ndarray of shape (n_components, n_features)
        W, with the standardisation of the features folded in.
    prototypes_ : ndarray of shape (n_prototypes, n_components)
        The b_j, with the mean of the features folded in.
    prototype_labels_ : ndarray of shape (n_prototypes, n_outputs)
        The z_j: one column per class, or a single one if there are two classes.
    gamma_ : float
        Width of the kernel; its square multiplies squared distances.
    origin_ : ndarray of shape (n_components,)
        The mean of the features, projected.
    projection_grid_ : ndarray of shape (n_features,)
        ``projection_ * 2.0**projection_grid_`` are whole numbers within ±127.
    prototypes_grid_ : int
        So are ``(prototypes_ - origin_) * 2.0**prototypes_grid_``, up to rounding of floats.
    labels_grid_ : int
        So are ``prototype_labels_ * 2.0**labels_grid_``.
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
        Bytes of all constants in their smallest storage with 8-bit values, the table of the
        exponential function included.
    paper_size_ : int
        Bytes by the rule of the paper, 4 per entry or 8 per non-zero entry, for comparisons.

    See Also
    --------
    ProtoNNRegressor : The same model for numbers.

    Notes
    -----
    Features need no scaling: they are standardised inside `fit`, and the result is folded into the
    projection and the prototypes.

    Training differs from the paper where that gives better models of the same size: all parameters,
    `gamma_` included, are learned together by Adam, from a supervised start, with noise on the
    rows, and by default for the cross-entropy.

    Prototypes start at the means of clusters that do not depend on the order of rows, but batches
    do: `sample_weight` multiplies the loss of a row and is equivalent to repeating it in
    expectation only.

    References
    ----------
    .. [1] C. Gupta et al., "ProtoNN: Compressed and Accurate kNN for Resource-scarce Devices",
       ICML 2017.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.model_selection import train_test_split
    >>> from tinyml.estimators import ProtoNNClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
    >>> model = ProtoNNClassifier(max_bytes=1024, random_state=0).fit(X_train, y_train)
    >>> model.n_model_bytes_ <= 1024
    True
    >>> model.score(X_test, y_test) > 0.94
    True
    """

    _parameter_constraints: ClassVar[dict] = {
        **_ProtoNN._parameter_constraints,
        **TrainedClassifier._parameter_constraints,
        "label_density": [Interval(Real, 0, 1, closed="right"), None],
        "loss": [StrOptions({"cross_entropy", "squared"})],
    }

    def __init__(
        self,
        n_components=None,
        n_prototypes=None,
        *,
        projection_density=None,
        label_density=None,
        max_bytes=None,
        projection="supervised",
        loss="cross_entropy",
        input_noise="auto",
        learning_rate=0.1,
        max_iter=100,
        batch_size="auto",
        class_weight=None,
        verbose=False,
        random_state=None,
    ):
        self.n_components = n_components
        self.n_prototypes = n_prototypes
        self.projection_density = projection_density
        self.label_density = label_density
        self.max_bytes = max_bytes
        self.projection = projection
        self.loss = loss
        self.input_noise = input_noise
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
        y, targets, loss = self._task(codes, preparation.one_hot(codes, len(self.classes_)))
        with blas_single_thread():
            self._fit_model(X, y, codes, targets, weights, loss)
        self._count_bytes()
        return self

    def _min_prototypes(self, groups):
        return groups.max() + 1

    def _task(self, codes, one_hot):
        """What the loss compares scores with, the scores of an ideal model, and the loss."""
        if self.loss == "squared":
            return one_hot.astype(np.float32), one_hot, losses.squared
        # scores of 5 make a class nearly certain; a start there trains much faster than one at 1
        return codes, 5 * one_hot, self._loss()


class ProtoNNRegressor(TrainedRegressor, _ProtoNN):
    """Nearest prototypes in a learned low-dimensional space, for regression.

    The prediction for a row x is ``c + sum_j z_j exp(-gamma^2 ||W x - b_j||^2)`` [1]_. The squared
    error is minimised.

    Parameters
    ----------
    n_components : int, default=None
        Dimensions of the learned space, at most the number of features. None means 10, or as many
        as `max_bytes` allows.
    n_prototypes : int, default=None
        Number of prototypes. None means 20 in 10
        dimensions and in proportion in others, or as many as `max_bytes` allows.
    projection_density : float, default=None
        Share of the entries of `projection_` that are not zero, reached exactly. None means 1, or
        as much as `max_bytes` allows.
    max_bytes : int, default=None
        Bound of `n_model_bytes_`. What is left at None above is chosen for it, up to 20 components
        and 80 prototypes; about half of the bytes go to the projection.
    projection : {"supervised", "random"}, default="supervised"
        Where the projection starts: at the linear discriminants of ten slices
        of the values, followed by directions of large variance, or at random numbers, which is
        faster for thousands of features.
    input_noise : float or "auto", default="auto"
        Standard deviation of the Gaussian noise added to the rows while training, in standard
        deviations of each feature. Like a ridge penalty, it pays where there are many features and
        few rows: "auto" means ``min(0.5, 2 * sqrt(n_features / n_samples))``.
    learning_rate : float, default=0.1
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
        Draws the order of the rows, the noise, and a random projection.

    Attributes
    ----------
    projection_ : ndarray of shape (n_components, n_features)
        W, with the standardisation of the features folded in.
    prototypes_ : ndarray of shape (n_prototypes, n_components)
        The b_j, with the mean of the features folded in.
    prototype_labels_ : ndarray of shape (n_prototypes, n_outputs)
        The z_j, in units of the target.
    gamma_ : float
        Width of the kernel; its square multiplies squared distances.
    origin_ : ndarray of shape (n_components,)
        The mean of the features, projected.
    projection_grid_ : ndarray of shape (n_features,)
        ``projection_ * 2.0**projection_grid_`` are whole numbers within ±127.
    prototypes_grid_ : int
        So are ``(prototypes_ - origin_) * 2.0**prototypes_grid_``, up to rounding of floats.
    labels_grid_ : int
        So are ``prototype_labels_ * 2.0**labels_grid_``.
    intercept_ : ndarray of shape (1,)
        c, the mean of the training values.
    n_features_in_ : int
        Number of features seen in fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, if `X` had string names only.
    n_iter_ : int
        Number of passes over the rows.
    loss_curve_ : list of float
        Mean loss of each pass.
    n_model_bytes_ : int
        Bytes of all constants in their smallest storage with 8-bit values, the table of the
        exponential function included.
    paper_size_ : int
        Bytes by the rule of the paper, 4 per entry or 8 per non-zero entry, for comparisons.

    See Also
    --------
    ProtoNNClassifier : The same model for classes.

    Notes
    -----
    Features need no scaling: they are standardised inside `fit`, and the result is folded into the
    projection and the prototypes.

    Training differs from the paper where that gives better models of the same size: all parameters,
    `gamma_` included, are learned together by Adam, from a supervised start, with noise on the
    rows, and for standardised values.

    Prototypes start at the means of clusters that do not depend on the order of rows, but batches
    do: `sample_weight` multiplies the loss of a row and is equivalent to repeating it in
    expectation only.

    References
    ----------
    .. [1] C. Gupta et al., "ProtoNN: Compressed and Accurate kNN for Resource-scarce Devices",
       ICML 2017.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from tinyml.estimators import ProtoNNRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = ProtoNNRegressor(max_bytes=400, random_state=0).fit(X[:300], y[:300])
    >>> model.n_model_bytes_ <= 400
    True
    >>> model.score(X[300:], y[300:]) > 0.4
    True
    """

    label_density = None  # with one output, every prototype keeps its label

    def __init__(
        self,
        n_components=None,
        n_prototypes=None,
        *,
        projection_density=None,
        max_bytes=None,
        projection="supervised",
        input_noise="auto",
        learning_rate=0.1,
        max_iter=100,
        batch_size="auto",
        verbose=False,
        random_state=None,
    ):
        self.n_components = n_components
        self.n_prototypes = n_prototypes
        self.projection_density = projection_density
        self.max_bytes = max_bytes
        self.projection = projection
        self.input_noise = input_noise
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
        targets = ((y - mean) / scale)[:, None]
        groups = preparation.slices(y, weights)
        with blas_single_thread():
            self._fit_model(
                X,
                targets.astype(np.float32),
                groups,
                targets,
                weights,
                losses.squared,
                scale,
                n_biases=1,
            )
        self.intercept_ = np.array([mean])
        self._count_bytes([self.intercept_])
        return self

    def _min_prototypes(self, groups):
        return 1

    def _scores(self, X):
        return super()._scores(X) + self.intercept_


# ---------------------------------------------------------------------------------------------
# Lowering
# ---------------------------------------------------------------------------------------------


def _lower(model: _ProtoNN, x: Node) -> Node:
    """Write eq. 1 as a graph."""
    projected = Affine(x, model.projection_, -model.origin_, grid=model.projection_grid_)
    points = model.prototypes_ - model.origin_
    distance = SquaredDistance(projected, points, grid=model.prototypes_grid_)
    kernel = Decay(distance, model.gamma_**2)
    return Affine(kernel, model.prototype_labels_.T, grid=model.labels_grid_)


@lower.register
def _(model: ProtoNNClassifier, g: Graph, x: Node) -> Node:
    if model.loss == "cross_entropy":
        g.link = "expit" if len(model.classes_) == 2 else "softmax"
    return _lower(model, x)


@lower.register
def _(model: ProtoNNRegressor, g: Graph, x: Node) -> Node:
    return _lower(model, x) + model.intercept_
