"""Compact support vector machines: few synthetic vectors, shared by all classes.

    score(x) = b + sum_j beta_j k(p, z_j),   p = W x - o  or  p = (x - o) / s

with the kernel exp(-gamma ||p - z||²), exp(-gamma ||p - z||_1) or (p · z + 1)^degree. The vectors
z_j begin as a reduced set of scikit-learn's SVM (Burges, 1996) and are then trained together with
beta, b, gamma and W. The linear kernel needs no vectors: score(x) = b + w x.
Top to bottom: the size of a model, what the kernel sees, the SVM to start from, the gradient, the
estimators.
"""

import itertools
from functools import reduce
from numbers import Integral, Real
from operator import mul
from typing import ClassVar, NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from sklearn.svm import SVC, SVR, LinearSVC, LinearSVR
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from ..base import Interval, StrOptions, _fit_context, blas_single_thread, probabilities
from ..codegen.graph import AbsoluteDistance, Affine, Decay, Graph, Node, SquaredDistance
from ..codegen.lower import lower
from ..codegen.storage import EXP_TABLE_BYTES, table_bytes
from ..training import clustering, kernels, losses, preparation
from ..training.quantisation import FoldedGrid
from ..training.reduced_set import reduced_set
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

_MOST_COMPONENTS = 30
_VECTORS_PER_COMPONENT = 3  # at least, where there is a choice


class _Sizing(NamedTuple):
    """What data and parameters say about the size of a model; None is free to choose."""

    n_features: int
    n_outputs: int
    kernel: str
    n_components: int | None
    n_vectors: int | None
    features_bytes: int  # of what brings features to one scale where no map does

    def unbounded(self):
        """Components and vectors where no size is asked for."""
        return self.components(10), self.n_vectors or max(20, 4 * self.n_outputs)

    def within(self, available):
        """Components and vectors for so many bytes; None if there are none.

        As many components as leave room for three times as many vectors. This did best in
        cross-validation on usps10, with ten classes and with two, from 2 to 16 KB.
        """
        for limit in range(_MOST_COMPONENTS, 0, -1):
            n_components = self.components(limit)
            room = available - self.shared_bytes(n_components)
            n_vectors = self.n_vectors or room // self.vector_bytes(n_components)
            fits = n_vectors > 0 and n_vectors * self.vector_bytes(n_components) <= room
            if fits and (self.n_vectors or n_vectors >= _VECTORS_PER_COMPONENT * n_components):
                break
        return (n_components, n_vectors) if fits else None

    def smallest_bytes(self):
        n_components, n_vectors = self.components(1), self.n_vectors or 1
        return self.shared_bytes(n_components) + n_vectors * self.vector_bytes(n_components)

    def components(self, limit):
        """Rows of the map: given, or up to a limit; 0 where the kernel sees the features."""
        if self.n_components is not None:
            return min(self.n_components, self.n_features)
        return 0 if self.kernel == "laplacian" else min(limit, self.n_features)

    def shared_bytes(self, n_components):
        """Bytes of what there is once: the map, the intercept, the table of the kernel."""
        table = 0 if self.kernel == "poly" else EXP_TABLE_BYTES
        seen = n_components * (self.n_features + 2) if n_components else self.features_bytes
        return seen + table + 2 * self.n_outputs

    def vector_bytes(self, n_components):
        """Bytes of a vector, its coefficients and, behind a product, its bias."""
        bias = 2 if self.kernel == "poly" else 0
        return (n_components or self.n_features) + self.n_outputs + bias


# ---------------------------------------------------------------------------------------------
# What the kernel sees
# ---------------------------------------------------------------------------------------------

_STEPS = 128  # of an origin in a scale


class _Scaling(NamedTuple):
    """While training rows are (X - origin) / scale; what is not in `kept` is folded away later."""

    origin: np.ndarray
    scale: np.ndarray
    kept: np.ndarray

    def __call__(self, X):
        return np.ascontiguousarray((X - self.origin) / self.scale, dtype=np.float32)


def _power_scaling(X):
    """The middle of each feature and a power of two near its range: subtractions and shifts.

    Features whose ranges are alike keep their units and have one origin, which needs no table.
    """
    low, high = X.min(axis=0).astype(np.float64), X.max(axis=0).astype(np.float64)
    varies = high > low
    power = np.rint(np.log2(np.where(varies, high - low, 1.0))).astype(int)
    power[~varies] = power[varies].max() if varies.any() else 0
    if np.ptp(power) == 0:
        low[:], high[:] = low.min(), high.max()
    scale = np.ldexp(1.0, power)
    whole = (np.floor(X) == X).all(axis=0)
    step = np.where(whole, np.maximum(scale / _STEPS, 0.5), scale / _STEPS)
    origin = np.rint((low + high) / 2 / step) * step
    kept = scale if np.ptp(power) else np.ones_like(scale)
    return _Scaling(origin, kept, kept)


def _elementwise_bytes(scaling):
    """Bytes of an origin and a scale for each feature; none where all have the same."""
    return table_bytes([part for part in (scaling.origin, scaling.kept) if np.ptp(part) > 0])


# ---------------------------------------------------------------------------------------------
# The SVM to start from
# ---------------------------------------------------------------------------------------------

_MOST_ROWS = {"rbf": 8000, "poly": 8000, "laplacian": 4000, "linear": 4000}  # of the SVM


def _sample(groups, most, rng):
    """Rows in proportion to the groups, about `most`, but one of each group at least."""
    step = -(-len(groups) // most)
    order = np.lexsort((rng.permutation(len(groups)), groups))
    return np.sort(order[np.union1d(np.arange(0, len(order), step), _firsts(groups[order]))])


def _firsts(ordered):
    return np.flatnonzero(np.diff(ordered, prepend=-1))


def _supported(machine, seen, rows):
    """Fit a machine for each column of the targets.

    Return the rows that support any, their coefficients, and the intercepts.
    """
    n, n_outputs = rows.targets.shape
    coefficients, intercept = np.zeros((n, n_outputs)), np.zeros(n_outputs)
    for k in range(n_outputs):
        machine.fit(seen, rows.targets[:, k], sample_weight=rows.weights)
        coefficients[machine.support_, k] = machine.dual_coef_[0]
        intercept[k] = machine.intercept_[0]
    support = np.flatnonzero(np.any(coefficients != 0, axis=1))
    if not len(support):  # a constant is all there is
        support = np.arange(n)
    return support, coefficients[support], intercept


def _hyperplanes(machine, rows):
    """Fit a linear machine for each column of the targets; return normals and intercepts."""
    normals, intercepts = [], []
    for target in rows.targets.T:
        machine.fit(rows.X, target, rows.weights)
        normals.append(np.ravel(machine.coef_))
        intercepts.append(np.ravel(machine.intercept_))
    return np.array(normals), np.concatenate(intercepts)


def _factor(scores, y, weights, loss):
    """The factor of scores at which a loss is least; this calibrates probabilities."""
    gradient = np.empty_like(scores)

    def value(log_factor):
        return loss(np.exp(log_factor) * scores, y, weights, gradient)

    return float(np.exp(minimize_scalar(value, bounds=(-5, 5), method="bounded").x))


# ---------------------------------------------------------------------------------------------
# The gradient
# ---------------------------------------------------------------------------------------------


class _Kernelled(Objective):
    """Loss of a batch and its gradient by W, where there is a map, Z, B, b and log(gamma)."""

    def __init__(self, parameters, kernel, *task):
        super().__init__(parameters, *task)
        self.kernel = kernel

    @property
    def bias(self):
        return self.parameters[-2]

    def multiply(self, factor):
        """Multiply the scores."""
        for part in self.parameters[-3:-1]:
            part *= factor

    def scores(self, X):
        *W, Z, B, b, log_gamma = self.parameters
        rows = X @ W[0].T if W else X
        kernel, _ = self.kernel.values(rows, Z, np.exp(log_gamma[0]))
        return kernel @ B + b

    def _backward(self, X, targets, weights):
        *W, Z, B, b, log_gamma = self.parameters
        *d_W, d_Z, d_B, d_b, d_log_gamma = self.gradients
        rows, gamma = X @ W[0].T if W else X, np.exp(log_gamma[0])
        kernel, kept = self.kernel.values(rows, Z, gamma)
        scores = kernel @ B
        scores += b
        d_scores = np.empty_like(scores)
        value = self.loss(scores, targets, weights, d_scores)
        np.dot(kernel.T, d_scores, out=d_B)
        d_scores.sum(axis=0, out=d_b)
        d_kept, d_log_gamma[0] = self.kernel.slope(d_scores @ B.T, kernel, kept, gamma)
        d_Z[:] = self.kernel.pull(d_kept.T, Z, rows)
        if W:
            np.dot(self.kernel.pull(d_kept, rows, Z).T, X, out=d_W[0])
        return value


class _Linear(Objective):
    """The same by w and b."""

    @property
    def bias(self):
        return self.parameters[-1]

    def multiply(self, factor):
        for part in self.parameters:
            part *= factor

    def scores(self, X):
        W, b = self.parameters
        return X @ W.T + b

    def _backward(self, X, targets, weights):
        d_W, d_b = self.gradients
        scores = self.scores(X)
        d_scores = np.empty_like(scores)
        value = self.loss(scores, targets, weights, d_scores)
        np.dot(d_scores.T, X, out=d_W)
        d_scores.sum(axis=0, out=d_b)
        return value


# ---------------------------------------------------------------------------------------------
# The estimators
# ---------------------------------------------------------------------------------------------


class _Rows(NamedTuple):
    """What is trained on; `y` is what the loss reads, `targets` has a column for each score."""

    X: np.ndarray
    y: np.ndarray
    groups: np.ndarray
    targets: np.ndarray
    weights: np.ndarray

    def take(self, chosen):
        return _Rows(*(part[chosen] for part in self))


def _clusters(seen, coefficients, groups, n_centres):
    """Means of clusters of what supports the SVM, by class and weight."""
    masses = np.abs(coefficients).sum(axis=1) + 1e-12
    groups = np.unique(groups, return_inverse=True)[1]
    return clustering.grouped_centres(seen, masses, groups, n_centres)


def _frac(grid, n_columns):
    """The frac of a grid: one number, or one for each column where they differ by column."""
    frac = grid.folded_frac
    return int(frac) if np.ndim(frac) == 0 else frac[:n_columns]


def _is_calibrated(estimator):
    if estimator.probability:
        return True
    raise AttributeError("Probabilities are available for probability=True only")


class _CompactSVM(GradientTrained):
    """All but the targets, the loss and the reading of the scores."""

    _parameter_constraints: ClassVar[dict] = {
        **GradientTrained._parameter_constraints,
        "n_vectors": [Interval(Integral, 1, None, closed="left"), None],
        "n_components": [Interval(Integral, 0, None, closed="left"), None],
        "kernel": [StrOptions({"rbf", "laplacian", "poly", "linear"})],
        "degree": [Interval(Integral, 2, 8, closed="both")],
        "gamma": [StrOptions({"scale"}), Interval(Real, 0, None, closed="neither")],
        "C": [Interval(Real, 0, None, closed="neither")],
        "input_noise": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "max_iter": [Interval(Integral, 0, None, closed="left")],
    }
    probability = False  # of values

    @property
    def _is_radial(self):
        return self.kernel in ("rbf", "laplacian")

    @property
    def _kernel(self):
        if self.kernel == "poly":
            return kernels.Polynomial(self.degree)
        return kernels.Gaussian() if self.kernel == "rbf" else kernels.Laplacian()

    def _fit_model(self, X, y, groups, targets, weights, loss, unit=1.0):
        """Train on scaled features and fold the scaling into the result.

        `y` is what the loss compares scores with, `targets` are those of the SVM, and `unit` will
        multiply the scores.
        """
        rng = self._rng()
        weights = (weights / weights.mean()).astype(np.float32)
        shape = self._shape(X, targets.shape[1])
        scaling = self._scaling(X, weights, shape)
        rows = _Rows(scaling(X), y, groups, targets, weights)
        if self.probability:
            unit = self._calibration(rows, shape, scaling, loss, rng.spawn(1)[0])
        objective, grids = self._trained(rows, shape, scaling, loss, unit, rng)
        self.n_iter_ = self.max_iter
        folded = [
            grid.folded(objective.theta).reshape(part.shape)
            for grid, part in zip(grids, objective.parameters, strict=False)
        ]
        self.intercept_ = unit * objective.bias.astype(np.float64)
        fracs = [_frac(grid, X.shape[1]) for grid in grids]
        if self.kernel == "linear":
            (self.coef_,), (self.coef_grid_,) = folded, fracs
            self.intercept_ -= self.coef_ @ scaling.origin
        else:
            self._keep(folded, fracs, scaling, float(np.exp(objective.parameters[-1][0])))

    def _keep(self, folded, fracs, scaling, gamma):
        """Set the attributes of a model with vectors."""
        *W, self.vectors_, coefficients = folded
        *frac, self.vectors_grid_, self.dual_coef_grid_ = fracs
        self.dual_coef_ = np.ascontiguousarray(coefficients.T)
        self.projection_, self.projection_grid_ = W[0] if W else None, frac[0] if W else None
        self.origin_ = self.projection_ @ scaling.origin if W else scaling.origin
        self.scale_ = scaling.kept
        if self._is_radial:
            unit = scaling.scale[0] / scaling.kept[0] if not W else 1.0
            self.gamma_ = gamma / (unit**2 if self.kernel == "rbf" else unit)

    # Structure -----------------------------------------------------------------------------------

    def _shape(self, X, n_outputs):
        """Numbers of components and of vectors."""
        if self.kernel == "linear":
            needed = table_bytes([np.ones((n_outputs, X.shape[1])), np.ones(n_outputs)])
            if self.max_bytes is not None and needed > self.max_bytes:
                self._refuse_budget(needed)
            return 0, 0
        features_bytes = _elementwise_bytes(_power_scaling(X)) if self._is_radial else 0
        given = self.n_components, self.n_vectors
        sizing = _Sizing(X.shape[1], n_outputs, self.kernel, *given, features_bytes)
        if self.max_bytes is None:
            return sizing.unbounded()
        shape = sizing.within(self.max_bytes)
        if shape is None:
            self._refuse_budget(sizing.smallest_bytes())
        return shape

    def _scaling(self, X, weights, shape):
        """Standardise; behind a distance that sees the features, bring their mean spread to 1."""
        standard = _Scaling(*preparation.standardisation(X, weights), np.ones(X.shape[1]))
        if shape[0] or self.kernel == "linear":
            return standard
        if self.kernel == "poly":  # gamma multiplies a product with vectors yet to be found
            gamma = 1 / X.shape[1] if self.gamma == "scale" else self.gamma
            return standard._replace(scale=standard.scale / np.sqrt(gamma))
        powers = _power_scaling(X)
        _, spread = preparation.standardisation((X - powers.origin) / powers.scale, weights)
        spread = spread[np.isfinite(spread)]
        unit = np.sqrt(np.mean(spread**2)) if len(spread) else 1.0
        return powers._replace(scale=powers.scale * unit)

    # Training ------------------------------------------------------------------------------------

    def _calibration(self, rows, shape, scaling, loss, rng):
        """The factor of scores that makes probabilities right on a fifth of the rows."""
        held = preparation.held_out(rows.groups, rng)
        held[np.unique(rows.groups, return_index=True)[1]] = False  # no class is to be missed
        objective, _ = self._trained(rows.take(~held), shape, scaling, loss, 1.0, rng)
        rows = rows.take(held)
        return _factor(objective.scores(rows.X), rows.y, rows.weights, self._likelihood)

    def _trained(self, rows, shape, scaling, loss, unit, rng):
        """The objective with what has been learned, and the grids of its matrices."""
        noise = self._noise(shape, *rows.X.shape)
        largest = self._largest_batch(len(rows.X)) * rows.X.shape[1]
        task = rows.X, rows.y, rows.weights, loss, preparation.Jitter(noise, largest, rng)
        objective = self._start(rows, shape, task, rng)
        grids = self._grids(objective.parameters, scaling, unit)
        sizes = self._step_sizes(objective.parameters)
        self.loss_curve_ = self._descend(objective, sizes, [], grids, len(rows.X), rng)
        return objective, grids

    def _noise(self, shape, n_rows, n_features):
        """The given standard deviation, or one that powers of sums of all features stand."""
        if self.input_noise != "auto":
            return self.input_noise
        noise = auto_noise(n_rows, n_features)
        return noise / 4 if self.kernel == "poly" and not shape[0] else noise

    def _start(self, rows, shape, task, rng):
        """The objective at the reduced set of an SVM."""
        few = rows.take(_sample(rows.groups, _MOST_ROWS[self.kernel], rng))
        if self.kernel == "linear":
            objective = _Linear(
                _hyperplanes(self._linear_svm(C=self.C, dual=False, tol=0.1), few), *task
            )
        else:
            objective = _Kernelled(self._reduced(rows, few, shape), self._kernel, *task)
        objective.multiply(self._start_factor(objective, few))
        return objective

    def _reduced(self, rows, few, shape):
        """W, where there is a map, Z, B, b and log(gamma) of the reduced set."""
        n_components, n_vectors = shape
        W, seen = [], few.X.astype(np.float64)
        if n_components:
            parts = rows.X, rows.weights, rows.groups, n_components
            W = [self._map(preparation.supervised_projection(*parts), seen)]
            seen = seen @ W[0].T
        gamma = 1.0 if self.kernel == "poly" else self._gamma(seen)
        matrix = seen
        if self.kernel == "laplacian":
            matrix = self._kernel.values(seen, seen, gamma)[0]
        support, coefficients, b = _supported(self._machine(gamma), matrix, few)
        points = _clusters(seen[support], coefficients, few.groups[support], n_vectors)
        Z, B = reduced_set(seen[support], coefficients, points, self._kernel, gamma)
        return [*W, Z, B, b, np.log([gamma])]

    def _map(self, W, seen):
        """Let the map take up gamma where the kernel has a product."""
        return np.sqrt(self._gamma(seen @ W.T)) * W if self.kernel == "poly" else W

    def _gamma(self, seen):
        """The given gamma, or 1 / (n_components * variance) as scikit-learn has it."""
        if self.gamma != "scale":
            return self.gamma
        return 1 / (seen.shape[1] * (seen.var() or 1.0))

    def _machine(self, gamma):
        parameters = {"C": self.C, "gamma": gamma, "coef0": 1.0, "degree": self.degree}
        name = "precomputed" if self.kernel == "laplacian" else self.kernel
        return self._svm(kernel=name, cache_size=500, **parameters)

    def _grids(self, parameters, scaling, unit):
        """Grids of the matrices; each is divided by its scale when training is over."""
        per_feature = np.tile(scaling.scale, len(parameters[0]))
        has_map = len(parameters) == 5
        if self.kernel == "linear":
            scales = [per_feature / unit]
        elif has_map:
            scales = [per_feature, 1.0, 1 / unit]
        elif self.kernel == "poly":
            scales = [per_feature, 1 / unit]
        else:
            scales = [(scaling.kept / scaling.scale)[0], 1 / unit]
        ends = np.cumsum([0, *(part.size for part in parameters)])
        parts = itertools.starmap(slice, itertools.pairwise(ends))
        return list(map(FoldedGrid, parts, scales))

    def _step_sizes(self, parameters):
        """A step is relative to the size a matrix starts with; b and log(gamma) are of size 1."""
        sizes = [np.sqrt(np.mean(part**2)) if part.ndim == 2 else 0.1 for part in parameters]
        counts = [part.size for part in parameters]
        return self.learning_rate * np.repeat(sizes, counts).astype(np.float32)

    # The result ----------------------------------------------------------------------------------

    def _count_bytes(self):
        if self.kernel == "linear":
            arrays = [self.coef_]
        else:
            arrays = [self.vectors_, self.dual_coef_, *self._of_features()]
        self.n_model_bytes_ = table_bytes([*arrays, self.intercept_])
        if self._is_radial:
            self.n_model_bytes_ += EXP_TABLE_BYTES

    def _of_features(self):
        """What is stored of the way from features to kernels; products have a bias."""
        bias = [] if self._is_radial else [np.ones(len(self.vectors_))]
        if self.projection_ is not None:
            return [self.projection_, self.origin_, *bias]
        if self.kernel == "poly":
            return bias
        return [part for part in (self.origin_, self.scale_) if np.ptp(part) > 0]

    def _scores(self, X):
        check_is_fitted(self)
        X = self._checked(X, reset=False).astype(np.float64, copy=False)
        if self.kernel == "linear":
            return X @ self.coef_.T + self.intercept_
        if self.projection_ is not None:
            seen = X @ self.projection_.T - self.origin_
        else:
            seen = (X - self.origin_) / self.scale_
        kernel, _ = self._kernel.values(seen, self.vectors_, getattr(self, "gamma_", 1.0))
        return kernel @ self.dual_coef_.T + self.intercept_


class CompactSVC(TrainedClassifier, _CompactSVM):
    """Support vector classifier of few synthetic vectors.

    The scores of a row are ``b + sum_j beta_j k(p, z_j)``. The vectors z_j, which all classes
    share, begin as a reduced set [1]_ [2]_ of scikit-learn's machines of each class against the
    others: few vectors whose kernels come close to the sums of theirs. From there vectors,
    coefficients, kernel width and the map are trained together to tell the classes apart.

    Parameters
    ----------
    n_vectors : int, default=None
        Number of vectors, shared by all scores. None means 4 per class, but at least 20, or as
        many as `max_bytes` allows.
    n_components : int, default=None
        Rows of the linear map before the kernel, at most the number of features; 0 lets the kernel
        see the features themselves. None means 0 for the laplacian kernel; for the others 10, or
        with `max_bytes` as many, up to 30, as leave room for three times as many vectors.
    kernel : {"rbf", "laplacian", "poly", "linear"}, default="rbf"
        The kernel of p, which is the features or what the map makes of them, and a vector z:

        - "rbf": ``exp(-gamma ||p - z||^2)``;
        - "laplacian": ``exp(-gamma ||p - z||_1)``, a power of two of a sum of absolute differences.
          On a device it takes subtractions, additions and a short table, but no product
          [3]_; `n_components` other than 0 gives that up;
        - "poly": ``(p . z + 1)^degree``, where gamma is a part of p and z;
        - "linear": one weight vector for each score, whatever is said of vectors and components.
    degree : int, default=2
        Degree of the polynomial kernel, from 2 to 8.
    gamma : "scale" or float, default="scale"
        Width of the kernel to begin with, for standardised features or what the map makes of them.
        "scale" means ``1 / (n * variance)`` of these n numbers. It is learned further.
    C : float, default=10.0
        Inverse strength of regularisation of the SVM to begin with.
    max_bytes : int, default=None
        Bound of `n_model_bytes_`. What is left at None above is chosen for it.
    loss : {"cross_entropy", "squared_hinge"}, default="cross_entropy"
        What is minimised after the start: the negative log-likelihood of the softmax of the scores,
        or the squared hinge loss of every class against the others.
    probability : bool, default=False
        Whether scores are scaled so that `predict_proba` is right on rows held out: a fifth of the
        training rows, in a fit of its own, which takes as long again.
    input_noise : float or "auto", default="auto"
        Standard deviation of the Gaussian noise added to the rows while training, in standard
        deviations of the features. "auto" means ``min(0.5, 2 * sqrt(n_features / n_samples))``, a
        quarter of it if polynomials see the features themselves.
    learning_rate : float, default=0.1
        Highest step size of Adam, relative to the size of the values a matrix starts with.
    max_iter : int, default=100
        Number of passes over the rows. 0 keeps the reduced set of the SVM as it is. In the last
        fifth all matrices are rounded to 8 bits, as they are stored on a device, and learn to make
        up for it.
    batch_size : int or "auto", default="auto"
        Rows in a step; "auto" means a tenth of the rows, but at least 8 and at most 128.
    class_weight : dict, "balanced" or None, default=None
        Weight of each class; "balanced" makes their total weights equal.
    verbose : bool or int, default=False
        Show a progress bar on stderr.
    random_state : int, RandomState instance or None, default=None
        Draws the order of the rows, the noise, and the rows of the SVM if there are too many.

    Attributes
    ----------
    projection_ : ndarray of shape (n_components, n_features) or None
        The map, with the standardisation of the features folded in.
    origin_ : ndarray of shape (n_components,) or (n_features,)
        What is subtracted from the mapped features, or from the features where there is no map.
    scale_ : ndarray of shape (n_features,)
        Powers of two that divide the features after that, where there is no map; ones if the
        features have like ranges.
    vectors_ : ndarray of shape (n_vectors, n_components or n_features)
        The vectors.
    dual_coef_ : ndarray of shape (n_outputs, n_vectors)
        What each kernel value adds to each score.
    intercept_ : ndarray of shape (n_outputs,)
        The constants of the scores.
    gamma_ : float
        Width of the kernel; of "rbf" and "laplacian" only.
    coef_ : ndarray of shape (n_outputs, n_features)
        Weights of the linear kernel, which has none of the above but `intercept_`.
    projection_grid_, vectors_grid_, dual_coef_grid_, coef_grid_ : int or ndarray
        The matrix times two to this power consists of whole numbers within ±127; one number, or one
        for each column.
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

    See Also
    --------
    CompactSVR : The same model for numbers.
    ProtoNNClassifier : A kernel machine with a sparse map, trained from clusters.

    Notes
    -----
    Where there is a map, and for the kernels "poly" and "linear", features need no scaling: they
    are standardised inside `fit`, and the result is folded into the matrices. Distances without a
    map divide features by powers of two near their ranges, and only if these differ.

    Of more than 8000 rows (4000 for "laplacian" and "linear") the SVM sees a sample; training sees
    all of them, in batches drawn at random: `sample_weight` is equivalent to repeating a row in
    expectation only.

    References
    ----------
    .. [1] C. J. C. Burges, "Simplified Support Vector Decision Rules", ICML 1996.
    .. [2] B. Schölkopf et al., "Input Space Versus Feature Space in Kernel-Based Methods", IEEE
       Transactions on Neural Networks 10(5), 1999.
    .. [3] D. Anguita, S. Pischiutta, S. Ridella and D. Sterpi, "Feed-Forward Support Vector Machine
       Without Multipliers", IEEE Transactions on Neural Networks 17(5), 2006.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.model_selection import train_test_split
    >>> from tinyml.estimators import CompactSVC
    >>> X, y = load_digits(return_X_y=True)
    >>> X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
    >>> model = CompactSVC(max_bytes=1024, random_state=0).fit(X_train, y_train)
    >>> model.n_model_bytes_ <= 1024
    True
    >>> model.score(X_test, y_test) > 0.94
    True
    """

    _parameter_constraints: ClassVar[dict] = {
        **_CompactSVM._parameter_constraints,
        **TrainedClassifier._parameter_constraints,
        "loss": [StrOptions({"cross_entropy", "squared_hinge"})],
        "probability": ["boolean"],
    }
    _svm, _linear_svm = SVC, LinearSVC

    def __init__(
        self,
        n_vectors=None,
        n_components=None,
        *,
        kernel="rbf",
        degree=2,
        gamma="scale",
        C=10.0,
        max_bytes=None,
        loss="cross_entropy",
        probability=False,
        input_noise="auto",
        learning_rate=0.1,
        max_iter=100,
        batch_size="auto",
        class_weight=None,
        verbose=False,
        random_state=None,
    ):
        self.n_vectors = n_vectors
        self.n_components = n_components
        self.kernel = kernel
        self.degree = degree
        self.gamma = gamma
        self.C = C
        self.max_bytes = max_bytes
        self.loss = loss
        self.probability = probability
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
        targets = preparation.one_hot(codes, len(self.classes_))
        with blas_single_thread():
            self._fit_model(X, codes, codes, targets, weights, self._loss())
        self._count_bytes()
        return self

    def _loss(self):
        return losses.squared_hinge if self.loss == "squared_hinge" else self._likelihood

    @property
    def _likelihood(self):
        return losses.logistic if self._n_outputs == 1 else losses.softmax_cross_entropy

    def _start_factor(self, objective, rows):
        """Let the scores of the SVM begin in the size in which the loss wants them."""
        return _factor(objective.scores(rows.X), rows.y, rows.weights, objective.loss)

    @available_if(_is_calibrated)
    def predict_proba(self, X):
        """Softmax of the scores, of two classes the logistic function of the one score.

        Available for ``probability=True``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes)
            Probability of each class, in the order of `classes_`.
        """
        return probabilities(self.decision_function(X))


class CompactSVR(TrainedRegressor, _CompactSVM):
    """Support vector regression of few synthetic vectors.

    The prediction for a row is ``b + sum_j beta_j k(p, z_j)``. The vectors z_j begin as a reduced
    set [1]_ [2]_ of scikit-learn's SVR; from there vectors, coefficients, kernel width and the map
    are trained together for the squared error.

    Parameters
    ----------
    n_vectors : int, default=None
        Number of vectors, shared by all scores. None means 20, or as many as
        `max_bytes` allows.
    n_components : int, default=None
        Rows of the linear map before the kernel, at most the number of features; 0 lets the kernel
        see the features themselves. None means 0 for the laplacian kernel; for the others 10, or
        with `max_bytes` as many, up to 30, as leave room for three times as many vectors.
    kernel : {"rbf", "laplacian", "poly", "linear"}, default="rbf"
        The kernel of p, which is the features or what the map makes of them, and a vector z:

        - "rbf": ``exp(-gamma ||p - z||^2)``;
        - "laplacian": ``exp(-gamma ||p - z||_1)``, a power of two of a sum of absolute differences.
          On a device it takes subtractions, additions and a short table, but no product
          [3]_; `n_components` other than 0 gives that up;
        - "poly": ``(p . z + 1)^degree``, where gamma is a part of p and z;
        - "linear": one weight vector for each score, whatever is said of vectors and components.
    degree : int, default=2
        Degree of the polynomial kernel, from 2 to 8.
    gamma : "scale" or float, default="scale"
        Width of the kernel to begin with, for standardised features or what the map makes of them.
        "scale" means ``1 / (n * variance)`` of these n numbers. It is learned further.
    C : float, default=1.0
        Inverse strength of regularisation of the SVM to begin with.
    epsilon : float, default=0.1
        Errors up to this are free in the SVM to begin with, in standard deviations of the values.
    max_bytes : int, default=None
        Bound of `n_model_bytes_`. What is left at None above is chosen for it.
    input_noise : float or "auto", default="auto"
        Standard deviation of the Gaussian noise added to the rows while training, in standard
        deviations of the features. "auto" means ``min(0.5, 2 * sqrt(n_features / n_samples))``, a
        quarter of it if polynomials see the features themselves.
    learning_rate : float, default=0.1
        Highest step size of Adam, relative to the size of the values a matrix starts with.
    max_iter : int, default=100
        Number of passes over the rows. 0 keeps the reduced set of the SVM as it is. In the last
        fifth all matrices are rounded to 8 bits, as they are stored on a device, and learn to make
        up for it.
    batch_size : int or "auto", default="auto"
        Rows in a step; "auto" means a tenth of the rows, but at least 8 and at most 128.
    verbose : bool or int, default=False
        Show a progress bar on stderr.
    random_state : int, RandomState instance or None, default=None
        Draws the order of the rows, the noise, and the rows of the SVM if there are too many.

    Attributes
    ----------
    projection_ : ndarray of shape (n_components, n_features) or None
        The map, with the standardisation of the features folded in.
    origin_ : ndarray of shape (n_components,) or (n_features,)
        What is subtracted from the mapped features, or from the features where there is no map.
    scale_ : ndarray of shape (n_features,)
        Powers of two that divide the features after that, where there is no map; ones if the
        features have like ranges.
    vectors_ : ndarray of shape (n_vectors, n_components or n_features)
        The vectors.
    dual_coef_ : ndarray of shape (n_outputs, n_vectors)
        What each kernel value adds to each score.
    intercept_ : ndarray of shape (n_outputs,)
        The constants of the scores.
    gamma_ : float
        Width of the kernel; of "rbf" and "laplacian" only.
    coef_ : ndarray of shape (n_outputs, n_features)
        Weights of the linear kernel, which has none of the above but `intercept_`.
    projection_grid_, vectors_grid_, dual_coef_grid_, coef_grid_ : int or ndarray
        The matrix times two to this power consists of whole numbers within ±127; one number, or one
        for each column.
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

    See Also
    --------
    CompactSVC : The same model for classes.
    ProtoNNRegressor : A kernel machine with a sparse map, trained from clusters.

    Notes
    -----
    Where there is a map, and for the kernels "poly" and "linear", features need no scaling: they
    are standardised inside `fit`, and the result is folded into the matrices. Distances without a
    map divide features by powers of two near their ranges, and only if these differ.

    Of more than 8000 rows (4000 for "laplacian" and "linear") the SVM sees a sample; training sees
    all of them, in batches drawn at random: `sample_weight` is equivalent to repeating a row in
    expectation only.

    References
    ----------
    .. [1] C. J. C. Burges, "Simplified Support Vector Decision Rules", ICML 1996.
    .. [2] B. Schölkopf et al., "Input Space Versus Feature Space in Kernel-Based Methods", IEEE
       Transactions on Neural Networks 10(5), 1999.
    .. [3] D. Anguita, S. Pischiutta, S. Ridella and D. Sterpi, "Feed-Forward Support Vector Machine
       Without Multipliers", IEEE Transactions on Neural Networks 17(5), 2006.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from tinyml.estimators import CompactSVR
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = CompactSVR(max_bytes=400, kernel="laplacian", random_state=0)
    >>> model = model.fit(X[:300], y[:300])
    >>> model.n_model_bytes_ <= 400
    True
    >>> model.score(X[300:], y[300:]) > 0.4
    True
    """

    _parameter_constraints: ClassVar[dict] = {
        **_CompactSVM._parameter_constraints,
        "epsilon": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        n_vectors=None,
        n_components=None,
        *,
        kernel="rbf",
        degree=2,
        gamma="scale",
        C=1.0,
        epsilon=0.1,
        max_bytes=None,
        input_noise="auto",
        learning_rate=0.1,
        max_iter=100,
        batch_size="auto",
        verbose=False,
        random_state=None,
    ):
        self.n_vectors = n_vectors
        self.n_components = n_components
        self.kernel = kernel
        self.degree = degree
        self.gamma = gamma
        self.C = C
        self.epsilon = epsilon
        self.max_bytes = max_bytes
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
        task = targets.astype(np.float32), groups, targets, weights, losses.squared
        with blas_single_thread():
            self._fit_model(X, *task, scale)
        self.intercept_ += mean
        self._count_bytes()
        return self

    def _svm(self, **parameters):
        return SVR(epsilon=self.epsilon, **parameters)

    def _linear_svm(self, **parameters):
        loss = "squared_epsilon_insensitive"  # that of LinearSVC is squared, too
        return LinearSVR(epsilon=self.epsilon, loss=loss, **parameters)

    def _start_factor(self, objective, rows):
        return 1.0


# ---------------------------------------------------------------------------------------------
# Lowering
# ---------------------------------------------------------------------------------------------


@lower.register
def _(model: CompactSVC, g: Graph, x: Node) -> Node:
    if model.probability:
        g.link = "expit" if len(model.classes_) == 2 else "softmax"
    return _lower(model, x)


@lower.register
def _(model: CompactSVR, g: Graph, x: Node) -> Node:
    return _lower(model, x)


def _lower(model: _CompactSVM, x: Node) -> Node:
    if model.kernel == "linear":
        return Affine(x, model.coef_, model.intercept_, model.coef_grid_)
    kernel = _lower_kernel(model, _lower_features(model, x))
    return Affine(kernel, model.dual_coef_, model.intercept_, model.dual_coef_grid_)


def _lower_features(model: _CompactSVM, x: Node) -> Node:
    if model.projection_ is not None:
        return Affine(x, model.projection_, -model.origin_, model.projection_grid_)
    x = x - model.origin_
    return x / model.scale_ if np.any(model.scale_ != 1) else x


def _lower_kernel(model: _CompactSVM, x: Node) -> Node:
    points, grid = model.vectors_, model.vectors_grid_
    if model.kernel == "poly":
        base = Affine(x, points, 1.0, grid)
        return reduce(mul, [base] * model.degree)
    distance = SquaredDistance if model.kernel == "rbf" else AbsoluteDistance
    return Decay(distance(x, points, grid), model.gamma_)
