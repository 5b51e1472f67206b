"""Runs that have ended before MLflow heard of them, written to its SQLite tables all at once.

MLflow takes 45 ms of the processor to be told of one run: forty statements, each by way of
SQLAlchemy's objects, where a transaction of a few inserts does. In a search over thousands of short
trials, or after a store was away, that is most of what a trial costs beside its training. So such
runs are written here, as MLflow writes them, many in one transaction. That holds for the tables
that this is tested with (:data:`imdbtune.tracking.sqlite_reader.SCHEMAS`) and for runs that need
none of MLflow's judgement; all others are MLflow's own business.
"""

from __future__ import annotations

import math
import sqlite3
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from imdbtune.tracking.outbox import Call
from imdbtune.tracking.sqlite_reader import SqliteRuns
from imdbtune.tracking.writer import KEY

# What is longer than this, MLflow may refuse, or cut.
NAME_CHARACTERS, TEXT_CHARACTERS = 250, 500
MOST_METRICS = 1e300
BETWEEN = {"log_batch", "log_inputs", "log_artifacts"}
RUN_NAME = "mlflow.runName"
JUDGED = {RUN_NAME, "mlflow.user"}  # tags by which MLflow writes more than themselves

_FOLDERS = """
    SELECT experiment_id, artifact_location FROM experiments WHERE lifecycle_stage = 'active'
"""
_KEYS = "SELECT value FROM tags WHERE key = ?"

Metric = tuple[str, float, int, int]  # name, value, milliseconds, step


@dataclass(frozen=True)
class EndedRun:
    """A run from its beginning to its end, which was told in so many ``calls`` of an outbox.

    ``folders`` have its files, by the spool's names.
    """

    experiment_id: str
    name: str
    start_time: int
    end_time: int
    status: str
    tags: Mapping[str, str]
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Sequence[Metric] = ()
    datasets: Sequence[tuple[Mapping[str, Any], Mapping[str, str]]] = ()
    folders: Sequence[str] = ()
    calls: int = 0

    @classmethod
    def of(cls, calls: Sequence[Call]) -> EndedRun | None:
        """The run that the calls of an outbox tell of, from its beginning to its end.

        Returns:
            ``None`` where they do not, or where MLflow is to judge: of what is not finite or long,
            and of parameters with two values.
        """
        kinds = [call["call"] for call in calls]
        whole = kinds[:1] == ["create_run"] and kinds[-1:] == ["set_terminated"]
        if not whole or not BETWEEN.issuperset(kinds[1:-1]) or calls[-1]["told"]:
            return None
        first, *between, last = calls
        batches = [call for call in between if call["call"] == "log_batch"]
        params, own = _last(batches, "params"), _last(batches, "tags")
        if any(params[key] != value for batch in batches for key, value in batch["params"]):
            return None
        run = cls(
            experiment_id=first["experiment_id"],
            name=first["run_name"],
            start_time=first["start_time"],
            end_time=last["end_time"],
            status=last["status"],
            tags={**first["tags"], **own},
            params=params,
            metrics=list(dict.fromkeys(tuple(m) for batch in batches for m in batch["metrics"])),
            datasets=[data for call in between for data in call.get("datasets", ())],
            folders=[call["folder"] for call in between if "folder" in call],
            calls=len(calls),
        )
        return run if run._is_plain() else None

    def _is_plain(self) -> bool:
        told: dict[str, Any] = {**self.tags, **self.params}
        facts = [facts for facts, _ in self.datasets]
        texts = [*told.values(), *(v for f in facts for v in f.values() if v is not None)]
        names = [self.name, *told, *(key for key, *_ in self.metrics)]
        return (
            JUDGED.isdisjoint(self.tags)
            and all(0 < len(name) <= NAME_CHARACTERS for name in names)
            and all(isinstance(t, str) and len(t) <= TEXT_CHARACTERS for t in texts)
            and all(abs(value) < MOST_METRICS for _, value, *_ in self.metrics)
        )

    def latest(self) -> Iterable[Metric]:
        """Of each metric the last step's value, as MLflow chooses it."""
        found: dict[str, Metric] = {}
        for metric in self.metrics:
            key, value, at, step = metric
            _, old, before, old_step = found.get(key, (key, -math.inf, 0, -1))
            if (step, at, value) > (old_step, before, old):
                found[key] = metric
        return found.values()


def _last(batches: Iterable[Call], name: str) -> dict[str, str]:
    return {key: value for batch in batches for key, value in batch[name]}


def write_runs(store: SqliteRuns, runs: Mapping[str, EndedRun]) -> dict[str, tuple[str, str]]:
    """Write those runs that are not in the store yet, all of them or none.

    Args:
        store: one whose tables are known.
        runs: by the value of :data:`imdbtune.tracking.writer.KEY` that they are told apart by.

    Returns:
        Of each run that was written its id, and where its files go; the others are MLflow's.

    Raises:
        sqlite3.OperationalError: the store is locked, full or damaged; nothing is written.
    """
    with store.opened("rw") as database:
        database.execute("PRAGMA foreign_keys = ON")
        database.execute("BEGIN IMMEDIATE")
        folders = dict(database.execute(_FOLDERS))
        there = {key for (key,) in database.execute(_KEYS, [KEY])}
        new = {key: run for key, run in runs.items() if key not in there}
        if not {int(run.experiment_id) for run in new.values()} <= folders.keys():
            return {}
        try:
            written = {
                key: _write(database, key, run, folders[int(run.experiment_id)])
                for key, run in new.items()
            }
        except (sqlite3.IntegrityError, UnicodeEncodeError):  # MLflow has words for it
            return {}
        database.execute("COMMIT")
    return written


def _write(database: sqlite3.Connection, key: str, run: EndedRun, folder: str) -> tuple[str, str]:
    """Write all of a run; returns its id, and where its files go."""
    from mlflow.utils.uri import append_to_uri_path

    run_id = uuid.uuid4().hex
    place = append_to_uri_path(folder, run_id, "artifacts")
    info = {
        "run_uuid": run_id,
        "name": run.name,
        "source_type": "UNKNOWN",
        "source_name": "",
        "entry_point_name": "",
        "user_id": "unknown",
        "status": run.status,
        "start_time": run.start_time,
        "end_time": run.end_time,
        "source_version": "",
        "lifecycle_stage": "active",
        "artifact_uri": place,
        "experiment_id": int(run.experiment_id),
    }
    _insert(database, "runs", [info])
    tags = {**run.tags, KEY: key, RUN_NAME: run.name}
    for table, told in (("tags", tags), ("params", run.params)):
        rows = [{"key": key, "value": value, "run_uuid": run_id} for key, value in told.items()]
        _insert(database, table, rows)
    _insert(database, "metrics", [_measured(run_id, *metric) for metric in run.metrics])
    _insert(database, "latest_metrics", [_measured(run_id, *metric) for metric in run.latest()])
    for facts, context in run.datasets:
        _write_input(database, int(run.experiment_id), run_id, facts, context)
    return run_id, place


def _measured(run_id: str, key: str, value: float, timestamp: int, step: int) -> dict[str, object]:
    measured = {"key": key, "value": value, "timestamp": timestamp, "step": step}
    return {**measured, "is_nan": False, "run_uuid": run_id}


def _write_input(
    database: sqlite3.Connection,
    experiment: int,
    run_id: str,
    facts: Mapping[str, Any],
    tags: Mapping[str, str],
) -> None:
    """That a run used a data set, which is there once for all runs of an experiment."""
    which = {"experiment_id": experiment, "name": facts["name"], "digest": facts["digest"]}
    about = {
        "dataset_uuid": uuid.uuid4().hex,
        "dataset_source_type": facts["source_type"],
        "dataset_source": facts["source"],
        "dataset_schema": facts.get("schema"),
        "dataset_profile": facts.get("profile"),
    }
    _insert(database, "datasets", [which | about], "INSERT OR IGNORE")
    (dataset,) = database.execute(
        "SELECT dataset_uuid FROM datasets "
        "WHERE experiment_id = :experiment_id AND name = :name AND digest = :digest",
        which,
    ).fetchone()
    used = {
        "input_uuid": uuid.uuid4().hex,
        "source_type": "DATASET",
        "source_id": dataset,
        "destination_type": "RUN",
        "destination_id": run_id,
    }
    _insert(database, "inputs", [used])
    named = [{"name": name, "value": value} for name, value in tags.items()]
    _insert(database, "input_tags", [{"input_uuid": used["input_uuid"], **row} for row in named])


def _insert(
    database: sqlite3.Connection,
    table: str,
    rows: Sequence[Mapping[str, object]],
    how: str = "INSERT",
) -> None:
    if rows:
        columns = list(rows[0])
        values = ", ".join(f":{column}" for column in columns)
        database.executemany(f"{how} INTO {table} ({', '.join(columns)}) VALUES ({values})", rows)
