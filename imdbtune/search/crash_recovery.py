"""Recover runs left open by crashed processes, in MLflow and in their workspaces."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from imdbtune.cluster.local_executor import await_workers
from imdbtune.errors import Busy, SearchAborted, UserError
from imdbtune.search.resume import CONFIG, CRASHED, stored_config
from imdbtune.search.workspace import (
    NEW,
    TRAINING,
    Workspace,
    list_unnamed_workspaces,
    list_workspaces,
)
from imdbtune.tracking import reader
from imdbtune.tracking.background_delivery import BackgroundDelivery
from imdbtune.tracking.connection import Notify
from imdbtune.tracking.entities import Search
from imdbtune.tracking.mlflow_names import OPEN
from imdbtune.tracking.outbox_delivery import Publish
from imdbtune.tracking.writer import Run

if TYPE_CHECKING:
    from imdbtune.tracking.connection import MlflowClient


def recover_crashed_runs(client: MlflowClient, base: Path, notify: Notify) -> None:
    """Recover the crashed runs of a store that have their workspaces in ``base``.

    Trainings cannot be resumed: they are closed as KILLED and their workspaces are deleted.
    Searches can, and stay as they are. Workspaces of processes that crashed while MLflow created
    their run get their final names.

    Args:
        notify: called with one line about each recovered run.
    """
    for workspace in list_unnamed_workspaces(base):
        with contextlib.suppress(Busy):
            finish_naming(client, workspace, notify)
    for workspace in list_workspaces(base):
        if workspace.kind != TRAINING or workspace.about.get("store") not in (
            "",
            client.tracking_uri,
        ):
            continue
        if reader.run_exists(client, workspace.run_id):
            with contextlib.suppress(SearchAborted), workspace.locked():
                close_crashed(client, workspace, notify)


def finish_naming(
    client: MlflowClient, workspace: Workspace, notify: Notify, is_its_store: bool = False
) -> None:
    """Give a workspace its final name if MLflow has its run; else delete it.

    Args:
        is_its_store: whether the run is known to belong to this store; if not, the workspace is
            deleted only if it names this store or was never described.

    Raises:
        Busy: its process is alive.
    """
    with workspace.locked():
        run_id = reader.find_run(client, workspace.folder.name.removeprefix(NEW))
        if run_id:
            workspace.renamed(run_id)
        elif (
            is_its_store or workspace.about.get("store", client.tracking_uri) == client.tracking_uri
        ):
            discard_unstarted(workspace, notify)


def discard_unstarted(workspace: Workspace, notify: Notify) -> None:
    """Delete the workspace of a process that crashed before MLflow had its run."""
    notify(
        f"{workspace.kind} {workspace.name} crashed before its run was created in MLflow: "
        "nothing is missing."
    )
    workspace.discard()


def close_crashed(
    client: MlflowClient, workspace: Workspace, notify: Notify, publish: Publish | None = None
) -> int:
    """Close the open runs of a crashed process as KILLED, and deliver its outbox.

    The caller must hold the workspace's lock, which shows that the driver is dead.

    Args:
        publish: writes the page of a search; trainings have none.

    Returns:
        How many calls of MLflow's client were delivered.

    Raises:
        NotDelivered: the store has not received all of them.
        SearchAborted: a worker process of the driver is alive.
    """
    kind, name = workspace.kind, workspace.name
    delivery = BackgroundDelivery(
        client, workspace.outbox, workspace.run_id, None, notify, publish=publish
    )
    if workspace.outbox.is_open(workspace.run_id):
        stop_crashed_trials(workspace, delivery)
        # A run that ended because the disk was full may be closed in MLflow only.
        if client.get_run(workspace.run_id).info.status in OPEN:
            Run(workspace.outbox, workspace.run_id).end("KILLED", CRASHED)
            if kind != TRAINING:
                _publish(client, workspace)
            notify(f"{kind} {name} (run {workspace.run_id}) had crashed: closed as KILLED.")
    delivery.finish()
    if kind == TRAINING:
        workspace.discard()
    return delivery.delivered


def stop_crashed_trials(workspace: Workspace, delivery: BackgroundDelivery) -> None:
    """Close the open trials of a crashed driver as KILLED, and deliver what it has left.

    The caller must hold the workspace's lock.

    Raises:
        NotDelivered: the store has not received all of it.
        SearchAborted: a worker process of the driver is alive.
    """
    await_workers(workspace.folder)
    for key in workspace.outbox.open_runs():
        if key != workspace.run_id:
            Run(workspace.outbox, key).end("KILLED", CRASHED)
    delivery.finish()


@contextlib.contextmanager
def close_if_removed(client: MlflowClient, search: Search, workspace: Workspace) -> Iterator[None]:
    """Close the runs of a search in MLflow alone if its workspace is removed in the block."""
    try:
        yield
    except BaseException as error:
        if workspace.is_removed():
            close_in_store(client, search, str(error))
            workspace.discard()
        raise


def close_in_store(client: MlflowClient, search: Search, reason: str) -> None:
    """Close a search and its open trials and baselines in MLflow; their workspace is gone."""
    trials = reader.read_trials(client, search)
    baselines = reader.read_baselines(client, search)
    states = {run.run_id: run.status for run in trials}
    states |= {run.run_id: run.status for run in baselines}
    for run_id, status in states.items():
        if status in OPEN:
            Run(client, run_id).end("KILLED", reason)
    if client.get_run(search.run_id).info.status in OPEN:
        Run(client, search.run_id).end("KILLED", reason)


def _publish(client: MlflowClient, workspace: Workspace) -> None:
    """Update the page of a search in MLflow, if its configuration can be read."""
    with contextlib.suppress(UserError):
        search = reader.find_search(client, workspace.run_id)
        config = stored_config(client, search, workspace.outbox)
        workspace.outbox.publish(workspace.run_id, config.space.varied, False)


def report_removed_files(
    client: MlflowClient, search: Search, folder: Path, notify: Notify
) -> None:
    """Report it if the files that a search logged first are gone, and so later ones may be.

    Args:
        folder: of the search, with what can be written anew.
    """
    try:
        files = client.list_artifacts(search.run_id)
    except Exception:  # of a store of artifacts that can be written, but not listed
        return
    if not any(file.path == CONFIG for file in files):
        notify(
            "files that MLflow had of this search were removed while it ran; write anew what is "
            f"still in {folder} with: imdbtune sync {search.run_id} --restore"
        )
