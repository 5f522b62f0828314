"""Recurrent cells with piecewise-linear gates: states forward through time, gradients back.

Arrays are time-major. `inputs` (T, n, K) are what a cell adds to the product of its state with
`U` (K, H), `counts` (n,) the number of steps of each row, after which its state stays as it is.
`sums` (T, n, K) receives what the gates read, `states` (T + 1, n, H) the states; the first are
zeros. Backward, `d_state` (n, H) is the gradient by the last state, and `sums` is overwritten by
the gradient by itself. What a cell has beside W and U follows `U`, in the order of its formula.
"""

import numpy as np
from numba import njit

_SLOPE = np.float32(0.5)
_HALF, _ZERO, _ONE = np.float32(0.5), np.float32(0), np.float32(1)


@njit(cache=True, inline="always")
def gate(value):
    """Sigmoid in three pieces: clip(value / 2 + 1 / 2, 0, 1)."""
    return min(max(_SLOPE * value + _HALF, _ZERO), _ONE)


@njit(cache=True, inline="always")
def bend(value):
    """Tanh in three pieces: clip(value, -1, 1)."""
    return min(max(value, -_ONE), _ONE)


# FastGRNN ----------------------------------------------------------------------------------------


@njit(cache=True)
def fastgrnn_forward(inputs, counts, U, gate_bias, update_bias, mix, sums, states):
    """H' = (zeta (1 - z) + nu) g + z h, z = gate(a + b_z), g = bend(a + b_h), a = W x + U h.

    `mix` holds zeta and nu.
    """
    n_steps, n, n_hidden = sums.shape
    columns = np.ascontiguousarray(U.T)
    for t in range(n_steps):
        np.dot(states[t], columns, sums[t])
        for i in range(n):
            if t >= counts[i]:
                states[t + 1, i] = states[t, i]
                continue
            for j in range(n_hidden):
                a = sums[t, i, j] + inputs[t, i, j]
                z, g = gate(a + gate_bias[j]), bend(a + update_bias[j])
                sums[t, i, j] = a
                states[t + 1, i, j] = (mix[0] * (_ONE - z) + mix[1]) * g + z * states[t, i, j]


@njit(cache=True)
def fastgrnn_backward(
    counts, U, gate_bias, update_bias, mix, sums, states, d_state, d_gate_bias, d_update_bias, d_mix
):
    """Gradients of `fastgrnn_forward`, but for those by W and U."""
    n_steps, n, n_hidden = sums.shape
    d_gate_bias[:] = 0
    d_update_bias[:] = 0
    d_mix[:] = 0
    passed = np.empty_like(d_state)
    for t in range(n_steps - 1, -1, -1):
        for i in range(n):
            if t >= counts[i]:
                passed[i] = d_state[i]
                sums[t, i] = 0
                continue
            d_zeta, d_nu = _ZERO, _ZERO
            for j in range(n_hidden):
                a, h, d = sums[t, i, j], states[t, i, j], d_state[i, j]
                z, g = gate(a + gate_bias[j]), bend(a + update_bias[j])
                d_z, d_g = d * (h - mix[0] * g), d * (mix[0] * (_ONE - z) + mix[1])
                d_z *= _SLOPE if _ZERO < z < _ONE else _ZERO
                d_g *= _ONE if -_ONE < g < _ONE else _ZERO
                d_zeta += d * (_ONE - z) * g
                d_nu += d * g
                d_gate_bias[j] += d_z
                d_update_bias[j] += d_g
                sums[t, i, j] = d_z + d_g
                passed[i, j] = d * z
            d_mix[0] += d_zeta
            d_mix[1] += d_nu
        np.dot(sums[t], U, d_state)
        d_state += passed


# FastRNN -----------------------------------------------------------------------------------------


@njit(cache=True)
def fastrnn_forward(inputs, counts, U, bias, mix, sums, states):
    """H' = alpha bend(W x + U h + b) + beta h; `mix` holds alpha and beta."""
    n_steps, n, n_hidden = sums.shape
    columns = np.ascontiguousarray(U.T)
    for t in range(n_steps):
        np.dot(states[t], columns, sums[t])
        for i in range(n):
            if t >= counts[i]:
                states[t + 1, i] = states[t, i]
                continue
            for j in range(n_hidden):
                a = sums[t, i, j] + inputs[t, i, j]
                sums[t, i, j] = a
                states[t + 1, i, j] = mix[0] * bend(a + bias[j]) + mix[1] * states[t, i, j]


@njit(cache=True)
def fastrnn_backward(counts, U, bias, mix, sums, states, d_state, d_bias, d_mix):
    """Gradients of `fastrnn_forward`, but for those by W and U."""
    n_steps, n, n_hidden = sums.shape
    d_bias[:] = 0
    d_mix[:] = 0
    passed = np.empty_like(d_state)
    for t in range(n_steps - 1, -1, -1):
        for i in range(n):
            if t >= counts[i]:
                passed[i] = d_state[i]
                sums[t, i] = 0
                continue
            d_alpha, d_beta = _ZERO, _ZERO
            for j in range(n_hidden):
                d, g = d_state[i, j], bend(sums[t, i, j] + bias[j])
                d_alpha += d * g
                d_beta += d * states[t, i, j]
                d_sum = d * mix[0] if -_ONE < g < _ONE else _ZERO
                d_bias[j] += d_sum
                sums[t, i, j] = d_sum
                passed[i, j] = d * mix[1]
            d_mix[0] += d_alpha
            d_mix[1] += d_beta
        np.dot(sums[t], U, d_state)
        d_state += passed


# GRU ---------------------------------------------------------------------------------------------


@njit(cache=True)
def gru_forward(inputs, counts, U, bias, inner_bias, sums, states):
    """H' = (1 - z) g + z h, r = gate(a_r), z = gate(a_z), g = bend(W_g x + b_g + r (U_g h + c)).

    a_r = W_r x + U_r h + b_r, and so is a_z. The rows of W, U and b are those of r, z and g one
    below the other; in `sums` the last part is U_g h + c alone.
    """
    n_steps, n, _ = sums.shape
    n_hidden = states.shape[2]
    columns = np.ascontiguousarray(U.T)
    for t in range(n_steps):
        np.dot(states[t], columns, sums[t])
        for i in range(n):
            if t >= counts[i]:
                states[t + 1, i] = states[t, i]
                continue
            a, x = sums[t, i], inputs[t, i]
            for j in range(n_hidden):
                k, m = n_hidden + j, 2 * n_hidden + j
                a[j] += x[j] + bias[j]
                a[k] += x[k] + bias[k]
                a[m] += inner_bias[j]
                z, g = gate(a[k]), bend(x[m] + bias[m] + gate(a[j]) * a[m])
                states[t + 1, i, j] = (_ONE - z) * g + z * states[t, i, j]


@njit(cache=True)
def gru_backward(
    inputs, counts, U, bias, inner_bias, sums, states, d_state, d_inputs, d_bias, d_inner_bias
):
    """Gradients of `gru_forward`, but for those by W and U.

    Here what W x adds to the last part differs from what U h adds: it is left in `d_inputs`.
    """
    n_steps, n, _ = sums.shape
    n_hidden = states.shape[2]
    d_bias[:] = 0
    d_inner_bias[:] = 0
    passed = np.empty_like(d_state)
    for t in range(n_steps - 1, -1, -1):
        for i in range(n):
            a, x, d_x = sums[t, i], inputs[t, i], d_inputs[t, i]
            if t >= counts[i]:
                passed[i] = d_state[i]
                a[:] = 0
                d_x[:] = 0
                continue
            for j in range(n_hidden):
                k, m = n_hidden + j, 2 * n_hidden + j
                d, r, z = d_state[i, j], gate(a[j]), gate(a[k])
                g = bend(x[m] + bias[m] + r * a[m])
                d_g = d * (_ONE - z) if -_ONE < g < _ONE else _ZERO
                d_r = _SLOPE * d_g * a[m] if _ZERO < r < _ONE else _ZERO
                d_z = _SLOPE * d * (states[t, i, j] - g) if _ZERO < z < _ONE else _ZERO
                d_x[j], d_x[k], d_x[m] = d_r, d_z, d_g
                a[j], a[k], a[m] = d_r, d_z, d_g * r
                d_bias[j] += d_r
                d_bias[k] += d_z
                d_bias[m] += d_g
                d_inner_bias[j] += d_g * r
                passed[i, j] = d * z
        np.dot(sums[t], U, d_state)
        d_state += passed
