"""What is to be written to MLflow, on disk until MLflow has it.

A :class:`Outbox` takes the calls of a run's writers in the place of MLflow's client, so that
training never waits for a tracking server: each call is a line in the run's file, which is written
through to the disk at the run's end. What a power failure may take is of trials that are run again.
:mod:`imdbtune.tracking.outbox_delivery` makes the calls, in their order.

The run that a call is for is named by a key: the id of a run that MLflow has, or the key that
:meth:`Spool.create_run` gives out before MLflow knows of the run.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from imdbtune.files import append_line, read_lines, replace_file, sync_file, sync_folder

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput, Metric, Param, RunTag

Call = dict[str, Any]


@dataclass(frozen=True)
class DeliveryState:
    """How far the calls of one run have come.

    Args:
        run_id: MLflow's, once the run is there.
        offset: bytes of the file whose calls have been made.
        killed: the run was ended from outside; what its process may still say is not passed on.
    """

    run_id: str = ""
    offset: int = 0
    killed: bool = False


def new_key() -> str:
    """A name for a run that MLflow does not know yet; they sort by time."""
    return f"{_now_ms()}-{uuid.uuid4().hex[:8]}"


def _now_ms() -> int:
    return int(time.time() * 1000)


@dataclass(frozen=True)
class Outbox:
    """The calls of a search's runs, in a folder; several processes may add to it."""

    folder: Path

    # The part of MlflowClient that writes runs.

    def create_run(
        self, experiment_id: str, tags: dict[str, str], run_name: str
    ) -> SimpleNamespace:
        """A run to be; its ``info.run_id`` is the key for all other calls."""
        key = new_key()
        about = {"experiment_id": experiment_id, "tags": tags, "run_name": run_name}
        self._add(key, "create_run", start_time=_now_ms(), **about)
        return SimpleNamespace(info=SimpleNamespace(run_id=key))

    def log_batch(
        self,
        run_id: str,
        metrics: Sequence[Metric] = (),
        params: Sequence[Param] = (),
        tags: Sequence[RunTag] = (),
    ) -> None:
        """Metrics with the time that they have now, parameters and tags."""
        self._add(
            run_id,
            "log_batch",
            metrics=[(m.key, m.value, m.timestamp, m.step) for m in metrics],
            params=[(p.key, p.value) for p in params],
            tags=[(t.key, t.value) for t in tags],
        )

    def log_inputs(self, run_id: str, datasets: Sequence[DatasetInput]) -> None:
        """The data sets that a run used."""
        told = [(dict(d.dataset), {t.key: t.value for t in d.tags}) for d in datasets]
        self._add(run_id, "log_inputs", datasets=told)

    def log_text(self, run_id: str, text: str, artifact_file: str) -> None:
        """A text as an artifact."""
        self._add(run_id, "log_text", text=text, artifact_file=artifact_file)

    def log_artifacts(self, run_id: str, local_dir: str) -> None:
        """The files of a folder, which is moved away."""
        self._add_folder(run_id, "log_artifacts", Path(local_dir))

    def set_terminated(self, run_id: str, status: str, told: bool = False) -> None:
        """The end of a run, now; ``told``: MLflow knows it already, from elsewhere."""
        self._add(run_id, "set_terminated", status=status, end_time=_now_ms(), told=told)
        self.sync(run_id)

    # What is more than one call of the client.

    def log_model(self, run_id: str, folder: Path) -> None:
        """A folder in MLflow's form of a model, which is moved away."""
        self._add_folder(run_id, "log_model", folder)
        self.sync(run_id)

    def reopen(self, run_id: str) -> None:
        """A run that had ended, or was left behind by a crash, goes on."""
        self._add(run_id, "reopen")
        self.sync(run_id)

    def publish(self, run_id: str, varied: Sequence[str], report: bool) -> None:
        """The final page of a search."""
        self._add(run_id, "publish", varied=list(varied), report=report)

    def sync(self, run_id: str) -> None:
        """Write a run's calls through to the disk."""
        sync_file(self._calls(run_id))

    def _calls(self, key: str) -> Path:
        return self.folder / key / "calls.jsonl"

    def _add(self, key: str, name: str, **arguments: Any) -> None:
        append_line(self._calls(key), {"call": name, **arguments}, sync=False)

    def _add_folder(self, key: str, name: str, source: Path) -> None:
        target = self.folder / key / f"{name}-{uuid.uuid4().hex[:8]}"
        target.parent.mkdir(parents=True, exist_ok=True)
        sync_folder(source)
        shutil.move(source, target)
        self._add(key, name, folder=target.name)

    # The other end.

    def runs(self) -> list[str]:
        """The runs that have calls."""
        return sorted(self.sizes())

    def sizes(self) -> dict[str, int]:
        """Bytes of the calls of each run that has some.

        It is asked several times a second, in searches of thousands of trials: pathlib would take
        six times as long.
        """
        found = {}
        with suppress(FileNotFoundError), os.scandir(self.folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError, NotADirectoryError):
                    found[entry.name] = os.stat(f"{entry.path}/calls.jsonl").st_size  # noqa: PTH116
        return found

    def size(self, key: str) -> int:
        """Bytes of the run's calls."""
        calls = self._calls(key)
        return calls.stat().st_size if calls.exists() else 0

    def pending_calls(
        self, key: str, state: DeliveryState | None = None
    ) -> Iterator[tuple[Call, int]]:
        """The calls that have not been made, each with the offset after it."""
        return read_lines(self._calls(key), (state or self.delivered(key)).offset)

    def open_runs(self) -> list[str]:
        """The runs that have not ended, as far as the outbox knows."""
        return [key for key in self.runs() if self.is_open(key)]

    def is_open(self, key: str) -> bool:
        """Whether a run has not ended, or goes on.

        Of a run whose first call a crash has torn, MLflow will never hear.
        """
        calls = [call["call"] for call, _ in read_lines(self._calls(key))]
        turns = [call for call in calls if call in ("set_terminated", "reopen")]
        return bool(calls) and turns[-1:] != ["set_terminated"]

    def rename(self, key: str, run_id: str) -> None:
        """Call a run by its id, of which something was said before it had one."""
        if (self.folder / key).exists():
            (self.folder / key).rename(self.folder / run_id)

    def delivered(self, key: str) -> DeliveryState:
        """How far the run's calls have come; from the start where that cannot be read."""
        noted = next(read_lines(self.folder / key / "delivered.json"), None)
        return DeliveryState(**noted[0]) if noted else DeliveryState()

    def note(self, key: str, delivered: DeliveryState) -> None:
        """Note how far the run's calls have come."""
        replace_file(self.folder / key / "delivered.json", asdict(delivered))

    def is_empty(self) -> bool:
        """Whether all calls have been made."""
        return not any(next(self.pending_calls(key), None) for key in self.runs())
