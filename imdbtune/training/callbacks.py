"""Callbacks of a training: its history, the average of its weights, and its saved states."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from imdbtune.errors import TrialFailed
from imdbtune.models.metrics.recorded_accuracy import RecordedAccuracy
from imdbtune.training.fit_data import ValidationOrder
from imdbtune.training.saved_state import Array, save_state
from imdbtune.training.spec import NOT_MEASURED, Correctness, Epoch


class HistoryRecorder(keras.callbacks.Callback):
    """Collect the history, and stop a training that has diverged.

    Args:
        history: the epochs of an earlier attempt.
        on_epoch: called with the epoch in which the training diverges; :class:`ReportEpochs`
            reports the others.
    """

    def __init__(self, history: Sequence[Epoch], on_epoch: Callable[[Epoch], bool | None]) -> None:
        super().__init__()
        self.history = list(history)
        self.on_epoch = on_epoch
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
                self.on_epoch(row)
                raise TrialFailed(f"{name} became {value} in epoch {epoch + 1}.")


class CorrectnessRecorder(keras.callbacks.Callback):
    """Collect which validation reviews the model classifies right after each epoch.

    Args:
        order: of the validation reviews; None: there are none.
    """

    def __init__(self, order: ValidationOrder | None) -> None:
        super().__init__()
        self.order = order
        self.accuracy = RecordedAccuracy(order.rows) if order else None  # to be compiled with
        self.epochs: list[Correctness] = []

    @property
    def correctness(self) -> Correctness:
        """The record of all epochs, (epochs, reviews)."""
        return np.array(self.epochs) if self.epochs else NOT_MEASURED

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Record the epoch."""
        if self.order and self.accuracy:
            self.epochs.append(self.accuracy.record()[self.order.places])


class ReportEpochs(keras.callbacks.Callback):
    """Report each epoch, and stop the training where ``on_epoch`` returns true."""

    def __init__(self, recorder: HistoryRecorder, on_epoch: Callable[[Epoch], bool | None]) -> None:
        super().__init__()
        self.recorder = recorder
        self.on_epoch = on_epoch
        self.pruned_after = 0  # epoch; 0: it was not

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Report the epoch."""
        if self.on_epoch(self.recorder.history[-1]):
            self.pruned_after = epoch + 1
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
