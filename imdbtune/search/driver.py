"""The driver of a search: gets trials from the sampler, has them trained, reports their scores.

The workers train and log the trials (:mod:`imdbtune.cluster.trial_job`). Everything for MLflow is
written to an outbox (:mod:`imdbtune.tracking.outbox`).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imdbtune.cluster.executor import MAX_ATTEMPTS, WAIT_S, Executor, WorkerLost
from imdbtune.cluster.trial_job import Trainer, TrialFailure, TrialJob, trial_folder
from imdbtune.config.hyperparameters import TrialParams
from imdbtune.config.schema import SearchConfig
from imdbtune.errors import SearchAborted
from imdbtune.search.journal import Event, Journal, replay
from imdbtune.tracking.reader import Trial
from imdbtune.tracking.writer import CorpusFacts, Run, SearchRun, TrialRun
from imdbtune.training.spec import TrialSpec

if TYPE_CHECKING:
    from imdbtune.search.keras_tuner_samplers import Sampler

Listener = Callable[[str, dict[str, Any]], None]
# A search is aborted when none of its trials has finished and this many (plus one for each that is
# running) have failed, or when at least four times as many and over three in four have failed.
MIN_FAILURES_TO_STOP = 5
LOG_TAIL_CHARS = 4000  # of the workers' log, saved when a worker dies


@dataclass
class Driver:
    """Runs the trials of one search.

    Args:
        sampler: suggests the trials.
        corpus: folder of the corpus.
        facts: describe the corpus in MLflow.
        folder: of the search, for the files of its trials.
        listener: called with the events ``started``, ``retried``, ``ended`` and ``exhausted``.
        clock: monotonic, in seconds.
        trainer: trains the trials; default: :func:`imdbtune.training.trainer.train_trial`.
        remote: whether the trials run on machines without access to this disk.
        download: called with the key of a run and a path; downloads the file of that name, which
            a remote worker has uploaded for the run.
    """

    config: SearchConfig
    sampler: Sampler
    search: SearchRun
    journal: Journal
    corpus: Path
    facts: CorpusFacts
    folder: Path
    listener: Listener
    clock: Callable[[], float]
    trainer: Trainer | None = None
    remote: bool = False
    download: Callable[[str, Path], None] = lambda key, path: None
    executor: Executor = field(init=False)
    started: int = 0  # attempts in this session
    # By trial id.
    failed_attempts: Counter[str] = field(default_factory=Counter)
    lost_attempts: Counter[str] = field(default_factory=Counter)  # the worker died
    scores: dict[str, float] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)  # reasons
    run_ids: dict[str, str] = field(default_factory=dict)  # of the trials with a score
    running: dict[str, TrialJob] = field(default_factory=dict)
    unjournaled: dict[str, Trial] = field(default_factory=dict)
    trials_with_model: list[str] = field(default_factory=list)  # the best first
    queued: list[Event] = field(default_factory=list)
    exhausted: bool = False
    idle: bool = False  # the sampler waits for a trial to end

    def restore(
        self,
        events: list[Event],
        unjournaled: Mapping[str, Trial] = {},
        retrain: Iterable[str] = (),
    ) -> None:
        """Restore the state of a search from its journal; queue the trials that have not ended.

        Args:
            events: of the journal.
            unjournaled: trials that have ended according to MLflow only. Their results are used.
            retrain: ids of trials to run again although they have ended.
        """
        self.queued = replay(self.sampler, events)
        suggested = {e["trial_id"]: e for e in events if e["event"] == "asked"}
        self.queued += [suggested[trial_id] for trial_id in retrain]
        self.unjournaled = dict(unjournaled)
        for event in events:
            kind = event["event"]
            self.idle = kind == "idle" or (self.idle and kind not in ("asked", "ended"))
            if kind == "ended":
                self._apply_end(event)
            elif kind in ("failed", "lost"):
                self._count_attempt(event)

    def progress_summary(self) -> dict[str, Any]:
        """Return how many trials have ended, how many are run again, and the best score so far."""
        best = max if self.config.tuner.larger_is_better else min
        return {
            "ended": len(self.scores.keys() | self.failed.keys()),
            "again": len(self.queued),
            "best": best(self.scores.values(), default=None),
        }

    def explain_nothing_to_train(self) -> str:
        """Return why a resumed search has trained nothing, and what would extend it."""
        known, limit = len(self.sampler.trials), self.config.tuner.trial_limit
        if limit is not None and known >= limit:
            return (
                f"nothing is left to train: --max-trials is {limit} and all are done; "
                "a larger one extends the search."
            )
        return f"nothing is left to train: the {self.config.tuner.kind} search is complete."

    def run(self, executor: Executor) -> None:
        """Run trials until the budget or the search space is exhausted.

        Raises:
            SearchAborted: so many trials have failed that the space or the setup must be wrong.
        """
        self.executor = executor
        deadline = math.inf
        if self.config.tuner.max_minutes:
            deadline = self.clock() + self.config.tuner.max_minutes * 60
        while True:
            while len(self.running) < self.executor.slots and self.clock() < deadline:
                event = self._next_trial()
                if event is None:
                    break
                self._start(event)
            if not self.running:
                self._check_failures(at_the_end=True)
                return
            for job, outcome in self.executor.done(WAIT_S):
                self._handle_outcome(job, outcome)

    def _next_trial(self) -> Event | None:
        """Return a queued trial or a new one from the sampler; None: there is none now."""
        if self.queued:
            return self.queued.pop(0)
        limit = self.config.tuner.trial_limit
        known = len(self.sampler.trials)
        if self.exhausted or self.idle or (limit is not None and known >= limit):
            return None
        suggestion = self.sampler.suggest(known)
        self.idle = suggestion.status == "IDLE"
        if self.idle and suggestion.has_drawn:
            self.journal.append(suggestion.as_event())
        if suggestion.status == "STOPPED":
            self.exhausted = True
            # Hyperband also stops when it has run all its brackets.
            if self.config.tuner.kind != "hyperband" or self.sampler.exhausted:
                self.listener("exhausted", {"trials": known})
        if suggestion.status != "RUNNING":
            return None
        event = suggestion.as_event()
        self.journal.append(event)
        return event

    def _start(self, event: Event) -> None:
        trial_id, values = event["trial_id"], event["values"]
        params = self.config.space.params(values)
        known = self.unjournaled.pop(trial_id, None)
        if known is not None and known.params == params:
            score = known.score if known.status == "FINISHED" else None
            self._record_end(trial_id, params, known.key, score, known.reason)
            return
        self.started += 1
        spec = self._make_spec(trial_id, params, values)
        attempt = 1 + self.failed_attempts[trial_id] + self.lost_attempts[trial_id]
        extra: dict[str, Any] = {"epochs": spec.epochs, "seed": spec.seed}
        if "tuner/trial_id" in values:
            extra |= {"continues": values["tuner/trial_id"], "initial_epoch": spec.initial_epoch}
        run_id = self.search.start_trial(trial_id, params, extra, attempt)
        job = TrialJob(
            trial_id=trial_id,
            spec=spec,
            outbox=self.search.client,
            run_id=run_id,
            corpus=self.facts,
            log_model=self.config.tracking.keep_models == "all",
            trainer=self.trainer,
            timeout_minutes=self.config.tuner.trial_timeout,
            previous_run_id=self.run_ids.get(values.get("tuner/trial_id", ""), ""),
        )
        if spec.state is not None and not self.remote:
            self.download(job.previous_run_id, spec.state)
        self.running[trial_id] = job
        self.journal.append({"event": "started", "trial_id": trial_id, "run_id": run_id})
        self.listener("started", {"trial_id": trial_id, "params": params, "epochs": spec.epochs})
        self.executor.submit(job)

    def _make_spec(self, trial_id: str, params: TrialParams, values: dict[str, Any]) -> TrialSpec:
        config = self.config
        previous = values.get("tuner/trial_id")
        return TrialSpec(
            params=params,
            corpus=self.corpus,
            folder=trial_folder(self.folder, trial_id),
            reviews=config.data.reviews,
            epochs=int(values.get("tuner/epochs", config.training.epochs)),
            initial_epoch=int(values.get("tuner/initial_epoch", 0)),
            patience=config.training.patience,
            objective=config.tuner.objective,
            # The seed may have caused the failure, and training is deterministic.
            seed=config.tuner.seed + self.failed_attempts[trial_id] * config.tuner.executions,
            executions=config.tuner.executions,
            batching=config.training.batching,
            compile=config.training.compile,
            state=trial_folder(self.folder, previous) / "state.npz" if previous else None,
            keep_state=config.tuner.kind == "hyperband",
        )

    def _handle_outcome(self, job: TrialJob, outcome: Any) -> None:
        del self.running[job.trial_id]
        if isinstance(outcome, WorkerLost):
            if 1 + self.lost_attempts[job.trial_id] < MAX_ATTEMPTS:
                self._retry(job, "lost", outcome.reason)
                Run(self.search.client, job.run_id).end("KILLED", outcome.reason)
                return
            reason = f"{outcome.reason} {MAX_ATTEMPTS} times (out of memory?)"
            outcome = TrialFailure(reason, f"{reason}\n{self._log_tail()}", logged=False)
        if isinstance(outcome, TrialFailure) and not outcome.logged:
            TrialRun(self.search.client, job.run_id).fail(outcome.reason, outcome.traceback)
        failure = outcome.reason if isinstance(outcome, TrialFailure) else ""
        if failure and self.failed_attempts[job.trial_id] < self.config.tuner.retries:
            self._retry(job, "failed", failure)
            return
        score = None if failure else outcome.score
        self._record_end(job.trial_id, job.spec.params, job.run_id, score, failure)

    def _record_end(
        self, trial_id: str, params: TrialParams, run_id: str, score: float | None, failure: str
    ) -> None:
        """Journal the end of a trial, and then report it to the sampler and the listener."""
        ended = {"event": "ended", "trial_id": trial_id, "run_id": run_id}
        event = {**ended, "score": score, "reason": failure}
        self.journal.append(event)
        self.sampler.tell(trial_id, score, failure)
        self.idle = False
        self._apply_end(event)
        facts = {"trial_id": trial_id, "params": params, "run_id": run_id}
        self.listener("ended", {**facts, "score": score, "reason": failure})
        self._check_failures()

    def _apply_end(self, event: Event) -> None:
        trial_id = event["trial_id"]
        if event["score"] is None:
            self.failed[trial_id] = event["reason"]
        else:
            self.scores[trial_id], self.run_ids[trial_id] = event["score"], event["run_id"]
            self._delete_worst_models(trial_id)

    def _count_attempt(self, event: Event) -> None:
        counts = self.failed_attempts if event["event"] == "failed" else self.lost_attempts
        counts[event["trial_id"]] += 1

    def _retry(self, job: TrialJob, kind: str, reason: str) -> None:
        """Journal an attempt that ``failed`` or was ``lost``, and queue the trial again."""
        facts = {"trial_id": job.trial_id, "run_id": job.run_id, "reason": reason}
        event = {"event": kind, **facts}
        self.journal.append(event)
        self._count_attempt(event)
        values = self.sampler.values_of(job.trial_id)
        self.queued.append({"event": "asked", "trial_id": job.trial_id, "values": values})
        self.listener("retried", {**facts, "params": job.spec.params})

    def _log_tail(self) -> str:
        """Return the end of the workers' output, which may show why one of them crashed."""
        log = self.folder / "workers.log"
        text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
        return f"\nThe end of {log.name}:\n{text[-LOG_TAIL_CHARS:]}" if text else ""

    def _delete_worst_models(self, trial_id: str) -> None:
        """Add a trial; delete the model files beyond the best ``keep_models``."""
        if trial_id not in self.trials_with_model:
            self.trials_with_model.append(trial_id)
        keep = self.config.tracking.keep_models
        limit = {"all": 0, "best": 1}.get(keep) if not keep.isdigit() else int(keep)
        sign = -1.0 if self.config.tuner.larger_is_better else 1.0
        self.trials_with_model.sort(key=lambda t: (sign * self.scores[t], t))
        for deleted in self.trials_with_model[limit:]:
            (trial_folder(self.folder, deleted) / "model.keras").unlink(missing_ok=True)
        del self.trials_with_model[limit:]

    def has_leftover_files(self) -> bool:
        """Return whether remote trials have left files in MLflow that are not needed any more."""
        if self.config.tuner.kind == "hyperband":  # resuming it may need their states
            return self.exhausted
        return self.config.tracking.chooses_models

    def log_best_models(self) -> None:
        """Log the models of the best trials, which are chosen at the end of the search."""
        for trial_id in self.trials_with_model:
            path = trial_folder(self.folder, trial_id) / "model.keras"
            self.download(self.run_ids[trial_id], path)
            if path.exists():
                TrialRun(self.search.client, self.run_ids[trial_id]).log_model(path)
                path.unlink()

    def _check_failures(self, at_the_end: bool = False) -> None:
        """Raise SearchAborted if too many trials have failed.

        Running trials count as possible successes: failures often take less time.
        """
        failed, finished, running = len(self.failed), len(self.scores), len(self.running)
        if finished:
            hopeless = failed >= 4 * MIN_FAILURES_TO_STOP and failed > 3 * (finished + running)
        else:
            hopeless = failed >= (1 if at_the_end else MIN_FAILURES_TO_STOP + running)
        if not hopeless:
            return
        reason, times = most_common_failure(self.failed.values())
        raise SearchAborted(
            f"{failed} of {failed + finished} trials have failed, {times} of them with: "
            f"{reason.rstrip('.')}. Change the search space or the setup."
        )

    def stop(self, reason: str) -> None:
        """Close the runs of the running trials as KILLED; their workers must have ended."""
        self.search.stop_trials(reason)
        self.running.clear()


def most_common_failure(reasons: Iterable[str]) -> tuple[str, int]:
    """Return an example of the most frequent reason, and how often it occurs.

    Reasons that differ only in numbers are the same.
    """
    groups: dict[str, list[str]] = {}
    for reason in reasons:
        pattern = re.sub(r"0x[0-9a-f]+|\d+(\.\d+)?(e[+-]?\d+)?", "#", reason)
        groups.setdefault(pattern, []).append(reason)
    largest = max(groups.values(), key=len)
    return largest[0], len(largest)
