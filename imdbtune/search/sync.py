"""Brings into MLflow what the folders of searches and trainings still have for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from imdbtune.errors import Busy, Deleted, NotDelivered, UserError, short_repr
from imdbtune.search.crash_recovery import Say, forget, name_new, settle
from imdbtune.search.workspace import Workspace, list_unnamed_workspaces, list_workspaces
from imdbtune.tracking import reader
from imdbtune.tracking.connection import connect_existing, hide_secrets, is_missing
from imdbtune.tracking.outbox_delivery import Publish


@dataclass(frozen=True)
class Synced:
    """What was done for a search or training: how many calls were made, or why none could be."""

    name: str
    run_id: str
    calls: int
    kind: str = "search"
    problem: str = ""


def sync_folder(
    base: Path, search_ref: str | None, uri: str, say: Say, publish: Publish
) -> list[Synced]:
    """Deliver what MLflow lacks of the searches in a folder, as :func:`imdbtune.api.sync` says.

    A search that fails does not hold up the others. ``publish`` writes the page of a search.
    """
    begun = [
        workspace
        for workspace in list_unnamed_workspaces(base)
        if search_ref in (None, workspace.name)
    ]
    done = [made for workspace in begun for made in _try_new(workspace, uri, say)]
    chosen = [
        workspace
        for workspace in list_workspaces(base)
        if search_ref in (None, workspace.run_id, workspace.name)
    ]
    if not chosen and not begun:
        what = f"no search {short_repr(search_ref)}" if search_ref else "no search"
        raise UserError(f"{what} in {base}; run this in the folder in which it was begun.")
    for workspace in chosen:
        try:
            done.append(_sync(workspace, uri, say, publish))
        except (Busy, Deleted) as error:
            if search_ref is not None:
                raise
            say(str(error))
        except (UserError, NotDelivered) as error:
            if len(chosen) + len(begun) == 1:
                raise
            done.append(Synced(workspace.name, workspace.run_id, 0, workspace.kind, str(error)))
    return done


def _try_new(workspace: Workspace, uri: str, say: Say) -> list[Synced]:
    """Settle what died before it knew of its run; it has no result yet, but may have a problem."""
    name, kind = workspace.name, workspace.kind
    store = uri or workspace.about.get("store", "")
    try:
        if is_missing(store):
            with workspace.locked():
                forget(workspace, say)
        else:
            name_new(connect_existing(store, say), workspace, say, is_its_store=bool(store))
    except Busy as error:
        say(str(error))
    except UserError as error:
        return [Synced(name, "", 0, kind, str(error))]
    return []


def _sync(workspace: Workspace, uri: str, say: Say, publish: Publish) -> Synced:
    name, kind = workspace.name, workspace.kind
    with workspace.locked():
        if workspace.outbox.is_empty() and not workspace.outbox.is_open(workspace.run_id):
            return Synced(name, workspace.run_id, 0, kind)
        client = connect_existing(uri or workspace.about.get("store", ""), say)
        if not reader.run_exists(client, workspace.run_id):
            raise UserError(
                f"{kind} {name!r} (run {workspace.run_id}) is not in "
                f"{hide_secrets(str(client.tracking_uri))}; name its store with --tracking-uri."
            )
        reader.check_not_deleted(client, workspace.run_id, f"{kind} {name!r}")
        calls = settle(client, workspace, say, publish)
        return Synced(name, workspace.run_id, calls, kind)
