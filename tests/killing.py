"""Drivers of searches as processes of their own, which die at a moment that is chosen beforehand.

They are forked out of a process that has the libraries already, so that one starts in no time.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from imdbtune import api
from imdbtune.cluster.trial_job import EpochEnded
from imdbtune.config.schema import SearchConfig
from imdbtune.errors import UserError
from imdbtune.search import journal
from imdbtune.search.events import Event as TrialEvent
from imdbtune.search.events import ignore_events
from imdbtune.search.journal import Event, Journal
from imdbtune.tracking import outbox, reader
from imdbtune.tracking.connection import connect
from imdbtune.tracking.entities import Search, Trial
from imdbtune.training.spec import Epoch, OnEpoch, TrialResult, TrialSpec
from tests.forked import run_forked, use_server_of_parent
from tests.support import (
    Stub,
    demo_cache,
    draw_nothing,
    isolate,
    kill_self,
    make_config,
    prepare,
)

MLFLOW_WRITES = (
    "create_experiment",
    "create_run",
    "log_batch",
    "log_inputs",
    "log_text",
    "log_artifacts",
    "update_run",
    "delete_tag",
    "set_terminated",
)
NAP_S = 0.02
SPACES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "random": ({"rnn": ["simple_rnn", "lstm"], "units": {"min": 4, "max": 40}}, {"max_trials": 4}),
    "grid": ({"rnn": ["lstm", "simple_rnn"], "units": [4, 5]}, {}),
    "bayesian": ({"units": {"min": 4, "max": 40}}, {"max_trials": 4}),
    "hyperband": ({"units": [4, 5, 6, 7, 8]}, {}),
    "tpe": ({"rnn": ["simple_rnn", "lstm"], "units": {"min": 4, "max": 40}}, {"max_trials": 8}),
    "nsga2": ({"rnn": ["simple_rnn", "lstm"], "units": {"min": 4, "max": 40}}, {"max_trials": 8}),
    "tpe for a front": (
        {"rnn": ["simple_rnn", "lstm"], "units": {"min": 4, "max": 40}},
        {
            "kind": "tpe",
            "max_trials": 10,
            "objective": "val_accuracy,parameter_count",
            "require": "val_accuracy>=0.53",
        },
    ),
}
REAL: dict[str, dict[str, Any]] = {
    "real random": {"max_trials": 2},
    "real hyperband": {},  # three trials of one epoch; the best one goes on to the third
    "real asha": {"kind": "random", "max_trials": 4, "prune": "asha"},
}
EPOCHS = {"hyperband": 4}  # of the others: 2


@dataclass(frozen=True)
class AtWrite:
    """Dies at the ``number``-th write (from 1) to journal, outbox or MLflow.

    ``how``: ``before`` it, ``after`` it, or in the middle of it where it is to a file:
    ``half`` of the line is written, or all of it as the ``zeros`` of a block that was allocated
    when the power went.
    """

    number: int
    how: str

    def arm(self) -> None:
        from mlflow import MlflowClient

        writes = itertools.count(1)
        for module in (journal, outbox):
            module.append_line = self._deadly(module.append_line, writes)
        for name in MLFLOW_WRITES:
            setattr(MlflowClient, name, self._deadly(getattr(MlflowClient, name), writes))

    def _deadly(self, write: Callable[..., Any], writes: Iterator[int]) -> Callable[..., Any]:
        @functools.wraps(write)
        def deadly(to: Any, *arguments: Any, **named: Any) -> Any:
            if next(writes) == self.number:
                if self.how == "after":
                    write(to, *arguments, **named)
                elif isinstance(to, Path) and self.how != "before":
                    _tear(to, arguments[0], self.how)
                kill_self()
            return write(to, *arguments, **named)

        return deadly


def _tear(path: Path, record: Any, how: str) -> None:
    line = json.dumps(record).encode() + b"\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(line[: len(line) // 2] if how == "half" else bytes(len(line)))


@dataclass(frozen=True)
class After:
    """Dies so many seconds after it has begun."""

    seconds: float

    def arm(self) -> None:
        timer = threading.Timer(self.seconds, kill_self)
        timer.daemon = True
        timer.start()


@dataclass(frozen=True)
class WorkerDies:
    """A worker process dies in the ``number``-th training of a session (from 1)."""

    number: int

    def arm(self) -> None:
        """The trainer does it."""


@dataclass(frozen=True)
class AtEpoch:
    """The driver dies when it is told of an epoch of this number (from 1) for the first time."""

    epoch: int

    def arm(self) -> None:
        """The listener does it."""

    def listen(self, event: TrialEvent) -> None:
        if isinstance(event, EpochEnded) and event.metrics["epoch"] == self.epoch:
            kill_self()


@dataclass(frozen=True)
class WorkerDiesAfter:
    """A worker process dies when it has kept an epoch of this number (from 1), once."""

    epoch: int

    def arm(self) -> None:
        """The trainer does it."""


Death = AtWrite | After | WorkerDies | AtEpoch | WorkerDiesAfter


@dataclass(frozen=True)
class KeepAll:
    """The real trainer, for which all epochs are long; its process may die once after one.

    Args:
        died: a file that shows that it has died.
        epoch: 0: it does not die.
    """

    died: Path
    epoch: int = 0

    def __call__(self, spec: TrialSpec, on_epoch: OnEpoch) -> TrialResult:
        from imdbtune.training.trainer import train_trial

        def report(execution: int, epoch: Epoch) -> bool | None:
            if epoch["epoch"] == self.epoch and not self.died.exists():
                self.died.touch()
                kill_self()
            return on_epoch(execution, epoch)

        return train_trial(replace(spec, checkpoint_after_s=0.0), report)


def random_death(rng: random.Random) -> Death:
    """Of ten, nine at a write and one at a moment."""
    if rng.random() < 0.1:
        return After(round(rng.uniform(0.1, 1.0), 3))
    return AtWrite(rng.randint(1, 50), rng.choice(["before", "after", "half", "zeros"]))


def nap(spec: TrialSpec) -> None:
    time.sleep(NAP_S)


def nap_or_die(marks: Path, number: int, spec: TrialSpec) -> None:
    """Counts the trainings of all workers by the files in ``marks``."""
    marks.mkdir(exist_ok=True)
    (marks / f"{time.monotonic_ns()}-{os.getpid()}").touch()
    if len(list(marks.iterdir())) == number:
        kill_self()
    time.sleep(NAP_S)


def config_of(kind: str, folder: Path) -> SearchConfig:
    if kind in REAL:
        return real_config(kind, folder)
    sampler, _, pruner = kind.partition(" with ")
    space, budget = SPACES[sampler]
    prune = {"prune": pruner, "seed": 6} if pruner else {"seed": 2}
    tuner = {"kind": sampler, **budget, **prune}
    epochs = EPOCHS.get(sampler, 2) + bool(pruner)
    return make_config(folder, space=space, tuner=tuner, training={"epochs": epochs})


def real_config(kind: str, folder: Path) -> SearchConfig:
    """Models so small that an epoch of them takes no time."""
    fixed = {"units": 4, "embedding": 4, "maxlen": 12, "batch_size": 32, "optimizer": "adam"}
    rates = {"learning_rate": [0.003, 0.01, 0.03]}
    return make_config(
        folder,
        space={**fixed, **rates, "rnn": "simple_rnn"},
        data={"source": "demo", "reviews": 160},
        tuner={"kind": kind.removeprefix("real "), "seed": 3, **REAL[kind]},
        training={"epochs": 3, "patience": 0},
    )


def drive(folder: Path, kind: str, workers: int, death: Death | None) -> None:
    """What a driver process does: begin the search of ``folder``, or go on with it.

    Args:
        kind: of :data:`SPACES`, maybe ``with`` a pruner; or, where models are really trained, of
            :data:`REAL`.
    """
    first, real = nap, KeepAll(folder / "died")
    if isinstance(death, WorkerDiesAfter):
        real = replace(real, epoch=death.epoch)
    if isinstance(death, WorkerDies):
        first = functools.partial(nap_or_die, folder / "marks", death.number)
    with pytest.MonkeyPatch.context() as patch:
        isolate(patch, folder)
        draw_nothing(patch)
        use_server_of_parent(patch)
        config = config_of(kind, folder)
        if death:
            death.arm()
        common: dict[str, Any] = {
            "workers": workers,
            "cache": demo_cache() if kind in REAL else folder.parent / "cache",
            "folder": folder / "runs",
            "trainer": real if kind in REAL else Stub(first),
            "listener": death.listen if isinstance(death, AtEpoch) else ignore_events,
        }
        try:
            api.resume(context=api.Context(uri=config.tracking.uri, **common))
        except UserError as error:
            if "no search yet" not in str(error):
                raise
            api.search(config, api.Context(**common))


def run_driver(folder: Path, kind: str, workers: int, death: Death | None) -> int:
    """Exit status of a driver; -9 if it was killed."""
    status = run_forked(drive, folder, kind, workers, death)
    assert status is not None
    return status


@dataclass
class Outcome:
    """A search that has ended, as the journal and MLflow have it."""

    searches: list[Search]
    trials: list[Trial]
    events: list[Event]
    statuses: list[str]
    killed: int = 0

    @property
    def search(self) -> Search:
        return self.searches[0]

    def finished(self) -> dict[str, Any]:
        """By number: what MLflow has of the trials that have a result."""
        done = [trial for trial in self.trials if trial.has_result]
        assert len(done) == len({trial.trial_id for trial in done}), "a trial has finished twice"
        return {
            t.trial_id: (t.params, t.score, t.metrics["best_val_loss"], t.pruned_after)
            for t in done
        }

    def asked(self) -> list[tuple[str, Any]]:
        return [(e["trial_id"], e["values"]) for e in self.events if e["event"] == "asked"]

    def told(self) -> dict[str, Any]:
        ended = [e for e in self.events if e["event"] == "ended"]
        assert len(ended) == len({e["trial_id"] for e in ended}), "the oracle is told twice"
        return {e["trial_id"]: (e["score"], e["measured"] | {"train_seconds": 0}) for e in ended}


def read_outcome(folder: Path) -> Outcome:
    client = connect(f"sqlite:///{folder / 'mlflow.db'}")
    searches = reader.read_searches(client)
    events = Journal(folder / "runs" / searches[0].run_id / "journal.jsonl").read()
    runs = client.search_runs([searches[0].experiment_id], max_results=10_000)
    statuses = [run.info.status for run in runs]
    return Outcome(searches, reader.read_trials(client, searches[0]), events, statuses)


def outcome_of(folder: Path, kind: str, workers: int, deaths: list[Death]) -> Outcome:
    """Run a search whose driver dies of each of ``deaths`` in turn, then to its end."""
    prepare(folder)
    killed = 0
    for death in deaths:
        status = run_driver(folder, kind, workers, death)
        assert status in (0, -9), f"{death} ended with {status}"
        killed += status == -9
    assert run_driver(folder, kind, 0, None) == 0
    outcome = read_outcome(folder)
    outcome.killed = killed
    return outcome
