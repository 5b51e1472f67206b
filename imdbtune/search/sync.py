"""Deliver to MLflow what the workspaces of searches and trainings still hold for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from imdbtune.errors import Busy, Deleted, NotDelivered, NotInStore, UserError, short_repr
from imdbtune.search.crash_recovery import (
    close_crashed,
    close_in_store,
    discard_unstarted,
    finish_naming,
)
from imdbtune.search.parent_run import folder_tag
from imdbtune.search.restore import restore_search
from imdbtune.search.workspace import SEARCH, Workspace, list_unnamed_workspaces, list_workspaces
from imdbtune.tracking import reader
from imdbtune.tracking.connection import (
    Notify,
    connect,
    connect_existing,
    hide_secrets,
    is_missing,
    resolve_uri,
)
from imdbtune.tracking.mlflow_names import FOLDER, OPEN
from imdbtune.tracking.outbox_delivery import Publish


@dataclass(frozen=True)
class SyncResult:
    """What was delivered for a search or training.

    Args:
        run_id: empty if MLflow has no run.
        calls: how many calls of MLflow's client were delivered.
        kind: ``search`` or ``training``.
        problem: why nothing could be delivered; empty: all was.
    """

    name: str
    run_id: str
    calls: int
    kind: str = "search"
    problem: str = ""


def sync_folder(
    base: Path,
    search_ref: str | None,
    uri: str,
    notify: Notify,
    publish: Publish,
    restore: bool = False,
) -> list[SyncResult]:
    """Deliver what MLflow lacks of the searches and trainings in a folder.

    The problems of one of several do not keep the others from being delivered.

    Args:
        search_ref: run id or name of a single one; ``None``: all.
        uri: tracking store; empty: the one that the workspace names.
        notify: called with lines for the user.
        publish: writes the page of a search.
        restore: deliver everything of the search again, also what the store has had.

    Raises:
        UserError: there is no such search, or the only one cannot be delivered.
        NotDelivered: the store of the only one does not answer.
        Busy, Deleted: the search named by ``search_ref`` is running, or was deleted.
    """
    if restore and not search_ref:
        raise UserError("--restore needs a search; give its name or run id.")
    unnamed = [w for w in list_unnamed_workspaces(base) if search_ref in (None, w.name)]
    done = [result for workspace in unnamed for result in _sync_unnamed(workspace, uri, notify)]
    chosen = [w for w in list_workspaces(base) if search_ref in (None, w.run_id, w.name)]
    if not chosen and not unnamed:
        removed = _close_removed(base, search_ref, uri, notify)
        if removed is not None:
            return [removed]
        what = f"no search {short_repr(search_ref)}" if search_ref else "no search"
        raise UserError(f"{what} in {base}; run this in the folder in which it was started.")
    for workspace in chosen:
        try:
            done.append(_sync(workspace, uri, notify, publish, restore))
        except (Busy, Deleted) as error:
            if search_ref is not None:
                raise
            notify(str(error))
        except (UserError, NotDelivered) as error:
            if len(chosen) + len(unnamed) == 1:
                raise
            done.append(SyncResult(workspace.name, workspace.run_id, 0, workspace.kind, str(error)))
    return done


def _close_removed(
    base: Path, search_ref: str | None, uri: str, notify: Notify
) -> SyncResult | None:
    """Close a search that was started in ``base`` and whose workspace there was removed."""
    if search_ref is None:
        return None
    try:
        client = connect_existing(uri, notify)
        search = reader.find_search(client, search_ref)
    except UserError:
        return None
    if search.tags.get(FOLDER) != folder_tag(base) or search.status not in OPEN:
        return None
    close_in_store(client, search, "its folder was removed")
    notify(f"search {search.name} (run {search.run_id}) had lost its folder: closed as KILLED.")
    return SyncResult(search.name, search.run_id, 0)


def _sync_unnamed(workspace: Workspace, uri: str, notify: Notify) -> list[SyncResult]:
    """Name or delete a workspace without its final name; return its problem if there is one."""
    name, kind = workspace.name, workspace.kind
    store = uri or workspace.about.get("store", "")
    try:
        if is_missing(store):
            with workspace.locked():
                discard_unstarted(workspace, notify)
        else:
            client = connect_existing(store, notify)
            finish_naming(client, workspace, notify, is_its_store=bool(store))
    except Busy as error:
        notify(str(error))
    except UserError as error:
        return [SyncResult(name, "", 0, kind, str(error))]
    return []


def _sync(
    workspace: Workspace, uri: str, notify: Notify, publish: Publish, restore: bool
) -> SyncResult:
    name, kind = workspace.name, workspace.kind
    with workspace.locked():
        store = uri or workspace.about.get("store", "")
        if restore:
            client = connect(resolve_uri(store), notify)
            workspace = restore_search(client, workspace, notify)
            workspace.describe(name, str(client.tracking_uri), kind)
        elif workspace.outbox.is_empty() and not workspace.outbox.is_open(workspace.run_id):
            return SyncResult(name, workspace.run_id, 0, kind)
        else:
            client = connect_existing(store, notify)
        if not reader.run_exists(client, workspace.run_id):
            raise NotInStore(
                f"{kind} {name!r} (run {workspace.run_id}) is not in "
                f"{hide_secrets(str(client.tracking_uri))}; name its store with --tracking-uri.",
                workspace.run_id,
            )
        reader.check_not_deleted(client, workspace.run_id, f"{kind} {name!r}")
        calls = close_crashed(client, workspace, notify, publish)
        return SyncResult(name, workspace.run_id, calls, kind)


def explain_missing(base: Path, error: NotInStore, uri: str) -> str:
    """Return how to bring back a search that is in a workspace, but not in the store; or nothing.

    Args:
        base: the folder of the workspaces.
        error: names the search.
        uri: the store that does not have it, as for ``resolve_uri``.
    """
    for workspace in list_workspaces(base):
        known = error.reference in ("", workspace.name, workspace.run_id)
        if not known or workspace.kind != SEARCH:
            continue
        store = workspace.about.get("store", "")
        if store not in ("", resolve_uri(uri)):
            return f" Search {workspace.name!r} of this folder is in {store}."
        return (
            f" If the store has lost search {workspace.name!r}, write it anew from this folder: "
            f"imdbtune sync {workspace.run_id} --restore"
        )
    return ""
