"""Write a search to MLflow anew, from its workspace, where the store has lost it or parts of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from imdbtune.errors import UserError, quote_path
from imdbtune.search.workspace import SEARCH, Workspace
from imdbtune.tracking import reader, writer
from imdbtune.tracking.connection import Notify, hide_secrets
from imdbtune.tracking.mlflow_names import PARENT, SEARCH_ID
from imdbtune.tracking.outbox import Call
from imdbtune.tracking.outbox_delivery import create_run

if TYPE_CHECKING:
    from imdbtune.tracking.connection import MlflowClient
    from imdbtune.tracking.entities import Search


def restore_search(client: MlflowClient, workspace: Workspace, notify: Notify) -> Workspace:
    """Let the outbox deliver everything again, into a new run if the store has none.

    Runs that somebody has deleted stay deleted. Files that had been delivered are not in the
    workspace any more: they are taken from the store's folder of artifacts where it still has
    them, and reported as lost otherwise.

    Args:
        client: of the tracking store.
        workspace: of the search; the caller holds its lock.
        notify: called with lines for the user.

    Returns:
        The workspace, which is named by the new run if there is one.

    Raises:
        UserError: it is a training, or a search of an early version.
        Deleted: the search was deleted in MLflow.
    """
    is_there = reader.run_exists(client, workspace.run_id)
    if is_there:
        reader.check_not_deleted(client, workspace.run_id, f"search {workspace.name!r}")
    else:
        workspace = _create_anew(client, workspace, notify)
    search = reader.find_search(client, workspace.run_id)
    location = str(client.get_experiment(search.experiment_id).artifact_location)
    files = _Files(client, _local_folder(location), is_there)
    deleted = reader.deleted_keys(client, search)
    for key in workspace.outbox.runs():
        if key not in deleted:
            old = workspace.outbox.delivered(key).run_id or ("" if key == search.run_id else key)
            calls = [
                _moved(call, search)
                for call in workspace.outbox.calls(key)
                if "folder" not in call or files.bring(call, workspace.outbox.folder / key, old)
            ]
            workspace.outbox.rewind(key, calls)
    for line in files.lost_lines():
        notify(line)
    return workspace


def _create_anew(client: MlflowClient, workspace: Workspace, notify: Notify) -> Workspace:
    """Create the run of a search that a store does not have; the workspace gets its name."""
    saved = workspace.saved_run
    if workspace.kind != SEARCH or not saved:
        raise UserError(
            f"{workspace.kind} {workspace.name!r} (run {workspace.run_id}) cannot be written anew: "
            f"only a search of this version of imdbtune can. Start it again, and delete the folder "
            f"{quote_path(workspace.folder)}."
        )
    call = {
        "experiment_id": writer.get_experiment(client, saved["experiment"]),
        "start_time": saved["started_ms"],
        "tags": saved["tags"],
        "run_name": workspace.name,
    }
    # Found by its key, if a restoration before this one was killed.
    run_id = create_run(client, workspace.run_id, call, may_exist=True)
    notify(
        f"search {workspace.name} (run {workspace.run_id}) is not in "
        f"{hide_secrets(str(client.tracking_uri))}: written anew as run {run_id}."
    )
    return workspace.renamed(run_id)


def _moved(call: Call, search: Search) -> Call:
    """Return a call as it has to be made for the run that the search has now."""
    if call["call"] == "create_run":
        tags = {**call["tags"], PARENT: search.run_id, SEARCH_ID: search.run_id}
        return {**call, "tags": tags, "experiment_id": search.experiment_id}
    if call.get("told"):  # the remote worker that did it will not do it again
        return {**call, "told": False, "status": "KILLED"}
    return call


def _local_folder(location: str) -> Path | None:
    """Return the folder in which an experiment has its artifacts; ``None``: elsewhere."""
    place = urlsplit(location)
    return Path(url2pathname(place.path)) if place.scheme in ("", "file") and place.path else None


@dataclass
class _Files:
    """Brings back files that an outbox has delivered, and counts those that are lost.

    Args:
        folder: of the artifacts of the experiment; ``None``: not on this machine.
        is_there: whether the store has the search's run, and so may have the files.
    """

    client: MlflowClient
    folder: Path | None
    is_there: bool
    lost: dict[str, int] = field(default_factory=dict)

    def bring(self, call: Call, folder: Path, run_id: str) -> bool:
        """Return whether the folder of a call is there, or was copied from the old artifacts.

        Args:
            folder: of the outbox's run.
            run_id: of the run that had the files in the store; empty: none.
        """
        target = folder / str(call["folder"])
        if target.exists() or not run_id:
            return target.exists()
        is_model = call["call"] == "log_model"
        for source in self._old_models(run_id) if is_model else self._old_artifacts(run_id):
            shutil.copytree(source, target)
            return True
        # A server keeps its artifacts where this machine cannot look.
        if not (self.folder is None and self.is_there):
            self.lost[call["call"]] = self.lost.get(call["call"], 0) + 1
        return False

    def _old_artifacts(self, run_id: str) -> Iterator[Path]:
        if self.folder is not None and (self.folder / run_id / "artifacts").is_dir():
            yield self.folder / run_id / "artifacts"

    def _old_models(self, run_id: str) -> Iterator[Path]:
        """Yield the folders of MLflow's models whose description names a run."""
        if self.folder is not None:
            for about in self.folder.glob("models/*/artifacts/MLmodel"):
                if f"run_id: {run_id}" in about.read_text("utf-8", errors="replace").splitlines():
                    yield about.parent

    def lost_lines(self) -> Iterator[str]:
        """Yield a line about the files that are nowhere any more, if there are any."""
        names = {"log_artifacts": "the history files and plots", "log_model": "the models"}
        lost = [
            f"{names[call]} of {n} run{'' if n == 1 else 's'}"
            for call, n in sorted(self.lost.items())
        ]
        if lost:
            yield (
                f"lost, as the artifacts of the store were their only copy: {' and '.join(lost)}; "
                "imdbtune reproduce RUN_ID trains a run again."
            )
