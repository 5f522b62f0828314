"""Linear models over the nodes of a forest, of which most coefficients are zero.

Every node m of every tree is a feature that is 1 for the rows that reach it. With coefficients
b_m, one for each output, the scores of a row are the sum over the nodes that it reaches, and

    F(b) = 1/n Σ_i w_i loss(y_i, Σ_{m: i reaches m} b_m) + Σ_m p_m ‖b_m‖_1

is minimised by coordinate descent on quadratic models of the loss. The matrix of features is never
formed: sorted by the leaves of a tree in depth-first order, the rows that reach a node are
contiguous, so a permutation of the rows for each tree and a range for each node say it all.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass

import numpy as np
from numba import njit

from . import losses
from .trees import Trees

_LEAST_CURVATURE = 0.01  # below it, the model of a nearly certain row promises too much
_MOST_SWEEPS = 5  # over one quadratic model
_STEPS = 5  # between two looks for coefficients that should not be zero


@dataclass(frozen=True, eq=False)
class Indicators:
    """The features of all nodes: the rows that reach node m are ``rows[start[m]:end[m]]``."""

    rows: np.ndarray
    start: np.ndarray
    end: np.ndarray
    left: np.ndarray
    right: np.ndarray

    @classmethod
    def of(cls, trees: Trees, X: np.ndarray) -> Indicators:
        """Return those of the rows of `X`."""
        return cls(*_ranges(trees.apply(X), trees.left, trees.right), trees.left, trees.right)

    def beyond(self, values, limit, skipped, least):
        """Sum over the rows that reach each node, and look for what is larger than allowed.

        Parameters
        ----------
        values : ndarray of shape (n, k)
        limit : ndarray of shape (n_nodes,)
            Of the absolute sums of each node.
        skipped : ndarray of shape (n_nodes, k), bool
            Sums that are not looked at.
        least : float
            Excesses up to this are only counted in the largest one.

        Returns
        -------
        sums : ndarray of shape (n_nodes, k)
        largest : float
            By which a sum exceeds its limit; 0 if none does.
        nodes, columns, excess : ndarray
            What exceeds its limit by more than `least`, in order of columns.
        """
        parts = self.rows, self.start, self.end, self.left, self.right
        sums, largest, *found = _beyond(values, *parts, limit, skipped, least)
        order = np.lexsort(found[:2])
        return sums, largest, *(array[order] for array in found)

    def descend(self, nodes, outputs, slope, bend, penalty, coef):
        """Minimise a quadratic model over some coefficients, in place.

        The model has the gradient `slope` (n_outputs, n) by the scores and the curvatures `bend`.
        """
        start, end = self.start[nodes], self.end[nodes]
        _descend(self.rows, start, end, outputs, slope, bend, penalty, coef)


class SparseModel:
    """Coefficients of which few are not zero, and which follow the penalties that they are given.

    Parameters
    ----------
    indicators : Indicators
    loss : function
        One of `tinyml.training.losses`: squared, logistic or softmax_cross_entropy.
    targets : ndarray
        What the loss compares scores with.
    weights : ndarray of shape (n_samples,)
        With the mean 1.
    n_outputs : int

    Attributes
    ----------
    nodes, outputs : ndarray
        The node and the output of each coefficient that may differ from zero, in order of outputs.
    coef : ndarray
        The coefficients.
    scores, gradient : ndarray of shape (n_samples, n_outputs)
        The sums of coefficients, and the gradient of the loss by them.
    loss_value : float
        The mean loss.
    """

    def __init__(self, indicators, loss, targets, weights, n_outputs):
        self.indicators, self.loss = indicators, loss
        self.targets, self.weights = targets, weights
        self.nodes = self.outputs = np.zeros(0, dtype=np.int64)
        self.coef = np.zeros(0)
        self.gradient = np.empty((len(weights), n_outputs))
        self._evaluate(np.zeros_like(self.gradient))

    @property
    def dense(self):
        """Coefficients of all nodes, shape (n_nodes, n_outputs)."""
        coef = np.zeros((len(self.indicators.left), self.gradient.shape[1]))
        coef[self.nodes, self.outputs] = self.coef
        return coef

    def copy(self) -> SparseModel:
        """Return a model that goes its own way from here."""
        other = copy(self)
        other.gradient = self.gradient.copy()
        return other

    def _evaluate(self, scores):
        self.scores = scores
        self.loss_value = self.loss(scores, self.targets, self.weights, self.gradient)

    def minimise(self, penalty, tolerance, max_iter):
        """Minimise F for the penalties p of all nodes, from where the coefficients are.

        A few steps of the coefficients that are not zero follow each look at all nodes. Return the
        largest violation of the conditions of optimality.
        """
        n_steps = 0  # since the last look
        for _ in range(max_iter):
            if n_steps == 0:
                self._hold(self.coef != 0)
                violation, *others = self._violations(penalty, tolerance)
                if violation <= tolerance:
                    return violation
                self._admit(*others)
            fell = self._step(penalty[self.nodes])
            if not fell and n_steps == 0:
                break
            self._hold(self.coef != 0)
            n_steps = (n_steps + 1) % _STEPS if fell else 0
        return self._violations(penalty, tolerance)[0]

    def _violations(self, penalty, tolerance):
        """Measure how far zero is from the subdifferential of F at the nodes and outputs.

        Return the largest distance, and nodes, outputs and distances of those that are not held yet
        and violate the conditions by more than the tolerance.
        """
        held = np.zeros((len(penalty), self.gradient.shape[1]), dtype=bool)
        held[self.nodes, self.outputs] = True
        slope, largest, *others = self.indicators.beyond(self.gradient, penalty, held, tolerance)
        there, price = slope[self.nodes, self.outputs], penalty[self.nodes]
        at_zero = np.maximum(np.abs(there) - price, 0.0)
        there = np.where(self.coef, np.abs(there + np.sign(self.coef) * price), at_zero)
        return max(largest, there.max(initial=0.0)), *others

    def _hold(self, mask):
        self.nodes, self.outputs, self.coef = self.nodes[mask], self.outputs[mask], self.coef[mask]

    def _admit(self, node, output, violation):
        """Add coefficients that violate the conditions most, as many as there are or 200."""
        most = max(200, len(self.nodes))
        if len(node) > most:
            worst = np.argsort(-violation, kind="stable")[:most]
            output, node = output[worst], node[worst]
        nodes, outputs = np.append(self.nodes, node), np.append(self.outputs, output)
        order = np.lexsort((nodes, outputs))
        self.nodes, self.outputs = nodes[order], outputs[order]
        self.coef = np.append(self.coef, np.zeros(len(node)))[order]

    def _step(self, penalty):
        """Go to the minimum of a quadratic model, or as far towards it as F falls."""
        start, before = (self.scores, self.coef), self._objective(penalty)
        bend = curvature(self.loss, self.gradient, self.weights)
        slope, coef = self.gradient.T.copy(order="C"), self.coef.copy()
        self.indicators.descend(
            self.nodes, self.outputs, slope, np.ascontiguousarray(bend.T), penalty, coef
        )
        step, way = (slope.T - self.gradient) / bend, coef - self.coef
        for share in 0.5 ** np.arange(12):
            self.coef = start[1] + share * way
            self._evaluate(start[0] + share * step)
            if self._objective(penalty) < before:
                return True
        self.coef = start[1]
        self._evaluate(start[0])
        return False

    def _objective(self, penalty):
        return self.loss_value + np.abs(self.coef) @ penalty


def curvature(loss, gradient, weights):
    """Return bounds of the second derivatives of the loss of each row, from its gradient.

    The Hessian of the cross-entropy, diag(p) - p p', is at most 2 diag(p_k (1 - p_k)): the
    difference is diagonally dominant.
    """
    unit = (weights / len(weights))[:, None]
    if loss is losses.squared:
        return np.broadcast_to(2.0 * unit, gradient.shape)
    share = np.minimum(np.abs(gradient) / unit, 1.0)  # |p - y|; p (1 - p) is the same of it
    factor = 1.0 if gradient.shape[1] == 1 else 2.0
    return unit * np.maximum(factor * share * (1.0 - share), _LEAST_CURVATURE)


@njit(cache=True)
def splits_needed(left, right, is_selected):
    """Mark the splits under which a node is selected."""
    needed = np.zeros(len(left), dtype=np.bool_)
    for m in range(len(left) - 1, -1, -1):
        if left[m] >= 0:
            for child in (left[m], right[m]):
                needed[m] |= needed[child] or is_selected[child]
    return needed


@njit(cache=True)
def path_sums(left, right, value):
    """Sum of the values of a node and of all above it."""
    sums = value.copy()
    for m in range(len(left)):
        if left[m] >= 0:
            for k in range(value.shape[1]):
                sums[left[m], k] += sums[m, k]
                sums[right[m], k] += sums[m, k]
    return sums


@njit(cache=True)
def _ranges(leaves, left, right):
    n_rows, n_trees = leaves.shape
    rows = np.empty(n_rows * n_trees, dtype=np.int32)
    start = np.zeros(len(left), dtype=np.int64)
    end = np.zeros(len(left), dtype=np.int64)
    for leaf in leaves.ravel():
        end[leaf] += 1
    total = 0
    for m in range(len(left)):
        start[m], total = total, total + end[m]
        end[m] = start[m]
    for i in range(n_rows):
        for leaf in leaves[i]:
            rows[end[leaf]] = i
            end[leaf] += 1
    for m in range(len(left) - 1, -1, -1):
        if left[m] >= 0:
            end[m] = end[right[m]]
    return rows, start, end


@njit(cache=True)
def _beyond(values, rows, start, end, left, right, limit, skipped, least):
    n_columns = values.shape[1]
    sums = np.zeros((len(left), n_columns))
    nodes, columns = np.empty(1024, dtype=np.int64), np.empty(1024, dtype=np.int64)
    excess = np.empty(1024)
    n, largest = 0, 0.0
    for m in range(len(left) - 1, -1, -1):
        if left[m] >= 0:
            for k in range(n_columns):
                sums[m, k] = sums[left[m], k] + sums[right[m], k]
        else:
            for i in rows[start[m] : end[m]]:
                for k in range(n_columns):
                    sums[m, k] += values[i, k]
        for k in range(n_columns):
            size = abs(sums[m, k]) - limit[m]
            if (size <= largest and size <= least) or skipped[m, k]:
                continue
            largest = max(largest, size)
            if size > least:
                if n == len(nodes):
                    nodes, columns = _doubled(nodes), _doubled(columns)
                    excess = _doubled(excess)
                nodes[n], columns[n], excess[n] = m, k, size
                n += 1
    return sums, largest, nodes[:n], columns[:n], excess[:n]


@njit(cache=True)
def _doubled(array):
    return np.concatenate((array, np.empty_like(array)))


@njit(cache=True)
def _descend(rows, start, end, outputs, slope, bend, penalty, coef):
    """Coordinate descent until gains are small beside those of the first sweep."""
    curvature = np.zeros(len(start))
    for j in range(len(start)):
        for i in rows[start[j] : end[j]]:
            curvature[j] += bend[outputs[j], i]
    first = 0.0
    for sweep in range(_MOST_SWEEPS):
        gain = _sweep(rows, start, end, outputs, slope, bend, curvature, penalty, coef)
        if sweep == 0:
            first = gain
        if gain <= 0.01 * first:
            break


@njit(cache=True)
def _sweep(rows, start, end, outputs, slope, bend, curvature, penalty, coef):
    """Minimise over each coefficient in turn; return the largest gain, about curvature · step²."""
    largest = 0.0
    for j in range(len(start)):
        k = outputs[j]
        pull = curvature[j] * coef[j]
        for i in rows[start[j] : end[j]]:
            pull -= slope[k, i]
        size = max(abs(pull) - penalty[j], 0.0) / curvature[j]
        step = (size if pull > 0 else -size) - coef[j]
        if step != 0.0:
            coef[j] += step
            largest = max(largest, curvature[j] * step**2)
            for i in rows[start[j] : end[j]]:
                slope[k, i] += bend[k, i] * step
    return largest
