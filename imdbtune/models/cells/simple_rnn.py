"""The SimpleRNN: Listing 6.21."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from imdbtune.models.cells.base import Cell, OnnxOperator
from imdbtune.models.numpy_reference import Array, State

if TYPE_CHECKING:
    from imdbtune.models.tensors import Tensor, Tensors


def simple_rnn_listing(inputs: Array, w: Array, u: Array, b: Array) -> Array:
    """The loop of Listing 6.21: ``output = tanh(W·input + U·state + b)``.

    Shapes: ``inputs (time, input_features)``, ``w (output_features, input_features)``,
    ``u (output_features, output_features)``, ``b (output_features,)``; returns
    ``(time, output_features)``. The listing has 100 time steps, 32 features in and 64 out.

    :func:`imdbtune.models.numpy_reference.layer` returns the same numbers with
    :func:`simple_rnn_step`, the inputs ``inputs[None]`` and the weights ``w.T, u.T, b``.
    """
    state = np.zeros(b.shape, dtype=np.result_type(inputs, w, u, b))
    outputs = np.empty((len(inputs), *b.shape), dtype=state.dtype)
    for time, step_input in enumerate(inputs):
        state = np.tanh(w @ step_input + u @ state + b)
        outputs[time] = state
    return outputs


def simple_rnn_step(projected: Array, states: State, recurrent_kernel: Array) -> State:
    """``keras.layers.SimpleRNN``: ``h' = tanh(x·W + h·U + b)``, Listing 6.21 over a batch.

    Keras multiplies from the other side: its kernels are the transposes of the listing's W and U.
    """
    return (np.tanh(projected + states[0] @ recurrent_kernel),)


def forward(
    projected: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor]
) -> tuple[Tensors, Tensors]:
    """Return ``h' = tanh(p + h·R)``."""
    import tensorflow as tf

    return (tf.tanh(projected + tf.matmul(states[0], weights[0])),), ()


def backward(
    d_new: Sequence[Tensor],
    states: Sequence[Tensor],
    new: Sequence[Tensor],
    saved: Sequence[Tensor],
    weights: Sequence[Tensor],
) -> tuple[Tensor, Tensors, Tensors]:
    """Return the gradients of :func:`forward`."""
    from imdbtune.models.tensors import product_gradients

    d_sum = d_new[0] * (1.0 - new[0] * new[0])
    d_h, d_kernel = product_gradients(states[0], weights[0], d_sum)
    return d_sum, (d_h,), (d_kernel,)


SIMPLE_RNN = Cell(
    about="SimpleRNN, Elman 1990",
    keras_class="SimpleRNN",
    gates=1,
    states=1,
    saved=0,
    forward=forward,
    backward=backward,
    numpy_step=simple_rnn_step,
    onnx=OnnxOperator("RNN", (0,)),
)
