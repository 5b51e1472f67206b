"""Embedding and recurrent layers as one compiled loop, with a hand-written gradient.

Keras runs a recurrent layer as a ``while`` loop, and TensorFlow derives its gradient. Under XLA
on a CPU this has two costs: every new batch length is compiled again, and the derived gradient
saves (and with ``return_sequences`` copies) far more than it needs. Here

* the loop runs over the columns in which any review of the batch has a word: the compiled shape
  stays the same, that of the ids, the work follows the longest review of each batch;
* the word vectors are looked up inside the loop, which also adds their gradients to the table
  (:mod:`imdbtune.models.input_projection`);
* pooling over time is part of the loop, so there is no sequence of outputs
  (:mod:`imdbtune.models.sequence_pooling`);
* the gradient of each step is computed from its saved states and gates
  (:mod:`imdbtune.models.cells.base`).

Slices at a time step are read with ``tf.gather`` and saved in a ``tf.TensorArray``: XLA treats the
index of a ``[t]`` as a constant, and would compile again for each batch length. Masks are factors
of 1 and 0, which XLA vectorises; it often does not vectorise conditions.

A masked step keeps its state, exactly as in ``keras.layers.RNN``. The mathematics is that of
the Keras cells, whose weights are used; :mod:`imdbtune.models.builders` builds the same model from
plain Keras layers, with the same weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from imdbtune.config.extensions import CELLS
from imdbtune.config.hyperparameters import TrialParams
from imdbtune.models.hashed_bigrams import bigram_ids
from imdbtune.models.input_projection import Inputs, VectorSequence, embedded_words
from imdbtune.models.pooling import bag, pool
from imdbtune.models.scan import Layer, TimeRange, scan
from imdbtune.models.sequence_pooling import AllOutputs, LastOutput, MaxAndSum, SequencePooling
from imdbtune.models.tensors import Tensor, Tensors


class FusedRNN(keras.layers.Layer):
    """Word ids (batch, time) to the pooled outputs of recurrent layers, (batch, features).

    Id 0 is padding, and masked. A bidirectional layer is a pair of cells, forward and backward,
    whose outputs are concatenated. ``seed`` is that of the spatial dropout. With n-grams, the
    inputs are a pair of the ids and the further inputs (batch, time, features).
    """

    def __init__(self, params: TrialParams, seed: int = 0) -> None:
        super().__init__(name="recurrence")
        self.cell = CELLS[params.rnn]
        self.pooling, self.skip, self.ngrams = params.pooling, params.skip, params.ngrams
        self.directions = 2 if params.bidirectional else 1
        self.embedding = DenseEmbedding(params.vocabulary, params.embedding, name="embedding")
        self.bigrams = None
        if params.bigrams:
            self.bigrams = DenseEmbedding(params.bigrams, params.embedding, name="bigrams")
        self.dropout = keras.layers.SpatialDropout1D(params.spatial_dropout, seed=seed)
        count = params.depth * self.directions
        # From the bottom layer to the top.
        self.keras_cells = [self.cell.keras_cell(params.units) for _ in range(count)]
        self.attention = keras.layers.Dense(1, use_bias=False, name="attention")

    def build(self, input_shape: Any) -> None:
        """Create the weights, in the same order as Keras's layers."""
        self.embedding.build(None)
        if self.bigrams is not None:
            self.bigrams.build(None)
        self.vector_size = self.embedding.output_dim + (input_shape[1][-1] if self.ngrams else 0)
        features = self.vector_size
        for layer in self._cells_by_layer():
            for cell in layer:
                cell.build((None, features))
            features = sum(cell.units for cell in layer)
        if "attention" in self.pooling:
            self.attention.build((None, features))
        self.built = True

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, int]:
        """Return (batch, features); the loop itself needs to know the number of time steps."""
        features = self.directions * self.keras_cells[-1].units * len(self.pooling.split("_"))
        batch = (input_shape[0] if self.ngrams else input_shape)[0]
        return batch, features + (self.vector_size if self.skip else 0)

    def call(self, inputs: Any, training: bool = False) -> Tensor:
        """Return the features of the reviews, (batch, features)."""
        ids, further = inputs if self.ngrams else (inputs, None)
        ids_by_time = tf.transpose(ids)
        is_word = tf.not_equal(ids_by_time, 0)
        mask = tf.cast(is_word, tf.float32)
        has_word = tf.cast(tf.reduce_any(is_word, axis=1), tf.int32)
        start = tf.argmax(has_word, output_type=tf.int32)
        ranges = [TimeRange(mask, start, reverse) for reverse in (False, True)[: self.directions]]
        read = self._inputs(ids, ids_by_time, further, training)
        features = self._pooled(ids, mask, self._recur(ranges, read))
        if not self.skip:
            return features
        return tf.concat([features, bag(ids, tf.transpose(read.source, [1, 0, 2]))], -1)

    def _cells_by_layer(self) -> list[list[keras.layers.Layer]]:
        """Return the cells of each layer: one, or one for each direction."""
        cells, step = self.keras_cells, self.directions
        return [cells[first : first + step] for first in range(0, len(cells), step)]

    def _inputs(
        self, ids: Tensor, ids_by_time: Tensor, further: Tensor | None, training: bool
    ) -> Inputs:
        is_simple = self.bigrams is None and further is None and not self.skip
        if is_simple and not (training and self.dropout.rate > 0):
            return embedded_words(tf.convert_to_tensor(self.embedding.embeddings), ids_by_time)
        vectors = self.embedding(ids)
        if self.bigrams is not None:
            vectors += self.bigrams(bigram_ids(ids, self.bigrams.input_dim))
        vectors = self.dropout(vectors, training=training)
        if further is not None:
            vectors = tf.concat([vectors, further], axis=-1)
        return VectorSequence(tf.transpose(vectors, [1, 0, 2]))

    def _recur(self, ranges: Sequence[TimeRange], inputs: Inputs) -> Tensors:
        """Return the results of :meth:`_loop_pooling`; those of two directions are concatenated."""
        pooling = self._loop_pooling()
        if self.directions == 1:  # all layers are one loop
            return self._run(self.keras_cells, inputs, ranges[0], pooling)
        *lower, top = self._cells_by_layer()
        for cells in lower:
            pair = zip(cells, ranges, strict=True)
            outputs = [self._run([cell], inputs, time, AllOutputs())[0] for cell, time in pair]
            inputs = VectorSequence(tf.concat(outputs, -1))
        pair = zip(top, ranges, strict=True)
        results = [self._run([cell], inputs, time, pooling) for cell, time in pair]
        return tuple(tf.concat(parts, -1) for parts in zip(*results, strict=True))

    def _loop_pooling(self) -> SequencePooling:
        """Attention needs all outputs; the other poolings are part of the loop."""
        if self.pooling == "last":
            return LastOutput()
        return AllOutputs() if "attention" in self.pooling else MaxAndSum(self.cell.bound)

    def _pooled(self, ids: Tensor, mask: Tensor, results: Tensors) -> Tensor:
        """Return the features (batch, features) of the loop's results."""
        if self.pooling == "last":
            return results[0]
        if "attention" in self.pooling:
            outputs = tf.transpose(results[0], [1, 0, 2])
            return pool(self.pooling, ids, outputs, self.attention, self.cell.bound)
        maximum, _, total = results
        count = tf.maximum(tf.reduce_sum(mask, axis=0), 1.0)
        pooled = {"max": maximum, "mean": total / count[:, None]}
        return tf.concat([pooled[name] for name in self.pooling.split("_")], -1)

    def _run(
        self,
        cells: Sequence[keras.layers.Layer],
        inputs: Inputs,
        time: TimeRange,
        pooling: SequencePooling,
    ) -> Tensors:
        return scan([self._layer(cell) for cell in cells], inputs, time, pooling)

    def _layer(self, keras_cell: keras.layers.Layer) -> Layer:
        """Return a cell of Keras as a layer of :func:`scan`."""
        variables = keras_cell.trainable_variables
        kernel, recurrent, bias = (tf.convert_to_tensor(v.value) for v in variables)
        biases = (bias,) if bias.shape.rank == 1 else (bias[0], bias[1])
        return Layer(self.cell, keras_cell.units, (kernel, biases[0], recurrent, *biases[1:]))


class DenseEmbedding(keras.layers.Embedding):
    """An embedding with a dense gradient, as in :class:`FusedRNN`.

    The gradient of TensorFlow's lookup has an entry for each word of the batch, and Keras's
    optimizers square the entries instead of their sums: the second moment is too small for
    frequent words. With a dense gradient both forms of a model learn in the same way.
    """

    def call(self, inputs: Tensor) -> Tensor:
        """Return the vectors of word ids; the gradient is TensorFlow's, summed by word."""

        @tf.custom_gradient
        def summed(table: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
            return tf.identity(table), tf.convert_to_tensor

        return tf.gather(summed(tf.convert_to_tensor(self.embeddings)), inputs)
