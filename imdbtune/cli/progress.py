"""Show the progress of a search or a training: a live table, plain lines or JSON."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import partial
from typing import TextIO, assert_never

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from imdbtune.cli.library_output import redirect_library_output
from imdbtune.cli.output import print_json
from imdbtune.cli.stages import ProgressLines, supports_live_display
from imdbtune.cli.tables import format_duration, pluralize
from imdbtune.cluster.trial_job import EpochEnded
from imdbtune.config.extensions import DEFAULT_OBJECTIVE
from imdbtune.config.hyperparameters import Scalar, TrialParams
from imdbtune.config.schema import NO_PRUNER
from imdbtune.errors import escape_control
from imdbtune.models.metrics.metric import format_value
from imdbtune.search.events import (
    BaselineEnded,
    ConfirmationOpened,
    DownloadProgress,
    Event,
    LimitReached,
    Listener,
    Notice,
    SearchOpened,
    SearchResumed,
    SpaceExhausted,
    StoreAway,
    TrainingOpened,
    TrialEnded,
    TrialRetried,
    TrialStarted,
    WaitingForBaseline,
)
from imdbtune.search.sampler import known_trial_count
from imdbtune.tracking.entities import Search
from imdbtune.tracking.mlflow_names import LINEAR

# The names of the events with --json; a download is not printed.
JSON_NAMES: dict[type[Event], str] = {
    Notice: "notice",
    SearchOpened: "opened",
    TrainingOpened: "opened",
    ConfirmationOpened: "confirming",
    SearchResumed: "resumed",
    TrialStarted: "started",
    EpochEnded: "epoch",
    TrialRetried: "retried",
    TrialEnded: "ended",
    SpaceExhausted: "exhausted",
    LimitReached: "limit",
    BaselineEnded: "baseline",
    WaitingForBaseline: "waiting",
    StoreAway: "away",
}


@contextmanager
def make_progress(*, as_json: bool = False, quiet: bool = False) -> Iterator[Listener]:
    """Yield a listener for :mod:`imdbtune.api`; library output goes to a log file meanwhile."""
    with redirect_library_output() as err:
        if quiet:
            yield partial(_write_notices, err)
        elif as_json:
            yield _print_event
        else:
            console = Console(file=err, highlight=False)
            state = Progress(err)
            if not supports_live_display(console):
                yield state
                return
            with Live(console=console, get_renderable=state.table, refresh_per_second=2) as live:
                state.write_live = partial(live.console.print, markup=False)
                yield state


def _print_event(event: Event) -> None:
    if type(event) not in JSON_NAMES:
        return
    plain: dict[str, Scalar | Mapping[str, Scalar] | None] = {"event": JSON_NAMES[type(event)]}
    for field_ in fields(event):
        value = getattr(event, field_.name)
        if isinstance(value, TrialParams):
            plain["name"], plain["params"] = value.label, value.as_dict()
        elif isinstance(value, Search):
            plain["search"] = value.run_id
        elif field_.name == "metrics":
            plain |= value
        elif isinstance(value, str | int | float | bool) or value is None:
            plain[field_.name] = value
    print_json(plain)


def _write_notices(err: TextIO, event: Event) -> None:
    if isinstance(event, Notice):
        err.write("".join(f"{escape_control(line)}\n" for line in event.text.splitlines()))


@dataclass
class Progress:
    """Listener that shows the events of a search as lines, or as a table that is redrawn."""

    err: TextIO
    total: int | None = None
    slots: int = 1
    folds: int = 0  # of a cross-validation
    ended_before: int = 0  # trials that had ended when the search was resumed
    # Of the running trials, by trial id; a single training has the id "".
    names: dict[str, str] = field(default_factory=dict)
    epoch_limits: dict[str, int] = field(default_factory=dict)
    last_epochs: dict[str, Mapping[str, float]] = field(default_factory=dict)
    executions: dict[str, int] = field(default_factory=dict)  # from 0
    started: dict[str, float] = field(default_factory=dict)
    durations: list[float] = field(default_factory=list)  # of ended trials, in seconds
    best: tuple[float, str] | None = None  # score and name
    objective: str = DEFAULT_OBJECTIVE
    sign: float = 1.0  # -1 where a smaller objective is better
    write_live: Callable[[str], None] | None = None  # above a live table
    stages: ProgressLines = field(init=False)

    def __post_init__(self) -> None:
        """Write stages like all other lines."""
        self.stages = ProgressLines(self._write)

    def __call__(self, event: Event) -> None:
        """Update the state with an event and show it."""
        match event:
            case Notice():
                self._write(event.text)
            case DownloadProgress():
                self.stages(event.name, event.done, event.total)
            case SearchOpened():
                self._open_search(event)
            case TrainingOpened():
                self._open_training(event)
            case ConfirmationOpened():
                self._open_confirmation(event)
            case SearchResumed():
                self._resume(event)
            case TrialStarted():
                self._start(event)
            case EpochEnded():
                self._end_epoch(event)
            case TrialRetried():
                self.last_epochs.pop(event.trial_id, None)
                name = self.names[event.trial_id]
                self._write(f"{self._number(event.trial_id)} {name} {event.reason}; trying again")
            case TrialEnded():
                self._end(event)
            case SpaceExhausted():
                trials = pluralize(event.trials, "trial")
                self._write(f"after {trials} the search space has no new configuration to try.")
            case LimitReached():
                self._write(f"no further trial starts: {event.reason}.")
            case BaselineEnded():
                if event.name == LINEAR:
                    measured = "" if event.metric == "accuracy" else f"val_{event.metric} "
                    took = f"{measured}{event.score:.4f} in {event.seconds:.0f} s"
                    self._write(f"a linear model on word n-grams reaches {took}")
            case WaitingForBaseline():
                self._write(
                    "all trials have ended; waiting for the linear model to compare them with"
                )
            case StoreAway():
                pass  # a notice has said so when it began
            case _:
                assert_never(event)

    def _write(self, text: str) -> None:
        """Write lines with control characters escaped: libraries and stores may send them."""
        for line in text.splitlines():
            if self.write_live is not None:
                self.write_live(escape_control(line))
            else:
                self.err.write(escape_control(line) + "\n")

    def _open_training(self, event: TrainingOpened) -> None:
        self._write(f"data: {event.corpus.title}")
        self._write(f"training {event.params.label}, run {event.run_id}")
        self.objective = event.objective
        self.names[""], self.epoch_limits[""] = event.params.label, event.epochs
        self.started[""] = time.monotonic()

    def _open_search(self, event: SearchOpened) -> None:
        plan, search = event.plan, event.search
        self._write(f"data: {event.corpus.title}")
        self.slots = max(1, plan.workers)
        self.objective, self.sign = search.objective, 1.0 if search.larger_is_better else -1.0
        self.total = known_trial_count(plan.config)
        self.folds = plan.config.tuner.folds
        workers = pluralize(plan.workers, "worker") if plan.workers else "this process"
        log = f"; log {event.folder / 'workers.log'}"
        if plan.cluster:
            workers, log = f"{pluralize(plan.workers, 'worker')} of {plan.cluster}", ""
        trials = pluralize(self.total, "trial") if self.total else "trials"
        tuner = plan.config.tuner
        sampler = tuner.kind if tuner.prune == NO_PRUNER else f"{tuner.kind} with {tuner.prune}"
        self._write(
            f"search {search.name} (run {search.run_id}): {sampler}, {trials} on {workers}{log}"
        )

    def _open_confirmation(self, event: ConfirmationOpened) -> None:
        search, self.slots = event.search, max(1, event.workers)
        self.objective, self.sign = search.objective, 1.0 if search.larger_is_better else -1.0
        self.total = event.trainings
        workers = pluralize(event.workers, "worker") if event.workers else "this process"
        self._write(f"data: {event.corpus.title}")
        self._write(
            f"confirming search {search.name} (run {event.run_id}): "
            f"{pluralize(event.trainings, 'training')} on {workers}; "
            f"log {event.folder / 'workers.log'}"
        )

    def _resume(self, event: SearchResumed) -> None:
        self.ended_before = event.ended
        best = "" if event.best is None else f", the best with {event.best:.4f}"
        again = f"; {pluralize(event.again, 'trial')} to run again" if event.again else ""
        self._write(f"resuming after {pluralize(event.ended, 'trial')}{best}{again}")
        if event.best is not None:
            self.best = (event.best, "earlier")

    def _start(self, event: TrialStarted) -> None:
        trial = event.trial_id
        self.names[trial], self.epoch_limits[trial] = event.params.label, event.epochs
        self.started[trial] = time.monotonic()
        if self.write_live is None:
            self._write(f"{self._number(trial)} {self.names[trial]} started")

    def _end_epoch(self, event: EpochEnded) -> None:
        trial = event.trial_id
        self.last_epochs[trial] = event.metrics
        self.executions[trial] = event.execution
        if self.write_live is None:
            left = "" if trial else self._training_left(event.metrics["epoch"])
            name = self.names.get(trial, trial)
            after = "continues after " if event.continues else ""
            self._write(f"{self._number(trial)} {name} {after}{self._epoch(trial)}{left}")

    def _end(self, event: TrialEnded) -> None:
        trial, score = event.trial_id, event.score
        name, began, took = event.params.label, self.started.get(trial), ""
        if began is None:  # it had ended before this process began
            self.ended_before += 1
        else:
            self.durations.append(time.monotonic() - began)
            took = f" in {self.durations[-1]:.0f} s"
        if score is None:
            self._write(f"{self._number(trial)} {name} FAILED: {event.reason}")
        else:
            if self.best is None or self.sign * score > self.sign * self.best[0]:
                self.best = (score, name)
            how = event.reason or "done"  # or "pruned after epoch 2"
            self._write(
                f"{self._number(trial)} {name} {how}: {score:.4f}{took}; "
                f"best so far {self.best[0]:.4f} ({self.best[1]}){self._time_left()}"
            )
        for known in (self.last_epochs, self.started, self.epoch_limits):
            known.pop(trial, None)

    def _number(self, trial: str) -> str:
        if not trial:
            return "[train]"
        number = f"{int(trial) + 1}" if trial.isdigit() else trial
        return f"[{number}/{self.total}]" if self.total else f"[{number}]"

    def _epoch(self, trial: str) -> str:
        last = self.last_epochs.get(trial)
        if last is None:
            return "starting"
        names = (self.objective.removeprefix("val_"), self.objective)
        metrics = (f"{name} {format_value(name, last[name])}" for name in names if name in last)
        limit = self.epoch_limits.get(trial) or "?"
        fold = f"fold {self.executions.get(trial, 0) + 1}/{self.folds}, " if self.folds else ""
        return f"{fold}epoch {last['epoch']:.0f}/{limit}: {', '.join(metrics)}"

    def _time_left(self) -> str:
        remaining = (self.total or 0) - self.ended_before - len(self.durations)
        if not self.durations or remaining <= 0:
            return ""
        left = sum(self.durations) / len(self.durations) * remaining / self.slots
        return f"; about {format_duration(left)} left"

    def _training_left(self, epoch: float) -> str:
        """Return the time left of a single training that does not stop early."""
        remaining = self.epoch_limits[""] - epoch
        left = (time.monotonic() - self.started[""]) / epoch * remaining
        return f"; about {format_duration(left)} left" if remaining > 0 else ""

    def table(self) -> Table:
        """Return the running trials as a table for the terminal."""
        table = Table.grid(padding=(0, 2))
        for trial, started in list(self.started.items()):
            seconds = f"{time.monotonic() - started:.0f} s"
            cells = (self._number(trial), self.names[trial], self._epoch(trial), seconds)
            table.add_row(*map(Text, cells))  # as plain strings, [train] would be read as a style
        return table
