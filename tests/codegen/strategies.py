"""Random legal instances of every op, and literal programs made of them.

`STRATEGIES` has one entry for each op in the registry: a function that puts an op of that kind on
top of a given one. What 32 bits cannot hold, an op refuses when it is made; such draws are thrown
away.
"""

from dataclasses import replace
from functools import partial

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from tinyml.codegen.fixed import Fixed, ctype_range
from tinyml.codegen.graph import Graph
from tinyml.codegen.ops import (
    Above,
    AbsoluteDistance,
    Add,
    BelowLargest,
    Child,
    ChosenMatVec,
    Fill,
    Gather,
    Input,
    Interpolate,
    IntTree,
    Join,
    Local,
    Lookup,
    MatVec,
    Mul,
    Narrow,
    Nearest,
    Normalize,
    Op,
    PairVotes,
    Scale,
    ScaledDistance,
    Scan,
    SquaredDistance,
    TreeCode,
    TreeTable,
    Winner,
)
from tinyml.codegen.ops.scan import in_order
from tinyml.codegen.program import HEADS, Program

SIZES = st.sampled_from([1, 2, 3, 5, 8, 17])
INPUT_SIZES = st.one_of(SIZES, st.sampled_from([255, 256, 257, 300]))
FRACS = st.integers(-20, 40)


@st.composite
def integers(draw, shape, lo, hi):
    """Arrays of integers in [lo, hi]: anything, or many ends, or many zeros."""
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    values = rng.integers(lo, hi, shape, endpoint=True, dtype=np.int64)
    other = {"anything": values, "ends": rng.choice([lo, hi], shape), "zeros": np.clip(0, lo, hi)}
    kind = draw(st.sampled_from(sorted(other)))
    return np.asarray(np.where(rng.random(shape) < 0.7, other[kind], values), dtype=np.int64)


def legal(make):
    """Make an op, or throw the draw away if 32 bits cannot hold it."""
    try:
        return make()
    except OverflowError:
        assume(False)


@st.composite
def inputs(draw):
    n = draw(INPUT_SIZES)
    ctype = draw(st.sampled_from(["int8_t", "uint8_t", "int16_t", "uint16_t", "int32_t"]))
    frac = draw(st.one_of(FRACS, integers(n, -3, 9)))
    return Input(n, frac, ctype)


@st.composite
def gathers(draw, x):
    return Gather(x, draw(integers(draw(SIZES), 0, x.type.size - 1)))


@st.composite
def narrows(draw, x):
    n = x.type.size
    spread = draw(st.integers(0, 6))
    least = draw(st.integers(-4, 20))
    shift = draw(st.one_of(st.just(least), integers(n, least, least + spread)))
    width = draw(st.sampled_from([3, 7, 8, 15, 24, 31]))
    shape = draw(st.sampled_from([(), (n,)]))
    ends = [draw(integers(shape, -(2**width), 2**width - 1)) for _ in range(2)]
    bounds = np.minimum(*ends), np.maximum(*ends)
    lo, hi = (int(b) if b.ndim == 0 else b for b in bounds)
    return legal(lambda: Narrow(x, shift, lo, hi))


@st.composite
def lookups(draw, x):
    shift = draw(st.integers(0, 24))
    first = x.type.lowest >> shift
    base = first + draw(st.integers(-3, 3))
    top = draw(st.sampled_from([1, 127, 255, 32767, 2**31 - 1]))
    values = draw(integers(draw(st.sampled_from([1, 2, 64, 256, 300])), -top, top))
    return legal(lambda: Lookup(x, values, base, shift, draw(FRACS)))


@st.composite
def scales(draw, x):
    """Any factors and offsets, one for all elements or one each."""
    n = x.type.size
    shapes = st.sampled_from([(), (n,)])
    factor, offset = (
        draw(integers(draw(shapes), -reach, reach))
        for reach in (
            draw(st.sampled_from([1, 127, 2**13])),
            draw(st.sampled_from([1, 127, 2**15, 2**24])),
        )
    )
    factor = 1 if draw(st.booleans()) else factor
    return legal(lambda: Scale(x, factor, offset, draw(FRACS)))


@st.composite
def interpolations(draw, x):
    if x.type.lowest < 0:
        x = Narrow(x, 0, 0, max(0, x.type.highest))
    top = draw(st.sampled_from([1, 127, 255, 32767, 2**22]))
    values = draw(integers(draw(st.sampled_from([2, 3, 64, 129])), -top, top))
    return legal(lambda: Interpolate(x, values, draw(st.integers(0, 24)), draw(FRACS)))


@st.composite
def mat_vecs(draw, x):
    n_outputs = draw(SIZES)
    room = 2 ** (draw(st.sampled_from([16, 24, 32])) - 1) - 1
    weight = room // max(1, 2 * x.type.magnitude * x.type.size)
    weight = min(weight, draw(st.sampled_from([1, 127, 32767, 2**30])))
    weights = draw(integers((n_outputs, x.type.size), -weight, weight))
    bias = draw(integers(n_outputs, -(room // 2), room // 2))
    return legal(lambda: MatVec(x, weights, bias, draw(FRACS)))


def narrowed(x, limit, least=None):
    """Return x within ±limit, or from `least` on, on one grid."""
    shift = np.asarray(x.type.frac) - np.min(x.type.frac)
    return legal(lambda: Narrow(x, shift, -limit if least is None else least, limit))


@st.composite
def additions(draw, x):
    a, b = (narrowed(x, draw(st.sampled_from([1, 127, 32767, 2**30]))) for _ in range(2))
    return legal(lambda: Add(a, b))


@st.composite
def products_of_two(draw, x):
    a, b = (narrowed(x, draw(st.sampled_from([1, 127, 32767]))) for _ in range(2))
    return legal(lambda: Mul(a, b))


@st.composite
def children(draw, x):
    last = draw(st.sampled_from([2, 14, 254, 1000]))
    k = narrowed(Gather(x, np.array([0])), draw(st.sampled_from([0, 6, last])), least=0)
    return legal(lambda: Child(k, Gather(x, np.array([x.type.size - 1])), last))


@st.composite
def chosen_mat_vecs(draw, x):
    n_choices = draw(st.sampled_from([1, 2, 7]))
    index = narrowed(Gather(x, np.array([0])), n_choices - 1, least=0)
    room = 2 ** (draw(st.sampled_from([16, 24, 32])) - 1) - 1
    weight = min(room // max(1, 2 * x.type.magnitude * x.type.size), 2**30)
    shape = (n_choices * draw(SIZES), x.type.size)
    weights = draw(integers(shape, -weight, weight))
    bias = draw(integers(len(weights), -(room // 2), room // 2))
    bias = bias * draw(st.sampled_from([0, 1]))
    parts = weights, bias, draw(FRACS), index, n_choices
    return legal(lambda: ChosenMatVec(x, *parts))


@st.composite
def scans(draw, x):
    """Repetitions on a value from outside, or over the steps of a sequence."""
    finer, right, n_steps = (draw(st.integers(*ends)) for ends in ((-3, 5), (0, 4), (1, 5)))
    widths = [w for w in range(1, 6) if isinstance(x, Input) and x.type.size % w == 0]
    if widths and draw(st.booleans()):
        width = draw(st.sampled_from(widths))
        t = x.type
        missing = draw(st.sampled_from([None, t.lowest]))
        sequence = Input(t.size, t.frac if np.ndim(t.frac) == 0 else 3, t.ctype, missing)
        frame = Local(Fixed((width,), sequence.frac, t.lo, t.hi))
        seen = narrowed(frame, 127)

        def make_sequence():
            states, results = two_states(seen, seen.type.scalar_frac + finer, right)
            return Scan((), (), states, results, t.size // width, sequence, frame)

        return legal(make_sequence)
    source = narrowed(x, draw(st.sampled_from([7, 127, 32767])))
    held = Local(source.type)

    def make():
        states, results = two_states(held, source.type.scalar_frac + finer, right)
        return Scan((source,), (held,), states, results, n_steps)

    return legal(make)


def two_states(held, frac, right):
    """Return two states and what replaces them; the last reads both and a value from outside."""
    n = held.type.size
    first, last = states = tuple(Local(Fixed((n,), frac, -end, end)) for end in (127, 32767))
    outside = Narrow(held, held.type.scalar_frac - frac, -50, 50)
    product = Narrow(Mul(last, held), held.type.scalar_frac + right, -99, 99)
    mixed = Narrow(product, -right, -999, 999)
    sums = Add(first, outside), Add(Add(first, last), mixed)
    results = (
        Narrow(y, 0, s.type.lowest, s.type.highest) for y, s in zip(sums, states, strict=True)
    )
    return states, tuple(results)


@st.composite
def absolute_distances(draw, x):
    assume(np.unique(x.type.frac).size == 1)
    n, scale = x.type.size, draw(st.integers(0, 4))
    point = min(x.type.magnitude, draw(st.sampled_from([127, 32767, 2**24])))
    points = draw(integers((draw(SIZES), n), -point, point))
    return legal(lambda: AbsoluteDistance(x, points, scale))


@st.composite
def squared_distances(draw, x):
    assume(np.unique(x.type.frac).size == 1)
    n = x.type.size
    largest = int(np.sqrt((2**31 - 1) // n))
    limit = draw(st.sampled_from([127, min(largest, 4000), largest]))
    scale = draw(st.integers(0, 4))
    point = min(x.type.magnitude, draw(st.sampled_from([127, 32767, 2**24])))
    points = draw(integers((draw(SIZES), n), -point, point))
    return legal(lambda: SquaredDistance(x, points, scale, limit))


@st.composite
def scaled_distances(draw, x):
    """Bytes or 16 bits; among the bytes those for which there is a routine of its own."""
    n = x.type.size
    if draw(st.booleans()):
        x, limit, right = narrowed(x, 127), 127, draw(st.sampled_from([8, 8, 3]))
    else:
        limit, right = draw(st.sampled_from([127, 4000, 32767])), draw(st.integers(0, 20))
    point = draw(st.sampled_from([127, 32767]))
    points = draw(integers((draw(SIZES), n), -point - (point == 127), point))
    largest = int(np.sqrt((2**31 - 1) // n)) - 1
    scale = min(32767, max(1, (largest << right) // (limit + 1)))
    scales = draw(integers(points.shape, 0, draw(st.sampled_from([scale, min(scale, 255)]))))
    return legal(lambda: ScaledDistance(x, points, scales, right, limit, draw(FRACS)))


@st.composite
def trees(draw, x, n_values):
    """Trees of any shape in depth-first order, chains and single leaves among them.

    A threshold separates: lo <= threshold < hi.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    lows, highs = (np.broadcast_to(b, x.type.shape) for b in (x.type.lo, x.type.hi))
    varying = np.flatnonzero(lows < highs)
    n_splits = draw(st.sampled_from([0, 1, 3, 10, 40])) if varying.size else 0
    left, right, feature, threshold, leaf = [], [], [], [], []

    def grow(n):
        here = len(left)
        k = int(rng.choice(varying)) if varying.size else 0
        lo, hi = int(lows[k]), int(highs[k])
        threshold_here = np.clip([lo, hi - 1, 0, rng.integers(lo, hi + 1)], lo, max(lo, hi - 1))
        for column, value in (
            (left, -1), (right, -1), (feature, k),
            (threshold, int(rng.choice(threshold_here))),
            (leaf, int(rng.integers(n_values))),
        ):  # fmt: skip
            column.append(value)
        if n:
            below = int(rng.choice([0, n - 1, rng.integers(n)]))
            left[here] = grow(below)
            right[here] = grow(n - 1 - below)
        return here

    grow(n_splits)
    return IntTree(*(np.array(a) for a in (left, right, feature, threshold, leaf)))


@st.composite
def intervals(draw, x, tree):
    """Let some splits ask for intervals instead of a threshold: single numbers, and the lowest."""
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    lo, hi = ctype_range(x.type.ctype)
    found = {}
    for node in np.flatnonzero(~tree.is_leaf & (rng.random(len(tree.left)) < 0.7)):
        ends = np.unique(rng.integers(lo, hi, 2 * rng.integers(1, 4), endpoint=True))
        ends = ends if len(ends) % 2 == 0 else np.append(ends, ends[-1])
        pairs = tuple((int(a), int(b)) for a, b in ends.reshape(-1, 2))
        if pairs != ((lo, hi),):  # no split at all
            found[int(node)] = pairs
    return found


@st.composite
def tree_walks(draw, kind, x):
    n_values, n_outputs = draw(st.sampled_from([1, 2, 30, 300])), draw(SIZES)
    n_trees = draw(st.integers(1, 4))
    top = draw(st.sampled_from([1, 255, 4095, 32767, 2**28]))
    lowest = draw(st.sampled_from([0, -top]))
    offset = draw(st.one_of(st.just(np.zeros(n_outputs, int)), integers(n_outputs, -top, top)))
    chosen = [draw(trees(x, n_values)) for _ in range(n_trees)]
    if kind is TreeCode and draw(st.booleans()):
        chosen = [replace(tree, intervals=draw(intervals(x, tree))) for tree in chosen]
    if draw(st.booleans()):  # each tree adds to one output
        numbers = draw(integers((n_values, 1), lowest, top))
        values = np.kron(np.eye(n_outputs, dtype=int), numbers)
        chosen = [
            replace(tree, leaf=tree.leaf + n_values * (3 * t % n_outputs))
            for t, tree in enumerate(chosen)
        ]
    else:
        values = draw(integers((n_values, n_outputs), lowest, top))
    return legal(lambda: kind(x, tuple(chosen), values, offset, draw(FRACS)))


@st.composite
def thresholds(draw, x):
    t = x.type
    return Above(x, draw(integers(t.size, max(t.lowest - 1, -(2**31)), t.highest)))


@st.composite
def fills(draw, x):
    """A code for all elements or one each, which may be no value of x; any values."""
    t, top = x.type, draw(st.sampled_from([1, 127, 2**20]))
    shapes = st.sampled_from([(), (t.size,)])
    codes = draw(integers(draw(shapes), t.lowest, t.highest))
    values = draw(integers(draw(shapes), -top, top))
    return legal(lambda: Fill(x, codes, values, draw(st.integers(0, 9))))


@st.composite
def joins(draw, x):
    last = Gather(x, np.array([x.type.size - 1]))
    parts = draw(st.sampled_from([(x,), (x, x), (last, x), (x, last), (last, last, x)]))
    if isinstance(x, Input) and draw(st.booleans()):
        parts = (*parts, Narrow(x, 1, -(2**20), 2**20))
    return Join(parts)


@st.composite
def below_largest(draw, x):
    return legal(lambda: BelowLargest(narrowed(x, draw(st.sampled_from([1, 127, 2**24, 2**30])))))


@st.composite
def normalizations(draw, x):
    limit = draw(st.sampled_from([1, 127, 32767, 2**16]))
    return legal(lambda: Normalize(narrowed(x, limit, least=0)))


@st.composite
def winners(draw, x):
    return Winner(narrowed(x, draw(st.sampled_from([1, 127, 2**30]))))


@st.composite
def votes_of_pairs(draw, x):
    n_classes = draw(st.sampled_from([2, 3, 5, 24]))
    pairs = draw(integers(n_classes * (n_classes - 1) // 2, 0, x.type.size - 1))
    return PairVotes(Gather(x, pairs), n_classes)


@st.composite
def nearest(draw, x):
    x, n = narrowed(x, draw(st.sampled_from([2, 127, 2**24]))), x.type.size
    k = draw(st.sampled_from(sorted({1, min(3, n), n})))
    outputs = draw(integers(n, 0, draw(st.sampled_from([0, 1, 4]))))
    top = draw(st.sampled_from([1, 100, 2**15]))
    values = draw(st.one_of(st.just(np.ones(n, dtype=int)), integers(n, -top, top)))
    return legal(lambda: Nearest(x, k, outputs, values, draw(FRACS)))


STRATEGIES = {
    "Input": lambda x: st.just(x),
    "Gather": gathers,
    "Narrow": narrows,
    "Lookup": lookups,
    "Scale": scales,
    "Interpolate": interpolations,
    "MatVec": mat_vecs,
    "ChosenMatVec": chosen_mat_vecs,
    "Add": additions,
    "Mul": products_of_two,
    "Child": children,
    "Above": thresholds,
    "Fill": fills,
    "Join": joins,
    "BelowLargest": below_largest,
    "Normalize": normalizations,
    "Winner": winners,
    "PairVotes": votes_of_pairs,
    "Nearest": nearest,
    "Scan": scans,
    "Local": scans,
    "ScaledDistance": scaled_distances,
    "SquaredDistance": squared_distances,
    "AbsoluteDistance": absolute_distances,
    "TreeCode": partial(tree_walks, TreeCode),
    "TreeTable": partial(tree_walks, TreeTable),
    "ArgMax": lambda x: st.just(x),
    "Sign": lambda x: st.just(x),
    "Identity": lambda x: st.just(x),
}
HEAD_OF = {op.__name__: head for head, op in HEADS.items()}
BETWEEN = sorted(set(STRATEGIES) - {"Input", "Local"} - set(HEAD_OF))


@st.composite
def programs(draw, name):
    """Literal programs that contain the op `name`, with other ops before and after it."""
    x = draw(inputs())
    for kind in draw(st.lists(st.sampled_from(BETWEEN), max_size=2)):
        x = draw(STRATEGIES[kind](x))
    x = draw(STRATEGIES[name](x))
    x = _finished(draw, x, draw(st.sampled_from([None, *BETWEEN])))
    return literal(x, HEAD_OF.get(name) or draw(st.sampled_from(_heads(x))))


def _finished(draw, x, kind):
    """Put one more op on top, and make scores of one grid that are not the input itself."""
    if kind is not None:
        x = draw(STRATEGIES[kind](x))
    if isinstance(x, Input) or np.unique(x.type.frac).size > 1:
        x = draw(mat_vecs(x))
    return x


def _heads(x):
    return ["argmax", "identity"] if x.type.size > 1 else ["sign", "identity"]


def literal(scores, head, classes=None, description="literal"):
    """Return the program that ends in the op `scores`."""
    source = next(op for op in in_order([scores]) if isinstance(op, Input))
    if head != "identity" and classes is None:
        classes = np.arange(max(2, scores.type.size))
    graph = Graph(source.type.size)
    return Program(graph, source, scores, head, classes, description)


def registered():
    """Return the names of all ops of the package."""
    return {name for name, op in Op.registry.items() if op.__module__.startswith("tinyml.")}
