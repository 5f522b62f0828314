"""Votes of a byte: rounded together, so that calibration rows are decided as by the floats."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tinyml.codegen.fixed import IntArray
from tinyml.codegen.graph import Floats, Forest

_LARGEST = 255
_PASSES = 3  # over the trees, after which hardly a vote changes
_Move = tuple[int, int, int, int]  # tree, node, output, and 1 or -1


def byte_votes(forest: Forest, reached: Sequence[IntArray]) -> tuple[int, Forest] | None:
    """Return the fractional bits of votes of a byte, and the forest with these votes.

    None if that would decide a calibration row otherwise. `reached` holds the leaf that each of
    these rows reaches in each tree. Votes of 256 saturate: what that costs is less than what the
    last bit is worth to all others.
    """
    table = np.vstack([tree.value[tree.is_leaf] for tree in forest.trees])
    if table.shape[1] == 1 or table.min() < 0 or np.any(forest.offset) or table.max() > _LARGEST:
        return None
    frac = int(np.floor(np.log2((_LARGEST + 1) / table.max())))
    exact = [np.ldexp(tree.value, frac) for tree in forest.trees]
    rounding = _Rounding(exact, list(reached))
    for _ in range(_PASSES):
        rounding.cancel()
    if not rounding.settle():
        return None
    votes = zip(forest.trees, rounding.votes, strict=True)
    trees = tuple(replace(tree, value=np.ldexp(v, -frac)) for tree, v in votes)
    return frac, replace(forest, trees=trees)


@dataclass
class _Rounding:
    """Votes as whole numbers, and their sums on calibration rows beside the exact ones."""

    exact: list[Floats]
    reached: list[IntArray]

    def __post_init__(self) -> None:
        self.exact_totals = self._totals(self.exact)
        self.wanted: IntArray = np.argmax(self.exact_totals, axis=1)
        self.votes = [np.minimum(np.floor(value + 0.5), _LARGEST) for value in self.exact]
        self.totals = self._totals(self.votes)

    def _totals(self, votes: list[Floats]) -> Floats:
        return np.asarray(sum(v[leaf] for v, leaf in zip(votes, self.reached, strict=True)))

    def cancel(self) -> None:
        """Round each tree again, against the mean error that other trees make at its leaves."""
        for t, leaf in enumerate(self.reached):
            exact, rest = self.exact[t], self.totals - self.votes[t][leaf]
            error = np.zeros_like(exact)
            np.add.at(error, leaf, rest - (self.exact_totals - exact[leaf]))
            error /= np.maximum(np.bincount(leaf, minlength=len(exact)), 1)[:, None]
            near = np.clip(np.floor(exact - error + 0.5), np.floor(exact), np.ceil(exact))
            self.votes[t] = np.minimum(near, _LARGEST)
            self.totals = rest + self.votes[t][leaf]

    def _lack(self, totals: Floats, wanted: IntArray) -> Floats:
        """Return the votes by which the strongest rival is ahead; the first of equals wins."""
        rivals = totals + (np.arange(totals.shape[1]) < wanted[:, None])
        rows = np.arange(len(totals))
        rivals[rows, wanted] = -np.inf
        lack: Floats = np.maximum(rivals.max(axis=1) - totals[rows, wanted], 0)
        return lack

    def settle(self) -> bool:
        """Round votes to their other side, one by one, until no row lacks any; False if some do."""
        self.lack = self._lack(self.totals, self.wanted)
        while self.lack.any():
            best = (self._best_move(int(row)) for row in np.flatnonzero(self.lack))
            move = next((move for move in best if move), None)
            if move is None:
                return False
            self._make(move)
        return True

    def _best_move(self, row: int) -> _Move | None:
        """Return what helps all rows most of what helps this one; None if nothing does."""
        moves = list(self._moves(row))
        gains = [self._gain(move) for move in moves]
        return moves[int(np.argmax(gains))] if max(gains, default=0) > 0 else None

    def _moves(self, row: int) -> Iterator[_Move]:
        """Yield what lets a row's wanted output gain or its strongest rival lose."""
        wanted = int(self.wanted[row])
        rivals = self.totals[row] + (np.arange(self.totals.shape[1]) < wanted)
        rivals[wanted] = -np.inf
        for t, leaf in enumerate(self.reached):
            for output, step in ((wanted, 1), (int(rivals.argmax()), -1)):
                vote = self.votes[t][leaf[row], output] + step
                is_near = abs(vote - self.exact[t][leaf[row], output]) < 1
                if is_near and 0 <= vote <= _LARGEST:
                    yield t, int(leaf[row]), output, step

    def _gain(self, move: _Move) -> float:
        rows, totals = self._after(move)
        return float(self.lack[rows].sum() - self._lack(totals, self.wanted[rows]).sum())

    def _make(self, move: _Move) -> None:
        t, node, output, step = move
        rows, totals = self._after(move)
        self.votes[t][node, output] += step
        self.totals[rows] = totals
        self.lack[rows] = self._lack(totals, self.wanted[rows])

    def _after(self, move: _Move) -> tuple[NDArray[np.intp], Floats]:
        """Return the rows that a move concerns, and their totals after it."""
        t, node, output, step = move
        rows = np.flatnonzero(self.reached[t] == node)
        totals = self.totals[rows]
        totals[:, output] += step
        return rows, totals
