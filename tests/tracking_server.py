"""MLflow's server, started in no time: in a process that has it imported already."""

from __future__ import annotations

import os

import uvicorn
from mlflow.server import constants
from mlflow.server.fastapi_app import app


def serve(store: str, artifacts: str, host: str, port: int) -> None:
    """Serve a store and the files in ``artifacts`` until this process is killed."""
    os.environ[constants.BACKEND_STORE_URI_ENV_VAR] = store
    os.environ[constants.ARTIFACT_ROOT_ENV_VAR] = "mlflow-artifacts:/"
    os.environ[constants.SERVE_ARTIFACTS_ENV_VAR] = "true"
    os.environ[constants.ARTIFACTS_DESTINATION_ENV_VAR] = artifacts
    uvicorn.run(app, host=host, port=port, log_level="warning")
