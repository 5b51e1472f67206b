"""NumPy forward passes of a recurrent layer and of a whole model, without TensorFlow.

The weights have Keras's layout: ``kernel (features, gates * units)``,
``recurrent_kernel (units, gates * units)`` and ``bias``, the gates concatenated in Keras's order.
Activations are Keras's defaults: tanh, and the sigmoid for gates. The initial state is zero. Where
``mask`` is false, a step keeps the state and repeats the output, so before the first unmasked step
the output is zero. The dtype of the inputs and weights is kept (float32 in, float32 out).

For ``go_backwards=True`` pass ``x[:, ::-1]`` and ``mask[:, ::-1]``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]
State = tuple[Array, ...]

OOV = 2  # the unknown word


class NumpyCell(NamedTuple):
    """A kind of recurrent layer.

    ``step`` maps ``(projected, states, recurrent_kernel)``, and the recurrent bias if there is one,
    to the new states. ``projected`` is ``x·W + b`` of the time step, (batch, gates * units).
    """

    step: Callable[..., State]
    states: int  # each (batch, units); the first is the output
    bound: float  # of the absolute value of an output


def layer(
    cell: NumpyCell,
    x: Array,
    kernel: Array,
    recurrent_kernel: Array,
    bias: Array,
    mask: Mask | None = None,
) -> Array:
    """A recurrent layer of Keras.

    Shapes: ``x (batch, time, features)``, ``mask (batch, time)``, ``bias (gates * units,)``, or
    ``(2, gates * units)``: the input's, and the recurrent one; returns all outputs,
    ``(batch, time, units)``.
    """
    input_bias, *recurrent_bias = bias if bias.ndim == 2 else (bias,)
    shape = (len(x), len(recurrent_kernel))
    dtype = np.result_type(x, recurrent_kernel)
    states = tuple(np.zeros(shape, dtype) for _ in range(cell.states))

    def step(projected: Array, states: State) -> State:
        return cell.step(projected, states, recurrent_kernel, *recurrent_bias)

    return _unrolled(step, _projected(x, kernel, input_bias), states, mask)


def network(
    weights: Mapping[str, Array],
    ids: NDArray[np.integer],
    cell: NumpyCell,
    pooling: str,
    masked: bool,
    skip: bool = False,
) -> Array:
    """A network: word ids ``(batch, time)`` to probabilities.

    They are those of the second label, ``(batch, 1)``, or of each of several, ``(batch, labels)``.

    Args:
        weights: ``embedding``; for each layer, counted from 1, ``forward_1.kernel``,
            ``forward_1.recurrent_kernel`` and ``forward_1.bias`` (and ``backward_1`` if it is
            bidirectional); ``output.kernel`` and ``output.bias``. Optional: ``bigrams``, vectors of
            word pairs; ``ngrams``, a table of the linear model's weights; ``attention``;
            ``norm.gamma`` and ``norm.beta``, a layer normalisation.
        ids: 0 is padding.
        cell: of all recurrent layers.
        pooling: ``last``; or ``max``, ``mean``, ``attention``, or several of them joined by ``_``.
        masked: whether the recurrent layers skip padding, or read it like a word.
        skip: whether the output layer also reads the scaled sum of the word vectors.
    """
    is_word = ids != 0
    mask = is_word if masked else None
    depth = sum(name.startswith("forward_") and name.endswith(".bias") for name in weights)
    sequence = weights["embedding"][ids]
    if "bigrams" in weights:
        sequence = sequence + weights["bigrams"][bigram_ids(ids, len(weights["bigrams"]))]
    if "ngrams" in weights:
        table = weights["ngrams"]
        further = [table[rows] for rows in feature_rows(ids, len(table))]  # row 0 has zeros
        sequence = np.concatenate([sequence, *further], axis=-1)
    vectors = sequence
    for level in range(1, depth + 1):
        sequence, last = _level(weights, level, cell, sequence, mask)
    features = last
    if pooling != "last":
        features = _pool(pooling, sequence, is_word, weights, cell.bound)
    if skip:
        features = np.concatenate([features, _bag(vectors, is_word)], axis=-1)
    if "norm.gamma" in weights:
        features = _normalise(features) * weights["norm.gamma"] + weights["norm.beta"]
    logits = features @ weights["output.kernel"] + weights["output.bias"]
    return sigmoid(logits) if logits.shape[1] == 1 else softmax(logits)


def whole_model(
    weights: Mapping[str, Array],
    ids: NDArray[np.integer],
    metadata: Mapping[str, Any],
    cells: Mapping[str, NumpyCell],
) -> Array:
    """An exported model, which may be an ensemble: word ids to probabilities as :func:`network`.

    Args:
        weights: those of :func:`network`; in an ensemble with the prefix ``1/`` for the first
            member, and so on. In a mix also ``linear``, the table of :func:`linear`, and ``mix``,
            ``(models, 1)``: the weights of the members' logits, and of the linear model's.
        ids: for the longest maxlen and the largest vocabulary of the members.
        metadata: ``batching`` (``padded``: padding is read like a word), and the hyperparameters
            ``parameters``; in an ensemble ``members`` instead, the hyperparameters of each. A
            member reads only its own last ``maxlen`` ids, with ids beyond its vocabulary as the
            unknown word.
        cells: by the hyperparameter ``rnn``.
    """
    masked = metadata["batching"] != "padded"
    if not metadata.get("members"):
        return _member(weights, ids, metadata["parameters"], masked, cells)
    probabilities = []
    for number, params in enumerate(metadata["members"], start=1):
        prefix = f"{number}/"
        own = {k.removeprefix(prefix): w for k, w in weights.items() if k.startswith(prefix)}
        member_ids = ids[:, -params["maxlen"] :]
        member_ids = np.where(member_ids < params["vocabulary"], member_ids, OOV)
        probabilities.append(_member(own, member_ids, params, masked, cells))
    if "mix" not in weights:
        mean: Array = np.mean(probabilities, axis=0)
        return mean
    every = np.concatenate([*probabilities, linear(weights["linear"], ids)], axis=1)
    clipped = np.clip(every, 1e-6, 1 - 1e-6)
    return sigmoid(np.log(clipped / (1 - clipped)) @ weights["mix"])


def _member(
    weights: Mapping[str, Array],
    ids: NDArray[np.integer],
    params: Mapping[str, Any],
    masked: bool,
    cells: Mapping[str, NumpyCell],
) -> Array:
    cell = cells[params["rnn"]]
    return network(weights, ids, cell, params["pooling"], masked, params["skip"])


def linear(table: Array, ids: NDArray[np.integer]) -> Array:
    """A linear model: word ids ``(batch, time)`` to probabilities ``(batch, 1)``.

    Each distinct word, pair and triple of neighbours in a review counts once, and once more at its
    end. It is hashed to a row of the table, unless one of its words is unknown.

    Args:
        table: ``(rows, 1)``, weights; row 0 has the bias.
        ids: 0 is padding, at the front.
    """
    rows = np.sort(np.concatenate(feature_rows(ids, len(table)), axis=1), axis=1)
    is_new = np.diff(rows, axis=1, prepend=-1) > 0  # row 0 is always there
    return sigmoid((table[rows, 0] * is_new).sum(axis=1, keepdims=True))


def feature_rows(ids: NDArray[np.integer], rows: int) -> list[NDArray[np.int64]]:
    """Hash the words, pairs and triples that begin at each id to ids from 1 to ``rows - 1``.

    Those that begin among the last 80 words have a second one. Each is ``(batch, time)``; 0 if
    there is none, or one of its words is unknown.
    """
    word = ids.astype(np.int64)
    at_end = np.pad(word, ((0, 0), (0, 80)))[:, 80:] == 0
    key, is_known, found = np.zeros_like(word), np.ones(word.shape, bool), []
    for factor in (42470972317, 28464539267, 50306148449):
        key = key + word * factor
        is_known = is_known & (word != 0) & (word != OOV)
        for own, counts in ((key, is_known), (key + 16222467901, is_known & at_end)):
            found.append(np.where(counts, own % (rows - 1) + 1, 0))
        word = np.pad(word[:, 1:], [(0, 0), (0, 1)])
    return found


def _level(
    weights: Mapping[str, Array],
    level: int,
    cell: NumpyCell,
    x: Array,
    mask: Mask | None,
) -> tuple[Array, Array]:
    """One layer: all outputs ``(batch, time, features)``, and the last ``(batch, features)``.

    ``features`` are the units, of a bidirectional layer those of both directions.
    """

    def run(direction: str, x: Array, mask: Mask | None) -> Array:
        parts = ("kernel", "recurrent_kernel", "bias")
        kernel, recurrent, bias = (weights[f"{direction}_{level}.{part}"] for part in parts)
        return layer(cell, x, kernel, recurrent, bias, mask)

    forward = run("forward", x, mask)
    if f"backward_{level}.bias" not in weights:
        return forward, forward[:, -1]
    backward = run("backward", x[:, ::-1], None if mask is None else mask[:, ::-1])
    last = np.concatenate([forward[:, -1], backward[:, -1]], axis=-1)
    return np.concatenate([forward, backward[:, ::-1]], axis=-1), last


def bigram_ids(ids: NDArray[np.integer], buckets: int) -> NDArray[np.integer]:
    """Hash each word and the next one to an id from 1 to ``buckets - 1``; padding stays 0."""
    following = np.pad(ids[:, 1:], [(0, 0), (0, 1)])
    return np.where(ids == 0, 0, (ids * 7919 + following * 9973) % (buckets - 1) + 1)


def _normalise(features: Array) -> Array:
    """Scale each row to mean 0 and variance 1, as ``keras.layers.LayerNormalization`` does."""
    centred = features - features.mean(axis=-1, keepdims=True)
    scaled: Array = centred / np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + 1e-3)
    return scaled


def _pool(
    pooling: str, sequence: Array, is_word: Mask, weights: Mapping[str, Array], bound: float
) -> Array:
    """Pool ``(batch, time, features)`` over the words: max, mean or attention."""
    words = is_word[:, :, None]
    pooled = []
    for name in pooling.split("_"):
        if name == "max":
            pooled.append(np.where(words, sequence, -bound).max(axis=1))
        elif name == "mean":
            pooled.append((sequence * words).sum(axis=1) / np.maximum(words.sum(axis=1), 1))
        else:
            scores = np.where(words, sequence @ weights["attention"], -1e9)
            shares = np.exp(scores - scores.max(axis=1, keepdims=True))
            pooled.append((sequence * shares).sum(axis=1) / shares.sum(axis=1))
    return np.concatenate(pooled, axis=-1).astype(sequence.dtype)


def _bag(vectors: Array, is_word: Mask) -> Array:
    """The sum of the vectors of n words, divided by sqrt(n): ``(batch, features)``."""
    count = np.maximum(is_word.sum(axis=1), 1)[:, None]
    total = (vectors * is_word[:, :, None]).sum(axis=1) / np.sqrt(count)
    return np.asarray(total, vectors.dtype)


def _projected(x: Array, kernel: Array, bias: Array) -> Array:
    """``x·W + b`` of all steps in one product, time first: ``(time, batch, gates * units)``."""
    batch, time, features = x.shape
    rows = x.swapaxes(0, 1).reshape(time * batch, features)
    projected: Array = rows @ kernel
    projected += bias
    return projected.reshape(time, batch, kernel.shape[1])


def _unrolled(
    step: Callable[[Array, State], State], projected: Array, state: State, mask: Mask | None
) -> Array:
    """Run ``step`` over time; the first of its states is the output, ``(batch, time, units)``."""
    if mask is not None and mask.shape != projected.shape[1::-1]:
        raise ValueError(f"mask {mask.shape} is not (batch, time) = {projected.shape[1::-1]}")
    outputs = np.empty((len(projected), *state[0].shape), dtype=state[0].dtype)
    for time, projected_step in enumerate(projected):
        following = step(projected_step, state)
        if mask is None:
            state = following
        else:
            unmasked = mask[:, time, None]
            state = tuple(np.where(unmasked, *pair) for pair in zip(following, state, strict=True))
        outputs[time] = state[0]
    return outputs.swapaxes(0, 1)


def sigmoid(values: Array) -> Array:
    """``1 / (1 + exp(-values))``, computed with tanh because exp overflows for large values."""
    half: Array = np.tanh(values * 0.5)
    half += 1
    half *= 0.5
    return half


def softmax(values: Array) -> Array:
    """``exp(values)`` divided by their sum in each row; subtracting the largest avoids overflow."""
    powers: Array = np.exp(values - values.max(axis=-1, keepdims=True))
    powers /= powers.sum(axis=-1, keepdims=True)
    return powers
