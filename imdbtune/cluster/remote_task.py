"""Run a trial in a Dask worker that may be on another machine, without access to the driver's disk.

The worker writes to an outbox of its own and delivers it to MLflow before it returns the outcome.
So no result is lost if the worker, the scheduler or the driver dies afterwards.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from imdbtune.cluster.dask_adapter import is_executing
from imdbtune.cluster.executor import WorkerLost
from imdbtune.cluster.local_executor import training_environment
from imdbtune.cluster.trial_job import (
    Trainer,
    TrialFailure,
    TrialJob,
    default_trainer,
    run_trial,
    warm_up,
)
from imdbtune.cluster.worker_task import Cancelled, Event, end_task, reporter, run_task
from imdbtune.data.sources import default_cache
from imdbtune.errors import NotDelivered, SearchAborted, UserError
from imdbtune.files import make_private_folder
from imdbtune.tracking.artifact_transfer import (
    CHECKPOINT,
    KEPT,
    delete_file,
    download_file,
    fetch_corpus,
    is_fetched,
)
from imdbtune.tracking.background_delivery import (
    POLL_S,
    RETRY_EVERY_S,
    BackgroundDelivery,
)
from imdbtune.tracking.connection import connect, failure_reason, open_client, redact_secrets
from imdbtune.tracking.outbox import Outbox
from imdbtune.tracking.outbox_delivery import is_temporary
from imdbtune.training.saved_state import checkpoint_path
from imdbtune.training.spec import Epoch, OnEpoch, TrialResult, TrialSpec

if TYPE_CHECKING:
    from distributed import Worker

    from imdbtune.tracking.connection import MlflowClient

T = TypeVar("T")
# How long a trial waits for a store that does not answer, before it starts and after it has ended.
STORE_TIMEOUT_S = 600.0
# Keras has one seed per process, so that trials in several threads of a worker take turns.
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class RemoteTask:
    """A trial as it is sent to a worker.

    Args:
        job: its folders are those of the driver's machine.
        worker_id: the worker process that runs it; a new process at the same address refuses it.
        run_id: MLflow's id of the trial's run, which exists already.
        search: MLflow's id of the search's run, from which the corpus is downloaded.
        tracking_uri: of MLflow.
        previous_run_id: MLflow's id of the run whose saved state the trial continues.
        earlier_run_ids: MLflow's ids of the runs of earlier attempts at the trial, in order.
        keep_model: whether to upload the model, until the search has chosen which ones to log.
        topic: Dask topic of the events that the worker sends to the driver.
    """

    job: TrialJob
    worker_id: str
    run_id: str
    search: str
    tracking_uri: str = field(repr=False)  # Dask logs the arguments of a task
    previous_run_id: str = ""
    earlier_run_ids: tuple[str, ...] = ()
    keep_model: bool = False
    topic: str = ""


def run_remote_task(remote: RemoteTask) -> None:
    """Run a trial in this worker process.

    Raises:
        TaskEnded: the trial has ended; the exception holds its outcome.
        SearchAborted: the disk cannot be written to, or the store stays unreachable.
    """
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()
    if worker.id != remote.worker_id:
        end_task(worker, WorkerLost("the worker process died"), spent=False)
    with _ONE_AT_A_TIME:
        run_task(worker, lambda: _run(remote, worker, key))


@dataclass(frozen=True)
class Inspection:
    """What the driver has to know of a worker.

    Args:
        worker_id: changes with its process.
        store_problem: why it cannot use MLflow; empty: it can.
        lacks_corpus: whether the corpus is missing in its cache.
    """

    worker_id: str
    store_problem: str
    lacks_corpus: bool


async def inspect_worker(tracking_uri: str, digest: str, dask_worker: Worker) -> Inspection:
    """Inspect the worker in which this runs; ``digest``: of the corpus."""
    import asyncio

    problem = ""
    try:
        await asyncio.to_thread(connect, tracking_uri)
    except UserError as error:
        problem = f"cannot use the tracking store: {error}"
    lacks_corpus = not await asyncio.to_thread(is_fetched, default_cache(), digest)
    return Inspection(dask_worker.id, problem, lacks_corpus)


def _run(remote: RemoteTask, worker: Worker, key: str) -> TrialResult | TrialFailure:
    cache = default_cache()
    os.environ.update(training_environment(cache))  # TensorFlow reads it once
    client = open_client(remote.tracking_uri)
    folder = Path(worker.local_directory, "imdbtune", remote.run_id)
    shutil.rmtree(folder, ignore_errors=True)
    make_private_folder(folder)
    try:
        try:
            job = _retry(lambda: _localize(remote, client, folder, cache))
        except OSError as error:  # a full disk, or missing permissions
            raise SearchAborted(f"the trial's files cannot be written ({error})") from error
        warm_up(remote.job)

        def send(event: Event) -> None:
            if not is_executing(worker, key):
                raise Cancelled
            worker.log_event(remote.topic, event)

        def notify(line: str) -> None:
            worker.log_event(remote.topic, {"notice": f"{worker.address}: {line}"})

        send({"started": key, "pid": os.getpid()})
        delivery = BackgroundDelivery(client, job.outbox, remote.run_id, None, notify)
        delivery.start()
        try:
            outcome = run_trial(job, reporter(job, key, send))
            send({"trained": key})
        except BaseException:
            with suppress(Exception):
                delivery.finish()
            raise
        _deliver_rest(delivery)
        _delete_checkpoints(client, job, remote)
        return outcome
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _localize(remote: RemoteTask, client: MlflowClient, folder: Path, cache: Path) -> TrialJob:
    """Download what the trial needs; return its job with the folders of this machine."""
    job = remote.job
    assert job.corpus is not None
    corpus = fetch_corpus(client, remote.search, job.corpus.digest, cache)
    state = folder / "before" / "state.npz" if job.spec.state else None
    if state is not None and remote.previous_run_id:
        download_file(client, remote.previous_run_id, state)
    spec = replace(job.spec, corpus=corpus, folder=folder / "trial", state=state)
    _fetch_checkpoint(client, remote, checkpoint_path(spec))
    outbox = Outbox(folder / "spool")
    upload = _UploadCheckpoints(outbox, remote.run_id)
    return replace(
        job,
        spec=spec,
        outbox=outbox,
        run_id=remote.run_id,
        trainer=_TrainAndUpload(job.trainer, remote.keep_model, upload),
    )


def _fetch_checkpoint(client: MlflowClient, remote: RemoteTask, path: Path) -> None:
    """Fetch the last checkpoint that earlier attempts at the trial have uploaded, if any."""
    for run_id in reversed(remote.earlier_run_ids):
        try:
            download_file(client, run_id, path, CHECKPOINT)
        except Exception as error:  # such as that of a run that MLflow has lost
            if is_temporary(error):
                raise
        if path.exists():
            return


def _delete_checkpoints(client: MlflowClient, job: TrialJob, remote: RemoteTask) -> None:
    """Delete the checkpoints of a trial that has ended from MLflow."""
    if checkpoint_path(job.spec).exists():
        for run_id in (*remote.earlier_run_ids, remote.run_id):
            with suppress(Exception):  # the store may not permit it
                delete_file(client, run_id, CHECKPOINT)


@dataclass
class _UploadCheckpoints:
    """Uploads a trial's checkpoint when it has changed, in the background.

    While MLflow is away, the last one waits for it, and later ones are left out.
    """

    outbox: Outbox
    run_id: str
    _sent_ns: int = 0  # when the checkpoint was written that was uploaded last

    def __call__(self, path: Path) -> None:
        """Upload the checkpoint at ``path``, if there is one."""
        written_ns = path.stat().st_mtime_ns if path.exists() else 0
        if written_ns == self._sent_ns or not self.outbox.is_empty():
            return
        self._sent_ns = written_ns
        folder = path.parent / "upload"
        (folder / CHECKPOINT).mkdir(parents=True, exist_ok=True)
        with suppress(OSError):  # the disk has no room for a second one
            shutil.copyfile(path, folder / CHECKPOINT / path.name)
            self.outbox.log_artifacts(self.run_id, str(folder))


@dataclass(frozen=True)
class _TrainAndUpload:
    """A trainer that copies the files that are needed again into the history's folder.

    That folder is logged to MLflow as a whole. Checkpoints are uploaded at once.
    """

    trainer: Trainer | None
    keep_model: bool
    upload_checkpoint: Callable[[Path], None]

    def __call__(self, spec: TrialSpec, on_epoch: OnEpoch) -> TrialResult:
        """Train the trial."""

        def report(execution: int, epoch: Epoch) -> bool | None:
            self.upload_checkpoint(checkpoint_path(spec))
            return on_epoch(execution, epoch)

        result = (self.trainer or default_trainer())(spec, report)
        needed = [result.state] if result.state else []
        needed += [result.model] if self.keep_model else []
        target = spec.folder / "history" / KEPT
        for path in needed:
            if path.exists():
                target.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target / path.name)
        return result


def _retry(attempt: Callable[[], T]) -> T:
    """Call ``attempt`` until it succeeds or fails for another reason than an unreachable store.

    Raises:
        SearchAborted: the store stays unreachable.
    """
    wait, deadline = POLL_S, time.monotonic() + STORE_TIMEOUT_S
    while True:
        try:
            return attempt()
        except Exception as error:
            if not is_temporary(error):
                raise
            if time.monotonic() + wait > deadline:
                raise SearchAborted(_store_problem(error)) from error
        time.sleep(wait)
        wait = min(2 * wait, RETRY_EVERY_S)


def _deliver_rest(delivery: BackgroundDelivery) -> None:
    try:
        delivery.finish(STORE_TIMEOUT_S)
    except NotDelivered as error:
        raise SearchAborted(_store_problem(error.__cause__ or error)) from error


def _store_problem(error: BaseException) -> str:
    return redact_secrets(f"a worker cannot use the tracking store ({failure_reason(error)[:200]})")
