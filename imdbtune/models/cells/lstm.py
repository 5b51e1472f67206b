"""The LSTM: Listings 6.25 to 6.27."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from imdbtune.models.cells.base import Cell, OnnxOperator
from imdbtune.models.numpy_reference import Array, State, sigmoid

if TYPE_CHECKING:
    from imdbtune.models.tensors import Tensor, Tensors


def lstm_step(projected: Array, states: State, recurrent_kernel: Array) -> State:
    """``keras.layers.LSTM``, compared with Listings 6.25 and 6.26.

    Gate order in the kernels: i, f, c, o. With the listings' state as ``h`` and their carry as
    ``c``::

        listing                                     Keras
        i = activation(h·Ui + x·Wi + bi)            i  = sigmoid(x·Wi + h·Ui + bi)  input gate
        f = activation(h·Uf + x·Wf + bf)            f  = sigmoid(x·Wf + h·Uf + bf)  forget gate
        k = activation(h·Uk + x·Wk + bk)            k  = tanh(x·Wc + h·Uc + bc)     candidate
        next c = i * k + c * f                      c' = i * k + c * f              carry
        output = activation(h·Uo + x·Wo             o  = sigmoid(x·Wo + h·Uo + bo)  output gate
                            + c·Vo + bo)            h' = o * tanh(c')               output

    They differ in the output: the listing adds the current carry to it, with weights V. Keras has
    no V: its output gate does not see the carry, which enters only as tanh(c') of the next one.
    """
    units = len(recurrent_kernel)
    hidden, carry = states
    gates = projected + hidden @ recurrent_kernel
    input_forget = sigmoid(gates[:, : 2 * units])
    candidate = np.tanh(gates[:, 2 * units : 3 * units])
    carry = input_forget[:, :units] * candidate + carry * input_forget[:, units:]
    return sigmoid(gates[:, 3 * units :]) * np.tanh(carry), carry


def forward(
    projected: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor]
) -> tuple[Tensors, Tensors]:
    """Return the new states; each gate has its own columns of ``p`` and R.

    ::

        i, f, o = sigmoid(p + h·R)    g = tanh(p + h·R)
        c' = f * c + i * g            h' = o * tanh(c')
    """
    import tensorflow as tf

    h, c = states
    i, f, g, o = tf.split(projected + tf.matmul(h, weights[0]), 4, axis=1)
    i, f, g, o = tf.sigmoid(i), tf.sigmoid(f), tf.tanh(g), tf.sigmoid(o)
    c = f * c + i * g
    t = tf.tanh(c)
    return (o * t, c), (i, f, g, o, t)


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

    (d_h, d_c), (h, c), (i, f, g, o, t) = d_new, states, saved
    d_c = d_c + d_h * o * (1.0 - t * t)
    d_i = d_c * g * i * (1.0 - i)
    d_f = d_c * c * f * (1.0 - f)
    d_g = d_c * i * (1.0 - g * g)
    d_o = d_h * t * o * (1.0 - o)
    d_sum = tf.concat([d_i, d_f, d_g, d_o], axis=1)
    d_h, d_kernel = product_gradients(h, weights[0], d_sum)
    return d_sum, (d_h, d_c * f), (d_kernel,)


LSTM = Cell(
    about="LSTM, Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000",
    keras_class="LSTM",
    gates=4,
    states=2,
    saved=5,
    forward=forward,
    backward=backward,
    numpy_step=lstm_step,
    onnx=OnnxOperator("LSTM", gate_order=(0, 3, 1, 2)),  # ONNX: i, o, f, c
    has_cudnn=True,
)
