"""How many bits the votes of a forest take: as few as leave the decisions of rows alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tinyml.codegen.byte_votes import byte_votes
from tinyml.codegen.graph import Floats, Forest
from tinyml.codegen.storage import output_of_trees


class Ballot:
    """The votes of calibration rows, rounded to any number of bits.

    Parameters
    ----------
    forest : Forest
    reached : list of ndarray
        For each tree the leaf that each row reaches.
    """

    def __init__(self, forest: Forest, reached: list[NDArray[np.intp]]) -> None:
        self.forest = forest
        self.reached = reached
        leaves = [tree.value[tree.is_leaf] for tree in forest.trees]
        tree = np.repeat(np.arange(len(leaves)), [len(rows) for rows in leaves])
        self.table = np.vstack(leaves)
        self.outputs = output_of_trees(self.table, tree, len(leaves))
        self.exact = self.total(None) + forest.offset
        self.wanted = self.exact[:, 0] > 0 if self.is_single else self.exact.argmax(axis=1)

    @property
    def is_single(self) -> bool:
        """Whether there is one score, which decides by its sign."""
        return self.forest.size == 1

    def total(self, frac: int | None) -> Floats:
        """Sum the leaves of every row, without the offset: as they are, or as whole numbers."""
        total = np.zeros((len(self.reached[0]), self.forest.size))
        for t, (tree, leaf) in enumerate(zip(self.forest.trees, self.reached, strict=True)):
            column = slice(None) if self.outputs is None else int(self.outputs[t])
            value = tree.value[:, column]
            total[:, column] += (value if frac is None else _rounded(value, frac))[leaf]
        return total

    def offset(self, frac: int, total: Floats) -> Floats:
        """Return the whole-numbered offset that goes with the whole-numbered sums of the rows."""
        offset = _rounded(self.forest.offset, frac)
        if not self.is_single:
            return offset
        least = 1 - total[self.wanted].min(initial=np.inf)
        most = -total[~self.wanted].max(initial=-np.inf)
        return np.clip(offset, least, most) if least <= most else offset

    def changes(self, frac: int, total: Floats) -> bool:
        """Whether any row is decided otherwise with so many bits."""
        scores = total + self.offset(frac, total)
        decided = scores[:, 0] > 0 if self.is_single else scores.argmax(axis=1)
        return bool(np.any(decided != self.wanted))

    def is_fine(self, frac: int, total: Floats) -> bool:
        """Whether rounding changes margins by little beside the median margin."""
        rounded = np.ldexp(total + _rounded(self.forest.offset, frac), -frac)
        margin = self._margin(self.exact)
        error = np.sqrt(np.mean((self._margin(rounded) - margin) ** 2))
        return bool(error <= _ROUNDING * np.median(margin))

    def _margin(self, scores: Floats) -> Floats:
        """Return by how much the wanted class is ahead of the next."""
        if self.is_single:
            return np.where(self.wanted, scores[:, 0], -scores[:, 0])
        first = np.take_along_axis(scores, self.wanted[:, None], axis=1)[:, 0]
        others = scores.copy()
        np.put_along_axis(others, self.wanted[:, None], -np.inf, axis=1)
        return np.asarray(first - others.max(axis=1))


def votes(ballot: Ballot, bits: int) -> tuple[int, Forest]:
    """Return the fractional bits of votes, and the forest with the offset that goes with them.

    Exact bits are taken if few do. Rows of numbers are a byte for each with 8 bits, where all
    calibration rows can be decided as in float, else what `_row_frac` says. Leaves of one number
    get the fewest with which no calibration row changes and rounding is small beside the median
    margin. The offset of one score is the one nearest to the model's that changes no calibration
    row, so that a row that lies exactly on the boundary stays on its side.
    """
    forest = ballot.forest
    numbers = np.vstack([ballot.table, forest.offset])
    for frac in range(_MOST_EXACT):
        if np.array_equal(np.ldexp(numbers, frac), np.floor(np.ldexp(numbers, frac))):
            return frac, forest
    in_bytes = byte_votes(forest, ballot.reached) if bits == 8 and ballot.outputs is None else None
    if in_bytes is not None:
        return in_bytes
    fracs = range(-int(np.floor(np.log2(np.abs(ballot.table).max()))), _most_frac(forest))
    frac = _row_frac(ballot, fracs) if ballot.outputs is None else _scalar_frac(ballot, fracs)
    return frac, replace(forest, offset=np.ldexp(ballot.offset(frac, ballot.total(frac)), -frac))


_MOST_EXACT = 10
_ROUNDING = 2.0**-18  # of margins, root mean square, beside the median: 1 row in a million changes


def _rounded(value: Floats, frac: int) -> Floats:
    return np.floor(np.ldexp(value, frac) + 0.5)


def _most_frac(forest: Forest) -> int:
    """Return the fractional bits with which no sum can leave 30 bits."""
    reach = sum(np.abs(tree.value[tree.is_leaf]).max(axis=0) for tree in forest.trees)
    largest = float((reach + np.abs(forest.offset)).max())
    return int(np.floor(np.log2((2**30 - len(forest.trees)) / largest)))


def _scalar_frac(ballot: Ballot, fracs: range) -> int:
    for frac in fracs:
        total = ballot.total(frac)
        if ballot.is_fine(frac, total) and not ballot.changes(frac, total):
            return frac
    return fracs.stop


def _row_frac(ballot: Ballot, fracs: range) -> int:
    """Return the coarsest from which on no calibration row changes, one bit more, and room's rest.

    The bit more is for rows not seen, the rest what the storage of that holds anyway.
    """
    fewest = fracs.start
    for frac in fracs[:16]:
        if ballot.changes(frac, ballot.total(frac)):
            fewest = frac + 1
    return _widened(ballot.forest, ballot.table, min(fewest + 1, fracs.stop))


def _widened(forest: Forest, table: Floats, frac: int) -> int:
    """Spend the bits that a 16-bit pair and a 16-bit sum leave unused, else those of 16 bits."""
    top, total = float(table.max()), float(np.abs(table).max()) * len(forest.trees)
    output_bits = max(1, (table.shape[1] - 1).bit_length())

    def fits(f: int) -> bool:
        return top * 2.0**f < 2 ** (16 - output_bits) and total * 2.0**f < 2**15

    if fits(frac):
        while fits(frac + 1):
            frac += 1
        return frac
    return max(frac, 15 - max(0, int(np.ceil(np.log2(top)))))
