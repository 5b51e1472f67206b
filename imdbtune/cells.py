"""One time step of SimpleRNN, LSTM and GRU, and its gradient, as plain equations.

The weights are those of the Keras cells, with Keras's default activations, gates side by side in
Keras's order. ``x`` is (batch, features), each state and output (batch, units).
:mod:`imdbtune.reference` has the same forward passes in NumPy, beside the book's listings; the
gradients are those of backpropagation through time (Werbos 1990) for one step: the chain rule,
where s' = s(1 - s) for a sigmoid s and t' = 1 - t^2 for a tanh t.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import tensorflow as tf

Tensor = Any
Tensors = tuple[Tensor, ...]


class Cell(Protocol):
    """What one layer does in one time step.

    ``forward`` also gives what ``backward`` is to be given again, beside inputs and states.
    """

    states: int
    kept: Sequence[int]

    def pack(self, weights: Sequence[Tensor]) -> Tensors: ...

    def unpack(self, d_weights: Sequence[Tensor]) -> list[Tensor]: ...

    def forward(
        self, weights: Sequence[Tensor], x: Tensor, states: Sequence[Tensor]
    ) -> tuple[Tensors, Tensors]: ...

    def backward(
        self,
        weights: Sequence[Tensor],
        x: Tensor,
        states: Sequence[Tensor],
        new: Sequence[Tensor],
        kept: Sequence[Tensor],
        d_new: Sequence[Tensor],
    ) -> tuple[Tensor, Tensors, Tensors]: ...


class SimpleRNN:
    states, kept = 1, ()

    def __init__(self, features):
        self.features = features

    def pack(self, weights):
        w, r, b = weights
        return tf.concat([w, r], 0), b

    def unpack(self, d):
        return [d[0][: self.features], d[0][self.features :], d[1]]

    def forward(self, weights, x, states):
        wr, b = weights
        return (tf.tanh(tf.matmul(tf.concat([x, states[0]], 1), wr) + b),), ()

    def backward(self, weights, x, states, new, kept, d_new):
        wr, _ = weights
        dz = d_new[0] * (1.0 - new[0] * new[0])
        dxh = tf.matmul(dz, wr, transpose_b=True)
        d_wr = tf.matmul(tf.concat([x, states[0]], 1), dz, transpose_a=True)
        return dxh[:, : self.features], (dxh[:, self.features :],), (d_wr, tf.reduce_sum(dz, 0))


class LSTM:
    states, kept = 2, (4,)

    def __init__(self, features):
        self.features = features

    pack, unpack = SimpleRNN.pack, SimpleRNN.unpack

    def forward(self, weights, x, states):
        wr, b = weights
        h, c = states
        z = tf.matmul(tf.concat([x, h], 1), wr) + b
        u = c.shape[-1]
        i_f, g, o = tf.sigmoid(z[:, : 2 * u]), tf.tanh(z[:, 2 * u : 3 * u]), tf.sigmoid(z[:, 3 * u :])
        i, f = i_f[:, :u], i_f[:, u:]
        c = f * c + i * g
        return (o * tf.tanh(c), c), (tf.concat([i_f, g, o], 1),)

    def backward(self, weights, x, states, new, kept, d_new):
        wr, _ = weights
        i, f, g, o = tf.split(kept[0], 4, 1)
        h, c = states
        t = tf.tanh(new[1])
        dh, dc = d_new
        dc = dc + dh * o * (1.0 - t * t)
        dz = tf.concat(
            [dc * g * i * (1.0 - i), dc * c * f * (1.0 - f), dc * i * (1.0 - g * g), dh * t * o * (1.0 - o)],
            1,
        )
        dxh = tf.matmul(dz, wr, transpose_b=True)
        d_wr = tf.matmul(tf.concat([x, h], 1), dz, transpose_a=True)
        return (
            dxh[:, : self.features],
            (dxh[:, self.features :], dc * f),
            (d_wr, tf.reduce_sum(dz, 0)),
        )


class GRU:
    states, kept = 1, (4,)

    def __init__(self, features):
        self.features = features

    def pack(self, weights):
        return tuple(weights)

    def unpack(self, d):
        return list(d)

    def forward(self, weights, x, states):
        w, r, b = weights
        h = states[0]
        u = h.shape[-1]
        xz = tf.matmul(x, w) + b[0]
        hz = tf.matmul(h, r) + b[1]
        zr = tf.sigmoid(xz[:, : 2 * u] + hz[:, : 2 * u])
        z = zr[:, :u]
        k = tf.tanh(xz[:, 2 * u :] + zr[:, u:] * hz[:, 2 * u :])
        return (z * h + (1.0 - z) * k,), (tf.concat([zr, k, hz[:, 2 * u :]], 1),)

    def backward(self, weights, x, states, new, kept, d_new):
        w, rk, _ = weights
        z, r, k, hk = tf.split(kept[0], 4, 1)
        h, dh = states[0], d_new[0]
        dz = dh * (h - k) * z * (1.0 - z)
        dk = dh * (1.0 - z) * (1.0 - k * k)
        dr = dk * hk * r * (1.0 - r)
        dxz = tf.concat([dz, dr, dk], 1)
        dhz = tf.concat([dz, dr, dk * r], 1)
        dx = tf.matmul(dxz, w, transpose_b=True)
        dhp = tf.matmul(dhz, rk, transpose_b=True) + dh * z
        dw = tf.matmul(x, dxz, transpose_a=True)
        drk = tf.matmul(h, dhz, transpose_a=True)
        return dx, (dhp,), (dw, drk, tf.stack([tf.reduce_sum(dxz, 0), tf.reduce_sum(dhz, 0)]))


CELLS = {"SimpleRNNCell": SimpleRNN, "LSTMCell": LSTM, "GRUCell": GRU}
