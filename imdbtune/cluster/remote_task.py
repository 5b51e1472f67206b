"""A trial in a worker of another machine, which sees neither the driver's disk nor its processes.

It writes to an outbox of its own and delivers that to MLflow before it hands over the outcome, so
that what is finished is safe, whoever dies then.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from imdbtune.cluster.local_executor import (
    FinishedTask,
    TaskEnded,
    WorkerLost,
    must_be_renewed,
    training_environment,
)
from imdbtune.cluster.trial_job import (
    Trainer,
    TrialFailure,
    TrialJob,
    default_trainer,
    failure_of,
    run_trial,
    warm_up,
)
from imdbtune.data.sources import default_cache
from imdbtune.errors import NotDelivered, SearchAborted, UserError
from imdbtune.tracking.artifact_transfer import KEPT, corpus_place, download_file, fetch_corpus
from imdbtune.tracking.background_delivery import (
    POLL_S,
    RETRY_EVERY_S,
    BackgroundDelivery,
)
from imdbtune.tracking.connection import connect, failure_reason, open_client, redact_secrets
from imdbtune.tracking.outbox import Outbox
from imdbtune.tracking.outbox_delivery import is_temporary
from imdbtune.training.spec import OnEpoch, TrialResult, TrialSpec

if TYPE_CHECKING:
    from distributed import Worker

    from imdbtune.tracking.connection import MlflowClient

T = TypeVar("T")
# How long a trial waits for a store that is away, before it begins and when it has ended.
PATIENCE_S = 600.0
QUIET = {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
# Keras has one seed for a process: a second trial waits, where a worker has several threads.
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class RemoteTask:
    """A trial on its way.

    Args:
        job: with folders of the driver's machine, which are others there.
        process: the worker process that it is for; another one at its address does not begin.
        run_id: MLflow's, of the trial; the run is there.
        search: the run with the reviews.
        before: MLflow's run of the trial that it goes on from.
        keep_model: leave the model with the run, until it is known which are kept.
        topic: for what it tells the driver meanwhile.
    """

    job: TrialJob
    process: str
    run_id: str
    search: str
    store: str = field(repr=False)  # Dask logs what a task was given
    before: str = ""
    keep_model: bool = False
    topic: str = ""


class _Abandoned(BaseException):
    """The driver has gone, or does not want the trial any more."""


def run_remote_task(errand: RemoteTask) -> None:
    """Run in a worker process; ends with :class:`imdbtune.cluster.local_executor.TaskEnded` in any
    case.

    Raises:
        SearchAborted: nothing can be written here, or the store stays away.
    """
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()
    _log_no_outcomes()
    if worker.id != errand.process:
        raise TaskEnded(FinishedTask(WorkerLost("the worker process died"), worker.address, False))
    outcome: TrialResult | TrialFailure | WorkerLost
    with _ONE_AT_A_TIME:
        try:
            outcome = _run(errand, worker, key)
        except MemoryError as error:
            outcome = failure_of(error, traceback.format_exc(), logged=False)
        except _Abandoned:
            outcome = WorkerLost("nobody wanted the trial any more")
    raise TaskEnded(FinishedTask(outcome, worker.address, must_be_renewed(outcome)))


async def inspect_worker(store: str, digest: str, dask_worker: Any = None) -> dict[str, Any]:
    """In a worker: its process, what is wrong with its way to a store, and if it lacks a corpus."""
    import asyncio

    found = {"process": dask_worker.id, "away": ""}
    try:
        await asyncio.to_thread(connect, store)
    except UserError as error:
        found["away"] = f"cannot deliver: {error}"
    return {**found, "lacks": not corpus_place(default_cache(), digest).is_dir()}


def _run(errand: RemoteTask, worker: Worker, key: str) -> TrialResult | TrialFailure:
    cache = default_cache()
    os.environ.update(training_environment(cache) | QUIET)  # before TensorFlow is there
    client = open_client(errand.store)
    folder = Path(worker.local_directory, "imdbtune", errand.run_id)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        try:
            job = _patiently(lambda: _here(errand, client, folder, cache))
        except OSError as error:  # no room, or no right to write
            raise SearchAborted(f"what a trial needs cannot be kept there ({error})") from error
        warm_up(errand.job)

        def tell(event: dict[str, Any]) -> None:
            task = worker.state.tasks.get(key)
            if task is None or task.state != "executing":
                raise _Abandoned
            worker.log_event(errand.topic, event)

        def say(line: str) -> None:
            worker.log_event(errand.topic, {"notice": f"{worker.address}: {line}"})

        tell({"begun": key})
        delivery = BackgroundDelivery(client, job.outbox, errand.run_id, None, say)
        delivery.start()
        try:
            outcome = run_trial(job, lambda event: tell({"epoch": event}))
            tell({"trained": key})
        except BaseException:
            with suppress(Exception):
                delivery.finish()
            raise
        _finish(delivery)
        return outcome
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _here(errand: RemoteTask, client: MlflowClient, folder: Path, cache: Path) -> TrialJob:
    """The trial with all that it needs on this machine."""
    job = errand.job
    assert job.corpus is not None
    corpus = fetch_corpus(client, errand.search, job.corpus.digest, cache)
    state = folder / "before" / "state.npz" if job.spec.state else None
    if state is not None and errand.before:
        download_file(client, errand.before, state)
    spec = replace(job.spec, corpus=corpus, folder=folder / "trial", state=state)
    return replace(
        job,
        spec=spec,
        outbox=Outbox(folder / "spool"),
        run_id=errand.run_id,
        trainer=_Leaving(job.trainer, errand.keep_model),
    )


@dataclass(frozen=True)
class _Leaving:
    """Trains, and puts what is needed again where the history will lie, which is logged."""

    trainer: Trainer | None
    keep_model: bool

    def __call__(self, spec: TrialSpec, on_epoch: OnEpoch) -> TrialResult:
        """As any trainer."""
        result = (self.trainer or default_trainer())(spec, on_epoch)
        wanted = [result.state] if result.state else []
        wanted += [result.model] if self.keep_model else []
        kept = spec.folder / "history" / KEPT
        for path in wanted:
            if path.exists():
                kept.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, kept / path.name)
        return result


def _patiently(attempt: Callable[[], T]) -> T:
    """What ``attempt`` gives, tried again while the store is away.

    Raises:
        SearchAborted: it stays away.
    """
    wait, until = POLL_S, time.monotonic() + PATIENCE_S
    while True:
        try:
            return attempt()
        except Exception as error:
            if not is_temporary(error):
                raise
            if time.monotonic() + wait > until:
                raise SearchAborted(_stays_away(error)) from error
        time.sleep(wait)
        wait = min(2 * wait, RETRY_EVERY_S)


def _finish(delivery: BackgroundDelivery) -> None:
    try:
        delivery.finish(PATIENCE_S)
    except NotDelivered as error:
        raise SearchAborted(_stays_away(error.__cause__ or error)) from error


def _stays_away(error: BaseException) -> str:
    return redact_secrets(f"a worker cannot use the tracking store ({failure_reason(error)[:200]})")


def _log_no_outcomes() -> None:
    """Dask logs exceptions as errors; how trials tell their ends is none."""
    logger = logging.getLogger("distributed.worker")
    if _is_no_outcome not in logger.filters:
        logger.addFilter(_is_no_outcome)


def _is_no_outcome(record: logging.LogRecord) -> bool:
    return "Ended()" not in map(str, record.args or ())
