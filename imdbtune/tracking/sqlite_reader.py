"""Reads the runs of an MLflow store in SQLite without MLflow; it never writes.

``imdbtune compare`` of 1,000 trials takes 0.9 s of processor time with this module and 4.5 s with
MLflow 3.17, which has to be imported, and builds its entities by way of SQLAlchemy's. The tables
are read only where their version is one of :data:`SCHEMAS`, which the tests cover; MLflow itself
reads all others.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import urlsplit
from urllib.request import url2pathname

from imdbtune.errors import UserError, quote_path
from imdbtune.tracking.connection import connect_existing, is_missing, resolve_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    Runs: TypeAlias = "MlflowClient | SqliteRuns"
    StoredRun: TypeAlias = "Run | SqliteRun"

# The last migration of MLflow 3.17: alembic_version.
SCHEMAS = ("dc11669786a5",)
TIMEOUT_S = 30.0  # to wait while another process writes
IN_A_QUERY = 500  # runs; older versions of SQLite take 999 values


def open_runs(uri: str = "") -> Runs:
    """Return what lists the runs of a store for :mod:`imdbtune.tracking.reader`.

    Args:
        uri: the store, as for :func:`imdbtune.tracking.connection.resolve_uri`.

    Raises:
        UserError: there is no such store, or it cannot be used.
    """
    return sqlite_runs(resolve_uri(uri)) or connect_existing(uri, reading=True)


def runs_of(client: MlflowClient) -> Runs:
    """Return what lists the runs of a client's store fastest."""
    return sqlite_runs(str(client.tracking_uri)) or client


def sqlite_runs(uri: str) -> SqliteRuns | None:
    """Return the runs of a store with a resolved URI if they can be read without MLflow."""
    path = Path(uri.removeprefix("sqlite:///"))
    # SQLite would wait for a pipe.
    if uri.startswith("sqlite:///") and path.is_file() and not is_missing(uri):
        runs = SqliteRuns(path)
        with suppress(OSError, sqlite3.Error):  # MLflow describes what is wrong better
            if runs.schema() in SCHEMAS:
                return runs
    return None


@dataclass(frozen=True)
class RunInfo:
    """The columns of a run, in the order in which they are selected."""

    run_id: str
    run_name: str
    status: str
    experiment_id: str
    start_time: int
    end_time: int | None
    lifecycle_stage: str


@dataclass(frozen=True)
class RunData:
    """The values of a run by name."""

    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelOutput:
    """A model that a run has logged."""

    model_id: str


@dataclass(frozen=True)
class RunOutputs:
    """The models that a run has logged."""

    model_outputs: list[ModelOutput] = field(default_factory=list)


@dataclass(frozen=True)
class SqliteRun:
    """A run with the attributes of MLflow's entity."""

    info: RunInfo
    data: RunData = field(default_factory=RunData)
    outputs: RunOutputs = field(default_factory=RunOutputs)


@dataclass(frozen=True)
class SqliteMetric:
    """A value of a metric with the attributes of MLflow's entity."""

    key: str
    value: float
    timestamp: int
    step: int


@dataclass(frozen=True)
class SqliteRuns:
    """Replaces MLflow's client where :mod:`imdbtune.tracking.reader` lists runs."""

    path: Path

    @property
    def tracking_uri(self) -> str:
        """The URI by which MLflow knows the store."""
        return f"sqlite:///{self.path}"

    def schema(self) -> str:
        """Return the version of the tables; empty where there is none."""
        with self._open() as database:
            found = database.execute("SELECT version_num FROM alembic_version").fetchone()
            return str(found[0]) if found else ""

    def find(
        self,
        tags: Mapping[str, str],
        limit: int,
        experiments: Sequence[str] | None = None,
        deleted: bool = False,
        status: str = "",
    ) -> list[SqliteRun]:
        """Return the runs with these tags, the newest first, like ``MlflowClient.search_runs``.

        Args:
            tags: values that a run must have.
            limit: the largest number of runs.
            experiments: ids; ``None``: all that are not deleted.
            deleted: only deleted runs, instead of only the others.
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
            conditions.append(f"r.experiment_id IN ({_placeholders(experiments)})")
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

    def get(self, run_id: str) -> list[SqliteRun]:
        """Return the run with this id, also a deleted one; nothing where there is none."""
        return self._read("WHERE r.run_uuid = ?", [run_id])

    def artifact(self, run_id: str, name: str) -> Path | None:
        """Return the path of a run's artifact; ``None`` if it is not a file of this machine."""
        with self._readable() as database:
            found = database.execute(
                "SELECT artifact_uri FROM runs WHERE run_uuid = ?", [run_id]
            ).fetchone()
        place = urlsplit(found[0] if found else "")
        if place.scheme not in ("", "file") or not place.path:
            return None
        return Path(url2pathname(place.path), name)

    def get_metric_history(self, run_id: str, key: str) -> list[SqliteMetric]:
        """Return all values of a run's metric, in MLflow's order."""
        with self._readable() as database:
            found = database.execute(
                "SELECT value, timestamp, step, is_nan FROM metrics "
                "WHERE run_uuid = ? AND key = ? ORDER BY timestamp, step, value",
                [run_id, key],
            ).fetchall()
        return [
            SqliteMetric(key, math.nan if is_nan else value, at, step)
            for value, at, step, is_nan in found
        ]

    def _read(self, where: str, values: Sequence[str]) -> list[SqliteRun]:
        columns = (
            "r.run_uuid, coalesce(r.name, ''), r.status, CAST(r.experiment_id AS TEXT), "
            "r.start_time, r.end_time, r.lifecycle_stage"
        )
        try:
            with self._readable() as database:
                database.execute("BEGIN")  # all queries see the same state
                found = database.execute(f"SELECT {columns} FROM runs r {where}", values).fetchall()
                runs = {row[0]: SqliteRun(RunInfo(*row)) for row in found}
                for chunk in _chunks(list(runs)):
                    _fill(database, {run_id: runs[run_id] for run_id in chunk})
                return list(runs.values())
        except UnicodeEncodeError:  # a name that is not UTF-8 has no runs
            return []

    @contextmanager
    def _readable(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._open() as database:
                yield database
        except sqlite3.Error as error:
            raise UserError(
                f"the tracking store {quote_path(self.path)} cannot be read: {error}; repair it, "
                "or name another one."
            ) from error

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        address = f"{self.path.as_uri()}?mode=ro"
        opened = sqlite3.connect(address, timeout=TIMEOUT_S, isolation_level=None, uri=True)
        with closing(opened) as database:
            database.text_factory = lambda raw: raw.decode("utf-8", "replace")
            yield database


def _fill(database: sqlite3.Connection, runs: Mapping[str, SqliteRun]) -> None:
    """Read the parameters, tags, latest metrics and models of runs into them."""
    ids = list(runs)
    among = f"run_uuid IN ({_placeholders(ids)})"
    for table in ("params", "tags"):
        for run_id, key, value in database.execute(
            f"SELECT run_uuid, key, value FROM {table} WHERE {among}", ids
        ):
            getattr(runs[run_id].data, table)[key] = value
    for run_id, key, value, is_nan in database.execute(
        f"SELECT run_uuid, key, value, is_nan FROM latest_metrics WHERE {among}", ids
    ):
        runs[run_id].data.metrics[key] = math.nan if is_nan else value
    for run_id, model_id in database.execute(
        "SELECT source_id, destination_id FROM inputs WHERE source_type = 'RUN_OUTPUT' "
        f"AND destination_type = 'MODEL_OUTPUT' AND source_id IN ({_placeholders(ids)})",
        ids,
    ):
        runs[run_id].outputs.model_outputs.append(ModelOutput(model_id))


def _placeholders(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


def _chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for first in range(0, len(ids), IN_A_QUERY):
        yield ids[first : first + IN_A_QUERY]
