"""Prune a forest and refit its leaves level by level (LOP).

Level by level, from the roots on, every node n of a level gets a factor c_n and a shift b_n, and
every leaf above it a shift. They minimise

    Σ_i w_i loss(y_i, a + Σ_t (c_n v_t(x_i) + b_n)) + penalty (Σ_n |c_n| ‖v‖_n + SHIFT Σ_n ‖b_n‖_1)

where n is the node of tree t that x_i passes and v_t(x_i) the leaf it ends in, 0 for a leaf above
the level; ‖v‖_n is the root of the mean of ‖v_t‖² over the rows of n. Where c_n is 0 the subtree
becomes a leaf with the value b_n, elsewhere its leaves become c_n v + b_n; then comes the next
level. Roots have no shift but the constant a in common. The weights w_i have the sum 1, and numbers
y_i the variance 1.

As published by Devos et al. (ICML 2025), except that a factor is priced by what it multiplies, so
that nothing is won by passing a multiple from level to level; that outputs share the factor and
have a shift each, so that leaves of many outputs become sparse; that splits go where both leaves
are equal; and that every penalty goes on with the forest that the one before has left.
Top to bottom: the forest, the regression of a level, its kernels, losses.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numba import njit
from scipy.optimize import minimize

from ..codegen.storage import output_of_trees
from .subtrees import add_up, depths, ends, leaf_weights, leaves_of_rows, without_idle_splits
from .trees import Trees

SHIFT = 0.3
_SWEEPS = 4  # over the trees of a level
_TOLERANCE = 1e-3  # of the objective, what a sweep must gain to be followed by another
_SHORTEST = 1 / 64  # of a step
_TURNS = 10  # between the factor and the shifts of a node
_LEAST_CURVATURE = 1e-3  # of a loss with slopes up to 1


def level_solutions(
    trees: Trees,
    X: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray,
    penalties: Iterable[float],
    loss: str,
) -> Iterator[tuple[Trees, np.ndarray]]:
    """Prune and refit for one penalty after the other, which should ascend.

    Parameters
    ----------
    trees : Trees
        Their sum is right up to a common factor and a constant.
    X : ndarray of shape (n_samples, n_features)
    target : ndarray of shape (n_samples,)
        Numbers for the loss "squared", 0 or 1 for "logistic", codes of classes for "softmax".
    weight : ndarray of shape (n_samples,)
    penalties : iterable of float
        From about 0.3 on nothing is left; 1e-4 leaves what is of use for the rows given.
    loss : {"squared", "logistic", "softmax"}
        The trees have one output, for "softmax" one for each class.

    Yields
    ------
    trees : Trees
        The pruned trees; some may be one leaf.
    constant : ndarray of shape (n_outputs,)
        What is to be added to their scores.
    """
    trees = without_idle_splits(trees, X, weight)
    forest = _Forest(trees, X, target, weight / weight.sum(), loss)
    for penalty in penalties:
        forest.prune(penalty)
        yield forest.solution()


# ---------------------------------------------------------------------------------------------
# The forest
# ---------------------------------------------------------------------------------------------


class _Forest:
    """The trees as they are by now, the constant, and the leaves of the rows.

    Outputs are divided into groups of the same width: one of all, or each by itself where no tree
    adds to several. `group` says for every tree to which it adds; `trees.value` is as wide.
    """

    def __init__(self, trees, X, target, weight, loss):
        self.unit = 1.0
        if loss == "squared":
            self.unit = np.sqrt(weight @ (target - weight @ target) ** 2) or 1.0
            target = target / self.unit
        self.loss = _Loss(loss, target, weight)
        self.leaves = leaves_of_rows(trees, X)
        self.group, value = _grouped(trees)
        self.trees = replace(trees, value=value / self.unit)
        self.constant = np.zeros((trees.value.shape[1] // value.shape[1], value.shape[1]))
        self._scale()

    def _scores(self):
        """Return the sum of the leaves of every row, shape (n_groups, n_samples, width)."""
        n_groups, width = self.constant.shape
        scores = np.zeros((n_groups, self.leaves.shape[1], width))
        for group, leaves in zip(self.group, self.leaves, strict=True):
            scores[group] += self.trees.value[leaves]
        return scores

    def _scale(self):
        """Multiply all leaves by one factor and choose the constant, so that the loss is least."""
        scores = self._scores()
        size = np.sqrt(np.mean(scores**2)) or 1.0
        scores /= size

        def objective(parameters):
            constant = parameters[1:].reshape(len(scores), 1, -1)
            loss, slope, _ = self.loss(parameters[0] * scores + constant)
            return loss, np.append((slope * scores).sum(), slope.sum(axis=1))

        best = _least(objective, np.append(1.0, self.constant))
        self.trees = replace(self.trees, value=self.trees.value * (best[0] / size))
        self.constant = best[1:].reshape(self.constant.shape)
        self.evaluated = self.loss(best[0] * scores + self.constant[:, None])

    def _balance(self):
        """Choose the constant so that the loss is least."""
        scores = self._scores()

        def objective(constant):
            loss, slope, _ = self.loss(scores + constant.reshape(len(scores), 1, -1))
            return loss, slope.sum(axis=1).ravel()

        self.constant = _least(objective, self.constant.ravel()).reshape(self.constant.shape)
        self.evaluated = self.loss(scores + self.constant[:, None])

    def prune(self, penalty):
        """Go once through the levels."""
        level = 0
        while level < depths(self.trees.left, self.trees.right).max():
            self._prune_level(level, penalty)
            level += 1
        self._balance()

    def _prune_level(self, number, penalty):
        trees, start = self.trees, np.append(self.trees.root, self.trees.n_nodes)
        depth = depths(trees.left, trees.right)
        of_level = (depth == number) | (trees.is_leaf & (depth < number))
        nodes = np.flatnonzero(of_level)
        scaled = ~trees.is_leaf[nodes]
        first = np.searchsorted(nodes, start)
        unit = _unit_of_leaves(trees.left, trees.right, of_level)
        units = _Units(self.leaves, start, self.group, unit, trees.value, first, scaled)
        size = _sizes(trees.value, leaf_weights(self.leaves, self.loss.weight, len(unit)), units)
        level = _Level(self.loss, units, trees.value[nodes], self.constant, self.evaluated)
        level.improve(penalty * size, penalty * SHIFT, shifts=number > 0)
        self.constant, self.evaluated = level.constant, level.evaluated
        self._rebuild(level, nodes)

    def _rebuild(self, level, nodes):
        """Cut where the factor is 0, give the other leaves their values, and join equal ones."""
        trees, is_leaf = self.trees, self.trees.is_leaf
        value = _refitted(level.units, level.factor, level.shift)
        gone = nodes[level.units.scaled & (level.factor == 0)]
        is_leaf[gone] = True
        value[nodes] = np.where(is_leaf[nodes, None], level.shift, 0.0)
        _join(value, trees.left, trees.right, is_leaf)
        end = ends(trees.left, trees.right, is_leaf, 0)
        number = np.cumsum(end == np.arange(len(end)), dtype=np.int32) - 1
        self.leaves = number[end[self.leaves]]
        self.trees = replace(trees, value=value).cut(is_leaf)

    def solution(self):
        """Return trees and constant in the unit of the targets; splits get their leaves' mean."""
        trees = self.trees
        weight = leaf_weights(self.leaves, self.loss.weight, trees.n_nodes)[:, None]
        sums = np.hstack([weight * trees.value, weight])
        add_up(sums, trees.left, trees.right, 0)
        mean = np.where(trees.is_leaf[:, None], trees.value, sums[:, :-1] / sums[:, -1:])
        n_groups, width = self.constant.shape
        value = np.zeros((trees.n_nodes, n_groups, width))
        value[np.arange(trees.n_nodes), self.group[trees.tree]] = mean * self.unit
        return (
            replace(trees, value=value.reshape(trees.n_nodes, -1)),
            self.constant.ravel() * self.unit,
        )


def _least(objective, start):
    return minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 10}).x


def _grouped(trees):
    """Return the group of each tree and the values of its outputs."""
    leaves, tree = trees.is_leaf, trees.tree
    output = output_of_trees(trees.value[leaves], tree[leaves], len(trees.root))
    if output is None:
        return np.zeros(len(trees.root), dtype=np.int64), trees.value
    return output, trees.value[np.arange(trees.n_nodes), output[tree]][:, None]


# ---------------------------------------------------------------------------------------------
# The regression of a level
# ---------------------------------------------------------------------------------------------


class _Units(NamedTuple):
    """What the regression of a level is about: its nodes, and the leaves above it.

    They are called units; those of a tree follow each other. Leaves count as nodes of the forest.
    """

    leaves: np.ndarray  # of the rows, (n_trees, n_samples)
    start: np.ndarray  # first node of each tree, and the number of nodes
    group: np.ndarray  # of each tree
    unit: np.ndarray  # of each leaf; -1 for other nodes
    value: np.ndarray  # of each leaf
    first: np.ndarray  # first unit of each tree, and the number of units
    scaled: np.ndarray  # which units have a factor


class _Level:
    """Factors, shifts and constant; the loss of their scores with its slopes and curvatures."""

    def __init__(self, loss, units, value, constant, evaluated):
        self.loss, self.units, self.constant, self.evaluated = loss, units, constant, evaluated
        self.factor = units.scaled.astype(np.float64)
        self.shift = np.where(units.scaled[:, None], 0.0, value)

    def improve(self, factor_price, shift_price, *, shifts):
        """Take a step of proximal Newton's method; in its model outputs do not interact."""
        self.prices = factor_price, shift_price
        before, old = self.objective(), self.parameters
        self._descend(shifts)
        new, length = self.parameters, 1.0
        self._evaluate()
        while self.objective() > before and length:
            length = length / 2 if length > _SHORTEST else 0.0
            self.parameters = [a + length * (b - a) for a, b in zip(old, new, strict=True)]
            self._evaluate()

    def objective(self):
        """The loss, and the price of factors and shifts."""
        of_factor, of_shift = self.prices
        price = of_factor @ np.abs(self.factor) + of_shift * np.abs(self.shift).sum()
        return self.evaluated[0] + price

    @property
    def parameters(self):
        return [self.factor, self.shift, self.constant]

    @parameters.setter
    def parameters(self, values):
        self.factor, self.shift, self.constant = values

    def _evaluate(self):
        self.evaluated = self.loss(_scores(self.units, self.factor, self.shift, self.constant))

    def _descend(self, shifts):
        """Minimise the model by the constant and by the parameters of one tree after the other."""
        _, slope, curvature = self.evaluated
        least_change = _TOLERANCE * self.objective()
        self.factor, self.shift = self.factor.copy(), self.shift.copy()
        arrays = self.units, _second_order(curvature, self.units), self.factor, self.shift
        for _ in range(_SWEEPS):
            step = -slope.sum(axis=1) / curvature.sum(axis=1)
            slope += curvature * step[:, None]
            self.constant = self.constant + step
            if _sweep(slope, curvature, *arrays, *self.prices, shifts) <= least_change:
                break


# ---------------------------------------------------------------------------------------------
# Kernels
# ---------------------------------------------------------------------------------------------


@njit(cache=True)
def _unit_of_leaves(left, right, of_level):
    """Number of the node of the level that each leaf is or lies below; -1 for splits."""
    unit = np.full(len(left), -1, dtype=np.int32)
    n_units = 0
    for node in range(len(left)):
        if of_level[node]:
            unit[node] = n_units
            n_units += 1
        if left[node] >= 0:
            unit[left[node]] = unit[right[node]] = unit[node]
            unit[node] = -1
    return unit


@njit(cache=True)
def _sizes(value, weight, units):
    """Return the root of the mean of ‖v‖² over the rows of each unit, 0 where it has no factor."""
    square, total = np.zeros(len(units.scaled)), np.zeros(len(units.scaled))
    for m in range(len(value)):
        u = units.unit[m]
        if u >= 0 and units.scaled[u]:
            square[u] += weight[m] * (value[m] ** 2).sum()
            total[u] += weight[m]
    return np.sqrt(square / np.where(total > 0, total, 1.0))


@njit(cache=True)
def _refitted(units, factor, shift):
    """Return c v + b for the leaves, 0 for other nodes."""
    value = np.zeros_like(units.value)
    for m in range(len(value)):
        u = units.unit[m]
        if u >= 0:
            for k in range(value.shape[1]):
                value[m, k] = factor[u] * units.value[m, k] + shift[u, k]
    return value


@njit(cache=True)
def _scores(units, factor, shift, constant):
    """Return the constant and the sum of the leaves, shape (n_groups, n_samples, width)."""
    leaves = units.leaves
    scores = np.empty((len(constant), leaves.shape[1], constant.shape[1]))
    for group in range(len(constant)):
        scores[group] = constant[group]
    value = _refitted(units, factor, shift)
    for t in range(len(leaves)):
        now = value[units.start[t] : units.start[t + 1]].copy()
        of_group = scores[units.group[t]]
        for i in range(leaves.shape[1]):
            m = leaves[t, i] - units.start[t]
            for k in range(now.shape[1]):
                of_group[i, k] += now[m, k]
    return scores


@njit(cache=True)
def _leaf_sums(rows, leaves, first, n_nodes):
    """Return the sum of the rows of each leaf of a tree."""
    sums = np.zeros((n_nodes, rows.shape[1]), dtype=np.float32)
    for i in range(len(rows)):
        m = leaves[i] - first
        for k in range(rows.shape[1]):
            sums[m, k] += rows[i, k]
    return sums


@njit(cache=True)
def _second_order(curvature, units):
    """Return the second derivatives by factors, by factor and shift, and by shifts."""
    width, n_units = units.value.shape[1], len(units.scaled)
    square, mixed, own = np.zeros(n_units), np.zeros((n_units, width)), np.zeros((n_units, width))
    for t in range(len(units.leaves)):
        a, b = units.start[t], units.start[t + 1]
        sums = _leaf_sums(curvature[units.group[t]], units.leaves[t], a, b - a)
        for m in range(b - a):
            u = units.unit[a + m]
            if u >= 0:
                for k in range(width):
                    own[u, k] += sums[m, k]
                    if units.scaled[u]:
                        v = units.value[a + m, k]
                        mixed[u, k] += sums[m, k] * v
                        square[u] += sums[m, k] * v * v
    return square, mixed, own


@njit(cache=True)
def _sweep(slope, curvature, units, second, factor, shift, factor_price, shift_price, shifts):
    """Minimise by the parameters of each tree in turn; return by how much that changed scores."""
    square, mixed, own = second
    moved = 0.0
    for t in range(len(units.leaves)):
        a, b = units.start[t], units.start[t + 1]
        if b - a == 1:
            continue
        group, leaves = units.group[t], units.leaves[t]
        sums = _leaf_sums(slope[group], leaves, a, b - a)
        by_factor, by_shift = _slopes(sums, units, t)
        first = units.first[t]
        for j in range(len(by_factor)):
            u = first + j
            prices = factor_price[u], shift_price
            by_factor[j] = _solve(
                by_factor[j],
                by_shift[j],
                square[u],
                mixed[u],
                own[u],
                factor[u],
                shift[u],
                prices,
                shifts,
            )
            moved += _change(by_factor[j], by_shift[j], square[u], mixed[u], own[u])
            factor[u] += by_factor[j]
            shift[u] += by_shift[j]
        _follow(slope[group], curvature[group], leaves, a, _steps(by_factor, by_shift, units, t))
    return moved


@njit(cache=True)
def _slopes(sums, units, t):
    """Return the slopes of the loss by the factors and by the shifts of a tree."""
    start, first, n_units = units.start[t], units.first[t], units.first[t + 1] - units.first[t]
    by_factor, by_shift = np.zeros(n_units), np.zeros((n_units, sums.shape[1]))
    for m in range(len(sums)):
        u = units.unit[start + m]
        if u >= 0:
            for k in range(sums.shape[1]):
                by_shift[u - first, k] += sums[m, k]
                by_factor[u - first] += sums[m, k] * units.value[start + m, k]
    return by_factor, by_shift


@njit(cache=True)
def _solve(by_factor, by_shift, square, mixed, own, factor, shift, prices, shifts):
    """Return the best step of a factor, and put those of its shifts in the place of their slopes.

    Factor and shifts take turns.
    """
    of_factor, of_shift = 0.0, np.zeros(len(own))
    for _ in range(_TURNS):
        before = of_factor
        if square > 0:
            slope = by_factor
            for k in range(len(own)):
                slope += mixed[k] * of_shift[k]
            of_factor = _soft(factor - slope / square, prices[0] / square) - factor
        for k in range(len(own)):
            if shifts and own[k] > 0:
                slope = by_shift[k] + mixed[k] * of_factor
                of_shift[k] = _soft(shift[k] - slope / own[k], prices[1] / own[k]) - shift[k]
        if abs(of_factor - before) <= _TOLERANCE * abs(of_factor):
            break
    by_shift[:] = of_shift
    return of_factor


@njit(cache=True)
def _soft(x, threshold):
    if x > threshold:
        return x - threshold
    if x < -threshold:
        return x + threshold
    return 0.0


@njit(cache=True)
def _change(of_factor, of_shift, square, mixed, own):
    """Return the second-order change of the loss along a step."""
    change = square * of_factor**2
    for k in range(len(own)):
        change += of_shift[k] * (2 * mixed[k] * of_factor + own[k] * of_shift[k])
    return change


@njit(cache=True)
def _steps(of_factor, of_shift, units, t):
    """Return the steps of the leaves of a tree."""
    start, first = units.start[t], units.first[t]
    step = np.zeros((units.start[t + 1] - start, of_shift.shape[1]), dtype=np.float32)
    for m in range(len(step)):
        u = units.unit[start + m]
        if u >= 0:
            for k in range(step.shape[1]):
                v = units.value[start + m, k]
                step[m, k] = of_factor[u - first] * v + of_shift[u - first, k]
    return step


@njit(cache=True)
def _follow(slope, curvature, leaves, first, step):
    """Bring the slopes to where the steps of a tree have led."""
    for i in range(len(slope)):
        m = leaves[i] - first
        for k in range(slope.shape[1]):
            slope[i, k] += curvature[i, k] * step[m, k]


@njit(cache=True)
def _join(value, left, right, is_leaf):
    """Mark as leaves the splits whose children are leaves with equal values."""
    for node in range(len(left) - 1, -1, -1):
        a, b = left[node], right[node]
        both = a >= 0 and not is_leaf[node] and is_leaf[a] and is_leaf[b]
        if both and np.array_equal(value[a], value[b]):
            is_leaf[node] = True
            value[node] = value[a]


# ---------------------------------------------------------------------------------------------
# Losses
# ---------------------------------------------------------------------------------------------


class _Loss:
    """Weighted loss of scores, and its slope and curvature by each of them, in groups."""

    def __init__(self, name, target, weight):
        self.kernel = {"squared": _squared, "logistic": _logistic, "softmax": _softmax}[name]
        self.target = np.asarray(target, dtype=np.float64 if name == "squared" else np.int64)
        self.weight = weight

    def __call__(self, scores):
        n_groups, n_rows, width = scores.shape
        scores = np.ascontiguousarray(scores.transpose(1, 0, 2)).reshape(n_rows, -1)
        slope, curvature = (np.empty(scores.shape, dtype=np.float32) for _ in range(2))
        loss = self.kernel(scores, self.target, self.weight, slope, curvature)
        grouped = [
            a.reshape(n_rows, n_groups, width).transpose(1, 0, 2) for a in (slope, curvature)
        ]
        return loss, *(np.ascontiguousarray(a) for a in grouped)


@njit(cache=True)
def _squared(scores, target, weight, slope, curvature):
    """Half the squared error."""
    total = 0.0
    for i in range(len(scores)):
        error = scores[i, 0] - target[i]
        total += 0.5 * weight[i] * error * error
        slope[i, 0] = weight[i] * error
        curvature[i, 0] = weight[i]
    return total


@njit(cache=True)
def _logistic(scores, target, weight, slope, curvature):
    """log(1 + exp(-s)) for target 1, log(1 + exp(s)) for target 0."""
    total = 0.0
    for i in range(len(scores)):
        margin = scores[i, 0] if target[i] == 1 else -scores[i, 0]
        decay = np.exp(-abs(margin))
        miss = (decay if margin > 0 else 1.0) / (1.0 + decay)
        total += weight[i] * (np.log1p(decay) + max(-margin, 0.0))
        slope[i, 0] = -weight[i] * miss if target[i] == 1 else weight[i] * miss
        curvature[i, 0] = weight[i] * max(miss * (1.0 - miss), _LEAST_CURVATURE)
    return total


@njit(cache=True)
def _softmax(scores, target, weight, slope, curvature):
    """-log p of the target; 2 p (1 - p) bounds the curvature by all outputs together."""
    n_classes = scores.shape[1]
    p = np.empty(n_classes)
    total = 0.0
    for i in range(len(scores)):
        highest = scores[i].max()
        for k in range(n_classes):
            p[k] = np.exp(scores[i, k] - highest)
        norm = p.sum()
        total += weight[i] * (np.log(norm) + highest - scores[i, target[i]])
        for k in range(n_classes):
            share = p[k] / norm
            slope[i, k] = weight[i] * (share - (k == target[i]))
            curvature[i, k] = weight[i] * max(2 * share * (1 - share), _LEAST_CURVATURE)
    return total
