"""The loop over time through a stack of recurrent layers, and its gradient.

Backpropagation through time (Werbos 1990). The forward loop saves the states and gates of every
time step; the backward loop reads them in reverse order, and takes the gradients of a single step
from the cells, see :mod:`imdbtune.models.cells.base`. ``d_a`` is the gradient of the loss to ``a``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import tensorflow as tf

from imdbtune.models.cells.base import Cell
from imdbtune.models.input_projection import Inputs
from imdbtune.models.sequence_pooling import SequencePooling, StepView
from imdbtune.models.tensors import Tensor, Tensors, product_gradients

ByLayer: TypeAlias = list[Tensors]


@dataclass(frozen=True)
class TimeRange:
    """The time steps of a loop: from column ``start`` to the last one, or in reverse.

    ``mask`` is (time, batch), 1 for words and 0 for padding. All columns before ``start`` are
    padding in every row.
    """

    mask: Tensor
    start: Tensor
    reverse: bool

    @property
    def length(self) -> int:
        """Number of columns."""
        return int(self.mask.shape[0])

    @property
    def stride(self) -> int:
        """Difference between two successive time steps: 1, or -1 in reverse."""
        return -1 if self.reverse else 1

    @property
    def first(self) -> Tensor:
        """The first time step of the forward loop."""
        return tf.constant(self.length - 1) if self.reverse else self.start

    @property
    def last(self) -> Tensor:
        """The last time step of the forward loop."""
        return self.start if self.reverse else tf.constant(self.length - 1)

    def is_up_to_last(self, t: Tensor) -> Tensor:
        """Return the condition of the forward loop, which starts at ``first``."""
        return t >= self.last if self.reverse else t <= self.last

    def is_down_to_first(self, t: Tensor) -> Tensor:
        """Return the condition of the backward loop, which starts at ``last``."""
        return t <= self.first if self.reverse else t >= self.first

    def mask_at(self, t: Tensor) -> Tensor:
        """Return the mask of time step ``t``, (batch, 1)."""
        return tf.gather(self.mask, t)[:, None]

    def index_before(self, t: Tensor) -> Tensor:
        """Return the index of the states before step ``t`` among ``length + 1`` saved ones."""
        return t + 1 if self.reverse else t

    def index_after(self, t: Tensor) -> Tensor:
        """Return the index of the states after step ``t`` among ``length + 1`` saved ones."""
        return t if self.reverse else t + 1


@dataclass(frozen=True)
class Layer:
    """One layer of a stack: its step, its size, and its weights.

    The weights are W and b of its input projection, then those of ``cell``.
    """

    cell: Cell
    units: int
    weights: Tensors


def scan(
    layers: Sequence[Layer], inputs: Inputs, time: TimeRange, pooling: SequencePooling
) -> Tensors:
    """Run stacked layers over time, from zero states; masked rows keep their states.

    Returns:
        The results of ``pooling`` over the outputs of the last layer.
    """
    batch = tf.shape(time.mask)[1]
    zeros = [
        tuple(tf.zeros((batch, layer.units)) for _ in range(layer.cell.states)) for layer in layers
    ]
    arguments = (inputs.source, [layer.weights for layer in layers])

    @tf.custom_gradient
    def run(*flat: Tensor) -> tuple[Tensors, Callable[..., list[Tensor]]]:
        source, weights = tf.nest.pack_sequence_as(arguments, flat)
        prepared = inputs.prepare(source, *weights[0][:2])
        loop = _Loop([a.cell for a in layers], weights, inputs, prepared, time, pooling, zeros)
        results, saved = loop.forward()

        def gradient(*upstream: Tensor, variables: Tensors = ()) -> list[Tensor]:
            gradients: list[Tensor] = tf.nest.flatten(loop.backward(saved, results, upstream))
            return gradients

        return results, gradient

    return tuple(run(*tf.nest.flatten(arguments)))


@dataclass(frozen=True)
class _Saved:
    """States (time + 1, batch, units), and what a cell saves, its gates, (time, batch, units)."""

    states: ByLayer
    gates: ByLayer


@dataclass(frozen=True)
class _Loop:
    """The two loops of :func:`scan`, over the same steps and weights."""

    cells: Sequence[Cell]
    weights: ByLayer
    inputs: Inputs
    prepared: Tensors  # by ``inputs``
    time: TimeRange
    pooling: SequencePooling
    zeros: ByLayer  # the initial states

    def forward(self) -> tuple[Tensors, _Saved]:
        """Return the results of the pooling, and what :meth:`backward` needs."""
        time = self.time

        def step(
            t: Tensor, states: ByLayer, all_states: ByLayer, all_gates: ByLayer, results: Tensors
        ) -> tuple[Tensor, ByLayer, ByLayer, ByLayer, Tensors]:
            mask = time.mask_at(t)
            projected = self.inputs.project(self.prepared, t)
            new, gates = _step(self.cells, projected, states, self.weights)
            states = _map(lambda a, b: mask * a + (1.0 - mask) * b, new, states)
            all_states = _map(lambda a, s: a.write(time.index_after(t), s), all_states, states)
            all_gates = _map(lambda a, gate: a.write(t, gate), all_gates, gates)
            results = self.pooling.update(results, t, states[-1][0], mask)
            return t + time.stride, states, all_states, all_gates, results

        gates = [own[:1] * cell.saved for own, cell in zip(self.zeros, self.cells, strict=True)]
        arrays = (_arrays(self.zeros, time.length + 1), _arrays(gates, time.length))
        results = self.pooling.initial(self.zeros[-1][0], time.length)
        start = (time.first, self.zeros, *arrays, results)
        _, _, *arrays, results = tf.while_loop(lambda t, *_: time.is_up_to_last(t), step, start)
        saved = _Saved(*(_map(lambda array: array.stack(), own) for own in arrays))
        return _materialise_gates(results, self.cells, saved.gates), saved

    def backward(
        self, saved: _Saved, results: Tensors, upstream: Tensors
    ) -> tuple[Tensor, Tensors, ByLayer]:
        """Return the gradients to the source of the inputs, their W and b, and other weights."""
        time = self.time

        def step(
            t: Tensor, d_states: ByLayer, d_inputs: Tensors, d_weights: ByLayer
        ) -> tuple[Tensor, ByLayer, Tensors, ByLayer]:
            mask = time.mask_at(t)
            old = _map(lambda s: tf.gather(s, time.index_before(t)), saved.states)
            new = _map(lambda s: tf.gather(s, time.index_after(t)), saved.states)
            gates = _map(lambda gate: tf.gather(gate, t), saved.gates)
            d_output, *others = d_states[-1]
            view = StepView(t, mask, new[-1][0])
            d_output = self.pooling.step_gradient(d_output, upstream, results, view)
            d_states = [*d_states[:-1], (d_output, *others)]
            d_new = _map(lambda d: mask * d, d_states)
            d_projected, d_old, d_step = _step_back(
                self.cells, d_new, old, new, gates, self.weights
            )
            d_states = _map(lambda a, b: a + (1.0 - mask) * b, d_old, d_states)
            d_weights = _map(tf.add, d_weights, d_step)
            d_inputs = self.inputs.accumulate(self.prepared, d_inputs, t, d_projected)
            return t - time.stride, d_states, d_inputs, d_weights

        d_last = self.pooling.last_gradient(upstream, self.zeros[-1][0])
        d_states = [*self.zeros[:-1], (d_last, *self.zeros[-1][1:])]
        d_weights = _map(tf.zeros_like, [self.weights[0][2:], *self.weights[1:]])
        start = (time.last, d_states, self.inputs.zero_gradients(self.prepared), d_weights)
        _, _, d_inputs, d_weights = tf.while_loop(
            lambda t, *_: time.is_down_to_first(t), step, start
        )
        d_source, *d_projection = self.inputs.gradients(self.prepared, d_inputs)
        return d_source, tuple(d_projection), d_weights


def _step(
    cells: Sequence[Cell], projected: Tensor, states: ByLayer, weights: ByLayer
) -> tuple[ByLayer, ByLayer]:
    """Run one time step through all layers; return the new states and the gates of each."""
    all_new: ByLayer = []
    all_gates: ByLayer = []
    for cell, old, (kernel, bias, *recurrent) in zip(cells, states, weights, strict=True):
        if all_new:
            projected = tf.matmul(all_new[-1][0], kernel) + bias
        new, gates = cell.forward(projected, old, recurrent)
        all_new.append(new)
        all_gates.append(gates)
    return all_new, all_gates


def _step_back(
    cells: Sequence[Cell],
    d_new: ByLayer,
    old: ByLayer,
    new: ByLayer,
    gates: ByLayer,
    weights: ByLayer,
) -> tuple[Tensor, ByLayer, ByLayer]:
    """Return the gradients of :func:`_step` to ``projected``, the states and the weights.

    Those of W and b of the first layer are left to the inputs.
    """
    d_old: ByLayer = []
    d_weights: ByLayer = []
    d_x = 0.0
    for n in reversed(range(len(cells))):
        kernel, _, *recurrent = weights[n]
        d_output, *others = d_new[n]
        d_projected, d_states, d_layer = cells[n].backward(
            (d_output + d_x, *others), old[n], new[n], gates[n], recurrent
        )
        if n > 0:
            d_x, d_kernel = product_gradients(new[n - 1][0], kernel, d_projected)
            d_layer = (d_kernel, tf.reduce_sum(d_projected, axis=0), *d_layer)
        d_old.insert(0, d_states)
        d_weights.insert(0, d_layer)
    return d_projected, d_old, d_weights


def _materialise_gates(results: Tensors, cells: Sequence[Cell], gates: ByLayer) -> Tensors:
    """Return unchanged results that depend on the first ``cell.materialised`` gates of each cell.

    Without a gradient nothing else would read these gates, and XLA would fuse the whole step of a
    GRU into one loop, which takes three times as long as one vectorised loop for each gate.
    """
    needed = [g for cell, own in zip(cells, gates, strict=True) for g in own[: cell.materialised]]
    zero = sum((0.0 * gate[0, 0, 0] for gate in needed), 0.0)
    return (results[0] + zero, *results[1:])


def _arrays(values: ByLayer, length: int) -> ByLayer:
    """Return a ``TensorArray`` of ``length`` elements like each of the ``values``."""
    return _map(lambda v: tf.TensorArray(v.dtype, length, element_shape=v.shape), values)


def _map(function: Callable[..., Tensor], *structures: ByLayer) -> ByLayer:
    mapped: ByLayer = tf.nest.map_structure(function, *structures)
    return mapped
