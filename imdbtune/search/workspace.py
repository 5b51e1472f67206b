"""The workspace of a search or training: a folder with its journal, outbox and other files."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock

from imdbtune.errors import Busy, FolderRemoved, UserError, short_repr
from imdbtune.files import make_private_folder, read_lines, replace_file
from imdbtune.search.journal import Journal
from imdbtune.tracking.connection import hide_secrets
from imdbtune.tracking.mlflow_names import CONFIRMED_BY, NOTE, REASON
from imdbtune.tracking.outbox import Outbox, new_key

if TYPE_CHECKING:
    from imdbtune.tracking.entities import Search

# Prefix of the folder's name while MLflow may not have the run yet; the run's key follows.
NEW = "new-"
ABOUT = "about.json"
RUN = "run.json"
# Tags of a search that are written anew, or name a run that a new store does not have.
_TEMPORARY = (CONFIRMED_BY, NOTE, REASON)
SEARCH, TRAINING = "search", "training"


@dataclass(frozen=True)
class Workspace:
    """The folder of one search or training, named by its run id."""

    folder: Path

    @property
    def run_id(self) -> str:
        """MLflow's run id, once the folder has its final name."""
        return self.folder.name

    @property
    def journal(self) -> Journal:
        """The trials that the sampler has suggested, and their results."""
        return Journal(self.folder / "journal.jsonl")

    @property
    def outbox(self) -> Outbox:
        """The writes for MLflow."""
        return Outbox(self.folder / "spool")

    @property
    def about(self) -> dict[str, Any]:
        """``name``, ``store`` and ``kind``; empty if they were not saved."""
        saved = next(read_lines(self.folder / ABOUT), None)
        return dict(saved[0]) if saved else {}

    @property
    def kind(self) -> str:
        """``search``, which can be resumed, or ``training``, which cannot."""
        return str(self.about.get("kind", SEARCH))

    @property
    def name(self) -> str:
        """The name of the search or training, for messages."""
        return str(self.about.get("name", "of unknown name"))

    def describe(self, name: str, store: str, kind: str) -> None:
        """Save what the workspace is for; a store whose URI contains a secret is left out."""
        uri = store if hide_secrets(store) == store else ""
        replace_file(self.folder / ABOUT, {"name": name, "store": uri, "kind": kind})

    @property
    def saved_run(self) -> dict[str, Any]:
        """``experiment``, ``tags`` and ``started_ms`` of the run; empty if they were not saved."""
        saved = next(read_lines(self.folder / RUN), None)
        return dict(saved[0]) if saved else {}

    def save_run(self, search: Search, experiment: str) -> None:
        """Save what is needed to create the run anew if the tracking store loses it."""
        tags = {name: value for name, value in search.tags.items() if name not in _TEMPORARY}
        facts = {"experiment": experiment, "tags": tags, "started_ms": search.started_ms}
        replace_file(self.folder / RUN, facts)

    def is_removed(self) -> bool:
        """Return whether somebody has deleted the folder; writes to the outbox create it again."""
        return not (self.folder / ABOUT).exists()

    def check_not_removed(self, what: str = "search", remedy: str = "Start a new search.") -> None:
        """Raise FolderRemoved if somebody has deleted the folder while it is used."""
        if self.is_removed():
            raise FolderRemoved(
                f"the folder {self.folder} was removed while the {what} ran; what had finished is "
                f"in MLflow. {remedy}"
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the workspace's lock, which is released when its process dies.

        Raises:
            Busy: another process holds it.
        """
        lock = filelock.FileLock(self.folder / "driver.lock")
        try:
            lock.acquire(blocking=False)
        except filelock.Timeout:
            raise Busy(
                f"another process is working on this {self.kind} ({self.folder}); wait for it, or "
                "stop it first."
            ) from None
        try:
            yield
        finally:
            lock.release()

    def renamed(self, run_id: str) -> Workspace:
        """Give a new workspace, and the run's entries in its outbox, the final name."""
        final = workspace_of(self.folder.parent, run_id)
        self.outbox.rename(self.folder.name.removeprefix(NEW), run_id)
        self.folder.rename(final.folder)
        return final

    def discard(self) -> None:
        """Delete the folder, and the one that contains it if that is empty then."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.folder.parent.rmdir()


def workspace_of(base: Path, run_id: str) -> Workspace:
    """Return the workspace of a run in the folder ``base``; it need not exist.

    Raises:
        UserError: the run id is not alphanumeric, and so no safe name of a folder.
    """
    if not run_id.isalnum():
        raise UserError(
            f"the tracking store returned {short_repr(run_id)}, which is not a run id of MLflow; "
            "use another tracking store."
        )
    return Workspace(base / run_id)


def list_workspaces(base: Path) -> list[Workspace]:
    """Return the workspaces in ``base`` that have their final names, the newest first."""
    found = []
    for path in base.glob(f"*/{ABOUT}"):
        with contextlib.suppress(OSError):  # it was deleted meanwhile
            found.append((path.stat().st_mtime, path.parent))
    return [
        Workspace(path) for _, path in sorted(found, reverse=True) if not path.name.startswith(NEW)
    ]


def list_unnamed_workspaces(base: Path) -> list[Workspace]:
    """Return the workspaces in ``base`` without their final names: new, or left by a crash."""
    return [Workspace(path) for path in sorted(base.glob(f"{NEW}*"))]


@contextmanager
def create_workspace(
    base: Path, name: str, store: str, kind: str = SEARCH
) -> Iterator[tuple[Workspace, str]]:
    """Create a locked workspace, before its run exists in MLflow.

    It is deleted at the end if it has not been renamed.

    Yields:
        The workspace, and the key of its run.
    """
    key = new_key()
    workspace = Workspace(base.absolute() / f"{NEW}{key}")
    make_private_folder(workspace.folder)
    try:
        with workspace.locked():
            workspace.describe(name, store, kind)
            yield workspace, key
    finally:
        if workspace.folder.exists():
            workspace.discard()


@contextmanager
def open_workspace(
    base: Path, run_id: str, name: str, store: str, kind: str
) -> Iterator[Workspace]:
    """Open and lock the workspace of an existing run; create it if it was deleted.

    Raises:
        Busy: another process holds the lock.
    """
    workspace = workspace_of(base, run_id)
    make_private_folder(workspace.folder)
    with workspace.locked():
        if not workspace.about:
            workspace.describe(name, store, kind)
        yield workspace
