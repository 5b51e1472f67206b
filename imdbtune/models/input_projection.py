"""The projection ``x·W + b`` of the first recurrent layer's inputs, and its gradient."""

# ruff: noqa: D102 - Inputs documents the methods.

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import tensorflow as tf

from imdbtune.models.tensors import Tensor, Tensors, product_gradients


class Inputs(Protocol):
    """The inputs ``x`` of all time steps, which come from the tensor ``source``.

    ``kernel`` is W, (features, gates * units), and ``bias`` is b, (gates * units,).
    """

    @property
    def source(self) -> Tensor:
        """The sequence, or the embedding, that receives a gradient."""

    def prepare(self, source: Tensor, kernel: Tensor, bias: Tensor) -> Tensors:
        """Return tensors that the other methods need, computed before the first time step."""

    def project(self, prepared: Tensors, t: Tensor) -> Tensor:
        """Return ``x·W + b`` at time step ``t``, (batch, gates * units)."""

    def zero_gradients(self, prepared: Tensors) -> Tensors:
        """Return the accumulated gradients before the backward loop."""

    def accumulate(
        self, prepared: Tensors, gradients: Tensors, t: Tensor, d_projected: Tensor
    ) -> Tensors:
        """Return the accumulated gradients plus those of time step ``t``."""

    def gradients(self, prepared: Tensors, gradients: Tensors) -> Tensors:
        """Return the gradients to ``source``, W and b from the accumulated ones."""


@dataclass(frozen=True)
class ProjectedTable:
    """Words with ``ids`` (time, batch) in an embedding ``source`` (words, features).

    Projects the whole table once, so a time step only looks up rows, and adds its gradient to that
    of the projected table. That saves three products a step and costs three of the table's size.
    """

    source: Tensor
    ids: Tensor

    def prepare(self, source: Tensor, kernel: Tensor, bias: Tensor) -> Tensors:
        return source, kernel, tf.matmul(source, kernel) + bias

    def project(self, prepared: Tensors, t: Tensor) -> Tensor:
        return tf.gather(prepared[2], tf.gather(self.ids, t))

    def zero_gradients(self, prepared: Tensors) -> Tensors:
        return (tf.zeros_like(prepared[2]),)

    def accumulate(
        self, prepared: Tensors, gradients: Tensors, t: Tensor, d_projected: Tensor
    ) -> Tensors:
        rows = tf.gather(self.ids, t)[:, None]
        return (tf.tensor_scatter_nd_add(gradients[0], rows, d_projected),)

    def gradients(self, prepared: Tensors, gradients: Tensors) -> Tensors:
        source, kernel, _ = prepared
        (d_table,) = gradients
        return *product_gradients(source, kernel, d_table), tf.reduce_sum(d_table, axis=0)


@dataclass(frozen=True)
class VectorSequence:
    """A sequence of vectors: ``source`` is (time, batch, features)."""

    source: Tensor

    def prepare(self, source: Tensor, kernel: Tensor, bias: Tensor) -> Tensors:
        return source, kernel, bias

    def project(self, prepared: Tensors, t: Tensor) -> Tensor:
        source, kernel, bias = prepared
        return tf.matmul(self._x(source, t), kernel) + bias

    def zero_gradients(self, prepared: Tensors) -> Tensors:
        return tuple(tf.zeros_like(tensor) for tensor in prepared)

    def accumulate(
        self, prepared: Tensors, gradients: Tensors, t: Tensor, d_projected: Tensor
    ) -> Tensors:
        source, kernel, _ = prepared
        d_source, d_kernel, d_bias = gradients
        d_x, d_kernel_step = product_gradients(self._x(source, t), kernel, d_projected)
        d_source = self._add(d_source, t, d_x)
        return d_source, d_kernel + d_kernel_step, d_bias + tf.reduce_sum(d_projected, axis=0)

    def gradients(self, prepared: Tensors, gradients: Tensors) -> Tensors:
        return gradients

    def _x(self, source: Tensor, t: Tensor) -> Tensor:
        """Return the input of time step ``t``, (batch, features)."""
        return tf.gather(source, t)

    def _add(self, d_source: Tensor, t: Tensor, d_x: Tensor) -> Tensor:
        """Return ``d_source`` with the gradient ``d_x`` of time step ``t``."""
        return tf.tensor_scatter_nd_update(d_source, [[t]], d_x[None])


@dataclass(frozen=True)
class EmbeddingLookup(VectorSequence):
    """Words with ``ids`` (time, batch) in an embedding ``source`` (words, features).

    Looks up and projects the vectors of one time step at a time.
    """

    ids: Tensor

    def _x(self, source: Tensor, t: Tensor) -> Tensor:
        return tf.gather(source, tf.gather(self.ids, t))

    def _add(self, d_source: Tensor, t: Tensor, d_x: Tensor) -> Tensor:
        # A word may occur in several rows of the batch.
        return tf.tensor_scatter_nd_add(d_source, tf.gather(self.ids, t)[:, None], d_x)


def embedded_words(table: Tensor, ids: Tensor) -> Inputs:
    """Return the words with ``ids`` (time, batch) as the kind of inputs with fewer operations."""
    steps, batch = ids.shape
    # About half of the columns are padding where the batches have reviews of similar length.
    is_small = batch is not None and 2 * table.shape[0] <= steps * batch
    return ProjectedTable(table, ids) if is_small else EmbeddingLookup(table, ids)
