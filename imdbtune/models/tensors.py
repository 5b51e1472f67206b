"""The types of TensorFlow's tensors, and the gradient of a matrix product."""

from __future__ import annotations

from typing import TypeAlias

import tensorflow as tf

Tensor: TypeAlias = tf.Tensor
Tensors: TypeAlias = tuple[Tensor, ...]


def product_gradients(x: Tensor, kernel: Tensor, d_product: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients to ``x`` and ``kernel``, given that to ``x·kernel``."""
    d_x = tf.matmul(d_product, kernel, transpose_b=True)
    return d_x, tf.matmul(x, d_product, transpose_a=True)
