"""The driver: runs the trials that a source offers on an executor, and reports how they end.

Searches and confirmations differ in their source. The workers train and log the trials
(:mod:`imdbtune.cluster.trial_job`). Everything for MLflow is written to an outbox
(:mod:`imdbtune.tracking.outbox`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from imdbtune.cluster.executor import MAX_ATTEMPTS, WAIT_S, Executor, Outcome, WorkerLost
from imdbtune.cluster.trial_job import Trainer, TrialFailure, TrialJob
from imdbtune.search.events import Event, Listener, TrialEnded, TrialRetried, TrialStarted
from imdbtune.tracking.mlflow_names import pruned_reason
from imdbtune.tracking.writer import CorpusFacts, Run, SearchRun, TrialRun
from imdbtune.training.saved_state import delete_checkpoint
from imdbtune.training.spec import TrialSpec

if TYPE_CHECKING:
    from imdbtune.tracking.outbox import Outbox

LOG_TAIL_CHARS = 4000  # of the workers' log, saved when a worker dies


@dataclass
class Attempts:
    """How many attempts at each trial have ended without a result."""

    failed: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)  # the worker died

    def next_number(self, trial_id: str) -> int:
        """Return the number of the next attempt at a trial, from 1."""
        return 1 + self.failed[trial_id] + self.lost[trial_id]

    def add(self, trial_id: str, *, lost: bool) -> None:
        """Count an attempt that has failed or lost its worker."""
        (self.lost if lost else self.failed)[trial_id] += 1


@dataclass(frozen=True)
class PlannedTrial:
    """A trial to run.

    Args:
        logged: parameters besides the hyperparameters.
        tags: of the trial's run, in addition to those of the parent run.
        previous_run_id: run of the trial whose state this one continues; empty: none.
        earlier_run_ids: runs of attempts at this trial that may have left a checkpoint.
    """

    trial_id: str
    spec: TrialSpec
    logged: Mapping[str, object]
    tags: Mapping[str, str] = field(default_factory=dict)
    previous_run_id: str = ""
    earlier_run_ids: tuple[str, ...] = ()


class TrialSource(Protocol):
    """The trials of a search or of a confirmation, and what becomes of them."""

    @property
    def attempts(self) -> Attempts:
        """The attempts that have ended without a result; the driver counts them."""

    def next_trial(self) -> PlannedTrial | None:
        """Return the next trial to run; ``None``: there is none until a running one has ended."""

    def note_start(self, job: TrialJob) -> None:
        """Record that a trial is about to start."""

    def note_retry(self, job: TrialJob, *, lost: bool, reason: str) -> None:
        """Record an attempt that has failed or lost its worker, and offer the trial again."""

    def note_end(
        self, job: TrialJob, score: float | None, reason: str, measured: Mapping[str, float]
    ) -> None:
        """Record the score of a trial, or ``None``; why it has failed or was pruned; its results.

        Args:
            measured: the results by the names of objectives; empty if it has failed.
        """

    def check_failures(self, *, at_the_end: bool = False) -> None:
        """Raise SearchAborted if so many trials have failed that the others need not run.

        Args:
            at_the_end: whether all trials have ended.
        """


@dataclass
class Driver:
    """Runs the trials of one source.

    Args:
        source: offers the trials.
        parent: the run of the search or confirmation, written through an outbox.
        facts: describe the corpus in MLflow.
        folder: of the search; contains the workers' log.
        listener: called with each trial that starts, is retried or ends.
        trainer: trains the trials; default: :func:`imdbtune.training.trainer.train_trial`.
        log_models: whether each trial logs its model when it ends.
        timeout_minutes: time limit of a trial; 0: none.
        retries: how often a failed trial is repeated.
        prunable: whether the executor's ``report`` may prune trials.
        system_metrics: whether each trial logs the use of its machine.
        check: called after each wait; raises SearchAborted if the search cannot continue.
    """

    source: TrialSource
    parent: SearchRun
    facts: CorpusFacts
    folder: Path
    listener: Listener
    trainer: Trainer | None = None
    log_models: bool = True
    timeout_minutes: float = 0.0
    retries: int = 0
    prunable: bool = False
    system_metrics: bool = False
    check: Callable[[], None] = lambda: None
    started: int = 0  # attempts
    _running: int = 0

    def run(self, executor: Executor) -> None:
        """Run all trials of the source.

        Raises:
            SearchAborted: too many of them have failed.
        """
        while True:
            while self._running < executor.slots:
                trial = self.source.next_trial()
                if trial is None:
                    break
                self._start(executor, trial)
            if not self._running:
                self.source.check_failures(at_the_end=True)
                return
            ended = executor.done(WAIT_S)
            self.check()
            for job, outcome in ended:
                self._handle_outcome(job, outcome)

    def _start(self, executor: Executor, trial: PlannedTrial) -> None:
        trial_id, spec = trial.trial_id, trial.spec
        parent = replace(self.parent, tags={**self.parent.tags, **trial.tags})
        attempt = self.source.attempts.next_number(trial_id)
        job = TrialJob(
            trial_id=trial_id,
            spec=spec,
            outbox=self.parent.client,
            run_id=parent.start_trial(trial_id, spec.params, trial.logged, attempt),
            corpus=self.facts,
            log_model=self.log_models,
            trainer=self.trainer,
            timeout_minutes=self.timeout_minutes,
            prunable=self.prunable,
            system_metrics=self.system_metrics,
            previous_run_id=trial.previous_run_id,
            earlier_run_ids=trial.earlier_run_ids,
        )
        self._running += 1
        self.started += 1
        self.source.note_start(job)
        self.listener(TrialStarted(trial_id, spec.params, spec.settings.epochs))
        executor.submit(job)

    def _handle_outcome(self, job: TrialJob, outcome: Outcome) -> None:
        self._running -= 1
        attempts = self.source.attempts
        if isinstance(outcome, WorkerLost):
            if 1 + attempts.lost[job.trial_id] < MAX_ATTEMPTS:
                self._retry(job, outcome.reason, lost=True)
                Run(self.parent.client, job.run_id).end("KILLED", outcome.reason)
                return
            reason = f"{outcome.reason} {MAX_ATTEMPTS} times (out of memory?)"
            outcome = TrialFailure(reason, f"{reason}\n{self._log_tail()}", logged=False)
        delete_checkpoint(job.spec)  # a failed trial begins anew, with another seed
        if not isinstance(outcome, TrialFailure):
            measured = {**outcome.measured, job.spec.settings.objective: outcome.score}
            reason = pruned_reason(outcome.pruned_after, job.spec.settings.folds)
            self._end(job, outcome.score, reason, measured)
            return
        if not outcome.logged:
            TrialRun(self.parent.client, job.run_id).fail(outcome.reason, outcome.traceback)
        if attempts.failed[job.trial_id] < self.retries:
            self._retry(job, outcome.reason, lost=False)
        else:
            self._end(job, None, outcome.reason, {})

    def _retry(self, job: TrialJob, reason: str, *, lost: bool) -> None:
        self.source.note_retry(job, lost=lost, reason=reason)
        self.source.attempts.add(job.trial_id, lost=lost)
        self.listener(TrialRetried(job.trial_id, job.spec.params, job.run_id, reason))

    def _end(
        self, job: TrialJob, score: float | None, reason: str, measured: Mapping[str, float]
    ) -> None:
        self.source.note_end(job, score, reason, measured)
        self.listener(TrialEnded(job.trial_id, job.spec.params, job.run_id, score, reason))
        self.source.check_failures()

    def _log_tail(self) -> str:
        """Return the end of the workers' output, which may show why one of them crashed."""
        log = self.folder / "workers.log"
        text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
        return f"\nThe end of {log.name}:\n{text[-LOG_TAIL_CHARS:]}" if text else ""


def with_run_ids(listener: Listener, outbox: Outbox) -> Listener:
    """Return a listener that gets MLflow's run id of an ended trial, if delivered already."""

    def report(event: Event) -> None:
        if isinstance(event, TrialEnded | TrialRetried):
            event = replace(event, run_id=outbox.delivered(event.run_id).run_id)
        listener(event)

    return report


@contextmanager
def stop_on_error(
    executor: AbstractContextManager[Executor], stop: Callable[[str], None]
) -> Iterator[Executor]:
    """Yield an executor; after an error, call ``stop`` with the reason once it is closed."""
    try:
        with executor as opened:
            yield opened
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt)
        with suppress(Exception):  # the first error is raised
            stop("interrupted" if interrupted else f"search aborted: {error}")
        raise
