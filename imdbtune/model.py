"""Models out of hyperparameters: the only file that names layers.

There are two forms of each model, with the same weights in the same order: one for training,
whose recurrent part is a single compiled loop (:mod:`imdbtune.recurrence`), and one made of
nothing but Keras's own layers, which is what is saved, logged and exported.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from imdbtune.data.corpus import PAD
from imdbtune.params import TrialParams
from imdbtune.recurrence import DenseEmbedding, Recurrence

LAYERS = {"simple_rnn": layers.SimpleRNN, "lstm": layers.LSTM, "gru": layers.GRU}
CELLS = {"simple_rnn": layers.SimpleRNNCell, "lstm": layers.LSTMCell, "gru": layers.GRUCell}
INITIALIZERS = {
    "embeddings": keras.initializers.RandomUniform,
    "kernel": keras.initializers.GlorotUniform,
    "recurrent_kernel": keras.initializers.Orthogonal,
}
OPTIMIZERS = {
    "rmsprop": keras.optimizers.RMSprop,
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "sgd": keras.optimizers.SGD,
}


def fused_model(params: TrialParams, seed: int = 0) -> keras.Model:
    """The form for training: ids (batch, maxlen) int32 to probabilities (batch, 1)."""
    ids = keras.Input((params.maxlen,), dtype="int32", name="ids")
    ways = 2 if params.bidirectional else 1
    cells = [CELLS[params.rnn](params.units) for _ in range(params.depth * ways)]
    recurrence = Recurrence(
        params.vocabulary, params.embedding, cells, params.bidirectional, params.pooling
    )
    return keras.Model(ids, _head(params, recurrence(ids), seed), name=params.rnn)


def plain_model(
    params: TrialParams, masked: bool = True, seed: int = 0, for_training: bool = False
) -> keras.Model:
    """The form of plain Keras layers, which opens without this package.

    ``masked=False`` is the form of the book: padding is read like any other word.
    ``for_training`` makes it learn as :func:`fused_model` does, where that is not compiled.
    """
    ids = keras.Input((None,), dtype="int32", name="ids")
    embedding = DenseEmbedding if for_training else layers.Embedding
    embed = embedding(params.vocabulary, params.embedding, mask_zero=masked, name="embedding")
    sequence = embed(ids)
    # cuDNN takes no padding at the front.
    options = {"use_cudnn": False} if masked and params.rnn != "simple_rnn" else {}
    for level in range(1, params.depth + 1):
        whole = level < params.depth or params.pooling != "last"
        layer = LAYERS[params.rnn](
            params.units, return_sequences=whole, name=f"{params.rnn}_{level}", **options
        )
        if params.bidirectional:
            layer = layers.Bidirectional(layer, name=f"bidirectional_{level}")
        sequence = layer(sequence)
    features = sequence if params.pooling == "last" else _pool(params.pooling, ids, sequence)
    return keras.Model(ids, _head(params, features, seed), name=params.rnn)


def _head(params: TrialParams, features: Any, seed: int) -> Any:
    if params.dropout:
        features = layers.Dropout(params.dropout, seed=seed, name="dropout")(features)
    return layers.Dense(1, activation="sigmoid", name="probability")(features)


def _pool(pooling: str, ids: Any, sequence: Any) -> Any:
    """Max and/or mean over the words of (batch, time, units), padding left out."""
    is_word = ops.expand_dims(ops.not_equal(ids, PAD), -1)
    pooled = []
    if pooling in ("max", "max_mean"):
        # Every output lies between -1 and 1, so -1 never wins against a word.
        pooled.append(ops.max(ops.where(is_word, sequence, -1.0), axis=1))
    if pooling in ("mean", "max_mean"):
        words = ops.cast(is_word, "float32")
        total = ops.sum(sequence * words, axis=1)
        pooled.append(total / ops.maximum(ops.sum(words, axis=1), 1.0))
    return pooled[0] if len(pooled) == 1 else ops.concatenate(pooled, axis=-1)


def initialize(model: keras.Model, seed: int) -> None:
    """Draw the weights from Keras's default initializers with seeds of their own.

    Keras draws the seeds from Python's global random numbers, which other threads of a worker
    use as well. Both forms of a model start from the same weights this way.
    """
    for number, weight in enumerate(_without_seeds(model)):
        initializer = INITIALIZERS.get(weight.name)
        if initializer is not None:
            weight.assign(initializer(seed=1000 * seed + number)(weight.shape))


def compile_model(model: keras.Model, params: TrialParams, jit: bool) -> keras.Model:
    """Give a model its optimizer, loss and metrics; ``jit``: its steps are compiled by XLA."""
    optimizer = OPTIMIZERS[params.optimizer](learning_rate=params.learning_rate)
    model.compile(
        optimizer=optimizer,
        loss="binary_crossentropy",
        weighted_metrics=["accuracy"],
        jit_compile=jit,
    )
    return model


def make_variables(model: keras.Model) -> None:
    """Make the variables of a compiled model's optimizer and metrics, before its first step.

    TensorFlow traces a step that makes variables twice, which takes seconds.
    """
    model.optimizer.build(model.trainable_variables)
    nothing = ops.zeros((1, 1))
    model.compute_metrics(None, nothing, nothing, sample_weight=ops.zeros((1,)))
    model.reset_metrics()


def as_plain(model: keras.Model, params: TrialParams, masked: bool = True) -> keras.Model:
    """A trained model of either form as a compiled model of plain layers, same weights."""
    plain = compile_model(plain_model(params, masked), params, jit=False)
    plain.set_weights([weight.numpy() for weight in _without_seeds(model)])
    return plain


def named_weights(model: keras.Model, params: TrialParams) -> dict[str, Any]:
    """The weights of a plain model as arrays, by the names that :mod:`imdbtune.reference` reads:

    ``embedding``, for each level from 1 on ``forward_1.kernel``, ``.recurrent_kernel`` and
    ``.bias`` (``backward_1`` too where it reads both ways), ``output.kernel`` and ``output.bias``.
    """
    ways = ("forward", "backward") if params.bidirectional else ("forward",)
    cells = [f"{way}_{level}" for level in range(1, params.depth + 1) for way in ways]
    names = [f"{cell}.{part}" for cell in cells for part in ("kernel", "recurrent_kernel", "bias")]
    names = ["embedding", *names, "output.kernel", "output.bias"]
    return {n: w.numpy() for n, w in zip(names, _without_seeds(model), strict=True)}


def _without_seeds(model: keras.Model) -> list[Any]:
    return [w for w in model.weights if "seed_generator" not in w.path]


def listing_models() -> list[tuple[str, keras.Model]]:
    """The three models of section 6.2 that are shown before anything is trained."""

    def stack(*recurrent: Any) -> keras.Model:
        model = keras.Sequential([layers.Embedding(10_000, 32), *recurrent])
        model.build((None, None))
        return model

    four = [layers.SimpleRNN(32, return_sequences=True) for _ in range(3)]
    return [
        ("Embedding and SimpleRNN: the last output", stack(layers.SimpleRNN(32))),
        (
            "Embedding and SimpleRNN: the full sequence of outputs",
            stack(layers.SimpleRNN(32, return_sequences=True)),
        ),
        ("Embedding and four stacked SimpleRNN layers", stack(*four, layers.SimpleRNN(32))),
    ]
