"""A cell: a SimpleRNN with another activation, with its own step, gradient and equations."""

from __future__ import annotations

from typing import Any

from imdbtune.models.cells.base import Cell, OnnxOperator
from imdbtune.models.numpy_reference import sigmoid


def sigmoid_rnn_step(projected: Any, states: Any, recurrent_kernel: Any) -> Any:
    return (sigmoid(projected + states[0] @ recurrent_kernel),)


def forward(projected: Any, states: Any, weights: Any) -> Any:
    import tensorflow as tf

    return (tf.sigmoid(projected + tf.matmul(states[0], weights[0])),), ()


def backward(d_new: Any, states: Any, new: Any, saved: Any, weights: Any) -> Any:
    from imdbtune.models.tensors import product_gradients

    d_sum = d_new[0] * new[0] * (1.0 - new[0])
    d_h, d_kernel = product_gradients(states[0], weights[0], d_sum)
    return d_sum, (d_h,), (d_kernel,)


SIGMOID_RNN = Cell(
    about="SimpleRNN with the activation of a gate",
    keras_class="SimpleRNN",
    keras_options={"activation": "sigmoid"},
    gates=1,
    states=1,
    saved=0,
    forward=forward,
    backward=backward,
    numpy_step=sigmoid_rnn_step,
    onnx=OnnxOperator("RNN", (0,), activations=("Sigmoid",)),
)
