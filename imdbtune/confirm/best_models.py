"""Average the models of the best configurations of a search."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imdbtune.confirm.runs import best_runs
from imdbtune.search.context import Context
from imdbtune.search.ensemble import average_models, check_members
from imdbtune.search.rerun import train_on_all_reviews
from imdbtune.tracking import reader
from imdbtune.tracking.entities import Trial

if TYPE_CHECKING:
    from imdbtune.tracking.connection import MlflowClient


def average_best(
    client: MlflowClient,
    search_ref: str | None,
    count: int,
    context: Context,
    *,
    refitted: bool = False,
    linear: bool = False,
) -> tuple[Trial, list[Trial]]:
    """Average the models of at most ``count`` configurations; return the run and its members.

    Args:
        search_ref: name or run id; ``None``: the last search.
        refitted: train each configuration on all training reviews first.
        linear: add the search's linear model, with a weight of one half.

    Raises:
        UserError: there are too few models, or they cannot be averaged.
    """
    found = reader.find_search(client, search_ref)
    members = best_runs(client, found, count)
    check_members(members, linear, refitted=refitted)
    if refitted:
        members = [train_on_all_reviews(client, member, context) for member in members]
    return average_models(client, found, members, context, linear=linear), members
