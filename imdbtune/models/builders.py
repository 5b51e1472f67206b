"""Models out of hyperparameters: the only file that names layers.

There are two forms of each model, with the same weights in the same order: one for training,
whose recurrent part is a single compiled loop (:mod:`imdbtune.models.fused_rnn`), and one made of
nothing but Keras's own layers, which is what is saved, logged and exported.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers, ops

from imdbtune.config.hyperparameters import TrialParams
from imdbtune.data.corpus import OOV
from imdbtune.models.fused_rnn import DenseEmbedding, FusedRNN
from imdbtune.models.hashed_bigrams import bigram_ids
from imdbtune.models.lr_schedule import Schedule
from imdbtune.models.nb_linear_keras import LINEAR
from imdbtune.models.pooling import bag, pool

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
    recurrence = FusedRNN(
        params.vocabulary,
        params.embedding,
        cells,
        params.bidirectional,
        params.pooling,
        params.bigrams,
        params.spatial_dropout,
        params.skip,
        seed,
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
    if params.bigrams:
        pairs = embedding(params.bigrams, params.embedding, mask_zero=masked, name="bigrams")
        sequence = layers.Add()([sequence, pairs(bigram_ids(ids, params.bigrams))])
    if params.spatial_dropout:
        sequence = layers.SpatialDropout1D(params.spatial_dropout, seed=seed)(sequence)
    vectors = sequence
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
    features = sequence
    if params.pooling != "last":
        attention = layers.Dense(1, use_bias=False, name="attention")
        features = pool(params.pooling, ids, sequence, attention)
    if params.skip:
        features = layers.Concatenate(name="skip")([features, bag(ids, vectors)])
    return keras.Model(ids, _head(params, features, seed), name=params.rnn)


def _head(params: TrialParams, features: Any, seed: int) -> Any:
    if params.layer_norm:
        features = layers.LayerNormalization(name="norm")(features)
    if params.dropout:
        features = layers.Dropout(params.dropout, seed=seed, name="dropout")(features)
    return layers.Dense(1, activation="sigmoid", name="probability")(features)


def initialize(model: keras.Model, seed: int) -> None:
    """Draw the weights from Keras's default initializers with seeds of their own.

    Keras draws the seeds from Python's global random numbers, which other threads of a worker
    use as well. Both forms of a model start from the same weights this way.
    """
    for number, weight in enumerate(_without_seeds(model)):
        initializer = INITIALIZERS.get(weight.name)
        if initializer is not None:
            weight.assign(initializer(seed=1000 * seed + number)(weight.shape))


def compile_model(
    model: keras.Model, params: TrialParams, jit: bool, steps: int = 0
) -> keras.Model:
    """Give a model its optimizer, loss and metrics; ``jit``: its steps are compiled by XLA.

    ``steps`` is how many the whole training takes, for the schedule of the learning rate;
    without it the rate stays what it is, as it does in a model that is saved, whose accuracy is
    that of whole labels.
    """
    rate: Any = params.learning_rate
    if steps and (params.schedule != "constant" or params.warmup):
        rate = Schedule(rate, params.schedule, steps, round(params.warmup * steps))
    options: dict[str, Any] = {}
    if params.weight_decay:  # without it, AdamW has one of its own
        options["weight_decay"] = params.weight_decay
    if params.clip_norm:
        options["global_clipnorm"] = params.clip_norm
    if params.ema:
        options |= {"use_ema": True, "ema_momentum": params.ema}
    optimizer = OPTIMIZERS[params.optimizer](learning_rate=rate, **options)
    softened = bool(steps and params.soft_labels)
    model.compile(
        optimizer=optimizer,
        loss="binary_crossentropy",
        weighted_metrics=[_hard_accuracy() if softened else "accuracy"],
        jit_compile=jit,
    )
    return model


def _hard_accuracy() -> keras.metrics.Metric:
    """The share of reviews on whose label a probability and a softened label agree."""

    def agree(labels: Any, chances: Any) -> Any:
        same = ops.equal(ops.greater(labels, 0.5), ops.greater(chances, 0.5))
        return ops.mean(ops.cast(same, "float32"), axis=-1)

    return keras.metrics.MeanMetricWrapper(agree, name="accuracy")


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


def averaged_model(
    members: Sequence[tuple[keras.Model, TrialParams]],
    common: TrialParams,
    linear: keras.Model | None = None,
) -> keras.Model:
    """The mean of the probabilities of plain, masked models, as one model of plain layers.

    It reads the ids that a model with the ``maxlen`` and ``vocabulary`` of ``common`` would, which
    are no smaller than a member's; each member sees what it was trained on of them. ``linear`` sees
    all, and has half the say.
    """
    ids = keras.Input((None,), dtype="int32", name="ids")
    chances = []
    for number, (model, params) in enumerate(members, start=1):
        seen = ids if params.maxlen == common.maxlen else ids[:, -params.maxlen :]
        if params.vocabulary < common.vocabulary:
            seen = ops.where(ops.less(seen, params.vocabulary), seen, OOV)
        member = keras.Model(model.input, model.output, name=f"member_{number}")
        chances.append(member(seen))
    mean = ops.mean(ops.concatenate(chances, axis=-1), axis=-1, keepdims=True)
    if linear is not None:
        mean = (mean + linear(ids)) / 2
    return keras.Model(ids, mean, name="ensemble")


def member_models(model: keras.Model) -> list[keras.Model]:
    """The networks that one of :func:`averaged_model` is the mean of; other models have none."""
    return [inner for inner in _inner(model) if inner.name != LINEAR]


def linear_part(model: keras.Model) -> keras.Model | None:
    """The linear model in one of :func:`averaged_model`, if it has one."""
    return next((inner for inner in _inner(model) if inner.name == LINEAR), None)


def _inner(model: keras.Model) -> list[keras.Model]:
    return [layer for layer in model.layers if isinstance(layer, keras.Model)]


def named_weights(model: keras.Model, params: TrialParams) -> dict[str, Any]:
    """The weights of a plain model as arrays, by the names that
    :mod:`imdbtune.models.numpy_reference` reads:

    ``embedding``, for each level from 1 on ``forward_1.kernel``, ``.recurrent_kernel`` and
    ``.bias`` (``backward_1`` too where it reads both ways), ``output.kernel`` and ``output.bias``;
    where the model has them, ``bigrams``, ``attention``, ``norm.gamma`` and ``norm.beta``.
    """
    ways = ("forward", "backward") if params.bidirectional else ("forward",)
    cells = [f"{way}_{level}" for level in range(1, params.depth + 1) for way in ways]
    names = [f"{cell}.{part}" for cell in cells for part in ("kernel", "recurrent_kernel", "bias")]
    names = ["embedding", *(["bigrams"] if params.bigrams else []), *names]
    names += ["attention"] if "attention" in params.pooling else []
    names += ["norm.gamma", "norm.beta"] if params.layer_norm else []
    names += ["output.kernel", "output.bias"]
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
