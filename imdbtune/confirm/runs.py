"""Train the best configurations of a search again with other seeds, on the workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from imdbtune.cluster.trial_job import TrialJob, trial_folder
from imdbtune.config.hyperparameters import TrialParams
from imdbtune.config.own_code import NO_CODE, OwnCode
from imdbtune.confirm import results
from imdbtune.errors import SearchAborted, UserError
from imdbtune.search.driver import Attempts, PlannedTrial
from imdbtune.search.recorded import Stage
from imdbtune.tracking import mlflow_names, reader
from imdbtune.tracking.entities import Search, Trial
from imdbtune.tracking.ranking import find_front
from imdbtune.training.spec import CHECKPOINT_AFTER_S, TrialSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from imdbtune.tracking.connection import MlflowClient

# Settings of a training that differ from those of its search; logged with each.
OWN_SETTINGS = ("epochs", "seed", "schedule_epochs", "patience", "keep_best")
SEED_OFFSET = 1000  # from the search's seed: beyond the seeds of executions and retries


@dataclass(frozen=True)
class TrainingRequest:
    """A training of one configuration with one seed."""

    number: str
    stage: Stage
    seed: int
    code: OwnCode = NO_CODE  # of the user's own


def best_configurations(search: Search, trials: Sequence[Trial], top: int) -> list[Trial]:
    """Return the ``top`` best distinct configurations with a finished trial, the best first.

    Discarded trials do not count.

    Raises:
        UserError: no trial has finished.
    """
    found: dict[TrialParams, Trial] = {}
    for trial in trials:
        if trial.can_win:
            found.setdefault(trial.params, trial)
    if not found:
        raise UserError(
            f"no trial of search {search.name!r} has finished; resume the search first."
        )
    return list(found.values())[:top]


def configurations_to_confirm(search: Search, trials: Sequence[Trial], top: int) -> list[Trial]:
    """Return the best configurations; with several objectives, those on the front come first.

    Raises:
        UserError: no trial has finished.
    """
    front = find_front(search, trials)
    on_front = {trial.run_id for trial in front.trials} if front else set()
    ordered = sorted(trials, key=lambda trial: trial.run_id not in on_front)
    return best_configurations(search, ordered, top)


def best_runs(client: MlflowClient, search: Search, count: int) -> list[Trial]:
    """Return the runs with the best models of at most ``count`` distinct configurations.

    Confirmed configurations come first, then the others by their score in the search.

    Raises:
        UserError: no trial has finished.
    """
    confirmed = results.read(client, search)
    rows = confirmed.rows if confirmed else ()
    known = {row.trial_run_id for row in rows}
    trials = reader.read_trials(client, search)
    ranked = [trial.run_id for trial in best_configurations(search, trials, len(trials))]
    others = [run_id for run_id in ranked if run_id not in known]
    chosen = [*(row.run_ids[0] for row in rows), *others][:count]
    return [reader.read_run(client, run_id) for run_id in chosen]


def training_requests(
    stages: Sequence[Stage],
    seeds: int,
    done: Mapping[str, Mapping[int, Trial]],
    code: OwnCode = NO_CODE,
) -> list[TrainingRequest]:
    """Return the trainings that are missing, seed by seed, so that all advance together."""
    found: list[TrainingRequest] = []
    for index in range(seeds):
        for stage in stages:
            seed = stage.settings.seed + SEED_OFFSET + index
            if seed not in done.get(stage.trial.run_id, {}):
                found.append(TrainingRequest(str(len(found)), stage, seed, code))
    return found


def make_spec(each: TrainingRequest, corpus: Path, folder: Path) -> TrialSpec:
    """Return the spec of a training: as in the search, but once, from epoch 0, with a new seed.

    It ends with the epoch that was best in the search, so that its accuracy on the reviews that
    chose the epoch is not the best of several.
    """
    searched = each.stage.settings
    settings = replace(
        searched,
        seed=each.seed,
        executions=1,
        initial_epoch=0,
        epochs=int(each.stage.trial.metrics.get("best_epoch", searched.epochs)),
        schedule_epochs=searched.schedule_epochs or searched.epochs,
        patience=0,
        keep_best=False,
    )
    own = trial_folder(folder, each.number)
    return TrialSpec(
        each.stage.trial.params,
        corpus,
        own,
        settings,
        checkpoint_after_s=CHECKPOINT_AFTER_S,
        code=each.code,
    )


@dataclass
class RepeatedTrials:
    """The trainings of a confirmation: the source of its driver.

    Args:
        requests: what to train, in this order.
        corpus: folder of the corpus.
        folder: of the confirmation, for the files of its trainings.
    """

    requests: Sequence[TrainingRequest]
    corpus: Path
    folder: Path
    attempts: Attempts = field(default_factory=Attempts)
    failed: list[str] = field(default_factory=list)  # reasons
    _queued: list[TrainingRequest] = field(init=False)

    def __post_init__(self) -> None:
        self._queued = list(self.requests)

    def next_trial(self) -> PlannedTrial | None:
        """Return the next training."""
        if not self._queued:
            return None
        request = self._queued.pop(0)
        spec = make_spec(request, self.corpus, self.folder)
        logged = {name: getattr(spec.settings, name) for name in OWN_SETTINGS}
        tags = {mlflow_names.CONFIRMS: request.stage.trial.run_id}
        return PlannedTrial(request.number, spec, logged, tags)

    def note_start(self, job: TrialJob) -> None:
        """Record nothing: a confirmation that is run again looks into MLflow."""

    def note_retry(self, job: TrialJob, *, lost: bool, reason: str) -> None:
        """Queue the training again."""
        self._queued += [each for each in self.requests if each.number == job.trial_id]

    def note_end(
        self, job: TrialJob, score: float | None, reason: str, measured: Mapping[str, float]
    ) -> None:
        """Record the reason of a failure."""
        if score is None:
            self.failed.append(reason)

    def check_failures(self, *, at_the_end: bool = False) -> None:
        """Raise SearchAborted if all trainings have failed."""
        if at_the_end and self.requests and len(self.failed) == len(self.requests):
            raise SearchAborted(f"all trainings failed, the last one with: {self.failed[-1]}")
