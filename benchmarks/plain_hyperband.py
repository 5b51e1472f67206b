"""The default search as an ordinary script: Keras Tuner's Hyperband, tracked by MLflow."""

from __future__ import annotations

from typing import Any

import keras
import keras_tuner
import mlflow

from benchmarks.plain_model import (
    BATCH_SIZE,
    CHOICES,
    EPOCHS,
    LogEpochs,
    Reviews,
    build_model,
    parse_arguments,
)


class ReviewModel(keras_tuner.HyperModel):
    """The model of a trial, with the length of its reviews."""

    def __init__(self, reviews: Reviews) -> None:
        super().__init__()
        self.reviews = reviews

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """Build the model that the hyperparameters describe."""
        steps = EPOCHS * len(self.reviews.train[0]) // BATCH_SIZE
        return build_model(lambda name, values: hp.Choice(name, values), steps)

    def fit(self, hp: Any, model: keras.Model, *args: Any, **kwargs: Any) -> Any:
        """Train on reviews of the chosen length."""
        shortened = self.reviews.shortened(hp.Choice("maxlen", CHOICES["maxlen"]))
        return model.fit(*args, **shortened, batch_size=BATCH_SIZE, **kwargs)


class TrackedHyperband(keras_tuner.Hyperband):
    """Hyperband, each trial in an MLflow run."""

    def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> Any:
        """Train one trial inside its run."""
        with mlflow.start_run(run_name=trial.trial_id):
            mlflow.log_params(trial.hyperparameters.values)
            return super().run_trial(trial, *args, **kwargs)


def main() -> None:
    """Search in the working directory."""
    reviews, file, started = parse_arguments()
    tuner = TrackedHyperband(
        ReviewModel(reviews),
        objective="val_accuracy",
        max_epochs=EPOCHS,
        seed=1,
        directory="tuner",
        project_name="plain",
    )
    tuner.search(callbacks=[LogEpochs(file, started)], verbose=0)


if __name__ == "__main__":
    main()
