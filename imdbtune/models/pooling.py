"""Pooling over time: what the output layer sees of a sequence of outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras import ops

from imdbtune.data.corpus import PAD


def pool(pooling: str, ids: Any, sequence: Any, score: Callable[[Any], Any]) -> Any:
    """The poolings that ``pooling`` names, of (batch, time, units), side by side.

    Padding is left out. ``score`` gives attention a number (batch, time, 1) for each word: the
    higher it is, the more of the mean is the word's (their softmax over time).
    """
    is_word = ops.expand_dims(ops.not_equal(ids, PAD), -1)
    pooled = []
    for name in pooling.split("_"):
        if name == "max":
            # Every output lies between -1 and 1, so -1 never wins against a word.
            pooled.append(ops.max(ops.where(is_word, sequence, -1.0), axis=1))
        elif name == "mean":
            words = ops.cast(is_word, "float32")
            total = ops.sum(sequence * words, axis=1)
            pooled.append(total / ops.maximum(ops.sum(words, axis=1), 1.0))
        else:
            pooled.append(_attended(sequence, ops.where(is_word, score(sequence), -1e9)))
    return pooled[0] if len(pooled) == 1 else ops.concatenate(pooled, axis=-1)


def bag(ids: Any, vectors: Any) -> Any:
    """The sum of the words' vectors, (batch, time, features), over the root of their number.

    What a skip connection hands to the output layer: as large for long reviews as for short ones.
    """
    words = ops.cast(ops.expand_dims(ops.not_equal(ids, PAD), -1), "float32")
    count = ops.maximum(ops.sum(words, axis=1), 1.0)
    return ops.sum(vectors * words, axis=1) / ops.sqrt(count)


def _attended(sequence: Any, scores: Any) -> Any:
    weights = ops.exp(scores - ops.max(scores, axis=1, keepdims=True))
    return ops.sum(sequence * weights, axis=1) / ops.sum(weights, axis=1)
