"""Train one trial: a :class:`TrialSpec` in, a :class:`TrialResult` out.

This module does not know Keras Tuner, MLflow or the command line, and writes only the two files
that the result names, and checkpoints.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean

import keras
import numpy as np

from imdbtune.config.own_model import output_count
from imdbtune.data.batches import FloatArray
from imdbtune.models.builders import (
    compile_model,
    compile_own,
    create_variables,
    plain_weights,
    takes_one_hot,
    trained_weights,
    training_loss,
)
from imdbtune.training.callbacks import (
    BestEpoch,
    CorrectnessRecorder,
    HistoryRecorder,
    Report,
    ReportEpochs,
    SaveCheckpoint,
    SaveState,
    WeightAveraging,
)
from imdbtune.training.executions import (
    Execution,
    best_execution,
    best_of,
    joint_record,
    length_groups,
    reported_epoch,
    whole_folds,
)
from imdbtune.training.fit_data import (
    FitArguments,
    bucketed_data,
    class_count,
    inputs_of,
    no_inputs,
    padded_data,
    repeat_batches,
    steps_per_epoch,
)
from imdbtune.training.new_model import can_use_cudnn, new_model, save_model
from imdbtune.training.saved_state import (
    Array,
    Checkpoint,
    checkpoint_path,
    find_checkpoint,
    load_state,
    save_checkpoint,
)
from imdbtune.training.spec import Epoch, OnEpoch, Recorded, StepTimes, TrialResult, TrialSpec
from imdbtune.training.trial_metrics import confusion, make_recorder, resample_objective
from imdbtune.training.xla_cache import reuse_compiled_code

# Below this number of time steps (steps per epoch x epochs x maxlen x depth) compiling costs more
# than it saves; measured by benchmarks/steps.py.
COMPILE_FROM = 10_000


@reuse_compiled_code()
def train_trial(spec: TrialSpec, on_epoch: OnEpoch = lambda execution, epoch: None) -> TrialResult:
    """Train a trial, and save the weights of its best epoch as a model of plain Keras layers.

    A checkpoint that an earlier attempt has left in ``spec.folder`` is continued: its epochs are
    reported first.

    Args:
        spec: ``spec.folder`` receives ``model.keras``, and ``state.npz`` with ``keep_state``.
        on_epoch: called after each epoch with the execution's number (from 0) and its metrics. If
            it returns true, the trial ends with this epoch, and has no further executions. The
            last epoch of each fold of a cross-validation has the mean over the folds so far, by the
            name ``FOLDS_MEAN``.

    Raises:
        TrialFailed: a metric is not a finite number.
    """
    kept = find_checkpoint(spec) or Checkpoint()
    started = time.monotonic() - kept.seconds
    ended: list[Execution] = []

    def save(
        model: keras.Model,
        history: list[Epoch],
        recorded: Recorded,
        best_weights: Sequence[Array],
    ) -> None:
        histories = [*(execution.history for execution in ended), history]
        records = [*(execution.recorded for execution in ended), recorded]
        best_model = best_execution(ended, spec).weights if ended else ()
        seconds = time.monotonic() - started
        kept = Checkpoint(histories, records, seconds, best_weights, best_model)
        save_checkpoint(spec, model, kept)

    def report(number: int, history: Sequence[Epoch], is_last: bool) -> bool | None:
        return on_epoch(number, reported_epoch(history, is_last, ended, spec))

    for number in range(spec.settings.trainings):
        report_own, own = partial(report, number), replace(spec, fold=number)
        if number < kept.execution:
            execution = _ended_earlier(own, number, kept, report_own)
        else:
            current = kept if number == kept.execution else Checkpoint()
            execution = _train_once(own, number, report_own, current, save)
        ended.append(execution)
        if execution.pruned_after:
            break
    return _save_result(ended, spec, started)


def _save_result(trained: Sequence[Execution], spec: TrialSpec, started: float) -> TrialResult:
    """Save the model of the best execution, and return the result of all."""
    ended = whole_folds(trained, spec)
    best = best_execution(ended, spec)
    folds = tuple(execution.best for execution in ended) if spec.settings.folds else ()
    was_pruned = bool(trained[-1].pruned_after)
    recorded = joint_record(ended, spec)
    spec.folder.mkdir(parents=True, exist_ok=True)
    path = spec.folder / "model.keras"
    model = save_model(best.weights, spec, path)
    return TrialResult(
        history=tuple(best.history),
        best_epoch=round(fmean(e["epoch"] for e in folds)) if folds else best.best_epoch,
        scores=tuple(execution.score for execution in ended),
        seconds=time.monotonic() - started,
        parameter_count=trained_weights(model, spec.params),
        model=path,
        state=_state_path(spec) if spec.keep_state else None,
        compiled=should_compile(spec),
        pruned_after=len(folds) * was_pruned if folds else ended[-1].pruned_after,
        right=recorded.right,
        by_length=length_groups(ended, recorded, spec),
        confusion=confusion(spec, recorded.predicted),
        draws=resample_objective(spec, recorded.predicted),
        objective=spec.settings.objective,
        folds=folds,
    )


def _ended_earlier(spec: TrialSpec, number: int, kept: Checkpoint, report: Report) -> Execution:
    """Return an execution that an earlier attempt has finished.

    Its weights are those of the best one of these, which are the only ones that are needed.
    """
    history = kept.histories[number]
    pruned_after = _report_again(history, report, has_ended=True)
    recorded = kept.recorded[number]
    return Execution(kept.best_model, history, *best_of(history, spec), pruned_after, recorded)


def _report_again(history: Sequence[Epoch], report: Report, *, has_ended: bool) -> int:
    """Report the epochs of an earlier attempt; return the last one if the trial ends with it.

    The answer may have come too late for the earlier attempt, or the rules may have changed.
    """
    count = len(history)
    answers = [report(history[:n], has_ended and n == count) for n in range(1, count + 1)]
    return int(history[-1]["epoch"]) if any(answers) else 0


def _prepare(
    spec: TrialSpec, seed: int, passes: int = 0, inputs: FloatArray | None = None
) -> tuple[keras.Model, FitArguments, CorrectnessRecorder]:
    """Return a model ready for training, its ``fit`` arguments, and what records its validation.

    Args:
        passes: over the reviews, in an earlier attempt.
        inputs: further ones of a model with n-grams.
    """
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    compiled = should_compile(spec)
    model = new_model(spec, seed, compiled)
    padded = spec.settings.batching == "padded"
    classes = class_count(spec)
    one_hot = takes_one_hot(training_loss(model, spec.params, classes), classes)
    data = (
        padded_data(spec, one_hot) if padded else bucketed_data(spec, seed, passes, one_hot, inputs)
    )
    recorder = make_recorder(spec, output_count(classes))
    compile_ = compile_own if spec.source is not None else compile_model
    compile_(model, spec.params, compiled, _scheduled_steps(spec), recorder.accuracy, classes)
    create_variables(model, classes)
    return model, data, recorder


def _scheduled_steps(spec: TrialSpec) -> int:
    """Return the number of steps after which the learning rate of a schedule is 0."""
    return steps_per_epoch(spec) * (spec.settings.schedule_epochs or spec.settings.epochs)


def _train_once(
    spec: TrialSpec,
    number: int,
    report: Report,
    kept: Checkpoint,
    save: Callable[[keras.Model, list[Epoch], Recorded, Sequence[Array]], None],
) -> Execution:
    """Train an execution, after the epochs of ``kept``."""
    settings, earlier = spec.settings, kept.histories[-1]
    inputs = inputs_of(spec) if spec.params.ngrams else None
    model, data, recorded = _prepare(spec, settings.seed + number, len(earlier), inputs)
    recorded.resume(kept.recorded[-1], earlier)
    state = checkpoint_path(spec) if earlier else spec.state
    if state is not None:
        load_state(model, state)
    recorder = HistoryRecorder(earlier, report)
    stopper = _early_stopping(spec, kept)
    chooses = settings.hold_out and settings.keep_best
    callbacks = [recorded, recorder, stopper] if chooses else [recorded, recorder]
    if spec.params.ema:
        callbacks.append(WeightAveraging())  # last, so that early stopping sees averaged weights
    callbacks.append(
        SaveCheckpoint(
            recorder,
            spec.checkpoint_after_s,
            lambda model: save(
                model, recorder.history, recorded.recorded, stopper.best_weights or ()
            ),
        )
    )
    # An attempt that ends while it waits for the answer need not train the epoch again.
    callbacks.append(reporter := ReportEpochs(recorder, report))
    if spec.keep_state and number == 0:
        callbacks.append(SaveState(_state_path(spec)))
    pruned_after = _report_again(earlier, report, has_ended=False)
    model.fit(
        **data,
        initial_epoch=kept.epoch or settings.initial_epoch,
        epochs=pruned_after or settings.epochs,  # without epochs, it restores the best weights
        verbose=0,
        callbacks=callbacks,
    )
    is_cut = bool(pruned_after) or reporter.is_cut
    history, pruned_after = recorder.history, pruned_after or reporter.pruned_after
    weights = model.get_weights() if spec.source else plain_weights(model)
    best = best_of(history, spec)
    return Execution(weights, history, *best, pruned_after, recorded.recorded, is_cut)


def _early_stopping(spec: TrialSpec, kept: Checkpoint) -> BestEpoch:
    """Return the callback that stops early and restores the best weights, after earlier epochs."""
    settings, earlier = spec.settings, kept.histories[-1]
    best = best_of(earlier, spec) if earlier else (0, 0.0)
    return BestEpoch(
        kept.best_weights,
        best,
        waited=kept.epoch - best[0],
        monitor=settings.objective,
        mode="max" if spec.sign > 0 else "min",
        patience=settings.patience or settings.epochs + 1,
    )


@reuse_compiled_code()
def time_steps(spec: TrialSpec, seconds: float) -> StepTimes:
    """Time the first training steps of a trial, for about ``seconds`` after the first step."""
    # What is prepared for a training would take minutes, and does not change the time of a step.
    spec = replace(spec, params=replace(spec.params, soft_labels=0.0, word_vectors="random"))
    inputs = no_inputs(spec) if spec.params.ngrams else None
    started = time.monotonic()
    model, data, _ = _prepare(spec, spec.settings.seed, inputs=inputs)
    steps, time_steps, first_done = 0, 0, 0.0
    for step, (x, y, *weights) in enumerate(repeat_batches(data, spec.params.batch_size)):
        model.train_on_batch(x, y, *weights)
        if step == 0:  # tracing and compiling
            first_done = time.monotonic()
            continue
        ids = np.asarray(x[0] if isinstance(x, tuple) else x)
        padded = spec.settings.batching == "padded" or spec.source is not None
        time_steps += ids.shape[1] if padded else int((ids != 0).any(axis=0).sum())
        steps += 1
        if step > 2 and time.monotonic() - first_done > seconds:
            break
    return StepTimes(first_done - started, time.monotonic() - first_done, steps, time_steps)


def should_compile(spec: TrialSpec) -> bool:
    """Return whether XLA compiles the steps: as configured, or if it saves time without cuDNN."""
    if spec.settings.compile != "auto":
        return spec.settings.compile == "on"
    if spec.source is not None:
        return False  # it may have operations that XLA does not know
    if can_use_cudnn(spec):
        return False  # it is faster, and XLA cannot use it
    steps = steps_per_epoch(spec) * (spec.settings.epochs - spec.settings.initial_epoch)
    return steps * spec.params.maxlen * spec.params.depth >= COMPILE_FROM


def _state_path(spec: TrialSpec) -> Path:
    return spec.folder / "state.npz"
