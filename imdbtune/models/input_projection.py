"""What the first recurrent layer is given at each time step, and how its gradient is collected.

Each kind gives ``x·W + b`` for the ``x`` of a time step. ``prepare`` makes what they need of the
weights, before the first step; ``nothing`` is the gradient before the last step, to which ``add``
adds that of one step after the other; ``gradients`` makes those to the weights of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from imdbtune.models.cells import product_gradients

Tensor = Any
Tensors = tuple[Tensor, ...]


@dataclass(frozen=True)
class Projected:
    """Words by their ids (time, batch) in an embedding ``source`` (words, features).

    The whole table is projected once, so that a time step looks up what it needs, and adds its
    gradient to that of the projected table. That saves three products a step, and costs three of
    the table's size.
    """

    source: Tensor
    ids: Tensor

    def prepare(self, source: Tensor, kernel: Tensor, bias: Tensor) -> Tensors:
        """See the module."""
        return source, kernel, tf.matmul(source, kernel) + bias

    def projected(self, prepared: Tensors, t: Tensor) -> Tensor:
        """``x·W + b``, (batch, features of W), at time step ``t``."""
        return tf.gather(prepared[2], tf.gather(self.ids, t))

    def nothing(self, prepared: Tensors) -> Tensors:
        """See the module."""
        return (tf.zeros_like(prepared[2]),)

    def add(self, prepared: Tensors, so_far: Tensors, t: Tensor, d_projected: Tensor) -> Tensors:
        """See the module."""
        return (tf.tensor_scatter_nd_add(so_far[0], tf.gather(self.ids, t)[:, None], d_projected),)

    def gradients(self, prepared: Tensors, so_far: Tensors) -> Tensors:
        """To ``source``, W and b."""
        source, kernel, _ = prepared
        return *product_gradients(source, kernel, so_far[0]), tf.reduce_sum(so_far[0], axis=0)


@dataclass(frozen=True)
class Vectors:
    """A sequence ``source`` of shape (time, batch, features)."""

    source: Tensor

    def prepare(self, source: Tensor, kernel: Tensor, bias: Tensor) -> Tensors:
        """See the module."""
        return source, kernel, bias

    def projected(self, prepared: Tensors, t: Tensor) -> Tensor:
        """See :class:`Projected`."""
        source, kernel, bias = prepared
        return tf.matmul(self.read(source, t), kernel) + bias

    def nothing(self, prepared: Tensors) -> Tensors:
        """See the module."""
        return tuple(tf.zeros_like(tensor) for tensor in prepared)

    def add(self, prepared: Tensors, so_far: Tensors, t: Tensor, d_projected: Tensor) -> Tensors:
        """See the module."""
        source, kernel, _ = prepared
        d_source, d_kernel, d_bias = so_far
        d_x, more = product_gradients(self.read(source, t), kernel, d_projected)
        d_source = self.collect(d_source, t, d_x)
        return d_source, d_kernel + more, d_bias + tf.reduce_sum(d_projected, axis=0)

    def gradients(self, prepared: Tensors, so_far: Tensors) -> Tensors:
        """To ``source``, W and b."""
        return so_far

    def read(self, source: Tensor, t: Tensor) -> Tensor:
        """``x``, (batch, features)."""
        return tf.gather(source, t)

    def collect(self, d_source: Tensor, t: Tensor, d_x: Tensor) -> Tensor:
        """``d_source`` with the step's ``d_x`` in it."""
        return tf.tensor_scatter_nd_update(d_source, [[t]], d_x[None])


@dataclass(frozen=True)
class LookedUp(Vectors):
    """Words by their ids (time, batch) in an embedding ``source`` (words, features)."""

    ids: Tensor

    def read(self, source: Tensor, t: Tensor) -> Tensor:
        """See :class:`Vectors`."""
        return tf.gather(source, tf.gather(self.ids, t))

    def collect(self, d_source: Tensor, t: Tensor, d_x: Tensor) -> Tensor:
        """See :class:`Vectors`; a word may be there more than once."""
        return tf.tensor_scatter_nd_add(d_source, tf.gather(self.ids, t)[:, None], d_x)


Inputs = Projected | Vectors


def words(table: Tensor, ids: Tensor) -> Inputs:
    """Words by their ids (time, batch), the way that takes fewer operations."""
    steps, batch = ids.shape
    # Batches of like length leave about half of the columns empty.
    many = batch is not None and 2 * table.shape[0] <= steps * batch
    return Projected(table, ids) if many else LookedUp(table, ids)
