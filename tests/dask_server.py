"""Dask's schedulers and workers, started in no time: forked from a process that has them imported.

``python -m tests.dask_server`` starts one for each line that it reads, the arguments of :func:`run`
as JSON, and answers with its process id.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys

# What workers need for trials that train nothing: TensorFlow has to find their own environment.
PRELOADED = (
    "distributed.cli.dask_scheduler",
    "distributed.cli.dask_worker",
    "imdbtune.cluster.remote_task",
    "imdbtune.training.learning_curves",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "mlflow.store.tracking.rest_store",
)


def run(module: str, arguments: list[str], folder: str, environment: dict[str, str]) -> None:
    """What ``python -m MODULE`` does in a folder, in a session of its own."""
    import dask.config

    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    dask.config.refresh()  # from the environment
    log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.argv = [module, *arguments]
    importlib.import_module(module).main()


def main() -> None:
    from imdbtune.tracking import writer

    for name in PRELOADED:
        importlib.import_module(name)
    writer.warm_up()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that the killed ones are gone
    while line := sys.stdin.readline():
        child = os.fork()
        if not child:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            run(**json.loads(line))
            return
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
