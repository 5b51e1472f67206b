"""Worker processes start in no time: they are forked from a process that has all imported.

TensorFlow, Keras and MLflow take seconds of processor time to import. multiprocessing's fork
server does so once, while the driver is still busy with its own start, and every worker, also
one that replaces another, is a copy of it that shares its memory. Where there are no fork
servers (Windows) each worker is started from scratch.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from multiprocessing import forkserver

PRELOADED = ("imdbtune.lean_keras", "imdbtune.cluster.forkserver_preload")  # in this order
# The run that `mlflow run` made is the search's; a trial that saw it would write there.
NOT_FOR_WORKERS = ("MLFLOW_RUN_ID",)


def method() -> str:
    """How worker processes are made: multiprocessing's name for it."""
    return "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


def begin(environment: Mapping[str, str]) -> None:
    """Start to import what workers need, in a process of its own; returns at once.

    Args:
        environment: variables that have to be set before the libraries are imported.
    """
    os.environ.update(environment)
    if method() != "forkserver":
        return
    # Dask names its own modules the first time that it is asked for a context.
    with without(os.environ, NOT_FOR_WORKERS):
        multiprocessing.get_context("forkserver").set_forkserver_preload([*PRELOADED])
        forkserver.ensure_running()


@contextmanager
def without(environment: MutableMapping[str, str], names: tuple[str, ...]) -> Iterator[None]:
    """Take variables out of the environment for a while."""
    kept = {name: environment.pop(name) for name in names if name in environment}
    try:
        yield
    finally:
        environment.update(kept)
