"""Registers models in MLflow's model registry, and fetches them by their URI."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imdbtune.errors import UserError, first_line, short_repr
from imdbtune.tracking import mlflow_names
from imdbtune.tracking.connection import hide_secrets
from imdbtune.tracking.entities import Trial

if TYPE_CHECKING:
    from mlflow import MlflowClient

ALIAS = "champion"
SCORE = "imdbtune.score"
LABELS = "imdbtune.labels"
URIS = ("models:", "runs:")


@dataclass(frozen=True)
class Version:
    """One version of a registered model."""

    name: str
    number: str

    @property
    def uri(self) -> str:
        """The URI of the model's champion, which may be another version later."""
        return f"models:/{self.name}@{ALIAS}"


def check_name(name: str) -> None:
    """Raise UserError unless this can be the name of a registered model."""
    if not name.strip() or not name.isprintable() or any(c in name for c in "/:@#?%"):
        raise UserError(
            f"a model cannot be registered as {short_repr(name)}; give a name of letters, digits, "
            "spaces, dots, - and _."
        )


def register(
    client: MlflowClient, trial: Trial, name: str, model: Path, labels: Sequence[str]
) -> Version:
    """Upload an MLflow model to a trial's run, and make it the champion among ``name``'s versions.

    Args:
        client: of the store that has the run.
        trial: the model's trial; the version is tagged with its origin.
        name: of the registered model, which is created if need be.
        model: a folder with an ``MLmodel`` in it.
        labels: what it tells apart; the version is tagged with more than two.

    Raises:
        UserError: the store refuses it.
    """
    from mlflow.exceptions import MlflowException

    check_name(name)
    place = f"registered/{uuid.uuid4().hex[:12]}"
    try:
        client.log_artifacts(trial.run_id, str(model), place)
        source = f"{client.get_run(trial.run_id).info.artifact_uri}/{place}"
        _create_registered_model(client, name, len(labels))
        tags = _tags(trial)
        if len(labels) > 2:
            tags[LABELS] = json.dumps(list(labels), ensure_ascii=False)
        version = client.create_model_version(name, source, trial.run_id, tags=tags)
        client.set_registered_model_alias(name, ALIAS, version.version)
    except (MlflowException, OSError) as error:
        raise UserError(
            f"the model cannot be registered as {short_repr(name)} in "
            f"{hide_secrets(str(client.tracking_uri))}: {first_line(error, 300)}"
        ) from error
    return Version(name, str(version.version))


def _create_registered_model(client: MlflowClient, name: str, labels: int) -> None:
    from mlflow.exceptions import MlflowException

    try:
        count = "two" if labels == 2 else labels
        client.create_registered_model(name, description=f"Classifies texts by {count} labels.")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _tags(trial: Trial) -> dict[str, str]:
    origin = (
        mlflow_names.SEARCH,
        mlflow_names.SEARCH_ID,
        mlflow_names.TRIAL,
        mlflow_names.OBJECTIVE,
    )
    tags = {
        key: trial.tags[key]
        for key in (*origin, mlflow_names.DATA, mlflow_names.DIGEST)
        if key in trial.tags
    }
    tested = {f"imdbtune.{k}": str(v) for k, v in trial.metrics.items() if k == "test_accuracy"}
    return {**tags, SCORE: str(trial.score), **tested}


def is_uri(model: str) -> bool:
    """Return whether this is the URI of a model in MLflow, not a folder."""
    return model.startswith(URIS)


def _location(client: MlflowClient, uri: str) -> str:
    """Return where the files of a URI are; MLflow itself would ask its default store."""
    if uri.startswith("runs:"):
        return _location_in_run(client, *uri.removeprefix("runs:").strip("/").partition("/")[::2])
    if not uri.startswith("models:"):
        return uri
    named = uri.removeprefix("models:").strip("/")
    name, at, alias = named.partition("@")
    if at:
        version = client.get_model_version_by_alias(name, alias).version
    else:
        name, slash, version = named.rpartition("/")
        if not slash:
            return str(client.get_logged_model(named).artifact_location)
        if version == "latest":
            known = client.get_registered_model(name).latest_versions
            version = max(int(latest.version) for latest in known)
    return _location(client, str(client.get_model_version_download_uri(name, str(version))))


def _location_in_run(client: MlflowClient, run_id: str, path: str) -> str:
    """Return the place of a model that was logged by this name, else of an artifact."""
    run = client.get_run(run_id)
    for output in run.outputs.model_outputs if run.outputs else []:
        model = client.get_logged_model(output.model_id)
        if model.name == path:
            return str(model.artifact_location)
    return f"{run.info.artifact_uri}/{path}"


def fetch(client: MlflowClient, uri: str, folder: Path) -> Path:
    """Download the model with a ``models:/`` or ``runs:/`` URI into ``folder``.

    Raises:
        UserError: there is no such model.
    """
    from mlflow.artifacts import download_artifacts

    where = {"dst_path": str(folder), "tracking_uri": client.tracking_uri}
    try:
        return Path(download_artifacts(artifact_uri=_location(client, uri), **where))
    except Exception as error:  # MLflow's errors, and those of its artifact stores
        raise UserError(
            f"no model {short_repr(uri)} in {hide_secrets(str(client.tracking_uri))} "
            f"({first_line(error, 300)}); give models:/NAME@{ALIAS}, models:/NAME/VERSION or "
            "runs:/RUN_ID/model."
        ) from error


def run_of_version(folder: Path) -> str:
    """Return the id of the run whose model a downloaded folder holds.

    Raises:
        UserError: the folder holds no model of MLflow's, or one without a run.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.models import Model

    try:
        run_id = Model.load(str(folder)).run_id
    except (MlflowException, OSError, TypeError, ValueError):
        run_id = None
    if not run_id:
        raise UserError(
            "this is no model of imdbtune; give one that imdbtune best --register or a search has "
            "logged."
        )
    return str(run_id)
