"""What MLflow's client reads from the environment, where the user has not set it."""

from __future__ import annotations

import functools
import os
from importlib.metadata import entry_points

# What MLflow's client reads from the environment at each request.
ENVIRONMENT_DEFAULTS = {
    # MLflow would retry a request for minutes; what must not fail is retried by the delivery.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",  # a server that receives a model needs some time
    # MLflow would sleep for as long as a server asks for.
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
    # MLflow would print two lines for each run that ends, and ask the server for them.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # MLflow would draw two bars for each small file that is read back, also in a notebook.
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
AUTH, AUTH_PLUGIN = "MLFLOW_TRACKING_AUTH", "imdbtune-bounded"  # tracking.bounded_answers


def set_environment_defaults() -> None:
    """Set :data:`ENVIRONMENT_DEFAULTS` where the environment has no value of its own.

    The command line does so at its start, ``connect`` for those who use the Python API: both
    before this package starts a thread. Further calls change nothing.
    """
    plugin = {AUTH: AUTH_PLUGIN} if _has_plugin() else {}
    for name, value in (ENVIRONMENT_DEFAULTS | plugin).items():
        if not os.environ.get(name):
            os.environ[name] = value


@functools.cache  # it reads the metadata of all packages
def _has_plugin() -> bool:
    """Return whether this package is installed; MLflow would complain about an unknown plugin."""
    return AUTH_PLUGIN in entry_points(group="mlflow.request_auth_provider").names
