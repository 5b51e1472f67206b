"""Embedding and recurrent layers as one compiled loop, with its gradient written by hand.

Keras runs a recurrent layer as a ``while`` loop and lets TensorFlow derive the gradient. Under
XLA on a CPU that costs twice: every new batch length compiles anew, and the derived gradient
keeps (and with ``return_sequences`` copies) far more than it needs. Here

* the loop runs over the columns in which any review of the batch has a word: the shape that
  is compiled stays (batch, maxlen), the work follows the longest review of each batch;
* the words' vectors are looked up inside the loop and their gradients added to the table there
  (:mod:`imdbtune.models.input_projection`);
* pooling over time is part of the loop, so that no sequence of outputs is put together
  (:mod:`imdbtune.models.sequence_pooling`);
* each step's gradient is that of :mod:`imdbtune.models.cells`, from the states and gates that were
  kept.

Slices at a time step are written as ``tf.gather`` and kept in ``tf.TensorArray``: XLA takes the
index of a ``[t]`` for a constant of the compilation, and would compile anew for each length of
batch. Masks are factors of 1 and 0, which XLA vectorises; conditions often not.

A masked step keeps its state, exactly as in ``keras.layers.RNN``. The mathematics is that of
the Keras cells, whose weights are used; :mod:`imdbtune.models.builders` builds the same model out
of plain Keras layers, with the same weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from imdbtune.models.cells import CELLS
from imdbtune.models.hashed_bigrams import bigram_ids
from imdbtune.models.input_projection import Inputs, Vectors, words
from imdbtune.models.pooling import bag, pool
from imdbtune.models.scan import Layer, TimeRange, scan
from imdbtune.models.sequence_pooling import Last, Pooled, SequencePooling, Whole

Tensor = Any
Tensors = tuple[Tensor, ...]


class FusedRNN(keras.layers.Layer):
    """Ids (batch, maxlen) to what the output layer sees of the recurrence, (batch, features).

    ``cells`` are the layers from bottom to top; with ``bidirectional`` each layer is a pair of
    cells, forwards and backwards, whose outputs are joined. ``pooling`` is that of
    :class:`imdbtune.config.hyperparameters.TrialParams`, and so are ``bigrams``,
    ``spatial_dropout`` and ``skip``.
    Id 0 is padding, and masked.
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
        skip: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(name="recurrence")
        self.embedding = DenseEmbedding(vocabulary, embedding, name="embedding")
        self.bigrams = DenseEmbedding(bigrams, embedding, name="bigrams") if bigrams else None
        self.skip = skip
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
            TimeRange(
                tf.cast(mask, tf.float32), tf.argmax(used, output_type=tf.int32), backwards=way == 1
            )
            for way in range(self.ways)
        ]
        inputs = self._inputs(ids, by_time, training)
        features = self._recur(ids, mask, walks, inputs)
        if not self.skip:
            return features
        return tf.concat([features, bag(ids, tf.transpose(inputs.source, [1, 0, 2]))], -1)

    def _recur(
        self, ids: Tensor, mask: Tensor, walks: Sequence[TimeRange], inputs: Inputs
    ) -> Tensor:
        """What is read out of the recurrence, (batch, features)."""
        layers = [self.cells]  # in one direction all layers are one loop
        if self.ways == 2:
            layers = [self.cells[first : first + 2] for first in range(0, len(self.cells), 2)]
        for pair in layers[:-1]:
            both = [_run([c], inputs, w, Whole())[0] for c, w in zip(pair, walks, strict=True)]
            inputs = Vectors(tf.concat(both, -1))
        stacks = [layers[-1]] if self.ways == 1 else [[cell] for cell in layers[-1]]
        readout: SequencePooling = Last() if self.pooling == "last" else Pooled()
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

    def _inputs(self, ids: Tensor, by_time: Tensor, training: bool) -> Inputs:
        dropped = training and self.dropout.rate > 0
        if self.bigrams is None and not dropped and not self.skip:
            return words(tf.convert_to_tensor(self.embedding.embeddings), by_time)
        vectors = self.embedding(ids)
        if self.bigrams is not None:
            vectors += self.bigrams(bigram_ids(ids, self.bigrams.input_dim))
        return Vectors(tf.transpose(self.dropout(vectors, training=training), [1, 0, 2]))


def _run(
    cells: Sequence[Any], inputs: Inputs, walk: TimeRange, readout: SequencePooling
) -> Tensors:
    return scan([_layer(cell) for cell in cells], inputs, walk, readout)


def _layer(cell: Any) -> Layer:
    """A Keras cell, with its default activations, as the loop knows it."""
    own = CELLS[type(cell).__name__]
    kernel, recurrent, bias = (tf.convert_to_tensor(v.value) for v in cell.trainable_variables)
    bias, more = own.split(bias)
    return Layer(own, cell.units, (kernel, bias, recurrent, *more))


class DenseEmbedding(keras.layers.Embedding):
    """An embedding whose gradient is one tensor, as it is in :class:`FusedRNN`.

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
