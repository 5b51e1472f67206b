"""Writes the page of a search in MLflow anew after its trials have changed there."""

from __future__ import annotations

from imdbtune.errors import UserError
from imdbtune.search.discard import mark_trial
from imdbtune.tracking import mlflow_names
from imdbtune.tracking.connection import connect_existing, is_of_store
from imdbtune.tracking.entities import Search, Trial


def refresh_page(uri: str, search: Search, best_run_id: str | None) -> bool:
    """Write the page of a search anew if it names another best trial; return whether it was.

    Somebody may have deleted, restored or discarded a trial in MLflow since it was written. A page
    that cannot be written stays as it is: who only reads need not be permitted to write.

    Args:
        uri: the tracking store.
        search: one that is running writes its page itself; one without a page gets none.
        best_run_id: the run that the page ought to name; empty: none; ``None``: write in any case.
    """
    named = search.tags.get(mlflow_names.BEST_RUN_ID, "")
    is_right = named == best_run_id or mlflow_names.NOTE not in search.tags
    if search.status in mlflow_names.OPEN or (best_run_id is not None and is_right):
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


def discard(
    trial_ref: str,
    search_ref: str | None = None,
    *,
    reason: str = "",
    undo: bool = False,
    uri: str = "",
) -> tuple[Search, Trial]:
    """Mark a trial as not to be chosen, and write the page of its search anew.

    It stays in the comparison and in the sampler's history, but is not the best trial. The mark is
    the tag ``imdbtune.discarded`` of its run, which can be set in MLflow as well.

    Args:
        trial_ref: run id, name or number of the trial.
        reason: why it is discarded.
        undo: remove the mark.
    """
    found, trial = mark_trial(connect_existing(uri), trial_ref, search_ref, reason, undo)
    refresh_page(uri, found, None)
    return found, trial
