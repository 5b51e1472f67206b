"""Queries for the runs of a store: by MLflow's client, or from its SQLite file without MLflow."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from imdbtune.tracking.sqlite_reader import SqliteRuns

if TYPE_CHECKING:
    from mlflow.store.entities import PagedList

    from imdbtune.tracking.sqlite_reader import Runs, StoredRun

# What MLflow answers if a store has no run with an id, or the text cannot be an id.
_NO_SUCH_RUN = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


def find_runs(
    client: Runs,
    tags: Mapping[str, str],
    limit: int,
    experiments: list[str] | None = None,
    deleted: bool = False,
    status: str = "",
) -> list[StoredRun]:
    """Return the runs with these tags, the newest first.

    Arguments and exceptions are those of :meth:`imdbtune.tracking.sqlite_reader.SqliteRuns.find`.
    """
    if isinstance(client, SqliteRuns):
        return client.find(tags, limit, experiments, deleted, status)
    from mlflow.entities import ViewType

    if experiments is None:
        experiments = [e.experiment_id for e in all_pages(client.search_experiments, 100_000)]
    # MLflow's filters cannot escape a quote: filter by such a value here, below.
    plain = {key: value for key, value in tags.items() if re.fullmatch(r"[\w ,.:+-]*", value)}
    conditions = [f"tags.`{key}` = '{value}'" for key, value in plain.items()]
    conditions += [f"attributes.status = '{status}'"] if status else []
    found = all_pages(
        client.search_runs,
        limit if plain == tags else 100_000,
        experiment_ids=experiments,
        filter_string=" and ".join(conditions),
        run_view_type=ViewType.DELETED_ONLY if deleted else ViewType.ACTIVE_ONLY,
        order_by=["attributes.start_time DESC"],
    )
    return [run for run in found if tags.items() <= run.data.tags.items()][:limit]


def all_pages(fetch: Callable[..., PagedList[Any]], limit: int, **query: object) -> list[Any]:
    """Return the results of all pages of an MLflow query."""
    found: list[Any] = []
    token = None
    while len(found) < limit:
        page = fetch(**query, max_results=min(1000, limit - len(found)), page_token=token)
        found += page
        token = page.token
        if not token:
            break
    return found


def runs_by_id(client: Runs, run_id: str) -> list[StoredRun]:
    """Return the run with this id, also a deleted one; nothing where there is none."""
    if isinstance(client, SqliteRuns):
        return client.get(run_id)
    from mlflow.exceptions import MlflowException

    try:
        return [client.get_run(run_id)]
    except MlflowException as error:
        if str(error.error_code) in _NO_SUCH_RUN:
            return []
        raise
