"""The remote executor over a fake of Dask, the files exchanged through MLflow, and versions."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from imdbtune import __version__
from imdbtune.cluster import remote_task
from imdbtune.cluster.compatibility import (
    ON_WORKERS,
    differences,
    local_versions,
    remote_versions,
    version_probe,
)
from imdbtune.cluster.dask_executor import DaskExecutor
from imdbtune.cluster.executor import RecoveredResult, WorkerLost
from imdbtune.cluster.remote_executor import RemoteWorkers
from imdbtune.cluster.trial_job import EpochEnded, TrialFailure, TrialJob
from imdbtune.cluster.worker_pool import WorkerInfo, WorkerPool
from imdbtune.cluster.worker_task import FinishedTask, TaskEnded
from imdbtune.config.hyperparameters import TrialParams
from imdbtune.data.sources import open_corpus
from imdbtune.errors import SearchAborted
from imdbtune.tracking import artifact_transfer, mlflow_names, reader
from imdbtune.tracking.connection import connect
from imdbtune.tracking.outbox import Outbox
from imdbtune.tracking.outbox_delivery import DeliveryCache, deliver
from imdbtune.tracking.writer import SearchRun, TrialRun
from imdbtune.training.saved_state import checkpoint_path
from imdbtune.training.spec import TrialResult, TrialSpec
from tests.support import new_store, stub_trainer, tiny_corpus


class FakeFuture(Future):  # type: ignore[type-arg]
    """A future with a key, as Dask's has."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key

    def traceback(self) -> None:
        """Return no traceback, as for an exception of another process."""


class FakeDask:
    """The part of Dask's client that is used; it runs nothing."""

    def __init__(self) -> None:
        self.sent: list[tuple[FakeFuture, Any, dict[str, Any]]] = []

    def submit(self, run: Any, task: Any, **options: Any) -> FakeFuture:
        future = FakeFuture(f"task-{len(self.sent)}")
        self.sent.append((future, task, options))
        return future

    def subscribe_topic(self, topic: str, handler: Any) -> None:
        self.note = handler

    def unsubscribe_topic(self, topic: str) -> None:
        """Do nothing: no worker sends events."""

    def cancel(self, futures: list[FakeFuture]) -> None:
        """Do nothing: no task runs."""


class FakePool(WorkerPool):
    """A pool whose workers are set by the tests."""

    def refresh(self) -> None:
        """Keep the workers as they are."""


class Bench:
    """An executor over two workers, and a search whose trials it runs."""

    def __init__(self, folder: Path) -> None:
        self.client = connect(new_store(folder))
        self.dask, self.outbox = FakeDask(), Outbox(folder / "spool")
        self.folder = folder
        self.notices: list[str] = []
        self.epochs: list[EpochEnded] = []
        self.pool = FakePool(self.dask, "tcp://s:1", "http://store", "d1", self.notices.append)
        self.pool._checked = True
        for name in ("tcp://a:1", "tcp://b:1"):
            self.pool.workers[name] = WorkerInfo(name, f"process-{name}", False, True, False)
        made = SearchRun.open(self.client, "far", "imdbtune", {}, "search")
        self.search = SearchRun(self.outbox, made.run_id, made.experiment_id, {})
        workers = RemoteWorkers(self.pool, self.client, self.outbox, made.run_id, folder)
        self.executor = DaskExecutor(self.dask, workers, self.epochs.append, self.pool.notify)

    def job(self, trial_id: str = "0000", **more: Any) -> TrialJob:
        key = self.search.start_trial(trial_id, TrialParams(), {})
        spec = TrialSpec(TrialParams(), self.folder, self.folder / "trial", **more)
        return TrialJob(trial_id, spec, self.outbox, key)

    def deliver(self) -> None:
        deliver(self.client, self.outbox, self.search.run_id, DeliveryCache.at_start(self.outbox))

    def begin(self) -> tuple[TrialJob, TrialRun, FakeFuture]:
        """Send a trial; return its job, its run and its future."""
        job = self.job()
        self.executor.submit(job)
        self.deliver()
        assert self.executor.done(0) == []
        future, task, _ = self.dask.sent[-1]
        return job, TrialRun(self.client, task.run_id), future

    def end_in_worker(self, run: TrialRun, pruned_after: int) -> int:
        """End a run as its worker does; return the number of calls that were delivered."""
        outbox = Outbox(self.folder / "worker")
        worker = TrialRun(outbox, run.run_id)
        if pruned_after:
            worker.prune(pruned_after)
        else:
            worker.end("FINISHED")
        return deliver(self.client, outbox, run.run_id, DeliveryCache.at_start(outbox))

    def status(self, run: TrialRun) -> str:
        return str(self.client.get_run(run.run_id).info.status)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def make_result() -> TrialResult:
    return stub_trainer(TrialSpec(TrialParams(), Path(), Path()), lambda execution, epoch: None)


def test_a_trial_waits_until_mlflow_has_its_run(bench: Bench) -> None:
    bench.executor.submit(bench.job())
    assert bench.executor.done(0) == []
    assert bench.dask.sent == []
    bench.deliver()
    bench.executor.done(0)
    ((_, task, options),) = bench.dask.sent
    assert options["workers"] == ["tcp://a:1"]
    assert task.worker_id == "process-tcp://a:1"
    assert reader.read_run(bench.client, task.run_id).trial_id == "0000"


def test_a_trial_waits_for_a_store_that_is_away(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The corpus cannot be uploaded; the notice comes once."""

    def away(*arguments: Any) -> bool:
        raise ConnectionError("no answer")

    bench.pool.workers["tcp://a:1"].lacks_corpus = True
    bench.executor.submit(bench.job())
    bench.deliver()
    with monkeypatch.context() as patch:
        patch.setattr(artifact_transfer, "has_corpus", away)
        for _ in range(2):
            assert bench.executor.done(0) == []
    assert bench.notices == ["trials wait for the tracking store (no answer)"]
    assert bench.dask.sent == []
    monkeypatch.setattr(artifact_transfer, "has_corpus", lambda *arguments: True)
    bench.executor.done(0)
    assert len(bench.dask.sent) == 1


def test_each_process_has_one_trial(bench: Bench) -> None:
    for number in range(3):
        bench.executor.submit(bench.job(str(number)))
    bench.deliver()
    for _ in range(2):
        bench.executor.done(0)
    assert bench.executor.slots == 2
    sent = [options["workers"] for _, _, options in bench.dask.sent]
    assert sent == [["tcp://a:1"], ["tcp://b:1"]]


def test_workers_with_graphics_cards_are_preferred(bench: Bench) -> None:
    bench.pool.workers["tcp://b:1"].gpu = True
    assert bench.executor.slots == 1
    bench.begin()
    assert bench.dask.sent[0][2]["workers"] == ["tcp://b:1"]
    assert bench.dask.sent[0][2]["resources"] == {"GPU": 1}


def test_without_workers_a_trial_waits(bench: Bench) -> None:
    bench.pool.workers.clear()
    assert bench.executor.slots == 1
    bench.executor.submit(bench.job())
    bench.deliver()
    assert bench.executor.done(0) == []
    assert bench.notices == ["tcp://s:1 has no worker for trials now; waiting ..."]


def test_events_of_workers_are_passed_on(bench: Bench) -> None:
    epoch: dict[str, Any] = {"trial_id": "0000", "execution": 0, "metrics": {"epoch": 1.0}}
    for event in ({"epoch": epoch}, {"notice": "a\x1b[2J line"}, {"started": "task-0"}):
        bench.dask.note((0.0, {**event, "worker": "tcp://a:1"}))
    assert bench.epochs == []  # a thread of Dask's calls; the driver decides in its own
    bench.executor.done(0)
    assert bench.epochs == [EpochEnded(**epoch)]
    assert bench.notices == ["a\\x1b[2J line"]


@pytest.mark.parametrize("pruned_after", [0, 2])
def test_a_run_that_its_worker_has_ended_is_ended_in_the_outbox(
    bench: Bench, pruned_after: int
) -> None:
    job, run, future = bench.begin()
    bench.end_in_worker(run, pruned_after)
    result = replace(make_result(), pruned_after=pruned_after)
    before = bench.client.get_run(run.run_id).info.end_time
    future.set_exception(TaskEnded(FinishedTask(result, "tcp://a:1", False)))
    ((ended, outcome),) = bench.executor.done(0)
    assert (ended, outcome) == (job, result)
    assert bench.outbox.open_runs() == []
    TrialRun(bench.outbox, job.run_id).log({"later": 1.0})  # as a model that is kept at the end
    bench.deliver()
    found = bench.client.get_run(run.run_id)
    assert (found.info.end_time, found.data.metrics) == (before, {"later": 1.0})


@pytest.mark.parametrize("pruned_after", [0, 2])
def test_a_result_in_mlflow_counts_when_its_worker_is_lost(bench: Bench, pruned_after: int) -> None:
    """The worker died after it had ended the run and before it returned the outcome."""
    job, run, future = bench.begin()
    run.log({"best_val_accuracy": 0.75})
    bench.end_in_worker(run, pruned_after)
    future.set_exception(TaskEnded(FinishedTask(WorkerLost("gone"), "tcp://a:1", False)))
    assert bench.executor.done(0) == [
        (job, RecoveredResult(0.75, pruned_after, {"val_accuracy": 0.75}))
    ]
    assert bench.outbox.open_runs() == []
    assert list(bench.pool.workers) == ["tcp://b:1"]


def test_a_trial_whose_scheduler_is_lost_has_not_failed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dask's client then cancels all tasks, perhaps before the pool is refreshed."""
    _, run, future = bench.begin()

    def lost() -> None:
        raise SearchAborted("the scheduler does not answer")

    monkeypatch.setattr(bench.pool, "refresh", lost)
    bench.executor._next_refresh = math.inf
    future.set_result(None)  # a cancelled task has no exception
    with pytest.raises(SearchAborted, match="scheduler does not answer"):
        bench.executor.done(60)
    assert bench.status(run) == "RUNNING"
    bench.executor.close()
    assert bench.status(run) == "KILLED"


def test_a_trial_that_was_cancelled_is_run_again(bench: Bench) -> None:
    job, run, future = bench.begin()
    future.set_result(None)
    ((ended, outcome),) = bench.executor.done(60)
    assert (ended, type(outcome)) == (job, WorkerLost)
    assert bench.status(run) == "KILLED"


@pytest.mark.parametrize("pruned_after", [0, 2])
def test_a_disconnected_worker_cannot_end_a_trial_that_is_run_again(
    bench: Bench, pruned_after: int
) -> None:
    job, run, _ = bench.begin()
    del bench.pool.workers["tcp://a:1"]
    bench.executor._next_refresh = 0.0
    assert bench.executor.done(0) == [(job, WorkerLost("the worker process died"))]
    assert bench.status(run) == "KILLED"
    assert bench.end_in_worker(run, pruned_after) == 1
    assert bench.status(run) == "KILLED"
    assert reader.read_run(bench.client, run.run_id).state == "KILLED"


@pytest.mark.parametrize(
    ("pruned_after", "ended"), [(0, ("FINISHED", "")), (2, ("PRUNED", "pruned after epoch 2"))]
)
def test_a_run_that_a_worker_has_finished_is_not_killed_later(
    bench: Bench, pruned_after: int, ended: tuple[str, str]
) -> None:
    """The driver does not know of the end and closes the run, which it takes to be open."""
    _, run, _ = bench.begin()
    bench.end_in_worker(run, pruned_after)
    bench.search.stop_trials("the driver process died")
    bench.deliver()
    found = reader.read_run(bench.client, run.run_id)
    assert (found.state, found.reason) == ended
    tags = bench.client.get_run(run.run_id).data.tags
    assert tags.get(mlflow_names.REASON, "") == ended[1]


def test_a_lost_trial_stays_unresolved_while_the_store_is_unreachable(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, _, future = bench.begin()

    def away(*arguments: Any) -> Any:
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(reader, "read_run", away)
        future.set_exception(TaskEnded(FinishedTask(WorkerLost("gone"), "tcp://a:1", False)))
        assert bench.executor.done(0) == []
    assert bench.executor.done(0) == [(job, WorkerLost("gone"))]


def test_a_worker_that_cannot_go_on_gets_no_more_trials(bench: Bench) -> None:
    job, _, future = bench.begin()
    future.set_exception(SearchAborted("no room is left on the disk"))
    ((ended, outcome),) = bench.executor.done(0)
    assert (ended, type(outcome)) == (job, WorkerLost)
    assert "cannot continue (no room is left" in bench.notices[0]
    bench.pool.workers.clear()
    bench.executor._next_refresh = 0.0
    with pytest.raises(SearchAborted, match="no worker is left: tcp://a:1: no room is left"):
        bench.executor.done(0)


def test_a_failure_that_is_logged_already_is_passed_on(bench: Bench) -> None:
    job, run, future = bench.begin()
    run.fail("loss became nan", "a traceback")
    failure = TrialFailure("loss became nan", "a traceback")
    future.set_exception(TaskEnded(FinishedTask(failure, "tcp://a:1", False)))
    assert bench.executor.done(0) == [(job, failure)]
    assert bench.outbox.open_runs() == []


def test_a_state_from_this_machine_is_uploaded_for_the_workers(bench: Bench) -> None:
    """The search began on this machine and continues on the cluster."""
    previous = bench.job("0000")
    state = bench.folder / "state.npz"
    state.write_bytes(b"weights")
    job = bench.job("0001", state=state)
    bench.executor.submit(
        TrialJob(job.trial_id, job.spec, job.outbox, job.run_id, previous_run_id=previous.run_id)
    )
    bench.deliver()
    bench.executor.done(0)
    ((_, task, _),) = bench.dask.sent
    assert task.previous_run_id == bench.outbox.delivered(previous.run_id).run_id
    there = bench.folder / "remote" / "state.npz"
    artifact_transfer.download_file(bench.client, task.previous_run_id, there)
    assert there.read_bytes() == b"weights"
    artifact_transfer.delete_leftovers(bench.client, reader.find_search(bench.client), kept=True)
    assert bench.client.list_artifacts(task.previous_run_id, artifact_transfer.KEPT) == []


def test_a_checkpoint_reaches_the_next_attempt_on_another_machine(bench: Bench) -> None:
    """The second attempt has died before it kept an epoch; MLflow has lost the third one."""
    jobs = [bench.job() for _ in range(4)]
    jobs[-1] = replace(jobs[-1], earlier_run_ids=tuple(job.run_id for job in jobs[:-1]))
    bench.deliver()
    bench.executor.submit(jobs[-1])
    bench.executor.done(0)
    ((_, task, _),) = bench.dask.sent
    earlier = task.earlier_run_ids
    assert list(earlier) == [bench.outbox.delivered(job.run_id).run_id for job in jobs[:-1]]
    bench.client.delete_run(earlier[2])
    path = bench.folder / "here" / "checkpoint.npz"
    path.parent.mkdir()
    outbox = Outbox(bench.folder / "worker")
    upload = remote_task._UploadCheckpoints(outbox, earlier[0])
    upload(path)
    assert outbox.is_empty()
    for number, is_away in enumerate((False, True, False), start=1):
        path.write_bytes(b"%d" % number)
        os.utime(path, ns=(number, number))
        upload(path)
        upload(path)
        if not is_away:
            deliver(bench.client, outbox, earlier[0], DeliveryCache.at_start(outbox))
    assert len(outbox.calls(earlier[0])) == 2  # the third one is left out
    spec = replace(jobs[-1].spec, folder=bench.folder / "there")
    remote_task._fetch_checkpoint(bench.client, task, checkpoint_path(spec))
    assert checkpoint_path(spec).read_bytes() == b"2"
    remote_task._delete_checkpoints(bench.client, replace(jobs[-1], spec=spec), task)
    assert bench.client.list_artifacts(earlier[0], artifact_transfer.CHECKPOINT) == []


def test_the_checkpoints_of_trials_without_a_result_are_deleted_at_the_end(bench: Bench) -> None:
    _, run, _ = bench.begin()
    path = bench.folder / "checkpoint.npz"
    path.touch()
    bench.client.log_artifact(run.run_id, str(path), artifact_transfer.CHECKPOINT)
    search = reader.find_search(bench.client)
    artifact_transfer.delete_leftovers(bench.client, search, kept=False)
    assert bench.client.list_artifacts(run.run_id, artifact_transfer.CHECKPOINT) == []


def test_a_corpus_arrives_whole_or_not_at_all(tmp_path: Path) -> None:
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


def test_the_version_probe_runs_in_a_process_without_the_package(tmp_path: Path) -> None:
    """The function is pickled by value."""
    (tmp_path / "probe").write_bytes(cloudpickle.dumps(version_probe()))
    code = (
        "import sys, cloudpickle; sys.modules['imdbtune'] = None; "
        "print([cloudpickle.load(open('probe', 'rb'))()])"
    )
    run = [sys.executable, "-c", code]
    completed = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert completed.stdout == "['']\n"
    assert version_probe()() == __version__


def test_differences_are_listed_in_one_line() -> None:
    here = local_versions()
    reply = {"packages": {**here, "python": f"{here['python']}.99.final.0", "numpy": None}}
    there = remote_versions(reply) | {"keras": "3.14.0"}
    found = differences(here, there, ON_WORKERS)
    assert found == f"keras 3.14.0 (here {here['keras']}), numpy none (here {here['numpy']})"
    assert differences(here, remote_versions({"packages": here}), ON_WORKERS) == ""
    assert differences(here, {"imdbtune": ""}, ON_WORKERS) == f"imdbtune none (here {__version__})"
