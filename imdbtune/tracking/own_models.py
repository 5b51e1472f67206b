"""Users' own models in MLflow: the source as an artifact, and what each trial draws as a tag."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from imdbtune.config.hyperparameters import OwnValues, TrialParams
from imdbtune.config.own_model import ModelSource, split_build
from imdbtune.errors import UserError, short_repr
from imdbtune.tracking import mlflow_names as names
from imdbtune.tracking import reader

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from imdbtune.tracking.entities import Trial
    from imdbtune.tracking.outbox import Outbox

FOLDER = "model"  # of the artifacts of a search or training


def source_tags(source: ModelSource | None) -> dict[str, object]:
    """Return the settings by which a search or training names its own model, if it has one."""
    return {"model": source.build, "model_sha256": source.digest} if source else {}


def values_tags(params: TrialParams) -> dict[str, str]:
    """Return the tag with which the parameters of an own model are read again."""
    if params.own is None:
        return {}
    own = params.own
    facts = {
        "build": own.build,
        "sha256": own.digest,
        "compiled": own.compiled,
        "values": dict(own.values),
    }
    return {names.OWN_VALUES: json.dumps(facts)}


def read_values(tags: Mapping[str, str]) -> OwnValues | None:
    """Return what the own model of a trial draws, from its tags; ``None``: it has no own model.

    Raises:
        UserError: the tag is not one of :func:`values_tags`.
    """
    text = tags.get(names.OWN_VALUES, "")
    if not text:
        return None
    try:
        facts = json.loads(text)
        values = tuple((str(name), value) for name, value in facts["values"].items())
        if not all(isinstance(value, str | int | float) for _, value in values):
            raise TypeError
        build, digest = str(facts["build"]), str(facts["sha256"])
        return OwnValues(build, digest, bool(facts["compiled"]), values)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"its tag {names.OWN_VALUES}, {short_repr(text)}, was not written by imdbtune."
        ) from error


def log_source(client: Outbox, run_id: str, source: ModelSource) -> None:
    """Log the source of an own model as an artifact of a search or training."""
    client.log_text(run_id, source.text, f"{FOLDER}/{source.file}")


def read_source(client: MlflowClient, trial: Trial) -> ModelSource:
    """Return the source of a trial's own model, as MLflow has it.

    Raises:
        UserError: it is not there, or another one than the trial was trained with.
    """
    assert trial.params.own is not None
    own = trial.params.own
    path, function = split_build(own.build)
    artifact = f"{FOLDER}/{path.name}"
    for run_id in (trial.run_id, reader.search_of(client, trial)):
        text = reader.read_text(client, run_id, artifact) if run_id else ""
        source = ModelSource(path.name, function, text)
        if text and source.digest == own.digest:
            return source
    raise UserError(
        f"the source of {own.build} with the sha256 {own.digest} is not in MLflow (artifact "
        f"{artifact} of the search of run {trial.run_id}), so its model cannot be built again."
    )
