"""Average the models of the best configurations of a search, or mix them with a linear model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imdbtune.confirm.runs import best_runs
from imdbtune.search.context import Context
from imdbtune.search.ensemble import check_members, combine_models
from imdbtune.tracking import reader
from imdbtune.tracking.entities import Trial

if TYPE_CHECKING:
    from imdbtune.tracking.connection import MlflowClient


def combine_best(
    client: MlflowClient,
    search_ref: str | None,
    count: int,
    context: Context,
    *,
    refitted: bool = False,
    linear: bool = False,
) -> tuple[Trial, list[Trial]]:
    """Combine the models of at most ``count`` configurations; return the run and its members.

    Args:
        search_ref: name or run id; ``None``: the last search.
        refitted: train each configuration on all training reviews first.
        linear: mix them with a linear model, by weights fitted to the validation reviews.

    Raises:
        UserError: there are too few models, or they cannot be combined.
    """
    found = reader.find_search(client, search_ref)
    members = best_runs(client, found, count)
    check_members(members, linear, refitted=refitted)
    return combine_models(client, found, members, context, refitted=refitted, linear=linear)
