"""Callbacks of a training: its history, the average of its weights, and its saved states."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from imdbtune.errors import TrialFailed, UserError
from imdbtune.models.metrics.metric import Metric, measure
from imdbtune.models.metrics.recorded_accuracy import RecordedAccuracy
from imdbtune.models.metrics.recorded_predictions import RecordedPredictions
from imdbtune.training.fit_data import ValidationOrder
from imdbtune.training.saved_state import Array, save_state
from imdbtune.training.spec import (
    NO_PREDICTIONS,
    NOT_MEASURED,
    Correctness,
    Epoch,
    Recorded,
)

# Called with the history of an execution, and whether its last epoch is the end of the execution.
Report = Callable[[Sequence[Epoch], bool], bool | None]


class HistoryRecorder(keras.callbacks.Callback):
    """Collect the history, and stop a training that has diverged.

    Args:
        history: the epochs of an earlier attempt.
        report: called in the epoch in which the training diverges; :class:`ReportEpochs` reports
            the others.
    """

    def __init__(self, history: Sequence[Epoch], report: Report) -> None:
        super().__init__()
        self.history = list(history)
        self.report = report
        self._started = 0.0

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Start the epoch's clock."""
        self._started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Record the epoch; raise TrialFailed if a metric is not a finite number."""
        metrics = {name: float(value) for name, value in (logs or {}).items()}
        row = {"epoch": float(epoch + 1), **metrics, "seconds": time.monotonic() - self._started}
        self.history.append(row)
        for name, value in metrics.items():
            if not math.isfinite(value):
                self.report(self.history, False)
                raise TrialFailed(f"{name} became {value} in epoch {epoch + 1}.")


class CorrectnessRecorder(keras.callbacks.Callback):
    """Collect which validation reviews the model classifies right after each epoch.

    Args:
        order: of the validation reviews; None: there are none.
    """

    def __init__(self, order: ValidationOrder | None) -> None:
        super().__init__()
        self.order = order
        # To be compiled with:
        self.accuracy: RecordedAccuracy | None = RecordedAccuracy(order.rows) if order else None
        self.epochs: list[Correctness] = []
        self.predicted = NO_PREDICTIONS

    def resume(self, earlier: Recorded, history: Sequence[Epoch]) -> None:
        """Go on after the epochs of an earlier attempt."""
        self.epochs, self.predicted = list(earlier.right), earlier.predicted

    @property
    def recorded(self) -> Recorded:
        """The record of all epochs."""
        return Recorded(np.array(self.epochs) if self.epochs else NOT_MEASURED, self.predicted)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Record the epoch."""
        if self.order and self.accuracy:
            self.epochs.append(self.accuracy.record()[self.order.places])


class MetricsRecorder(CorrectnessRecorder):
    """Also measure what is no mean over batches, and keep the predictions of the best epoch.

    It comes before all callbacks that read the values of an epoch, to which it adds.

    Args:
        order: of the validation reviews; None: there are none.
        metrics: to measure, by name.
        longest: rows of a pass of training.
        outputs: of the model.
        goal: the objective that chooses the best epoch, and 1, or -1 if smaller values are better;
            None: the last epoch counts.
    """

    def __init__(
        self,
        order: ValidationOrder | None,
        metrics: Mapping[str, Metric],
        longest: int,
        outputs: int,
        goal: tuple[str, float] | None,
    ) -> None:
        super().__init__(order)
        self.metrics = metrics
        rows = order.rows if order else longest
        self.record = RecordedPredictions(rows, longest, outputs)
        self.accuracy = self.record
        self.goal = goal
        self._best = -math.inf
        self._of_training: dict[str, float] = {}

    def resume(self, earlier: Recorded, history: Sequence[Epoch]) -> None:
        """Go on after the epochs of an earlier attempt."""
        super().resume(earlier, history)
        if self.goal is not None:
            name, sign = self.goal
            self._best = max((sign * epoch[name] for epoch in history), default=-math.inf)

    def on_test_begin(self, logs: Mapping[str, float] | None = None) -> None:
        """Measure the predictions of the training steps, before validation records its own."""
        self._of_training = self._measure("")

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Measure the epoch, and record it."""
        values = {**self._of_training, **self._measure("val_")} if self.order else self._measure("")
        if logs is not None:
            logs.update(values)
        super().on_epoch_end(epoch, logs)
        if self.order and self._is_best({**(logs or {}), **values}):
            self.predicted = self.record.predictions()[self.order.places]

    def _is_best(self, values: Mapping[str, float]) -> bool:
        if self.goal is None:
            return True
        name, sign = self.goal
        before, self._best = self._best, max(self._best, sign * values[name])
        return self._best > before

    def _measure(self, prefix: str) -> dict[str, float]:
        try:
            found = measure(*self.record.last_pass(), self.metrics)
        except UserError as error:  # of the user's own metric
            raise TrialFailed(str(error)) from error
        return {prefix + name: value for name, value in found.items()}


class ReportEpochs(keras.callbacks.Callback):
    """Report each epoch, and stop the training where ``report`` returns true."""

    def __init__(self, recorder: HistoryRecorder, report: Report) -> None:
        super().__init__()
        self.recorder = recorder
        self.report = report
        self.pruned_after = 0  # epoch; 0: it was not
        self.is_cut = False  # the training would have gone on

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Report the epoch."""
        is_last = self.model.stop_training or epoch + 1 == self.params["epochs"]
        if self.report(self.recorder.history, is_last):
            self.pruned_after = epoch + 1
            self.is_cut = not is_last
            self.model.stop_training = True


class BestEpoch(keras.callbacks.EarlyStopping):
    """Early stopping that goes on where an earlier attempt was, and restores the best weights.

    Args:
        weights: of the model in the best epoch of the earlier attempt; empty: there is none.
        found: number and objective of that epoch.
        waited: epochs since then.
        options: of Keras's callback.
    """

    def __init__(
        self, weights: Sequence[Array], found: tuple[int, float], waited: int, **options: Any
    ) -> None:
        super().__init__(restore_best_weights=True, **options)
        self.earlier = (list(weights), found, waited)

    def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:
        """Take the state of the earlier attempt."""
        super().on_train_begin(logs)
        weights, (epoch, value), waited = self.earlier
        if weights:
            self.best_weights, self.best, self.best_epoch = weights, value, epoch - 1
            self.wait = waited


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


class SaveCheckpoint(keras.callbacks.Callback):
    """Save a checkpoint after each epoch that took long, except the last one.

    Args:
        recorder: has the epoch already.
        after_s: how many seconds are long.
        save: saves a checkpoint of the model.
    """

    def __init__(
        self, recorder: HistoryRecorder, after_s: float, save: Callable[[keras.Model], None]
    ) -> None:
        super().__init__()
        self.recorder = recorder
        self.after_s = after_s
        self.save = save

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Save the checkpoint."""
        is_last = self.model.stop_training or epoch + 1 == self.params["epochs"]
        if not is_last and self.recorder.history[-1]["seconds"] > self.after_s:
            self.save(self.model)


class SaveState(keras.callbacks.Callback):
    """Save weights and optimizer after the last epoch, to continue the training later."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Save after the last epoch, before Keras or early stopping restore other weights."""
        if self.model.stop_training or epoch + 1 == self.params["epochs"]:
            save_state(self.model, self.path)
