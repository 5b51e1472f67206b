"""The recurrent part of SimpleRNN, LSTM and GRU: one time step and its gradient, by hand.

A step is given ``projected``, the input's share ``x·W + b`` of what goes into the gates, (batch,
gates * units). Gates lie side by side in Keras's order, activations are Keras's defaults; the same
forward passes, beside the book's listings, are in :mod:`imdbtune.reference`. The gradients are
the chain rule for one step of backpropagation through time (Werbos 1990): a sigmoid s has the
slope s(1 - s), a tanh t the slope 1 - t^2. ``d_a`` is the gradient of the loss to ``a``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

Tensor = Any
Tensors = tuple[Tensor, ...]


def sigmoid(x: Tensor) -> Tensor:
    """By its definition: XLA has it vectorised, as it has the exponential function."""
    return 1.0 / (1.0 + tf.exp(-x))


def tanh(x: Tensor) -> Tensor:
    """As a sigmoid, for the same reason; exact to 1e-7."""
    return 2.0 / (1.0 + tf.exp(-2.0 * x)) - 1.0


class SimpleRNN:
    """``h' = tanh(p + h·R)``; Listing 6.21."""

    states = 1
    kept = 0

    def forward(self, weights, projected, states):
        (r,) = weights
        return (tanh(projected + tf.matmul(states[0], r)),), ()

    def backward(self, weights, states, new, kept, d_new):
        (r,) = weights
        d_sum = d_new[0] * (1.0 - new[0] * new[0])
        return d_sum, (tf.matmul(d_sum, r, transpose_b=True),), (tf.matmul(states[0], d_sum, transpose_a=True),)


class LSTM:
    states = 2
    kept = 5

    def forward(self, weights, projected, states):
        (r,) = weights
        h, c = states
        sums = projected + tf.matmul(h, r)
        i, f, g, o = tf.split(sums, 4, 1)
        i, f, g, o = sigmoid(i), sigmoid(f), tanh(g), sigmoid(o)
        c = f * c + i * g
        t = tanh(c)
        return (o * t, c), (i, f, g, o, t)

    def backward(self, weights, states, new, kept, d_new):
        (r,) = weights
        i, f, g, o, t = kept
        h, c = states
        dh, dc = d_new
        dc = dc + dh * o * (1.0 - t * t)
        dz = tf.concat(
            [dc * g * i * (1.0 - i), dc * c * f * (1.0 - f), dc * i * (1.0 - g * g), dh * t * o * (1.0 - o)],
            1,
        )
        return dz, (tf.matmul(dz, r, transpose_b=True), dc * f), (tf.matmul(h, dz, transpose_a=True),)


class GRU:
    states = 1
    kept = 4

    def forward(self, weights, projected, states):
        r, b = weights
        h = states[0]
        hz, hr, hk = tf.split(tf.matmul(h, r) + b, 3, 1)
        xz, xr, xk = tf.split(projected, 3, 1)
        z, r = sigmoid(xz + hz), sigmoid(xr + hr)
        k = tanh(xk + r * hk)
        return (z * h + (1.0 - z) * k,), (z, r, k, hk)

    def backward(self, weights, states, new, kept, d_new):
        rk, _ = weights
        z, r, k, hk = kept
        h, dh = states[0], d_new[0]
        dz = dh * (h - k) * z * (1.0 - z)
        dk = dh * (1.0 - z) * (1.0 - k * k)
        dr = dk * hk * r * (1.0 - r)
        dxz = tf.concat([dz, dr, dk], 1)
        dhz = tf.concat([dz, dr, dk * r], 1)
        dhp = tf.matmul(dhz, rk, transpose_b=True) + dh * z
        return dxz, (dhp,), (tf.matmul(h, dhz, transpose_a=True), tf.reduce_sum(dhz, 0))


CELLS = {"SimpleRNNCell": SimpleRNN, "LSTMCell": LSTM, "GRUCell": GRU}
