"""The reviews of a trial, as the arguments of ``keras.Model.fit``."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypedDict

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from imdbtune.config.own_model import output_count
from imdbtune.config.sections import NO_CLASS_WEIGHT
from imdbtune.data.batches import (
    Batches,
    FloatArray,
    Index,
    limit_rows,
    pad,
    validation_split,
)
from imdbtune.data.corpus import Split, read_corpus
from imdbtune.models.hashed_ngrams import KINDS
from imdbtune.training.out_of_fold import ngram_inputs
from imdbtune.training.soft_labels import soft_labels
from imdbtune.training.spec import TrialSpec

# Batches per generator call, to amortise its overhead.
BATCHES_PER_CALL = 8
# Batches merged in validation, which saves overhead; the metrics do not depend on the batch size.
VALIDATION_BATCHES = 4


class FitArguments(TypedDict, total=False):
    """The data of a training, as the keyword arguments of ``keras.Model.fit``."""

    x: npt.NDArray[np.int32] | tf.data.Dataset
    y: npt.NDArray[np.float32]
    batch_size: int
    shuffle: bool
    validation_split: float
    validation_data: tf.data.Dataset | tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]
    class_weight: dict[int, float]


def steps_per_epoch(spec: TrialSpec) -> int:
    """Return the number of batches in an epoch of training."""
    return math.ceil(len(_train_and_validation_rows(spec)[0]) / spec.params.batch_size)


def class_count(spec: TrialSpec) -> int:
    """Return the number of labels of a trial's reviews."""
    return len(read_corpus(spec.corpus).labels)


def _train_and_validation_rows(spec: TrialSpec) -> tuple[Index, Index]:
    count, settings = _review_count(spec), spec.settings
    if settings.folds:
        labels = read_corpus(spec.corpus).train.labels[:count]
        return settings.division.rows(labels, spec.fold)
    share = settings.validation_share if settings.hold_out else 0.0
    return validation_split(count, share)


def training_reviews(spec: TrialSpec) -> Split:
    """Return the reviews that a trial trains on; with folds, in its present one."""
    return read_corpus(spec.corpus).train.select(_train_and_validation_rows(spec)[0])


def validation_rows(spec: TrialSpec) -> Index:
    """Return the rows of the reviews that validate a trial: with folds, of all of them."""
    all_rows = np.arange(_review_count(spec))
    return all_rows if spec.settings.folds else _train_and_validation_rows(spec)[1]


def fold_of_rows(spec: TrialSpec) -> Index:
    """Return the fold that each of the reviews validates, (n,)."""
    labels = read_corpus(spec.corpus).train.labels[: _review_count(spec)]
    return spec.settings.division.assign(labels)


def _review_count(spec: TrialSpec) -> int:
    return limit_rows(len(read_corpus(spec.corpus).train), spec.settings.reviews)


def class_weights(spec: TrialSpec) -> FloatArray | None:
    """Return the weight of each label, (classes,), with which all labels weigh the same in sum.

    They are those of scikit-learn's ``class_weight="balanced"``; a label without training reviews
    has 0. ``None``: all reviews weigh the same.
    """
    if spec.settings.class_weight == NO_CLASS_WEIGHT:
        return None
    labels = read_corpus(spec.corpus).train.labels[_train_and_validation_rows(spec)[0]]
    counts = np.bincount(labels, minlength=class_count(spec))
    weights = np.zeros(len(counts), np.float32)
    weights[counts > 0] = len(labels) / (np.count_nonzero(counts) * counts[counts > 0])
    return weights


def _one_hot(labels: npt.NDArray[np.int8], classes: int) -> FloatArray:
    return np.eye(classes, dtype=np.float32)[labels]


def padded_data(spec: TrialSpec, one_hot: bool = False) -> FitArguments:
    """Return the data of Listing 6.22 as the ``fit`` arguments of Listing 6.23.

    Args:
        one_hot: labels are (reviews, classes) instead of numbers.
    """
    train = read_corpus(spec.corpus).train

    def arrays(rows: Index) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        ids = pad(train, rows, spec.params.maxlen, spec.params.vocabulary)
        if one_hot:
            return ids, _one_hot(train.labels[rows], class_count(spec))
        return ids, train.labels[rows].astype(np.float32)

    settings, held_out = spec.settings, None
    rows = np.arange(_review_count(spec))
    if settings.folds:
        rows, held_out = _train_and_validation_rows(spec)
    ids, labels = arrays(rows)
    data: FitArguments = {"x": ids, "y": labels, "batch_size": spec.params.batch_size}
    if (weights := class_weights(spec)) is not None:
        data["class_weight"] = {label: float(weight) for label, weight in enumerate(weights)}
    if held_out is not None:
        data["validation_data"] = arrays(held_out)
    elif settings.hold_out:
        data["validation_split"] = settings.validation_share
    return data


def bucketed_data(
    spec: TrialSpec,
    seed: int,
    passes: int,
    one_hot: bool = False,
    inputs: FloatArray | None = None,
) -> FitArguments:
    """Return the ``fit`` arguments for masked batches of similar length, after earlier passes.

    Args:
        one_hot: labels are (batch, classes) instead of numbers.
        inputs: of :func:`imdbtune.training.out_of_fold.ngram_inputs`; None: the model has none.
    """
    train = read_corpus(spec.corpus).train
    params = spec.params
    train_rows = _train_and_validation_rows(spec)[0]
    shape = (params.batch_size, params.maxlen, params.vocabulary)
    rng = np.random.default_rng([seed, spec.settings.initial_epoch])
    rng.spawn(passes)
    labels = soft_labels(spec.corpus, len(train_rows), params.soft_labels)
    if labels is None and one_hot:
        labels = _one_hot(train.labels[train_rows], class_count(spec))
    weights = class_weights(spec)
    of_rows = None if weights is None else weights[train.labels[train_rows]]
    # A moving average of the weights does not depend on how the last batches of an epoch are.
    batches = Batches(
        *(train, train_rows, *shape, labels, of_rows, params.word_dropout, params.crop),
        calm=not params.ema,
        fixed=spec.source is not None,  # a user's own model may know one length only
        inputs=inputs,
        input_dropout=params.ngram_dropout,
    )
    data: FitArguments = {"x": as_dataset(batches, rng), "shuffle": False}
    if spec.settings.hold_out:
        validation = replace(_validation_batches(spec, one_hot), inputs=inputs)
        data["validation_data"] = as_dataset(validation)
    return data


def inputs_of(spec: TrialSpec) -> FloatArray:
    """Return the further inputs of a model with n-grams, at each token of its reviews."""
    trained = len(_train_and_validation_rows(spec)[0])
    return ngram_inputs(spec, trained, _review_count(spec))


def no_inputs(spec: TrialSpec) -> FloatArray:
    """Return zeros in place of :func:`inputs_of`."""
    tokens = read_corpus(spec.corpus).train.offsets[_review_count(spec)]
    return np.zeros((int(tokens), KINDS * output_count(class_count(spec))), np.float32)


def _validation_batches(spec: TrialSpec, one_hot: bool = False) -> Batches:
    rows, params = _train_and_validation_rows(spec)[1], spec.params
    size = params.batch_size * min(VALIDATION_BATCHES, math.ceil(len(rows) / params.batch_size))
    train = read_corpus(spec.corpus).train
    labels = _one_hot(train.labels[rows], class_count(spec)) if one_hot else None
    return Batches(train, rows, size, params.maxlen, params.vocabulary, labels)


def rows_per_epoch(spec: TrialSpec) -> int:
    """Return the rows that the steps of an epoch of training see, with those that fill them up."""
    return steps_per_epoch(spec) * spec.params.batch_size


def validation_lengths(spec: TrialSpec) -> Index:
    """Return the number of tokens of each validation review, of all folds in the corpus's order."""
    offsets, rows = read_corpus(spec.corpus).train.offsets, validation_rows(spec)
    return np.asarray(offsets[rows + 1] - offsets[rows], np.int64)


@dataclass(frozen=True)
class ValidationOrder:
    """The order in which a pass of validation sees the reviews.

    Args:
        rows: number of them, with those that fill up the last batch.
        places: of each validation review, in the order of the corpus.
    """

    rows: int
    places: Index


def validation_order(spec: TrialSpec) -> ValidationOrder | None:
    """Return the order of the validation reviews of a training; ``None`` without validation."""
    if not spec.settings.hold_out:
        return None
    held_out = _train_and_validation_rows(spec)[1]
    if spec.settings.batching == "padded":
        return ValidationOrder(len(held_out), np.arange(len(held_out)))
    batches = _validation_batches(spec)
    order = np.concatenate(batches.plan())  # only the last batch is filled up
    places = np.empty(len(order), np.int64)
    places[np.searchsorted(held_out, order)] = np.arange(len(order))
    return ValidationOrder(len(batches) * batches.batch_size, places)


def as_dataset(batches: Batches, rng: np.random.Generator | None = None) -> tf.data.Dataset:
    """Return the batches as a dataset; a child of ``rng`` shuffles each pass.

    So an epoch does not depend on how much of the previous pass was prefetched. The elements are
    those of :meth:`~imdbtune.data.batches.Batches.epoch`, with further inputs in a pair with the
    ids.
    """
    shape = (batches.batch_size, batches.width(rng))
    further = [] if batches.inputs is None else [batches.inputs.shape[1]]
    signature = (
        tf.TensorSpec((None, *shape), tf.int32),
        *(tf.TensorSpec((None, *shape, columns), tf.float32) for columns in further),
        tf.TensorSpec((None, batches.batch_size, batches.target_width), tf.float32),
        tf.TensorSpec((None, batches.batch_size), tf.float32),
    )

    def stacked_batches() -> Iterator[tuple[npt.NDArray[np.generic], ...]]:
        remaining = batches.epoch(rng and rng.spawn(1)[0])
        while group := list(itertools.islice(remaining, BATCHES_PER_CALL)):
            yield tuple(np.stack(parts) for parts in zip(*group, strict=True))

    dataset = tf.data.Dataset.from_generator(stacked_batches, output_signature=signature).unbatch()
    if further:
        dataset = dataset.map(lambda ids, inputs, *rest: ((ids, inputs), *rest))
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(batches))).prefetch(2)
    options = tf.data.Options()
    # There is nothing to autotune, and the end of a training would wait for the autotuner's
    # thread, which sleeps for up to a minute.
    options.autotune.enabled = False
    return dataset.with_options(options)


def repeat_batches(data: FitArguments, batch_size: int) -> Iterator[tuple[npt.ArrayLike, ...]]:
    """Yield the training batches of ``fit`` arguments, endlessly."""
    while True:
        if not isinstance(data["x"], np.ndarray):
            yield from data["x"]
            continue
        for first in range(0, len(data["x"]), batch_size):
            part = slice(first, first + batch_size)
            yield data["x"][part], data["y"][part]
