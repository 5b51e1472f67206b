"""The runs of an MLflow store in SQLite, read without MLflow.

To import MLflow and SQLAlchemy takes longer than to read a thousand runs, and somebody waits for a
command that only lists them; and MLflow takes a second of the processor for them, which a search
would take from its trials. So their tables are read here, as long as they are of a version that
this is tested with (``SCHEMAS``); for all others there is MLflow itself.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from imdbtune.errors import UserError, quote_path
from imdbtune.tracking.connection import connect_existing, is_missing, resolve_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

# The last migration of MLflow 3.17: alembic_version.
SCHEMAS = ("dc11669786a5",)
TIMEOUT_S = 30.0  # as long as somebody else writes
AT_ONCE = 500  # runs asked for in a query; SQLite takes 999 values in its older versions


def open_runs(uri: str = "") -> MlflowClient | SqliteRuns:
    """What lists the runs of a store, for :mod:`imdbtune.tracking.reader`.

    Args:
        uri: the store, as for :func:`imdbtune.tracking.connection.resolve_uri`.

    Raises:
        UserError: there is no such store, or it cannot be used.
    """
    return sqlite_runs(resolve_uri(uri)) or connect_existing(uri, reading=True)


def runs_of(client: MlflowClient) -> MlflowClient | SqliteRuns:
    """What lists the runs of a client's store fastest."""
    return sqlite_runs(str(client.tracking_uri)) or client


def sqlite_runs(uri: str) -> SqliteRuns | None:
    """The runs of a store that can be read without MLflow, as its URI is resolved; else none."""
    if uri.startswith("sqlite:///") and not is_missing(uri):
        runs = SqliteRuns(Path(uri.removeprefix("sqlite:///")))
        with suppress(OSError, sqlite3.Error):  # MLflow's words are the better ones
            if runs.schema() in SCHEMAS:
                return runs
    return None


@dataclass(frozen=True)
class SqliteRuns:
    """Stands in for MLflow's client where :mod:`imdbtune.tracking.reader` looks for runs."""

    path: Path

    @property
    def tracking_uri(self) -> str:
        """As MLflow names the store."""
        return f"sqlite:///{self.path}"

    def schema(self) -> str:
        """The version of the tables; empty where there is none."""
        with self.opened() as database:
            found = database.execute("SELECT version_num FROM alembic_version").fetchone()
            return str(found[0]) if found else ""

    def find(
        self,
        tags: Mapping[str, str],
        limit: int,
        experiments: Sequence[str] | None = None,
        deleted: bool = False,
        status: str = "",
    ) -> list[Any]:
        """The runs with these tags, the newest first, as ``MlflowClient.search_runs`` has them.

        Args:
            tags: values that a run must have.
            limit: how many at most.
            experiments: ids; ``None``: of all that are not deleted.
            deleted: those in MLflow's bin, instead of the others.
            status: only these, such as ``FINISHED``.

        Raises:
            UserError: the file is damaged, or locked for too long.
        """
        conditions, values = ["r.lifecycle_stage = ?"], ["deleted" if deleted else "active"]
        if experiments is None:
            conditions.append(
                "r.experiment_id IN "
                "(SELECT experiment_id FROM experiments WHERE lifecycle_stage = 'active')"
            )
        else:
            conditions.append(f"r.experiment_id IN ({_places(experiments)})")
            values += experiments
        for key, value in tags.items():
            conditions.append(
                "EXISTS (SELECT 1 FROM tags t "
                "WHERE t.run_uuid = r.run_uuid AND t.key = ? AND t.value = ?)"
            )
            values += [key, value]
        if status:
            conditions.append("r.status = ?")
            values.append(status)
        order = f"ORDER BY r.start_time DESC, r.run_uuid LIMIT {int(limit)}"
        return self._read(f"WHERE {' AND '.join(conditions)} {order}", values)

    def get(self, run_id: str) -> list[Any]:
        """The run of this id, also a deleted one, if there is one."""
        return self._read("WHERE r.run_uuid = ?", [run_id])

    def get_metric_history(self, run_id: str, key: str) -> list[Any]:
        """All values that a run was told of a metric, in the order in which MLflow has them."""
        with self._readable() as database:
            found = database.execute(
                "SELECT value, timestamp, step, is_nan FROM metrics "
                "WHERE run_uuid = ? AND key = ? ORDER BY timestamp, step, value",
                [run_id, key],
            ).fetchall()
        return [
            SimpleNamespace(key=key, value=math.nan if is_nan else value, timestamp=at, step=step)
            for value, at, step, is_nan in found
        ]

    def _read(self, where: str, values: Sequence[str]) -> list[Any]:
        columns = "r.run_uuid, r.name, r.status, r.experiment_id, r.start_time, r.end_time"
        try:
            with self._readable() as database:
                database.execute("BEGIN")  # all of it as it is at one moment
                found = database.execute(
                    f"SELECT {columns}, r.lifecycle_stage FROM runs r {where}", values
                ).fetchall()
                runs = {row[0]: _run(*row) for row in found}
                for part in _parts(list(runs)):
                    _fill(database, {run_id: runs[run_id] for run_id in part})
                return list(runs.values())
        except UnicodeEncodeError:  # half a character, as of a name that is no UTF-8; none is there
            return []

    @contextmanager
    def _readable(self) -> Iterator[sqlite3.Connection]:
        try:
            with self.opened() as database:
                yield database
        except sqlite3.Error as error:
            raise UserError(
                f"the tracking store {quote_path(self.path)} cannot be read: "
                f"{error}; mend it, or name "
                "another one."
            ) from error

    @contextmanager
    def opened(self, mode: str = "ro") -> Iterator[sqlite3.Connection]:
        """The database without transactions of its own; ``mode`` is SQLite's, ``rw`` to write."""
        address = f"{self.path.as_uri()}?mode={mode}"
        opened = sqlite3.connect(address, TIMEOUT_S, isolation_level=None, uri=True)
        with closing(opened) as database:
            database.text_factory = lambda raw: raw.decode("utf-8", "replace")
            yield database


def _run(
    run_id: str,
    name: str | None,
    status: str,
    experiment_id: int,
    started_ms: int,
    ended_ms: int | None,
    stage: str,
) -> SimpleNamespace:
    """A run as MLflow's entities name its parts."""
    info = SimpleNamespace(
        run_id=run_id,
        run_name=name or "",
        status=status,
        experiment_id=str(experiment_id),
        start_time=started_ms,
        end_time=ended_ms,
        lifecycle_stage=stage,
    )
    data = SimpleNamespace(params={}, tags={}, metrics={})
    return SimpleNamespace(info=info, data=data, outputs=SimpleNamespace(model_outputs=[]))


def _fill(database: sqlite3.Connection, runs: Mapping[str, Any]) -> None:
    """Read what runs were told: their parameters, tags, last metrics and models."""
    ids = list(runs)
    those = f"run_uuid IN ({_places(ids)})"
    for table in ("params", "tags"):
        for run_id, key, value in database.execute(
            f"SELECT run_uuid, key, value FROM {table} WHERE {those}", ids
        ):
            getattr(runs[run_id].data, table)[key] = value
    for run_id, key, value, is_nan in database.execute(
        f"SELECT run_uuid, key, value, is_nan FROM latest_metrics WHERE {those}", ids
    ):
        runs[run_id].data.metrics[key] = math.nan if is_nan else value
    for run_id, model_id in database.execute(
        "SELECT source_id, destination_id FROM inputs WHERE source_type = 'RUN_OUTPUT' "
        f"AND destination_type = 'MODEL_OUTPUT' AND source_id IN ({_places(ids)})",
        ids,
    ):
        runs[run_id].outputs.model_outputs.append(SimpleNamespace(model_id=model_id))


def _places(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


def _parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for first in range(0, len(ids), AT_ONCE):
        yield ids[first : first + AT_ONCE]
