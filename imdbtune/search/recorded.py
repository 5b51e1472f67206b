"""A training as MLflow has recorded it, with all that is needed to run it again."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imdbtune.cluster.trial_job import Trainer, default_trainer
from imdbtune.config.hyperparameters import check_field, convert
from imdbtune.config.objectives import FOLDS_MEAN
from imdbtune.config.own_code import NO_CODE, OwnCode
from imdbtune.config.schema import DataConfig, TrainingConfig, TunerConfig
from imdbtune.config.sections import NO_CLASS_WEIGHT
from imdbtune.errors import UserError, short_repr
from imdbtune.tracking import mlflow_names, reader, run_record
from imdbtune.tracking.entities import ENDED_WELL, Trial
from imdbtune.training.spec import Epoch, OnEpoch, TrainingSettings, TrialResult, TrialSpec

if TYPE_CHECKING:
    from imdbtune.tracking.connection import MlflowClient

# Tags, parameters or lines of each trial's record; checked by the fields of the configuration.
LOGGED = (
    *("reviews", "seed", "executions", "objective"),
    *("epochs", "patience", "batching", "compile"),
)
_FIELDS = {
    field.name: field
    for section in (DataConfig, TunerConfig, TrainingConfig)
    for field in dataclasses.fields(section)
}


@dataclass(frozen=True)
class Stage:
    """A recorded training; a Hyperband trial may continue an earlier one."""

    trial: Trial
    settings: TrainingSettings
    continues: str  # number of the trial that it continues, or empty


def read_stages(client: MlflowClient, run_id: str) -> list[Stage]:
    """Return the run and all trials that it continues, the earliest first.

    Raises:
        UserError: it has not finished, or MLflow lacks one of its settings.
    """
    stages = [read_stage(client, reader.read_run(client, run_id))]
    while before := stages[0].continues:
        search = reader.find_search(client, stages[0].trial.tags[mlflow_names.SEARCH_ID])
        known = {stage.trial.run_id for stage in stages}
        same = [t for t in reader.read_trials(client, search) if t.trial_id == before]
        ended = [t for t in same if t.status == "FINISHED" and t.run_id not in known]
        if not ended:
            raise UserError(
                f"run {run_id} continues trial {before} of its search, which was deleted; "
                "reproduce another run."
            )
        stages.insert(0, read_stage(client, ended[0]))
    return stages


def read_stage(client: MlflowClient, trial: Trial) -> Stage:
    """Return a trial with all settings that determine its result.

    Raises:
        UserError: it has not finished, or MLflow lacks one of its settings.
    """
    _check_can_run_again(trial)
    facts = run_record.read_facts(client, trial)
    # A retry has another seed than the search: the trial's own parameters come first.
    logged = {name: trial.settings.get(name) or facts.get(f"imdbtune.{name}") for name in LOGGED}
    missing = [name for name, value in logged.items() if value is None]
    if missing:
        raise UserError(
            f"run {trial.run_id} ({trial.name}) lacks the settings {', '.join(missing)}: it was "
            f"logged by an old version of imdbtune, or its artifact {run_record.NAME} cannot "
            "be read; reproduce another run."
        )
    checked: dict[str, Any] = {n: check_field(_FIELDS[n], value) for n, value in logged.items()}
    settings = TrainingSettings(
        **checked,
        folds=trial.folds,
        fold_seed=int(convert("int", facts.get("imdbtune.fold_seed")) or 0),
        initial_epoch=int(convert("int", trial.settings.get("initial_epoch")) or 0),
        hold_out=facts.get("imdbtune.hold_out", "True") != "False",
        schedule_epochs=int(convert("int", trial.settings.get("schedule_epochs")) or 0),
        keep_best=trial.settings.get("keep_best", "True") != "False",
        metrics=facts.get(mlflow_names.METRICS, ""),
        class_weight=facts.get("imdbtune.class_weight", NO_CLASS_WEIGHT),
    )
    return Stage(trial, settings, trial.settings.get("continues", ""))


def _check_can_run_again(trial: Trial) -> None:
    """Raise UserError unless a run is a finished training of its own."""
    if trial.state not in ENDED_WELL:
        raise UserError(
            f"run {trial.run_id} ({trial.name}) is {trial.status}; give a finished run, "
            "as listed by imdbtune compare --csv."
        )
    reproduced = trial.tags.get("imdbtune.reproduces")
    if reproduced:
        raise UserError(
            f"run {trial.run_id} ({trial.name}) is itself a reproduction; reproduce its "
            f"original, {short_repr(reproduced)}."
        )
    if mlflow_names.ENSEMBLE_OF in trial.tags:
        raise UserError(
            f"run {trial.run_id} ({trial.name}) is an ensemble; reproduce one of its members, "
            f"{short_repr(trial.tags[mlflow_names.ENSEMBLE_OF], 200)}."
        )


def make_specs(
    stages: Sequence[Stage], corpus: Path, folder: Path, code: OwnCode = NO_CODE
) -> list[TrialSpec]:
    """Return the specs to train in order; each but the last saves its state for the next.

    Args:
        code: of the user's own, that all of them run.
    """
    folders = [folder / str(number) for number in range(len(stages))]
    specs = [
        TrialSpec(stage.trial.params, corpus, own, stage.settings, keep_state=True, code=code)
        for stage, own in zip(stages, folders, strict=True)
    ]
    later = [
        dataclasses.replace(spec, state=before.folder / "state.npz")
        for before, spec in pairwise(specs)
    ]
    chain = [*specs[:1], *later]
    return [*chain[:-1], dataclasses.replace(chain[-1], keep_state=False)]


@dataclass(frozen=True)
class ChainedTrainer:
    """Trainer that first trains the trials that a trial continues, then the trial itself.

    Args:
        before: the trials that it continues.
        trainer: default: :func:`imdbtune.training.trainer.train_trial`.
        until: the epoch, or fold, after which the recorded trial was pruned; 0: it was not.
    """

    before: Sequence[TrialSpec]
    trainer: Trainer | None
    until: int = 0

    def __call__(self, spec: TrialSpec, on_epoch: OnEpoch) -> TrialResult:
        """Train all; report only the epochs of the trial itself."""
        train = self.trainer or default_trainer()
        for earlier in self.before:
            train(earlier, lambda execution, epoch: None)

        def report(execution: int, epoch: Epoch) -> bool:
            on_epoch(execution, epoch)
            if spec.settings.folds:
                return FOLDS_MEAN in epoch and execution + 1 == self.until
            return epoch["epoch"] == self.until

        return dataclasses.replace(train(spec, report), pruned_after=0)
