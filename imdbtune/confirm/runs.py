"""Train the best configurations of a search again with other seeds, on the workers."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imdbtune.cluster.executor import MAX_ATTEMPTS, WAIT_S, Executor, WorkerLost
from imdbtune.cluster.trial_job import Trainer, TrialFailure, TrialJob, trial_folder
from imdbtune.confirm.reproduction import Stage
from imdbtune.confirm.results import CORRECTNESS_FILE, Confirmation
from imdbtune.errors import UserError
from imdbtune.tracking import writer
from imdbtune.tracking.reader import Search, Trial
from imdbtune.training.spec import OnEpoch, TrialResult, TrialSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

SEED_OFFSET = 1000  # from the search's seed: beyond the seeds of executions and retries


@dataclass(frozen=True)
class TrainingRequest:
    """A training of one configuration with one seed."""

    number: str
    stage: Stage
    seed: int


def best_configurations(search: Search, trials: Sequence[Trial], top: int) -> list[Trial]:
    """Return the ``top`` best distinct configurations with a finished trial, the best first.

    Raises:
        UserError: no trial has finished.
    """
    found: dict[Any, Trial] = {}
    for trial in trials:
        if trial.status == "FINISHED" and trial.score is not None:
            found.setdefault(trial.params, trial)
    if not found:
        raise UserError(
            f"no trial of search {search.name!r} has finished; resume the search first."
        )
    return list(found.values())[:top]


def best_runs(
    search: Search, trials: Sequence[Trial], confirmed: Confirmation | None, count: int
) -> list[str]:
    """Return the runs with the best models of at most ``count`` distinct configurations.

    Confirmed configurations come first, then the others by their score in the search.

    Raises:
        UserError: no trial has finished.
    """
    rows = confirmed.rows if confirmed else ()
    known = {row.trial_run_id for row in rows}
    others = [
        t.run_id for t in best_configurations(search, trials, len(trials)) if t.run_id not in known
    ]
    return [*(row.run_ids[0] for row in rows), *others][:count]


def training_requests(
    stages: Sequence[Stage], seeds: int, done: Mapping[str, Mapping[int, Trial]]
) -> list[TrainingRequest]:
    """Return the trainings that are missing, seed by seed, so that all advance together."""
    found: list[TrainingRequest] = []
    for index in range(seeds):
        for stage in stages:
            seed = stage.settings["seed"] + SEED_OFFSET + index
            if seed not in done.get(stage.trial.run_id, {}):
                found.append(TrainingRequest(str(len(found)), stage, seed))
    return found


def make_spec(each: TrainingRequest, corpus: Path, folder: Path) -> TrialSpec:
    """Return the spec of a training: as in the search, but once, from epoch 0, with a new seed."""
    settings = {**each.stage.settings, "seed": each.seed, "executions": 1, "initial_epoch": 0}
    return TrialSpec(each.stage.trial.params, corpus, trial_folder(folder, each.number), **settings)


@dataclass(frozen=True)
class TrainAndSavePredictions:
    """Trainer that also saves which validation reviews the model predicts correctly."""

    def __call__(self, spec: TrialSpec, on_epoch: OnEpoch) -> TrialResult:
        """Train; save the correctness in the history folder, which is logged as a whole."""
        from imdbtune.data.corpus import read_corpus
        from imdbtune.training.evaluation import validation_right
        from imdbtune.training.trainer import train_trial

        result = train_trial(spec, on_epoch)
        train = read_corpus(spec.corpus).train
        padded = spec.batching == "padded"
        correct = validation_right(result.model, train, spec.reviews, spec.params, padded)
        write_correctness(spec, correct)
        return result


def write_correctness(spec: TrialSpec, correct: Any) -> None:
    """Write the correctness of each prediction to the artifacts of a training."""
    import numpy as np

    folder = spec.folder / "history"
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / CORRECTNESS_FILE, correct)


@dataclass
class RepeatedRuns:
    """Runs trainings on an executor, as children of one run.

    Args:
        run: the parent run, written through an outbox.
        listener: called with ``started``, ``retried`` and ``ended``, as in a search.
    """

    run: writer.SearchRun
    corpus: Path
    facts: writer.CorpusFacts
    folder: Path
    trainer: Trainer
    listener: Callable[[str, dict[str, Any]], None]
    log_models: bool = True
    failed: list[str] = field(default_factory=list)  # reasons
    _attempts: Counter[str] = field(default_factory=Counter)

    def train_all(self, executor: Executor, trainings: Sequence[TrainingRequest]) -> None:
        """Run the trainings; retry those of lost workers, and append failures to ``failed``."""
        waiting = list(trainings)
        running: dict[str, TrainingRequest] = {}
        while waiting or running:
            while waiting and len(running) < executor.slots:
                each = waiting.pop(0)
                running[each.number] = each
                executor.submit(self._start(each))
            for job, outcome in executor.done(WAIT_S):
                each = running.pop(job.trial_id)
                if self._finish(job, outcome):
                    waiting.append(each)

    def _start(self, each: TrainingRequest) -> TrialJob:
        spec = make_spec(each, self.corpus, self.folder)
        self._attempts[each.number] += 1
        child = dataclasses.replace(
            self.run, tags={**self.run.tags, writer.CONFIRMS: each.stage.trial.run_id}
        )
        extra = {"epochs": spec.epochs, "seed": spec.seed}
        key = child.start_trial(each.number, spec.params, extra, self._attempts[each.number])
        facts = {"trial_id": each.number, "params": spec.params, "epochs": spec.epochs}
        self.listener("started", facts)
        return TrialJob(
            each.number,
            spec,
            self.run.client,
            key,
            self.facts,
            log_model=self.log_models,
            trainer=self.trainer,
        )

    def _finish(self, job: TrialJob, outcome: Any) -> bool:
        """Log the outcome of a training; return whether to run it again."""
        facts = {"trial_id": job.trial_id, "params": job.spec.params, "run_id": job.run_id}
        if isinstance(outcome, WorkerLost):
            if self._attempts[job.trial_id] < MAX_ATTEMPTS:
                writer.Run(self.run.client, job.run_id).end("KILLED", outcome.reason)
                self.listener("retried", {**facts, "reason": outcome.reason})
                return True
            outcome = TrialFailure(outcome.reason, outcome.reason, logged=False)
        if isinstance(outcome, TrialFailure) and not outcome.logged:
            run = writer.TrialRun(self.run.client, job.run_id)
            run.fail(outcome.reason, outcome.traceback)
        reason = outcome.reason if isinstance(outcome, TrialFailure) else ""
        if reason:
            self.failed.append(reason)
        score = None if reason else outcome.score
        self.listener("ended", {**facts, "score": score, "reason": reason})
        return False
