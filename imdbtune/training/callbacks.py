"""Callbacks of a training: its history, the average of its weights, and its saved state."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import keras
import numpy as np

from imdbtune.errors import TrialFailed
from imdbtune.files import atomic_path
from imdbtune.training.spec import Epoch


class HistoryRecorder(keras.callbacks.Callback):
    """Collect the history, report each epoch, and stop a training that has diverged.

    A training also stops where ``on_epoch`` returns true.
    """

    def __init__(self, on_epoch: Callable[[Epoch], bool | None]) -> None:
        super().__init__()
        self.on_epoch = on_epoch
        self.history: list[Epoch] = []
        self.pruned_after = 0  # epoch; 0: it was not
        self._started = 0.0

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Start the epoch's clock."""
        self._started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Record the epoch; raise TrialFailed if a metric is not a finite number."""
        metrics = {name: float(value) for name, value in (logs or {}).items()}
        row = {"epoch": float(epoch + 1), **metrics, "seconds": time.monotonic() - self._started}
        self.history.append(row)
        if self.on_epoch(row):
            self.pruned_after = epoch + 1
            self.model.stop_training = True
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


def _variables(model: keras.Model) -> list[keras.Variable]:
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    return [*model.variables, *model.optimizer.variables]
