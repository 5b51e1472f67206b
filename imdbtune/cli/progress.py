"""What a search or a training says while it runs: a live table, plain lines, or JSON."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TextIO

import typer
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from imdbtune.cli.library_output import is_library_output_shown, redirect_library_output
from imdbtune.cli.output import print_json
from imdbtune.cli.tables import counted, in_words
from imdbtune.errors import escape_control
from imdbtune.tracking.writer import LINEAR

Facts = dict[str, Any]
Done = Callable[[str, int, int], None]  # name, how much is done, how much there is
EVERY_S = 5.0


@contextmanager
def make_progress(
    *, as_json: bool = False, quiet: bool = False
) -> Iterator[Callable[[str, Facts], None]]:
    """A listener for :mod:`imdbtune.api`; while it is open, libraries talk to a log file."""
    with redirect_library_output() as err:
        if quiet:
            yield lambda kind, facts: _notices_only(err, kind, facts)
        elif as_json:
            yield _json_lines
        else:
            console = Console(file=err, highlight=False)
            state = Progress(err)
            if not can_be_redrawn(console):
                yield state
                return
            with Live(console=console, get_renderable=state.table, refresh_per_second=2) as live:
                state.say = partial(live.console.print, markup=False)
                yield state


def can_be_redrawn(console: Console) -> bool:
    """Whether it is a terminal that can go back, which nothing else is to write to."""
    return console.is_terminal and not console.is_dumb_terminal and not is_library_output_shown()


def _json_lines(kind: str, facts: Facts) -> None:
    if kind == "download":
        return
    plain: Facts = {"event": kind}
    for key, value in facts.items():
        if key == "params":
            plain["name"], plain["params"] = value.label, value.as_dict()
        elif key == "search":
            plain["search"] = value.run_id
        elif isinstance(value, (str, int, float, bool)) or value is None:
            plain[key] = value
    print_json(plain)


def _notices_only(err: TextIO, kind: str, facts: Facts) -> None:
    if kind == "notice":
        err.write("".join(f"{escape_control(line)}\n" for line in facts["text"].splitlines()))


def _unheard(name: str, done: int, total: int) -> None:
    """Says nothing."""


@dataclass
class Progress:
    """Follows the events of a search and tells them as lines, or as a table that is redrawn."""

    err: TextIO
    total: int | None = None
    slots: int = 1
    before: int = 0  # trials that had ended when the search was taken up
    names: dict[str, str] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=dict)
    last: dict[str, Facts] = field(default_factory=dict)
    began: dict[str, float] = field(default_factory=dict)
    took: list[float] = field(default_factory=list)
    best: tuple[float, str] | None = None
    sign: float = 1.0
    say: Callable[[str], None] | None = None
    stages: Lines = field(init=False)

    def __post_init__(self) -> None:
        """Stages are told as everything else is."""
        self.stages = Lines(self._line)

    def __call__(self, kind: str, facts: Facts) -> None:
        """Take note of an event, and say it."""
        getattr(self, f"_on_{kind}", lambda facts: None)(facts)

    def _line(self, text: str) -> None:
        """What libraries and stores say may steer terminals."""
        for line in text.splitlines():
            if self.say is not None:
                self.say(escape_control(line))
            else:
                self.err.write(escape_control(line) + "\n")

    def _on_notice(self, facts: Facts) -> None:
        self._line(facts["text"])

    def _on_download(self, facts: Facts) -> None:
        self.stages(facts["name"], facts["done"], facts["total"])

    def _on_opened(self, facts: Facts) -> None:
        self._line(f"data: {facts['corpus'].title}")
        if "plan" not in facts:
            self._line(f"training {facts['params'].label}, run {facts['run_id']}")
            self.names[""], self.limits[""] = facts["params"].label, facts["epochs"]
            self.began[""] = time.monotonic()
            return
        plan, search = facts["plan"], facts["search"]
        self.slots = max(1, plan.workers)
        self.sign = 1.0 if search.larger_is_better else -1.0
        limits = [n for n in (plan.config.tuner.trial_limit, plan.size) if n is not None]
        known = plan.config.tuner.kind != "hyperband"
        self.total = min(limits) if limits and known else plan.config.tuner.trial_limit
        workers = counted(plan.workers, "worker") if plan.workers else "this process"
        log = f"; log {facts['folder'] / 'workers.log'}"
        if plan.cluster:
            workers, log = f"{counted(plan.workers, 'worker')} of {plan.cluster}", ""
        trials = counted(self.total, "trial") if self.total else "trials"
        self._line(
            f"search {search.name} (run {search.run_id}): {plan.config.tuner.kind}, {trials} "
            f"on {workers}{log}"
        )

    def _on_confirming(self, facts: Facts) -> None:
        search, self.slots = facts["search"], max(1, facts["workers"])
        self.sign = 1.0 if search.larger_is_better else -1.0
        self.total = facts["trainings"]
        workers = counted(facts["workers"], "worker") if facts["workers"] else "this process"
        self._line(f"data: {facts['corpus'].title}")
        self._line(
            f"confirming search {search.name} (run {facts['run_id']}): "
            f"{counted(self.total or 0, 'training')} on {workers}; "
            f"log {facts['folder'] / 'workers.log'}"
        )

    def _on_resumed(self, facts: Facts) -> None:
        self.before = facts["ended"]
        best = "" if facts["best"] is None else f", the best with {facts['best']:.4f}"
        again = f"; {counted(facts['again'], 'trial')} to be run again" if facts["again"] else ""
        self._line(f"going on after {counted(facts['ended'], 'trial')}{best}{again}")
        if facts["best"] is not None:
            self.best = (facts["best"], "earlier")

    def _on_started(self, facts: Facts) -> None:
        trial = facts["trial_id"]
        self.names[trial], self.limits[trial] = facts["params"].label, facts["epochs"]
        self.began[trial] = time.monotonic()
        if self.say is None:
            self._line(f"{self._number(trial)} {self.names[trial]} started")

    def _on_epoch(self, facts: Facts) -> None:
        trial = facts["trial_id"]
        self.last[trial] = facts
        if self.say is None:
            left = "" if trial else self._training_left(facts["epoch"])
            name = self.names.get(trial, trial)
            self._line(f"{self._number(trial)} {name} {self._epoch(trial)}{left}")

    def _on_retried(self, facts: Facts) -> None:
        trial = facts["trial_id"]
        self.last.pop(trial, None)
        self._line(f"{self._number(trial)} {self.names[trial]} {facts['reason']}; trying again")

    def _on_ended(self, facts: Facts) -> None:
        trial, score = facts["trial_id"], facts["score"]
        seconds = time.monotonic() - self.began.get(trial, time.monotonic())
        self.took.append(seconds)
        name = facts["params"].label
        if score is None:
            self._line(f"{self._number(trial)} {name} FAILED: {facts['reason']}")
        else:
            if self.best is None or self.sign * score > self.sign * self.best[0]:
                self.best = (score, name)
            self._line(
                f"{self._number(trial)} {name} done: {score:.4f} in {seconds:.0f} s; "
                f"best so far {self.best[0]:.4f} ({self.best[1]}){self._time_left()}"
            )
        for known in (self.last, self.began, self.limits):
            known.pop(trial, None)

    def _on_baseline(self, facts: Facts) -> None:
        if facts["name"] == LINEAR:
            reached = f"{facts['score']:.4f} in {facts['seconds']:.0f} s"
            self._line(f"a linear model on word pairs reaches {reached}")

    def _on_waiting(self, facts: Facts) -> None:
        self._line("all trials have ended; the linear model to compare them with has not yet")

    def _on_exhausted(self, facts: Facts) -> None:
        trials = counted(facts["trials"], "trial")
        self._line(f"after {trials} this space has nothing new to try.")

    def _number(self, trial: str) -> str:
        if not trial:
            return "[train]"
        number = f"{int(trial) + 1}" if trial.isdigit() else trial
        return f"[{number}/{self.total}]" if self.total else f"[{number}]"

    def _epoch(self, trial: str) -> str:
        facts = self.last.get(trial)
        if facts is None:
            return "starting"
        metrics = (f"{k} {facts[k]:.4f}" for k in ("accuracy", "val_accuracy") if k in facts)
        limit = self.limits.get(trial) or "?"
        return f"epoch {facts['epoch']:.0f}/{limit}: {', '.join(metrics)}"

    def _time_left(self) -> str:
        to_come = (self.total or 0) - self.before - len(self.took)
        if not self.took or to_come <= 0:
            return ""
        left = sum(self.took) / len(self.took) * to_come / self.slots
        return f"; about {in_words(left)} left"

    def _training_left(self, epoch: float) -> str:
        """How long a training by itself will take, if it does not stop early."""
        to_come = self.limits[""] - epoch
        left = (time.monotonic() - self.began[""]) / epoch * to_come
        return f"; about {in_words(left)} left" if to_come > 0 else ""

    def table(self) -> Table:
        """The running trials, for a terminal."""
        table = Table.grid(padding=(0, 2))
        for trial, began in list(self.began.items()):
            seconds = f"{time.monotonic() - began:.0f} s"
            cells = (self._number(trial), self.names[trial], self._epoch(trial), seconds)
            table.add_row(*map(Text, cells))  # in plain strings, [train] would be a style
        return table


@contextmanager
def stages(err: TextIO | None = None, quiet: bool = False) -> Iterator[Done]:
    """Follows work whose length is known, by name, done and total: bars, or a line at times."""
    from rich.progress import Progress as Bars

    console = Console(file=err, stderr=True)
    if quiet or not can_be_redrawn(console):
        yield _unheard if quiet else Lines(partial(typer.echo, file=err or sys.stderr))
        return
    with Bars(console=console, transient=True) as bars:
        tasks: dict[str, Any] = {}

        def advance(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(escape(escape_control(name)), total=total)
            bars.update(tasks[name], completed=done)

        yield advance


@dataclass
class Lines:
    """Says how far each stage is, and how long it will take; not more often than anyone reads."""

    say: Callable[[str], None]
    began: dict[str, float] = field(default_factory=dict)
    said: dict[str, float] = field(default_factory=dict)

    def __call__(self, name: str, done: int, total: int) -> None:
        """Take note of where a stage is."""
        now = time.monotonic()
        began = self.began.setdefault(name, now)
        if name not in self.said:
            self.said[name] = now
            self.say(f"{escape_control(name)} ...")
        if now - self.said[name] < EVERY_S or not 0 < done < total:
            return
        self.said[name] = now
        left = in_words((now - began) / done * (total - done))
        self.say(f"{escape_control(name)}: {done / total:.0%}; about {left} left")
