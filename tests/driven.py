"""Searches without processes, MLflow or files: what the driver does with its trials."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imdbtune.cluster.local_executor import WorkerLost
from imdbtune.cluster.trial_job import Trainer, TrialFailure, TrialJob
from imdbtune.config.hyperparameters import TrialParams
from imdbtune.config.schema import SearchConfig, parse_config
from imdbtune.errors import TrialFailed
from imdbtune.search.driver import Driver
from imdbtune.search.journal import Event, Journal
from imdbtune.search.keras_tuner_samplers import make_sampler
from imdbtune.tracking.writer import CorpusFacts, SearchRun
from imdbtune.training.spec import TrialSpec
from tests.support import stub_trainer

KINDS = ("random", "grid", "bayesian", "hyperband")
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
class AtOnce:
    """An executor that trains in this process, logs nothing, and ends trials in order of start.

    Or ``by_number``, an order in which also a search that goes on after a crash has them end; or
    in an order that is ``drawn``.
    """

    trainer: Trainer
    slots: int = 1
    loses: Iterable[str] = ()
    by_number: bool = False
    drawn: random.Random | None = None
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
        job = self.drawn.choice(self._jobs) if self.drawn else job
        self._jobs.remove(job)
        self.specs.append(job.spec)
        if self._to_lose[job.trial_id]:
            self._to_lose[job.trial_id] -= 1
            return [(job, WorkerLost("the worker process died"))]
        try:
            return [(job, self.trainer(job.spec, lambda execution, epoch: None))]
        except TrialFailed as error:
            return [(job, TrialFailure(str(error), "a traceback"))]


@dataclass(frozen=True)
class Notes(Journal):
    """A journal in memory: a disk takes its time to write each event through."""

    lines: list[str] = field(default_factory=list)

    def append(self, event: Event) -> None:
        self.lines.append(json.dumps(event))

    def read(self) -> list[Event]:
        return [json.loads(line) for line in self.lines]


class Ledger:
    """The part of MLflow's client that ends runs, as a dictionary."""

    def __init__(self) -> None:
        self.ended: dict[str, list[str]] = {}
        self.open: list[str] = []

    def log_batch(self, run_id: str, **entries: Any) -> None:
        """Metrics and tags are not what is tested here."""

    def log_text(self, run_id: str, text: str, artifact_file: str) -> None:
        """Nor are artifacts."""

    def set_terminated(self, run_id: str, status: str) -> None:
        self.ended.setdefault(run_id, []).append(status)
        self.open.remove(run_id)


class NotLogged(SearchRun):
    """A search whose trials get run ids, but no runs."""

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
    """What a search over the stub has done."""

    tuner: Driver
    executor: AtOnce
    ledger: Ledger
    told: list[tuple[str, dict[str, Any]]]
    journal: list[Event]

    @property
    def asked(self) -> list[dict[str, Any]]:
        return [event["values"] for event in self.journal if event["event"] == "asked"]

    def kinds(self) -> Counter[str]:
        return Counter(kind for kind, _ in self.told)


def make_driven(
    config: SearchConfig,
    folder: Path,
    trainer: Trainer = stub_trainer,
    clock: Callable[[], float] = lambda: 0.0,
    events: list[Event] | None = None,
    **executor: Any,
) -> Driven:
    """A tuner that has not begun, or that knows what is in the journal ``events``."""
    at_once, ledger, told = AtOnce(trainer, **executor), Ledger(), []
    tuner = Driver(
        config=config,
        sampler=make_sampler(config),
        search=NotLogged(ledger, "search", "0", {}),  # type: ignore[arg-type]
        journal=Notes(folder / "journal.jsonl"),
        corpus=folder,
        facts=CorpusFacts("tiny", "a tiny corpus", "0123", "tiny", 10, 5),
        folder=folder,
        listener=lambda kind, facts: told.append((kind, facts)),
        clock=clock,
    )
    tuner.restore(events or [])
    return Driven(tuner, at_once, ledger, told, [])


def state_of(sampler: Any) -> dict[str, Any]:
    """All that a sampler's answers depend on; a bracket of Hyperband's that is full does not."""
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
    driven.tuner.run(driven.executor)
    driven.journal += driven.tuner.journal.read()
    return driven
