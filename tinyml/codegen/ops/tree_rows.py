"""Rows of leaves behind masks, which are added for many trees at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

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
    offsets : list of dict
        For each tree, and each leaf number in it, where its row begins behind the start.
    groups : list of slice
        The outputs of each group.
    """

    table: Table
    starts: IntArray
    offsets: list[dict[int, int]]
    groups: list[slice]

    @classmethod
    def of(cls, values: IntArray, leaves: Sequence[IntArray], largest_group: int) -> MaskedRows:
        """Lay out the rows of `values` that the leaves of each tree name."""
        n = values.shape[1]
        size = -(-n // -(-n // largest_group))
        groups = [slice(k, min(k + size, n)) for k in range(0, n, size)]
        stream: list[int] = []
        starts: list[int] = []
        offsets: list[dict[int, int]] = []
        for numbers in leaves:
            starts.append(len(stream))
            offsets.append({})
            for number in numbers.tolist():
                offsets[-1][number] = len(stream) - starts[-1]
                for group in groups:
                    stream += _behind_mask(values[number, group])
        return cls(Table.of(np.array(stream)), np.array(starts), offsets, groups)

    @property
    def sizes(self) -> list[int]:
        """Return the number of outputs of each group."""
        return [group.stop - group.start for group in self.groups]

    @property
    def offset_ctype(self) -> str:
        """C type of what the leaves of a tree return."""
        return index_ctype(max(max(tree.values()) for tree in self.offsets))


def _behind_mask(values: IntArray) -> list[int]:
    present = values != 0
    return [int(np.sum(present << np.arange(len(values)))), *values[present].tolist()]
