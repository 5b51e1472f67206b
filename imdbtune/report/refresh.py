"""Writes the page of a search in MLflow anew where it names another best trial than MLflow has."""

from __future__ import annotations

from imdbtune.errors import UserError
from imdbtune.tracking import mlflow_names
from imdbtune.tracking.connection import connect_existing, is_of_store
from imdbtune.tracking.entities import Search


def refresh_page(uri: str, search: Search, best_run_id: str | None) -> bool:
    """Write the page of a search anew if it names another best trial; return whether it was.

    Somebody may have deleted, restored or discarded a trial in MLflow since it was written. A page
    that cannot be written stays as it is: who only reads need not be permitted to write.

    Args:
        uri: the tracking store.
        search: the page of one that is running will be written anyway.
        best_run_id: the run that the page ought to name; empty: none; ``None``: write in any case.
    """
    published = search.tags.get(mlflow_names.BEST_RUN_ID, "")
    if search.status in mlflow_names.OPEN or published == best_run_id:
        return False
    from imdbtune.report.leaderboard import publish
    from imdbtune.search.resume import stored_config

    try:
        client = connect_existing(uri)
        config = stored_config(client, search)
        publish(client, search, config.space.varied, True, config.tracking.report)
    except Exception as error:
        if not (isinstance(error, UserError | OSError) or is_of_store(error)):
            raise
        return False
    return True
