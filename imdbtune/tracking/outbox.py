"""Keeps calls to MLflow on disk until MLflow has received them.

An :class:`Outbox` replaces MLflow's client for those who write to a run, so that training never
waits for a tracking server. Each call is a line in the run's file, which is synced to the disk when
the run ends: a power failure can only lose calls of trials that are run again anyway.
:mod:`imdbtune.tracking.outbox_delivery` makes the calls, in their order.

A call names its run by a key: the id of a run that MLflow has, or the key that
:meth:`Outbox.create_run` returns before MLflow knows of the run.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

from imdbtune.files import (
    JsonObject,
    append_line,
    read_lines,
    replace_file,
    replace_text,
    sync_file,
    sync_folder,
)

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput, Metric, Param, RunTag

Call = JsonObject  # with the name of the call and its arguments


@dataclass(frozen=True)
class DeliveryState:
    """How many of the calls of one run have been made.

    Args:
        run_id: MLflow's id, once the run exists there.
        offset: bytes of the file whose calls have been made.
        killed: whether the run was ended from outside; later calls of its process are dropped.
    """

    run_id: str = ""
    offset: int = 0
    killed: bool = False


def new_key() -> str:
    """Return a name for a run that MLflow does not know yet; names sort by time."""
    return f"{now_ms()}-{uuid.uuid4().hex[:8]}"


def now_ms() -> int:
    """Return the milliseconds since the epoch, as MLflow stores times."""
    return int(time.time() * 1000)


@dataclass(frozen=True)
class Outbox:
    """The calls of a search's runs in a folder, to which several processes may add."""

    folder: Path

    # The part of MlflowClient that writes to runs.

    def create_run(
        self, experiment_id: str, tags: dict[str, str], run_name: str
    ) -> SimpleNamespace:
        """Create a run; the ``info.run_id`` of the result is its key for all other calls."""
        key = new_key()
        about = {"experiment_id": experiment_id, "tags": tags, "run_name": run_name}
        self._add(key, "create_run", start_time=now_ms(), **about)
        return SimpleNamespace(info=SimpleNamespace(run_id=key))

    def log_batch(
        self,
        run_id: str,
        metrics: Sequence[Metric] = (),
        params: Sequence[Param] = (),
        tags: Sequence[RunTag] = (),
    ) -> None:
        """Log metrics, parameters and tags."""
        self._add(
            run_id,
            "log_batch",
            metrics=[(m.key, m.value, m.timestamp, m.step) for m in metrics],
            params=[(p.key, p.value) for p in params],
            tags=[(t.key, t.value) for t in tags],
        )

    def log_inputs(self, run_id: str, datasets: Sequence[DatasetInput]) -> None:
        """Log the data sets that a run used."""
        inputs = [(dict(d.dataset), {t.key: t.value for t in d.tags}) for d in datasets]
        self._add(run_id, "log_inputs", datasets=inputs)

    def log_text(self, run_id: str, text: str, artifact_file: str) -> None:
        """Log a text as an artifact."""
        self._add(run_id, "log_text", text=text, artifact_file=artifact_file)

    def log_artifacts(self, run_id: str, local_dir: str) -> None:
        """Log the files of a folder, which is moved into the outbox."""
        self._add_folder(run_id, "log_artifacts", Path(local_dir))

    def set_terminated(
        self, run_id: str, status: str, reported: bool = False, pruned_after: int = 0
    ) -> None:
        """End a run now.

        Args:
            run_id: its key.
            status: of MLflow.
            reported: whether a remote worker has ended it in MLflow already.
            pruned_after: the last epoch of a trial that was pruned.
        """
        ended = {"status": status, "end_time": now_ms(), "told": reported}
        pruned = {"pruned_after": pruned_after} if pruned_after else {}
        self._add(run_id, "set_terminated", **ended, **pruned)
        self.sync(run_id)

    # Calls that the delivery makes of several calls of the client.

    def log_model(self, run_id: str, folder: Path) -> None:
        """Log a folder in MLflow's form of a model, which is moved into the outbox."""
        self._add_folder(run_id, "log_model", folder)
        self.sync(run_id)

    def reopen(self, run_id: str) -> None:
        """Mark a run as running again that has ended, or was left open by a crash."""
        self._add(run_id, "reopen")
        self.sync(run_id)

    def publish(self, run_id: str, varied: Sequence[str], report: bool) -> None:
        """Publish the final page of a search."""
        self._add(run_id, "publish", varied=list(varied), report=report)

    def sync(self, run_id: str) -> None:
        """Sync a run's calls to the disk."""
        sync_file(self._calls(run_id))

    def _calls(self, key: str) -> Path:
        return self.folder / key / "calls.jsonl"

    def _add(self, key: str, name: str, **arguments: object) -> None:
        append_line(self._calls(key), {"call": name, **arguments}, sync=False)

    def _add_folder(self, key: str, name: str, source: Path) -> None:
        target = self.folder / key / f"{name}-{uuid.uuid4().hex[:8]}"
        target.parent.mkdir(parents=True, exist_ok=True)
        sync_folder(source)
        shutil.move(source, target)
        self._add(key, name, folder=target.name)

    # What the delivery reads.

    def runs(self) -> list[str]:
        """Return the keys of the runs that have calls."""
        return sorted(self.sizes())

    def sizes(self) -> dict[str, int]:
        """Return the bytes of the calls of each run that has some.

        Called several times a second in searches of thousands of trials, for which pathlib would
        take six times as long.
        """
        found = {}
        with suppress(FileNotFoundError), os.scandir(self.folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError, NotADirectoryError):
                    found[entry.name] = os.stat(f"{entry.path}/calls.jsonl").st_size  # noqa: PTH116
        return found

    def size(self, key: str) -> int:
        """Return the bytes of a run's calls."""
        calls = self._calls(key)
        return calls.stat().st_size if calls.exists() else 0

    def pending_calls(
        self, key: str, state: DeliveryState | None = None
    ) -> Iterator[tuple[Call, int]]:
        """Iterate over the calls that have not been made, each with the offset after it."""
        return read_lines(self._calls(key), (state or self.delivered(key)).offset)

    def open_runs(self) -> list[str]:
        """Return the keys of the runs that have not ended, as far as the outbox knows."""
        return [key for key in self.runs() if self.is_open(key)]

    def is_open(self, key: str) -> bool:
        """Return whether a run has not ended, or was reopened.

        A run whose first call was cut off by a crash is not open: MLflow will never have it.
        """
        calls = [call["call"] for call in self.calls(key)]
        changes = [call for call in calls if call in ("set_terminated", "reopen")]
        return bool(calls) and changes[-1:] != ["set_terminated"]

    def rename(self, key: str, run_id: str) -> None:
        """Give the calls of a run its id as their key, once it has one."""
        if (self.folder / key).exists():
            (self.folder / key).rename(self.folder / run_id)

    def calls(self, key: str) -> list[Call]:
        """Return all calls of a run, whether they have been made or not."""
        return [call for call, _ in read_lines(self._calls(key))]

    def logged_text(self, key: str, artifact_file: str) -> str:
        """Return the text that was last logged as an artifact; empty if none was."""
        texts = [c["text"] for c in self.calls(key) if c.get("artifact_file") == artifact_file]
        return str(texts[-1]) if texts else ""

    def rewind(self, key: str, calls: Sequence[Call]) -> None:
        """Replace the calls of a run, all of which are to be made again."""
        (self.folder / key / "delivered.json").unlink(missing_ok=True)
        text = "".join(json.dumps(call) + "\n" for call in calls)
        replace_text(self._calls(key), text)

    def delivered(self, key: str) -> DeliveryState:
        """Return how many calls of a run have been made; none where that cannot be read."""
        saved = next(read_lines(self.folder / key / "delivered.json"), None)
        return DeliveryState(**saved[0]) if saved else DeliveryState()

    def note(self, key: str, delivered: DeliveryState) -> None:
        """Save how many calls of a run have been made."""
        replace_file(self.folder / key / "delivered.json", asdict(delivered))

    def is_empty(self) -> bool:
        """Return whether all calls have been made."""
        return not any(next(self.pending_calls(key), None) for key in self.runs())
