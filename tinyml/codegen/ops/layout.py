"""Which values of a program live in arrays of their own, and how many bytes these take at once.

An elementwise op rides on the store of what it reads first. Whatever more than one op reads, or an
op reads as a whole, lies in an array; the printer declares the arrays in this order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from tinyml.codegen.ops.base import Elementwise, Op


def shared(targets: Sequence[Op], known: Collection[Op]) -> list[Op]:
    """Return the ops that several others read on the way from what is `known` to `targets`."""
    readers: Counter[Op] = Counter(targets)
    order: dict[Op, None] = {}

    def visit(op: Op) -> None:
        if op in known or op in order:
            return
        for source in op.inputs:
            visit(source)
        readers.update(set(op.inputs))
        order.setdefault(op)

    for op in targets:
        visit(op)
    return [op for op in order if readers[op] > 1]


def rides(op: Op, known: Collection[Op]) -> bool:
    """Whether an op is computed on the store of what it reads first."""
    return isinstance(op, Elementwise) and op.inputs[0] not in known


def peak_bytes(targets: Sequence[Op], known: Collection[Op]) -> int:
    """Return the bytes of arrays alive at once while `targets` are computed, these not counted."""
    known, held, peak = set(known), 0, 0
    for op in shared(targets, known):
        held += op.type.nbytes
        peak = max(peak, held + _bytes(op, known))
        known.add(op)
    return max([peak, *(held + _bytes(op, known) for op in targets)])


def _bytes(op: Op, known: set[Op]) -> int:
    """Return the bytes alive while one op is computed from what is known."""
    if op in known:
        return 0
    first = op.inputs[0]
    needed = op.inputs[1:] if rides(op, known) else op.inputs
    held, peak = 0, 0
    for source in needed:
        if source not in known:
            held += source.type.nbytes
            peak = max(peak, held + _bytes(source, known))
    if rides(op, known):
        return max(peak, held + _bytes(first, known))
    return max(peak, held + op.scratch_bytes)
