"""Training the leading configurations of a search again, with other seeds, on the workers."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imdbtune.cluster.local_executor import MAX_ATTEMPTS, WAIT_S, Executor, WorkerLost
from imdbtune.cluster.trial_job import Trainer, TrialFailure, TrialJob, trial_folder
from imdbtune.confirm.reproduction import Stage
from imdbtune.confirm.results import ANSWERS, Confirmation
from imdbtune.errors import UserError
from imdbtune.tracking import writer
from imdbtune.tracking.reader import Search, Trial
from imdbtune.training.spec import OnEpoch, TrialResult, TrialSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

FIRST_SEED = 1000  # after that of the search: far from those of its executions and retries


@dataclass(frozen=True)
class TrainingRequest:
    """One training: which configuration, with which seed."""

    number: str
    stage: Stage
    seed: int


def leading(search: Search, trials: Sequence[Trial], top: int) -> list[Trial]:
    """The first ``top`` different configurations that have finished, the best first.

    Raises:
        UserError: there is none.
    """
    found: dict[Any, Trial] = {}
    for trial in trials:
        if trial.status == "FINISHED" and trial.score is not None:
            found.setdefault(trial.params, trial)
    if not found:
        raise UserError(f"no trial of search {search.name!r} has finished; there is none to train.")
    return list(found.values())[:top]


def best_runs(
    search: Search, trials: Sequence[Trial], confirmed: Confirmation | None, count: int
) -> list[str]:
    """The runs with the best models of ``count`` different configurations at most.

    Confirmed ones come first, in their order; then the others, by what the search has measured.

    Raises:
        UserError: nothing has finished.
    """
    rows = confirmed.rows if confirmed else ()
    known = {row.trial_run_id for row in rows}
    others = [t.run_id for t in leading(search, trials, len(trials)) if t.run_id not in known]
    return [*(row.run_ids[0] for row in rows), *others][:count]


def training_requests(
    stages: Sequence[Stage], seeds: int, done: Mapping[str, Mapping[int, Trial]]
) -> list[TrainingRequest]:
    """The trainings that are still to be made; seed by seed, so that all advance together."""
    found: list[TrainingRequest] = []
    for index in range(seeds):
        for stage in stages:
            seed = stage.settings["seed"] + FIRST_SEED + index
            if seed not in done.get(stage.trial.run_id, {}):
                found.append(TrainingRequest(str(len(found)), stage, seed))
    return found


def spec_of(each: TrainingRequest, corpus: Path, folder: Path) -> TrialSpec:
    """What to train: as in the search, but once, from the beginning, with the new seed."""
    settings = {**each.stage.settings, "seed": each.seed, "executions": 1, "initial_epoch": 0}
    return TrialSpec(each.stage.trial.params, corpus, trial_folder(folder, each.number), **settings)


@dataclass(frozen=True)
class TrainAndSavePredictions:
    """Trains a trial, and keeps which of the validation reviews its model gets right."""

    def __call__(self, spec: TrialSpec, on_epoch: OnEpoch) -> TrialResult:
        """As any trainer; the answers lie where the history will, which is logged as a whole."""
        from imdbtune.data.corpus import read_corpus
        from imdbtune.training.evaluation import validation_right
        from imdbtune.training.trainer import train_trial

        result = train_trial(spec, on_epoch)
        train = read_corpus(spec.corpus).train
        padded = spec.batching == "padded"
        right = validation_right(result.model, train, spec.reviews, spec.params, padded)
        write_answers(spec, right)
        return result


def write_answers(spec: TrialSpec, right: Any) -> None:
    """Put a row of truths among the artifacts of a training."""
    import numpy as np

    folder = spec.folder / "history"
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / ANSWERS, right)


@dataclass
class RepeatedRuns:
    """Runs trainings on an executor, as children of a run; the order does not matter.

    Args:
        run: the parent, over an outbox.
        listener: called with ``started``, ``retried`` and ``ended``, as by a search.
    """

    run: writer.SearchRun
    corpus: Path
    facts: writer.CorpusFacts
    folder: Path
    trainer: Trainer
    listener: Callable[[str, dict[str, Any]], None]
    log_models: bool = True
    failed: list[str] = field(default_factory=list)
    _attempts: Counter[str] = field(default_factory=Counter)

    def all(self, executor: Executor, trainings: Sequence[TrainingRequest]) -> None:
        """Train them; one that fails is noted in ``failed``, one whose worker dies runs again."""
        waiting = list(trainings)
        running: dict[str, TrainingRequest] = {}
        while waiting or running:
            while waiting and len(running) < executor.slots:
                each = waiting.pop(0)
                running[each.number] = each
                executor.submit(self._job(each))
            for job, outcome in executor.done(WAIT_S):
                each = running.pop(job.trial_id)
                if self._ended(job, outcome):
                    waiting.append(each)

    def _job(self, each: TrainingRequest) -> TrialJob:
        spec = spec_of(each, self.corpus, self.folder)
        self._attempts[each.number] += 1
        child = dataclasses.replace(
            self.run, tags={**self.run.tags, writer.CONFIRMS: each.stage.trial.run_id}
        )
        extra = {"epochs": spec.epochs, "seed": spec.seed}
        key = child.start_trial(each.number, spec.params, extra, self._attempts[each.number])
        told = {"trial_id": each.number, "params": spec.params, "epochs": spec.epochs}
        self.listener("started", told)
        return TrialJob(
            each.number,
            spec,
            self.run.client,
            key,
            self.facts,
            log_model=self.log_models,
            trainer=self.trainer,
        )

    def _ended(self, job: TrialJob, outcome: Any) -> bool:
        """Tell how a training ended; whether it is to be run again."""
        told = {"trial_id": job.trial_id, "params": job.spec.params, "run_id": job.run_id}
        if isinstance(outcome, WorkerLost):
            if self._attempts[job.trial_id] < MAX_ATTEMPTS:
                writer.Run(self.run.client, job.run_id).end("KILLED", outcome.reason)
                self.listener("retried", {**told, "reason": outcome.reason})
                return True
            outcome = TrialFailure(outcome.reason, outcome.reason, logged=False)
        if isinstance(outcome, TrialFailure) and not outcome.logged:
            run = writer.TrialRun(self.run.client, job.run_id)
            run.fail(outcome.reason, outcome.traceback)
        reason = outcome.reason if isinstance(outcome, TrialFailure) else ""
        if reason:
            self.failed.append(reason)
        score = None if reason else outcome.score
        self.listener("ended", {**told, "score": score, "reason": reason})
        return False
