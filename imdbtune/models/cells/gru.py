"""The GRU in the form of Keras's default (``reset_after=True``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from imdbtune.models.cells.base import Cell, OnnxOperator
from imdbtune.models.numpy_reference import Array, State, sigmoid

if TYPE_CHECKING:
    from imdbtune.models.tensors import Tensor, Tensors


def gru_step(
    projected: Array, states: State, recurrent_kernel: Array, recurrent_bias: Array
) -> State:
    """``keras.layers.GRU``.

    Gate order in the kernels: z, r, h; ``b`` is the input's bias, ``d`` the recurrent one::

        z  = sigmoid(x·Wz + bz + h·Uz + dz)         update gate
        r  = sigmoid(x·Wr + br + h·Ur + dr)         reset gate
        k  = tanh(x·Wh + bh + r * (h·Uh + dh))      candidate
        h' = z * h + (1 - z) * k                    output
    """
    units = len(recurrent_kernel)
    recurrent = states[0] @ recurrent_kernel + recurrent_bias
    gates = sigmoid(projected[:, : 2 * units] + recurrent[:, : 2 * units])
    update, reset = gates[:, :units], gates[:, units:]
    candidate = np.tanh(projected[:, 2 * units :] + reset * recurrent[:, 2 * units :])
    return (update * states[0] + (1 - update) * candidate,)


def forward(
    projected: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor]
) -> tuple[Tensors, Tensors]:
    """Return the new state; each gate has its own columns of ``p``, R and the bias b.

    ::

        z, r = sigmoid(p + h·R + b)   s = h·R + b
        k = tanh(p + r * s)           h' = z * h + (1 - z) * k
    """
    import tensorflow as tf

    (h,), (kernel, bias) = states, weights
    z, r, s = tf.split(tf.matmul(h, kernel) + bias, 3, axis=1)
    p_z, p_r, p_k = tf.split(projected, 3, axis=1)
    z, r = tf.sigmoid(p_z + z), tf.sigmoid(p_r + r)
    k = tf.tanh(p_k + r * s)
    return (z * h + (1.0 - z) * k,), (z, r, k, s)


def backward(
    d_new: Sequence[Tensor],
    states: Sequence[Tensor],
    new: Sequence[Tensor],
    saved: Sequence[Tensor],
    weights: Sequence[Tensor],
) -> tuple[Tensor, Tensors, Tensors]:
    """Return the gradients of :func:`forward`."""
    import tensorflow as tf

    from imdbtune.models.tensors import product_gradients

    (d_h,), (h,), (z, r, k, s) = d_new, states, saved
    d_z = d_h * (h - k) * z * (1.0 - z)
    d_k = d_h * (1.0 - z) * (1.0 - k * k)
    d_r = d_k * s * r * (1.0 - r)
    # The gradients to p and to h·R differ in the last third. XLA compiles two concatenations of
    # three tensors to slow code; so there is one of four, with zeros in R for p's own third.
    d_all = tf.concat([d_z, d_r, d_k, d_k * r], axis=1)
    thirds = tf.split(weights[0], 3, axis=1)
    kernel = tf.concat([*thirds[:2], tf.zeros_like(thirds[2]), thirds[2]], axis=1)
    d_product, d_kernel = product_gradients(h, kernel, d_all)
    d_weights = (_drop_third(d_kernel), _drop_third(tf.reduce_sum(d_all, axis=0)))
    return d_all[:, : -h.shape[1]], (d_product + d_h * z,), d_weights


def _drop_third(values: Tensor) -> Tensor:
    """Return the last axis without the third of its four parts."""
    import tensorflow as tf

    z, r, _, k = tf.split(values, 4, axis=-1)
    return tf.concat([z, r, k], axis=-1)


GRU = Cell(
    about="GRU, Cho et al. 2014, with the reset gate after the recurrent product, as in cuDNN",
    keras_class="GRU",
    gates=3,
    biases=2,
    states=1,
    saved=4,
    forward=forward,
    backward=backward,
    numpy_step=gru_step,
    onnx=OnnxOperator("GRU", (0, 1, 2), {"linear_before_reset": 1}),
    has_cudnn=True,
    materialised=1,  # z
)
