"""Error against bytes of forests: pruned, boosted under a price on memory, and their rivals.

    TINYML_DATA=... python benchmarks/forests.py --select METHOD ...   # choose, on training rows
    TINYML_DATA=... python benchmarks/forests.py METHOD ...            # score, on test rows
    python benchmarks/forests.py --table                               # print what was scored

Every method has a few settings. For each data set and size the setting is chosen by 5-fold
cross-validation inside the training rows and kept in `forests_chosen.json`; only then are the test
rows scored, once for each of five seeds. A smaller model may be chosen for a larger size. All sizes
are those of the packed tables of this project, for rivals too. Our own models are scored as the
integer programs that run on a device (``bits=16``), the rivals in float.
"""

import argparse
import contextlib
import json
import warnings
from functools import partial
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.model_selection import KFold, StratifiedKFold

import tinyml
from tinyml import estimators
from tinyml.codegen.lower import lowered
from tinyml.datasets import load
from tinyml.training.trees import Trees, joined, threshold_bytes

SIZES = (512, 1024, 2048, 4096, 8192, 16384, 32768)
REGRESSION = ("california", "elevators")
REAL = (*REGRESSION, "magic_gamma", "har_feat")
SETS = ("letter", "covtype_15k", "magic_gamma", "optdigits", "har_feat", *REGRESSION)
SEEDS = range(5)
HERE = Path(__file__).parent
CHOSEN, SCORED = HERE / "forests_chosen.json", HERE / "forests_scored"


def rows(name):
    """Return a data set, whole numbers as they are stored."""
    return load(name, as_float=name in REAL)


# Ours ---------------------------------------------------------------------------------------------


def ours(family, settings, name, X, y, seed, sizes=SIZES):
    """Return models of a family, one for each size that is not too small for it."""
    kind = "Regressor" if name in REGRESSION else "Classifier"
    cls = getattr(estimators, family + kind)
    models = [None] * len(SIZES)
    for k, size in enumerate(sizes):
        with contextlib.suppress(ValueError):
            models[k] = cls(max_bytes=size, random_state=seed, **settings).fit(X, y)
    return models


def several_outputs(name):
    return name not in (*REGRESSION, "magic_gamma")


SLOW = [(n, rate) for n in (8, 16, 31) for rate in (0.1, 0.2)]


def boosting(setting, name, X, y, seed):
    """The defaults; of two classes also refitted leaves, and other sizes of trees and steps."""
    if setting == 0:
        return ours("CompactBoosting", {}, name, X, y, seed)
    if setting == 1:  # for few leaves
        return ours("CompactBoosting", {"refine": True, "ridge": 10.0}, name, X, y, seed, SIZES[:4])
    n_leaves, rate = SLOW[setting - 2]
    settings = {"max_leaf_nodes": n_leaves, "learning_rate": rate, "n_codes": 32, "max_bins": 128}
    return ours("CompactBoosting", settings, name, X, y, seed)


def pruned(method, _, name, X, y, seed):
    return ours("PrunedForest", {"method": method}, name, X, y, seed)


def path(family, settings, _, name, X, y, seed):
    """Return models of all sizes from one forest, where a fit of each would take long."""
    cls = getattr(estimators, family + ("Regressor" if name in REGRESSION else "Classifier"))
    model = cls(random_state=seed, **settings)
    for first in range(len(SIZES)):
        with contextlib.suppress(ValueError):
            return [None] * first + model.path(X, y, SIZES[first:])


PRUNED = [(n, rate, refine) for n in (4, 8) for rate in (0.1, 0.3) for refine in (False, True)]
OVERGROWN = 1.8  # times the bytes


def pruned_lightgbm(setting, name, X, y, seed):
    """More trees of LightGBM than there is room for, pruned."""
    n_leaves, rate, refine = PRUNED[setting]
    sizes = {r: rival.n_model_bytes_ for r, rival in prefixes(
        n_leaves, rate, OVERGROWN * SIZES[-1], name, X, y, seed
    )}  # fmt: skip
    cls = getattr(
        estimators, "PrunedForest" + ("Regressor" if name in REGRESSION else "Classifier")
    )
    models = [None] * len(SIZES)
    for k, size in enumerate(SIZES):
        rounds = max((r for r, needed in sizes.items() if needed <= OVERGROWN * size), default=1)
        grower = booster(n_leaves, rate, rounds, name, seed)
        with contextlib.suppress(ValueError):
            models[k] = cls(grower, max_bytes=size, refine=refine, random_state=seed).fit(X, y)
    return models


# Rivals -------------------------------------------------------------------------------------------


class Rival:
    """A float forest, counted in packed tables."""

    def __init__(self, trees, offset, classes, width):
        self.trees, dropped = trees.without_stumps()
        self.offset = offset + dropped
        self.classes = classes
        self.n_model_bytes_ = self.trees.n_bytes(width)

    def predict(self, X):
        scores = self.trees.scores(X) + self.offset
        if self.classes is None:
            return scores[:, 0]
        if scores.shape[1] == 1:
            return self.classes[(scores[:, 0] > 0).astype(int)]
        return self.classes[scores.argmax(axis=1)]


def largest(candidates):
    """Return, for each size, the last of the growing candidates that fits."""
    found = [None] * len(SIZES)
    for rival in candidates:
        for k, size in enumerate(SIZES):
            if rival.n_model_bytes_ <= size:
                found[k] = rival
        if rival.n_model_bytes_ > SIZES[-1]:
            break
    return found


def forest(n_trees, name, X, y, seed, **settings):
    cls = RandomForestRegressor if name in REGRESSION else RandomForestClassifier
    model = cls(n_trees, random_state=seed, **settings).fit(X, y)
    node = lowered(model, X.shape[1]).scores
    return Trees.from_node(node), node.offset, getattr(model, "classes_", None)


def hard(trees):
    """Let leaves vote for one class each."""
    value = np.eye(trees.value.shape[1])[trees.value.argmax(axis=1)]
    return Trees(**{**vars(trees), "value": value})


FORESTS = [(n, is_hard) for n in (1, 3, 10, 30) for is_hard in (False, True)]


def depth_limited(setting, name, X, y, seed):
    n_trees, is_hard = FORESTS[setting]
    trees, offset, classes = forest(n_trees, name, X, y, seed)
    trees = hard(trees) if is_hard and classes is not None else trees
    depth = depths(trees)
    width = threshold_bytes(X)
    cut = (trees.cut(depth == d) for d in range(1, depth.max() + 1))
    return largest(Rival(t, offset, classes, width) for t in cut)


def depths(trees):
    depth = np.zeros(trees.n_nodes, dtype=int)
    for node in np.flatnonzero(~trees.is_leaf):
        depth[trees.left[node]] = depth[trees.right[node]] = depth[node] + 1
    return depth


def cost_complexity(setting, name, X, y, seed):
    """Forests grown with scikit-learn's own pruning, which leaves each tree to itself."""
    n_trees, is_hard = FORESTS[setting]
    width = threshold_bytes(X)
    spread = np.var(y) if name in REGRESSION else 1.0

    def candidates():
        for alpha in np.geomspace(0.03, 3e-6, 14) * spread:
            trees, offset, classes = forest(n_trees, name, X, y, seed, ccp_alpha=alpha)
            trees = hard(trees) if is_hard and classes is not None else trees
            yield Rival(trees, offset, classes, width)

    return largest(candidates())


LIGHTGBM = [(n, rate) for n in (4, 8, 16, 31) for rate in (0.1, 0.3)]


def lightgbm(setting, name, X, y, seed):
    return largest(rival for _, rival in prefixes(*LIGHTGBM[setting], SIZES[-1], name, X, y, seed))


def prefixes(n_leaves, rate, max_bytes, name, X, y, seed):
    """Yield numbers of rounds, and the trees that LightGBM has grown until then."""
    n_classes = len(np.unique(y)) if several_outputs(name) else 1
    most = int(8 * max_bytes / 15 / (n_leaves - 1) / n_classes) + 2
    model = booster(n_leaves, rate, min(most, 600), name, seed).fit(X, y)
    trees, classes = lightgbm_trees(model, n_classes), getattr(model, "classes_", None)
    width = threshold_bytes(X)
    last = len(trees) // n_classes
    for r in np.unique(np.round(np.geomspace(1, last, 40)).astype(int)):
        first = joined(trees[: n_classes * r], np.float64)
        yield int(r), Rival(first, np.zeros(n_classes), classes, width)


def booster(n_leaves, rate, n_rounds, name, seed):
    import lightgbm

    cls = lightgbm.LGBMRegressor if name in REGRESSION else lightgbm.LGBMClassifier
    return cls(
        n_estimators=n_rounds, num_leaves=n_leaves, learning_rate=rate, max_bin=63,
        random_state=seed, n_jobs=1, verbose=-1,
    )  # fmt: skip


def lightgbm_trees(model, n_outputs):
    """Return the trees of a booster in their order; tree t adds to output t modulo `n_outputs`."""
    trees = []
    for t, tree in enumerate(model.booster_.dump_model()["tree_info"]):
        nodes = []
        visit(tree["tree_structure"], nodes)
        left, right, feature, threshold, leaf = map(np.array, zip(*nodes, strict=True))
        value = np.zeros((len(nodes), n_outputs))
        value[:, t % n_outputs] = leaf
        trees.append((left, right, feature, threshold, value))
    return trees


def visit(node, nodes):
    """Append a node and all under it in depth-first order; return its number."""
    here = len(nodes)
    nodes.append((-1, -1, 0, 0.0, node.get("leaf_value", 0.0)))
    if "split_feature" in node:
        left, right = visit(node["left_child"], nodes), visit(node["right_child"], nodes)
        nodes[here] = (left, right, node["split_feature"], node["threshold"], 0.0)
    return here


METHODS = {  # the function and its number of settings
    "boosting": (boosting, 2 + len(SLOW)),
    "cost-complexity": (partial(pruned, "cost-complexity"), 1),
    "budget": (partial(pruned, "budget"), 1),
    "depth": (partial(pruned, "depth"), 1),
    "levels": (partial(path, "PrunedForest", {"method": "levels"}), 1),
    "pruned LightGBM": (pruned_lightgbm, len(PRUNED)),
    "lasso": (partial(path, "L1Forest", {}), 1),
    "depth-limited": (depth_limited, len(FORESTS)),
    "scikit-learn ccp": (cost_complexity, len(FORESTS)),
    "LightGBM": (lightgbm, len(LIGHTGBM)),
}
RIVALS = ("depth-limited", "scikit-learn ccp", "LightGBM")


# Choosing and scoring -----------------------------------------------------------------------------


def losses(name, predicted, y):
    """Return the loss of every row: errors, or squares over the variance."""
    if name in REGRESSION:
        return (predicted - y) ** 2 / np.var(y)
    return (predicted != y).astype(float)


def fold_losses(name, method, setting, fold):
    """Return the mean loss on a fold at every size; infinite where nothing fits."""
    X, y, _, _ = rows(name)
    folds = KFold if name in REGRESSION else StratifiedKFold
    train, held = list(folds(5, shuffle=True, random_state=0).split(X, y))[fold]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        models = METHODS[method][0](setting, name, X[train], y[train], 0)
        return [
            np.inf if m is None else losses(name, m.predict(X[held]), y[held]).mean()
            for m in models
        ]


def settings_of(name, method):
    n = METHODS[method][1]
    if method == "boosting" and several_outputs(name):
        n = 1
    if name in REGRESSION and method == "boosting":
        return [0, 2 + SLOW.index((8, 0.1)), 2 + SLOW.index((16, 0.1))]
    if name in REGRESSION and method in RIVALS[:2]:
        return range(0, n, 2)  # leaves of one class are of no use
    return range(n)


def select(methods, sets):
    """Choose setting and size for every size, and remember them."""
    for name in sets:
        for method in methods:
            settings = list(settings_of(name, method))
            if len(settings) == 1:  # nothing to choose
                remember(CHOSEN, name, method, [[0, k] for k in range(len(SIZES))])
                continue
            jobs = [(s, f) for s in settings for f in range(5)]
            found = Parallel(2)(delayed(fold_losses)(name, method, s, f) for s, f in jobs)
            losses_of = np.reshape(found, (-1, 5, len(SIZES))).mean(axis=1)
            chosen = []
            for k in range(len(SIZES)):
                s, size = np.unravel_index(losses_of[:, : k + 1].argmin(), (len(settings), k + 1))
                chosen.append([settings[s], int(size)])
            remember(CHOSEN, name, method, chosen)
            best = " ".join(f"{losses_of[:, : k + 1].min():.4f}" for k in range(len(SIZES)))
            print(f"{name} {method}: {chosen} {best}", flush=True)


def remember(path, name, method, value):
    known = json.loads(path.read_text()) if path.exists() else {}
    known.setdefault(name, {})[method] = value
    path.write_text(json.dumps(known, indent=1) + "\n")


def test_losses(name, method, seed):
    """Return the losses of all test rows at every size, and the bytes."""
    X, y, X_test, y_test = rows(name)
    chosen = json.loads(CHOSEN.read_text())[name][method]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        models = {
            s: METHODS[method][0](s, name, X, y, seed) for s in sorted({s for s, _ in chosen})
        }
        result = []
        for setting, size in chosen:
            model = models[setting][size]
            if model is None:
                result.append(None)
                continue
            if method not in RIVALS:
                model = tinyml.compile(model, X, bits=16)
            result.append((losses(name, model.predict(X_test), y_test), n_bytes(model)))
        return result


def n_bytes(model):
    return model.n_model_bytes_ if isinstance(model, Rival) else model.table_bytes


def score(methods, sets):
    """Score the test rows; keep the losses of the rows, meaned over seeds."""
    SCORED.mkdir(exist_ok=True)
    for name in sets:
        for method in methods:
            found = Parallel(2)(delayed(test_losses)(name, method, s) for s in SEEDS)
            cells = []
            for k in range(len(SIZES)):
                seeds = [f[k] for f in found if f[k] is not None]
                if not seeds:
                    cells.append(None)
                    continue
                per_row = np.mean([loss for loss, _ in seeds], axis=0)
                means = [float(loss.mean()) for loss, _ in seeds]
                most = max(size for _, size in seeds)
                cells.append({"seeds": means, "bytes": most, "rows": per_row.round(4).tolist()})
            scored(name, method).write_text(json.dumps(cells))
            text = " ".join("-" if c is None else f"{np.mean(c['seeds']):.4f}" for c in cells)
            print(f"{name} {method}: {text}", flush=True)


def scored(name, method):
    """Return where the losses on test rows are kept."""
    return SCORED / f"{name}-{method.replace(' ', '-')}.json"


def table(sets):
    """Print mean errors, and whether ours is on the front."""
    for name in sets:
        paths = {method: scored(name, method) for method in METHODS}
        cells_of = {m: json.loads(p.read_text()) for m, p in paths.items() if p.exists()}
        print(f"\n{name}: " + ("RMSE / deviation" if name in REGRESSION else "error, %"))
        for method, cells in cells_of.items():
            print(f"{method:18}" + "".join(f"{shown(name, c):>18}" for c in cells))
        print(
            f"{'on the front':18}" + "".join(f"{front(cells_of, k):>18}" for k in range(len(SIZES)))
        )


def shown(name, cell):
    if cell is None:
        return "-"
    values = np.array(cell["seeds"])
    values = np.sqrt(values) if name in REGRESSION else 100 * values
    return f"{values.mean():.3f} ± {values.std(ddof=1):.3f}"


def front(cells_of, k):
    """Our best mean against the best rival's, in standard errors of the paired difference."""

    def best(methods):
        cells = [cells_of[m][k] for m in methods if m in cells_of and cells_of[m][k] is not None]
        return min(cells, key=lambda c: np.mean(c["seeds"])) if cells else None

    ours_, rival = best(set(METHODS) - set(RIVALS)), best(RIVALS)
    if ours_ is None or rival is None:
        return "yes" if ours_ is not None else "no"
    difference = np.array(ours_["rows"]) - np.array(rival["rows"])
    error = difference.std(ddof=1) / np.sqrt(len(difference))
    z = difference.mean() / error if error else 0.0
    return f"{'yes' if z <= 1 else 'NO'} ({z:+.1f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("methods", nargs="*", help=f"of {', '.join(METHODS)}")
    parser.add_argument("--select", action="store_true", help="choose settings on training rows")
    parser.add_argument("--table", action="store_true", help="print what was scored")
    parser.add_argument("--sets", nargs="*", default=SETS)
    arguments = parser.parse_args()
    if arguments.table:
        table(arguments.sets)
    else:
        (select if arguments.select else score)(arguments.methods or METHODS, arguments.sets)


if __name__ == "__main__":
    main()
