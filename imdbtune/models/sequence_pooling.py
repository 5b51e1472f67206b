"""What is made of a recurrent layer's outputs while the loop over time runs, and its gradient.

``begin`` and ``add`` say what is known before the first step and after each; masked rows repeat
their output. On the way back ``at_end`` is the gradient to the output of the last step, and
``gradient`` adds to that of any step what a loss over the results asks of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

Tensor = Any
Results = tuple[Tensor, ...]


@dataclass(frozen=True)
class StepView:
    """A time step on the way back: which rows are words (batch, 1), 1 or 0, and what came out."""

    t: Tensor
    live: Tensor
    output: Tensor


@dataclass(frozen=True)
class Last:
    """The last output, (batch, units)."""

    def begin(self, zero: Tensor, length: int) -> Results:
        """See the module."""
        return (zero,)

    def add(self, so_far: Results, t: Tensor, output: Tensor, live: Tensor) -> Results:
        """See the module."""
        return (output,)

    def at_end(self, upstream: Results, zero: Tensor) -> Tensor:
        """See the module."""
        return upstream[0]

    def gradient(
        self, d_output: Tensor, upstream: Results, results: Results, step: StepView
    ) -> Tensor:
        """See the module."""
        return d_output


@dataclass(frozen=True)
class Whole:
    """All outputs, (time, batch, units); zero where no step was taken."""

    def begin(self, zero: Tensor, length: int) -> Results:
        """See the module."""
        return (tf.zeros((length, *tf.unstack(tf.shape(zero))), zero.dtype),)

    def add(self, so_far: Results, t: Tensor, output: Tensor, live: Tensor) -> Results:
        """See the module."""
        return (tf.tensor_scatter_nd_update(so_far[0], [[t]], output[None]),)

    def at_end(self, upstream: Results, zero: Tensor) -> Tensor:
        """See the module."""
        return zero

    def gradient(
        self, d_output: Tensor, upstream: Results, results: Results, step: StepView
    ) -> Tensor:
        """See the module."""
        return d_output + tf.gather(upstream[0], step.t)


@dataclass(frozen=True)
class Pooled:
    """The largest output of the words, how often it occurs, and their sum, each (batch, units).

    The sequence of outputs is nowhere put together: neither here nor, as its gradient, on the
    way back. Equal largest outputs share the gradient, as in Keras.
    """

    def begin(self, zero: Tensor, length: int) -> Results:
        """See the module; every output lies between -1 and 1, so -1 never wins."""
        return (zero - 1.0, zero, zero)

    def add(self, so_far: Results, t: Tensor, output: Tensor, live: Tensor) -> Results:
        """See the module."""
        largest, times, total = so_far
        higher = tf.logical_and(live > 0, output > largest)
        equal = live * tf.cast(tf.equal(output, largest), output.dtype)
        return (
            tf.where(higher, output, largest),
            tf.where(higher, 1.0, times + equal),
            total + live * output,
        )

    def at_end(self, upstream: Results, zero: Tensor) -> Tensor:
        """See the module."""
        return zero

    def gradient(
        self, d_output: Tensor, upstream: Results, results: Results, step: StepView
    ) -> Tensor:
        """See the module."""
        largest, times, _ = results
        d_largest, _, d_total = upstream
        share = tf.where(tf.equal(step.output, largest), d_largest / times, 0.0)
        return d_output + step.live * (d_total + share)


SequencePooling = Last | Whole | Pooled
