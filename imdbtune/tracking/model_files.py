"""Fetch the model files of trials from MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from imdbtune.errors import UserError, first_line
from imdbtune.tracking import mlflow_names
from imdbtune.tracking.entities import Trial
from imdbtune.tracking.run_queries import runs_by_id

if TYPE_CHECKING:
    from mlflow import MlflowClient


def fetch_model(client: MlflowClient, trial: Trial, folder: Path) -> Path:
    """Download a trial's ``model.keras`` into ``folder``, and return its path.

    Raises:
        UserError: the trial's model was not saved, or its file is gone.
    """
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    if trial.model_id is None:
        raise UserError(
            f"the model of {trial.name} (run {trial.run_id}) was not saved; "
            f"{_remedy(client, trial)}"
        )
    try:
        model = client.get_logged_model(trial.model_id)
        source = f"{model.artifact_location}/data/model.keras"
        where = {"dst_path": str(folder), "tracking_uri": client.tracking_uri}
        return Path(download_artifacts(artifact_uri=source, **where))
    except (MlflowException, OSError) as error:
        raise UserError(
            f"the model file of {trial.name} (run {trial.run_id}) cannot be read: "
            f"{first_line(error)}"
        ) from error


def _remedy(client: MlflowClient, trial: Trial) -> str:
    """Return what to do about a model that MLflow does not have."""
    for run in runs_by_id(client, trial.tags.get(mlflow_names.SEARCH_ID, "")):
        if run.info.status != "FINISHED" and run.data.params.get("tracking.keep_models") != "0":
            return (
                "the search saves its best models when it ends: "
                f"imdbtune search --resume {run.info.run_id}"
            )
    return "search again with --keep-models all, or best."
