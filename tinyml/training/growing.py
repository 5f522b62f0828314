"""Growing boosted trees on histograms, under a price on features and thresholds that are new.

All arrays of gradients have a column for each output, so that one tree serves several classes.
A feature with c thresholds has c + 1 bins, numbered on from `start[feature]`.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

_MOST_SUMS = 2**26  # half a gigabyte
_ROUNDING = 1e-9


class Bins(NamedTuple):
    """Rows as numbers of bins, and what the bins stand for.

    Parameters
    ----------
    rows : ndarray of shape (n_samples, n_features), uint8
    start : ndarray of shape (n_features + 1,)
        Number of the first bin of each feature.
    threshold : ndarray of shape (n_bins,)
        Rows in bins up to this one of their feature are at most this.
    """

    rows: np.ndarray
    start: np.ndarray
    threshold: np.ndarray


class Grown(NamedTuple):
    """A tree in the order in which it was grown, its splits best first.

    `order` holds the numbers of the rows; those that reach a node are ``order[begin:end]``. `gain`
    is what a split lowers the loss by, to second order.
    """

    left: np.ndarray
    right: np.ndarray
    feature: np.ndarray
    bin: np.ndarray
    gain: np.ndarray
    begin: np.ndarray
    end: np.ndarray
    order: np.ndarray


def binned(X, max_bins):
    """Put at most `max_bins` - 1 thresholds between the values of each feature, at quantiles."""
    whole = bool(np.all(np.floor(X) == X))
    cuts = [_cuts(column.astype(np.float64), max_bins, whole) for column in X.T]
    rows = [np.searchsorted(c, column, side="left") for c, column in zip(cuts, X.T, strict=True)]
    return Bins(
        np.ascontiguousarray(np.transpose(rows).astype(np.uint8)),
        np.cumsum([0, *(len(c) + 1 for c in cuts)]),
        np.concatenate([np.append(c, np.inf) for c in cuts]),
    )


def _cuts(values, max_bins, whole):
    """Thresholds in the middle between neighbouring values; of whole numbers the lower one."""
    distinct = np.unique(values)
    below, above = distinct[:-1], distinct[1:]
    if len(distinct) > max_bins:
        shares = np.arange(1, max_bins) / max_bins
        ends = np.unique(np.quantile(values, shares, method="inverted_cdf"))
        kept = np.searchsorted(distinct, ends)
        kept = kept[kept < len(below)]
        below, above = below[kept], above[kept]
    return below if whole else below + (above - below) / 2


def grown_tree(
    bins,
    weight,
    slope,
    curvature,
    max_leaves,
    min_rows,
    ridge,
    tests,
    features,
    prices,
    most_sums=_MOST_SUMS,
):
    """Grow one tree, the best split of all leaves first.

    A split that lowers the loss by less than its price is not made.

    Parameters
    ----------
    bins : Bins
    weight : ndarray of shape (n_samples,)
    slope, curvature : ndarray of shape (n_samples, n_outputs)
        Negative gradient of the loss, and the diagonal of its second derivative.
    max_leaves : int
    min_rows : float
        Of the tree; of a leaf, as a sum of weights.
    ridge : float
        Added to the curvature of a leaf.
    tests : ndarray of shape (n_bins,), bool
        Which thresholds are in use already; those of this tree are added.
    features : ndarray of shape (n_features,), bool
        The same of features.
    prices : (float, float)
        Of a new threshold, and of a new feature.
    most_sums : int, optional
        Of histograms that are kept; where there are more, rows are summed again.

    Returns
    -------
    Grown
    """
    rows, start, _ = bins
    parts = max_leaves, float(min_rows), ridge, tests, features, *map(float, prices), most_sums
    return Grown(*_grow(rows, start, np.column_stack([weight, slope, curvature]), *parts))


@njit(cache=True)
def _grow(
    rows,
    start,
    addends,
    max_leaves,
    min_rows,
    ridge,
    tests,
    features,
    p_t,
    p_f,
    most_sums,
):
    n_nodes = 2 * max_leaves - 1
    left, right = np.full(n_nodes, -1, dtype=np.int32), np.full(n_nodes, -1, dtype=np.int32)
    feature, bin_ = np.zeros(n_nodes, dtype=np.int32), np.zeros(n_nodes, dtype=np.int64)
    begin, end = np.zeros(n_nodes, dtype=np.int64), np.zeros(n_nodes, dtype=np.int64)
    gain, worth = np.zeros(n_nodes), np.zeros(n_nodes)
    order, room = np.arange(len(rows)), np.empty(len(rows), dtype=np.int64)
    n_slots = max(1, min(max_leaves, most_sums // (start[-1] * addends.shape[1])))
    sums = np.empty((n_slots + 1, start[-1], addends.shape[1]))  # the last one is for a while
    slot = np.full(n_nodes, n_slots, dtype=np.int64)  # of a leaf's histogram; the last: nowhere
    free, n_free = np.arange(n_slots), n_slots - 1
    slot[0] = free[n_free]
    end[0] = len(rows)
    prices = start, min_rows, ridge, tests, features, p_t, p_f
    _fill(rows, start, addends, order, sums[slot[0]])
    worth[0], gain[0], feature[0], bin_[0] = _best_split(sums[slot[0]], *prices)
    n, n_leaves = 1, 1
    while n_leaves < max_leaves:
        v = worth[:n].argmax()
        if worth[v] <= 0.0:
            break
        tests[bin_[v]], features[feature[v]] = True, True
        worth[v], left[v], right[v] = 0.0, n, n + 1
        edge = bin_[v] - start[feature[v]]
        middle = _part(rows[:, feature[v]], edge, order, begin[v], end[v], room)
        begin[n], end[n], begin[n + 1], end[n + 1] = begin[v], middle, middle, end[v]
        small = n if middle - begin[v] <= end[v] - middle else n + 1
        whole = slot[v]
        for c in (small, 2 * n + 1 - small):
            if c != small and whole < n_slots:  # what the smaller side has left
                slot[c] = whole
            else:
                if n_free > 0:
                    n_free -= 1
                    slot[c] = free[n_free]
                s = slot[c]
                _fill(rows, start, addends, order[begin[c] : end[c]], sums[s])
                if whole < n_slots:
                    sums[whole] -= sums[s]
            s = slot[c]
            worth[c], gain[c], feature[c], bin_[c] = _best_split(sums[s], *prices)
            if worth[c] <= 0.0 and s < n_slots:
                free[n_free], slot[c] = s, n_slots
                n_free += 1
        n, n_leaves = n + 2, n_leaves + 1
    return left[:n], right[:n], feature[:n], bin_[:n], gain[:n], begin[:n], end[:n], order


@njit(cache=True)
def _fill(rows, start, addends, order, sums):
    """Sum weights, slopes and curvatures of some rows by the bins of every feature."""
    sums[:] = 0.0
    for i in order:
        for f in range(rows.shape[1]):
            b = start[f] + rows[i, f]
            for k in range(addends.shape[1]):  # one run of memory, for wide registers
                sums[b, k] += addends[i, k]


@njit(cache=True)
def _best_split(sums, start, min_rows, ridge, tests, features, p_t, p_f):
    """Return worth, gain, feature and bin of the best split; its worth is 0 if there is none."""
    n_outputs = sums.shape[1] // 2
    whole, part = np.zeros(sums.shape[1]), np.empty(sums.shape[1])
    for b in range(start[0], start[1]):
        whole += sums[b]
    before = 0.0
    for k in range(1, n_outputs + 1):
        before += whole[k] ** 2 / (whole[k + n_outputs] + ridge)
    best, best_gain, best_feature, best_bin = 0.0, 0.0, 0, 0
    none = _ROUNDING * whole[0]  # differences of sums are not quite zero where there is nothing
    least = min_rows - none
    for f in range(len(start) - 1):
        part[:] = 0.0
        for b in range(start[f], start[f + 1] - 1):
            for k in range(len(part)):
                part[k] += sums[b, k]
            if whole[0] - part[0] < least:
                break
            if sums[b, 0] <= none or part[0] < least:
                continue
            gain = -before
            for k in range(1, n_outputs + 1):
                c = k + n_outputs
                gain += part[k] ** 2 / (part[c] + ridge)
                gain += (whole[k] - part[k]) ** 2 / (whole[c] - part[c] + ridge)
            gain *= 0.5
            worth = gain - (0.0 if tests[b] else p_t) - (0.0 if features[f] else p_f)
            if worth > best:
                best, best_gain, best_feature, best_bin = worth, gain, f, b
    return best, best_gain, best_feature, best_bin


@njit(cache=True)
def _part(column, edge, order, begin, end, room):
    """Bring rows up to the bin `edge` to the front, in their order; return where others begin."""
    middle, n = begin, 0
    for j in range(begin, end):
        i = order[j]
        if column[i] <= edge:
            order[middle] = i
            middle += 1
        else:
            room[n] = i
            n += 1
    order[middle:end] = room[:n]
    return middle
