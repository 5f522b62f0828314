"""Losses of a batch of scores: the value is returned, the gradient by the scores is written.

Every kernel takes `scores` (n, L), targets, `weights` (n,) and `gradient` (n, L), all contiguous,
and computes the mean over the n rows of weight times loss. Class targets are integers.
"""

import numpy as np
from numba import njit


@njit(cache=True)
def softmax_cross_entropy(scores, labels, weights, gradient):
    """-log softmax(scores)[label]."""
    n, n_classes = scores.shape
    total = 0.0
    for i in range(n):
        highest = scores[i, 0]
        for c in range(1, n_classes):
            highest = max(highest, scores[i, c])
        norm = np.float32(0.0)
        for c in range(n_classes):
            gradient[i, c] = np.exp(scores[i, c] - highest)
            norm += gradient[i, c]
        scale = weights[i] / n
        for c in range(n_classes):
            gradient[i, c] *= scale / norm
        gradient[i, labels[i]] -= scale
        total += scale * (np.log(norm) + highest - scores[i, labels[i]])
    return total


@njit(cache=True)
def logistic(scores, labels, weights, gradient):
    """log(1 + exp(-t s)) of the one score s, with t = -1 for label 0 and 1 for label 1."""
    n = scores.shape[0]
    total = 0.0
    for i in range(n):
        sign = 2 * labels[i] - 1
        margin = sign * scores[i, 0]
        decay = np.exp(-abs(margin))
        scale = weights[i] / n
        total += scale * (np.log1p(decay) + max(-margin, 0.0))
        gradient[i, 0] = -sign * scale * (decay if margin > 0 else 1.0) / (1.0 + decay)
    return total


@njit(cache=True)
def squared(scores, targets, weights, gradient):
    """||scores - targets||^2."""
    n, n_outputs = scores.shape
    total = 0.0
    for i in range(n):
        scale = weights[i] / n
        for c in range(n_outputs):
            error = scores[i, c] - targets[i, c]
            total += scale * error * error
            gradient[i, c] = 2 * scale * error
    return total


@njit(cache=True)
def hinge(scores, labels, weights, gradient):
    """max(0, 1 - t s) of the one score s, with t = -1 for label 0 and 1 for label 1."""
    n = scores.shape[0]
    total = 0.0
    for i in range(n):
        sign = 2 * labels[i] - 1
        slack = 1 - sign * scores[i, 0]
        scale = weights[i] / n
        gradient[i, 0] = -sign * scale if slack > 0 else 0.0
        total += scale * max(slack, 0.0)
    return total


@njit(cache=True)
def multiclass_hinge(scores, labels, weights, gradient):
    """max(0, 1 + max_{c != label} s_c - s_label), of Crammer and Singer."""
    n, n_classes = scores.shape
    total = 0.0
    for i in range(n):
        label = labels[i]
        rival = 1 if label == 0 else 0
        for c in range(n_classes):
            gradient[i, c] = 0.0
            if c != label and scores[i, c] > scores[i, rival]:
                rival = c
        slack = 1 + scores[i, rival] - scores[i, label]
        if slack > 0:
            scale = weights[i] / n
            gradient[i, rival] = scale
            gradient[i, label] = -scale
            total += scale * slack
    return total


@njit(cache=True)
def squared_hinge(scores, labels, weights, gradient):
    """Σ_c max(0, 1 - t_c s_c)², t_c = 1 for the label and -1 for the others.

    One score stands for two classes, as in `hinge`.
    """
    n, n_outputs = scores.shape
    total = 0.0
    for i in range(n):
        scale = weights[i] / n
        for c in range(n_outputs):
            is_label = labels[i] == (c if n_outputs > 1 else 1)
            sign = 1 if is_label else -1
            slack = 1 - sign * scores[i, c]
            gradient[i, c] = 0.0
            if slack > 0:
                gradient[i, c] = -2 * sign * scale * slack
                total += scale * slack * slack
    return total


BY_NAME = {
    "squared": squared,
    "logistic": logistic,
    "softmax": softmax_cross_entropy,
}


def compared(target, loss):
    """Return what a loss, given by name, compares scores with.

    Classes come as rows that are 1 for the one class and 0 for others, of two classes as one
    column for the second.
    """
    if loss == "squared":
        return target
    return target[:, 0].astype(np.int64) if loss == "logistic" else target.argmax(axis=1)
