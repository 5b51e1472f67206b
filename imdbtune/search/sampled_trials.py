"""The trials that a sampler suggests, with their journal: the source of a search's driver."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from imdbtune.cluster.trial_job import EpochEnded, TrialJob, trial_folder
from imdbtune.config.hyperparameters import TrialParams
from imdbtune.config.objectives import error_name
from imdbtune.config.schema import SearchConfig
from imdbtune.errors import SearchAborted
from imdbtune.search.constraint import Constraint
from imdbtune.search.driver import Attempts, PlannedTrial
from imdbtune.search.events import LimitReached, Listener, SearchResumed, SpaceExhausted, TrialEnded
from imdbtune.search.journal import (
    Event,
    Journal,
    asked_event,
    borrowed_event,
    ended_event,
    history,
    idle_event,
    open_trials,
)
from imdbtune.search.kept_models import KeptModels
from imdbtune.search.pruning import Pruning
from imdbtune.search.sampler import (
    Borrowed,
    Idle,
    Sampler,
    Stopped,
    Suggestion,
    Told,
    sampler_kind,
)
from imdbtune.search.stopping import StoppingRules
from imdbtune.tracking.entities import Trial
from imdbtune.training.saved_state import delete_checkpoint
from imdbtune.training.spec import CHECKPOINT_AFTER_S, TrainingSettings, TrialSpec

# A search is aborted when none of its trials has finished and this many (plus one for each that is
# running) have failed, or when at least four times as many and over three in four have failed.
MIN_FAILURES_TO_STOP = 5


@dataclass
class SampledTrials:
    """The trials of one search: suggested, running, ended.

    Args:
        sampler: suggests the trials.
        corpus: folder of the corpus.
        folder: of the search, for the files of its trials.
        listener: called when the space is exhausted, and for trials that had ended already.
        stopping: the limits of the search.
        models: the model files of the best trials.
        remote: whether the trials run on machines without access to this disk.
    """

    config: SearchConfig
    sampler: Sampler
    journal: Journal
    corpus: Path
    folder: Path
    listener: Listener
    stopping: StoppingRules
    models: KeptModels
    remote: bool = False
    attempts: Attempts = field(default_factory=Attempts)
    # By trial id.
    suggested: dict[str, Suggestion] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)  # standard, of scores; 0: by a formula
    failed: dict[str, str] = field(default_factory=dict)  # reasons
    # Cross-validations that were ended early: their scores are those of other reviews.
    partial: set[str] = field(default_factory=set)
    run_ids: dict[str, str] = field(default_factory=dict)  # of the trials with a score
    begun: dict[str, list[str]] = field(default_factory=dict)  # runs of all attempts, in order
    unjournaled: dict[str, Trial] = field(default_factory=dict)
    queued: list[Suggestion] = field(default_factory=list)
    running: int = 0
    exhausted: bool = False
    stopped: bool = False  # by a limit
    idle: bool = False  # the sampler waits for a trial to end
    pruning: Pruning = field(init=False)

    def __post_init__(self) -> None:
        self.pruning = Pruning.of(self.config, self.journal)

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

        Raises:
            SearchAborted: the sampler gives other answers now.
        """
        past = list(history(events))
        self.sampler.restore(past)
        self.pruning.restore(events)
        self.suggested = {each.trial_id: each for each in past if isinstance(each, Suggestion)}
        self.queued = open_trials(events) + [self.suggested[trial_id] for trial_id in retrain]
        self.unjournaled = dict(unjournaled)
        for event in events:
            kind = event["event"]
            self.idle = kind == "idle" or (self.idle and kind not in ("asked", "ended"))
            if kind == "ended":
                self._apply_end(event)
            elif kind == "started":
                self.begun.setdefault(event["trial_id"], []).append(event["run_id"])
            elif kind in ("failed", "lost"):
                self.attempts.add(event["trial_id"], lost=kind == "lost")

    def borrow(self, trials: Sequence[Borrowed]) -> None:
        """Journal trials of other searches, and let the sampler of a new search learn from them."""
        self.journal.append(borrowed_event(trials))
        self.sampler.restore(trials)

    @property
    def can_end_trials(self) -> bool:
        """Whether a trial may be ended after any epoch; one that another continues may not."""
        has_rules = self.pruning.pruner is not None or self.stopping.deadline is not None
        return has_rules and not sampler_kind(self.config).continues_trials

    def progress(self) -> SearchResumed:
        """Return how many trials have ended, how many are run again, and the best score so far."""
        best = max if self.config.larger_is_better else min
        ended, whole = self.scores.keys() | self.failed.keys(), self._of_whole_trials(self.scores)
        return SearchResumed(len(ended), len(self.queued), best(whole, default=None))

    def _of_whole_trials(self, values: Mapping[str, float]) -> list[float]:
        """Return the values of trials that can be compared, in the order in which they ended."""
        return [value for trial_id, value in values.items() if trial_id not in self.partial]

    def explain_nothing_to_train(self) -> str:
        """Return why a resumed search has trained nothing, and what would extend it."""
        limit = self.config.tuner.trial_limit
        if limit is not None and len(self.suggested) >= limit:
            return (
                f"nothing is left to train: --max-trials is {limit} and all are done; "
                "a larger one extends the search."
            )
        return f"nothing is left to train: the {self.config.tuner.kind} search is complete."

    def next_trial(self) -> PlannedTrial | None:
        """Return the next trial to run; ``None``: there is none until a running one has ended."""
        while not self._is_stopped():
            suggestion = self._next_suggestion()
            if suggestion is None:
                return None
            params = self.config.space.params(suggestion.values)
            known = self.unjournaled.pop(suggestion.trial_id, None)
            if known is None or known.params != params:
                return self._plan(suggestion, params)
            delete_checkpoint(self._make_spec(suggestion, params))
            self._use_known_end(known, params)
        return None

    def _is_stopped(self) -> bool:
        """Return whether a limit has been reached, and report it once."""
        whole = (self._of_whole_trials(values) for values in (self.scores, self.errors))
        reason = self.stopping.reason(*whole)
        if reason and not self.stopped:
            self.listener(LimitReached(reason))
        self.stopped = reason is not None
        return self.stopped

    def _next_suggestion(self) -> Suggestion | None:
        """Return a queued trial or a new one from the sampler; None: there is none now."""
        if self.queued:
            return self.queued.pop(0)
        limit = self.config.tuner.trial_limit
        if self.exhausted or self.idle or (limit is not None and len(self.suggested) >= limit):
            return None
        answer = self.sampler.ask()
        if isinstance(answer, Suggestion):
            self.suggested[answer.trial_id] = answer
            self.journal.append(asked_event(answer))
            return answer
        if isinstance(answer, Idle):
            self.idle = True
            if answer.has_changed:
                self.journal.append(idle_event(answer))
        elif isinstance(answer, Stopped):
            self.exhausted = True
            if answer.space_exhausted:
                self.listener(SpaceExhausted(len(self.suggested)))
        return None

    def _plan(self, suggestion: Suggestion, params: TrialParams) -> PlannedTrial:
        spec = self._make_spec(suggestion, params)
        previous_run_id = self.run_ids.get(suggestion.continues, "")
        if spec.state is not None and not self.remote:
            self.models.download(previous_run_id, spec.state)
        logged: dict[str, object] = {"epochs": spec.settings.epochs, "seed": spec.settings.seed}
        if spec.settings.schedule_epochs:
            logged["schedule_epochs"] = spec.settings.schedule_epochs
        if suggestion.continues:
            logged["continues"] = suggestion.continues
            logged["initial_epoch"] = suggestion.initial_epoch
        return PlannedTrial(
            suggestion.trial_id,
            spec,
            logged,
            previous_run_id=previous_run_id,
            earlier_run_ids=tuple(self.begun.get(suggestion.trial_id, ())),
        )

    def _make_spec(self, suggestion: Suggestion, params: TrialParams) -> TrialSpec:
        settings = TrainingSettings.of(self.config)
        # The seed may have caused a failure, and training is deterministic.
        tried = self.attempts.failed[suggestion.trial_id] * settings.trainings
        previous = suggestion.continues
        return TrialSpec(
            params,
            self.corpus,
            trial_folder(self.folder, suggestion.trial_id),
            replace(
                settings,
                seed=settings.seed + tried,
                epochs=suggestion.epochs or settings.epochs,
                initial_epoch=suggestion.initial_epoch,
                # The same for all rungs, so that a trial that continues others is one training.
                schedule_epochs=settings.epochs if suggestion.epochs else 0,
            ),
            state=trial_folder(self.folder, previous) / "state.npz" if previous else None,
            keep_state=sampler_kind(self.config).continues_trials,
            checkpoint_after_s=CHECKPOINT_AFTER_S,
            code=self.config.own_code,
        )

    def _use_known_end(self, known: Trial, params: TrialParams) -> None:
        """Record the end of a trial that MLflow has, and the journal has not."""
        score = known.score if known.has_result else None
        measured = known.measured if known.has_result else {}
        reason = "" if known.state == "FINISHED" else known.end_reason
        self._record_end(known.key, Told(known.trial_id, score, reason, measured))
        self.listener(TrialEnded(known.trial_id, params, known.key, score, reason))
        self.check_failures()

    def ends_trial(self, event: EpochEnded) -> bool:
        """Return whether a trial is to end with this epoch: it is pruned, or time is up."""
        if not self.can_end_trials:
            return False
        out_of_time = self.stopping.ends_trial(event.metrics)
        is_last_fold = event.execution + 1 >= self.config.tuner.folds
        is_last = is_last_fold and event.metrics["epoch"] >= self.config.training.epochs
        return self.pruning.decide(event) or (out_of_time and not is_last)

    def note_start(self, job: TrialJob) -> None:
        """Journal that a trial is about to start."""
        self.running += 1
        self.begun.setdefault(job.trial_id, []).append(job.run_id)
        self.journal.append({"event": "started", "trial_id": job.trial_id, "run_id": job.run_id})

    def note_retry(self, job: TrialJob, *, lost: bool, reason: str) -> None:
        """Journal an attempt that has failed or lost its worker, and queue the trial again."""
        self.running -= 1
        if not lost:
            self.pruning.forget(job.trial_id)
        facts = {"trial_id": job.trial_id, "run_id": job.run_id, "reason": reason}
        self.journal.append({"event": "lost" if lost else "failed", **facts})
        self.queued.append(self.suggested[job.trial_id])

    def note_end(
        self, job: TrialJob, score: float | None, reason: str, measured: Mapping[str, float]
    ) -> None:
        """Journal the end of a trial, and then report it to the sampler."""
        self.running -= 1
        self._record_end(job.run_id, Told(job.trial_id, score, reason, measured))

    def _record_end(self, run_id: str, told: Told) -> None:
        event = ended_event(run_id, told)
        self.journal.append(event)
        self.sampler.tell(told.trial_id, told.score, told.reason, told.measured)
        self.pruning.end(told.trial_id, told.score, told.reason)
        self.idle = False
        self._apply_end(event)

    def _apply_end(self, event: Event) -> None:
        trial_id = event["trial_id"]
        if event["score"] is None:
            self.failed[trial_id] = event["reason"]
        else:
            self.scores[trial_id], self.run_ids[trial_id] = event["score"], event["run_id"]
            self.partial |= {trial_id} if self.config.tuner.folds and event["reason"] else set()
            measured = event.get("measured", {})
            name = error_name(self.config.tuner.main_objective)
            self.errors[trial_id] = measured.get(name, 0.0)
            self._keep_model(trial_id, event["run_id"], measured)

    def _keep_model(self, trial_id: str, run_id: str, measured: Mapping[str, float]) -> None:
        """Keep the model of a trial while it may be the best one."""
        tuner, params = self.config.tuner, self.config.space.params(self.suggested[trial_id].values)
        if trial_id in self.partial or not Constraint.of(self.config).is_met(params, measured):
            self.models.discarded |= {trial_id}
        self.models.set_params(trial_id, params)
        further = [measured.get(name, math.nan) for name in tuner.objectives[1:]]
        self.models.add(trial_id, run_id, (self.scores[trial_id], *further))

    def has_leftover_files(self) -> bool:
        """Return whether remote trials have left files in MLflow that are not needed any more."""
        if sampler_kind(self.config).continues_trials:  # resuming it may need their states
            return self.exhausted
        return self.config.tracking.chooses_models

    def check_failures(self, *, at_the_end: bool = False) -> None:
        """Raise SearchAborted if too many trials have failed.

        Running trials count as possible successes: failures often take less time.
        """
        failed, finished = len(self.failed), len(self.scores)
        if finished:
            possible = finished + self.running
            hopeless = failed >= 4 * MIN_FAILURES_TO_STOP and failed > 3 * possible
        else:
            hopeless = failed >= (1 if at_the_end else MIN_FAILURES_TO_STOP + self.running)
        if not hopeless:
            return
        reason, times = most_common_failure(self.failed.values())
        raise SearchAborted(
            f"{failed} of {failed + finished} trials have failed, {times} of them with: "
            f"{reason.rstrip('.')}. Change the search space or the setup."
        )


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
