"""Thresholds among integers are exact, and votes are as narrow as leaves decisions alone."""

import numpy as np
import pytest
from instances import FOREST, INSTANCES, SEED, data, fitted
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

import tinyml
from tinyml.codegen.forests import Gaps
from tinyml.codegen.ops import TreeCode, TreeTable, TreeWalk
from tinyml.codegen.ops.tree_rows import MaskedRows
from tinyml.device import run_avr_many, run_host

SCALERS = {
    "no scaler": None,
    "standard": StandardScaler(),
    "minmax": MinMaxScaler((-1, 2)),
    "minmax_clip": MinMaxScaler(clip=True),
    "maxabs": MaxAbsScaler(),
    "robust": RobustScaler(),
}
MODELS = {
    "tree": DecisionTreeClassifier(**SEED),
    "forest": RandomForestClassifier(**FOREST),
    "extra": ExtraTreesClassifier(n_estimators=3, **SEED),
}


def whole_digits(kind):
    """Digits as whole numbers of several kinds; `centred` has negative ones."""
    X, y = data("digits")
    kinds = {
        "float": X,
        "bytes": X.astype(np.uint8),
        "centred": (X - 8).astype(np.int16),
        "wide": (X * 1001 - 5000).astype(np.int64),
    }
    return kinds[kind], y


@pytest.mark.parametrize("kind", ["float", "bytes", "centred", "wide"])
@pytest.mark.parametrize("scaler", SCALERS)
@pytest.mark.parametrize("model", MODELS)
def test_every_row_is_predicted_as_scikit_learn_does(model, scaler, kind):
    X, y = whole_digits(kind)
    train = np.arange(len(X)) % 2 == 0
    estimator = make_pipeline(SCALERS[scaler], MODELS[model]).fit(X[train], y[train])
    program = tinyml.compile(estimator, X[train], bits=8)
    np.testing.assert_array_equal(program.predict(X), estimator.predict(X))


@pytest.mark.parametrize("scaler", SCALERS)
def test_every_integer_goes_where_scikit_learn_sends_it(scaler):
    """All integers of a range, not only those that were seen."""
    rng = np.random.default_rng(0)
    X = rng.integers(-1000, 1000, (200, 1))
    y = np.digitize(X[:, 0], np.sort(rng.integers(-1000, 1000, 12))) % 3
    estimator = make_pipeline(SCALERS[scaler], DecisionTreeClassifier(**SEED)).fit(X, y)
    program = tinyml.compile(estimator, X)
    everything = np.arange(-1100, 1100)[:, None]
    np.testing.assert_array_equal(program.predict(everything), estimator.predict(everything))


def test_deep_chains():
    """A tree whose every split cuts off one value."""
    X = np.cumsum(np.arange(1, 260))[:, None]
    y = np.arange(len(X)) % 2
    model = DecisionTreeClassifier(max_leaf_nodes=len(X), **SEED).fit(X, y)
    program = tinyml.compile(model, X)
    np.testing.assert_array_equal(program.predict(X), model.predict(X))


@pytest.mark.parametrize("model", [
    RandomForestClassifier(30, max_depth=4, **SEED),
    RandomForestClassifier(10, max_depth=6, class_weight="balanced", **SEED),
    ExtraTreesClassifier(20, max_depth=5, **SEED),
    DecisionTreeClassifier(min_samples_leaf=7, **SEED),
])  # fmt: skip
@pytest.mark.parametrize("bits", [8, 16, "auto"])
def test_votes_never_change_a_calibration_row(model, bits):
    X, y = data("digits")
    X_train, X_test, y_train, _ = train_test_split(X, y, random_state=0)
    model.fit(X_train, y_train)
    program = tinyml.compile(model, X_train, bits=bits)
    ranged = np.arange(len(X_train)) % 5 != 4
    np.testing.assert_array_equal(program.predict(X_train)[ranged], model.predict(X_train)[ranged])
    assert np.mean(program.predict(X_test) == model.predict(X_test)) >= 0.995


def test_reals_agree_at_16_bits():
    X, y = data("cancer")
    model = RandomForestClassifier(20, max_depth=8, **SEED).fit(X, y)
    program = tinyml.compile(model, X, bits=16)
    assert np.mean(program.predict(X) == model.predict(X)) >= 0.995


def walk_of(program):
    """The op that walks the trees."""
    (walk,) = (op for op in program.ops if isinstance(op, TreeWalk))
    return walk


def compiled_forest(n_trees, max_depth, **options):
    X, y = data("digits")
    model = RandomForestClassifier(n_trees, max_depth=max_depth, **SEED).fit(X, y)
    return tinyml.compile(model, X, **options)


def test_votes_share_a_word_with_their_class():
    walk = walk_of(compiled_forest(10, 5, layout="table"))
    assert walk.tables()["pairs"].ctype == "uint16_t"
    assert walk.accumulator == "int16_t"


def test_pure_leaves_are_counted_in_bytes():
    walk = walk_of(compiled_forest(3, None))
    assert walk.frac == 0
    assert walk.accumulator == walk.type.ctype == "int8_t"


def test_votes_are_bytes_unless_16_bits_are_asked_for():
    tops = [walk_of(compiled_forest(10, 5, bits=bits)).values.max() for bits in (8, "auto", 16)]
    assert tops[0] == tops[1] == 255
    assert tops[2] > 255


@pytest.mark.parametrize("widths", [1, 2, 4])
def test_rows_behind_masks_hold_the_values(widths):
    rng = np.random.default_rng(widths)
    values = rng.integers(0, 2 ** (8 * widths - 1), (20, 13)) * rng.integers(0, 2, (20, 13))
    leaves = [np.array([3, 4, 19]), np.array([0]), np.arange(20)]
    rows = MaskedRows.of(values, leaves, 5)
    assert rows.sizes == [5, 5, 3]
    stream = rows.table.values
    for numbers, start, offsets in zip(leaves, rows.starts, rows.offsets, strict=True):
        for number, offset in zip(numbers, offsets, strict=True):
            at, row = start + offset, []
            for size in rows.sizes:
                mask, at = stream[at], at + 1
                for k in range(size):
                    is_present = bool(mask >> k & 1)
                    row.append(stream[at] if is_present else 0)
                    at += is_present
            np.testing.assert_array_equal(row, values[number])


@pytest.mark.device
def test_more_trees_than_are_added_at_once():
    X, _ = data("digits")
    program = compiled_forest(70, 3, layout="code")
    assert "rows" in walk_of(program).tables()
    raw = program.quantize(X[:200])
    wanted = program.run(raw)
    ((scores, _),) = run_host([program], [raw])
    np.testing.assert_array_equal(scores, wanted)
    (run,) = run_avr_many([program], [raw[:20]])
    np.testing.assert_array_equal(run.scores, wanted[:20])


@pytest.mark.device
def test_what_a_forest_of_code_costs():
    X, _ = data("digits")
    report = tinyml.measure(compiled_forest(10, 5, layout="code"), X, flags=("os",))
    assert report.static_ram == 0
    assert report.flash < 5200
    assert report.cycles < 1800


def test_branches_that_no_integer_takes_are_cut():
    X = np.array([[0.0], [1.0], [2.0], [3.0]])
    model = DecisionTreeClassifier(**SEED).fit(X, [0, 1, 0, 1])
    model.tree_.threshold[0] = 1e6  # no value of the type lies to its right
    (walk,) = (op for op in tinyml.compile(model, X).ops if isinstance(op, TreeWalk))
    (tree,) = walk.trees
    splits = tree.left >= 0
    assert np.all(tree.threshold[splits] < walk.x.type.highest)
    assert splits.sum() < (model.tree_.children_left >= 0).sum()


@pytest.mark.parametrize("offset", [0, 1e8])
def test_a_regressor_keeps_its_spread_beside_any_mean(offset):
    X, y = data("diabetes")
    model = DecisionTreeRegressor(max_depth=4, **SEED).fit(X, y + offset)
    assert tinyml.compile(model, X, bits=16).agreement.relative_error < 0.01


@pytest.mark.parametrize(
    "name", ["tree", "forest", "forest_reals", "forest_regressor", "tree_several"]
)
def test_layouts_agree_and_bytes_are_those_of_the_tables(name):
    X, _ = data(INSTANCES[name].data)
    code, table = (tinyml.compile(fitted(name), X, layout=kind) for kind in ("code", "table"))
    np.testing.assert_array_equal(code.run(code.quantize(X)), table.run(table.quantize(X)))
    assert code.table_bytes == table.table_bytes
    (walk,) = (op for op in table.ops if isinstance(op, TreeTable))
    assert walk.table_bytes == sum(t.nbytes for t in walk.tables().values())


def test_the_smaller_layout_is_chosen():
    X, y = data("digits")
    kinds = {}
    for depth in (1, 10):
        program = tinyml.compile(DecisionTreeClassifier(max_depth=depth, **SEED).fit(X, y), X)
        kinds[depth] = {type(op) for op in program.ops if isinstance(op, TreeWalk)}
    assert kinds == {1: {TreeCode}, 10: {TreeTable}}


def test_unknown_layout():
    X, y = data("digits")
    model = DecisionTreeClassifier(max_depth=1, **SEED).fit(X, y)
    with pytest.raises(ValueError, match="'layout' parameter of compile must be 'auto', 'code' or"):
        tinyml.compile(model, X, layout="flat")


# Thresholds of real features ----------------------------------------------------------------------


def between(start, threshold, raw, seen, falls):
    """Move one threshold as near as may be to where it parts the integers as it parts the rows."""
    below = (seen <= threshold) != falls
    lo, hi = raw[below].max(initial=-(2**40)), raw[~below].min(initial=2**40)
    return min(max(start, lo), hi - 1) if lo < hi else start


@pytest.mark.parametrize("seed", range(5))
def test_thresholds_between_rows_are_those_of_the_slow_twin(seed):
    rng = np.random.default_rng(seed)
    falls = np.array([False, True, False])
    seen = np.round(rng.normal(size=(40, 3)), 1)
    raw = np.round(np.where(falls, -1, 1) * seen * [3, 5, 80]).astype(np.int64)
    column = rng.integers(0, 3, 60)
    threshold = np.where(
        rng.random(60) < 0.5, seen[rng.integers(0, 40, 60), column], 3 * rng.normal(size=60)
    )
    start = rng.integers(-100, 100, 60)
    got = Gaps(raw, seen, falls).limit(start, threshold, column)
    wanted = [
        between(a, t, raw[:, k], seen[:, k], falls[k])
        for a, t, k in zip(start, threshold, column, strict=True)
    ]
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("scaler", [None, StandardScaler(), MinMaxScaler((-1, 1))])
def test_rows_on_a_threshold_stay_on_their_side(scaler):
    """In tenths, of which a threshold is one, rounding would send half of the rows astray."""
    X = np.random.default_rng(0).integers(-40, 40, (300, 2)) / 10
    model = make_pipeline(scaler, DecisionTreeClassifier(max_depth=4, **SEED))
    model.fit(X, (X[:, 0] * X[:, 1] > 1).astype(int))
    thresholds = model[-1].tree_.threshold
    seen = X if scaler is None else scaler.transform(X)
    for node, k in enumerate(model[-1].tree_.feature):
        if k >= 0:
            values = np.unique(seen[:, k].astype(np.float32))
            thresholds[node] = values[np.searchsorted(values, thresholds[node])]
    program = tinyml.compile(model, X, bits=16)
    np.testing.assert_array_equal(program.predict(X), model.predict(X))


# Bits of votes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("data_set", ["digits", "mixed"])
def test_rounding_is_small_beside_the_margins(data_set):
    X, y = data(data_set)
    model = GradientBoostingClassifier(n_estimators=20, max_depth=2, **SEED).fit(X, y)
    program = tinyml.compile(model, X)
    scores, wanted = (
        program.scores.type.to_float(program.run(program.quantize(X))),
        program.graph.evaluate(X),
    )
    if wanted.shape[1] > 1:
        scores, wanted = (np.diff(np.partition(s, -2, axis=1)[:, -2:]) for s in (scores, wanted))
    error = np.sqrt(np.mean((scores - wanted) ** 2)) / np.median(np.abs(wanted))
    assert 2.0**-20 < error < 1.2 * 2.0**-18


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_votes_of_any_size(scale):
    X, y = data("even_digits")
    model = GradientBoostingClassifier(
        n_estimators=10, learning_rate=0.1 * scale, init="zero", **SEED
    )
    model.fit(X, y)
    program = tinyml.compile(model, X)
    np.testing.assert_array_equal(program.predict(X), model.predict(X))
    assert program.scores.type.magnitude < 2**31
