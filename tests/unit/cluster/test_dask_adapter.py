"""What is used of Dask beyond its documentation is there, in a cluster of threads."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from distributed import Client, LocalCluster, get_worker
from distributed.client import FutureCancelledError
from distributed.protocol import pickle
from distributed.scheduler import KilledWorker
from distributed.security import Security
from distributed.versions import get_versions

from imdbtune.cluster import dask_adapter
from imdbtune.cluster.dask_adapter import KnownWorker

PATIENCE_S = 60.0
begun, cancelled, free = threading.Event(), threading.Event(), threading.Event()


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    settings = {"processes": False, "protocol": "tcp", "host": "127.0.0.1", "memory_limit": 0}
    cluster = LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        dashboard_address=None,
        worker_dashboard_address=None,
        resources={"GPU": 1},
        **settings,
    )
    with cluster, Client(cluster, set_as_default=False) as made:
        yield made


def wait_until(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.01)


def linger() -> None:
    """In a worker: until its task is cancelled."""
    worker = get_worker()
    key = worker.get_current_task()
    assert dask_adapter.is_executing(worker, key)
    begun.set()
    wait_until(lambda: not dask_adapter.is_executing(worker, key))
    cancelled.set()
    free.wait(PATIENCE_S)


def test_workers_are_listed(client: Any) -> None:
    (known,) = dask_adapter.list_workers(client, PATIENCE_S).values()
    assert known == KnownWorker(running=True, resources={"GPU": 1}, nanny=False)


def test_the_list_of_workers_has_a_time_limit(client: Any) -> None:
    """The scheduler runs in the loop that is blocked."""
    client.loop.add_callback(time.sleep, 1.0)
    with pytest.raises(TimeoutError):
        dask_adapter.list_workers(client, 0.001)


def test_the_call_stack_of_a_running_task_is_sent_until_it_is_cancelled(client: Any) -> None:
    future = client.submit(linger, pure=False)
    assert begun.wait(PATIENCE_S)
    assert "in linger" in dask_adapter.call_stack(client, future.key)
    client.cancel([future])
    assert cancelled.wait(PATIENCE_S)
    assert dask_adapter.call_stack(client, future.key) == "the worker did not send its call stack"
    free.set()


def test_the_connection_stays_while_the_scheduler_does(client: Any) -> None:
    connection = dask_adapter.connection(client)
    assert connection is not None
    client.scheduler_info()
    assert dask_adapter.connection(client) is connection


def test_a_scheduler_is_probed(client: Any) -> None:
    address = client.scheduler_info()["address"]
    asyncio.run(dask_adapter.probe(address, Security(), PATIENCE_S))
    with pytest.raises(OSError, match=r"127\.0\.0\.1:1"):
        asyncio.run(dask_adapter.probe("tcp://127.0.0.1:1", Security(), 0.2))


def test_errors_of_lost_workers_have_their_names() -> None:
    assert dask_adapter.is_lost(KilledWorker("task", None, 0))
    assert dask_adapter.is_lost(FutureCancelledError("task", "scheduler-connection-lost"))
    assert not dask_adapter.is_lost(ValueError())


def test_the_function_that_reports_versions_is_sent_by_its_name() -> None:
    """So that another version of Python can run it, unlike one that is sent as bytecode."""
    sent = pickle.dumps(get_versions)
    assert b"distributed.versions" in sent
    assert b"get_versions" in sent
    assert len(sent) < 100
