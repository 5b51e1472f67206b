"""The loop over time, through a stack of layers, and the loop back with its gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from imdbtune.models.cells import Cell, product_gradients
from imdbtune.models.input_projection import Inputs
from imdbtune.models.sequence_pooling import SequencePooling, StepView

Tensor = Any
Tensors = tuple[Tensor, ...]


@dataclass(frozen=True)
class TimeRange:
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


def scan(
    layers: Sequence[Layer], inputs: Inputs, walk: TimeRange, readout: SequencePooling
) -> Tensors:
    """Run layers on top of each other over time, from states of zero; masked rows keep theirs.

    Returns:
        What ``readout`` makes of the outputs of the last layer.
    """
    cells = [layer.cell for layer in layers]
    every_weight = [layer.weights for layer in layers]
    batch = tf.shape(walk.mask)[1]
    zeros = [tuple(tf.zeros((batch, a.units)) for _ in range(a.cell.states)) for a in layers]
    no_output = zeros[-1][0]

    @tf.custom_gradient
    def run(*flat: Tensor) -> Any:
        source, weights = tf.nest.pack_sequence_as((inputs.source, every_weight), flat)
        prepared = inputs.prepare(source, *weights[0][:2])

        def forward(t: Tensor, states: Any, kept: Any, kept_gates: Any, read: Any) -> Any:
            live = walk.live(t)
            new, gates = _step(cells, inputs.projected(prepared, t), states, weights)
            states = _map(lambda a, b: live * a + (1.0 - live) * b, new, states)
            kept = _map(lambda k, value: k.write(walk.after(t), value), kept, states)
            kept_gates = _map(lambda k, value: k.write(t, value), kept_gates, gates)
            return t + walk.by, states, kept, kept_gates, readout.add(read, t, states[-1][0], live)

        places = [tuple(_places(walk.length + 1, z) for z in own) for own in zeros]
        gates = [own[:1] * cell.gates for own, cell in zip(zeros, cells, strict=True)]
        gate_places = _map(lambda z: _places(walk.length, z), gates)
        begun = readout.begin(no_output, walk.length)
        start = (walk.begin, zeros, places, gate_places, begun)
        _, _, *kept, results = tf.while_loop(lambda t, *_: walk.goes_on(t), forward, start)
        kept, kept_gates = _map(lambda k: k.stack(), kept)
        results = _tied(results, cells, kept_gates)

        def gradient(*upstream: Tensor, variables: Any = None) -> Any:
            def backward(t: Tensor, d_states: Any, d_input: Any, d_weights: Any) -> Any:
                live = walk.live(t)
                old = _map(lambda k: tf.gather(k, walk.before(t)), kept)
                new = _map(lambda k: tf.gather(k, walk.after(t)), kept)
                gates = _map(lambda k: tf.gather(k, t), kept_gates)
                d_output, *others = d_states[-1]
                visited = StepView(t, live, new[-1][0])
                d_output = readout.gradient(d_output, upstream, results, visited)
                d_states = [*d_states[:-1], (d_output, *others)]
                d_new = _map(lambda d: live * d, d_states)
                d_projected, d_old, d_step = _step_back(cells, d_new, old, new, gates, weights)
                d_states = _map(lambda a, b: a + (1.0 - live) * b, d_old, d_states)
                d_weights = _map(tf.add, d_weights, d_step)
                return (
                    t - walk.by,
                    d_states,
                    inputs.add(prepared, d_input, t, d_projected),
                    d_weights,
                )

            at_end = [*zeros[:-1], (readout.at_end(upstream, no_output), *zeros[-1][1:])]
            nothing = _map(tf.zeros_like, [weights[0][2:], *weights[1:]])
            start = (walk.end, at_end, inputs.nothing(prepared), nothing)
            _, _, d_input, d_weights = tf.while_loop(
                lambda t, *_: walk.goes_back(t), backward, start
            )
            d_source, *d_projection = inputs.gradients(prepared, d_input)
            return tf.nest.flatten((d_source, d_projection, d_weights))

        return results, gradient

    return tuple(run(*tf.nest.flatten((inputs.source, every_weight))))


def _step(cells: Sequence[Cell], projected: Tensor, states: Any, weights: Any) -> tuple[Any, Any]:
    """One time step through all layers: for each its new states, and its gates."""
    new: list[Tensors] = []
    gates: list[Tensors] = []
    for cell, old, (kernel, bias, *recurrent) in zip(cells, states, weights, strict=True):
        if new:
            projected = tf.matmul(new[-1][0], kernel) + bias
        after, made = cell.forward(projected, old, recurrent)
        new.append(after)
        gates.append(made)
    return new, gates


def _step_back(
    cells: Sequence[Cell], d_new: Any, old: Any, new: Any, gates: Any, weights: Any
) -> tuple[Tensor, Any, Any]:
    """Its gradients to what it was given; of the first layer's weights only to the cell's own."""
    d_old: list[Tensors] = []
    d_weights: list[Tensors] = []
    d_x = 0.0
    for n in reversed(range(len(cells))):
        kernel, _, *recurrent = weights[n]
        d_output, *others = d_new[n]
        d_projected, d_before, d_own = cells[n].backward(
            (d_output + d_x, *others), old[n], new[n], gates[n], recurrent
        )
        if n > 0:
            d_x, d_kernel = product_gradients(new[n - 1][0], kernel, d_projected)
            d_own = (d_kernel, tf.reduce_sum(d_projected, axis=0), *d_own)
        d_old.insert(0, d_before)
        d_weights.insert(0, d_own)
    return d_projected, d_old, d_weights


def _tied(results: Tensors, cells: Sequence[Cell], kept_gates: Any) -> Tensors:
    """The same results, which need the gates that the cells hold on to.

    Where no gradient is asked for nothing else does, and XLA makes one loop of the whole step of
    a GRU, which takes three times as long as a vectorised one for each gate.
    """
    held = [gate for cell, own in zip(cells, kept_gates, strict=True) for gate in own[: cell.held]]
    nothing = sum((0.0 * gate[0, 0, 0] for gate in held), 0.0)
    return (results[0] + nothing, *results[1:])


def _places(length: int, like: Tensor) -> tf.TensorArray:
    return tf.TensorArray(like.dtype, length, element_shape=like.shape)


def _map(function: Any, *structures: Any) -> Any:
    return tf.nest.map_structure(function, *structures)
