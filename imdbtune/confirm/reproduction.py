"""Train a run again from its record in MLflow, and compare the two runs epoch by epoch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imdbtune.config.hyperparameters import check_field, convert
from imdbtune.config.schema import DataConfig, TrainingConfig, TunerConfig
from imdbtune.errors import UserError, short_repr
from imdbtune.tracking import reader, writer
from imdbtune.tracking.reader import Trial
from imdbtune.training.spec import Epoch, OnEpoch, TrialResult, TrialSpec

if TYPE_CHECKING:
    from imdbtune.cluster.trial_job import Trainer
    from imdbtune.tracking.connection import MlflowClient

TOLERANCE = 1e-6  # of every metric, for the same versions on the same machine
SETTINGS = (
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
    """A training as logged in MLflow; a Hyperband trial may continue an earlier one."""

    trial: Trial
    settings: dict[str, Any]  # by the names of TrialSpec's fields
    continues: str  # number of the trial that it continues, or empty


def read_stages(client: MlflowClient, run_id: str) -> list[Stage]:
    """Return the run and all trials that it continues, the earliest first.

    Raises:
        UserError: it has not finished, or MLflow lacks one of its settings.
    """
    stages = [read_stage(client, reader.read_run(client, run_id))]
    while before := stages[0].continues:
        search = reader.find_search(client, stages[0].trial.tags[writer.SEARCH_ID])
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
    if trial.status != "FINISHED":
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
    if writer.ENSEMBLE_OF in trial.tags:
        raise UserError(
            f"run {trial.run_id} ({trial.name}) is an ensemble; reproduce one of its members, "
            f"{short_repr(trial.tags[writer.ENSEMBLE_OF], 200)}."
        )
    extra = reader.read_extra_params(client, trial.run_id)
    logged = {name: trial.tags.get(f"imdbtune.{name}", extra.get(name)) for name in SETTINGS}
    missing = [name for name, value in logged.items() if value is None]
    if missing:
        raise UserError(
            f"run {trial.run_id} ({trial.name}) lacks the settings {', '.join(missing)}: it "
            "was logged by an old version of imdbtune; reproduce a newer run."
        )
    settings = {name: check_field(_FIELDS[name], value) for name, value in logged.items()}
    settings["initial_epoch"] = convert("int", extra.get("initial_epoch")) or 0
    settings["hold_out"] = trial.tags.get("imdbtune.hold_out", "True") != "False"
    settings["schedule_epochs"] = convert("int", extra.get("schedule_epochs")) or 0
    return Stage(trial, settings, extra.get("continues", ""))


def make_specs(stages: Sequence[Stage], corpus: Path, folder: Path) -> list[TrialSpec]:
    """Return the specs to train in order; each but the last saves its state for the next."""
    folders = [folder / str(number) for number in range(len(stages))]
    specs = [
        TrialSpec(stage.trial.params, corpus, own, **stage.settings, keep_state=True)
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
    """Trainer that first trains the trials that a trial continues, then the trial itself."""

    before: Sequence[TrialSpec]
    trainer: Trainer | None  # None: imdbtune.training.trainer.train_trial

    def __call__(self, spec: TrialSpec, on_epoch: OnEpoch) -> TrialResult:
        """Train all; report only the epochs of the trial itself."""
        train = self.trainer or _default_trainer()
        for earlier in self.before:
            train(earlier, lambda execution, epoch: None)
        return train(spec, on_epoch)


def _default_trainer() -> Trainer:
    from imdbtune.training.trainer import train_trial

    return train_trial


@dataclass(frozen=True)
class EpochPair:
    """One epoch of both runs; a run without this epoch has no metrics."""

    execution: int  # from 1
    epoch: int  # from 1
    then: Epoch
    now: Epoch

    @property
    def difference(self) -> float:
        """Largest difference of a metric; infinite if only one run has a metric."""
        known = [m for m in writer.CURVES if m in self.then or m in self.now]
        pairs = [(self.then.get(m, math.nan), self.now.get(m, math.nan)) for m in known]
        differences = [abs(then - now) for then, now in pairs]
        return max((d if math.isfinite(d) else math.inf for d in differences), default=math.inf)


@dataclass(frozen=True)
class Reproduction:
    """A run, its reproduction and the comparison of the two."""

    original: Trial
    again: Trial
    epochs: tuple[EpochPair, ...]
    differs: dict[str, tuple[str, str]]  # facts other than metrics: (original, reproduction)

    @property
    def difference(self) -> float:
        """Largest difference of all epochs."""
        return max((pair.difference for pair in self.epochs), default=math.inf)

    @property
    def agrees(self) -> bool:
        """Whether all metrics of all epochs agree within ``TOLERANCE``."""
        return self.difference <= TOLERANCE

    @property
    def verdict(self) -> str:
        """``exactly``, ``within 1e-06`` or ``no``."""
        if not self.agrees:
            return "no"
        return f"within {TOLERANCE:g}" if self.difference else "exactly"

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, with ``None`` for infinity."""
        finite = self.difference if math.isfinite(self.difference) else None
        return {
            "run_id": self.original.run_id,
            "reproduced_as": self.again.run_id,
            "agrees": self.verdict,
            "tolerance": TOLERANCE,
            "largest_difference": finite,
            "differs": {name: list(values) for name, values in self.differs.items()},
            "epochs": [dataclasses.asdict(pair) for pair in self.epochs],
        }


def compare_runs(
    client: MlflowClient, original: Trial, again: Trial, executions: int = 1
) -> Reproduction:
    """Compare both runs as logged in MLflow."""
    pairs = [pair for n in range(executions) for pair in _pairs(client, original, again, n)]
    return Reproduction(original, again, tuple(pairs), find_differences(original.tags, again.tags))


def _pairs(
    client: MlflowClient, original: Trial, again: Trial, execution: int
) -> Iterator[EpochPair]:
    then, now = (
        {
            int(epoch["epoch"]): epoch
            for epoch in reader.read_history(client, run_id, execution=execution)
        }
        for run_id in (original.run_id, again.run_id)
    )
    for number in sorted(then.keys() | now.keys()):
        yield EpochPair(execution + 1, number, then.get(number, {}), now.get(number, {}))


def find_differences(then: Mapping[str, str], now: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return what differs and may change the metrics: versions, data, machine, compilation."""
    labels = {
        writer.DIGEST: "data digest",
        "imdbtune.threads": "threads",
        "imdbtune.compiled": "compiled",
        "imdbtune.cpu": "processor",
        "imdbtune.gpus": "graphics cards",
        writer.GIT_COMMIT: "git commit",
    }
    versions = sorted(key for key in then.keys() | now.keys() if key.startswith("version."))
    labels |= {key: key.removeprefix("version.") for key in versions}
    values = {name: (then.get(key, "?"), now.get(key, "?")) for key, name in labels.items()}
    return {name: pair for name, pair in values.items() if pair[0] != pair[1]}
