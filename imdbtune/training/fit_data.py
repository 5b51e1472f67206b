"""The reviews of a trial, as the arguments of ``keras.Model.fit``."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import TypedDict

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from imdbtune.data.batches import (
    VALIDATION_SHARE,
    Batches,
    Index,
    limit_rows,
    pad,
    validation_split,
)
from imdbtune.data.corpus import read_corpus
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
    validation_data: tf.data.Dataset


def steps_per_epoch(spec: TrialSpec) -> int:
    """Return the number of batches in an epoch of training."""
    return math.ceil(len(_train_and_validation_rows(spec)[0]) / spec.params.batch_size)


def _train_and_validation_rows(spec: TrialSpec) -> tuple[Index, Index]:
    count = _review_count(spec)
    return validation_split(count) if spec.settings.hold_out else (np.arange(count), np.arange(0))


def _review_count(spec: TrialSpec) -> int:
    return limit_rows(len(read_corpus(spec.corpus).train), spec.settings.reviews)


def padded_data(spec: TrialSpec) -> FitArguments:
    """Return the data of Listing 6.22 as the ``fit`` arguments of Listing 6.23."""
    train = read_corpus(spec.corpus).train
    rows = np.arange(_review_count(spec))
    ids = pad(train, rows, spec.params.maxlen, spec.params.vocabulary)
    labels = train.labels[rows].astype(np.float32)
    data: FitArguments = {"x": ids, "y": labels, "batch_size": spec.params.batch_size}
    if spec.settings.hold_out:
        data["validation_split"] = VALIDATION_SHARE
    return data


def bucketed_data(spec: TrialSpec, seed: int, passes: int) -> FitArguments:
    """Return the ``fit`` arguments for masked batches of similar length, after earlier passes."""
    train = read_corpus(spec.corpus).train
    params = spec.params
    train_rows, validation_rows = _train_and_validation_rows(spec)
    shape = (params.batch_size, params.maxlen, params.vocabulary)
    rng = np.random.default_rng([seed, spec.settings.initial_epoch])
    rng.spawn(passes)
    labels = soft_labels(spec.corpus, len(train_rows), params.soft_labels)
    batches = Batches(train, train_rows, *shape, labels, params.word_dropout, params.crop)
    data: FitArguments = {"x": as_dataset(batches, rng), "shuffle": False}
    if spec.settings.hold_out:
        count = math.ceil(len(validation_rows) / params.batch_size)
        size = params.batch_size * min(VALIDATION_BATCHES, count)
        data["validation_data"] = as_dataset(Batches(train, validation_rows, size, *shape[1:]))
    return data


def as_dataset(batches: Batches, rng: np.random.Generator | None = None) -> tf.data.Dataset:
    """Return the batches as a dataset; a child of ``rng`` shuffles each pass.

    So an epoch does not depend on how much of the previous pass was prefetched.
    """
    shape = (batches.batch_size, batches.maxlen)
    signature = (
        tf.TensorSpec((None, *shape), tf.int32),
        tf.TensorSpec((None, batches.batch_size, 1), tf.float32),
        tf.TensorSpec((None, batches.batch_size), tf.float32),
    )

    def stacked_batches() -> Iterator[tuple[npt.NDArray[np.generic], ...]]:
        remaining = batches.epoch(rng and rng.spawn(1)[0])
        while group := list(itertools.islice(remaining, BATCHES_PER_CALL)):
            yield tuple(np.stack(parts) for parts in zip(*group, strict=True))

    dataset = tf.data.Dataset.from_generator(stacked_batches, output_signature=signature).unbatch()
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(batches))).prefetch(2)
    options = tf.data.Options()
    # There is nothing to autotune, and the end of a training would wait for the autotuner's
    # thread, which sleeps for up to a minute.
    options.autotune.enabled = False
    return dataset.with_options(options)
