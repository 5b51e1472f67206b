"""The parts of Dask that its documentation does not promise, as seen in distributed 2026.8.0.

When one of them goes away, ``tests/unit/cluster/test_dask_adapter.py`` fails, or for the processes
of this machine ``tests/contract/test_forkserver.py`` and ``test_lost_workers.py``.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributed import Client, LocalCluster, Worker
    from distributed.security import Security

STACK_S = 5  # for a worker to send its call stack


@dataclass(frozen=True)
class KnownWorker:
    """What the scheduler knows of a worker.

    Args:
        running: whether the worker takes tasks; it does not while it is paused.
        resources: those that it was started with.
        nanny: whether a nanny starts a new process when this one has died.
    """

    running: bool
    resources: Mapping[str, float]
    nanny: bool


def list_workers(client: Client, timeout_s: float) -> dict[str, KnownWorker]:
    """Return the workers of a cluster by their addresses.

    ``Client.scheduler_info`` has no time limit, and returns an old list when the scheduler is lost.

    Raises:
        Exception: the scheduler does not answer; Dask raises exceptions of several types.
    """
    identity = client.sync(client.scheduler.identity, n_workers=-1, callback_timeout=timeout_s)
    return {
        address: KnownWorker(known["status"] == "running", known["resources"], bool(known["nanny"]))
        for address, known in identity["workers"].items()
    }


def connection(client: Client) -> object | None:
    """Return the client's connection to its scheduler: another one after it was interrupted."""
    current: object | None = client.scheduler_comm
    return current


def call_stack(client: Client, key: str) -> str:
    """Return the call stack of a task, if its worker still answers.

    ``Client.call_stack`` has no time limit, and would wait for a process that hangs.
    """
    found: Mapping[str, Mapping[str, list[str]]] = {}
    with contextlib.suppress(Exception):  # the trial has to end in any case
        found = client.sync(client.scheduler.call_stack, keys=[key], callback_timeout=STACK_S)
    lines = [line for frames in found.values() for line in frames.get(key, ())]
    return "".join(lines) or "the worker did not send its call stack"


def is_lost(error: BaseException) -> bool:
    """Return whether a task has ended with this error because its worker process has died."""
    return type(error).__name__ in ("KilledWorker", "FutureCancelledError", "CancelledError")


def is_executing(worker: Worker, key: str) -> bool:
    """Return whether a worker still has to execute a task: it was not cancelled."""
    task = worker.state.tasks.get(key)
    return task is not None and task.state == "executing"


def kill_processes(cluster: LocalCluster) -> None:
    """Kill the worker processes of this machine: a training does not react to anything else."""
    for nanny in cluster.workers.values():
        nanny.auto_restart = False
        if nanny.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(nanny.pid, signal.SIGKILL)


def set_preload() -> None:
    """Let Dask set its list of modules that the fork server imports, which it does once.

    Modules that are set afterwards replace it.
    """
    from distributed.utils import get_mp_context

    get_mp_context()


async def probe(address: str, security: Security, timeout_s: float) -> None:
    """Connect once: a ``Client`` that fails to connect would delay the exit by half a minute."""
    from distributed.comm import connect

    comm = await connect(address, timeout=timeout_s, **security.get_connection_args("client"))
    await comm.close()
