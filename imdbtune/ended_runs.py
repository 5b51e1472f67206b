"""Runs that have ended before MLflow heard of them, written to its SQLite tables all at once.

MLflow takes 45 ms of the processor to be told of one run: forty statements, each by way of
SQLAlchemy's objects, where a transaction of a few inserts does. In a search over thousands of short
trials, or after a store was away, that is most of what a trial costs beside its training. So such
runs are written here, as MLflow writes them, many in one transaction. That holds for the tables
that this is tested with (:data:`imdbtune.sqlite_runs.SCHEMAS`) and for runs that need none of
MLflow's judgement; all others are MLflow's own business.
"""

from __future__ import annotations

import math
import sqlite3
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from imdbtune.spool import Call
from imdbtune.sqlite_runs import sqlite_runs

TIMEOUT_S = 20.0  # as long as somebody else writes; the same as MLflow's
# What is longer than this, MLflow may refuse, or cut.
NAME_CHARACTERS, TEXT_CHARACTERS = 250, 500
MOST_METRICS = 1e300
BETWEEN = {"log_batch", "log_inputs", "log_artifacts"}
RUN_NAME, USER = "mlflow.runName", "mlflow.user"

Metric = tuple[str, float, int, int]  # name, value, milliseconds, step


@dataclass(frozen=True)
class EndedRun:
    """A run from its beginning to its end, which was told in so many ``calls`` of a spool.

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
    def of(cls, calls: Sequence[Call], tags: Mapping[str, str]) -> EndedRun | None:
        """The run that the calls of a spool tell of, from its beginning to its end.

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
            tags={**first["tags"], **tags, **own},
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
            RUN_NAME not in self.tags
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


def write_runs(uri: str, runs: Mapping[str, EndedRun]) -> dict[str, tuple[str, str]]:
    """Write runs to the store, all of them or none.

    Args:
        uri: the tracking store.
        runs: by any key.

    Returns:
        Of each run its id, and where its files go; nothing where MLflow is to write the runs.

    Raises:
        sqlite3.OperationalError: the store is locked, full or damaged; nothing is written.
    """
    store = sqlite_runs(uri) if runs else None
    if store is None:
        return {}
    with closing(sqlite3.connect(store.path, TIMEOUT_S, isolation_level=None)) as database:
        database.execute("PRAGMA foreign_keys = ON")
        database.execute("BEGIN IMMEDIATE")
        folders = dict(
            database.execute(
                "SELECT experiment_id, artifact_location FROM experiments "
                "WHERE lifecycle_stage = 'active' AND artifact_location > ''"
            )
        )
        if not {int(run.experiment_id) for run in runs.values()} <= set(folders):
            return {}
        try:
            written = {
                key: _write(database, run, folders[int(run.experiment_id)])
                for key, run in runs.items()
            }
        except (sqlite3.IntegrityError, UnicodeEncodeError):  # MLflow has words for it
            return {}
        database.execute("COMMIT")
    return written


def _write(database: sqlite3.Connection, run: EndedRun, folder: str) -> tuple[str, str]:
    from mlflow.utils.uri import append_to_uri_path

    run_id = uuid.uuid4().hex
    place = append_to_uri_path(folder, run_id, "artifacts")
    row = {
        "run_uuid": run_id,
        "name": run.name,
        "source_type": "UNKNOWN",
        "source_name": "",
        "entry_point_name": "",
        "user_id": run.tags.get(USER, "unknown"),
        "status": run.status,
        "start_time": run.start_time,
        "end_time": run.end_time,
        "source_version": "",
        "lifecycle_stage": "active",
        "artifact_uri": place,
        "experiment_id": int(run.experiment_id),
    }
    _insert(database, "runs", row, [tuple(row.values())])
    keyed = ("key", "value", "run_uuid")
    tags = {**run.tags, RUN_NAME: run.name}
    _insert(database, "tags", keyed, ((key, value, run_id) for key, value in tags.items()))
    _insert(database, "params", keyed, ((key, value, run_id) for key, value in run.params.items()))
    measured = ("key", "value", "timestamp", "step", "is_nan", "run_uuid")
    for table, metrics in (("metrics", run.metrics), ("latest_metrics", run.latest())):
        _insert(database, table, measured, ((*metric, False, run_id) for metric in metrics))
    for facts, context in run.datasets:
        _write_input(database, int(run.experiment_id), run_id, facts, context)
    return run_id, place


def _write_input(
    database: sqlite3.Connection,
    experiment: int,
    run_id: str,
    facts: Mapping[str, Any],
    tags: Mapping[str, str],
) -> None:
    """That a run used a data set, which is there once for all runs of an experiment."""
    which = (experiment, facts["name"], facts["digest"])
    row = {
        "dataset_uuid": uuid.uuid4().hex,
        "experiment_id": experiment,
        "name": facts["name"],
        "digest": facts["digest"],
        "dataset_source_type": facts["source_type"],
        "dataset_source": facts["source"],
        "dataset_schema": facts.get("schema"),
        "dataset_profile": facts.get("profile"),
    }
    _insert(database, "datasets", row, [tuple(row.values())], or_ignore=True)
    (dataset,) = database.execute(
        "SELECT dataset_uuid FROM datasets WHERE experiment_id = ? AND name = ? AND digest = ?",
        which,
    ).fetchone()
    used = uuid.uuid4().hex
    row = {
        "input_uuid": used,
        "source_type": "DATASET",
        "source_id": dataset,
        "destination_type": "RUN",
        "destination_id": run_id,
    }
    _insert(database, "inputs", row, [tuple(row.values())])
    columns = ("input_uuid", "name", "value")
    _insert(database, "input_tags", columns, ((used, *tag) for tag in tags.items()))


def _insert(
    database: sqlite3.Connection,
    table: str,
    columns: Iterable[str],
    rows: Iterable[tuple[object, ...]],
    or_ignore: bool = False,
) -> None:
    names = list(columns)
    kind = "INSERT OR IGNORE" if or_ignore else "INSERT"
    places = ", ".join("?" * len(names))
    database.executemany(f"{kind} INTO {table} ({', '.join(names)}) VALUES ({places})", rows)
