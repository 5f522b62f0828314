"""Stages → ops: every numeric decision of a program is taken here.

Each kind of stage has a ladder of formats from cheap to fine; a level picks the rung. Within a rung
the finest grid whose result is proven to fit is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyml.codegen.fixed import (
    LARGEST_INPUT,
    Fixed,
    IntArray,
    ctype_range,
    frac_for,
    to_raw,
)
from tinyml.codegen.fold import Stage, View, fold
from tinyml.codegen.forests import ForestFormat, Gaps, Missing, above, lower_forest, sum_frac
from tinyml.codegen.functions import (
    FunctionFormat,
    filled,
    function,
    joined,
    nearest,
    normalized,
)
from tinyml.codegen.graph import (
    Above,
    AbsoluteDistance,
    Affine,
    BelowLargest,
    Child,
    Chosen,
    Decay,
    Filled,
    Floats,
    Forest,
    Function,
    Graph,
    Joined,
    Nearest,
    Node,
    Normalized,
    PairVotes,
    Product,
    ScaledDistance,
    SquaredDistance,
    Sum,
    Winner,
)
from tinyml.codegen.inputs import InputRange
from tinyml.codegen.kernels import (
    AbsoluteFormat,
    DecayFormat,
    DistanceFormat,
    ScaledFormat,
    absolute_distance,
    decay,
    scaled_distance,
    squared_distance,
)
from tinyml.codegen.narrowing import (
    WIDEST,
    gathered,
    narrow_each,
    narrow_parts,
    narrow_together,
    run_between,
)
from tinyml.codegen.one_grid import on_one_grid_of
from tinyml.codegen.operands import (
    Value,
    aligned,
    as_seen,
    narrowed,
    operand,
    returned,
    seen_as,
    wide_sum,
)
from tinyml.codegen.ops import (
    Add,
    ChosenMatVec,
    Input,
    Join,
    Local,
    MatVec,
    Mul,
    Narrow,
    Op,
    Scale,
    Scan,
    TreeWalk,
)
from tinyml.codegen.ops import BelowLargest as BelowLargestOp
from tinyml.codegen.ops import Child as ChildOp
from tinyml.codegen.ops import PairVotes as PairVotesOp
from tinyml.codegen.ops import Winner as WinnerOp
from tinyml.codegen.ops.scan import evaluate
from tinyml.codegen.products import AffineFormat, affine
from tinyml.codegen.sequences import Frame, Held, State, steps_before_end
from tinyml.codegen.sequences import Scan as ScanNode
from tinyml.codegen.votes import Ballot, votes

_PAIRED = (Child, Product, Sum)
_ABOVE_THRESHOLDS = 2.0**-6  # room beyond the largest, so that what saturates passes it
_MANY_STAGES = 12
_MAX_EXPONENT = 100  # of an input's power of two, well inside single precision


LADDERS: dict[type, tuple[Any, ...]] = {
    Affine: (
        AffineFormat(8, 8, 0.015),
        AffineFormat(8, 8, 0.0),
        AffineFormat(8, 16, 0.0),
        AffineFormat(16, 16, 0.0),
    ),
    SquaredDistance: (
        DistanceFormat(8, 8, 8),
        DistanceFormat(16, 8, 8),
        DistanceFormat(16, 8, 16),
        DistanceFormat(16, 16, 16),
    ),
    ScaledDistance: (ScaledFormat(8, 8), ScaledFormat(8, 16), ScaledFormat(16, 16)),
    AbsoluteDistance: (AbsoluteFormat(8, 8), AbsoluteFormat(16, 8), AbsoluteFormat(16, 16)),
    Decay: (DecayFormat(8, False), DecayFormat(8, True), DecayFormat(16, True)),
    Function: (FunctionFormat(8), FunctionFormat(16)),
    Forest: (ForestFormat(8), ForestFormat(16)),
}
LADDERS[Chosen] = LADDERS[Affine]
LADDERS[Held] = (8, 16)
INPUT_LADDER = (8, 16, 32)
# one step of a sequence takes little room, and its roundings would add up over the steps
STEP_LADDER = (AffineFormat(8, 16, 0.015), AffineFormat(16, 16, 0.0))
STEP_INPUT_LADDER = (16, 32)

_MOST_STEPS = 60_000  # of sequences, on which ranges are taken
_MOST_SATURATED = 3  # bits by which numbers of a sequence may exceed the input
_ROOM = 1.25  # of a state above what calibration rows reached

_Built = tuple[Value, ...]


@dataclass(eq=False)
class Builder:
    """Turns the stages of one graph into ops.

    Parameters
    ----------
    graph : Graph
    X : ndarray of shape (n_samples, n_features)
        Calibration rows; every range comes from them and saturates.
    input_range : InputRange
    votes : bool
        Whether the scores are compared with one another (a classifier) or are the answer.
    layout : {"auto", "code", "table"}
        Of forests.
    """

    graph: Graph
    X: NDArray[Any]
    input_range: InputRange
    votes: bool
    layout: str = "auto"
    _cache: dict[tuple[int, ...], _Built] = field(default_factory=dict)
    _narrowed: dict[tuple[Any, ...], Op] = field(default_factory=dict)
    _outside: dict[Op, Value] = field(default_factory=dict)  # what a held local stands for

    def __post_init__(self) -> None:
        """Bring outputs that are not compared with one another to a common size.

        Each is multiplied by a power of two, which its own frac takes back at the end.
        """
        self.stages = fold(self.graph)
        longest = max((s.n_steps for s in self._scans if s.frame is not None), default=1)
        self.X = self._with_a_step(self.X)[:: 1 + len(self.X) * longest // _MOST_STEPS]
        self.values = self.graph.values(self.X)
        self._exponents: IntArray | None = None
        last = self.stages[-1].node
        if self.votes or last.size == 1 or not isinstance(last, Affine | Forest):
            return
        reach = np.abs(self.values[self.graph.scores]).max(axis=0)
        reach = np.where(reach > 0, reach, reach.max())
        self._exponents = np.floor(np.log2(reach.max() / reach)).astype(np.int64)
        scaled = _scaled(last, np.ldexp(1.0, self._exponents))
        self.stages = [*self.stages[:-1], replace(self.stages[-1], node=scaled)]

    def top_levels(self, input_bits: int, table_bits: int) -> tuple[int, ...]:
        """Return the highest rungs of the input and of every stage that are within these widths."""
        widths = [width for width in self._input_ladder if width <= input_bits]
        top = 0 if self.input_range.is_whole else len(widths) - 1
        rungs = ([_table_bits(fmt) <= table_bits for fmt in self._ladder(s)] for s in self.stages)
        return (top, *(sum(within) - 1 for within in rungs))

    @cached_property
    def alike(self) -> list[list[int]]:
        """Positions of the input and the stages whose levels are chosen together.

        Each by itself, unless there are many: then those of one kind and size are one choice.
        """
        if len(self.stages) <= _MANY_STAGES:
            return [[k] for k in range(len(self.stages) + 1)]
        groups: dict[Any, list[int]] = {}
        for k, stage in enumerate(self.stages, start=1):
            sizes = tuple(len(view.columns) for view in stage.views)
            groups.setdefault((type(stage.node), stage.node.size, sizes), []).append(k)
        return [[0], *groups.values()]

    @property
    def _input_ladder(self) -> tuple[int, ...]:
        """Widths of real features, from cheap to fine."""
        return STEP_INPUT_LADDER if self._frame_width else INPUT_LADDER

    def _ladder(self, stage: Stage) -> tuple[Any, ...]:
        """Return the formats of a stage, from cheap to fine; some have one only."""
        reads = [self.stages[k].node for k in stage.sources if k >= 0]
        if isinstance(stage.node, Affine) and isinstance(reads[0] if reads else None, Frame):
            return STEP_LADDER
        return LADDERS.get(type(stage.node), (None,))

    def build(self, levels: Sequence[int]) -> tuple[Input, Op]:
        """Return the input op and the op that yields the scores, with the formats of `levels`."""
        built = self._built(tuple(levels))
        (source, _), (scores, _) = built[0], built[-1]
        assert isinstance(source, Input)
        if self._exponents is not None and isinstance(scores, MatVec | Scale | TreeWalk):
            scores = replace(scores, frac=scores.frac + self._exponents)
        return source, scores

    def _built(self, levels: tuple[int, ...]) -> _Built:
        """Return the input and as many stages as there are levels behind it, each with its values.

        What is built once serves every program that begins with the same levels.
        """
        if levels not in self._cache:
            before = self._built(levels[:-1]) if len(levels) > 1 else ()
            self._cache[levels] = (*before, self._build_last(levels, before))
        return self._cache[levels]

    def _build_last(self, levels: tuple[int, ...], before: _Built) -> tuple[Op, IntArray]:
        if not before:
            source = self._input(levels[0])
            return source, self._raw_input(source)
        position = len(levels) - 2
        stage = self.stages[position]
        if isinstance(stage.node, ScanNode):
            return self._scan(stage, before)
        reads = [before[source + 1] for source in stage.sources]
        if isinstance(stage.node, State | Held | Frame):
            return self._local(stage, reads, levels[-1])
        op = self._lower(reads, stage, self._ladder(stage)[levels[-1]], position)
        return op, evaluate([op], dict(before))[0]

    def _input(self, level: int) -> Input:
        n = self.X.shape[1]
        ctype = self.input_range.ctype
        if ctype is not None:
            return Input(n, 0, ctype, self._missing(ctype, self.input_range.has_gaps))
        ctype = f"int{self._input_ladder[level]}_t"
        limit = min(ctype_range(ctype)[1], LARGEST_INPUT)
        frac = [frac_for(float(e), limit) for e in self._extent()]
        if self._frame_width and not self.input_range.is_declared:
            frac = self._fracs_of_channels(frac[: self._frame_width], limit)
        limited = np.clip(np.array(frac, dtype=np.int64), -_MAX_EXPONENT, _MAX_EXPONENT)
        if np.ptp(limited) == 1 and self._wants_one_scale:
            limited[:] = limited.min()
        return Input(
            n,
            limited,
            ctype,
            self._missing(ctype, bool(self._frame_width) or self.input_range.has_gaps),
        )

    def _fracs_of_channels(self, frac: list[int], limit: int) -> list[int]:
        """Give each channel the grid of least error on the rows; the few beyond its ends saturate.

        Of all the numbers in long sequences a single one would otherwise set the scale.
        """
        channels = self.X.reshape(-1, self._frame_width).T
        best: list[int] = [
            min(range(least, least + _MOST_SATURATED + 1), key=lambda f: _grid_error(x, f, limit))
            for x, least in zip(channels, frac, strict=True)
        ]
        return best * int(self.X.shape[1] // self._frame_width)

    @property
    def _wants_one_scale(self) -> bool:
        """Whether weights on one grid alone read the input: with one scale it needs no shifts."""
        inputs = {k for k, stage in enumerate(self.stages) if isinstance(stage.node, Frame)} | {-1}
        readers = [s for s in self.stages if inputs & {*s.sources} and s.views]
        weights = [s for s in readers if not isinstance(s.node, Frame | ScanNode)]
        return all(
            isinstance(s.node, Affine)
            and s.node.grid is not None
            and np.ptp(s.node.grid) == 0
            and not s.views[0].steps
            for s in weights
        )

    def _missing(self, ctype: str, has_room: bool) -> int | None:
        """Return the value that ends a sequence or says that trees are to read none."""
        reads_gaps = self._frame_width or any(
            isinstance(stage.node, Forest | Filled) and -1 in stage.sources for stage in self.stages
        )
        return ctype_range(ctype)[0] if has_room and reads_gaps else None

    def _with_a_step(self, X: NDArray[Any]) -> NDArray[Any]:
        """Return the rows that say something of ranges: no sequences without a time step."""
        width = self._frame_width
        if not width:
            return X
        kept = X[steps_before_end(X, width) > 0]
        if not len(kept):
            raise ValueError(
                "The 'X' parameter of compile must hold sequences with a time step. Got none among "
                "those that ranges are taken from."
            )
        return kept

    @property
    def _frame_width(self) -> int:
        """Features of one step, where the input is a sequence, else 0."""
        return next((s.frame.width for s in self._scans if s.frame is not None), 0)

    def _raw_input(self, source: Input) -> IntArray:
        t = source.type
        if source.missing is None:
            return to_raw(self.X, t.frac, t.lowest, t.highest)
        raw = to_raw(np.nan_to_num(self.X), t.frac, t.lowest + 1, t.highest)
        return np.where(np.isnan(self.X), source.missing, raw)

    def _extent(self) -> Floats:
        """Return how far each real feature reaches: to the thresholds, where only these read it.

        All steps of a sequence have the same scale.
        """
        width = self._frame_width
        if width:
            extent = self.input_range.extent.reshape(-1, width).max(axis=0)
            return np.tile(extent, self.X.shape[1] // width)
        seen = self.input_range.extent
        reach = np.zeros(len(seen))
        for stage in self.stages:
            for view in (v for v, k in zip(stage.views, stage.sources, strict=True) if k == -1):
                np.maximum.at(reach, view.columns, _extent_read(stage.node, view, seen))
        return np.where(reach > 0, reach, seen)

    def _lower(self, reads: Sequence[Value], stage: Stage, fmt: Any, position: int) -> Op:
        node, ((x, raw), *_) = stage.node, reads
        if isinstance(node, Affine):
            parts = stage.views[0], node.weights, node.bias, fmt, node.grid
            return self._shared(affine(x, raw, *parts))
        if isinstance(node, Joined):
            return joined(reads, stage.views)
        if isinstance(node, Chosen):
            return chosen(reads, stage, node, fmt)
        if isinstance(node, SquaredDistance):
            x, raw = on_one_grid_of(x, raw, stage.views[0], node.grid)
            return squared_distance(x, raw, node, self._reach(position), fmt)
        if isinstance(node, ScaledDistance):
            x, raw = gathered(x, stage.views[0]), raw[:, stage.views[0].columns]
            return scaled_distance(x, raw, node, fmt)
        if isinstance(node, AbsoluteDistance):
            return absolute_distance(x, raw, stage.views[0], node, fmt)
        if isinstance(node, Decay):
            return decay(x, node, fmt)
        if isinstance(node, Forest):
            return self._forest(x, raw, stage, node, fmt)
        if isinstance(node, _PAIRED):
            return self._paired(reads, stage)
        return self._of_one(x, raw, stage, fmt)

    def _of_one(self, x: Op, raw: IntArray, stage: Stage, fmt: Any) -> Op:
        """Return the op of a node that reads one other."""
        node = stage.node
        if isinstance(node, Function):
            return function(x, raw, node, fmt)
        if isinstance(node, Above):
            return above(
                x, node, stage.views[0], self._gaps(x, raw, node.x, np.float64, stage.views[0])
            )
        if isinstance(node, Filled):
            return filled(x, stage.views[0], node)
        if isinstance(node, Normalized):
            return normalized(x, raw)
        if isinstance(node, Nearest):
            return nearest(x, node)
        if isinstance(node, BelowLargest):
            return BelowLargestOp(narrowed(x, x.type.scalar_frac, -(2**29), 2**29))
        if isinstance(node, PairVotes):
            return PairVotesOp(x, node.n_classes)
        assert isinstance(node, Winner)
        return WinnerOp(x)

    def _paired(self, reads: Sequence[Value], stage: Stage) -> Op:
        """Return the op of a node that reads two others."""
        node, (a, b), (view_a, view_b) = stage.node, reads, stage.views
        if isinstance(node, Child):
            return ChildOp(operand(*a, view_a), operand(*b, view_b), node.n_nodes - 1)
        if isinstance(node, Product):
            return Mul(operand(*a, view_a), operand(*b, view_b))
        assert isinstance(node, Sum)
        if node in self._repeated:
            return Add(*aligned(seen_as(*a, view_a), seen_as(*b, view_b)))
        return Add(*wide_sum(as_seen(*a, view_a), as_seen(*b, view_b)))

    def _shared(self, product: Op) -> Op:
        """Let a product read what another one has narrowed in the same way."""
        if not isinstance(product, MatVec) or not isinstance(product.x, Narrow):
            return product
        x = product.x
        key = id(x.x), *(np.asarray(part).tobytes() for part in (x.shift, x.lo, x.hi))
        first = self._narrowed.setdefault(key, x)
        return product if first is x else replace(product, x=first)

    # Repetition ----------------------------------------------------------------------------------

    def _local(self, stage: Stage, reads: Sequence[Value], level: int) -> Value:
        """Return what a body begins from; the rows of all steps are below one another."""
        node = stage.node
        scan = self._scan_of[node]
        alive = scan.rows_alive(*(self.values[i] for i in scan.inputs))
        if isinstance(node, Frame):
            ((x, raw),) = reads
            width = node.width
            parts = [raw[rows, k * width : (k + 1) * width] for k, rows in enumerate(alive)]
            frac = np.broadcast_to(x.type.frac, x.type.shape)[:width]
            local = Local(Fixed((width,), frac, x.type.lo, x.type.hi))
            return local, np.concatenate(parts)
        if isinstance(node, Held):
            ((x, raw),) = reads
            reach = float(np.abs(x.type.to_float(raw)).max(initial=0))
            outside = narrow_together(x, 2 ** (self._ladder(stage)[level] - 1) - 1, reach)
            local = Local(outside.type)
            self._outside[local] = outside, evaluate([outside], {x: raw})[0]
            return local, np.concatenate([self._outside[local][1][rows] for rows in alive])
        assert isinstance(node, State)
        if node.largest is not None:
            local = Local(Fixed((node.size,), 0, 0, node.largest))
        else:
            after = self.values[scan.results[scan.states.index(node)]]
            reach = _ROOM * float(np.abs(after).max(initial=0))
            local = Local(Fixed((node.size,), frac_for(reach, WIDEST), -WIDEST, WIDEST))
        t = local.type
        return local, to_raw(self.values[node], t.frac, t.lo, t.hi)

    def _scan(self, stage: Stage, before: _Built) -> Value:
        node, ops = stage.node, [before[source + 1][0] for source in stage.sources]
        assert isinstance(node, ScanNode)
        n, n_held = len(node.states), len(node.held)
        states = tuple(op for op in ops[:n] if isinstance(op, Local))
        held, frames = (
            tuple(op for op in part if isinstance(op, Local))
            for part in (ops[2 * n : 2 * n + n_held], ops[2 * n + n_held :])
        )
        outside = [self._outside[local] for local in held]
        results = tuple(map(returned, ops[n : 2 * n], states))
        sources = tuple(x for x, _ in outside)
        raws = [raw for _, raw in outside]
        if not frames:
            op = Scan(sources, held, states, results, node.n_steps)
            return op, op.run(*raws)
        sequence, raw = before[0]
        assert isinstance(sequence, Input)
        op = Scan(sources, held, states, results, node.n_steps, sequence, frames[0])
        return op, op.run(*raws, raw)

    @cached_property
    def _scan_of(self) -> dict[Node, ScanNode]:
        """The scan to which each node that its body begins from belongs."""
        parts = {scan: (*scan.states, *scan.held, scan.frame) for scan in self._scans}
        return {local: scan for scan, locals_ in parts.items() for local in locals_ if local}

    @cached_property
    def _repeated(self) -> set[Node]:
        """The nodes inside of scans, where states of 16 bits are added."""
        return {node for scan in self._scans for node in scan.body}

    @property
    def _scans(self) -> list[ScanNode]:
        return [stage.node for stage in self.stages if isinstance(stage.node, ScanNode)]

    def _forest(self, x: Op, raw: IntArray, stage: Stage, node: Forest, fmt: ForestFormat) -> Op:
        if not isinstance(x, Input):
            x, raw = _for_trees(x, raw, fmt.table_bits)
        seen, ballot = self.values[node.x], self._ballot
        frac, node = (
            (sum_frac(node, fmt.table_bits), node)
            if ballot is None
            else votes(ballot, fmt.table_bits)
        )
        gaps = self._gaps(x, raw, node.x, node.precision, stage.views[0])
        missing = Missing(getattr(x, "missing", None), np.any(np.isnan(seen), axis=0))
        if missing.code is None and missing.columns.any():
            raise TypeError(
                "Trees can tell missing values only in the features themselves; these have to be "
                "of 8 or 16 bits."
            )
        return lower_forest(x, node, stage.views[0], frac, self.layout, gaps, missing)

    def _gaps(self, x: Op, raw: IntArray, source: Node, precision: Any, view: View) -> Gaps | None:
        """Return where the rows lie that thresholds part; whole numbers need none of it."""
        if self.input_range.is_whole and isinstance(x, Input):
            return None
        seen = self.values[source].astype(precision)
        return Gaps(raw[:, view.columns], seen, view.as_clipped_affine()[0] < 0)

    @cached_property
    def _ballot(self) -> Ballot | None:
        """How the calibration rows vote; None for a regressor."""
        forest = self.stages[-1].node
        if not self.votes or not isinstance(forest, Forest):
            return None
        seen = self.values[forest.x].astype(forest.precision)
        return Ballot(forest, [tree.leaves(seen) for tree in forest.trees])

    def _reach(self, position: int) -> float:
        """Return the difference beyond which the kernel that follows has vanished."""
        after = self.stages[position + 1].node if position + 1 < len(self.stages) else None
        return 2.5 / np.sqrt(after.rate) if isinstance(after, Decay) else np.inf


def _for_trees(x: Op, raw: IntArray, bits: int) -> Value:
    """Narrow what trees compare, on one grid where it is so already."""
    limit = 2 ** (bits - 1) - 1
    if isinstance(x, Join):
        return narrow_parts(x, raw, limit)
    if np.unique(x.type.frac).size > 1:
        narrow = narrow_each(x, raw, limit)
    else:
        narrow = narrow_together(x, limit, float(np.abs(x.type.to_float(raw)).max(initial=0)))
    return narrow, run_between(x, narrow, raw)


def _grid_error(x: Floats, frac: int, limit: int) -> float:
    """Return the mean square of what rounding and saturation change in what is not missing."""
    x = x[~np.isnan(x)]
    return float(np.mean((np.ldexp(to_raw(x, frac, -limit, limit), -frac) - x) ** 2))


def _scaled(node: Affine | Forest, factor: Floats) -> Affine | Forest:
    """Multiply the outputs of a node."""
    if isinstance(node, Affine):
        return node.scaled(factor)
    trees = tuple(replace(tree, value=tree.value * factor) for tree in node.trees)
    return replace(node, trees=trees, offset=node.offset * factor)


def _extent_read(node: Node, view: View, seen: Floats) -> Floats:
    """Return how far the columns of a view of the features tell a node something."""
    if isinstance(node, Forest):
        return _threshold_extent(node, view)
    if isinstance(node, Above):
        a, b, _, _ = view.as_clipped_affine()
        return np.abs((node.thresholds - b) / a) * (1 + _ABOVE_THRESHOLDS)
    return seen[view.columns]


def _threshold_extent(forest: Forest, view: View) -> Floats:
    a, b, _, _ = view.as_clipped_affine()
    extent = np.zeros(len(view.columns))
    for tree in forest.trees:
        limits = tree.threshold.copy()
        for node, members in tree.sets.items():
            limits[node] = np.max(members, initial=0) + 1
        splits = ~tree.is_leaf & np.isfinite(limits)  # an infinite one parts what is missing
        column, threshold = tree.feature[splits], limits[splits]
        np.maximum.at(extent, column, np.abs((threshold - b[column]) / a[column]))
    return extent * (1 + _ABOVE_THRESHOLDS)


def chosen(reads: Sequence[Value], stage: Stage, node: Chosen, fmt: AffineFormat) -> Op:
    """Return the product with one of several matrices, which share grid and width of the sum."""
    (x, raw), index = reads[0], operand(*reads[1], stage.views[1])
    n_choices, n_outputs, n_inputs = node.weights.shape
    weights = node.weights.reshape(n_choices * n_outputs, n_inputs)
    product = affine(x, raw, stage.views[0], weights, node.bias.ravel(), fmt, node.grid)
    assert isinstance(product, MatVec)
    parts = product.x, product.weights, product.bias, product.frac
    return ChosenMatVec(*parts, index, n_choices)


def _table_bits(fmt: Any) -> int:
    """Return the width of what a stage stores; 0 where nothing is stored."""
    return int(getattr(fmt, "table_bits", 0))
