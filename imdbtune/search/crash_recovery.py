"""What processes that have died have left open in MLflow, and in their folders here."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from imdbtune.cluster.local_executor import await_workers
from imdbtune.errors import Busy, SearchAborted, UserError
from imdbtune.search.resume import CRASHED, stored_config
from imdbtune.search.workspace import (
    NEW,
    TRAINING,
    Workspace,
    list_unnamed_workspaces,
    list_workspaces,
)
from imdbtune.tracking import reader
from imdbtune.tracking.background_delivery import BackgroundDelivery
from imdbtune.tracking.outbox_delivery import Publish
from imdbtune.tracking.writer import OPEN, Run

if TYPE_CHECKING:
    from imdbtune.tracking.connection import MlflowClient

Say = Callable[[str], None]


def recover_crashed_runs(client: MlflowClient, base: Path, say: Say) -> None:
    """Settle what died here while it used this store, but for searches that can go on.

    Those that died while their run was made get their final names. Trainings cannot go on: they
    are closed as KILLED, and their folders go away.
    """
    for workspace in list_unnamed_workspaces(base):
        with contextlib.suppress(Busy):
            name_new(client, workspace, say)
    for workspace in list_workspaces(base):
        if workspace.kind != TRAINING or workspace.about.get("store") not in (
            "",
            client.tracking_uri,
        ):
            continue
        if reader.run_exists(client, workspace.run_id):
            with contextlib.suppress(SearchAborted), workspace.locked():
                settle(client, workspace, say)


def name_new(
    client: MlflowClient, workspace: Workspace, say: Say, is_its_store: bool = False
) -> None:
    """Give the folder of what died while its run was made its final name, or take it away.

    Args:
        is_its_store: whether it is known that the run would be there; else as the folder notes.

    Raises:
        Busy: it has not died.
    """
    with workspace.locked():
        run_id = reader.find_run(client, workspace.folder.name.removeprefix(NEW))
        if run_id:
            workspace.renamed(run_id)
        elif (
            is_its_store or workspace.about.get("store", client.tracking_uri) == client.tracking_uri
        ):
            forget(workspace, say)


def forget(workspace: Workspace, say: Say) -> None:
    """Take away the folder of what died before MLflow had a run of it, which has done nothing."""
    say(
        f"{workspace.kind} {workspace.name} was cut off before MLflow had a run "
        "of it: nothing is missing."
    )
    workspace.discard()


def settle(
    client: MlflowClient, workspace: Workspace, say: Say, publish: Publish | None = None
) -> int:
    """Close as KILLED what has no driver any more, and deliver; return the number of calls made.

    Only for the holder of the workspace's lock: whoever can take it knows that no driver lives.
    ``publish`` writes the page of a search; trainings need none.

    Raises:
        NotDelivered: the store has not got all.
        SearchAborted: a worker lives on.
    """
    kind, name = workspace.kind, workspace.name
    delivery = BackgroundDelivery(
        client, workspace.outbox, workspace.run_id, None, say, publish=publish
    )
    if workspace.outbox.is_open(workspace.run_id):
        await_workers(workspace.folder)
        for key in workspace.outbox.open_runs():
            if key != workspace.run_id:
                Run(workspace.outbox, key).end("KILLED", CRASHED)
        delivery.finish()
        # One that ended on a full disk may have said so to the store alone.
        if client.get_run(workspace.run_id).info.status in OPEN:
            Run(workspace.outbox, workspace.run_id).end("KILLED", CRASHED)
            if kind != TRAINING:
                _publish(client, workspace)
            say(f"{kind} {name} (run {workspace.run_id}) was cut off: closed as KILLED.")
    delivery.finish()
    if kind == TRAINING:
        workspace.discard()
    return delivery.delivered


def _publish(client: MlflowClient, workspace: Workspace) -> None:
    """Let the page of a search show its end, if it is known what to show."""
    with contextlib.suppress(UserError):
        config = stored_config(client, reader.find_search(client, workspace.run_id))
        workspace.outbox.publish(
            workspace.run_id, [d.name for d in config.space.searched] or ["rnn"], False
        )
