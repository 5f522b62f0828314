"""k-means that depends on the weighted rows as a set: not on their order, nor on a random draw."""

import numpy as np
from scipy.spatial.distance import cdist


def centres(rows, weights, n_centres, n_iter=20):
    """At most `n_centres` means of clusters, by splitting in two and then Lloyd's iterations.

    Always the cluster of largest weighted spread is split, at its mean, along its principal axis
    (Boley, "Principal Direction Divisive Partitioning", 1998).
    """
    clusters, spreads = [np.arange(len(rows))], [spread(rows, weights)]
    for _ in range(n_centres - 1):
        widest = int(np.argmax(spreads))
        members = clusters[widest]
        upper = _upper_half(rows[members], weights[members])
        if upper.all() or not upper.any():
            break
        halves = members[~upper], members[upper]
        clusters[widest : widest + 1] = halves
        spreads[widest : widest + 1] = [spread(rows[half], weights[half]) for half in halves]
    means = np.array([np.average(rows[c], axis=0, weights=weights[c]) for c in clusters])
    return _lloyd(rows, weights, means, n_iter)


def grouped_centres(rows, weights, groups, n_centres):
    """Means of clusters within each group; the widest groups receive what is left over."""
    members = [np.flatnonzero(groups == g) for g in range(groups.max() + 1)]
    if n_centres < len(members):
        return centres(rows, weights, n_centres)
    spreads = [spread(rows[group], weights[group]) for group in members]
    counts = np.full(len(members), n_centres // len(members))
    counts[np.argsort(spreads)[::-1][: n_centres % len(members)]] += 1
    means = [
        centres(rows[group], weights[group], count)
        for group, count in zip(members, counts, strict=True)
    ]
    return np.concatenate(means)


def assign(rows, means):
    """Index of the nearest mean of each row."""
    return cdist(rows, means, "sqeuclidean").argmin(axis=1)


def spread(rows, weights):
    """Weighted sum of squared distances to the mean."""
    return float(weights @ ((rows - np.average(rows, axis=0, weights=weights)) ** 2).sum(axis=1))


def group_sums(rows, weights, groups, n_groups):
    """Weighted sum of the rows of each group, and the weight of each group."""
    indicator = np.zeros((n_groups, len(rows)), dtype=rows.dtype)
    indicator[groups, np.arange(len(rows))] = weights
    return indicator @ rows, np.bincount(groups, weights, minlength=n_groups)


def _lloyd(rows, weights, means, n_iter):
    for _ in range(n_iter):
        sums, mass = group_sums(rows, weights, assign(rows, means), len(means))
        taken = mass > 0
        means[taken] = sums[taken] / mass[taken, None]
    return means


def _upper_half(rows, weights):
    deviations = rows - np.average(rows, axis=0, weights=weights)
    covariance = (deviations * weights[:, None]).T @ deviations
    return deviations @ np.linalg.eigh(covariance)[1][:, -1] > 0
