"""The loop over time, through a stack of layers, and the loop back with its gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from imdbtune.cells import Cell, product_gradients
from imdbtune.readouts import Readout, Visited
from imdbtune.step_inputs import Inputs

Tensor = Any
Tensors = tuple[Tensor, ...]


@dataclass(frozen=True)
class Walk:
    """Which time steps a loop visits: from ``first`` to the last one, or the other way round.

    ``mask`` is (time, batch), 1 for words and 0 for padding; every column before ``first`` is
    padding in all rows.
    """

    mask: Tensor
    first: Tensor
    backwards: bool

    @property
    def length(self) -> int:
        """All time steps."""
        return int(self.mask.shape[0])

    @property
    def by(self) -> int:
        """From one time step to the next."""
        return -1 if self.backwards else 1

    @property
    def begin(self) -> Tensor:
        """The time step that is visited first."""
        return tf.constant(self.length - 1) if self.backwards else self.first

    @property
    def end(self) -> Tensor:
        """The time step that is visited last."""
        return self.first if self.backwards else tf.constant(self.length - 1)

    def goes_on(self, t: Tensor) -> Tensor:
        """Whether time step ``t`` is still to be visited."""
        return t >= self.end if self.backwards else t <= self.end

    def goes_back(self, t: Tensor) -> Tensor:
        """The same on the way back to the beginning."""
        return t <= self.begin if self.backwards else t >= self.begin

    def live(self, t: Tensor) -> Tensor:
        """Which rows have a word at ``t``, (batch, 1)."""
        return tf.gather(self.mask, t)[:, None]

    def before(self, t: Tensor) -> Tensor:
        """Where, of ``length + 1`` places, the states before ``t`` are kept; at first zeros."""
        return t + 1 if self.backwards else t

    def after(self, t: Tensor) -> Tensor:
        """Where those after ``t`` are kept."""
        return t if self.backwards else t + 1


@dataclass(frozen=True)
class Layer:
    """One layer of a stack: what it does at a step, its size, and its weights.

    They are W and b of its input's projection, then those that ``cell`` is given.
    """

    cell: Cell
    units: int
    weights: Tensors


def scan(layers: Sequence[Layer], inputs: Inputs, walk: Walk, readout: Readout) -> Tensors:
    """Run layers on top of each other over time, from states of zero; masked rows keep theirs.

    Returns:
        What ``readout`` makes of the outputs of the last layer.
    """
    batch = tf.shape(walk.mask)[1]
    zeros = [tuple(tf.zeros((batch, a.units)) for _ in range(a.cell.states)) for a in layers]
    every_weight = [layer.weights for layer in layers]

    @tf.custom_gradient
    def run(*flat: Tensor) -> Any:
        source, weights = tf.nest.pack_sequence_as((inputs.source, every_weight), flat)
        prepared = inputs.prepare(source, *weights[0][:2])

        def forward(t: Tensor, states: Any, kept: Any, gates_kept: Any, read: Any) -> Any:
            live = walk.live(t)
            x, after, gates = None, [], []
            for layer, own, old in zip(layers, weights, states, strict=True):
                kernel, bias, *recurrent = own
                first = x is None
                p = inputs.projected(prepared, t) if first else tf.matmul(x, kernel) + bias
                new, made = layer.cell.forward(p, old, recurrent)
                x = new[0]
                after.append(_masked(live, new, old))
                gates.append(made)
            return (
                t + walk.by,
                after,
                _write(kept, walk.after(t), after),
                _write(gates_kept, t, gates),
                readout.add(read, t, after[-1][0], live),
            )

        start = (
            walk.begin,
            zeros,
            [tuple(_kept(walk.length + 1, z) for z in own) for own in zeros],
            [
                tuple(_kept(walk.length, own[0]) for _ in range(layer.cell.gates))
                for layer, own in zip(layers, zeros, strict=True)
            ],
            readout.begin(zeros[-1][0], walk.length),
        )
        _, _, kept, gates_kept, results = tf.while_loop(
            lambda t, *_: walk.goes_on(t), forward, start
        )
        kept, gates_kept = tf.nest.map_structure(lambda k: k.stack(), (kept, gates_kept))

        def gradient(*upstream: Tensor, variables: Any = None) -> Any:
            def backward(t: Tensor, d_states: Any, d_input: Any, d_weights: Any) -> Any:
                live = walk.live(t)
                states = tf.nest.map_structure(lambda k: tf.gather(k, walk.before(t)), kept)
                new = tf.nest.map_structure(lambda k: tf.gather(k, walk.after(t)), kept)
                gates = tf.nest.map_structure(lambda k: tf.gather(k, t), gates_kept)
                d_x = readout.gradient(
                    tf.zeros_like(zeros[-1][0]), upstream, results, Visited(t, live, new[-1][0])
                )
                through, totals = [], []
                for n in reversed(range(len(layers))):
                    kernel, _, *recurrent = weights[n]
                    d_new = list(d_states[n])
                    d_new[0] += d_x
                    d_projected, d_old, d_recurrent = layers[n].cell.backward(
                        [live * d for d in d_new], states[n], new[n], gates[n], recurrent
                    )
                    through.insert(0, tuple(a + (1.0 - live) * b for a, b in zip(d_old, d_new, strict=True)))
                    d_own = d_recurrent
                    if n > 0:
                        d_x, d_kernel = product_gradients(new[n - 1][0], kernel, d_projected)
                        d_own = (d_kernel, tf.reduce_sum(d_projected, axis=0), *d_recurrent)
                    totals.insert(0, tuple(a + b for a, b in zip(d_weights[n], d_own, strict=True)))
                return t - walk.by, through, inputs.add(prepared, d_input, t, d_projected), totals

            at_end = [list(own) for own in zeros]
            at_end[-1][0] = readout.at_end(upstream, zeros[-1][0])
            nothing = [tuple(tf.zeros_like(w) for w in own) for own in weights]
            nothing[0] = nothing[0][2:]
            start = (walk.end, [tuple(own) for own in at_end], inputs.nothing(prepared), nothing)
            _, _, d_input, d_weights = tf.while_loop(
                lambda t, *_: walk.goes_back(t), backward, start
            )
            d_source, *d_first = inputs.gradients(prepared, d_input)
            d_weights[0] = (*d_first, *d_weights[0])
            return tf.nest.flatten((d_source, d_weights))

        return results, gradient

    return tuple(run(*tf.nest.flatten((inputs.source, every_weight))))


def _masked(live: Tensor, new: Tensors, old: Tensors) -> Tensors:
    return tuple(live * a + (1.0 - live) * b for a, b in zip(new, old, strict=True))


def _kept(length: int, like: Tensor) -> tf.TensorArray:
    return tf.TensorArray(like.dtype, length, element_shape=like.shape)


def _write(kept: Any, t: Tensor, values: Any) -> Any:
    return [
        tuple(k.write(t, value) for k, value in zip(own, new, strict=True))
        for own, new in zip(kept, values, strict=True)
    ]
