"""Four ways to prune a forest, each for any number of bounds."""

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from ..training.budget_pruning import BudgetPruning
from ..training.depth_pruning import depth_solutions
from ..training.level_pruning import level_solutions
from ..training.pruning import ErrorCurves
from ._reduction import Reduction

_MOST_TOLLS = 4_000_000  # (tree, row, feature) triples that pay for features
_PRECISION = 128  # to which part of the splits a search goes
_FULL, _AIM = 0.99, 0.995  # share of the bounds that is enough, and what to try for
_PRICES = 12  # tried between the whole forest and none of it
_STEPS = 10  # of the subgradient, at each price
_DEPTH_PENALTIES = np.geomspace(1e-7, 0.25, 20)  # of a node, in variances of the target
_LEVEL_PENALTIES = np.geomspace(1e-8, 0.3, 24)
_LEVEL_START, _STEP_BACK = 8, 3  # a first guess, and how far to go back while too much fits
_FINER = 4  # penalties between two of these


@dataclass(frozen=True, eq=False)
class Pruning(Reduction):
    """A forest to be pruned, with what its features cost."""

    costs: np.ndarray
    _known: dict = field(default_factory=dict, init=False)  # prunings by the number of splits
    _known_prices: dict = field(default_factory=dict, init=False)  # and by the price of a split
    _tolls: dict = field(default_factory=dict, init=False)  # of splits, by the price

    # Masks of leaves ---------------------------------------------------------------------------

    @cached_property
    def _curves(self):
        return ErrorCurves(self.trees, self.errors.error)

    def _with_splits(self, n):
        if n not in self._known:
            self._known[n] = self.masked(self._curves.is_leaf(self._curves.with_total(n)))
        return self._known[n]

    def cost_complexity(self, share):
        """Keep the splits that lower the errors most, of every tree the best of that number."""
        low, high = 0, self._curves.most_splits
        shares = {n: share(self._with_splits(n)[0]) for n in {low, high, *self._known}}
        if shares[low] > 1:
            return None
        while True:
            low = max(n for n in shares if shares[n] <= 1)
            high = min((n for n in shares if n > low), default=low)
            if high - low <= 1 + low // _PRECISION or shares[low] >= _FULL:
                return self._with_splits(low)
            # bytes grow about as splits do; where they do not, the interval shrinks all the same
            wanted = (_AIM - shares[low]) / (shares[high] - shares[low])
            step = max((high - low) // 16, 1)
            n = int(np.clip(low + wanted * (high - low), low + step, high - step))
            shares[n] = share(self._with_splits(n)[0])

    @cached_property
    def _budget(self):
        n_rows = max(1, _MOST_TOLLS // (len(self.trees.root) * self.X.shape[1]))
        rows = slice(None, None, -(-len(self.X) // n_rows))
        parts = self.X[rows], self.weight[rows], self.errors.error, self.costs
        return BudgetPruning(self.trees, *parts)

    def _at_price(self, price):
        """Prune at a price, with the tolls of the nearest power of two: they change slowly."""
        if price not in self._known_prices:
            near = 2.0 ** np.round(np.log2(price)) if price else 0.0
            if near not in self._tolls:
                self._tolls[near] = self._budget.solve(near, _STEPS).toll
            is_leaf = self._budget.with_tolls(self._tolls[near], price)
            self._known_prices[price] = self.masked(is_leaf)
        return self._known_prices[price]

    def budget(self, share):
        """The same with a price on the features that rows ask for."""
        if share(self.stumps) > 1:
            return None
        highest = 1.0 + float(self.errors.error[self.trees.root].sum())
        self._known_prices[highest] = self.masked(np.ones(self.trees.n_nodes, dtype=bool))
        shares = {p: share(self._at_price(p)[0]) for p in {0.0, *self._known_prices}}
        for _ in range(_PRICES):
            high = min(p for p in shares if shares[p] <= 1)
            if not high or shares[high] >= _FULL:
                break
            low = max(p for p in shares if p < high)
            price = high / 32
            if low:  # shares fall about as a power of the price
                above, below = np.log(shares[low]), np.log(shares[high])
                wanted = np.clip((above - np.log(_AIM)) / (above - below), 0.1, 0.9)
                price = low * (high / low) ** wanted
            shares[price] = share(self._at_price(price)[0])
        return self._at_price(min(p for p in shares if shares[p] <= 1))

    # Ascending penalties -----------------------------------------------------------------------

    @cached_property
    def _depth_path(self):
        spread = self.target - np.average(self.target, axis=0, weights=self.weight)
        variance = np.average((spread**2).sum(axis=1), weights=self.weight)

        def solve(trees, penalties):
            return depth_solutions(trees, self.X, self.target, self.weight, penalties)

        return _Path(solve, self.averages, (variance or 1.0) * _DEPTH_PENALTIES)

    def depth(self, share):
        """Cut every tree at a depth of its own."""
        found = self._depth_path.first(share)
        return found and self.as_scores(*found)

    @cached_property
    def _level_path(self):
        trees, target = self.averages, self.target[:, 0]
        if self.loss == "softmax":
            target = self.target.argmax(axis=1)
        elif not self.forest.adds_up:  # a factor is to multiply what sets the rows apart
            centre = np.average(target, weights=self.weight)
            trees = replace(trees, value=trees.value - centre)

        def solve(trees, penalties):
            return level_solutions(trees, self.X, target, self.weight, penalties, self.loss)

        return _Path(solve, trees, _LEVEL_PENALTIES, _LEVEL_START)

    def levels(self, share):
        """Shrink subtrees level by level, some of them to nothing."""
        return self._level_path.first(share)


class _Path:
    """Prunings for ascending penalties, done as far as they are asked for.

    It begins at the penalty number `start`; where this is beyond what is wanted, further below.
    """

    def __init__(self, solve, trees, penalties, start=0):
        self.solve, self.trees, self.penalties = solve, trees, penalties
        self._begin(start)

    def _begin(self, start):
        self.start = start
        self._coarse = _Solutions(self.solve(self.trees, self.penalties[start:]))
        self._fine = {}

    def __getitem__(self, k):
        return self._coarse[k - self.start]

    def first(self, share):
        """Return the solution for the least penalty at which it fits; None if it never does."""
        while self.start and share(self[self.start][0]) <= 1:
            self._begin(max(0, self.start - _STEP_BACK))
        for k in range(self.start, len(self.penalties)):
            if share(self[k][0]) <= 1:
                return self._between(k, share) if k else self[0]
        return None

    def _between(self, k, share):
        """Go on from the last that did not fit, in smaller steps, then tree by tree."""
        if k not in self._fine:
            finer = np.geomspace(*self.penalties[k - 1 : k + 1], _FINER + 2)[1:-1]
            self._fine[k] = _Solutions(self.solve(self[k - 1][0], finer))
        above = self[k - 1]
        for found in map(self._fine[k].__getitem__, range(_FINER)):
            if share(found[0]) <= 1:
                return _spliced(above, found, share)
            above = found
        return _spliced(above, self[k], share)


def _spliced(above, below, share):
    """Cut as few of the last trees of `above`, which is too large, as they are in `below`."""
    trees, constant = above
    is_leaf = np.isin(trees.origin, below[0].origin[below[0].is_leaf])
    best, fewest, most = below, 0, len(trees.root)  # how many of the first trees stay
    while most - fewest > 1:
        n = (fewest + most) // 2
        cut = trees.cut(is_leaf & (trees.tree >= n))
        if share(cut) <= 1:
            best, fewest = (cut, constant), n
        else:
            most = n
    return best


class _Solutions:
    """Solutions that are worked out when they are asked for, and kept."""

    def __init__(self, ahead):
        self._ahead, self._done = ahead, []

    def __getitem__(self, k):
        while len(self._done) <= k:
            self._done.append(next(self._ahead))
        return self._done[k]


METHODS = {
    "cost-complexity": Pruning.cost_complexity,
    "budget": Pruning.budget,
    "depth": Pruning.depth,
    "levels": Pruning.levels,
}
