"""Train one trial: a :class:`TrialSpec` in, a :class:`TrialResult` out.

This module does not know Keras Tuner, MLflow or the command line, and writes only the two files
that the result names.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict

import keras
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
from imdbtune.models.builders import (
    as_plain,
    compile_model,
    create_variables,
    fused_model,
    initialize,
    plain_model,
)
from imdbtune.training.callbacks import HistoryRecorder, SaveState, WeightAveraging, load_state
from imdbtune.training.soft_labels import soft_labels
from imdbtune.training.spec import Epoch, OnEpoch, StepTimes, TrialResult, TrialSpec
from imdbtune.training.xla_cache import reuse_compiled_code

# Below this number of time steps (steps per epoch x epochs x maxlen x depth) compiling costs more
# than it saves; measured by benchmarks/steps.py.
COMPILE_FROM = 10_000
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


@dataclass
class Execution:
    """The result of one of a trial's executions."""

    model: keras.Model
    history: list[Epoch]
    best_epoch: int
    score: float
    compiled: bool
    pruned_after: int


@reuse_compiled_code()
def train_trial(spec: TrialSpec, on_epoch: OnEpoch = lambda execution, epoch: None) -> TrialResult:
    """Train a trial, and save the weights of its best epoch as a model of plain Keras layers.

    Args:
        spec: ``spec.folder`` receives ``model.keras``, and ``state.npz`` with ``keep_state``.
        on_epoch: called after each epoch with the execution's number (from 0) and its metrics. If
            it returns true, the trial ends with this epoch, and has no further executions.

    Raises:
        TrialFailed: a metric is not a finite number.
    """
    started = time.monotonic()
    sign = 1.0 if spec.settings.larger_is_better else -1.0
    best: Execution | None = None
    scores = []
    for number in range(spec.settings.executions):
        execution = _train_once(spec, number, on_epoch)
        scores.append(execution.score)
        if best is None or sign * execution.score > sign * best.score:
            best = execution
        if execution.pruned_after:
            break
    assert best is not None
    spec.folder.mkdir(parents=True, exist_ok=True)
    path = spec.folder / "model.keras"
    as_plain(best.model, spec.params, masked=spec.settings.batching == "buckets").save(path)
    return TrialResult(
        history=tuple(best.history),
        best_epoch=best.best_epoch,
        scores=tuple(scores),
        seconds=time.monotonic() - started,
        parameter_count=int(best.model.count_params()),
        model=path,
        state=_state_path(spec) if spec.keep_state else None,
        compiled=best.compiled,
        pruned_after=execution.pruned_after,
    )


def _prepare(spec: TrialSpec, seed: int) -> tuple[keras.Model, FitArguments, bool]:
    """Return a model ready for training, its ``fit`` arguments, and whether XLA compiles it."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    compiled = should_compile(spec)
    if spec.settings.batching == "padded":
        model, data = plain_model(spec.params, masked=False, seed=seed), _padded_data(spec)
    elif compiled:
        model, data = fused_model(spec.params, seed), _bucketed_data(spec, seed)
    else:
        model = plain_model(spec.params, seed=seed, for_training=True)
        data = _bucketed_data(spec, seed)
    initialize(model, seed)
    schedule_epochs = spec.settings.schedule_epochs or spec.settings.epochs
    compile_model(model, spec.params, compiled, steps=_steps_per_epoch(spec) * schedule_epochs)
    create_variables(model)
    return model, data, compiled


def _train_once(spec: TrialSpec, number: int, on_epoch: OnEpoch) -> Execution:
    model, data, compiled = _prepare(spec, spec.settings.seed + number)
    if spec.state is not None:
        load_state(model, spec.state)
    recorder = HistoryRecorder(lambda epoch: on_epoch(number, epoch))
    stopper = keras.callbacks.EarlyStopping(
        monitor=spec.settings.objective,
        mode="max" if spec.settings.larger_is_better else "min",
        patience=spec.settings.patience or spec.settings.epochs + 1,
        restore_best_weights=True,
    )
    callbacks = [recorder, stopper] if spec.settings.hold_out else [recorder]
    if spec.params.ema:
        callbacks.append(WeightAveraging())  # last, so that early stopping sees averaged weights
    if spec.keep_state and number == 0:
        callbacks.append(SaveState(_state_path(spec)))
    model.fit(
        **data,
        initial_epoch=spec.settings.initial_epoch,
        epochs=spec.settings.epochs,
        verbose=0,
        callbacks=callbacks,
    )
    best_epoch, score = best_of(recorder.history, spec)
    pruned_after = recorder.pruned_after
    return Execution(model, recorder.history, best_epoch, score, compiled, pruned_after)


@reuse_compiled_code()
def time_steps(spec: TrialSpec, seconds: float) -> StepTimes:
    """Time the first training steps of a trial, for about ``seconds`` after the first step."""
    # Soft labels would take minutes, and do not change the time of a step.
    spec = replace(spec, params=replace(spec.params, soft_labels=0.0))
    started = time.monotonic()
    model, data, _ = _prepare(spec, spec.settings.seed)
    positions, first_done = 0, 0.0
    for step, (x, y, *weights) in enumerate(_repeat_batches(data, spec.params.batch_size)):
        model.train_on_batch(x, y, *weights)
        if step == 0:  # tracing and compiling
            first_done = time.monotonic()
            continue
        ids = np.asarray(x)
        columns = (
            (ids != 0).any(axis=0).sum() if spec.settings.batching == "buckets" else ids.shape[1]
        )
        positions += int(columns) * len(ids)
        if step > 2 and time.monotonic() - first_done > seconds:
            break
    return StepTimes(first_done - started, time.monotonic() - first_done, positions)


def _repeat_batches(data: FitArguments, batch_size: int) -> Iterator[tuple[npt.ArrayLike, ...]]:
    """Yield the training batches of ``fit`` arguments, endlessly."""
    while True:
        if not isinstance(data["x"], np.ndarray):
            yield from data["x"]
            continue
        for first in range(0, len(data["x"]), batch_size):
            part = slice(first, first + batch_size)
            yield data["x"][part], data["y"][part]


def best_of(history: list[Epoch], spec: TrialSpec) -> tuple[int, float]:
    """Return the number and the objective of the best epoch, the first of equals.

    Without validation it is the last epoch: training metrics do not show which is best.
    """
    if not spec.settings.hold_out:
        return int(history[-1]["epoch"]), history[-1][spec.settings.measure]
    sign = 1.0 if spec.settings.larger_is_better else -1.0
    best = max(history, key=lambda epoch: (sign * epoch[spec.settings.objective], -epoch["epoch"]))
    return int(best["epoch"]), best[spec.settings.objective]


def should_compile(spec: TrialSpec) -> bool:
    """Return whether XLA compiles the steps: as configured, or if it saves time without cuDNN."""
    if spec.settings.compile != "auto":
        return spec.settings.compile == "on"
    if spec.settings.batching == "padded" and tf.config.list_physical_devices("GPU"):
        return False  # cuDNN, which XLA cannot use, is faster
    steps = _steps_per_epoch(spec) * (spec.settings.epochs - spec.settings.initial_epoch)
    return steps * spec.params.maxlen * spec.params.depth >= COMPILE_FROM


def _steps_per_epoch(spec: TrialSpec) -> int:
    return math.ceil(len(_train_and_validation_rows(spec)[0]) / spec.params.batch_size)


def _train_and_validation_rows(spec: TrialSpec) -> tuple[Index, Index]:
    count = _review_count(spec)
    return validation_split(count) if spec.settings.hold_out else (np.arange(count), np.arange(0))


def _review_count(spec: TrialSpec) -> int:
    return limit_rows(len(read_corpus(spec.corpus).train), spec.settings.reviews)


def _padded_data(spec: TrialSpec) -> FitArguments:
    """Return the data of Listing 6.22 as the ``fit`` arguments of Listing 6.23."""
    train = read_corpus(spec.corpus).train
    rows = np.arange(_review_count(spec))
    ids = pad(train, rows, spec.params.maxlen, spec.params.vocabulary)
    labels = train.labels[rows].astype(np.float32)
    data: FitArguments = {"x": ids, "y": labels, "batch_size": spec.params.batch_size}
    if spec.settings.hold_out:
        data["validation_split"] = VALIDATION_SHARE
    return data


def _bucketed_data(spec: TrialSpec, seed: int) -> FitArguments:
    """Return the ``fit`` arguments for masked batches of similar length."""
    train = read_corpus(spec.corpus).train
    params = spec.params
    train_rows, validation_rows = _train_and_validation_rows(spec)
    shape = (params.batch_size, params.maxlen, params.vocabulary)
    rng = np.random.default_rng([seed, spec.settings.initial_epoch])
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


def _state_path(spec: TrialSpec) -> Path:
    return spec.folder / "state.npz"
