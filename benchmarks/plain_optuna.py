"""The default search as an ordinary script: Optuna's TPE with successive halving, and MLflow."""

from __future__ import annotations

import keras
import mlflow
import optuna

from benchmarks.plain_model import (
    BATCH_SIZE,
    CHOICES,
    EPOCHS,
    LogEpochs,
    build_model,
    parse_arguments,
)


class PruningCallback(keras.callbacks.Callback):
    """Reports each epoch to Optuna, and ends a trial that it prunes."""

    def __init__(self, trial: optuna.Trial) -> None:
        super().__init__()
        self.trial = trial

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Report the epoch.

        Raises:
            optuna.TrialPruned: the trial is not among the best.
        """
        self.trial.report((logs or {})["val_accuracy"], epoch + 1)
        if self.trial.should_prune():
            raise optuna.TrialPruned


def main() -> None:
    """Search in the working directory."""
    reviews, file, started = parse_arguments()
    steps = EPOCHS * len(reviews.train[0]) // BATCH_SIZE

    def objective(trial: optuna.Trial) -> float:
        model = build_model(trial.suggest_categorical, steps)
        maxlen = trial.suggest_categorical("maxlen", CHOICES["maxlen"])
        with mlflow.start_run(run_name=str(trial.number)):
            mlflow.log_params(trial.params)
            history = model.fit(
                **reviews.shortened(maxlen),
                epochs=EPOCHS,
                batch_size=BATCH_SIZE,
                callbacks=[LogEpochs(file, started), PruningCallback(trial)],
                verbose=0,
            )
        return float(max(history.history["val_accuracy"]))

    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(multivariate=True, group=True, seed=1),
        pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3),
    )
    study.optimize(objective)


if __name__ == "__main__":
    main()
