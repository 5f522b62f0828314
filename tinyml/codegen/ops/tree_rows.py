"""Rows of leaves behind masks, which are added for many trees at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinyml.codegen.fixed import IntArray, index_ctype
from tinyml.codegen.ops.base import Table


@dataclass(frozen=True, eq=False)
class MaskedRows:
    """The rows of values at the leaves of a forest, those of a tree together.

    Outputs are taken in groups, so small that a chip keeps their sums in registers. A row is, group
    by group, a mask of the outputs that are not zero and their values.

    Attributes
    ----------
    table : Table
        The rows end to end.
    starts : ndarray of shape (n_trees,)
        Where the rows of each tree begin.
    offsets : list of ndarray
        For each tree where its rows begin behind that.
    groups : list of slice
        The outputs of each group.
    """

    table: Table
    starts: IntArray
    offsets: list[IntArray]
    groups: list[slice]

    @classmethod
    def of(cls, values: IntArray, leaves: Sequence[IntArray], largest_group: int) -> MaskedRows:
        """Lay out the rows of `values` with the numbers that the `leaves` of each tree have."""
        n = values.shape[1]
        size = -(-n // -(-n // largest_group))
        groups = [slice(k, min(k + size, n)) for k in range(0, n, size)]
        rows = values[np.concatenate(leaves)]
        entries, is_kept = _behind_masks(rows, groups)
        begins = np.cumsum(is_kept.sum(axis=1)) - is_kept.sum(axis=1)
        by_tree = np.split(begins, np.cumsum([len(numbers) for numbers in leaves])[:-1])
        starts = np.array([begin[0] for begin in by_tree])
        offsets = [begin - begin[0] for begin in by_tree]
        return cls(Table.of(entries[is_kept]), starts, offsets, groups)

    @property
    def sizes(self) -> list[int]:
        """Return the number of outputs of each group."""
        return [group.stop - group.start for group in self.groups]

    @property
    def offset_ctype(self) -> str:
        """C type of where a row begins among those of its tree."""
        return index_ctype(max(int(offsets.max()) for offsets in self.offsets))


def _behind_masks(rows: IntArray, groups: Sequence[slice]) -> tuple[IntArray, NDArray[np.bool_]]:
    """Return a mask and all values for each group of each row, and which of them are kept."""
    entries, kept = [], []
    for group in groups:
        is_present = rows[:, group] != 0
        mask = is_present @ (1 << np.arange(is_present.shape[1]))
        entries += [mask[:, None], rows[:, group]]
        kept += [np.ones((len(rows), 1), dtype=bool), is_present]
    return np.hstack(entries), np.hstack(kept)
