"""Which worker processes are killed, and when, without processes: a client that only listens."""

from __future__ import annotations

import os
import signal
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from imdbtune import cluster
from imdbtune.cluster import OnDask, WorkerLost
from imdbtune.params import TrialParams
from imdbtune.trial import TrialSpec
from imdbtune.worker import TrialFailure, TrialJob


class Task(Future):  # type: ignore[type-arg]
    """A future of Dask's, as far as it is used: with a key."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key


class KilledWorker(Exception):
    """Dask's has this name."""


class Listener:
    """The part of Dask's client that is used; nothing runs."""

    scheduler: Any = type("Scheduler", (), {"call_stack": None})

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        self.waited = 0

    def subscribe_topic(self, topic: str, handler: Any) -> None:
        self.note = handler

    def submit(self, run: Any, job: TrialJob, **options: Any) -> Task:
        self.tasks.append(Task(f"task-{job.trial_id}"))
        return self.tasks[-1]

    def sync(self, call: Any, keys: list[str], callback_timeout: float) -> dict[str, Any]:
        return {"worker": {keys[0]: ["in train_trial\n"]}}

    def wait_for_workers(self, count: int, timeout: float) -> None:
        self.waited += 1

    def begin(self, number: int) -> None:
        facts = {"key": self.tasks[number].key, "worker": "w", "pid": 1000 + number}
        self.note((0.0, facts))


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    return clock


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: found.append((pid, number)))
    return found


def start(folder: Path, minutes: float, trials: int = 2) -> tuple[OnDask, Listener]:
    client = Listener()
    executor = OnDask(client, trials)  # type: ignore[arg-type]
    spec = TrialSpec(TrialParams(), folder, folder)
    for number in range(trials):
        executor.submit(TrialJob(str(number), spec, "", f"run-{number}", timeout_minutes=minutes))
    return executor, client


def test_time_is_counted_from_when_a_worker_has_begun(
    tmp_path: Path, now: list[float], killed: list[tuple[int, int]]
) -> None:
    executor, client = start(tmp_path, minutes=1)
    client.begin(0)
    now[0] = 59
    assert executor.done(0) == []
    assert killed == []
    client.begin(1)  # it has waited for as long as it may take
    now[0] = 61
    executor.done(0)
    executor.done(0)
    assert killed == [(1000, signal.SIGKILL)]
    now[0] = 120
    executor.done(0)
    assert killed == [(1000, signal.SIGKILL), (1001, signal.SIGKILL)]


def test_a_trial_that_was_ended_has_failed_and_one_beside_it_is_lost(
    tmp_path: Path, now: list[float], killed: list[tuple[int, int]]
) -> None:
    executor, client = start(tmp_path, minutes=1)
    client.begin(0)
    now[0] = 61
    executor.done(0)
    for task in client.tasks:
        task.set_exception(KilledWorker())
    outcomes = [executor.done(0)[0][1] for _ in client.tasks]
    failure = TrialFailure("took longer than 1 minute", "in train_trial\n", logged=False)
    assert outcomes == [failure, WorkerLost("the worker process died")]


def test_a_trial_that_ends_as_it_is_killed_has_ended(
    tmp_path: Path, now: list[float], killed: list[tuple[int, int]]
) -> None:
    executor, client = start(tmp_path, minutes=1, trials=1)
    client.begin(0)
    now[0] = 61
    executor.done(0)
    client.tasks[0].set_result(cluster._Ran("the result", 0))  # type: ignore[arg-type]
    assert [outcome for _, outcome in executor.done(0)] == ["the result"]
    executor.submit(TrialJob("1", TrialSpec(TrialParams(), tmp_path, tmp_path), "", "run-1"))
    assert client.waited == 1  # for the process in the place of the killed one


def test_without_a_limit_nothing_is_killed(
    tmp_path: Path, now: list[float], killed: list[tuple[int, int]]
) -> None:
    executor, client = start(tmp_path, minutes=0)
    client.begin(0)
    now[0] = 1e9
    assert executor.done(0) == []
    assert killed == []
