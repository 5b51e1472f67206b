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

    ``mask`` is (time, batch), 1 or 0; every column before ``first`` is padding in all rows.
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

    def before(self, t):
        return t + 1 if self.backwards else t

    def after(self, t):
        return t if self.backwards else t + 1


@dataclass(frozen=True)
class Visited:
    t: Tensor
    live: Tensor
    output: Tensor


@dataclass(frozen=True)
class Last:
    """Reads out the last output, (batch, units)."""

    def begin(self, zero: Tensor, length: Tensor) -> Results:
        return (zero,)

    def add(self, so_far: Results, t: Tensor, output: Tensor, live: Tensor) -> Results:
        return (output,)

    def at_end(self, upstream, zero):
        return upstream[0]

    def gradient(self, d, upstream: Results, results: Results, step: Visited) -> Tensor:
        return d


@dataclass(frozen=True)
class Whole:
    """Reads out all outputs, (time, batch, units); zero where no step was taken."""

    def begin(self, zero: Tensor, length: Tensor) -> Results:
        """See :class:`Last`."""
        return (tf.zeros((length, *tf.unstack(tf.shape(zero))), zero.dtype),)

    def add(self, so_far: Results, t: Tensor, output: Tensor, live: Tensor) -> Results:
        """See :class:`Last`."""
        return (tf.tensor_scatter_nd_update(so_far[0], [[t]], output[None]),)

    def at_end(self, upstream, zero):
        return zero

    def gradient(self, d, upstream: Results, results: Results, step: Visited) -> Tensor:
        """See :class:`Last`."""
        return d + tf.gather(upstream[0], step.t)


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
        lives = live > 0.5
        higher = tf.logical_and(lives, output > largest)
        equal = tf.cast(tf.logical_and(lives, tf.equal(output, largest)), output.dtype)
        return (
            tf.where(higher, output, largest),
            tf.where(higher, 1.0, times + equal),
            total + live * output,
        )

    def at_end(self, upstream, zero):
        return zero

    def gradient(self, d, upstream: Results, results: Results, step: Visited) -> Tensor:
        """See :class:`Last`."""
        largest, times, _ = results
        d_largest, _, d_total = upstream
        share = tf.where(tf.equal(step.output, largest), d_largest / times, 0.0)
        return d + step.live * (d_total + share)


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
        def forward(t: Tensor, states: Any, states_kept: Any, gates_kept: Any, read: Any) -> Any:
            live = walk.live(t)
            dead = 1.0 - live
            new, gates = stack.forward(weights, inputs.read(source, t), states)
            states = tuple(live * a + dead * b for a, b in zip(new, states, strict=True))
            states_kept = tuple(
                buffer.write(walk.after(t), a) for buffer, a in zip(states_kept, states, strict=True)
            )
            gates_kept = tuple(
                buffer.write(t, a) for buffer, a in zip(gates_kept, gates, strict=True)
            )
            return t + walk.by, states, states_kept, gates_kept, readout.add(read, t, states[output], live)

        start = (
            walk.begin,
            zeros,
            tuple(_buffer(length + 1, zero) for zero in zeros),
            tuple(_buffer(length, zeros[n]) for n in stack.kept_like),
            readout.begin(zeros[output], length),
        )
        _, _, states_kept, gates_kept, results = tf.while_loop(
            lambda t, *_: walk.goes_on(t), forward, start
        )
        states_kept = [b.stack() for b in states_kept]
        gates_kept = [b.stack() for b in gates_kept]

        def gradient(*upstream: Tensor, variables: Any = None) -> Any:
            def backward(t: Tensor, d_states: Any, d_source: Tensor, d_weights: Any) -> Any:
                live = walk.live(t)
                states = [tf.gather(buffer, walk.before(t)) for buffer in states_kept]
                new = [tf.gather(buffer, walk.after(t)) for buffer in states_kept]
                gates = [tf.gather(buffer, t) for buffer in gates_kept]
                visited = Visited(t, live, new[output])
                d_states = list(d_states)
                d_states[output] = readout.gradient(d_states[output], upstream, results, visited)
                d_new = [live * d for d in d_states]
                x = inputs.read(source, t)
                dx, d_through, d_step = stack.backward(weights, x, states, new, gates, d_new)
                d_states = tuple(
                    through + (1.0 - live) * past
                    for through, past in zip(d_through, d_states, strict=True)
                )
                d_weights = tuple(total + d for total, d in zip(d_weights, d_step, strict=True))
                return t - walk.by, d_states, inputs.add(d_source, t, dx), d_weights

            at_end = list(zeros)
            at_end[output] = readout.at_end(upstream, zeros[output])
            start = (
                walk.end,
                tuple(at_end),
                tf.zeros_like(source),
                tuple(tf.zeros_like(w) for w in weights),
            )
            _, _, d_source, d_weights = tf.while_loop(
                lambda t, *_: walk.goes_back(t), backward, start
            )
            return (d_source, *d_weights)

        return results, gradient

    return tuple(run(inputs.source, *stack.weights()))


def _buffer(length: Tensor, like: Tensor) -> tf.TensorArray:
    return tf.TensorArray(like.dtype, length, element_shape=like.shape)


class StackedCells:
    """Cells on top of each other, each with its projection."""

    def __init__(self, cells: Sequence[Any]) -> None:
        self.keras = list(cells)
        self.cells = [CELLS[type(c).__name__]() for c in cells]
        self.state_sizes = [c.units for c, own in zip(cells, self.cells) for _ in range(own.states)]
        firsts = [sum(c.states for c in self.cells[:n]) for n in range(len(cells))]
        self.kept_like = [first for first, own in zip(firsts, self.cells) for _ in range(own.kept)]
        self.output = len(self.state_sizes) - self.cells[-1].states

    def weights(self) -> list[Tensor]:
        """The cells' weights as tensors, in order."""
        return [tf.convert_to_tensor(v.value) for c in self.keras for v in c.trainable_variables]

    def forward(self, weights, x, states):
        new, kept = [], []
        states = list(states)
        for n, cell in enumerate(self.cells):
            w, r, b = weights[3 * n : 3 * n + 3]
            rec = (r, b[1]) if len(b.shape) == 2 else (r,)
            bias = b[0] if len(b.shape) == 2 else b
            after, k = cell.forward(rec, tf.matmul(x, w) + bias, [states.pop(0) for _ in range(cell.states)])
            x = after[0]
            new += after
            kept += k
        return new, kept

    def backward(self, weights, x, states, new, kept, d_new):
        states, new, kept, d_new = map(list, (states, new, kept, d_new))
        take = lambda l, n: [l.pop(0) for _ in range(n)]
        per = []
        for n, cell in enumerate(self.cells):
            own = [weights[3 * n : 3 * n + 3], x, take(states, cell.states), take(new, cell.states), take(kept, cell.kept), take(d_new, cell.states)]
            x = own[3][0]
            per.append((cell, own))
        d_states, d_weights = [], []
        dx = None
        for cell, ((w, r, b), x, st, nw, kp, dn) in reversed(per):
            if dx is not None:
                dn[0] = dn[0] + dx
            rec = (r, b[1]) if len(b.shape) == 2 else (r,)
            dp, ds, dr = cell.backward(rec, st, nw, kp, dn)
            dx = tf.matmul(dp, w, transpose_b=True)
            dw = tf.matmul(x, dp, transpose_a=True)
            db = tf.reduce_sum(dp, 0)
            if len(b.shape) == 2:
                db = tf.stack([db, dr[1]])
            d_states = [*ds, *d_states]
            d_weights = [dw, dr[0], db, *d_weights]
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
            Walk(tf.cast(mask, tf.float32), tf.argmax(used, output_type=tf.int32), backwards=way == 1)
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
