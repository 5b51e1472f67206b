"""Train one trial: a :class:`TrialSpec` in, a :class:`TrialResult` out.

This module does not know Keras Tuner, MLflow or the command line, and writes only the two files
that the result names.
"""

from __future__ import annotations

import itertools
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
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
from imdbtune.errors import TrialFailed
from imdbtune.files import atomic_path
from imdbtune.models.builders import (
    as_plain,
    compile_model,
    create_variables,
    fused_model,
    initialize,
    plain_model,
)
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


@dataclass
class Execution:
    """The result of one of a trial's executions."""

    model: Any
    history: list[Epoch]
    best_epoch: int
    score: float
    compiled: bool


@reuse_compiled_code()
def train_trial(spec: TrialSpec, on_epoch: OnEpoch = lambda execution, epoch: None) -> TrialResult:
    """Train a trial, and save the weights of its best epoch as a model of plain Keras layers.

    Args:
        spec: ``spec.folder`` receives ``model.keras``, and ``state.npz`` with ``keep_state``.
        on_epoch: called after each epoch with the execution's number (from 0) and its metrics.

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
    )


def _prepare(spec: TrialSpec, seed: int) -> tuple[Any, dict[str, Any], bool]:
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
    return Execution(model, recorder.history, best_epoch, score, compiled)


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


def _repeat_batches(data: dict[str, Any], batch_size: int) -> Iterator[tuple[Any, ...]]:
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


def _padded_data(spec: TrialSpec) -> dict[str, Any]:
    """Return the data of Listing 6.22 as the ``fit`` arguments of Listing 6.23."""
    train = read_corpus(spec.corpus).train
    rows = np.arange(_review_count(spec))
    ids = pad(train, rows, spec.params.maxlen, spec.params.vocabulary)
    labels = train.labels[rows].astype(np.float32)
    validation = {"validation_split": VALIDATION_SHARE} if spec.settings.hold_out else {}
    return {"x": ids, "y": labels, "batch_size": spec.params.batch_size, **validation}


def _bucketed_data(spec: TrialSpec, seed: int) -> dict[str, Any]:
    """Return the ``fit`` arguments for masked batches of similar length."""
    train = read_corpus(spec.corpus).train
    params = spec.params
    train_rows, validation_rows = _train_and_validation_rows(spec)
    shape = (params.batch_size, params.maxlen, params.vocabulary)
    rng = np.random.default_rng([seed, spec.settings.initial_epoch])
    labels = soft_labels(spec.corpus, len(train_rows), params.soft_labels)
    batches = Batches(train, train_rows, *shape, labels, params.word_dropout, params.crop)
    data = {"x": as_dataset(batches, rng)}
    if spec.settings.hold_out:
        count = math.ceil(len(validation_rows) / params.batch_size)
        size = params.batch_size * min(VALIDATION_BATCHES, count)
        data["validation_data"] = as_dataset(Batches(train, validation_rows, size, *shape[1:]))
    return {**data, "shuffle": False}


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

    def stacked_batches() -> Iterator[tuple[Any, ...]]:
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


class HistoryRecorder(keras.callbacks.Callback):
    """Collect the history, report each epoch, and stop a training that has diverged."""

    def __init__(self, on_epoch: Callable[[Epoch], None]) -> None:
        super().__init__()
        self.on_epoch = on_epoch
        self.history: list[Epoch] = []
        self._started = 0.0

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Start the epoch's clock."""
        self._started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Record the epoch; raise TrialFailed if a metric is not a finite number."""
        metrics = {name: float(value) for name, value in (logs or {}).items()}
        row = {"epoch": float(epoch + 1), **metrics, "seconds": time.monotonic() - self._started}
        self.history.append(row)
        self.on_epoch(row)
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise TrialFailed(f"{name} became {value} in epoch {epoch + 1}.")


class WeightAveraging(keras.callbacks.SwapEMAWeights):
    """Use the averaged weights from the validation to the end of the epoch.

    So early stopping saves the same weights that were validated; Keras's callback swaps them back
    before that. Training continues from the weights without averaging.
    """

    def on_test_end(self, logs: Mapping[str, float] | None = None) -> None:
        """Do not swap back yet."""

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Swap back to the weights without averaging."""
        super().on_test_end(logs)


class SaveState(keras.callbacks.Callback):
    """Save weights and optimizer after the last epoch, to continue the training later."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Save after the last epoch, before Keras or early stopping restore other weights."""
        if self.model.stop_training or epoch + 1 == self.params["epochs"]:
            save_state(self.model, self.path)


def _state_path(spec: TrialSpec) -> Path:
    return spec.folder / "state.npz"


def save_state(model: keras.Model, path: Path) -> None:
    """Write all variables of a model and its optimizer, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, *[np.asarray(v) for v in _variables(model)])
        file.flush()
        os.fsync(file.fileno())  # after a power failure, the renamed file could be empty


def load_state(model: keras.Model, path: Path) -> None:
    """Restore the variables that :func:`save_state` wrote for a model of the same shape."""
    with np.load(path, allow_pickle=False) as arrays:
        for number, variable in enumerate(_variables(model)):
            variable.assign(arrays[f"arr_{number}"])


def _variables(model: keras.Model) -> list[Any]:
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    return [*model.variables, *model.optimizer.variables]
