"""Workers start at once: they are forked from a process that has the libraries imported.

TensorFlow, Keras and MLflow take seconds of processor time to import. multiprocessing's fork
server does so once, while the driver starts, and each worker, also one that replaces another, is a
copy of it that shares its memory. Without fork servers (Windows) each worker imports by itself.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Mapping
from multiprocessing import forkserver

from imdbtune.cluster.start_failure import record_output

# What a trial needs. None of these may start threads or use a GPU when it is imported: neither
# survives a fork.
PRELOADED = (
    "distributed",
    "tensorflow",
    "keras",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "mlflow.keras",
    "mlflow.models",
    "mlflow.pyfunc",
    "imdbtune.tracking.writer",
    "imdbtune.training.learning_curves",
    "imdbtune.training.trainer",
)


def method() -> str:
    """Return multiprocessing's name for how worker processes are started."""
    return "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


def begin(environment: Mapping[str, str]) -> None:
    """Start to import what workers need, in a process of its own; return at once.

    A second call changes nothing, so that only the first has to come before other threads start.

    Args:
        environment: variables that have to be set before the libraries are imported.
    """
    os.environ.update({k: v for k, v in environment.items() if os.environ.get(k) != v})
    if method() == "forkserver":
        multiprocessing.get_context("forkserver").set_forkserver_preload([*PRELOADED])
        with record_output():
            forkserver.ensure_running()
