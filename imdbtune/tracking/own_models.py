"""Users' own models and metrics in MLflow: sources as artifacts, and what trials draw as a tag."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imdbtune.config.hyperparameters import OwnValues, TrialParams
from imdbtune.config.own_code import OwnCode
from imdbtune.config.own_metric import facts_as_text
from imdbtune.config.own_source import OwnSource, split_reference
from imdbtune.errors import UserError, short_repr
from imdbtune.tracking import mlflow_names as names
from imdbtune.tracking import reader

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from imdbtune.tracking.entities import Trial
    from imdbtune.tracking.outbox import Outbox

# Of the artifacts of a search or training.
FOLDER = "model"
METRICS_FOLDER = "metrics"


def code_tags(code: OwnCode) -> dict[str, object]:
    """Return the settings by which a search or training names the user's own code, if any."""
    model, metrics = code.model, facts_as_text(metric.facts for metric in code.metrics)
    named = {"model": model.build, "model_sha256": model.digest} if model else {}
    return {**named, "own_metrics": metrics}


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


@dataclass(frozen=True)
class Stored:
    """Where MLflow has the source of a user's own code.

    Args:
        reference: file and function, such as ``my_model.py:build``.
        digest: sha256 of the file.
        folder: of the artifacts.
    """

    reference: str
    digest: str
    folder: str

    @property
    def artifact(self) -> str:
        """The artifact of a search or training."""
        return f"{self.folder}/{self.reference.partition(':')[0]}"

    def source(self, text: str) -> OwnSource:
        """Return the source with this text."""
        path, function = split_reference(self.reference, "source", "my_model.py:build")
        return OwnSource(path.name, function, text)


def log_code(client: Outbox, run_id: str, code: OwnCode) -> None:
    """Log the sources of the user's own code as artifacts of a search or training."""
    if code.model is not None:
        client.log_text(run_id, code.model.text, f"{FOLDER}/{code.model.file}")
    for metric in code.metrics:
        client.log_text(run_id, metric.source.text, f"{METRICS_FOLDER}/{metric.source.file}")


def read_source(client: MlflowClient, trial: Trial, stored: Stored) -> OwnSource:
    """Return a source that a trial was trained with, as MLflow has it.

    Raises:
        UserError: it is not there, or another one than the trial was trained with.
    """
    for run_id in (trial.run_id, reader.search_of(client, trial)):
        text = reader.read_text(client, run_id, stored.artifact) if run_id else ""
        source = stored.source(text)
        if text and source.digest == stored.digest:
            return source
    raise UserError(
        f"the source of {stored.reference} with the sha256 {stored.digest} is not in MLflow "
        f"(artifact {stored.artifact} of the search of run {trial.run_id}), so it cannot be run."
    )
