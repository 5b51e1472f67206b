"""The recurrent part of SimpleRNN, LSTM and GRU: one time step and its hand-written gradient.

``projected`` is the input's contribution to the gates, ``x·W + b``, (batch, gates * units). Gates
are concatenated in Keras's order, activations are Keras's defaults; the same forward passes, next
to the book's listings, are in :mod:`imdbtune.models.numpy_reference`. The gradients are the chain
rule for one step of backpropagation through time (Werbos 1990): a sigmoid s has the derivative
s(1 - s), a tanh t the derivative 1 - t^2. ``d_a`` is the gradient of the loss to ``a``.

Each gate is a tensor of its own. XLA compiles its formula to one vectorised loop if it reads at
most one slice of any other tensor.
"""

# ruff: noqa: D102 - Cell documents the methods.

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import tensorflow as tf

Tensor = Any
Tensors = tuple[Tensor, ...]


class Cell(Protocol):
    """One layer's step. States and gates are (batch, units); the first state is the output."""

    states: int  # number of states
    gates: int  # number of gates, which ``forward`` passes on to ``backward``
    materialised: int  # number of leading gates that XLA must not fuse, see ``scan``

    def split(self, bias: Tensor) -> tuple[Tensor, Tensors]:
        """Return the parts of Keras's bias: the input projection's, and the recurrent ones."""

    def forward(
        self, projected: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor]
    ) -> tuple[Tensors, Tensors]:
        """Return the new states, and the gates; ``weights`` are R and the recurrent biases."""

    def backward(
        self,
        d_new: Sequence[Tensor],
        states: Sequence[Tensor],
        new: Sequence[Tensor],
        gates: Sequence[Tensor],
        weights: Sequence[Tensor],
    ) -> tuple[Tensor, Tensors, Tensors]:
        """Return the gradients to the arguments of ``forward``, given those to ``new`` states."""


class SimpleRNN:
    """Listing 6.21: ``h' = tanh(p + h·R)``."""

    states, gates, materialised = 1, 0, 0

    def split(self, bias: Tensor) -> tuple[Tensor, Tensors]:
        return bias, ()

    def forward(
        self, projected: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor]
    ) -> tuple[Tensors, Tensors]:
        return (tf.tanh(projected + tf.matmul(states[0], weights[0])),), ()

    def backward(
        self,
        d_new: Sequence[Tensor],
        states: Sequence[Tensor],
        new: Sequence[Tensor],
        gates: Sequence[Tensor],
        weights: Sequence[Tensor],
    ) -> tuple[Tensor, Tensors, Tensors]:
        d_sum = d_new[0] * (1.0 - new[0] * new[0])
        d_h, d_kernel = product_gradients(states[0], weights[0], d_sum)
        return d_sum, (d_h,), (d_kernel,)


class LSTM:
    """Hochreiter & Schmidhuber 1997 with the forget gate of Gers et al. 2000.

    ``p`` is ``projected``; each gate has its own columns of ``p`` and R::

        i, f, o = sigmoid(p + h·R)    g = tanh(p + h·R)
        c' = f * c + i * g            h' = o * tanh(c')
    """

    states, gates, materialised = 2, 5, 0

    split = SimpleRNN.split

    def forward(
        self, projected: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor]
    ) -> tuple[Tensors, Tensors]:
        h, c = states
        i, f, g, o = tf.split(projected + tf.matmul(h, weights[0]), 4, axis=1)
        i, f, g, o = tf.sigmoid(i), tf.sigmoid(f), tf.tanh(g), tf.sigmoid(o)
        c = f * c + i * g
        t = tf.tanh(c)
        return (o * t, c), (i, f, g, o, t)

    def backward(
        self,
        d_new: Sequence[Tensor],
        states: Sequence[Tensor],
        new: Sequence[Tensor],
        gates: Sequence[Tensor],
        weights: Sequence[Tensor],
    ) -> tuple[Tensor, Tensors, Tensors]:
        (d_h, d_c), (h, c), (i, f, g, o, t) = d_new, states, gates
        d_c = d_c + d_h * o * (1.0 - t * t)
        d_i = d_c * g * i * (1.0 - i)
        d_f = d_c * c * f * (1.0 - f)
        d_g = d_c * i * (1.0 - g * g)
        d_o = d_h * t * o * (1.0 - o)
        d_sum = tf.concat([d_i, d_f, d_g, d_o], axis=1)
        d_h, d_kernel = product_gradients(h, weights[0], d_sum)
        return d_sum, (d_h, d_c * f), (d_kernel,)


class GRU:
    """Cho et al. 2014 in the form of Keras's default (``reset_after=True``).

    ``p`` is ``projected``; each gate has its own columns of ``p``, R and the recurrent bias b::

        z, r = sigmoid(p + h·R + b)   s = h·R + b
        k = tanh(p + r * s)           h' = z * h + (1 - z) * k
    """

    states, gates, materialised = 1, 4, 1

    def split(self, bias: Tensor) -> tuple[Tensor, Tensors]:
        return bias[0], (bias[1],)  # of (2, 3 * units)

    def forward(
        self, projected: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor]
    ) -> tuple[Tensors, Tensors]:
        (h,), (kernel, bias) = states, weights
        z, r, s = tf.split(tf.matmul(h, kernel) + bias, 3, axis=1)
        p_z, p_r, p_k = tf.split(projected, 3, axis=1)
        z, r = tf.sigmoid(p_z + z), tf.sigmoid(p_r + r)
        k = tf.tanh(p_k + r * s)
        return (z * h + (1.0 - z) * k,), (z, r, k, s)

    def backward(
        self,
        d_new: Sequence[Tensor],
        states: Sequence[Tensor],
        new: Sequence[Tensor],
        gates: Sequence[Tensor],
        weights: Sequence[Tensor],
    ) -> tuple[Tensor, Tensors, Tensors]:
        (d_h,), (h,), (z, r, k, s) = d_new, states, gates
        d_z = d_h * (h - k) * z * (1.0 - z)
        d_k = d_h * (1.0 - z) * (1.0 - k * k)
        d_r = d_k * s * r * (1.0 - r)
        # The gradients to p and to h·R differ in the last third. XLA compiles two concatenations
        # of three tensors to slow code; so there is one of four, with zeros in R for p's own third.
        d_all = tf.concat([d_z, d_r, d_k, d_k * r], axis=1)
        thirds = tf.split(weights[0], 3, axis=1)
        kernel = tf.concat([*thirds[:2], tf.zeros_like(thirds[2]), thirds[2]], axis=1)
        d_product, d_kernel = product_gradients(h, kernel, d_all)
        d_weights = (_drop_third(d_kernel), _drop_third(tf.reduce_sum(d_all, axis=0)))
        return d_all[:, : -h.shape[1]], (d_product + d_h * z,), d_weights


def _drop_third(values: Tensor) -> Tensor:
    """Return the last axis without the third of its four parts."""
    z, r, _, k = tf.split(values, 4, axis=-1)
    return tf.concat([z, r, k], axis=-1)


def product_gradients(x: Tensor, kernel: Tensor, d_product: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients to ``x`` and ``kernel``, given that to ``x·kernel``."""
    d_x = tf.matmul(d_product, kernel, transpose_b=True)
    return d_x, tf.matmul(x, d_product, transpose_a=True)


CELLS: dict[str, Cell] = {"SimpleRNNCell": SimpleRNN(), "LSTMCell": LSTM(), "GRUCell": GRU()}
