"""Pooling over time inside the recurrent loop, and its gradient."""

# ruff: noqa: D102 - SequencePooling documents the methods.

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import tensorflow as tf

from imdbtune.models.tensors import Tensor, Tensors


@dataclass(frozen=True)
class StepView:
    """A time step of the backward loop: its ``mask`` (batch, 1), and ``output`` (batch, units)."""

    t: Tensor
    mask: Tensor
    output: Tensor


class SequencePooling(Protocol):
    """Results over the outputs of a recurrent layer, updated at each time step.

    ``output`` is (batch, units); masked rows repeat their previous output. ``upstream`` are the
    gradients of the loss to the results.
    """

    def initial(self, zero: Tensor, length: int) -> Tensors:
        """Return the results before the first of ``length`` time steps; ``zero`` is an output."""

    def update(self, results: Tensors, t: Tensor, output: Tensor, mask: Tensor) -> Tensors:
        """Return the results after time step ``t``; ``mask`` is (batch, 1)."""

    def last_gradient(self, upstream: Tensors, zero: Tensor) -> Tensor:
        """Return the gradient to the output of the last step, before ``step_gradient`` adds to it.

        ``zero`` is an output of zeros.
        """

    def step_gradient(
        self, d_output: Tensor, upstream: Tensors, results: Tensors, step: StepView
    ) -> Tensor:
        """Return ``d_output`` plus the gradient to the output of this step."""


@dataclass(frozen=True)
class LastOutput:
    """The last output, (batch, units)."""

    def initial(self, zero: Tensor, length: int) -> Tensors:
        return (zero,)

    def update(self, results: Tensors, t: Tensor, output: Tensor, mask: Tensor) -> Tensors:
        return (output,)

    def last_gradient(self, upstream: Tensors, zero: Tensor) -> Tensor:
        return upstream[0]

    def step_gradient(
        self, d_output: Tensor, upstream: Tensors, results: Tensors, step: StepView
    ) -> Tensor:
        return d_output


@dataclass(frozen=True)
class AllOutputs:
    """All outputs, (time, batch, units); zero at time steps outside the loop."""

    def initial(self, zero: Tensor, length: int) -> Tensors:
        return (tf.zeros((length, *tf.unstack(tf.shape(zero))), zero.dtype),)

    def update(self, results: Tensors, t: Tensor, output: Tensor, mask: Tensor) -> Tensors:
        return (tf.tensor_scatter_nd_update(results[0], [[t]], output[None]),)

    def last_gradient(self, upstream: Tensors, zero: Tensor) -> Tensor:
        return zero

    def step_gradient(
        self, d_output: Tensor, upstream: Tensors, results: Tensors, step: StepView
    ) -> Tensor:
        return d_output + tf.gather(upstream[0], step.t)


@dataclass(frozen=True)
class MaxAndSum:
    """The maximum over the unmasked outputs, its number of occurrences, and their sum.

    Each is (batch, units). Equal maxima share the gradient, as in Keras. ``bound`` is that of the
    absolute value of an output.
    """

    bound: float

    def initial(self, zero: Tensor, length: int) -> Tensors:
        return (zero - self.bound, zero, zero)

    def update(self, results: Tensors, t: Tensor, output: Tensor, mask: Tensor) -> Tensors:
        maximum, count, total = results
        higher = tf.logical_and(mask > 0, output > maximum)
        equal = mask * tf.cast(tf.equal(output, maximum), output.dtype)
        return (
            tf.where(higher, output, maximum),
            tf.where(higher, 1.0, count + equal),
            total + mask * output,
        )

    def last_gradient(self, upstream: Tensors, zero: Tensor) -> Tensor:
        return zero

    def step_gradient(
        self, d_output: Tensor, upstream: Tensors, results: Tensors, step: StepView
    ) -> Tensor:
        maximum, count, _ = results
        d_maximum, _, d_total = upstream
        share = tf.where(tf.equal(step.output, maximum), d_maximum / count, 0.0)
        return d_output + step.mask * (d_total + share)
