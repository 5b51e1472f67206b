"""Embedding and recurrent layers as one compiled loop, with its gradient written by hand.

Keras runs a recurrent layer as a ``while`` loop and lets TensorFlow derive the gradient. Under
XLA on a CPU that costs twice: every new batch length compiles anew, and the derived gradient
keeps (and with ``return_sequences`` copies) far more than it needs. Here

* the loop runs over the columns in which any review of the batch has a word: the shape that
  is compiled stays (batch, maxlen), the work follows the longest review of each batch;
* the words' vectors are looked up inside the loop and their gradients added to the table there;
* pooling over time is part of the loop, so that no sequence of outputs is put together;
* going back, only the states are kept; each step is computed again and differentiated by itself
  (checkpointing as in Chen et al. 2016, "Training deep nets with sublinear memory cost").

Slices at a time step are written as ``tf.gather``: XLA takes the index of a ``[t]`` for a constant
of the compilation, and would compile anew for each length of batch.

A masked step keeps its state, exactly as in ``keras.layers.RNN``. The mathematics is that of
the Keras cells, whose ``call`` is what each step runs; :mod:`imdbtune.model` builds the same
model out of plain Keras layers, with the same weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import tensorflow as tf

from imdbtune.bigrams import bigram_ids
from imdbtune.cells import CELLS
from imdbtune.pooling import pool

Tensor = Any
Results = tuple[Tensor, ...]
Step = Callable[[Tensor, Sequence[Tensor], Sequence[Tensor]], list[Tensor]]


@dataclass(frozen=True)
class Words:
    """Inputs looked up in an embedding table (words, features) by ids of shape (time, batch)."""

    table: Tensor
    ids: Tensor

    @property
    def source(self) -> Tensor:
        """What receives a gradient."""
        return self.table

    def read(self, source: Tensor, t: Tensor) -> Tensor:
        """The vectors (batch, features) of time step ``t``."""
        return tf.gather(source, tf.gather(self.ids, t))

    def add(self, gradient: Tensor, t: Tensor, dx: Tensor) -> Tensor:
        """``gradient`` (of the table) with the step's ``dx`` added."""
        return tf.tensor_scatter_nd_add(gradient, tf.gather(self.ids, t)[:, None], dx)


@dataclass(frozen=True)
class Features:
    """Inputs given as a sequence of shape (time, batch, features)."""

    values: Tensor

    @property
    def source(self) -> Tensor:
        """What receives a gradient."""
        return self.values

    def read(self, source: Tensor, t: Tensor) -> Tensor:
        """The features (batch, features) of time step ``t``."""
        return tf.gather(source, t)

    def add(self, gradient: Tensor, t: Tensor, dx: Tensor) -> Tensor:
        """``gradient`` (of the sequence) with the step's ``dx`` set."""
        return tf.tensor_scatter_nd_update(gradient, [[t]], dx[None])


@dataclass(frozen=True)
class Walk:
    """Which time steps a loop visits: from ``first`` to the last one, or the other way round.

    ``mask`` is (time, batch); every column before ``first`` is padding in all rows.
    """

    mask: Tensor
    first: Tensor
    backwards: bool

    def __post_init__(self) -> None:
        last = tf.shape(self.mask)[0] - 1
        begin, end = (last, self.first) if self.backwards else (self.first, last)
        for name, value in {"begin": begin, "end": end, "by": -1 if self.backwards else 1}.items():
            object.__setattr__(self, name, value)

    begin: Tensor = field(init=False)
    end: Tensor = field(init=False)
    by: int = field(init=False)

    def goes_on(self, t: Tensor) -> Tensor:
        """Whether time step ``t`` is still to be visited."""
        return t >= self.end if self.backwards else t <= self.end

    def goes_back(self, t: Tensor) -> Tensor:
        """The same on the way back to the beginning."""
        return t <= self.begin if self.backwards else t >= self.begin

    def live(self, t: Tensor) -> Tensor:
        """Which rows have a word at ``t``, (batch, 1)."""
        return tf.gather(self.mask, t)[:, None]


@dataclass(frozen=True)
class Visited:
    """A time step on the way back: which rows are words, what came out, if it was the last one."""

    t: Tensor
    live: Tensor
    output: Tensor
    is_end: Tensor


@dataclass(frozen=True)
class Last:
    """Reads out the last output, (batch, units)."""

    def begin(self, zero: Tensor, length: Tensor) -> Results:
        """What is known before the first step."""
        return (zero,)

    def add(self, so_far: Results, t: Tensor, output: Tensor, live: Tensor) -> Results:
        """What is known after step ``t``; where not ``live`` (batch, 1) it is the old output."""
        return (output,)

    def gradient(self, upstream: Results, results: Results, step: Visited) -> Tensor:
        """What a loss over the results asks of the output of one step, seen directly."""
        return tf.where(step.is_end, upstream[0], 0.0)


@dataclass(frozen=True)
class Whole:
    """Reads out all outputs, (time, batch, units); zero where no step was taken."""

    def begin(self, zero: Tensor, length: Tensor) -> Results:
        """See :class:`Last`."""
        return (tf.zeros((length, *tf.unstack(tf.shape(zero))), zero.dtype),)

    def add(self, so_far: Results, t: Tensor, output: Tensor, live: Tensor) -> Results:
        """See :class:`Last`."""
        return (tf.tensor_scatter_nd_update(so_far[0], [[t]], output[None]),)

    def gradient(self, upstream: Results, results: Results, step: Visited) -> Tensor:
        """See :class:`Last`."""
        return tf.gather(upstream[0], step.t)


@dataclass(frozen=True)
class Pooled:
    """Reads out the largest output of the words, how often it occurs, and their sum.

    Each is (batch, units). The sequence of outputs is nowhere put together: neither here nor,
    as its gradient, on the way back. Equal largest outputs share the gradient, as in Keras.
    """

    def begin(self, zero: Tensor, length: Tensor) -> Results:
        """See :class:`Last`; every output lies between -1 and 1, so -1 never wins."""
        return (zero - 1.0, zero, zero)

    def add(self, so_far: Results, t: Tensor, output: Tensor, live: Tensor) -> Results:
        """See :class:`Last`."""
        largest, times, total = so_far
        higher = tf.logical_and(live, output > largest)
        equal = tf.cast(tf.logical_and(live, tf.equal(output, largest)), output.dtype)
        return (
            tf.where(higher, output, largest),
            tf.where(higher, 1.0, times + equal),
            total + tf.where(live, output, 0.0),
        )

    def gradient(self, upstream: Results, results: Results, step: Visited) -> Tensor:
        """See :class:`Last`."""
        largest, times, _ = results
        d_largest, _, d_total = upstream
        share = tf.where(tf.equal(step.output, largest), d_largest / times, 0.0)
        return tf.where(step.live, d_total + share, 0.0)


def _write(buffer: Tensor, t: Tensor, value: Tensor) -> Tensor:
    return tf.tensor_scatter_nd_update(buffer, [[t]], value[None])


def _buffer(length: Tensor, batch: Tensor, features: int) -> Tensor:
    return tf.zeros((length, batch, features))


def scan(
    stack: StackedCells,
    inputs: Words | Features,
    walk: Walk,
    readout: Last | Whole | Pooled,
) -> Results:
    length, batch = tf.unstack(tf.shape(walk.mask))
    zeros = tuple(tf.zeros((batch, size)) for size in stack.state_sizes)
    output = stack.output

    @tf.custom_gradient
    def run(source: Tensor, *weights: Tensor) -> Any:
        packed = stack.pack(weights)

        def forward(t: Tensor, states: Any, buffers: Any, read: Any) -> Any:
            live = walk.live(t)
            new, kept = stack.forward(packed, inputs.read(source, t), states)
            states = tuple(tf.where(live, a, b) for a, b in zip(new, states, strict=True))
            buffers = tuple(
                _write(buffer, t, a) for buffer, a in zip(buffers, (*states, *kept), strict=True)
            )
            return t + walk.by, states, buffers, readout.add(read, t, states[output], live)

        buffers = tuple(_buffer(length, batch, n) for n in (*stack.state_sizes, *stack.kept_sizes))
        start = (walk.begin, zeros, buffers, readout.begin(zeros[output], length))
        _, _, buffers, results = tf.while_loop(lambda t, *_: walk.goes_on(t), forward, start)

        def gradient(*upstream: Tensor, variables: Any = None) -> Any:
            def backward(t: Tensor, d_states: Any, d_source: Tensor, d_packed: Any) -> Any:
                live = walk.live(t)
                is_first = tf.equal(t, walk.begin)
                before = tf.where(is_first, t, t - walk.by)
                states = [
                    tf.where(is_first, 0.0, tf.gather(buffer, before))
                    for buffer in buffers[: len(zeros)]
                ]
                now = [tf.gather(buffer, t) for buffer in buffers]
                visited = Visited(t, live, now[output], tf.equal(t, walk.end))
                d_states = list(d_states)
                d_states[output] += readout.gradient(upstream, results, visited)
                d_new = [tf.where(live, d, 0.0) for d in d_states]
                x = inputs.read(source, t)
                dx, d_through, d_step = stack.backward(
                    packed, x, states, now[: len(zeros)], now[len(zeros) :], d_new
                )
                d_states = tuple(
                    through + tf.where(live, 0.0, past)
                    for through, past in zip(d_through, d_states, strict=True)
                )
                d_packed = tuple(total + d for total, d in zip(d_packed, d_step, strict=True))
                return t - walk.by, d_states, inputs.add(d_source, t, dx), d_packed

            nothing = tuple(tf.zeros_like(w) for w in packed)
            start = (walk.end, zeros, tf.zeros_like(source), nothing)
            _, _, d_source, d_packed = tf.while_loop(
                lambda t, *_: walk.goes_back(t), backward, start
            )
            return (d_source, *stack.unpack(d_packed))

        return results, gradient

    return tuple(run(inputs.source, *stack.weights()))


class StackedCells:
    """Keras cells on top of each other as one ``step`` over a flat list of states and weights."""

    def __init__(self, cells: Sequence[Any]) -> None:
        self.keras = list(cells)
        self.cells = [CELLS[type(c).__name__](c.kernel.shape[0]) for c in cells]
        self.state_sizes = [c.units for c, own in zip(cells, self.cells) for _ in range(own.states)]
        self.kept_sizes = [n * c.units for c, own in zip(cells, self.cells) for n in own.kept]
        self.output = len(self.state_sizes) - self.cells[-1].states

    def weights(self) -> list[Tensor]:
        """The cells' weights as tensors, in order."""
        return [tf.convert_to_tensor(v.value) for c in self.keras for v in c.trainable_variables]

    def pack(self, weights):
        weights = list(weights)
        packed = [c.pack([weights.pop(0) for _ in range(3)]) for c in self.cells]
        self.counts = [len(p) for p in packed]
        return tuple(w for p in packed for w in p)

    def unpack(self, d):
        d = list(d)
        return [w for c, n in zip(self.cells, self.counts) for w in c.unpack([d.pop(0) for _ in range(n)])]

    def forward(self, weights, x, states):
        weights, states, new, kept = list(weights), list(states), [], []
        for cell, n in zip(self.cells, self.counts):
            after, k = cell.forward([weights.pop(0) for _ in range(n)], x, [states.pop(0) for _ in range(cell.states)])
            x = after[0]
            new += after
            kept += k
        return new, kept

    def backward(self, weights, x, states, new, kept, d_new):
        weights, states, new, kept, d_new = map(list, (weights, states, new, kept, d_new))
        take = lambda l, n: [l.pop(0) for _ in range(n)]
        per = []
        for cell, n in zip(self.cells, self.counts):
            own = (take(weights, n), x, take(states, cell.states), take(new, cell.states), take(kept, len(cell.kept)), take(d_new, cell.states))
            x = own[3][0]
            per.append((cell, own))
        d_states, d_weights = [], []
        dx = None
        for cell, own in reversed(per):
            if dx is not None:
                own[5][0] = own[5][0] + dx
            dx, ds, dw = cell.backward(*own)
            d_states = [*ds, *d_states]
            d_weights = [*dw, *d_weights]
        return dx, d_states, d_weights


class Recurrence(keras.layers.Layer):
    """Ids (batch, maxlen) to what the output layer sees of the recurrence, (batch, features).

    ``cells`` are the layers from bottom to top; with ``bidirectional`` each layer is a pair of
    cells, forwards and backwards, whose outputs are joined. ``pooling`` is that of
    :class:`imdbtune.params.TrialParams`, and so are ``bigrams`` and ``spatial_dropout``. Id 0 is
    padding, and masked.
    """

    def __init__(
        self,
        vocabulary: int,
        embedding: int,
        cells: Sequence[Any],
        bidirectional: bool = False,
        pooling: str = "last",
        bigrams: int = 0,
        spatial_dropout: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__(name="recurrence")
        self.embedding = DenseEmbedding(vocabulary, embedding, name="embedding")
        self.bigrams = DenseEmbedding(bigrams, embedding, name="bigrams") if bigrams else None
        self.dropout = keras.layers.SpatialDropout1D(spatial_dropout, seed=seed)
        self.cells = list(cells)
        self.attention = keras.layers.Dense(1, use_bias=False, name="attention")
        self.ways = 2 if bidirectional else 1
        self.pooling = pooling

    def build(self, input_shape: Any) -> None:
        """Create the weights, in the order in which Keras's own layers would."""
        self.embedding.build(input_shape)
        if self.bigrams is not None:
            self.bigrams.build(input_shape)
        features = self.embedding.output_dim
        for first in range(0, len(self.cells), self.ways):
            for cell in self.cells[first : first + self.ways]:
                cell.build((None, features))
            features = self.cells[first].units * self.ways
        if "attention" in self.pooling:
            self.attention.build((None, features))
        self.built = True

    def call(self, ids: Tensor, training: bool = False) -> Tensor:
        """See the class."""
        by_time = tf.transpose(ids)
        mask = tf.not_equal(by_time, 0)
        used = tf.cast(tf.reduce_any(mask, axis=1), tf.int32)
        walks = [
            Walk(mask, tf.argmax(used, output_type=tf.int32), backwards=way == 1)
            for way in range(self.ways)
        ]
        inputs = self._inputs(ids, by_time, training)
        layers = [self.cells]  # in one direction all layers are one loop
        if self.ways == 2:
            layers = [self.cells[first : first + 2] for first in range(0, len(self.cells), 2)]
        for pair in layers[:-1]:
            both = [_run([c], inputs, w, Whole())[0] for c, w in zip(pair, walks, strict=True)]
            inputs = Features(tf.concat(both, -1))
        stacks = [layers[-1]] if self.ways == 1 else [[cell] for cell in layers[-1]]
        readout: Last | Whole | Pooled = Last() if self.pooling == "last" else Pooled()
        if "attention" in self.pooling:
            readout = Whole()
        results = [_run(s, inputs, w, readout) for s, w in zip(stacks, walks, strict=True)]
        joined = [tf.concat(r, -1) for r in zip(*results, strict=True)]
        if isinstance(readout, Last):
            return joined[0]
        if isinstance(readout, Pooled):
            words = tf.maximum(tf.reduce_sum(tf.cast(mask, tf.float32), axis=0), 1.0)
            found = {"max": joined[0], "mean": joined[2] / words[:, None]}
            return tf.concat([found[name] for name in self.pooling.split("_")], -1)
        outputs = tf.transpose(joined[0], [1, 0, 2])
        return pool(self.pooling, ids, outputs, self.attention)

    def _inputs(self, ids: Tensor, by_time: Tensor, training: bool) -> Words | Features:
        dropped = training and self.dropout.rate > 0
        if self.bigrams is None and not dropped:
            return Words(tf.convert_to_tensor(self.embedding.embeddings), by_time)
        vectors = self.embedding(ids)
        if self.bigrams is not None:
            vectors += self.bigrams(bigram_ids(ids, self.bigrams.input_dim))
        return Features(tf.transpose(self.dropout(vectors, training=training), [1, 0, 2]))


def _run(
    cells: Sequence[Any], inputs: Words | Features, walk: Walk, readout: Last | Whole | Pooled
) -> Results:
    return scan(StackedCells(cells), inputs, walk, readout)


class DenseEmbedding(keras.layers.Embedding):
    """An embedding whose gradient is one tensor, as it is in :class:`Recurrence`.

    TensorFlow gives the gradient of a lookup as a list with an entry for each word of the batch,
    and Keras's optimizers square the entries instead of their sums: a second moment that is too
    small for frequent words. Both forms of a model are to learn alike.
    """

    def call(self, inputs: Tensor) -> Tensor:
        """Ids to vectors; the default gradient, summed by word."""

        @tf.custom_gradient
        def summed(table: Tensor) -> Any:
            return tf.identity(table), tf.convert_to_tensor

        return tf.gather(summed(tf.convert_to_tensor(self.embeddings)), inputs)
