"""Which worker processes are ended, and when, without processes: a client that only listens."""

from __future__ import annotations

import os
import signal
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from imdbtune.cluster import dask_executor, worker_task
from imdbtune.cluster.dask_executor import DaskExecutor
from imdbtune.cluster.executor import WorkerLost
from imdbtune.cluster.local_executor import LocalWorkers
from imdbtune.cluster.trial_job import TrialFailure, TrialJob, failure_of
from imdbtune.config.hyperparameters import TrialParams
from imdbtune.training.spec import TrialSpec


class Task(Future):  # type: ignore[type-arg]
    """A future of Dask's, as far as it is used: with a key."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key

    def traceback(self) -> None:
        """None is left of what was raised elsewhere."""


class KilledWorker(Exception):
    """Dask's has this name."""


class Listener:
    """The part of Dask's client that is used; nothing runs."""

    scheduler: Any = type("Scheduler", (), {"call_stack": None})

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        self.asked_for: list[str] = []
        self.waited = 0

    def subscribe_topic(self, topic: str, handler: Any) -> None:
        self.note = handler

    def submit(self, run: Any, *jobs: TrialJob, **options: Any) -> Task:
        task = Task(f"task-{jobs[0].trial_id}" if jobs else f"leave {options['workers']}")
        self.asked_for.append(task.key)
        if jobs:
            self.tasks.append(task)
        else:
            task.set_exception(KilledWorker())
        return task

    def cancel(self, tasks: list[Task]) -> None:
        self.asked_for += [f"forget {task.key}" for task in tasks]

    def sync(self, call: Any, keys: list[str], callback_timeout: float) -> dict[str, Any]:
        return {"worker": {keys[0]: ["in train_trial\n"]}}

    def wait_for_workers(self, count: int, timeout: float) -> None:
        self.waited += 1

    def begin(self, number: int) -> None:
        self.note((0.0, {"started": self.tasks[number].key, "pid": 1000 + number}))


def ended(outcome: Any, spent: bool = False) -> Exception:
    return worker_task.TaskEnded(worker_task.FinishedTask(outcome, "w", spent))


@pytest.fixture
def now() -> list[float]:
    return [0.0]


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: found.append((pid, number)))
    return found


def start(
    folder: Path, now: list[float], minutes: float, trials: int = 2
) -> tuple[DaskExecutor, Listener]:
    client = Listener()
    workers = LocalWorkers(client, trials)
    executor = DaskExecutor(client, workers, lambda event: None, clock=lambda: now[0])
    spec = TrialSpec(TrialParams(), folder, folder)
    for number in range(trials):
        executor.submit(TrialJob(str(number), spec, "", f"run-{number}", timeout_minutes=minutes))
    return executor, client


def test_time_is_counted_from_when_a_worker_has_begun(
    tmp_path: Path, now: list[float], killed: list[tuple[int, int]]
) -> None:
    executor, client = start(tmp_path, now, minutes=1)
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
    executor, client = start(tmp_path, now, minutes=1)
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
    executor, client = start(tmp_path, now, minutes=1, trials=1)
    client.begin(0)
    now[0] = 61
    executor.done(0)
    client.tasks[0].set_exception(ended("the result"))
    assert [outcome for _, outcome in executor.done(0)] == ["the result"]
    executor.submit(TrialJob("1", TrialSpec(TrialParams(), tmp_path, tmp_path), "", "run-1"))
    assert client.waited == 1  # for the process in the place of the killed one


def test_the_process_of_a_trial_that_has_ended_is_not_killed(
    tmp_path: Path, now: list[float], killed: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver may come to look at it late; another trial may be there already."""
    executor, client = start(tmp_path, now, minutes=1)
    done = ended("the result")
    client.begin(0)
    client.begin(1)
    client.tasks[0].set_exception(done)
    now[0] = 61
    monkeypatch.setattr(
        dask_executor, "call_stack", lambda asked, key: client.tasks[1].set_exception(done) or ""
    )
    outcomes = [outcome for _ in range(2) for _, outcome in executor.done(0)]
    assert outcomes == ["the result", "the result"]
    assert killed == []


def test_without_a_limit_nothing_is_killed(
    tmp_path: Path, now: list[float], killed: list[tuple[int, int]]
) -> None:
    executor, client = start(tmp_path, now, minutes=0)
    client.begin(0)
    now[0] = 1e9
    assert executor.done(0) == []
    assert killed == []


def test_a_spent_process_is_renewed_after_its_trial_is_forgotten(
    tmp_path: Path, now: list[float]
) -> None:
    executor, client = start(tmp_path, now, minutes=0)
    client.tasks[0].set_exception(ended("the result", spent=True))
    assert [outcome for _, outcome in executor.done(0)] == ["the result"]
    assert client.asked_for[2:] == ["forget task-0", "leave ['w']"]
    executor.submit(TrialJob("2", TrialSpec(TrialParams(), tmp_path, tmp_path), "", "run-2"))
    assert client.waited == 1


def test_a_trial_that_was_turned_away_is_sent_again(tmp_path: Path, now: list[float]) -> None:
    executor, client = start(tmp_path, now, minutes=0, trials=1)
    client.tasks[0].set_exception(ended(None, spent=True))
    assert executor.done(0) == []
    assert client.asked_for == ["task-0", "forget task-0", "task-0"]
    client.tasks[1].set_exception(ended("the result"))
    assert [(job.run_id, outcome) for job, outcome in executor.done(0)] == [("run-0", "the result")]


class Worker:
    """The part of Dask's worker that is used."""

    address = "w"

    def get_current_task(self) -> str:
        return "task-0"

    def log_event(self, topic: str, facts: dict[str, Any]) -> None:
        """Nobody listens."""


def how_it_ends(job: TrialJob) -> worker_task.FinishedTask:
    with pytest.raises(worker_task.TaskEnded) as raised:
        worker_task.run_local_task(job)
    return raised.value.ran


def test_a_process_in_which_memory_ran_out_takes_no_more_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes = [TrialFailure("loss became nan", ""), failure_of(MemoryError(), ""), "never"]
    monkeypatch.setattr("distributed.get_worker", Worker)
    monkeypatch.setattr(worker_task, "warm_up", lambda job: None)
    monkeypatch.setattr(worker_task, "run_trial", lambda job, report: outcomes.pop(0))
    monkeypatch.setattr(worker_task, "_spent", False)
    monkeypatch.setattr(worker_task, "RENEW_ABOVE", 2**60)
    job = TrialJob("0", TrialSpec(TrialParams(), tmp_path, tmp_path), "", "run-0")
    ran = [how_it_ends(job) for _ in range(4)]
    assert [r.spent for r in ran] == [False, True, True, True]
    assert [r.outcome for r in ran[2:]] == [None, None]
    assert outcomes == ["never"]


def test_a_process_that_has_grown_takes_no_more_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit, spent in ((2**60, False), (1, True)):
        monkeypatch.setattr(worker_task, "RENEW_ABOVE", limit)
        assert worker_task.must_be_renewed(TrialFailure("loss became nan", "")) == spent
