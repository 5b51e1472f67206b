"""The driver of a search: asks the sampler, keeps the workers busy, tells the sampler.

The sampler is told results only here; trials are trained and logged by the workers
(:mod:`imdbtune.cluster.trial_job`). What is to be in MLflow goes to an outbox
(:mod:`imdbtune.tracking.outbox`).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imdbtune.cluster.local_executor import MAX_ATTEMPTS, WAIT_S, Executor, WorkerLost
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
# A search stops when this many trials have failed (and one more for each that runs) and none has
# finished, or when more than three in four of at least four times as many have.
MIN_FAILURES_TO_STOP = 5
LAST_WORDS = 4000  # characters of the workers' log that are kept of a worker that died


@dataclass
class Driver:
    """One search under way.

    Args:
        listener: called with ``started``, ``retried``, ``ended`` and ``exhausted`` and what is
            known of it.
        clock: seconds that only go forward.
        elsewhere: whether trials run on machines that do not see this disk.
        bring: makes a file that the run with a key has left in MLflow be where it would lie.
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
    elsewhere: bool = False
    bring: Callable[[str, Path], None] = lambda key, path: None
    executor: Executor = field(init=False)
    begun: int = 0  # trainings of this session
    failures: Counter[str] = field(default_factory=Counter)  # attempts that failed, by trial
    losses: Counter[str] = field(default_factory=Counter)  # attempts whose worker died
    scores: dict[str, float] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    runs: dict[str, str] = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)
    running: dict[str, TrialJob] = field(default_factory=dict)
    waiting: list[Event] = field(default_factory=list)
    trained: dict[str, Trial] = field(default_factory=dict)  # in MLflow, and told to no one
    exhausted: bool = False
    idle: bool = False  # the sampler waits for a trial to end

    def restore(
        self, events: list[Event], trained: Mapping[str, Trial] = {}, again: Iterable[str] = ()
    ) -> None:
        """Take up a search where its journal ends: what has not ended is to be run again.

        Args:
            trained: trials that have ended in MLflow and not in the journal; they are only noted.
            again: trials to be run again although they have ended.
        """
        self.waiting = replay(self.sampler, events)
        asked_for = {e["trial_id"]: e for e in events if e["event"] == "asked"}
        self.waiting += [asked_for[trial_id] for trial_id in again]
        self.trained = dict(trained)
        for event in events:
            kind = event["event"]
            self.idle = kind == "idle" or (self.idle and kind not in ("asked", "ended"))
            if kind == "ended":
                self._note_end(event)
            elif kind in ("failed", "lost"):
                self._note_attempt(event)

    def standing(self) -> dict[str, Any]:
        """Where a search stands that is taken up: trials that have ended, and the best score."""
        best = max if self.config.tuner.objective == "val_accuracy" else min
        return {
            "ended": len(self.scores.keys() | self.failed.keys()),
            "again": len(self.waiting),
            "best": best(self.scores.values(), default=None),
        }

    def why_nothing_was_left(self) -> str:
        """Why a search that was taken up has not trained anything, and what would extend it."""
        known, limit = len(self.sampler.trials), self.config.tuner.trial_limit
        if limit is not None and known >= limit:
            return (
                f"nothing is left to train: --max-trials is {limit} and all are done; "
                "a larger one extends the search."
            )
        return f"nothing is left to train: the {self.config.tuner.kind} search is through."

    def run(self, executor: Executor) -> None:
        """Until the budget is spent or the space is.

        Raises:
            SearchAborted: so many trials fail that the set-up must be wrong.
        """
        self.executor = executor
        deadline = math.inf
        if self.config.tuner.max_minutes:
            deadline = self.clock() + self.config.tuner.max_minutes * 60
        while True:
            while len(self.running) < self.executor.slots and self.clock() < deadline:
                event = self._next()
                if event is None:
                    break
                self._start(event)
            if not self.running:
                self._check_hope(at_the_end=True)
                return
            for job, outcome in self.executor.done(WAIT_S):
                self._end(job, outcome)

    def _next(self) -> Event | None:
        """The next trial: one to be run again, or a new one from the sampler, if there is any."""
        if self.waiting:
            return self.waiting.pop(0)
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
            # A hyperband that stops may have run all its brackets.
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
        known = self.trained.pop(trial_id, None)
        if known is not None and known.params == params:
            score = known.score if known.status == "FINISHED" else None
            self._note(trial_id, params, known.key, score, known.reason)
            return
        self.begun += 1
        spec = self._spec(trial_id, params, values)
        attempt = 1 + self.failures[trial_id] + self.losses[trial_id]
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
            before=self.runs.get(values.get("tuner/trial_id", ""), ""),
        )
        if spec.state is not None and not self.elsewhere:
            self.bring(job.before, spec.state)
        self.running[trial_id] = job
        self.journal.append({"event": "started", "trial_id": trial_id, "run_id": run_id})
        self.listener("started", {"trial_id": trial_id, "params": params, "epochs": spec.epochs})
        self.executor.submit(job)

    def _spec(self, trial_id: str, params: TrialParams, values: dict[str, Any]) -> TrialSpec:
        config = self.config
        before = values.get("tuner/trial_id")
        return TrialSpec(
            params=params,
            corpus=self.corpus,
            folder=trial_folder(self.folder, trial_id),
            reviews=config.data.reviews,
            epochs=int(values.get("tuner/epochs", config.training.epochs)),
            initial_epoch=int(values.get("tuner/initial_epoch", 0)),
            patience=config.training.patience,
            objective=config.tuner.objective,
            # Each failure may be the seed's, which a training is bound to repeat.
            seed=config.tuner.seed + self.failures[trial_id] * config.tuner.executions,
            executions=config.tuner.executions,
            batching=config.training.batching,
            compile=config.training.compile,
            state=trial_folder(self.folder, before) / "state.npz" if before else None,
            keep_state=config.tuner.kind == "hyperband",
        )

    def _end(self, job: TrialJob, outcome: Any) -> None:
        del self.running[job.trial_id]
        if isinstance(outcome, WorkerLost):
            if 1 + self.losses[job.trial_id] < MAX_ATTEMPTS:
                self._try_again(job, "lost", outcome.reason)
                Run(self.search.client, job.run_id).end("KILLED", outcome.reason)
                return
            reason = f"{outcome.reason} {MAX_ATTEMPTS} times (out of memory?)"
            outcome = TrialFailure(reason, f"{reason}\n{self._last_words()}", logged=False)
        if isinstance(outcome, TrialFailure) and not outcome.logged:
            TrialRun(self.search.client, job.run_id).fail(outcome.reason, outcome.traceback)
        failure = outcome.reason if isinstance(outcome, TrialFailure) else ""
        if failure and self.failures[job.trial_id] < self.config.tuner.retries:
            self._try_again(job, "failed", failure)
            return
        score = None if failure else outcome.score
        self._note(job.trial_id, job.spec.params, job.run_id, score, failure)

    def _note(
        self, trial_id: str, params: TrialParams, run_id: str, score: float | None, failure: str
    ) -> None:
        """Note down that a trial has ended; the journal comes first."""
        ended = {"event": "ended", "trial_id": trial_id, "run_id": run_id}
        event = {**ended, "score": score, "reason": failure}
        self.journal.append(event)
        self.sampler.tell(trial_id, score, failure)
        self.idle = False
        self._note_end(event)
        facts = {"trial_id": trial_id, "params": params, "run_id": run_id}
        self.listener("ended", {**facts, "score": score, "reason": failure})
        self._check_hope()

    def _note_end(self, event: Event) -> None:
        trial_id = event["trial_id"]
        if event["score"] is None:
            self.failed[trial_id] = event["reason"]
        else:
            self.scores[trial_id], self.runs[trial_id] = event["score"], event["run_id"]
            self._keep_model(trial_id)

    def _note_attempt(self, event: Event) -> None:
        counts = self.failures if event["event"] == "failed" else self.losses
        counts[event["trial_id"]] += 1

    def _try_again(self, job: TrialJob, kind: str, reason: str) -> None:
        """Note an attempt that ``failed`` or was ``lost``, and queue the trial for another one."""
        facts = {"trial_id": job.trial_id, "run_id": job.run_id, "reason": reason}
        event = {"event": kind, **facts}
        self.journal.append(event)
        self._note_attempt(event)
        values = self.sampler.values_of(job.trial_id)
        self.waiting.append({"event": "asked", "trial_id": job.trial_id, "values": values})
        self.listener("retried", {**facts, "params": job.spec.params})

    def _last_words(self) -> str:
        """The end of what the worker processes have printed; a crash may have said why."""
        log = self.folder / "workers.log"
        text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
        return f"\nThe end of {log.name}:\n{text[-LAST_WORDS:]}" if text else ""

    def _keep_model(self, trial_id: str) -> None:
        """Keep the model files of the best few until the end, where MLflow has not got them all."""
        if trial_id not in self.kept:
            self.kept.append(trial_id)
        keep = self.config.tracking.keep_models
        limit = {"all": 0, "best": 1}.get(keep) if not keep.isdigit() else int(keep)
        sign = -1.0 if self.config.tuner.objective == "val_accuracy" else 1.0
        self.kept.sort(key=lambda t: (sign * self.scores[t], t))
        for dropped in self.kept[limit:]:
            folder = trial_folder(self.folder, dropped)
            (folder / "model.keras").unlink(missing_ok=True)
        del self.kept[limit:]

    def has_left_files(self) -> bool:
        """Whether trials elsewhere have left files in MLflow that nobody needs any more."""
        if self.config.tuner.kind == "hyperband":  # one that is not through goes on from them
            return self.exhausted
        return self.config.tracking.chooses_models

    def log_kept_models(self) -> None:
        """Hand the models that were held back to MLflow."""
        for trial_id in self.kept:
            path = trial_folder(self.folder, trial_id) / "model.keras"
            self.bring(self.runs[trial_id], path)
            if path.exists():
                TrialRun(self.search.client, self.runs[trial_id]).log_model(path)
                path.unlink()

    def _check_hope(self, at_the_end: bool = False) -> None:
        """Raise SearchAborted where the failures say that the space or the set-up is wrong.

        Failures come before successes where they come at once, so trials under way count too.
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
            f"{reason.rstrip('.')}. Change the space or the set-up."
        )

    def stop(self, reason: str) -> None:
        """Close the runs of the trials under way as KILLED; their workers must have ended."""
        self.search.stop_trials(reason)
        self.running.clear()


def most_common_failure(reasons: Iterable[str]) -> tuple[str, int]:
    """The most frequent reason in one wording of it, and how often; numbers do not count."""
    wordings: dict[str, list[str]] = {}
    for reason in reasons:
        alike = re.sub(r"0x[0-9a-f]+|\d+(\.\d+)?(e[+-]?\d+)?", "#", reason)
        wordings.setdefault(alike, []).append(reason)
    found = max(wordings.values(), key=len)
    return found[0], len(found)
