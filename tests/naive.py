"""Slow, obvious twins of the numerical kernels, one row or one entry at a time, in float64."""

import math

import numpy as np


def softmax_cross_entropy(scores, labels, weights):
    return np.mean(
        [
            w * (math.log(sum(math.exp(s) for s in row)) - row[label])
            for row, label, w in zip(scores, labels, weights, strict=True)
        ]
    )


def logistic(scores, labels, weights):
    return np.mean(
        [
            w * math.log(1 + math.exp(-row[0] if label else row[0]))
            for row, label, w in zip(scores, labels, weights, strict=True)
        ]
    )


def squared(scores, targets, weights):
    return np.mean(
        [
            w * sum((s - t) ** 2 for s, t in zip(row, target, strict=True))
            for row, target, w in zip(scores, targets, weights, strict=True)
        ]
    )


def hinge(scores, labels, weights):
    return np.mean(
        [
            w * max(0, 1 - row[0] if label else 1 + row[0])
            for row, label, w in zip(scores, labels, weights, strict=True)
        ]
    )


def multiclass_hinge(scores, labels, weights):
    return np.mean(
        [
            w * max(0, 1 + max(s for c, s in enumerate(row) if c != label) - row[label])
            for row, label, w in zip(scores, labels, weights, strict=True)
        ]
    )


def largest(values, count):
    order = sorted(range(values.size), key=lambda i: (-abs(values.flat[i]), i))
    mask = np.zeros(values.size, dtype=bool)
    mask[order[:count]] = True
    return mask.reshape(values.shape)


def adam(theta, gradients, rate):
    """Adam by the letter of the paper, a scalar at a time."""
    theta = [float(t) for t in theta]
    for i in range(len(theta)):
        m = v = 0.0
        for step, gradient in enumerate(gradients, start=1):
            g = float(gradient[i])
            m = 0.9 * m + 0.1 * g
            v = 0.999 * v + 0.001 * g * g
            m_hat, v_hat = m / (1 - 0.9**step), v / (1 - 0.999**step)
            theta[i] -= rate[i] * m_hat / (math.sqrt(v_hat) + 1e-8)
    return theta


def protonn_scores(X, projection, prototypes, labels, gamma):
    """Equation 1 of the ProtoNN paper."""
    scores = np.zeros((len(X), labels.shape[1]))
    for i, x in enumerate(X):
        for b, z in zip(prototypes, labels, strict=True):
            distance = sum((projection[k] @ x - b[k]) ** 2 for k in range(len(b)))
            scores[i] += z * math.exp(-(gamma**2) * distance)
    return scores


def table_bytes(matrix, bits):
    """A matrix dense, or row by row: a count, then a gap and a value per entry; or in runs."""
    value = bits // 8
    entries = []
    for row in matrix:
        n_entries, column = 0, 0
        for j, v in enumerate(row):
            if v != 0:
                while j - column > 255:  # an entry of value 0 bridges the rest
                    n_entries, column = n_entries + 1, column + 255
                n_entries, column = n_entries + 1, j
        entries.append(n_entries)
    count = 1 if max(entries) <= 255 else 2
    sparse = sum(count + n * (1 + value) for n in entries)
    dense = sum(len(row) for row in matrix) * value
    return min(sparse, dense, _bytes_of_runs(matrix, value))


def _bytes_of_runs(matrix, value):
    """Row by row: a count, then a distance and a length per run, and a value per entry."""
    counts, n_values = [], 0
    for row in matrix:
        n_runs, distance, length = 0, 0, 0
        for v in [*row, 0]:
            if v != 0:
                length, n_values = length + 1, n_values + 1
                continue
            if length:
                n_runs += distance // 255 + -(-length // 255)
                distance = 0
            distance, length = distance + 1, 0
        counts.append(n_runs)
    return n_values * value + 2 * sum(counts) + len(counts) * (1 if max(counts) <= 255 else 2)


def rounded(values, units, frac):
    """Nearest points of the grid units * 2**-frac * {-127, ..., 127}; only zeros become zero."""
    points = []
    for value, unit in zip(values, units, strict=True):
        step = unit / 2.0**frac
        counts = [count for count in range(-127, 128) if (count == 0) == (value == 0)]
        points.append(step * min(counts, key=lambda count: abs(count * step - value)))
    return np.array(points)


def bonsai_scores(z, W, V, theta):
    """Equation 1 of the Bonsai paper with the clipped tanh, one row after the other."""
    scores = np.zeros((len(z), W.shape[1]))
    for i, row in enumerate(z):
        k = 0
        while k < len(W):
            for c in range(W.shape[1]):
                scores[i, c] += (W[k, c] @ row) * max(-1, min(1, V[k, c] @ row))
            child = 2 * k + 1 if k < len(theta) and theta[k] @ row > 0 else 2 * k + 2
            k = child
    return scores


def soft_bonsai_scores(z, W, V, theta, sharpness):
    """The same where every node passes a share of each row to either child."""
    scores = np.zeros((len(z), W.shape[1]))
    for i, row in enumerate(z):
        for k in range(len(W)):
            share, child = 1.0, k
            while child > 0:
                parent = (child - 1) // 2
                gate = math.tanh(sharpness[parent] * (theta[parent] @ row))
                share *= (1 + gate if child == 2 * parent + 1 else 1 - gate) / 2
                child = parent
            for c in range(W.shape[1]):
                scores[i, c] += share * (W[k, c] @ row) * max(-1, min(1, V[k, c] @ row))
    return scores


def _gate(value):
    return max(0, min(1, value / 2 + 1 / 2))


def _bend(value):
    return max(-1, min(1, value))


def fastgrnn_step(x, h, W, U, gate_bias, update_bias, mix):
    """Equation 2 of the FastGRNN paper with piecewise-linear gates, one state after the other."""
    zeta, nu = mix
    after = []
    for j in range(len(h)):
        a = W[j] @ x + U[j] @ h
        z, g = _gate(a + gate_bias[j]), _bend(a + update_bias[j])
        after.append((zeta * (1 - z) + nu) * g + z * h[j])
    return np.array(after)


def fastrnn_step(x, h, W, U, bias, mix):
    alpha, beta = mix
    return np.array(
        [alpha * _bend(W[j] @ x + U[j] @ h + bias[j]) + beta * h[j] for j in range(len(h))]
    )


def gru_step(x, h, W, U, bias, inner_bias):
    n = len(h)
    after = []
    for j in range(n):
        r, z = (_gate(W[k] @ x + U[k] @ h + bias[k]) for k in (j, n + j))
        k = 2 * n + j
        g = _bend(W[k] @ x + bias[k] + r * (U[k] @ h + inner_bias[j]))
        after.append((1 - z) * g + z * h[j])
    return np.array(after)


def last_states(step, X, counts, W, U, *extras):
    """States after the last step of each sequence of X (n, n_steps, n_channels)."""
    states = []
    for sequence, count in zip(X, counts, strict=True):
        h = np.zeros(U.shape[1])
        for x in sequence[:count]:
            h = step(x, h, W, U, *extras)
        states.append(h)
    return np.array(states)


def kernel(name, x, z, gamma, degree):
    if name == "poly":
        return (sum(a * b for a, b in zip(x, z, strict=True)) + 1) ** degree
    power = 2 if name == "rbf" else 1
    distance = sum(abs(a - b) ** power for a, b in zip(x, z, strict=True))
    return math.exp(-gamma * distance)


def squared_hinge(scores, labels, weights):
    """Every class against the rest; of two classes there is one score."""
    total = 0.0
    for row, label, w in zip(scores, labels, weights, strict=True):
        for c, s in enumerate(row):
            is_label = label == (c if len(row) > 1 else 1)
            total += w * max(0, 1 - s if is_label else 1 + s) ** 2
    return total / len(scores)
