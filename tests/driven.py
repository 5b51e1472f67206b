"""Searches without processes, MLflow or files, to test what the driver does with its trials."""

from __future__ import annotations

import functools
import importlib.util
import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imdbtune.cluster.executor import WorkerLost
from imdbtune.cluster.trial_job import EpochEnded, Report, Trainer, TrialFailure, TrialJob
from imdbtune.config.extensions import SAMPLERS
from imdbtune.config.hyperparameters import TrialParams
from imdbtune.config.schema import SearchConfig, parse_config
from imdbtune.errors import TrialFailed
from imdbtune.search.driver import Driver
from imdbtune.search.events import Event as TrialEvent
from imdbtune.search.journal import Event, Journal
from imdbtune.search.kept_models import KeptModels
from imdbtune.search.sampled_trials import SampledTrials
from imdbtune.search.sampler import make_sampler
from imdbtune.search.stopping import StoppingRules
from imdbtune.tracking.writer import CorpusFacts, SearchRun
from imdbtune.training.spec import Epoch, TrialSpec
from tests.support import stub_trainer


def is_installed(kind: str) -> bool:
    """Whether this environment has the packages of a sampler, of which gp needs large ones."""
    return all(importlib.util.find_spec(name) for name in SAMPLERS[kind].installed_by)


ORACLES = ("random", "grid", "bayesian", "hyperband")  # of Keras Tuner
KINDS = tuple(name for name in SAMPLERS if is_installed(name))
SPACE = {"rnn": ["simple_rnn", "lstm", "gru"], "units": [2, 4, 8, 16]}
SIZE = 12
LEARNING_RATE = {"learning_rate": {"min": 1e-4, "max": 1e-1, "sampling": "log"}}


def config_of(kind: str, space: Mapping[str, Any] = SPACE, **tuner: Any) -> SearchConfig:
    return parse_config(
        {
            "space": dict(space),
            "tuner": {"kind": kind, **tuner},
            "training": {"epochs": 4},
            "tracking": {"keep_models": "0"},
        }
    )


@dataclass
class InlineExecutor:
    """An executor that trains in this process and logs nothing.

    Args:
        loses: ids of trials whose worker is lost, once for each time that they occur.
        by_number: whether trials end in the order of their numbers, which is the same in a
            resumed search; default: in the order in which they were started.
        shuffle: ends trials in a random order.
        report: called with each epoch; may prune the trial.
    """

    trainer: Trainer
    slots: int = 1
    loses: Iterable[str] = ()
    by_number: bool = False
    shuffle: random.Random | None = None
    report: Report = lambda epoch: None
    specs: list[TrialSpec] = field(default_factory=list)
    in_flight: int = 0
    _jobs: list[TrialJob] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._to_lose = Counter(self.loses)

    def submit(self, job: TrialJob) -> None:
        self._jobs.append(job)
        self.in_flight = max(self.in_flight, len(self._jobs))

    def done(self, timeout_s: float) -> list[tuple[TrialJob, Any]]:
        job = min(self._jobs, key=lambda job: job.trial_id) if self.by_number else self._jobs[0]
        job = self.shuffle.choice(self._jobs) if self.shuffle else job
        self._jobs.remove(job)
        self.specs.append(job.spec)
        if self._to_lose[job.trial_id]:
            self._to_lose[job.trial_id] -= 1
            return [(job, WorkerLost("the worker process died"))]
        try:
            return [(job, self.trainer(job.spec, functools.partial(self._on_epoch, job)))]
        except TrialFailed as error:
            return [(job, TrialFailure(str(error), "a traceback"))]

    def _on_epoch(self, job: TrialJob, execution: int, epoch: Epoch) -> bool | None:
        return self.report(EpochEnded(job.trial_id, execution, epoch))


@dataclass(frozen=True)
class MemoryJournal(Journal):
    """A journal in memory: syncing each event to a disk would take long."""

    lines: list[str] = field(default_factory=list)

    def append(self, event: Event) -> None:
        self.lines.append(json.dumps(event))

    def read(self) -> list[Event]:
        return [json.loads(line) for line in self.lines]


class FakeClient:
    """The part of MLflow's client that ends runs, over a dictionary."""

    def __init__(self) -> None:
        self.ended: dict[str, list[str]] = {}
        self.open: list[str] = []

    def log_batch(self, run_id: str, **entries: Any) -> None:
        """Ignore metrics and tags."""

    def log_text(self, run_id: str, text: str, artifact_file: str) -> None:
        """Ignore artifacts."""

    def set_terminated(self, run_id: str, status: str) -> None:
        self.ended.setdefault(run_id, []).append(status)
        self.open.remove(run_id)


class UnloggedSearch(SearchRun):
    """A search whose trials get run ids but no runs."""

    def start_trial(
        self, trial_id: str, params: TrialParams, extra: Mapping[str, object], attempt: int = 1
    ) -> str:
        run_id = f"run-{trial_id}" + (f"-{attempt}" if attempt > 1 else "")
        self.client.open.append(run_id)
        return run_id

    def stop_trials(self, reason: str) -> None:
        for run_id in list(self.client.open):
            self.client.set_terminated(run_id, "KILLED")


@dataclass
class Driven:
    """A search over the stub, and what it has done."""

    driver: Driver
    trials: SampledTrials
    executor: InlineExecutor
    client: FakeClient
    heard: list[TrialEvent]  # by its listener
    journal: list[Event]

    @property
    def suggested(self) -> list[dict[str, Any]]:
        return [event["values"] for event in self.journal if event["event"] == "asked"]

    def kinds(self) -> Counter[type[TrialEvent]]:
        return Counter(type(event) for event in self.heard)


def make_driven(
    config: SearchConfig,
    folder: Path,
    trainer: Trainer = stub_trainer,
    clock: Callable[[], float] = lambda: 0.0,
    events: list[Event] | None = None,
    **executor: Any,
) -> Driven:
    """Return a search that has not started, or one restored from the journal's ``events``."""
    client = FakeClient()
    heard: list[TrialEvent] = []
    trials = SampledTrials(
        config=config,
        sampler=make_sampler(config),
        journal=MemoryJournal(folder / "journal.jsonl"),
        corpus=folder,
        folder=folder,
        listener=heard.append,
        stopping=StoppingRules(config, clock, validation_reviews=100),
        models=KeptModels(config, folder),
    )
    driver = Driver(
        source=trials,
        parent=UnloggedSearch(client, "search", "0", {}),  # type: ignore[arg-type]
        facts=CorpusFacts("tiny", "a tiny corpus", "0123", "tiny", 10, 5),
        folder=folder,
        listener=heard.append,
        log_models=False,
        timeout_minutes=config.tuner.trial_timeout,
        retries=config.tuner.retries,
    )
    trials.restore(events or [])
    inline = InlineExecutor(trainer, report=trials.ends_trial, **executor)
    return Driven(driver, trials, inline, client, heard, [])


def state_of(sampler: Any) -> dict[str, Any]:
    """Return all that a sampler's next trials depend on; full brackets do not count."""
    state = sampler.get_state() | {"tried_so_far": sorted(sampler._tried_so_far)}
    state["exhausted"] = sampler.exhausted
    state["brackets"] = [
        bracket
        for bracket in state.get("brackets", ())
        if len(bracket["rounds"][-1])
        < sampler._get_size(bracket["bracket_num"], bracket["bracket_num"])
    ]
    state["trials"] = {
        trial_id: (trial.status, trial.score, trial.hyperparameters.values)
        for trial_id, trial in sampler.trials.items()
    }
    copied: dict[str, Any] = json.loads(json.dumps(state))
    return copied


def drive(config: SearchConfig, folder: Path, **arguments: Any) -> Driven:
    driven = make_driven(config, folder, **arguments)
    driven.driver.run(driven.executor)
    driven.journal += driven.trials.journal.read()
    return driven
