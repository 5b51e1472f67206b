"""NumPy forward passes of SimpleRNN, LSTM and GRU, and of a whole model, without TensorFlow.

The weights have Keras's layout: ``kernel (features, gates * units)``,
``recurrent_kernel (units, gates * units)`` and ``bias``, the gates concatenated in Keras's order.
Activations are Keras's defaults: tanh, and the sigmoid for gates. The initial state is zero. Where
``mask`` is false, a step keeps the state and repeats the output, so before the first unmasked step
the output is zero. The dtype of the inputs and weights is kept (float32 in, float32 out).

For ``go_backwards=True`` pass ``x[:, ::-1]`` and ``mask[:, ::-1]``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]
State = tuple[Array, ...]
Step = Callable[[Array, State], State]

OOV = 2  # the unknown word


def simple_rnn_listing(inputs: Array, w: Array, u: Array, b: Array) -> Array:
    """The loop of Listing 6.21: ``output = tanh(W·input + U·state + b)``.

    Shapes: ``inputs (time, input_features)``, ``w (output_features, input_features)``,
    ``u (output_features, output_features)``, ``b (output_features,)``; returns
    ``(time, output_features)``. The listing has 100 time steps, 32 features in and 64 out.

    The same numbers come from ``simple_rnn(inputs[None], w.T, u.T, b)[0]``.
    """
    state = np.zeros(b.shape, dtype=np.result_type(inputs, w, u, b))
    outputs = np.empty((len(inputs), *b.shape), dtype=state.dtype)
    for time, step_input in enumerate(inputs):
        state = np.tanh(w @ step_input + u @ state + b)
        outputs[time] = state
    return outputs


def simple_rnn(
    x: Array, kernel: Array, recurrent_kernel: Array, bias: Array, mask: Mask | None = None
) -> Array:
    """``keras.layers.SimpleRNN``: ``h' = tanh(x·W + h·U + b)``, Listing 6.21 over a batch.

    Shapes: ``x (batch, time, features)``, ``kernel (features, units)``,
    ``recurrent_kernel (units, units)``, ``bias (units,)``, ``mask (batch, time)``; returns all
    outputs, ``(batch, time, units)``. Keras multiplies from the other side: its kernels are the
    transposes of the listing's W and U.
    """

    def step(projected: Array, state: State) -> State:
        return (np.tanh(projected + state[0] @ recurrent_kernel),)

    return _unrolled(step, _projected(x, kernel, bias), _zeros(1, x, recurrent_kernel), mask)


def lstm(
    x: Array, kernel: Array, recurrent_kernel: Array, bias: Array, mask: Mask | None = None
) -> Array:
    """``keras.layers.LSTM``, compared with Listings 6.25 and 6.26.

    Shapes: ``x (batch, time, features)``, ``kernel (features, 4 * units)``,
    ``recurrent_kernel (units, 4 * units)``, ``bias (4 * units,)``, ``mask (batch, time)``; returns
    all outputs, ``(batch, time, units)``. Gate order in the kernels: i, f, c, o. With the
    listings' state as ``h`` and their carry as ``c``::

        listing                                     Keras
        i = activation(h·Ui + x·Wi + bi)            i  = sigmoid(x·Wi + h·Ui + bi)  input gate
        f = activation(h·Uf + x·Wf + bf)            f  = sigmoid(x·Wf + h·Uf + bf)  forget gate
        k = activation(h·Uk + x·Wk + bk)            k  = tanh(x·Wc + h·Uc + bc)     candidate
        next c = i * k + c * f                      c' = i * k + c * f              carry
        output = activation(h·Uo + x·Wo             o  = sigmoid(x·Wo + h·Uo + bo)  output gate
                            + c·Vo + bo)            h' = o * tanh(c')               output

    They differ in the output: the listing adds the current carry to it, with weights V. Keras has
    no V: its output gate does not see the carry, which enters only as tanh(c') of the next one.
    """
    units = len(recurrent_kernel)

    def step(projected: Array, state: State) -> State:
        hidden, carry = state
        gates = projected + hidden @ recurrent_kernel
        input_forget = _sigmoid(gates[:, : 2 * units])
        candidate = np.tanh(gates[:, 2 * units : 3 * units])
        carry = input_forget[:, :units] * candidate + carry * input_forget[:, units:]
        return _sigmoid(gates[:, 3 * units :]) * np.tanh(carry), carry

    return _unrolled(step, _projected(x, kernel, bias), _zeros(2, x, recurrent_kernel), mask)


def gru(
    x: Array,
    kernel: Array,
    recurrent_kernel: Array,
    bias: Array,
    mask: Mask | None = None,
    *,
    reset_after: bool = True,
) -> Array:
    """``keras.layers.GRU``; ``reset_after=True`` is Keras's default.

    Shapes: ``x (batch, time, features)``, ``kernel (features, 3 * units)``,
    ``recurrent_kernel (units, 3 * units)``, ``mask (batch, time)``; ``bias (2, 3 * units)``, the
    input's ``b`` and the state's ``d``, or ``(3 * units,)`` with ``reset_after=False``; returns all
    outputs, ``(batch, time, units)``. Gate order in the kernels: z, r, h::

        z  = sigmoid(x·Wz + bz + h·Uz + dz)         update gate
        r  = sigmoid(x·Wr + br + h·Ur + dr)         reset gate
        k  = tanh(x·Wh + bh + r * (h·Uh + dh))      candidate, reset_after=True
        k  = tanh(x·Wh + bh + (r * h)·Uh)           candidate, reset_after=False (d = 0)
        h' = z * h + (1 - z) * k                    output

    Raises:
        ValueError: the shape of ``bias`` does not match ``reset_after``.
    """
    if bias.ndim != 1 + reset_after:
        raise ValueError(f"bias {bias.shape} does not fit reset_after={reset_after}")
    input_bias = bias[0] if reset_after else bias
    step = _gru_reset_after(recurrent_kernel, bias[1]) if reset_after else _gru(recurrent_kernel)
    return _unrolled(step, _projected(x, kernel, input_bias), _zeros(1, x, recurrent_kernel), mask)


def _gru_reset_after(recurrent_kernel: Array, recurrent_bias: Array) -> Step:
    units = len(recurrent_kernel)

    def step(projected: Array, state: State) -> State:
        recurrent = state[0] @ recurrent_kernel + recurrent_bias
        gates = _sigmoid(projected[:, : 2 * units] + recurrent[:, : 2 * units])
        update, reset = gates[:, :units], gates[:, units:]
        candidate = np.tanh(projected[:, 2 * units :] + reset * recurrent[:, 2 * units :])
        return (update * state[0] + (1 - update) * candidate,)

    return step


def _gru(recurrent_kernel: Array) -> Step:
    units = len(recurrent_kernel)
    gates_kernel, candidate_kernel = np.split(recurrent_kernel, [2 * units], axis=1)

    def step(projected: Array, state: State) -> State:
        gates = _sigmoid(projected[:, : 2 * units] + state[0] @ gates_kernel)
        update, reset = gates[:, :units], gates[:, units:]
        candidate = np.tanh(projected[:, 2 * units :] + (reset * state[0]) @ candidate_kernel)
        return (update * state[0] + (1 - update) * candidate,)

    return step


def network(
    weights: Mapping[str, Array],
    ids: NDArray[np.integer],
    rnn: str,
    pooling: str,
    masked: bool,
    skip: bool = False,
) -> Array:
    """A network: word ids ``(batch, time)`` to probabilities ``(batch, 1)``.

    Args:
        weights: ``embedding``; for each layer, counted from 1, ``forward_1.kernel``,
            ``forward_1.recurrent_kernel`` and ``forward_1.bias`` (and ``backward_1`` if it is
            bidirectional); ``output.kernel`` and ``output.bias``. Optional: ``bigrams``, vectors of
            word pairs; ``attention``; ``norm.gamma`` and ``norm.beta``, a layer normalisation.
        ids: 0 is padding.
        rnn: ``simple_rnn``, ``lstm`` or ``gru``.
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
    vectors = sequence
    for level in range(1, depth + 1):
        sequence, last = _level(weights, level, LAYERS[rnn], sequence, mask)
    features = last
    if pooling != "last":
        features = _pool(pooling, sequence, is_word, weights)
    if skip:
        features = np.concatenate([features, _bag(vectors, is_word)], axis=-1)
    if "norm.gamma" in weights:
        features = _normalise(features) * weights["norm.gamma"] + weights["norm.beta"]
    return _sigmoid(features @ weights["output.kernel"] + weights["output.bias"])


def whole_model(
    weights: Mapping[str, Array], ids: NDArray[np.integer], metadata: Mapping[str, Any]
) -> Array:
    """An exported model, which may be an ensemble: word ids ``(batch, time)`` to ``(batch, 1)``.

    Args:
        weights: those of :func:`network`; in an ensemble with the prefix ``1/`` for the first
            member, and so on. Optional: ``linear``, the features of :func:`linear`, which has
            weight 1/2, all members together the other half.
        ids: for the longest maxlen and the largest vocabulary of the members.
        metadata: ``batching`` (``padded``: padding is read like a word), and the hyperparameters
            ``parameters``; in an ensemble ``members`` instead, the hyperparameters of each. A
            member reads only its own last ``maxlen`` ids, with ids beyond its vocabulary as the
            unknown word.
    """
    masked = metadata["batching"] != "padded"
    if not metadata.get("members"):
        return _member(weights, ids, metadata["parameters"], masked)
    probabilities = []
    for number, params in enumerate(metadata["members"], start=1):
        prefix = f"{number}/"
        own = {k.removeprefix(prefix): w for k, w in weights.items() if k.startswith(prefix)}
        member_ids = ids[:, -params["maxlen"] :]
        member_ids = np.where(member_ids < params["vocabulary"], member_ids, OOV)
        probabilities.append(_member(own, member_ids, params, masked))
    mean: Array = np.mean(probabilities, axis=0)
    return (mean + linear(weights["linear"], ids)) / 2 if "linear" in weights else mean


def _member(
    weights: Mapping[str, Array],
    ids: NDArray[np.integer],
    params: Mapping[str, Any],
    masked: bool,
) -> Array:
    return network(weights, ids, params["rnn"], params["pooling"], masked, params["skip"])


def linear(features: Array, ids: NDArray[np.integer]) -> Array:
    """A linear model: word ids ``(batch, time)`` to probabilities ``(batch, 1)``.

    Each distinct word and pair of neighbours in a review counts once.

    Args:
        features: ``(features + 1, 3)``: the two ids and the weight of a pair, sorted by the ids. A
            word is the pair (0, word); the first row, (0, 0), has the bias.
        ids: 0 is padding, at the front.
    """
    base = int(features[:, :2].max()) + 1
    known = features[:, 0].astype(np.int64) * base + features[:, 1].astype(np.int64)
    logits = np.full((len(ids), 1), features[0, 2], features.dtype)
    for logit, review in zip(logits, ids.astype(np.int64), strict=True):
        is_known = (review > 0) & (review < base)
        pairs = (review[:-1] * base + review[1:])[is_known[:-1] & is_known[1:]]
        keys = np.unique(np.concatenate([review[is_known], pairs]))
        rows = np.minimum(np.searchsorted(known, keys), len(known) - 1)
        logit += features[rows[known[rows] == keys], 2].sum()
    return _sigmoid(logits)


LAYERS: dict[str, Callable[..., Array]] = {"simple_rnn": simple_rnn, "lstm": lstm, "gru": gru}


def _level(
    weights: Mapping[str, Array],
    level: int,
    layer: Callable[..., Array],
    x: Array,
    mask: Mask | None,
) -> tuple[Array, Array]:
    """One layer: all outputs ``(batch, time, features)``, and the last ``(batch, features)``.

    ``features`` are the units, of a bidirectional layer those of both directions.
    """
    parts = ("kernel", "recurrent_kernel", "bias")
    forward = layer(x, *(weights[f"forward_{level}.{part}"] for part in parts), mask)
    if f"backward_{level}.bias" not in weights:
        return forward, forward[:, -1]
    reverse_mask = None if mask is None else mask[:, ::-1]
    backward_weights = (weights[f"backward_{level}.{part}"] for part in parts)
    backward = layer(x[:, ::-1], *backward_weights, reverse_mask)
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


def _pool(pooling: str, sequence: Array, is_word: Mask, weights: Mapping[str, Array]) -> Array:
    """Pool ``(batch, time, features)`` over the words: max, mean or attention."""
    words = is_word[:, :, None]
    pooled = []
    for name in pooling.split("_"):
        if name == "max":
            pooled.append(np.where(words, sequence, -1).max(axis=1))  # outputs are above -1
        elif name == "mean":
            pooled.append((sequence * words).sum(axis=1) / np.maximum(words.sum(axis=1), 1))
        else:
            scores = np.where(words, sequence @ weights["attention"], -1e9)
            softmax = np.exp(scores - scores.max(axis=1, keepdims=True))
            pooled.append((sequence * softmax).sum(axis=1) / softmax.sum(axis=1))
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


def _zeros(count: int, x: Array, recurrent_kernel: Array) -> State:
    """``count`` initial states ``(batch, units)``."""
    shape = (len(x), len(recurrent_kernel))
    return tuple(np.zeros(shape, np.result_type(x, recurrent_kernel)) for _ in range(count))


def _unrolled(step: Step, projected: Array, state: State, mask: Mask | None) -> Array:
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


def _sigmoid(values: Array) -> Array:
    """``1 / (1 + exp(-values))``, computed with tanh because exp overflows for large values."""
    half: Array = np.tanh(values * 0.5)
    half += 1
    half *= 0.5
    return half
