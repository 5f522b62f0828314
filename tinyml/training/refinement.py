"""Refitting the leaves of a forest whose splits stay, freely or to a few that all leaves share.

Every leaf is an indicator of the rows that reach it, and the scores are the sum of the leaves'
values. The leaves of one tree are disjoint, so that for each a Newton step of its own is exact up
to the coupling of classes; the trees take their turns.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numba import njit
from scipy.optimize import minimize
from sklearn.cluster import KMeans

from ..codegen.fixed import grid
from . import losses
from .subtrees import leaf_weights, leaves_of_rows

_NUMBERS = {name: n for n, name in enumerate(losses.BY_NAME)}  # in the kernels below
_LONGEST_STEP = 2.0  # of a log-odd, so that pure leaves do not run away
_LEAST_MASS = 0.01  # of a leaf that no row reaches, when leaves are grouped
_LEAST_ODDS, _MOST_ODDS, _EXTREME = 1e-100, 1e100, 200.0  # beyond, odds are set anew
_FIRST_ODDS = (1.0, 1.0, 0.0)  # by loss: of the first of two classes, which has no score


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
        Penalty, in rows: a leaf of that many rows stays half way between its prior value and what
        the rows want.
    offset : ndarray of shape (n_outputs,), optional
        Scores where no tree adds anything; by default the best ones.
    prior : ndarray of shape (n_nodes, n_outputs), optional
        Values that leaves have where rows do not speak against them; 0 by default.
    memory : LeafMemory, optional
        What is known of the forest that the trees were cut from, and of these rows.
    """

    trees: object
    X: np.ndarray
    target: np.ndarray
    weight: np.ndarray
    loss: str
    ridge: float
    offset: np.ndarray | None = None
    prior: np.ndarray | None = None
    memory: LeafMemory | None = None

    def __post_init__(self):
        if self.offset is None:
            offset = constant(self.target, self.weight, self.loss)
            object.__setattr__(self, "offset", offset)
        if self.prior is None:
            prior = np.zeros((self.trees.n_nodes, self.target.shape[1]))
            object.__setattr__(self, "prior", prior)

    def with_prior(self, value):
        """Take values for the prior, against those of the roots and up to a factor.

        Factor and offset are what suits the rows.
        """
        value = value - value[self.trees.root][self.trees.tree]
        sums = _scores(self.leaves, value, np.zeros(value.shape[1]))
        mean = np.average(sums, axis=0, weights=self.weight)
        size = np.sqrt(np.mean((sums - mean) ** 2)) or 1.0
        factor, offset = self._scaled((sums - mean) / size)
        factor /= size
        prior = np.where(self.trees.is_leaf[:, None], factor * value, 0.0)
        return replace(self, prior=prior, offset=offset - factor * mean)

    def _scaled(self, scores):
        """Return the factor of some scores, and what to add to them, so that the loss is least."""
        if self.loss == "squared":
            mean = np.average(self.target, axis=0, weights=self.weight)
            square = self.weight @ (scores**2).sum(axis=1)
            product = self.weight @ (scores * (self.target - mean)).sum(axis=1)
            return (product / square if square else 0.0), mean

        def objective(parameters):
            factor, offset = parameters[0], parameters[1:]
            loss, slope = self._loss_and_slope(factor * scores + offset)
            loss += 0.5 * factor**2  # of one row: classes may be told apart without an error
            return loss, np.append((slope * scores).sum() + factor, slope.sum(axis=0))

        best = minimize(objective, np.append(0.0, self.offset), jac=True, method="L-BFGS-B").x
        return best[0], best[1:]

    @cached_property
    def leaves(self):
        """Leaf of every row in every tree, shape (n_trees, n_samples)."""
        if self.memory is None:
            return leaves_of_rows(self.trees, self.X)
        return self.memory.leaves(self.trees)

    @cached_property
    def mass(self):
        """Weight of the rows of every leaf, shape (n_nodes,)."""
        return leaf_weights(self.leaves, self.weight, self.trees.n_nodes)

    @cached_property
    def _rows(self):
        target = np.ascontiguousarray(self.target, dtype=np.float64)
        return self.leaves, target, self.weight

    @cached_property
    def _labels(self):
        """What the kernels of losses compare scores with, and weights that make means sums."""
        weight = len(self.weight) * self.weight
        target = losses.compared(self._rows[1], self.loss)
        return target, 0.5 * weight if self.loss == "squared" else weight

    def scores(self, value):
        """Return the scores of the rows, given the values of the leaves."""
        return _scores(self.leaves, value, self.offset)

    def free(self, n_sweeps, rate, value=None):
        """Fit every leaf for itself.

        Parameters
        ----------
        n_sweeps : int
            Turns of every tree.
        rate : float
            Share of the Newton step that is taken; less generalises better.
        value : ndarray of shape (n_nodes, n_outputs), optional
            To begin from; the prior by default.

        Returns
        -------
        value : ndarray of shape (n_nodes, n_outputs)
        """
        value = self.prior.copy() if value is None else value.copy()
        scores = self.scores(value)
        penalty = self.prior, self.ridge
        for _ in range(n_sweeps):
            _free_sweep(*self._rows, scores, value, _NUMBERS[self.loss], *penalty, rate)
        return value

    def shared(self, value, n_codes, n_rounds, n_steps, *, n_entries, bits, rng):
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
        n_steps : int
            Of L-BFGS when the rows are fitted, at most; the leaves choose anew after them.
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
            counts = _counts(self.leaves, code, len(codes))
            penalty = self._penalties(code, len(codes))
            codes = self._fitted_codes(codes, counts, penalty, used, n_steps)
            if 2 * k >= n_rounds:
                codes = self._sparse(codes, n_entries)
                used = codes != 0
                codes = self._fitted_codes(codes, counts, penalty, used, n_steps)
            offset = self.offset
            if k >= n_rounds - 2:
                frac = grid(codes, bits)
                codes, offset = _rounded(codes, frac), _rounded(offset, frac)
            self._choose(codes, code, offset + counts @ codes)
        result = np.zeros(value.shape)
        result[self.trees.is_leaf] = codes[code[self.trees.is_leaf]]
        return result, offset

    def _grouped(self, value, n_codes, rng):
        """Group the leaves by their values, the fuller ones weighing more."""
        is_leaf = self.trees.is_leaf
        value = self._centred(value[is_leaf])
        n_codes = min(n_codes, len(np.unique(value, axis=0)))
        groups = KMeans(n_codes, n_init=1, max_iter=10, random_state=rng)
        groups.fit(value, sample_weight=self.mass[is_leaf] + _LEAST_MASS)
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

    def _choose(self, codes, code, scores):
        """Let every leaf take the best of the rows of values."""
        room = np.zeros((2, self.trees.n_nodes, self.target.shape[1]))
        penalty = self.prior, self.ridge
        _choice_sweep(*self._rows, scores, codes, code, _NUMBERS[self.loss], *penalty, *room)

    def _penalties(self, code, n_codes):
        """Return weight and centre of the penalties of the leaves that took each row of values."""
        is_leaf = self.trees.is_leaf
        n_leaves = np.bincount(code[is_leaf], minlength=n_codes)[:, None]
        sums = np.zeros((n_codes, self.prior.shape[1]))
        np.add.at(sums, code[is_leaf], self.prior[is_leaf])
        return self.ridge * n_leaves, sums / np.maximum(n_leaves, 1)

    def _fitted_codes(self, codes, counts, penalty, used, n_steps):
        """Fit the entries of the rows of values that are used."""
        # of many outputs, single precision suffices and takes half the time
        counts = counts.astype(np.float32 if len(self.offset) > 1 else np.float64, copy=False)
        offset = self.offset.astype(counts.dtype)
        mass, centre = penalty

        def objective(entries):
            codes = np.zeros(used.shape, dtype=counts.dtype)
            codes[used] = entries
            loss, slope = self._loss_and_slope(offset + counts @ codes)
            slope = counts.T @ slope + mass * (codes - centre)
            return loss + 0.5 * (mass * (codes - centre) ** 2).sum(), slope[used]

        options = {"maxiter": n_steps}
        found = minimize(objective, codes[used], jac=True, method="L-BFGS-B", options=options)
        result = np.zeros(codes.shape)
        result[used] = found.x
        return result

    def _loss_and_slope(self, scores):
        slope = np.empty_like(scores)
        return losses.BY_NAME[self.loss](scores, *self._labels, slope), slope


class LeafMemory:
    """What leaves were worth when they were last fitted, for forests cut from the same one.

    Parameters
    ----------
    trees : Trees
        The forest that all others are cut from, at nodes that some rows reach.
    X : ndarray of shape (n_samples, n_features)
        Rows.
    """

    def __init__(self, trees, X):
        self.trees, self.X = trees, X
        self._value = self._leaves = None

    @cached_property
    def _whole_leaves(self):
        return leaves_of_rows(self.trees, self.X)

    def leaves(self, trees):
        """Return the leaf of every row in every tree, shape (n_trees, n_samples)."""
        number = np.full(self.trees.n_nodes, -1, dtype=np.int32)
        leaves = np.flatnonzero(trees.is_leaf)
        number[trees.origin[leaves]] = leaves
        _inherit(self.trees.left, self.trees.right, number)
        kept = self.trees.tree[trees.origin[trees.root]]
        return number[self._whole_leaves[kept]]

    def recall(self, trees):
        """Return values to begin from, None at first, and which share of the leaves is new.

        A split that has become a leaf begins with the mean of the leaves that were under it.
        """
        if self._value is None:
            return None, 1.0
        leaves = trees.origin[trees.is_leaf]
        known = np.isin(leaves, self._leaves, assume_unique=True).sum()
        return self._value[trees.origin], 1.0 - known / max(len(leaves), len(self._leaves))

    def keep(self, regression, value):
        """Remember the values of leaves that were fitted freely."""
        trees = regression.trees
        is_leaf = trees.is_leaf
        self._leaves = trees.origin[is_leaf]
        self._value = np.zeros((self.trees.n_nodes, value.shape[1]))
        self._value[self._leaves] = value[is_leaf]
        mass = np.zeros(self.trees.n_nodes)
        mass[self._leaves] = regression.mass[is_leaf] + _LEAST_MASS
        _spread(self.trees.left, self.trees.right, self._value, mass)


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
def _inherit(left, right, number):
    """Give nodes without a number the one of the next node above that has one."""
    for m in range(len(left)):
        if left[m] >= 0 and number[m] >= 0:
            number[left[m]] = number[right[m]] = number[m]


@njit(cache=True)
def _spread(left, right, value, mass):
    """Give splits above nodes with a mass the mean of these, and nodes below them their value."""
    for m in range(len(left) - 1, -1, -1):
        if left[m] >= 0 and mass[m] == 0.0:
            a, b = left[m], right[m]
            mass[m] = mass[a] + mass[b]
            if mass[m] > 0.0:
                for k in range(value.shape[1]):
                    value[m, k] = (mass[a] * value[a, k] + mass[b] * value[b, k]) / mass[m]
    for m in range(len(left)):
        if left[m] >= 0 and mass[m] > 0.0:
            for child in (left[m], right[m]):
                if mass[child] == 0.0:
                    mass[child] = mass[m]
                    value[child] = value[m]


@njit(cache=True)
def _scores(leaves, value, offset):
    """Return the offset and the sum of the leaves of every row."""
    scores = np.empty((leaves.shape[1], value.shape[1]))
    scores[:] = offset
    for leaf in leaves:
        for i in range(len(leaf)):
            for k in range(value.shape[1]):
                scores[i, k] += value[leaf[i], k]
    return scores


@njit(cache=True)
def _counts(leaves, code, n_codes):
    """Return how many leaves of every row have taken each row of values."""
    counts = np.zeros((leaves.shape[1], n_codes), dtype=np.float32)
    for leaf in leaves:
        for i in range(len(leaf)):
            counts[i, code[leaf[i]]] += 1.0
    return counts


@njit(cache=True)
def _free_sweep(leaves, target, weight, scores, value, loss, prior, ridge, rate):
    """Let every tree take a Newton step; `scores` and `value` follow."""
    slope, curvature = np.zeros(value.shape), np.zeros(value.shape)
    odds, total = _odds(scores, loss)
    for leaf in leaves:
        first, end = leaf.min(), leaf.max() + 1
        _add_slopes(leaf, target, weight, scores, odds, total, loss, slope, curvature)
        for m in range(first, end):
            for k in range(value.shape[1]):
                pull = ridge * (value[m, k] - prior[m, k])
                step = rate * (slope[m, k] - pull) / (curvature[m, k] + ridge)
                if loss:
                    step = min(max(step, -_LONGEST_STEP), _LONGEST_STEP)
                slope[m, k] = step
                value[m, k] += step
        _add(leaf, first, slope[first:end], scores, odds, total, loss)
        slope[first:end] = 0.0
        curvature[first:end] = 0.0


@njit(cache=True)
def _choice_sweep(
    leaves, target, weight, scores, codes, code, loss, prior, ridge, slope, curvature
):
    """Let the leaves of every tree choose; `scores` and `code` follow."""
    odds, total = _odds(scores, loss)
    for leaf in leaves:
        first, end = leaf.min(), leaf.max() + 1
        _add_slopes(leaf, target, weight, scores, odds, total, loss, slope, curvature)
        for m in range(first, end):
            before = codes[code[m]]
            curvature[m] += ridge
            pull = ridge * (before - prior[m])
            slope[m] = before + (slope[m] - pull) / curvature[m]  # where it would go
            if loss:
                for k in range(len(before)):
                    step = slope[m, k] - before[k]
                    slope[m, k] = before[k] + min(max(step, -_LONGEST_STEP), _LONGEST_STEP)
            code[m] = _nearest(slope[m], curvature[m], codes, loss == 2)
            slope[m] = codes[code[m]] - before
        _add(leaf, first, slope[first:end], scores, odds, total, loss)
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
def _add_slopes(leaf, target, weight, scores, odds, total, loss, slope, curvature):
    """Add up, for each leaf of a tree, the negative gradient and the curvature of its rows."""
    for i in range(len(leaf)):
        m, share = leaf[i], 1.0 / total[i]
        for k in range(target.shape[1]):
            mean = odds[i, k] * share if loss else scores[i, k]
            slope[m, k] += weight[i] * (target[i, k] - mean)
            curvature[m, k] += weight[i] * (mean * (1.0 - mean) if loss else 1.0)


@njit(cache=True)
def _add(leaf, first, steps, scores, odds, total, loss):
    """Add what the leaves from `first` on have gained; odds are multiplied by its exponential."""
    factors = np.exp(steps) if loss else steps
    for i in range(len(leaf)):
        m = leaf[i] - first
        for k in range(steps.shape[1]):
            scores[i, k] += steps[m, k]
        if loss:
            total[i] = _FIRST_ODDS[loss]
            for k in range(steps.shape[1]):
                odds[i, k] *= factors[m, k]
                total[i] += odds[i, k]
            if not _LEAST_ODDS < total[i] < _MOST_ODDS:
                total[i] = _set_odds(scores[i], odds[i], loss)


@njit(cache=True)
def _odds(scores, loss):
    """Return exp(score) and its sum, of several classes up to a factor of each row.

    Of values, return the scores and 1.
    """
    odds, total = scores.copy(), np.ones(len(scores))
    if loss:
        for i in range(len(scores)):
            total[i] = _set_odds(scores[i], odds[i], loss)
    return odds, total


@njit(cache=True)
def _set_odds(scores, odds, loss):
    highest = scores.max() if loss == 2 else 0.0
    total = _FIRST_ODDS[loss]
    for k in range(len(scores)):
        odds[k] = np.exp(min(max(scores[k] - highest, -_EXTREME), _EXTREME))
        total += odds[k]
    return total
