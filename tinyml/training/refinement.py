"""Refitting the leaves of a forest whose splits stay, freely or to a few that all leaves share.

Every leaf is an indicator of the rows that reach it, and the scores are the sum of the leaves'
values. The leaves of one tree are disjoint, so that for each a Newton step of its own is exact up
to the coupling of classes; the trees take their turns.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numba import njit
from scipy.optimize import minimize
from scipy.special import expit, log_softmax
from sklearn.cluster import KMeans

from ..codegen.fixed import grid

LOSSES = {"squared": 0, "logistic": 1, "softmax": 2}
_LONGEST_STEP = 2.0  # of a log-odd, so that pure leaves do not run away
_LEAST_MASS = 0.01  # of a leaf that no row reaches, when leaves are grouped
_LEAST_ODDS, _MOST_ODDS, _EXTREME = 1e-100, 1e100, 200.0  # beyond, odds are set anew
_MOST_ITERATIONS = 15  # of L-BFGS; the leaves choose anew after them


@dataclass(frozen=True, eq=False)
class LeafRegression:
    """The regression of targets on the leaves that rows reach, with an L2 penalty.

    Parameters
    ----------
    trees : Trees
    X : ndarray of shape (n_samples, n_features)
    target : ndarray of shape (n_samples, n_outputs)
        Values, or 1 for the class of the row and 0 for the others (one column for two classes).
    weight : ndarray of shape (n_samples,)
    loss : {"squared", "logistic", "softmax"}
    ridge : float
        Penalty, in rows: a leaf of that many rows is shrunk to half of its value.
    offset : ndarray of shape (n_outputs,), optional
        Scores where no tree adds anything; by default the best ones.
    """

    trees: object
    X: np.ndarray
    target: np.ndarray
    weight: np.ndarray
    loss: str
    ridge: float
    offset: np.ndarray | None = None

    def __post_init__(self):
        if self.offset is None:
            offset = constant(self.target, self.weight, self.loss)
            object.__setattr__(self, "offset", offset)

    @cached_property
    def leaves(self):
        """Leaf of every row in every tree, shape (n_trees, n_samples)."""
        return np.ascontiguousarray(self.trees.apply(self.X).T)

    @cached_property
    def _rows(self):
        target = np.ascontiguousarray(self.target, dtype=np.float64)
        return self.leaves, target, self.weight

    def scores(self, value):
        """Return the scores of the rows, given the values of the leaves."""
        return self.offset + sum(value[leaf] for leaf in self.leaves)

    def free(self, n_sweeps, rate, value=None):
        """Fit every leaf for itself.

        Parameters
        ----------
        n_sweeps : int
            Turns of every tree.
        rate : float
            Share of the Newton step that is taken; less generalises better.
        value : ndarray of shape (n_nodes, n_outputs), optional
            To begin from; zeros by default.

        Returns
        -------
        value : ndarray of shape (n_nodes, n_outputs)
        """
        shape = self.trees.n_nodes, self.target.shape[1]
        value = np.zeros(shape) if value is None else value.copy()
        scores = self.scores(value)
        for _ in range(n_sweeps):
            _free_sweep(*self._rows, scores, value, LOSSES[self.loss], self.ridge, rate)
        return value

    def shared(self, value, n_codes, n_rounds, *, n_entries, bits, rng):
        """Fit leaves that choose among few rows of values, and these rows.

        In turns every leaf takes the row that is best for the loss beside all other leaves, and the
        rows are fitted to the leaves that took them: both steps lower the same loss. In the
        second half of the rounds rows keep few entries that are not zero, and the last
        ones are on a grid.

        Parameters
        ----------
        value : ndarray of shape (n_nodes, n_outputs)
            Values of leaves that are free, to begin from.
        n_codes : int
            Different rows, at most.
        n_rounds : int
        n_entries : int
            Entries of a row that are not zero, at most.
        bits : int
            Of an entry, its sign included.
        rng : int
            Seed of the first grouping.

        Returns
        -------
        value : ndarray of shape (n_nodes, n_outputs)
            With at most `n_codes` different rows at the leaves; zero elsewhere.
        offset : ndarray of shape (n_outputs,)
            On the grid of these values, like them.
        """
        codes, code = self._grouped(value, n_codes, rng)
        used = np.ones(codes.shape, dtype=bool)
        for k in range(n_rounds):
            codes = self._fitted_codes(codes, code, used)
            if 2 * k >= n_rounds:
                codes = self._sparse(codes, n_entries)
                used = codes != 0
                codes = self._fitted_codes(codes, code, used)
            offset = self.offset
            if k >= n_rounds - 2:
                frac = grid(codes, bits)
                codes, offset = _rounded(codes, frac), _rounded(offset, frac)
            self._choose(codes, code, offset)
        result = np.zeros(value.shape)
        result[self.trees.is_leaf] = codes[code[self.trees.is_leaf]]
        return result, offset

    def _grouped(self, value, n_codes, rng):
        """Group the leaves by their values, the fuller ones weighing more."""
        is_leaf = self.trees.is_leaf
        n_nodes = self.trees.n_nodes
        count = sum(np.bincount(leaf, self.weight, n_nodes) for leaf in self.leaves)[is_leaf]
        value = self._centred(value[is_leaf])
        n_codes = min(n_codes, len(np.unique(value, axis=0)))
        groups = KMeans(n_codes, n_init=1, max_iter=10, random_state=rng)
        groups.fit(value, sample_weight=count + _LEAST_MASS)
        code = np.zeros(self.trees.n_nodes, dtype=np.int32)
        code[is_leaf] = groups.labels_
        return groups.cluster_centers_, code

    def _centred(self, value):
        """Shift rows where only differences count, so that most of their entries are small."""
        if self.loss != "softmax":
            return value
        return value - np.median(value, axis=1, keepdims=True)

    def _sparse(self, codes, n_entries):
        """Keep the largest entries of every row."""
        codes = self._centred(codes)
        size = np.abs(codes)
        if n_entries < codes.shape[1]:
            codes = np.where(size < -np.sort(-size, axis=1)[:, n_entries - 1 : n_entries], 0, codes)
        return np.where(size < 2.0**-6 * size.max(), 0.0, codes)

    def _choose(self, codes, code, offset):
        """Let every leaf take the best of the rows of values."""
        n_outputs = self.target.shape[1]
        scores = np.tile(offset, (len(self.X), 1))
        for leaf in self.leaves:
            scores += codes[code[leaf]]
        room = np.zeros((2, self.trees.n_nodes, n_outputs))
        _choice_sweep(*self._rows, scores, codes, code, LOSSES[self.loss], self.ridge, *room)

    def _fitted_codes(self, codes, code, used):
        """Fit the entries of the rows of values that are used."""
        is_leaf = self.trees.is_leaf
        counts = np.zeros((len(self.X), len(codes)))
        rows = np.arange(len(self.X))
        for leaf in self.leaves:
            counts[rows, code[leaf]] += 1
        mass = self.ridge * np.bincount(code[is_leaf], minlength=len(codes))[:, None]

        def objective(entries):
            codes = np.zeros(used.shape)
            codes[used] = entries
            loss, slope = self._loss_and_slope(self.offset + counts @ codes)
            slope = counts.T @ slope + mass * codes
            return loss + 0.5 * (mass * codes**2).sum(), slope[used]

        options = {"maxiter": _MOST_ITERATIONS}
        found = minimize(objective, codes[used], jac=True, method="L-BFGS-B", options=options)
        result = np.zeros(codes.shape)
        result[used] = found.x
        return result

    def _loss_and_slope(self, scores):
        _, target, weight = self._rows
        weight = weight[:, None]
        if self.loss == "squared":
            return 0.5 * (weight * (scores - target) ** 2).sum(), weight * (scores - target)
        if self.loss == "logistic":
            loss = weight * (np.logaddexp(0.0, scores) - target * scores)
            return loss.sum(), weight * (expit(scores) - target)
        logs = log_softmax(scores, axis=1)
        return -(weight * target * logs).sum(), weight * (np.exp(logs) - target)


def constant(target, weight, loss):
    """Return the best scores that are the same for all rows."""
    mean = np.average(target, axis=0, weights=weight)
    if loss == "squared":
        return mean
    mean = np.clip(mean, 1e-6, 1 - 1e-6)
    return np.log(mean / (1 - mean)) if loss == "logistic" else np.log(mean)


def _rounded(values, frac):
    """Round to the grid of `frac` fractional bits."""
    return np.ldexp(np.floor(np.ldexp(values, frac) + 0.5), -frac)


@njit(cache=True)
def _free_sweep(leaves, target, weight, scores, value, loss, ridge, rate):
    """Let every tree take a Newton step; `scores` and `value` follow."""
    slope, curvature = np.zeros(value.shape), np.zeros(value.shape)
    odds = _odds(scores, loss)
    for leaf in leaves:
        first, end = leaf.min(), leaf.max() + 1
        _add_slopes(leaf, target, weight, scores, odds, loss, slope, curvature)
        for m in range(first, end):
            for k in range(value.shape[1]):
                step = rate * (slope[m, k] - ridge * value[m, k]) / (curvature[m, k] + ridge)
                if loss:
                    step = min(max(step, -_LONGEST_STEP), _LONGEST_STEP)
                slope[m, k] = step
                value[m, k] += step
        _add(leaf, first, slope[first:end], scores, odds, loss)
        slope[first:end] = 0.0
        curvature[first:end] = 0.0


@njit(cache=True)
def _choice_sweep(leaves, target, weight, scores, codes, code, loss, ridge, slope, curvature):
    """Let the leaves of every tree choose; `scores` and `code` follow."""
    odds = _odds(scores, loss)
    for leaf in leaves:
        first, end = leaf.min(), leaf.max() + 1
        _add_slopes(leaf, target, weight, scores, odds, loss, slope, curvature)
        for m in range(first, end):
            before = codes[code[m]]
            curvature[m] += ridge
            slope[m] = before + (slope[m] - ridge * before) / curvature[m]  # where it would go
            if loss:
                for k in range(len(before)):
                    step = slope[m, k] - before[k]
                    slope[m, k] = before[k] + min(max(step, -_LONGEST_STEP), _LONGEST_STEP)
            code[m] = _nearest(slope[m], curvature[m], codes, loss == 2)
            slope[m] = codes[code[m]] - before
        _add(leaf, first, slope[first:end], scores, odds, loss)
        slope[first:end] = 0.0
        curvature[first:end] = 0.0


@njit(cache=True)
def _nearest(wanted, curvature, codes, may_shift):
    """Return the row that costs least by the quadratic model; a shift of all entries is free."""
    best, least = 0, np.inf
    mass = curvature.sum()
    for c in range(len(codes)):
        first, second = 0.0, 0.0
        for k in range(len(wanted)):
            far = codes[c, k] - wanted[k]
            first += curvature[k] * far
            second += curvature[k] * far * far
        cost = second - first * first / mass if may_shift else second
        if cost < least:
            best, least = c, cost
    return best


@njit(cache=True)
def _add_slopes(leaf, target, weight, scores, odds, loss, slope, curvature):
    """Add up, for each leaf of a tree, the negative gradient and the curvature of its rows."""
    for i in range(len(leaf)):
        m, total = leaf[i], _total(odds[i], loss)
        for k in range(target.shape[1]):
            mean = odds[i, k] / total if loss else scores[i, k]
            slope[m, k] += weight[i] * (target[i, k] - mean)
            curvature[m, k] += weight[i] * (mean * (1.0 - mean) if loss else 1.0)


@njit(cache=True)
def _add(leaf, first, steps, scores, odds, loss):
    """Add what the leaves from `first` on have gained; odds are multiplied by its exponential."""
    factors = np.exp(steps) if loss else steps
    for i in range(len(leaf)):
        m = leaf[i] - first
        for k in range(steps.shape[1]):
            scores[i, k] += steps[m, k]
        if loss:
            for k in range(steps.shape[1]):
                odds[i, k] *= factors[m, k]
            if not _LEAST_ODDS < _total(odds[i], loss) < _MOST_ODDS:
                _set_odds(scores[i], odds[i], loss)


@njit(cache=True)
def _odds(scores, loss):
    """Return exp(score), of several classes up to a factor of each row; of values the scores."""
    odds = scores.copy()
    if loss:
        for i in range(len(scores)):
            _set_odds(scores[i], odds[i], loss)
    return odds


@njit(cache=True)
def _set_odds(scores, odds, loss):
    highest = scores.max() if loss == 2 else 0.0
    for k in range(len(scores)):
        odds[k] = np.exp(min(max(scores[k] - highest, -_EXTREME), _EXTREME))


@njit(cache=True)
def _total(odds, loss):
    """Return the sum of the odds of all classes; of two the first has 1."""
    return odds.sum() + (1.0 if loss == 1 else 0.0)
