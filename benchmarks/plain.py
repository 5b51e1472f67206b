"""The same search as an ordinary script: Keras Tuner and MLflow as their guides show them.

Keras as it comes (all cores, ``jit_compile="auto"``), reviews padded to ``maxlen``, one trial after
the other; every trial is a nested MLflow run with its parameters, its metrics by epoch and its
model. With ``--by-length``, ``tf.data`` batches reviews of similar length instead, and padding is
masked. Nothing of the project's training or tracking is used; only the reviews come from its
cache, so that converting them is measured on neither side.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import mlflow
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from benchmarks.cases import BATCH_SIZE, VOCABULARY, Case
from imdbtune.data.batches import pad
from imdbtune.data.sources import open_corpus

LAYERS = {"simple_rnn": keras.layers.SimpleRNN, "lstm": keras.layers.LSTM, "gru": keras.layers.GRU}


def build_model(hp: keras_tuner.HyperParameters, case: Case) -> keras.Model:
    """The model function that Keras Tuner calls for each trial."""
    layer = LAYERS[hp.Choice("rnn", list(case.rnn))]
    model = keras.Sequential([keras.Input((None,), dtype="int32")])
    model.add(keras.layers.Embedding(VOCABULARY, 32, mask_zero=case.by_length))
    for level in range(1, case.depth + 1):
        model.add(layer(case.units, return_sequences=level < case.depth))
    model.add(keras.layers.Dense(1, activation="sigmoid"))
    model.compile(optimizer="rmsprop", loss="binary_crossentropy", metrics=["accuracy"])
    return model


class LogToMlflow(keras.callbacks.Callback):
    """Logs each epoch, and the model at the end, on the active run."""

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """All metrics of the epoch in one request."""
        mlflow.log_metrics(logs or {}, step=epoch + 1)

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """The model, with signature and requirements given: inferring them takes seconds."""
        ids = mlflow.types.TensorSpec(np.dtype("int32"), (-1, -1))
        out = mlflow.types.TensorSpec(np.dtype("float32"), (-1, 1))
        schema = mlflow.types.Schema
        mlflow.keras.log_model(
            self.model,
            name="model",
            signature=mlflow.models.ModelSignature(schema([ids]), schema([out])),
            pip_requirements=["tensorflow", "keras", "numpy"],
        )


class TrackedGrid(keras_tuner.GridSearch):
    """Keras Tuner's grid search, each trial in a nested MLflow run."""

    seconds: dict[str, float]

    def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> Any:
        """Train one trial inside its run."""
        started = time.monotonic()
        with mlflow.start_run(nested=True, run_name=trial.trial_id):
            mlflow.log_params(trial.hyperparameters.values)
            results = super().run_trial(trial, *args, callbacks=[LogToMlflow()], **kwargs)
        self.seconds[trial.trial_id] = time.monotonic() - started
        return results


def by_length(x: npt.NDArray[np.int32], y: npt.NDArray[np.float32], maxlen: int) -> Any:
    """Return batches of reviews of similar length as a ``tf.data.Dataset``.

    Args:
        x: ids (reviews, maxlen), padded at the front.
        y: labels.
        maxlen: the length of the longest reviews.
    """
    reviews = [ids[ids > 0] for ids in x]

    def pairs() -> Iterator[tuple[npt.NDArray[np.int32], np.float32]]:
        yield from zip(reviews, y, strict=True)

    signature = (tf.TensorSpec((None,), tf.int32), tf.TensorSpec((), tf.float32))
    dataset = tf.data.Dataset.from_generator(pairs, output_signature=signature).cache()
    boundaries = list(range(50, maxlen, 50))
    return (
        dataset.shuffle(len(reviews))
        .bucket_by_sequence_length(
            lambda ids, label: tf.shape(ids)[0],
            boundaries,
            [BATCH_SIZE] * (len(boundaries) + 1),
        )
        .prefetch(tf.data.AUTOTUNE)
    )


def search(case: Case, epochs: int, data: str, cache: Path, reviews: int) -> list[dict[str, Any]]:
    """Run the grid: ``rnn``, best ``val_accuracy`` and ``seconds`` of each trial."""
    split = open_corpus(data, cache, print).train
    rows = np.arange(min(reviews or len(split), len(split)))
    x = pad(split, rows, case.maxlen, VOCABULARY)
    y = split.labels[rows].astype(np.float32)
    mlflow.set_tracking_uri("sqlite:///mlflow.db")
    mlflow.set_experiment("plain")
    tuner = TrackedGrid(
        lambda hp: build_model(hp, case),
        objective="val_accuracy",
        seed=1,
        directory="tuner",
        project_name="plain",
    )
    tuner.seconds = {}
    with mlflow.start_run(run_name="search"):
        if case.by_length:
            count = int(len(x) * 0.8)
            held_out = by_length(x[count:], y[count:], case.maxlen)
            train = by_length(x[:count], y[:count], case.maxlen)
            tuner.search(train, validation_data=held_out, epochs=epochs, verbose=0)
        else:
            batches = {"batch_size": BATCH_SIZE, "validation_split": 0.2}
            tuner.search(x, y, epochs=epochs, verbose=0, **batches)
    return [
        {
            "rnn": trial.hyperparameters.values["rnn"],
            "val_accuracy": trial.score,
            "seconds": tuner.seconds[trial.trial_id],
        }
        for trial in tuner.oracle.get_best_trials(len(case.rnn))
    ]


def main() -> None:
    """Search in the working directory; the last line printed is the trials as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", required=True, help="a case as JSON")
    parser.add_argument("--data", required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--reviews", type=int, default=0)
    args = parser.parse_args()
    case = Case.from_json(args.case)
    print(json.dumps(search(case, args.epochs, args.data, args.cache, args.reviews)))


if __name__ == "__main__":
    main()
