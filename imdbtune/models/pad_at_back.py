"""Moves the padding of reviews from the front to the back, where cuDNN can mask it."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from imdbtune.data.corpus import PAD
from imdbtune.models.tensors import Tensor


class PadAtBack(keras.layers.Layer):
    """Ids (batch, time) and vectors (batch, time, features) that are padded at the front, moved.

    A masked recurrent layer gives the same last output, and the same outputs of the words, wherever
    the padding is. cuDNN takes the length of each review, so that padding must come last.
    """

    def call(self, inputs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the ids and the vectors with each review from the first column on."""
        ids, vectors = inputs
        length = tf.reduce_sum(tf.cast(tf.not_equal(ids, PAD), tf.int32), axis=1)
        return _moved(ids, length), _moved(vectors, length)

    def compute_mask(self, inputs: tuple[Tensor, Tensor], mask: Any) -> tuple[None, Tensor]:
        """Return the mask of the vectors, (batch, time): that of the padding, reversed."""
        return None, ops.not_equal(ops.flip(inputs[0], axis=1), PAD)


def _moved(values: Tensor, length: Tensor) -> Tensor:
    """Return values (batch, time, ...) whose last ``length`` columns become the first ones."""
    return tf.reverse_sequence(tf.reverse(values, [1]), length, seq_axis=1)
