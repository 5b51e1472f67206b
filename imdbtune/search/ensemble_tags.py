"""What MLflow shows of an ensemble: its description, and its members' hyperparameters as a tag."""

from __future__ import annotations

import json
from collections.abc import Sequence

from imdbtune.config.hyperparameters import TrialParams
from imdbtune.errors import UserError
from imdbtune.tracking.entities import Search, Trial
from imdbtune.tracking.mlflow_links import as_text, run_link

LINKED = 20  # members that a description names; MLflow limits the length of a tag


def description(
    search: Search, members: Sequence[Trial], linear: bool = False, fitted: Trial | None = None
) -> str:
    """Return the Markdown that MLflow shows for an ensemble, with links to its members.

    Args:
        fitted: the mix whose weights are used, if they were not fitted for this one.
    """
    links = [f"[{as_text(m.name)}]({run_link(search, m.run_id)})" for m in members[:LINKED]]
    others = [f"{len(members) - LINKED} others"] if len(members) > LINKED else []
    combined = f"{len(members)} models: {', '.join([*links, *others])}"
    start = f"The mean probability of {combined}"
    if linear:
        link = f" of [{as_text(fitted.name)}]({run_link(search, fitted.run_id)})" if fitted else ""
        start = f"A mix of a linear model on word n-grams and {combined}. The linear model's logit "
        start += f"and the mean of the others are added with the weights{link} among the metrics, "
        start += "which were fitted to the validation reviews"
        start += "" if fitted else "; the other metrics are those of cross-fitting"
    return (
        f"{start}. Its parameters are those of the first, but the longest maxlen and the "
        "largest vocabulary."
    )


def write_members(members: Sequence[TrialParams]) -> str:
    """Return the members' hyperparameters as JSON: those that all share, and those of each."""
    every = [params.as_dict() for params in members]
    shared = {k: v for k, v in every[0].items() if all(values[k] == v for values in every)}
    own = [{k: v for k, v in values.items() if k not in shared} for values in every]
    return json.dumps({"shared": shared, "own": own}, separators=(",", ":"))


def read_members(tag: str) -> tuple[TrialParams, ...]:
    """Return what :func:`write_members` wrote; nothing from a tag that cannot be read."""
    try:
        found = json.loads(tag)
        return tuple(TrialParams.from_values({**found["shared"], **own}) for own in found["own"])
    except (ValueError, TypeError, KeyError, UserError):
        return ()
