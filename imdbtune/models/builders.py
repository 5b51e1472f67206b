"""Build, initialise and compile the Keras models that hyperparameters describe.

Each model has two forms, with the same weights in the same order: the fused form for training,
whose recurrent part is a single compiled loop (:mod:`imdbtune.models.fused_rnn`), and the plain
form of Keras's own layers, which is saved, logged and exported.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import layers, ops

from imdbtune.config.extensions import CELLS, METRICS
from imdbtune.config.hyperparameters import TrialParams
from imdbtune.config.own_model import output_count
from imdbtune.errors import TrialFailed
from imdbtune.models.fused_rnn import DenseEmbedding, FusedRNN
from imdbtune.models.hashed_bigrams import bigram_ids
from imdbtune.models.hashed_ngrams import KINDS
from imdbtune.models.lr_schedule import Schedule
from imdbtune.models.ngram_inputs import NGRAMS, ngram_vectors
from imdbtune.models.pad_at_back import PadAtBack
from imdbtune.models.pooling import bag, pool
from imdbtune.models.tensors import Tensor

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
# Steps that Keras runs in one call of TensorFlow. A call costs 2 ms, as much as a tenth of a step;
# tracing several steps takes 0.3 s longer than tracing one, which fewer steps do not save.
STEPS_PER_CALL = 16
MANY_STEPS = 200


def fused_model(params: TrialParams, seed: int = 0, classes: int = 2) -> keras.Model:
    """Return the fused form, with input and output as those of :func:`plain_model`."""
    inputs = keras.Input((None,), dtype="int32", name="ids")
    if params.ngrams:
        inputs = [inputs, _ngram_input(classes)]
    features = FusedRNN(params, seed)(inputs)
    return keras.Model(inputs, _head(params, features, seed, classes), name=params.rnn)


def _ngram_input(classes: int) -> Tensor:
    return keras.Input((None, KINDS * output_count(classes)), name=NGRAMS)


def plain_model(
    params: TrialParams,
    masked: bool = True,
    seed: int = 0,
    for_training: bool = False,
    classes: int = 2,
    ngram_rows: int = 2,
    for_cudnn: bool = False,
) -> keras.Model:
    """Return the plain form: ids (batch, time) int32 to probabilities.

    They are those of label 1, (batch, 1); with more than two labels those of each, (batch, labels).

    Args:
        params: the hyperparameters.
        masked: mask padding; without, padding is read like any other word, as in the book.
        seed: of the dropout layers.
        for_training: use :class:`DenseEmbedding` and the inputs of :func:`fused_model`, like which
            it trains; without, the model opens without this package, and has a table of n-grams.
        classes: number of labels.
        ngram_rows: rows of this table.
        for_cudnn: pad at the back, where cuDNN can mask it; for training on a GPU.
    """
    inputs = ids = keras.Input((None,), dtype="int32", name="ids")
    sequence = _word_vectors(params, ids, masked, seed, for_training)
    if params.ngrams:
        # Concatenate masks a position only where all of its inputs do.
        if for_training:
            inputs = [ids, _ngram_input(classes)]
            further = [layers.Masking()(inputs[1])]
        else:
            further = ngram_vectors(ids, ngram_rows, output_count(classes), masked)
        sequence = layers.Concatenate(name="vectors")([sequence, *further])
    if for_cudnn:
        ids, sequence = PadAtBack()([ids, sequence])
    features = _recurrent(params, sequence, with_cudnn=for_cudnn or not masked)
    if params.pooling != "last":
        attention = layers.Dense(1, use_bias=False, name="attention")
        features = pool(params.pooling, ids, features, attention, CELLS[params.rnn].bound)
    if params.skip:
        features = layers.Concatenate(name="skip")([features, bag(ids, sequence)])
    return keras.Model(inputs, _head(params, features, seed, classes), name=params.rnn)


def _recurrent(params: TrialParams, sequence: Tensor, with_cudnn: bool) -> Tensor:
    """Return the outputs of the recurrent layers: all, or with the pooling ``last`` the last."""
    for level in range(1, params.depth + 1):
        sequences = level < params.depth or params.pooling != "last"
        name = f"{params.rnn}_{level}"
        layer = CELLS[params.rnn].keras_layer(params.units, name, sequences, with_cudnn)
        if params.bidirectional:
            layer = layers.Bidirectional(layer, name=f"bidirectional_{level}")
        sequence = layer(sequence)
    return sequence


def _word_vectors(
    params: TrialParams, ids: Tensor, masked: bool, seed: int, for_training: bool
) -> Tensor:
    """Return the vectors of words, or the sums with those of their pairs, after dropout."""
    embedding = DenseEmbedding if for_training else layers.Embedding
    embed = embedding(params.vocabulary, params.embedding, mask_zero=masked, name="embedding")
    vectors = embed(ids)
    if params.bigrams:
        pairs = embedding(params.bigrams, params.embedding, mask_zero=masked, name="bigrams")
        vectors = layers.Add()([vectors, pairs(bigram_ids(ids, params.bigrams))])
    if params.spatial_dropout:
        vectors = layers.SpatialDropout1D(params.spatial_dropout, seed=seed)(vectors)
    return vectors


def _head(params: TrialParams, features: Tensor, seed: int, classes: int) -> Tensor:
    if params.layer_norm:
        features = layers.LayerNormalization(name="norm")(features)
    if params.dropout:
        features = layers.Dropout(params.dropout, seed=seed, name="dropout")(features)
    activation = "sigmoid" if classes == 2 else "softmax"
    output = layers.Dense(output_count(classes), activation=activation, name="probability")
    return output(features)


def initialize(
    model: keras.Model, seed: int, word_vectors: npt.NDArray[np.float32] | None = None
) -> None:
    """Draw the weights from Keras's default initializers, with seeds derived from ``seed``.

    Both forms of a model start from the same weights. Keras itself would draw the seeds from
    Python's global random state, which the other threads of a worker share. ``word_vectors``
    (vocabulary, embedding) take the place of random ones where they are not 0.
    """
    weights = _without_seeds(model)
    for number, weight in enumerate(weights):
        initializer = INITIALIZERS.get(weight.name)
        if initializer is not None:
            weight.assign(initializer(seed=1000 * seed + number)(weight.shape))
    if word_vectors is not None:
        weights[0].assign(np.where(word_vectors, word_vectors, weights[0].numpy()))


def compile_model(
    model: keras.Model,
    params: TrialParams,
    jit: bool,
    steps: int = 0,
    accuracy: keras.metrics.Metric | None = None,
    classes: int = 2,
) -> keras.Model:
    """Compile a model with its optimizer, loss and metrics, and return it.

    Args:
        model: of either form.
        params: the hyperparameters.
        jit: compile the steps with XLA.
        steps: number of steps of the whole training. Without it, as in a saved model, the learning
            rate is constant and the metrics are those that Keras has itself.
        accuracy: takes the place of the registered one.
        classes: number of labels.
    """
    rate: float | Schedule = params.learning_rate
    if steps and (params.schedule != "constant" or params.warmup):
        rate = Schedule(params.learning_rate, params.schedule, steps, round(params.warmup * steps))
    options: dict[str, float] = {}
    if params.weight_decay:  # otherwise keep the default, which AdamW has
        options["weight_decay"] = params.weight_decay
    if params.clip_norm:
        options["global_clipnorm"] = params.clip_norm
    if params.ema:
        options |= {"use_ema": True, "ema_momentum": params.ema}
    optimizer = OPTIMIZERS[params.optimizer](learning_rate=rate, **options)
    model.compile(
        optimizer=optimizer,
        loss=training_loss(model, params, classes),
        weighted_metrics=_trained_metrics(accuracy) if steps else _saved_metrics(),
        jit_compile=jit,
        steps_per_execution=STEPS_PER_CALL if steps >= MANY_STEPS else 1,
    )
    return model


def compile_own(
    model: keras.Model,
    params: TrialParams,
    jit: bool,
    steps: int,
    accuracy: keras.metrics.Metric | None = None,
    classes: int = 2,
) -> keras.Model:
    """Compile a user's own model, keeping the optimizer and the loss that it was compiled with.

    Arguments are those of :func:`compile_model`, which compiles a model that was not.
    """
    if not model.compiled:
        return compile_model(model, params, jit, steps, accuracy, classes)
    model.compile(
        optimizer=model.optimizer,
        loss=training_loss(model, params, classes),
        weighted_metrics=_trained_metrics(accuracy),
        jit_compile=jit,
        steps_per_execution=STEPS_PER_CALL if steps >= MANY_STEPS else 1,
    )
    return model


def training_loss(model: keras.Model, params: TrialParams, classes: int) -> Any:
    """Return the loss that a model was compiled with, else the cross-entropy of its labels.

    Raises:
        TrialFailed: the loss cannot have the soft labels of these hyperparameters.
    """
    if model.compiled and model.loss:
        if params.soft_labels and classes > 2 and not takes_one_hot(model.loss, classes):
            raise TrialFailed(
                "soft_labels needs a loss of a probability for each label, but the model is "
                "compiled with a sparse one; compile it with categorical_crossentropy."
            )
        return model.loss
    if classes == 2:
        return "binary_crossentropy"
    return "categorical_crossentropy" if params.soft_labels else "sparse_categorical_crossentropy"


def takes_one_hot(loss: Any, classes: int) -> bool:
    """Return whether the labels of a loss are (batch, classes) instead of numbers.

    Of Keras's losses for more than two labels, those with sparse in their name take numbers.
    """
    name = loss if isinstance(loss, str) else getattr(loss, "name", None) or loss.__name__
    return classes > 2 and "sparse" not in name.lower()


def _trained_metrics(accuracy: keras.metrics.Metric | None) -> list[keras.metrics.Metric]:
    own = {"accuracy": accuracy} if accuracy else {}
    named = {name: metric.in_keras for name, metric in METRICS.items() if metric.in_keras}
    return [own.get(name) or make(name) for name, make in named.items()]


def _saved_metrics() -> list[str]:
    return [metric.saved_as for metric in METRICS.values() if metric.saved_as]


def create_variables(model: keras.Model, classes: int = 2) -> None:
    """Create the variables of a compiled model's optimizer and metrics, before its first step.

    TensorFlow traces a step that creates variables twice, which takes seconds.
    """
    model.optimizer.build(model.trainable_variables)
    outputs = ops.zeros((1, output_count(classes)))
    labels = outputs if takes_one_hot(model.loss, classes) else ops.zeros((1, 1))
    model.compute_metrics(None, labels, outputs, sample_weight=ops.zeros((1,)))
    model.reset_metrics()


def plain_weights(model: keras.Model) -> list[npt.NDArray[np.float32]]:
    """Return the weights that the plain form of a model of either form has."""
    return [weight.numpy() for weight in _without_seeds(model)]


def with_ngrams(
    weights: Sequence[npt.NDArray[np.float32]],
    params: TrialParams,
    table: npt.NDArray[np.float32],
) -> list[npt.NDArray[np.float32]]:
    """Return :func:`plain_weights` with the table of n-grams in its place."""
    index = _ngrams_index(params)
    return [*weights[:index], table, *weights[index:]]


def _ngrams_index(params: TrialParams) -> int:
    return 2 if params.bigrams else 1


def trained_weights(model: keras.Model, params: TrialParams) -> int:
    """Return the number of weights of a plain or own model, without the table of n-grams."""
    of_table = model.get_layer(NGRAMS).count_params() if params.ngrams else 0
    return int(model.count_params() - of_table)


def as_plain(
    weights: Sequence[npt.NDArray[np.float32]], params: TrialParams, masked: bool = True
) -> keras.Model:
    """Return the plain form, compiled, with these weights of :func:`plain_weights`."""
    classes = max(2, len(weights[-1]))  # biases of the output layer
    rows = len(weights[_ngrams_index(params)]) if params.ngrams else 2
    plain = plain_model(params, masked, classes=classes, ngram_rows=rows)
    compile_model(plain, params, jit=False, classes=classes)
    plain.set_weights(weights)
    return plain


def named_weights(model: keras.Model, params: TrialParams) -> dict[str, npt.NDArray[np.float32]]:
    """Return the weights of a plain model, by the names of :mod:`imdbtune.models.numpy_reference`.

    These are ``embedding``; for each layer, counted from 1, ``forward_1.kernel``,
    ``forward_1.recurrent_kernel`` and ``forward_1.bias`` (and ``backward_1`` if it is
    bidirectional); ``output.kernel`` and ``output.bias``; and, if the model has them, ``bigrams``,
    ``ngrams``, ``attention``, ``norm.gamma`` and ``norm.beta``.
    """
    directions = ("forward", "backward") if params.bidirectional else ("forward",)
    cells = [f"{d}_{level}" for level in range(1, params.depth + 1) for d in directions]
    names = [f"{cell}.{part}" for cell in cells for part in ("kernel", "recurrent_kernel", "bias")]
    tables = [name for name in ("bigrams", "ngrams") if getattr(params, name)]
    names = ["embedding", *tables, *names]
    names += ["attention"] if "attention" in params.pooling else []
    names += ["norm.gamma", "norm.beta"] if params.layer_norm else []
    names += ["output.kernel", "output.bias"]
    return dict(zip(names, plain_weights(model), strict=True))


def _without_seeds(model: keras.Model) -> list[keras.Variable]:
    """Return the weights except the state of the dropout layers' random generators."""
    return [w for w in model.weights if "seed_generator" not in w.path]


def listing_models() -> list[tuple[str, keras.Model]]:
    """Return the three untrained models of section 6.2, with a title each."""

    def stack(*recurrent: layers.Layer) -> keras.Model:
        model = keras.Sequential([layers.Embedding(10_000, 32), *recurrent])
        model.build((None, None))
        return model

    lower = [layers.SimpleRNN(32, return_sequences=True) for _ in range(3)]
    return [
        ("Embedding and SimpleRNN: the last output", stack(layers.SimpleRNN(32))),
        (
            "Embedding and SimpleRNN: the full sequence of outputs",
            stack(layers.SimpleRNN(32, return_sequences=True)),
        ),
        ("Embedding and four stacked SimpleRNN layers", stack(*lower, layers.SimpleRNN(32))),
    ]
