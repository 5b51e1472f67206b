"""What the plain search scripts share: Keras as its guides show it, for the default space."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import mlflow
import numpy as np
import numpy.typing as npt

from benchmarks.curve_table import SPACE
from imdbtune.config.hyperparameters import TrialParams
from imdbtune.config.schema import load_config
from imdbtune.data.batches import pad
from imdbtune.data.sources import default_cache, open_corpus

LAYERS = {"simple_rnn": keras.layers.SimpleRNN, "lstm": keras.layers.LSTM, "gru": keras.layers.GRU}
CONFIG = load_config(SPACE)
CHOICES: dict[str, list[Any]] = {d.name: list(d.values) for d in CONFIG.space.searched}
FIXED: dict[str, Any] = {**TrialParams().as_dict(), **CONFIG.space.constants}
EPOCHS, BATCH_SIZE = CONFIG.training.epochs, int(FIXED["batch_size"])
Choose = Callable[[str, list[Any]], Any]
Ids = npt.NDArray[np.int32]


class Reviews:
    """Training and validation reviews, padded; the last fifth validates."""

    def __init__(self, data: str) -> None:
        split = open_corpus(data, default_cache(), print).train
        ids = pad(split, np.arange(len(split)), max(CHOICES["maxlen"]), FIXED["vocabulary"])
        labels = split.labels.astype(np.float32)
        cut = len(ids) * 4 // 5
        self.train, self.validation = (ids[:cut], labels[:cut]), (ids[cut:], labels[cut:])

    def shortened(self, maxlen: int) -> dict[str, Any]:
        """Return the arguments of ``fit`` for reviews of their last ``maxlen`` tokens."""
        (x, y), (vx, vy) = self.train, self.validation
        return {"x": x[:, -maxlen:], "y": y, "validation_data": (vx[:, -maxlen:], vy)}


def build_model(choose: Choose, steps: int) -> keras.Model:
    """Return a compiled model.

    Args:
        choose: returns a value of a hyperparameter, from its name and its choices.
        steps: of the training, for the schedule of the learning rate.
    """
    rnn, depth, units, pooling, dropout, rate = (
        choose(name, CHOICES[name])
        for name in ("rnn", "depth", "units", "pooling", "word_dropout", "learning_rate")
    )
    both = depth == 1 and pooling == "max" and choose("bidirectional", CHOICES["bidirectional"])
    model = keras.Sequential([keras.Input((None,), dtype="int32")])
    model.add(keras.layers.Embedding(FIXED["vocabulary"], FIXED["embedding"]))
    model.add(keras.layers.Dropout(dropout, noise_shape=(None, None, 1)))  # whole words
    model.add(keras.layers.SpatialDropout1D(FIXED["spatial_dropout"]))
    for level in range(1, depth + 1):
        layer = LAYERS[rnn](units, return_sequences=level < depth or pooling == "max")
        model.add(keras.layers.Bidirectional(layer) if both else layer)
    if pooling == "max":
        model.add(keras.layers.GlobalMaxPooling1D())
    model.add(keras.layers.Dense(1, activation="sigmoid"))
    schedule = keras.optimizers.schedules.CosineDecay(rate, steps)
    optimizer = keras.optimizers.Adam(schedule, clipnorm=1.0, use_ema=True, ema_momentum=0.99)
    model.compile(optimizer=optimizer, loss="binary_crossentropy", metrics=["accuracy"])
    return model


class LogEpochs(keras.callbacks.Callback):
    """Logs each epoch on the active MLflow run, and its time and accuracy to a file."""

    def __init__(self, file: Path, started: float) -> None:
        super().__init__()
        self.file, self.started = file, started

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Log the epoch."""
        values = logs or {}
        mlflow.log_metrics(values, step=epoch + 1)
        with self.file.open("a", encoding="utf-8") as file:
            file.write(f"{time.time() - self.started:.1f} {values['val_accuracy']:.4f}\n")


def parse_arguments() -> tuple[Reviews, Path, float]:
    """Return the reviews, the file of epochs, and when the process was started."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--epochs-file", type=Path, required=True)
    parser.add_argument("--started", type=float, required=True, help="seconds since 1970")
    args = parser.parse_args()
    mlflow.set_tracking_uri("sqlite:///mlflow.db")
    mlflow.set_experiment("plain")
    return Reviews(args.data), args.epochs_file, args.started
