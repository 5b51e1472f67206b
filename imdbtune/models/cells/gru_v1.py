"""The GRU in the form of TensorFlow 1's default (``reset_after=False``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from imdbtune.models.cells.base import Cell, OnnxOperator
from imdbtune.models.numpy_reference import Array, State, sigmoid

if TYPE_CHECKING:
    from imdbtune.models.tensors import Tensor, Tensors


def gru_v1_step(projected: Array, states: State, recurrent_kernel: Array) -> State:
    """``keras.layers.GRU(reset_after=False)``.

    Gate order in the kernels: z, r, h::

        z  = sigmoid(x·Wz + h·Uz + bz)         update gate
        r  = sigmoid(x·Wr + h·Ur + br)         reset gate
        k  = tanh(x·Wh + (r * h)·Uh + bh)      candidate
        h' = z * h + (1 - z) * k               output
    """
    units = len(recurrent_kernel)
    gates = sigmoid(projected[:, : 2 * units] + states[0] @ recurrent_kernel[:, : 2 * units])
    update, reset = gates[:, :units], gates[:, units:]
    recurrent = (reset * states[0]) @ recurrent_kernel[:, 2 * units :]
    candidate = np.tanh(projected[:, 2 * units :] + recurrent)
    return (update * states[0] + (1 - update) * candidate,)


def forward(
    projected: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor]
) -> tuple[Tensors, Tensors]:
    """Return the new state; each gate has its own columns of ``p`` and R.

    ::

        z, r = sigmoid(p + h·R)       k = tanh(p + (r * h)·R)
        h' = z * h + (1 - z) * k
    """
    import tensorflow as tf

    (h,), (kernel,) = states, weights
    units = h.shape[1]
    z, r = tf.split(tf.matmul(h, kernel[:, : 2 * units]), 2, axis=1)
    p_z, p_r, p_k = tf.split(projected, 3, axis=1)
    z, r = tf.sigmoid(p_z + z), tf.sigmoid(p_r + r)
    k = tf.tanh(p_k + tf.matmul(r * h, kernel[:, 2 * units :]))
    return (z * h + (1.0 - z) * k,), (z, r, k)


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

    (d_h,), (h,), (z, r, k), (kernel,) = d_new, states, saved, weights
    units = h.shape[1]
    d_z = d_h * (h - k) * z * (1.0 - z)
    d_k = d_h * (1.0 - z) * (1.0 - k * k)
    d_reset, d_kernel_k = product_gradients(r * h, kernel[:, 2 * units :], d_k)  # to r * h
    d_r = d_reset * h * r * (1.0 - r)
    d_gates = tf.concat([d_z, d_r], axis=1)
    d_product, d_kernel_gates = product_gradients(h, kernel[:, : 2 * units], d_gates)
    d_old = d_product + d_h * z + d_reset * r
    d_kernel = tf.concat([d_kernel_gates, d_kernel_k], axis=1)
    return tf.concat([d_gates, d_k], axis=1), (d_old,), (d_kernel,)


GRU_V1 = Cell(
    about="GRU, Cho et al. 2014, with the reset gate before the recurrent product",
    keras_class="GRU",
    gates=3,
    states=1,
    saved=3,
    forward=forward,
    backward=backward,
    numpy_step=gru_v1_step,
    onnx=OnnxOperator("GRU", (0, 1, 2), {"linear_before_reset": 0}),
    keras_options={"reset_after": False},
)
