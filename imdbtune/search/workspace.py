"""The folder in which a search or training keeps what it needs: its journal and its outbox."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from imdbtune.errors import Busy, UserError, short_repr
from imdbtune.files import read_lines, replace_file
from imdbtune.search.journal import Journal
from imdbtune.tracking.connection import hide_secrets
from imdbtune.tracking.outbox import Outbox, new_key

# In front of the key of a search whose run may not have been made yet.
NEW = "new-"
SEARCH, TRAINING = "search", "training"


@dataclass(frozen=True)
class Workspace:
    """The folder of one search, named by its run id."""

    folder: Path

    @property
    def run_id(self) -> str:
        """The search's run, if the folder has its final name."""
        return self.folder.name

    @property
    def journal(self) -> Journal:
        """The events of the search, among them what the sampler suggested and was told."""
        return Journal(self.folder / "journal.jsonl")

    @property
    def outbox(self) -> Outbox:
        """What MLflow is to be told."""
        return Outbox(self.folder / "spool")

    @property
    def about(self) -> dict[str, Any]:
        """``name``, ``store`` and ``kind``; empty where nothing is noted."""
        noted = next(read_lines(self.folder / "about.json"), None)
        return dict(noted[0]) if noted else {}

    @property
    def kind(self) -> str:
        """Of a search, which can go on, or of a training, which cannot."""
        return str(self.about.get("kind", SEARCH))

    @property
    def name(self) -> str:
        """What its search or training is called; of unknown name where nothing is noted."""
        return str(self.about.get("name", "of unknown name"))

    def describe(self, name: str, store: str, kind: str) -> None:
        """Note what it is of; not the store if its address has a secret."""
        where = store if hide_secrets(store) == store else ""
        replace_file(self.folder / "about.json", {"name": name, "store": where, "kind": kind})

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One process at a time; a dead one holds no lock.

        Raises:
            Busy: another process is at work here.
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
        """A new workspace under its final name, and in its outbox what was "
        "said of the run before."""
        final = workspace_of(self.folder.parent, run_id)
        self.outbox.rename(self.folder.name.removeprefix(NEW), run_id)
        self.folder.rename(final.folder)
        return final

    def discard(self) -> None:
        """Take the folder away, and the one around it if nothing else is in it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.folder.parent.rmdir()


def workspace_of(base: Path, run_id: str) -> Workspace:
    """The folder of a search in ``base``.

    Raises:
        UserError: the run id, which a server gives, is none.
    """
    if not run_id.isalnum():
        raise UserError(
            f"run id {short_repr(run_id)} is none of MLflow's; use another tracking store."
        )
    return Workspace(base / run_id)


def list_workspaces(base: Path) -> list[Workspace]:
    """The folders of searches in ``base``, the newest first."""
    found = []
    for path in base.glob("*/about.json"):
        with contextlib.suppress(OSError):  # it has just gone away
            found.append((path.stat().st_mtime, path.parent))
    return [
        Workspace(path) for _, path in sorted(found, reverse=True) if not path.name.startswith(NEW)
    ]


def list_unnamed_workspaces(base: Path) -> list[Workspace]:
    """The folders of what has begun in ``base`` and may have no run yet, or has died then."""
    return [Workspace(path) for path in sorted(base.glob(f"{NEW}*"))]


@contextmanager
def create_workspace(
    base: Path, name: str, store: str, kind: str = SEARCH
) -> Iterator[tuple[Workspace, str]]:
    """A locked folder that is there before its search's run is, and the run's key.

    It goes away if it has not been renamed.
    """
    key = new_key()
    workspace = Workspace(base.absolute() / f"{NEW}{key}")
    workspace.folder.mkdir(parents=True)
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
    """The locked folder of a run that is there; made again if it has been taken away."""
    workspace = workspace_of(base, run_id)
    workspace.folder.mkdir(parents=True, exist_ok=True)
    with workspace.locked():
        if not workspace.about:
            workspace.describe(name, store, kind)
        yield workspace
