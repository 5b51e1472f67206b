"""MLflow's server, started again in no time: forked from a process that has it imported.

``python -m tests.tracking_server STORE ARTIFACTS PORT [HOST]`` starts one for each line that it
reads, and answers with its process id.
"""

from __future__ import annotations

import os
import signal
import sys


def main(store: str, artifacts: str, port: str, host: str = "127.0.0.1") -> None:
    import uvicorn
    from mlflow.server import constants

    os.environ[constants.BACKEND_STORE_URI_ENV_VAR] = store
    os.environ[constants.ARTIFACT_ROOT_ENV_VAR] = "mlflow-artifacts:/"
    os.environ[constants.SERVE_ARTIFACTS_ENV_VAR] = "true"
    os.environ[constants.ARTIFACTS_DESTINATION_ENV_VAR] = artifacts
    from mlflow.server.fastapi_app import app

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that the killed ones are gone
    while sys.stdin.readline():
        child = os.fork()
        if not child:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            uvicorn.run(app, host=host, port=int(port), log_level="warning")
            return
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
