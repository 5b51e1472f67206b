"""Delete, restore and rename whole searches, by MLflow's own means."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from imdbtune.config.checks import check_text
from imdbtune.errors import Busy, UserError, short_repr
from imdbtune.search.context import Context
from imdbtune.search.workspace import Workspace, workspace_of
from imdbtune.tracking import mlflow_names, reader
from imdbtune.tracking.entities import Search, as_search
from imdbtune.tracking.run_queries import find_runs, runs_by_id
from imdbtune.tracking.writer import Run

if TYPE_CHECKING:
    from imdbtune.tracking.connection import MlflowClient
    from imdbtune.tracking.sqlite_reader import StoredRun

MAX_RUNS = 100_000
HERE = Context()


@dataclass(frozen=True)
class Disposal:
    """A search that was moved to MLflow's bin, or back, with the number of its runs."""

    search: Search
    runs: int


def delete(search_ref: str, context: Context = HERE) -> Disposal:
    """Move a search, its trials, baselines and its confirmation to MLflow's bin.

    :func:`undelete` restores them, until ``mlflow gc`` deletes them for good. Models that were
    registered, refitted or averaged stay, and so does the folder of the search.

    Raises:
        UserError: there is no such search.
        Busy: it or its confirmation is running.
    """
    client = context.connect()
    search = reader.find_search(client, search_ref)
    confirmation = reader.find_confirmation(client, search)
    with _at_rest(search, context.workspaces):
        runs = _family(client, search)
        if confirmation is not None:
            with _at_rest(confirmation, context.workspaces):
                runs = [*_family(client, confirmation), *runs]
        for run in runs:  # parents last: what was interrupted can be found and repeated
            client.set_tag(run.info.run_id, mlflow_names.DELETED_WITH, search.run_id)
            client.delete_run(run.info.run_id)
    return Disposal(search, len(runs))


def undelete(search_ref: str, context: Context = HERE) -> Disposal:
    """Restore a search that :func:`delete` has moved to MLflow's bin, with all of its runs.

    What had been deleted before stays deleted.

    Raises:
        UserError: there is no such search, or none that was deleted.
    """
    client = context.connect()
    run = _find_deleted(client, search_ref)
    search = as_search(run)
    if run.info.lifecycle_stage == "deleted":
        client.restore_run(search.run_id)
    tags = {mlflow_names.DELETED_WITH: search.run_id}
    others = find_runs(client, tags, MAX_RUNS, [search.experiment_id], deleted=True)
    for other in others:
        client.restore_run(other.info.run_id)
        client.delete_tag(other.info.run_id, mlflow_names.DELETED_WITH)
    if mlflow_names.DELETED_WITH in search.tags:
        client.delete_tag(search.run_id, mlflow_names.DELETED_WITH)
    return Disposal(reader.find_search(client, search.run_id), len(others) + 1)


def rename(search_ref: str, name: str, context: Context = HERE) -> Search:
    """Give a search another name, by which commands find it, and return it.

    Its run, the tags of its trials and its confirmation are renamed, too.

    Raises:
        UserError: there is no such search, or the name is not allowed.
        Busy: it or its confirmation is running.
    """
    check_text("name", name)
    client = context.connect()
    search = reader.find_search(client, search_ref)
    confirmation = reader.find_confirmation(client, search)
    with _at_rest(search, context.workspaces) as workspace:
        _rename_family(client, search, name)
        if confirmation is not None:
            with _at_rest(confirmation, context.workspaces):
                _rename_family(client, confirmation, f"confirm-{name}"[:250])
        found = reader.find_search(client, search.run_id)
        if workspace is not None:
            _rename_workspace(workspace, found)
    return found


def _rename_family(client: MlflowClient, parent: Search, name: str) -> None:
    """Rename a run, and change the tag that its children share."""
    for run in _family(client, parent):
        tags = {mlflow_names.SEARCH: name}
        tags |= {"mlflow.runName": name} if run.info.run_id == parent.run_id else {}
        Run(client, run.info.run_id).log(tags=tags)


def _rename_workspace(workspace: Workspace, found: Search) -> None:
    """Change the name in the folder of a search, from which it can be written anew."""
    about, saved = workspace.about, workspace.saved_run
    if about:
        workspace.describe(found.name, about.get("store", ""), workspace.kind)
    if saved:
        tags = {**saved["tags"], mlflow_names.SEARCH: found.name}
        workspace.save_run(replace(found, tags=tags), saved["experiment"])


def _family(client: MlflowClient, parent: Search) -> Sequence[StoredRun]:
    """Return the children of a run, and then the run itself."""
    tags = {mlflow_names.SEARCH_ID: parent.run_id}
    children = find_runs(client, tags, MAX_RUNS, [parent.experiment_id])
    return [*children, *runs_by_id(client, parent.run_id)]


@contextlib.contextmanager
def _at_rest(parent: Search, base: Path) -> Iterator[Workspace | None]:
    """Yield the locked workspace of a search or confirmation that does not run; ``None``: no such.

    Raises:
        Busy: it is running, here or elsewhere.
    """
    if parent.status in mlflow_names.OPEN:
        place = parent.tags.get(mlflow_names.FOLDER, "")
        raise Busy(
            f"{parent.name} (run {parent.run_id}) is running{place and f' in {place}'}; stop it "
            "first. If its process has died, imdbtune sync in its folder closes it."
        )
    workspace = workspace_of(base, parent.run_id)
    if not workspace.folder.exists():
        yield None
        return
    with workspace.locked():
        yield workspace


def _find_deleted(client: MlflowClient, search_ref: str) -> StoredRun:
    """Return the search with this run id, or the last deleted one of this name."""
    tags = {mlflow_names.KIND: "search", mlflow_names.SEARCH: search_ref}
    for run in find_runs(client, tags, 1, deleted=True):
        return run
    for run in runs_by_id(client, search_ref) if search_ref.isalnum() else ():
        is_search = run.data.tags.get(mlflow_names.KIND) == "search"
        has_tag = mlflow_names.DELETED_WITH in run.data.tags
        if is_search and (has_tag or run.info.lifecycle_stage == "deleted"):
            return run
    raise UserError(
        f"no search {short_repr(search_ref)} is in MLflow's bin; imdbtune list shows the others."
    )
