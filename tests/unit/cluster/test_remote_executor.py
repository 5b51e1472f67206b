"""What the driver makes of trials on a cluster, and what travels by way of MLflow."""

from __future__ import annotations

import math
import subprocess
import sys
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from imdbtune import __version__
from imdbtune.cluster.compatibility import (
    TRAINING,
    differences,
    local_versions,
    remote_versions,
    version_probe,
)
from imdbtune.cluster.local_executor import FinishedTask, TaskEnded, WorkerLost
from imdbtune.cluster.remote_executor import FinishedElsewhere, RemoteExecutor
from imdbtune.cluster.trial_job import TrialFailure, TrialJob
from imdbtune.cluster.worker_pool import WorkerInfo, WorkerPool
from imdbtune.config.hyperparameters import TrialParams
from imdbtune.data.sources import open_corpus
from imdbtune.errors import SearchAborted
from imdbtune.tracking import artifact_transfer, reader
from imdbtune.tracking.connection import connect
from imdbtune.tracking.outbox import Outbox
from imdbtune.tracking.outbox_delivery import DeliveryCache, deliver
from imdbtune.tracking.writer import SearchRun, TrialRun
from imdbtune.training.spec import TrialResult, TrialSpec
from tests.support import new_store, stub_trainer, tiny_corpus


class Task(Future):  # type: ignore[type-arg]
    """A future of Dask's has a key."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key

    def traceback(self) -> None:
        """None is left of what was raised elsewhere."""


class Dask:
    """The part of Dask's client that is used; nothing runs."""

    def __init__(self) -> None:
        self.sent: list[tuple[Task, Any, dict[str, Any]]] = []

    def submit(self, run: Any, errand: Any, **options: Any) -> Task:
        task = Task(f"task-{len(self.sent)}")
        self.sent.append((task, errand, options))
        return task

    def subscribe_topic(self, topic: str, handler: Any) -> None:
        self.note = handler

    def unsubscribe_topic(self, topic: str) -> None:
        """Nobody tells anything."""

    def cancel(self, tasks: list[Task]) -> None:
        """Nothing runs."""


class Known(WorkerPool):
    """Its workers are those that a test says."""

    def look(self) -> None:
        """Nobody comes or goes by himself."""


class Driver:
    """An executor over two workers, and a search with one trial that is to be run."""

    def __init__(self, folder: Path) -> None:
        self.client = connect(new_store(folder))
        self.dask, self.outbox = Dask(), Outbox(folder / "spool")
        self.folder = folder
        self.said: list[str] = []
        self.epochs: list[dict[str, Any]] = []
        self.cluster = Known(self.dask, "tcp://s:1", "http://store", "d1", self.said.append)
        self.cluster._checked = True
        for name in ("tcp://a:1", "tcp://b:1"):
            self.cluster.hosts[name] = WorkerInfo(name, f"process-{name}", False, True, False)
        made = SearchRun.open(self.client, "far", "imdbtune", {}, "search")
        self.search = SearchRun(self.outbox, made.run_id, made.experiment_id, {})
        self.executor = RemoteExecutor(
            self.cluster, self.client, self.outbox, made.run_id, folder, self.epochs.append
        )

    def job(self, trial_id: str = "0000", **more: Any) -> TrialJob:
        key = self.search.start_trial(trial_id, TrialParams(), {})
        spec = TrialSpec(TrialParams(), self.folder, self.folder / "trial", **more)
        return TrialJob(trial_id, spec, self.outbox, key)

    def deliver(self) -> None:
        deliver(self.client, self.outbox, self.search.run_id, DeliveryCache.at_start(self.outbox))

    def begin(self) -> tuple[TrialJob, TrialRun, Task]:
        """A trial on its way: its job, its run, its task."""
        job = self.job()
        self.executor.submit(job)
        self.deliver()
        assert self.executor.done(0) == []
        task, errand, _ = self.dask.sent[-1]
        return job, TrialRun(self.client, errand.run_id), task

    def status(self, run: TrialRun) -> str:
        return str(self.client.get_run(run.run_id).info.status)


@pytest.fixture
def driver(tmp_path: Path) -> Driver:
    return Driver(tmp_path)


def result() -> TrialResult:
    return stub_trainer(TrialSpec(TrialParams(), Path(), Path()), lambda execution, epoch: None)


def test_a_trial_waits_until_mlflow_has_its_run(driver: Driver) -> None:
    driver.executor.submit(driver.job())
    assert driver.executor.done(0) == []
    assert driver.dask.sent == []
    driver.deliver()
    driver.executor.done(0)
    ((_, errand, options),) = driver.dask.sent
    assert options["workers"] == ["tcp://a:1"]
    assert errand.process == "process-tcp://a:1"
    assert reader.read_run(driver.client, errand.run_id).trial_id == "0000"


def test_a_trial_waits_for_a_store_that_is_away(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reviews cannot be put there; that is told once."""

    def away(*arguments: Any) -> bool:
        raise ConnectionError("no answer")

    driver.cluster.hosts["tcp://a:1"].lacks_corpus = True
    driver.executor.submit(driver.job())
    driver.deliver()
    with monkeypatch.context() as patch:
        patch.setattr(artifact_transfer, "has_corpus", away)
        for _ in range(2):
            assert driver.executor.done(0) == []
    assert driver.said == ["trials wait for the tracking store (no answer)"]
    assert driver.dask.sent == []
    monkeypatch.setattr(artifact_transfer, "has_corpus", lambda *arguments: True)
    driver.executor.done(0)
    assert len(driver.dask.sent) == 1


def test_each_process_has_one_trial(driver: Driver) -> None:
    for number in range(3):
        driver.executor.submit(driver.job(str(number)))
    driver.deliver()
    for _ in range(2):
        driver.executor.done(0)
    assert driver.executor.slots == 2
    sent = [options["workers"] for _, _, options in driver.dask.sent]
    assert sent == [["tcp://a:1"], ["tcp://b:1"]]


def test_workers_with_graphics_cards_are_preferred(driver: Driver) -> None:
    driver.cluster.hosts["tcp://b:1"].gpu = True
    assert driver.executor.slots == 1
    driver.begin()
    assert driver.dask.sent[0][2]["workers"] == ["tcp://b:1"]
    assert driver.dask.sent[0][2]["resources"] == {"GPU": 1}


def test_without_workers_a_trial_waits(driver: Driver) -> None:
    driver.cluster.hosts.clear()
    assert driver.executor.slots == 1
    driver.executor.submit(driver.job())
    driver.deliver()
    assert driver.executor.done(0) == []
    assert driver.said == ["tcp://s:1 has no worker for trials now; waiting ..."]


def test_what_a_worker_tells_is_passed_on(driver: Driver) -> None:
    for told in ({"epoch": {"epoch": 1.0}}, {"notice": "a\x1b[2J line"}, {"begun": "task-0"}):
        driver.dask.note((0.0, {**told, "worker": "tcp://a:1"}))
    assert driver.epochs == [{"epoch": 1.0}]
    assert driver.said == ["a\\x1b[2J line"]


def test_what_a_worker_has_ended_is_ended_in_the_spool(driver: Driver) -> None:
    job, run, task = driver.begin()
    run.end("FINISHED")
    before = driver.client.get_run(run.run_id).info.end_time
    task.set_exception(TaskEnded(FinishedTask(result(), "tcp://a:1", False)))
    ((ended, outcome),) = driver.executor.done(0)
    assert (ended, outcome) == (job, result())
    assert driver.outbox.open_runs() == []
    driver.deliver()
    assert driver.client.get_run(run.run_id).info.end_time == before


def test_what_mlflow_has_of_a_lost_trial_counts(driver: Driver) -> None:
    """Its worker has died between the end of its run and saying so."""
    job, run, task = driver.begin()
    run.log({"best_val_accuracy": 0.75})
    run.end("FINISHED")
    task.set_exception(TaskEnded(FinishedTask(WorkerLost("gone"), "tcp://a:1", False)))
    assert driver.executor.done(0) == [(job, FinishedElsewhere(0.75))]
    assert driver.outbox.open_runs() == []
    assert list(driver.cluster.hosts) == ["tcp://b:1"]


def test_a_trial_whose_scheduler_is_lost_has_not_failed(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dask's client then cancels all tasks, perhaps before anybody has looked for the scheduler."""
    _, run, task = driver.begin()

    def lost() -> None:
        raise SearchAborted("the scheduler does not answer")

    monkeypatch.setattr(driver.cluster, "look", lost)
    driver.executor._look_at = math.inf
    task.set_result(None)  # a task that was cancelled tells of no exception
    with pytest.raises(SearchAborted, match="scheduler does not answer"):
        driver.executor.done(60)
    assert driver.status(run) == "RUNNING"
    driver.executor.close()
    assert driver.status(run) == "KILLED"


def test_a_trial_that_was_cancelled_is_run_again(driver: Driver) -> None:
    job, run, task = driver.begin()
    task.set_result(None)
    ((ended, outcome),) = driver.executor.done(60)
    assert (ended, type(outcome)) == (job, WorkerLost)
    assert driver.status(run) == "KILLED"


def test_a_worker_that_was_cut_off_cannot_end_a_trial_that_is_run_again(driver: Driver) -> None:
    job, run, _ = driver.begin()
    del driver.cluster.hosts["tcp://a:1"]
    driver.executor._look_at = 0.0
    assert driver.executor.done(0) == [(job, WorkerLost("the worker process died"))]
    assert driver.status(run) == "KILLED"
    worker = Outbox(driver.folder / "worker")
    TrialRun(worker, run.run_id).end("FINISHED")
    assert deliver(driver.client, worker, run.run_id, DeliveryCache.at_start(worker)) == 1
    assert driver.status(run) == "KILLED"


def test_a_run_that_a_worker_has_finished_is_not_killed_later(driver: Driver) -> None:
    """The driver has not heard of the end, and closes what it believes to be open."""
    _, run, _ = driver.begin()
    run.end("FINISHED")
    driver.search.stop_trials("the search was cut off")
    driver.deliver()
    found = reader.read_run(driver.client, run.run_id)
    assert (found.status, found.reason) == ("FINISHED", "")


def test_a_lost_trial_is_in_doubt_while_the_store_is_away(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, _, task = driver.begin()

    def away(*arguments: Any) -> Any:
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(reader, "read_run", away)
        task.set_exception(TaskEnded(FinishedTask(WorkerLost("gone"), "tcp://a:1", False)))
        assert driver.executor.done(0) == []
    assert driver.executor.done(0) == [(job, WorkerLost("gone"))]


def test_a_worker_that_cannot_go_on_gets_no_more_trials(driver: Driver) -> None:
    job, _, task = driver.begin()
    task.set_exception(SearchAborted("no room is left on the disk"))
    ((ended, outcome),) = driver.executor.done(0)
    assert (ended, type(outcome)) == (job, WorkerLost)
    assert "cannot go on (no room is left" in driver.said[0]
    driver.cluster.hosts.clear()
    driver.executor._look_at = 0.0
    with pytest.raises(SearchAborted, match="no worker is left: tcp://a:1: no room is left"):
        driver.executor.done(0)


def test_a_failure_that_its_run_tells_already_is_passed_on(driver: Driver) -> None:
    job, run, task = driver.begin()
    run.fail("loss became nan", "a traceback")
    failure = TrialFailure("loss became nan", "a traceback")
    task.set_exception(TaskEnded(FinishedTask(failure, "tcp://a:1", False)))
    assert driver.executor.done(0) == [(job, failure)]
    assert driver.outbox.open_runs() == []


def test_a_state_from_this_machine_is_left_for_the_workers(driver: Driver) -> None:
    """The search was begun here, and goes on elsewhere."""
    before = driver.job("0000")
    state = driver.folder / "state.npz"
    state.write_bytes(b"weights")
    job = driver.job("0001", state=state)
    driver.executor.submit(
        TrialJob(job.trial_id, job.spec, job.outbox, job.run_id, before=before.run_id)
    )
    driver.deliver()
    driver.executor.done(0)
    ((_, errand, _),) = driver.dask.sent
    assert errand.before == driver.outbox.delivered(before.run_id).run_id
    there = driver.folder / "elsewhere" / "state.npz"
    artifact_transfer.download_file(driver.client, errand.before, there)
    assert there.read_bytes() == b"weights"
    artifact_transfer.delete_leftovers(driver.client, reader.find_search(driver.client), kept=True)
    assert driver.client.list_artifacts(errand.before, artifact_transfer.KEPT) == []


def test_reviews_arrive_whole_or_not_at_all(tmp_path: Path) -> None:
    client = connect(new_store(tmp_path))
    corpus = open_corpus(str(tiny_corpus(tmp_path)), tmp_path / "cache", print)
    run = SearchRun.open(client, "far", "imdbtune", {}, "search").run_id
    assert not artifact_transfer.has_corpus(client, run)
    artifact_transfer.send_corpus(client, run, corpus.folder)
    assert artifact_transfer.has_corpus(client, run)
    with pytest.raises(SearchAborted, match="the reviews differ after their transfer"):
        artifact_transfer.fetch_corpus(client, run, "0123", tmp_path / "there")
    assert not artifact_transfer.corpus_place(tmp_path / "there", "0123").exists()
    place = artifact_transfer.fetch_corpus(client, run, corpus.digest, tmp_path / "there")
    artifact_transfer.delete_file(client, run, artifact_transfer.CORPUS)
    assert not artifact_transfer.has_corpus(client, run)
    assert artifact_transfer.fetch_corpus(client, run, corpus.digest, tmp_path / "there") == place


def test_a_process_that_lacks_the_package_can_say_so(tmp_path: Path) -> None:
    """The question travels as code."""
    (tmp_path / "ask").write_bytes(cloudpickle.dumps(version_probe()))
    code = (
        "import sys, cloudpickle; sys.modules['imdbtune'] = None; "
        "print([cloudpickle.load(open('ask', 'rb'))()])"
    )
    run = [sys.executable, "-c", code]
    told = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert told.stdout == "['']\n"
    assert version_probe()() == __version__


def test_differences_are_told_in_a_line() -> None:
    here = local_versions()
    told = {"packages": {**here, "python": f"{here['python']}.99.final.0", "numpy": None}}
    there = remote_versions(told) | {"keras": "3.14.0"}
    found = differences(here, there, TRAINING)
    assert found == f"keras 3.14.0 (here {here['keras']}), numpy none (here {here['numpy']})"
    assert differences(here, remote_versions({"packages": here}), TRAINING) == ""
    assert differences(here, {"imdbtune": ""}, TRAINING) == f"imdbtune none (here {__version__})"
