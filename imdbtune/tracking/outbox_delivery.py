"""Brings what lies in an outbox to MLflow.

Each call may be made twice, after a crash or where an answer was lost, and comes out as if it had
been made once: runs are found by their key, models by their run, and MLflow itself keeps a metric
with the same time, step and value once. Runs that have ended by then go to an SQLite store many at
once (:mod:`imdbtune.tracking.ended_runs`).
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imdbtune.errors import Deleted
from imdbtune.files import is_disk_full
from imdbtune.tracking import reader, writer
from imdbtune.tracking.connection import from_requests
from imdbtune.tracking.ended_runs import EndedRun, write_runs
from imdbtune.tracking.outbox import Call, DeliveryState, Outbox, age_s
from imdbtune.tracking.sqlite_reader import runs_of, sqlite_runs

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import RunInfo


# The most of each that goes in one request, by MLflow's limits (1,000 of all).
IN_A_BATCH = {"metrics": 800, "params": 100, "tags": 100}
# Runs in one transaction: others who write wait for it.
AT_ONCE = 50
IN_ANY_ORDER = {"log_batch", "log_inputs", "log_text", "log_artifacts"}


@dataclass
class DeliveryCache:
    """What a process keeps in mind from one delivery of an outbox to the next, to ask MLflow less.

    Args:
        sizes: of the files of calls, as far as they have been read.
        doubtful: keys of runs that MLflow may have, though nothing was heard of it: those of an
            earlier process, and those about which an answer did not come.
        places: where the files of runs go that were made here and have not ended.
        alone: nobody else ends the runs that are made here.
    """

    sizes: dict[str, int] = field(default_factory=dict)
    doubtful: set[str] = field(default_factory=set)
    places: dict[str, str] = field(default_factory=dict)
    alone: bool = True

    @classmethod
    def at_start(cls, outbox: Outbox, alone: bool = True) -> DeliveryCache:
        """At the start of a process: all that is there may have been delivered."""
        return cls(doubtful={*outbox.sizes()}, alone=alone)


def deliver(
    client: MlflowClient,
    outbox: Outbox,
    parent: str,
    memory: DeliveryCache,
    deleted: Callable[[str], None] = lambda run_id: None,
    young_s: float = 0.0,
) -> int:
    """Make all calls that have not been made, those of ``parent`` last; returns how many.

    The calls of a run that somebody has deleted in MLflow wait for it to be brought back.

    Args:
        client: of the store.
        outbox: where the calls are.
        parent: run id of the search.
        memory: to be kept from call to call.
        deleted: called with the id of each run that was deleted.
        young_s: runs that began less than so many seconds ago are left for later, as far as MLflow
            has not heard of them: most that are short have ended by then, and go at once.

    Raises:
        Deleted: the run of ``parent`` was.
        sqlite3.OperationalError: an SQLite store is locked, full or damaged.
    """
    refused: Exception | None = None
    waits = False  # the parent, for a run that is left
    # What the parent has been told by now waits for all that its trials were told before.
    until = outbox.size(parent)
    sizes = sorted(outbox.sizes().items())
    made = _deliver_ended(client, outbox, dict(sizes), memory)
    for key, size in [*(item for item in sizes if item[0] != parent), (parent, until)]:
        if memory.sizes.get(key) == size or (key == parent and (refused or waits)):
            continue
        if key not in memory.sizes and key not in memory.doubtful and 0 <= age_s(key) < young_s:
            waits = True
            continue
        try:
            made += _deliver_run(client, outbox, key, size, memory)
            memory.sizes[key] = size
        except Exception as error:
            memory.doubtful.add(key)
            if not is_refusal(error):
                raise
            run_id = outbox.delivered(key).run_id or (key if key.isalnum() else "")
            if not run_id or not reader.is_deleted(client, run_id):
                refused = refused or error
            elif key == parent:
                raise Deleted(f"its run {run_id} was deleted in MLflow") from error
            else:
                memory.sizes[key] = size
                deleted(run_id)
    if refused:
        raise refused
    return made


def _deliver_ended(
    client: MlflowClient, outbox: Outbox, sizes: dict[str, int], memory: DeliveryCache
) -> int:
    """Runs that have ended and of which nothing was delivered, as far as they can go at once."""
    waiting = sorted(sizes.keys() - memory.sizes.keys())
    store = sqlite_runs(str(client.tracking_uri)) if waiting else None
    if store is None:
        return 0
    made = 0
    for first in range(0, len(waiting), AT_ONCE):
        runs = _ended(outbox, waiting[first : first + AT_ONCE], sizes)
        written = write_runs(store, runs) if runs else {}
        memory.doubtful |= written.keys()  # until it is noted that they are there
        for key, (run_id, place) in written.items():
            for name in runs[key].folders:
                _bring_files(client, place, outbox.folder / key / name)
            state = DeliveryState(run_id, sizes[key], killed=runs[key].status == "KILLED")
            if _noted(outbox, key, state):
                _remove(outbox, key, runs[key].folders)
            memory.sizes[key] = sizes[key]
            memory.doubtful.discard(key)
            made += runs[key].calls
    return made


def _ended(outbox: Outbox, keys: Iterable[str], sizes: dict[str, int]) -> dict[str, EndedRun]:
    runs = {}
    for key in keys:
        if outbox.delivered(key) == DeliveryState():
            calls = [
                call
                for call, end in outbox.pending_calls(key, DeliveryState())
                if end <= sizes[key]
            ]
            run = EndedRun.of(calls)
            if run is not None:
                runs[key] = run
    return runs


def _deliver_run(
    client: MlflowClient, outbox: Outbox, key: str, size: int, memory: DeliveryCache
) -> int:
    state = before = outbox.delivered(key)
    made, spent = 0, []
    calls = ((call, end) for call, end in outbox.pending_calls(key, state) if end <= size)
    try:
        for group, offset in _groups(calls):
            for call in group:
                if not state.killed:
                    state = _make(client, outbox, key, state, call, memory)
                made += 1
            state = replace(state, offset=offset)
            spent += [call["folder"] for call in group if "folder" in call]
    finally:
        if state != before and _noted(outbox, key, state):
            _remove(outbox, key, spent)
    return made


def _remove(outbox: Outbox, key: str, folders: Iterable[str]) -> None:
    """Delete folders whose files have been delivered."""
    for name in folders:
        shutil.rmtree(outbox.folder / key / name, ignore_errors=True)


def _groups(calls: Iterable[tuple[Call, int]]) -> Iterator[tuple[list[Call], int]]:
    """Calls whose order says nothing come together, each group with the offset after it."""
    group: list[Call] = []
    end = 0
    for call, offset in calls:
        if group and not {group[-1]["call"], call["call"]} <= IN_ANY_ORDER:
            yield _joined(group), end
            group = []
        group.append(call)
        end = offset
    if group:
        yield _joined(group), end


def _joined(group: Iterable[Call]) -> list[Call]:
    """Their batches as one: a request takes as long for one value as for a hundred."""
    joined: list[Call] = []
    batch: Call | None = None
    for call in group:
        if call["call"] != "log_batch":
            joined.append(call)
        elif batch is not None and _go_together(batch, call):
            for name in IN_A_BATCH:
                batch[name] += call[name]
        else:
            batch = call
            joined.append(call)
    return joined


def _go_together(first: Call, second: Call) -> bool:
    """Whether MLflow takes both batches as one: no name twice, and not too many."""
    for name, most in IN_A_BATCH.items():
        if len(first[name]) + len(second[name]) > most:
            return False
    return not any(
        {key for key, *_ in first[name]} & {key for key, *_ in second[name]}
        for name in ("params", "tags")
    )


def _noted(outbox: Outbox, key: str, state: DeliveryState) -> bool:
    """Note how far it is, where there is room for that; else the calls are made again later."""
    try:
        outbox.note(key, state)
    except OSError as error:
        if not is_disk_full(error):
            raise
        return False
    return True


def _make(
    client: MlflowClient,
    outbox: Outbox,
    key: str,
    state: DeliveryState,
    call: Call,
    memory: DeliveryCache,
) -> DeliveryState:
    is_new = key not in memory.doubtful
    if call["call"] == "create_run":
        info = _create_run(client, key, call, is_new)
        memory.places[info.run_id] = info.artifact_uri
        return replace(state, run_id=str(info.run_id))
    run_id = state.run_id or key
    arguments = {name: value for name, value in call.items() if name != "call"}
    if "folder" in arguments:
        arguments["folder"] = outbox.folder / key / call["folder"]
    if call["call"] == "log_artifacts":
        arguments["place"] = memory.places.get(run_id)
    if call["call"] == "set_terminated":
        arguments["is_open"] = is_new and memory.alone
        memory.places.pop(run_id, None)
    _CALLS[call["call"]](client, run_id, **arguments)
    ended = call["call"] == "set_terminated" and call["status"] == "KILLED"
    return replace(state, killed=ended and bool(state.run_id))


def _create_run(client: MlflowClient, key: str, call: Call, is_new: bool) -> RunInfo:
    """The run with this key, which is made if there is none."""
    experiment = call["experiment_id"]
    if not is_new:
        found = client.search_runs([experiment], f"tags.`{writer.KEY}` = '{key}'", max_results=1)
        if found:
            return found[0].info
    about = {name: call[name] for name in ("start_time", "run_name")}
    return client.create_run(experiment, tags={**call["tags"], writer.KEY: key}, **about).info


def _log_batch(client: MlflowClient, run_id: str, metrics: Any, params: Any, tags: Any) -> None:
    from mlflow.entities import Metric, Param, RunTag

    client.log_batch(
        run_id,
        metrics=[Metric(*metric) for metric in metrics],
        params=[Param(*param) for param in params],
        tags=[RunTag(*tag) for tag in tags],
    )


def _log_inputs(client: MlflowClient, run_id: str, datasets: Any) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    inputs = [
        DatasetInput(Dataset(**facts), [InputTag(*tag) for tag in tags.items()])
        for facts, tags in datasets
    ]
    client.log_inputs(run_id, inputs)


def _log_text(client: MlflowClient, run_id: str, text: str, artifact_file: str) -> None:
    client.log_text(run_id, text, artifact_file)


def _log_artifacts(client: MlflowClient, run_id: str, folder: Path, place: str | None) -> None:
    """The files of a folder; where the ``place`` is known, MLflow need not read the run for it."""
    if not folder.exists():
        return  # moved, and cut short before that was noted
    _bring_files(client, place or client.get_run(run_id).info.artifact_uri, folder)


def _bring_files(client: MlflowClient, place: str, folder: Path) -> None:
    """The files of a folder to where a run's are.

    The folder itself is moved there where MLflow keeps files on the same disk, and has none of this
    run: to copy them, and to remove them here, is half of what a run costs that is written at once.
    """
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    files = writer.artifact_repository(client, place)
    if isinstance(files, LocalArtifactRepository) and not os.path.lexists(files.artifact_dir):
        target = Path(files.artifact_dir)
        with suppress(OSError):  # such as another disk: then they are copied
            target.parent.mkdir(parents=True, exist_ok=True)
            rights = target.parent.stat().st_mode  # those of new folders; this one was private
            folder.chmod(stat.S_IMODE(rights))
            folder.rename(target)
            return
    files.log_artifacts(str(folder))


def _set_terminated(
    client: MlflowClient,
    run_id: str,
    status: str,
    end_time: int,
    is_open: bool,
    told: bool = False,
) -> None:
    """What has ended stays so: its end may have been heard of, or told by a worker elsewhere.

    Where it is known to be open, or to have been told, MLflow is not asked.
    """
    if told:
        return
    run = None if is_open else client.get_run(run_id)
    if run is None or run.info.status in writer.OPEN:
        client.set_terminated(run_id, status, end_time)
    elif run.info.status == "FINISHED" and writer.REASON in run.data.tags:
        client.delete_tag(run_id, writer.REASON)  # why it would have been ended


def _reopen(client: MlflowClient, run_id: str) -> None:
    writer.Run(client, run_id).reopen()


def publish_page(
    client: MlflowClient, run_id: str, varied: list[str], report: bool = False, final: bool = True
) -> None:
    """The page of a search, from what MLflow has of its trials."""
    from imdbtune.report.leaderboard import publish

    publish(client, reader.find_search(runs_of(client), run_id), varied, final, report)


_CALLS: dict[str, Callable[..., None]] = {
    "log_batch": _log_batch,
    "log_inputs": _log_inputs,
    "log_text": _log_text,
    "log_artifacts": _log_artifacts,
    "log_model": writer.upload_model,
    "set_terminated": _set_terminated,
    "reopen": _reopen,
    "publish": publish_page,
}


def is_refusal(error: Exception) -> bool:
    """Whether the store has answered that it will never do so, as of a run that was deleted."""
    from mlflow.exceptions import MlflowException

    return isinstance(error, MlflowException) and error.get_http_status_code() in (400, 404, 409)


def is_temporary(error: Exception) -> bool:
    """Whether it may go better later: no answer, an answer that says so, or a locked database."""
    from mlflow.exceptions import MlflowException

    expected = (MlflowException, ConnectionError, TimeoutError)
    locked = any(isinstance(e, sqlite3.OperationalError) for e in (error, error.__cause__))
    later = isinstance(error, expected) or from_requests(error) or locked
    return later and not is_refusal(error)
