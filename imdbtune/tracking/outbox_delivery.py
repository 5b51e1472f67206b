"""Delivers the calls in an outbox to MLflow.

Each call may be made twice, after a crash or where an answer was lost, with the same result as
once: runs are found by their key, models by their run, and MLflow itself keeps only one of two
metrics with the same time, step and value.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from imdbtune.errors import Deleted
from imdbtune.files import is_disk_full
from imdbtune.tracking import mlflow_names, reader
from imdbtune.tracking.connection import from_requests
from imdbtune.tracking.logged_models import upload_model
from imdbtune.tracking.outbox import Call, DeliveryState, Outbox

if TYPE_CHECKING:
    from mlflow import MlflowClient


class Publish(Protocol):
    """Writes the page of a search from what MLflow has of its trials."""

    def __call__(
        self, client: MlflowClient, run_id: str, varied: Sequence[str], report: bool, final: bool
    ) -> None:
        """Write the page.

        Args:
            client: of the tracking store.
            run_id: of the search.
            varied: the hyperparameters that the search varies.
            report: also write the report and its figures.
            final: also write the table and the figure with all curves.
        """


# The largest number of each in one request, by MLflow's limits (1,000 in total).
IN_A_BATCH = {"metrics": 800, "params": 100, "tags": 100}
IN_ANY_ORDER = {"log_batch", "log_inputs", "log_text", "log_artifacts"}


@dataclass
class DeliveryCache:
    """What a process remembers from one delivery of an outbox to the next, to ask MLflow less.

    Args:
        sizes: of the files of calls, as far as they have been delivered.
        doubtful: keys of runs that MLflow may have, although no answer said so: those of an
            earlier process, and those whose answer was lost.
    """

    sizes: dict[str, int] = field(default_factory=dict)
    doubtful: set[str] = field(default_factory=set)

    @classmethod
    def at_start(cls, outbox: Outbox) -> DeliveryCache:
        """Return the cache of a new process: an earlier one may have delivered anything."""
        return cls(doubtful={*outbox.sizes()})


def deliver(
    client: MlflowClient,
    outbox: Outbox,
    parent: str,
    cache: DeliveryCache,
    on_deleted: Callable[[str], None] = lambda run_id: None,
    publish: Publish | None = None,
) -> int:
    """Make all calls that have not been made, those of ``parent`` last; return their number.

    The calls of a run that somebody has deleted in MLflow wait until it is restored.

    Args:
        client: of the tracking store.
        outbox: where the calls are.
        parent: run id of the search.
        cache: the same object in each delivery of a process.
        on_deleted: called with the id of each run that was deleted.
        publish: writes the page of a search; needed where the outbox has such a call.

    Raises:
        Deleted: the run of ``parent`` was deleted.
    """
    refused: Exception | None = None
    count = 0
    # Deliver the parent's calls of now only after its trials' earlier ones.
    parent_size = outbox.size(parent)
    trials = sorted(item for item in outbox.sizes().items() if item[0] != parent)
    for key, size in [*trials, (parent, parent_size)]:
        if cache.sizes.get(key) == size or (key == parent and refused):
            continue
        try:
            count += _deliver_run(client, outbox, key, size, cache, publish)
            cache.sizes[key] = size
        except Exception as error:
            cache.doubtful.add(key)
            if not is_refusal(error):
                raise
            run_id = outbox.delivered(key).run_id or (key if key.isalnum() else "")
            if not run_id or not reader.is_deleted(client, run_id):
                refused = refused or error
            elif key == parent:
                raise Deleted(f"its run {run_id} was deleted in MLflow") from error
            else:
                cache.sizes[key] = size
                on_deleted(run_id)
    if refused:
        raise refused
    return count


def _deliver_run(
    client: MlflowClient,
    outbox: Outbox,
    key: str,
    size: int,
    cache: DeliveryCache,
    publish: Publish | None,
) -> int:
    """Make the calls of one run in the first ``size`` bytes of its file; return their number."""
    state = before = outbox.delivered(key)
    count, spent = 0, []
    is_open = False  # whether the run was created just now, so that nobody else has ended it
    calls = ((call, end) for call, end in outbox.pending_calls(key, state) if end <= size)
    try:
        for group, offset in _groups(calls):
            for call in group:
                if call["call"] == "create_run":
                    is_open = key not in cache.doubtful
                    state = replace(state, run_id=create_run(client, key, call, not is_open))
                elif call["call"] == "set_terminated" and not state.killed:
                    killed = _set_terminated(client, state.run_id or key, call, is_open)
                    is_open = False
                    state = replace(state, killed=killed and state.run_id != "")
                elif not state.killed:
                    _make_call(client, state.run_id or key, call, outbox.folder / key, publish)
                count += 1
            state = replace(state, offset=offset)
            spent += [outbox.folder / key / call["folder"] for call in group if "folder" in call]
    finally:
        if state != before and _save_state(outbox, key, state):
            for folder in spent:
                shutil.rmtree(folder, ignore_errors=True)
    return count


def _groups(calls: Iterable[tuple[Call, int]]) -> Iterator[tuple[list[Call], int]]:
    """Group calls whose order does not matter; each group comes with the offset after it."""
    group: list[Call] = []
    end = 0
    for call, offset in calls:
        if group and not {group[-1]["call"], call["call"]} <= IN_ANY_ORDER:
            yield _merge_batches(group), end
            group = []
        group.append(call)
        end = offset
    if group:
        yield _merge_batches(group), end


def _merge_batches(group: Iterable[Call]) -> list[Call]:
    """Merge the batches of a group: a request takes as long for one value as for a hundred."""
    merged: list[Call] = []
    batch: Call | None = None
    for call in group:
        if call["call"] != "log_batch":
            merged.append(call)
        elif batch is not None and _can_merge(batch, call):
            for name in IN_A_BATCH:
                batch[name] += call[name]
        else:
            batch = call
            merged.append(call)
    return merged


def _can_merge(first: Call, second: Call) -> bool:
    """Return whether MLflow takes both batches as one: no name twice, and not too many values."""
    for name, most in IN_A_BATCH.items():
        if len(first[name]) + len(second[name]) > most:
            return False
    return not any(
        {key for key, *_ in first[name]} & {key for key, *_ in second[name]}
        for name in ("params", "tags")
    )


def _save_state(outbox: Outbox, key: str, state: DeliveryState) -> bool:
    """Return whether the progress could be saved; on a full disk the calls are made again later."""
    try:
        outbox.note(key, state)
    except OSError as error:
        if not is_disk_full(error):
            raise
        return False
    return True


def create_run(client: MlflowClient, key: str, call: Call, may_exist: bool) -> str:
    """Return the id of the run with this key, which is created if need be."""
    experiment = call["experiment_id"]
    if may_exist:
        found = client.search_runs(
            [experiment], f"tags.`{mlflow_names.KEY}` = '{key}'", max_results=1
        )
        if found:
            return str(found[0].info.run_id)
    tags = {**call["tags"], mlflow_names.KEY: key}
    created = client.create_run(experiment, call["start_time"], tags, call["run_name"])
    return str(created.info.run_id)


def _make_call(
    client: MlflowClient, run_id: str, call: Call, folder: Path, publish: Publish | None
) -> None:
    """Make a call that neither creates nor ends a run; ``folder`` holds the files of the calls."""
    match call["call"]:
        case "log_batch":
            _log_batch(client, run_id, call)
        case "log_inputs":
            _log_inputs(client, run_id, call["datasets"])
        case "log_text":
            client.log_text(run_id, call["text"], call["artifact_file"])
        case "log_artifacts":
            client.log_artifacts(run_id, str(folder / call["folder"]))
        case "log_model":
            upload_model(client, run_id, folder / call["folder"])
        case "reopen":
            reopen(client, run_id)
        case "publish":
            if publish is None:
                raise ValueError("the outbox has a page to publish, and nothing to do it with")
            publish(client, run_id, call["varied"], call["report"], final=True)


def _log_batch(client: MlflowClient, run_id: str, call: Call) -> None:
    from mlflow.entities import Metric, Param, RunTag

    client.log_batch(
        run_id,
        metrics=[Metric(*metric) for metric in call["metrics"]],
        params=[Param(*param) for param in call["params"]],
        tags=[RunTag(*tag) for tag in call["tags"]],
    )


def _log_inputs(
    client: MlflowClient, run_id: str, datasets: Sequence[tuple[dict[str, str], dict[str, str]]]
) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    inputs = [
        DatasetInput(Dataset(**facts), [InputTag(*tag) for tag in tags.items()])
        for facts, tags in datasets
    ]
    client.log_inputs(run_id, inputs)


def reopen(client: MlflowClient, run_id: str) -> None:
    """Mark a run as RUNNING again that has ended, or was left open by a crash."""
    if mlflow_names.REASON in client.get_run(run_id).data.tags:
        client.delete_tag(run_id, mlflow_names.REASON)
    client.update_run(run_id, status="RUNNING")


def _set_terminated(client: MlflowClient, run_id: str, call: Call, is_open: bool) -> bool:
    """End a run, unless it has ended: an earlier delivery or a remote worker may have done so.

    Returns:
        Whether the run was ended from outside, so that its process has lost it.
    """
    if call.get("told"):  # by a remote worker
        return False
    run = None if is_open else client.get_run(run_id)
    if run is None or run.info.status in mlflow_names.OPEN:
        client.set_terminated(run_id, call["status"], call["end_time"])
        pruned_after = call.get("pruned_after", 0)
    elif run.info.status == "FINISHED":
        if mlflow_names.REASON in run.data.tags:
            client.delete_tag(run_id, mlflow_names.REASON)  # why it would have been ended
        return False
    elif run.info.end_time == call["end_time"]:  # by an earlier delivery of this call
        pruned_after = call.get("pruned_after", 0)
    else:
        pruned_after = mlflow_names.pruned_after(run.data.tags)
    _tag_pruned(client, run_id, pruned_after)
    return bool(call["status"] == "KILLED" and not pruned_after)


def _tag_pruned(client: MlflowClient, run_id: str, after: int) -> None:
    """Tag a KILLED run as pruned after an epoch or a fold, unless that is 0.

    The tags come after the status: a run that a crash leaves open must not look pruned when it is
    closed. They come again where a run was to be ended once more, which has replaced its reason.
    """
    if after:
        folds = mlflow_names.folds_of(client.get_run(run_id).data.tags)
        client.set_tag(run_id, mlflow_names.PRUNED, str(after))
        client.set_tag(run_id, mlflow_names.REASON, mlflow_names.pruned_reason(after, folds))


def is_refusal(error: Exception) -> bool:
    """Return whether the store refuses a call for good, as for a run that was deleted."""
    from mlflow.exceptions import MlflowException

    return isinstance(error, MlflowException) and error.get_http_status_code() in (400, 404, 409)


def is_temporary(error: Exception) -> bool:
    """Return whether a retry may succeed: no answer, a passing failure, or a locked database."""
    from mlflow.exceptions import MlflowException

    expected = (MlflowException, ConnectionError, TimeoutError)
    locked = any(isinstance(e, sqlite3.OperationalError) for e in (error, error.__cause__))
    later = isinstance(error, expected) or from_requests(error) or locked
    return later and not is_refusal(error)
