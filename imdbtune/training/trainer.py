"""One trial: a :class:`TrialSpec` in, a :class:`TrialResult` out.

Knows neither Keras Tuner nor MLflow nor the command line, and writes nothing but the two files
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

# Below this many time steps in all (steps an epoch x epochs x maxlen) compiling costs more
# than it saves; measured by benchmarks/steps.py.
COMPILE_FROM = 10_000
# Batches that Python hands to TensorFlow at once: each time takes as long as making some of them.
HANDED_OVER = 8
# Batches that are one in validation, where nothing depends on their size: fewer turns of the loop.
VALIDATED_AT_ONCE = 4


@dataclass
class Training:
    """What a single execution leaves behind."""

    model: Any
    history: list[Epoch]
    best_epoch: int
    score: float
    compiled: bool


def train_trial(spec: TrialSpec, on_epoch: OnEpoch = lambda execution, epoch: None) -> TrialResult:
    """Train one configuration, keep its best epoch's weights and save the model in plain layers.

    Args:
        spec: what to train; ``spec.folder`` receives ``model.keras`` (and ``state.npz``).
        on_epoch: called after each epoch with the execution's number (from 0) and its metrics.

    Raises:
        TrialFailed: the loss stopped being a number.
    """
    started = time.monotonic()
    sign = 1.0 if spec.larger_is_better else -1.0
    best: Training | None = None
    scores = []
    for execution in range(spec.executions):
        done = _train_once(spec, execution, on_epoch)
        scores.append(done.score)
        if best is None or sign * done.score > sign * best.score:
            best = done
    assert best is not None
    spec.folder.mkdir(parents=True, exist_ok=True)
    path = spec.folder / "model.keras"
    as_plain(best.model, spec.params, masked=spec.batching == "buckets").save(path)
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


def _prepared(spec: TrialSpec, seed: int) -> tuple[Any, dict[str, Any], bool]:
    """A model that is ready to be fitted, the arguments of ``fit``, and if it is compiled."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    compiled = wants_compiling(spec)
    if spec.batching == "padded":
        model, data = plain_model(spec.params, masked=False, seed=seed), _padded_data(spec)
    elif compiled:
        model, data = fused_model(spec.params, seed), _bucketed_data(spec, seed)
    else:
        model = plain_model(spec.params, seed=seed, for_training=True)
        data = _bucketed_data(spec, seed)
    initialize(model, seed)
    planned = spec.schedule_epochs or spec.epochs
    compile_model(model, spec.params, compiled, steps=_steps_an_epoch(spec) * planned)
    create_variables(model)
    return model, data, compiled


def _train_once(spec: TrialSpec, execution: int, on_epoch: OnEpoch) -> Training:
    model, data, compiled = _prepared(spec, spec.seed + execution)
    if spec.state is not None:
        load_state(model, spec.state)
    recorder = HistoryRecorder(lambda epoch: on_epoch(execution, epoch))
    stopper = keras.callbacks.EarlyStopping(
        monitor=spec.objective,
        mode="max" if spec.larger_is_better else "min",
        patience=spec.patience or spec.epochs + 1,
        restore_best_weights=True,
    )
    callbacks = [recorder, stopper] if spec.hold_out else [recorder]
    if spec.params.ema:
        callbacks.append(WeightAveraging())  # after those that are to see the averaged weights
    if spec.keep_state and execution == 0:
        callbacks.append(SaveState(_state_path(spec)))
    model.fit(
        **data,
        initial_epoch=spec.initial_epoch,
        epochs=spec.epochs,
        verbose=0,
        callbacks=callbacks,
    )
    best_epoch, score = best_of(recorder.history, spec)
    return Training(model, recorder.history, best_epoch, score, compiled)


def time_steps(spec: TrialSpec, seconds: float) -> StepTimes:
    """Make the first training steps of a trial, for about so many seconds after the first one."""
    spec = replace(spec, params=replace(spec.params, soft_labels=0.0))  # they take minutes to make
    began = time.monotonic()
    model, data, _ = _prepared(spec, spec.seed)
    positions, started = 0, 0.0
    for step, (x, y, *weights) in enumerate(_endless(data, spec.params.batch_size)):
        model.train_on_batch(x, y, *weights)
        if step == 0:  # tracing and compiling
            started = time.monotonic()
            continue
        words = np.asarray(x)
        columns = (words != 0).any(axis=0).sum() if spec.batching == "buckets" else words.shape[1]
        positions += int(columns) * len(words)
        if step > 2 and time.monotonic() - started > seconds:
            break
    return StepTimes(started - began, time.monotonic() - started, positions)


def _endless(data: dict[str, Any], batch_size: int) -> Iterator[tuple[Any, ...]]:
    """Training batches over and over."""
    while True:
        if not isinstance(data["x"], np.ndarray):
            yield from data["x"]
            continue
        for first in range(0, len(data["x"]), batch_size):
            part = slice(first, first + batch_size)
            yield data["x"][part], data["y"][part]


def best_of(history: list[Epoch], spec: TrialSpec) -> tuple[int, float]:
    """Number and objective of the best epoch, the first of equals; the last one without validation.

    The metrics of what was trained on say nothing about which epoch is best.
    """
    if not spec.hold_out:
        return int(history[-1]["epoch"]), history[-1][spec.measure]
    sign = 1.0 if spec.larger_is_better else -1.0
    best = max(history, key=lambda epoch: (sign * epoch[spec.objective], -epoch["epoch"]))
    return int(best["epoch"]), best[spec.objective]


def wants_compiling(spec: TrialSpec) -> bool:
    """Whether the steps are compiled: as told, or if it pays and cuDNN is not to be had."""
    if spec.compile != "auto":
        return spec.compile == "on"
    if spec.batching == "padded" and tf.config.list_physical_devices("GPU"):
        return False
    steps = _steps_an_epoch(spec) * (spec.epochs - spec.initial_epoch)
    return steps * spec.params.maxlen * spec.params.depth >= COMPILE_FROM


def _steps_an_epoch(spec: TrialSpec) -> int:
    return math.ceil(len(_parts(spec)[0]) / spec.params.batch_size)


def _parts(spec: TrialSpec) -> tuple[Index, Index]:
    """Row numbers of the reviews to train on, and of those that are held out."""
    rows = _rows(spec)
    return validation_split(rows) if spec.hold_out else (np.arange(rows), np.arange(0))


def _rows(spec: TrialSpec) -> int:
    return limit_rows(len(read_corpus(spec.corpus).train), spec.reviews)


def _padded_data(spec: TrialSpec) -> dict[str, Any]:
    """Listing 6.22 and the ``fit`` arguments of Listing 6.23."""
    train = read_corpus(spec.corpus).train
    rows = np.arange(_rows(spec))
    ids = pad(train, rows, spec.params.maxlen, spec.params.vocabulary)
    labels = train.labels[rows].astype(np.float32)
    held_out = {"validation_split": VALIDATION_SHARE} if spec.hold_out else {}
    return {"x": ids, "y": labels, "batch_size": spec.params.batch_size, **held_out}


def _bucketed_data(spec: TrialSpec, seed: int) -> dict[str, Any]:
    train = read_corpus(spec.corpus).train
    params = spec.params
    part, held_out = _parts(spec)
    shape = (params.batch_size, params.maxlen, params.vocabulary)
    rng = np.random.default_rng([seed, spec.initial_epoch])
    targets = soft_labels(spec.corpus, len(part), params.soft_labels)
    batches = Batches(train, part, *shape, targets, params.word_dropout, params.crop)
    data = {"x": as_dataset(batches, rng)}
    if spec.hold_out:
        size = params.batch_size * min(VALIDATED_AT_ONCE, -(-len(held_out) // params.batch_size))
        data["validation_data"] = as_dataset(Batches(train, held_out, size, *shape[1:]))
    return {**data, "shuffle": False}


def as_dataset(batches: Batches, rng: np.random.Generator | None = None) -> tf.data.Dataset:
    """The batches as TensorFlow reads them; each pass is shuffled anew by a child of ``rng``.

    So an epoch is the same however far the one before it was read ahead.
    """
    shape = (batches.batch_size, batches.maxlen)
    signature = (
        tf.TensorSpec((None, *shape), tf.int32),
        tf.TensorSpec((None, batches.batch_size, 1), tf.float32),
        tf.TensorSpec((None, batches.batch_size), tf.float32),
    )

    def some_at_once() -> Iterator[tuple[Any, ...]]:
        left = batches.epoch(rng and rng.spawn(1)[0])
        while some := list(itertools.islice(left, HANDED_OVER)):
            yield tuple(np.stack(parts) for parts in zip(*some, strict=True))

    made = tf.data.Dataset.from_generator(some_at_once, output_signature=signature).unbatch()
    made = made.apply(tf.data.experimental.assert_cardinality(len(batches))).prefetch(2)
    options = tf.data.Options()
    # Nothing here is to be tuned, and the end of a training waits for the tuner's thread, which
    # sleeps for up to a minute.
    options.autotune.enabled = False
    return made.with_options(options)


class HistoryRecorder(keras.callbacks.Callback):
    """Collects the history, reports each epoch, and stops a training that has lost its way."""

    def __init__(self, on_epoch: Callable[[Epoch], None]) -> None:
        super().__init__()
        self.on_epoch = on_epoch
        self.history: list[Epoch] = []
        self._began = 0.0

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Start the epoch's clock."""
        self._began = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Record the epoch; raises TrialFailed if a metric is not a finite number."""
        metrics = {name: float(value) for name, value in (logs or {}).items()}
        done = {"epoch": float(epoch + 1), **metrics, "seconds": time.monotonic() - self._began}
        self.history.append(done)
        self.on_epoch(done)
        lost = [name for name, value in metrics.items() if not math.isfinite(value)]
        if lost:
            raise TrialFailed(f"{lost[0]} became {metrics[lost[0]]} in epoch {epoch + 1}.")


class WeightAveraging(keras.callbacks.SwapEMAWeights):
    """Puts the averaged weights in the model's place from the validation to the epoch's end.

    So the weights that are measured are those that early stopping keeps; Keras's own callback
    takes them out in between. The training goes on from the others.
    """

    def on_test_end(self, logs: Mapping[str, float] | None = None) -> None:
        """Leave them there."""

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Swap back."""
        super().on_test_end(logs)


class SaveState(keras.callbacks.Callback):
    """Saves weights and optimizer as the last epoch left them, to go on from later."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Save after the last epoch, before Keras or early stopping put other weights in place."""
        if self.model.stop_training or epoch + 1 == self.params["epochs"]:
            save_state(self.model, self.path)


def _state_path(spec: TrialSpec) -> Path:
    return spec.folder / "state.npz"


def save_state(model: keras.Model, path: Path) -> None:
    """Write all variables, the optimizer's included; aside first, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as aside, aside.open("wb") as file:
        np.savez(file, *[np.asarray(v) for v in _variables(model)])
        file.flush()
        os.fsync(file.fileno())  # else a power failure may leave the new name on an empty file


def load_state(model: keras.Model, path: Path) -> None:
    """Put back what :func:`save_state` wrote for a model of the same shape."""
    with np.load(path, allow_pickle=False) as arrays:
        for number, variable in enumerate(_variables(model)):
            variable.assign(arrays[f"arr_{number}"])


def _variables(model: keras.Model) -> list[Any]:
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    return [*model.variables, *model.optimizer.variables]
