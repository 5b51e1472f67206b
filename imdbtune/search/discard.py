"""Mark trials as not to be chosen, by a tag of their runs in MLflow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from imdbtune.errors import UserError, short_repr
from imdbtune.tracking import mlflow_names, reader
from imdbtune.tracking.entities import Search, Trial

if TYPE_CHECKING:
    from imdbtune.tracking.connection import MlflowClient

MAX_REASON = 500  # characters


def mark_trial(
    client: MlflowClient, trial_ref: str, search_ref: str | None, reason: str, undo: bool
) -> tuple[Search, Trial]:
    """Set or remove the tag that discards a trial; return its search and the trial as it is now.

    Args:
        client: of the tracking store.
        trial_ref: run id, name or number of the trial.
        search_ref: name or run id of the search; ``None``: the last, or that of the run id.
        reason: why it is discarded; may be empty.
        undo: remove the tag.

    Raises:
        UserError: there is no such trial, or the reason is too long.
    """
    if len(reason) > MAX_REASON:
        raise UserError(
            f"a reason of {len(reason):,} characters is too long; give at most {MAX_REASON}."
        )
    search, trial = _find_trial(client, trial_ref, search_ref)
    if not undo:
        client.set_tag(trial.run_id, mlflow_names.DISCARDED, reason.strip() or "true")
    elif mlflow_names.DISCARDED in trial.tags:
        client.delete_tag(trial.run_id, mlflow_names.DISCARDED)
    return search, reader.read_run(client, trial.run_id)


def _find_trial(
    client: MlflowClient, trial_ref: str, search_ref: str | None
) -> tuple[Search, Trial]:
    if len(trial_ref) == 32 and trial_ref.isalnum() and search_ref is None:
        trial = reader.read_run(client, trial_ref)
        parent = trial.tags.get(mlflow_names.SEARCH_ID, "")
        if trial.trial_id and parent:
            return reader.find_search(client, parent), trial
        raise UserError(
            f"run {trial_ref} is not a trial of a search; imdbtune compare --csv lists the trials."
        )
    search = reader.find_search(client, search_ref)
    found = _matching(reader.read_trials(client, search), trial_ref)
    if len({trial.trial_id for trial in found}) != 1:
        problem = f"has {len(found)} trials" if found else "has no trial"
        raise UserError(
            f"search {search.name!r} {problem} {short_repr(trial_ref)}; give a run id or a number "
            "of imdbtune compare --columns trial,name,run_id."
        )
    return search, found[0]


def _matching(trials: Sequence[Trial], reference: str) -> list[Trial]:
    """Return the trials of this run id, number or name, the best of its attempts first."""
    by_number = reference.isascii() and reference.isdigit() and len(reference) < 10
    number = int(reference) if by_number else -1
    return [
        trial
        for trial in trials
        if reference in (trial.run_id, trial.trial_id, trial.name)
        or (trial.trial_id.isdigit() and int(trial.trial_id) == number)
    ]
