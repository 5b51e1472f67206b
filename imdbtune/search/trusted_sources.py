"""The sources of users' own models and metrics that may be run on this machine.

Whoever can write to a tracking store can put a source there. So a source from MLflow is run only if
a search in this folder was started with the same one, or the user has said that it is trusted.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from imdbtune.config.own_code import OwnCode
from imdbtune.config.own_metric import MetricFacts, OwnMetric
from imdbtune.config.own_model import ModelSource
from imdbtune.config.own_source import OwnSource, read_own_text
from imdbtune.errors import UserError
from imdbtune.files import atomic_path, make_private_folder, read_small_text
from imdbtune.models.safe_load import has_known_layers_only
from imdbtune.tracking import own_models

if TYPE_CHECKING:
    from imdbtune.search.context import Context
    from imdbtune.tracking.connection import MlflowClient
    from imdbtune.tracking.entities import Trial

FOLDER = "models"  # in the folder of the workspaces


def remember(base: Path, sources: Iterable[OwnSource]) -> None:
    """Note that sources are trusted in a folder of workspaces."""
    for source in sources:
        path = _path(base, source.digest)
        if not is_known(base, source):
            make_private_folder(path.parent)
            with atomic_path(path) as temporary:
                temporary.write_text(source.text, encoding="utf-8")


def is_known(base: Path, source: OwnSource) -> bool:
    """Return whether a source is trusted in a folder of workspaces."""
    return _path(base, source.digest).exists()


def _path(base: Path, digest: str) -> Path:
    return base / FOLDER / f"{digest}.py"


def trusts_export(folder: Path, context: Context) -> bool:
    """Return whether the source of a user's own model in an export folder may be run here.

    Raises:
        UserError: it cannot be read.
    """
    from imdbtune.export.keras_format import SOURCE
    from imdbtune.export.mlflow_format import INNER, MODEL

    paths = [folder / SOURCE, folder / MODEL / INNER / SOURCE]
    sources = [OwnSource(SOURCE, "", read_own_text(p, "model")) for p in paths if p.is_file()]
    return context.trust_model or all(is_known(context.workspaces, each) for each in sources)


def find_code(client: MlflowClient, trial: Trial, context: Context) -> OwnCode:
    """Return the sources of the user's own code that a trial was trained with.

    Raises:
        UserError: one is not trusted, or MLflow does not have it.
    """
    return OwnCode(find_source(client, trial, context), find_metrics(client, trial, context))


def find_source(client: MlflowClient, trial: Trial, context: Context) -> ModelSource | None:
    """Return the source of a trial's own model; ``None``: it has none.

    Raises:
        UserError: the source is not trusted, or MLflow does not have it.
    """
    own = trial.params.own
    if own is None:
        return None
    where = own_models.Stored(own.build, own.digest, own_models.FOLDER)
    found = _find(client, trial, where, context, "is a model of")
    return ModelSource(found.file, found.function, found.text)


def find_metrics(client: MlflowClient, trial: Trial, context: Context) -> tuple[OwnMetric, ...]:
    """Return the metrics of the user's own with which a trial is measured.

    Raises:
        UserError: the source of one is not trusted, or MLflow does not have it.
    """

    def find(facts: MetricFacts) -> OwnMetric:
        where = own_models.Stored(facts.reference, facts.digest, own_models.METRICS_FOLDER)
        source = _find(client, trial, where, context, "is measured by")
        return OwnMetric(source, facts.larger_is_better)

    return tuple(find(facts) for facts in trial.own_metrics)


def _find(
    client: MlflowClient, trial: Trial, stored: own_models.Stored, context: Context, relation: str
) -> OwnSource:
    """Return a source that is trusted here, or that the user trusts."""
    digest = stored.digest
    known = _path(context.workspaces, digest) if digest.isalnum() else None
    if known is not None and known.exists():
        source = stored.source(read_small_text(known))
        if source.digest == digest:
            return source
    if not context.trust_model:
        raise UserError(
            f"{trial.name} (run {trial.run_id}) {relation} {stored.reference}, whose code would be "
            f"run here, and no search in {context.workspaces} was started with it. Read it in "
            f"MLflow, the artifact {stored.artifact} of its search, and add --trust-model."
        )
    source = own_models.read_source(client, trial, stored)
    remember(context.workspaces, [source])
    return source


def needed_source(
    client: MlflowClient, trial: Trial, model: Path, context: Context
) -> ModelSource | None:
    """Return the source that a trial's model file needs to be opened; ``None``: it needs none.

    A file of Keras's own layers needs none, whoever has built the model.

    Raises:
        UserError: the source is not trusted, or MLflow does not have it.
    """
    if trial.params.own is None or has_known_layers_only(model):
        return None
    return find_source(client, trial, context)
