"""The sections of a configuration, each a frozen dataclass whose fields say what they mean."""

from __future__ import annotations

from dataclasses import dataclass

from imdbtune.config.checks import LOCAL, NO_PRUNER
from imdbtune.config.extensions import DEFAULT_OBJECTIVE, PRUNERS, SAMPLERS, SOURCES, further_names
from imdbtune.config.hyperparameters import setting
from imdbtune.config.objectives import all_objectives, split_objectives

NO_CLASS_WEIGHT = "none"


@dataclass(frozen=True)
class TableConfig:
    """How a table of reviews is read; empty settings are detected."""

    text_column: str = setting("", "column with the texts (empty: by its name or contents)")
    label_column: str = setting("", "column with the labels (empty: by its name or contents)")
    split_column: str = setting(
        "", "column with the values train and test (empty: one named split; none: ignore it)"
    )
    label_at: str = setting(
        "",
        "condition such as >=4 that makes two labels of numbers; rows that meet it are positive",
    )
    positive: str = setting(
        "", "of two labels, the one that the model predicts (empty: detected by its meaning)"
    )
    test_share: float = setting(
        0.2, "share of each label's rows used for testing, if the table has no split", 0.01, 0.9
    )
    split_seed: int = setting(0, "seed of the split and of the order", 0, 2**31 - 1)


@dataclass(frozen=True)
class DataConfig(TableConfig):
    """Which reviews are used."""

    source: str = setting("auto", f"one of the data sources {', '.join(SOURCES)}")
    reviews: int = setting(0, "use only the first N training reviews (0: all)", 0, 10_000_000)


@dataclass(frozen=True)
class TunerConfig:
    """How configurations are chosen, and how many."""

    kind: str = setting("random", "sampler", choices=tuple(SAMPLERS))
    prune: str = setting(
        NO_PRUNER, "pruner, which ends bad trials early", choices=(NO_PRUNER, *PRUNERS)
    )
    max_trials: int = setting(
        0, "maximum number of trials (0: 12; all of a grid or hyperband)", 0, 1_000_000
    )
    max_minutes: float = setting(
        0.0, "minutes after which no new trial starts (0: no limit)", 0.0, 525_600.0
    )
    tries: str = setting(
        "", "configurations to train first, such as rnn=gru units=64, separated by semicolons"
    )
    require: str = setting(
        "", "condition that trials meet, if possible before their training, as in compare --where"
    )
    learn_from: str = setting(
        "", "earlier search over the same reviews whose trials guide the sampler; auto: all"
    )
    until_flat: int = setting(
        0,
        "trials without an improvement by a standard error after which none starts (0: no limit)",
        0,
        1_000_000,
    )
    seed: int = setting(0, "seed of the sampler and of the trials", 0, 2**31 - 1)
    executions: int = setting(1, "trainings of each configuration, averaged", 1, 100)
    folds: int = setting(
        0, "folds of a stratified cross-validation of each configuration (0: none)", 0, 100
    )
    trial_timeout: float = setting(
        0.0, "minutes after which a trial is stopped and fails (0: never)", 0.0, 525_600.0
    )
    retries: int = setting(
        0, "how often a failed trial is retried, each time with another seed", 0, 100
    )
    objective: str = setting(
        DEFAULT_OBJECTIVE,
        "metrics and costs to optimise, the main one, a metric, first",
        choices=all_objectives(),
        several=True,
        suggested=True,
    )

    @property
    def objectives(self) -> tuple[str, ...]:
        """What is optimised, the main objective first."""
        return split_objectives(self.objective)

    @property
    def main_objective(self) -> str:
        """The metric by which trials are ranked, stopped and pruned."""
        return self.objectives[0]

    @property
    def trial_limit(self) -> int | None:
        """Maximum number of trials; ``None`` if the sampler decides."""
        return self.max_trials or SAMPLERS[self.kind].default_trials


@dataclass(frozen=True)
class TrainingConfig:
    """How each trial is trained."""

    epochs: int = setting(4, "maximum number of epochs", 1, 10_000)
    patience: int = setting(
        2, "epochs without improvement before training stops (0: never)", 0, 10_000
    )
    batching: str = setting(
        "buckets",
        "masked batches of similar length; or all padded to maxlen without a mask, as in the book",
        choices=("buckets", "padded"),
    )
    compile: str = setting("auto", "compile with XLA", choices=("auto", "on", "off"))
    metrics: str = setting(
        "",
        f"metrics to log besides accuracy and loss: {', '.join(further_names())}, or your own "
        "FILE.py:FUNCTION of (labels, probabilities), with :min if smaller values are better",
    )
    class_weight: str = setting(
        NO_CLASS_WEIGHT,
        "weight of each label's reviews in training; balanced: the rarer, the more, so that all "
        "labels weigh the same in sum",
        choices=(NO_CLASS_WEIGHT, "balanced"),
    )


@dataclass(frozen=True)
class TrackingConfig:
    """What is logged to MLflow."""

    experiment: str = setting("imdbtune", "MLflow experiment")
    uri: str = setting("", "tracking store (empty: MLFLOW_TRACKING_URI or sqlite:///mlflow.db)")
    keep_models: str = setting("all", "all, best, or the number of best models to keep")
    report: bool = setting(True, "log a report at the end of the search, which takes seconds")
    baseline: bool = setting(True, "train a linear baseline during the search, for comparison")
    system_metrics: bool = setting(
        False, "log the use of CPU, memory, disk, network and GPUs while a trial trains"
    )

    @property
    def chooses_models(self) -> bool:
        """Whether the models to keep are known only at the end of a search."""
        return self.keep_models not in ("all", "0")


@dataclass(frozen=True)
class ClusterConfig:
    """Where trials run."""

    address: str = setting(
        LOCAL, "local, or the address of a Dask scheduler: tcp://HOST:8786, tls://HOST:8786"
    )

    @property
    def is_local(self) -> bool:
        """Whether trials run in processes on this machine."""
        return self.address in ("", LOCAL)


@dataclass(frozen=True)
class ModelConfig:
    """Which model is trained."""

    build: str = setting(
        "", "your own model, FILE.py:FUNCTION of Keras Tuner's build(hp); empty: imdbtune's"
    )
