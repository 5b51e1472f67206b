"""Worker processes are copies of one that has the libraries imported, and nothing else."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import psutil
import pytest

from imdbtune.cluster import forkserver
from imdbtune.cluster.local_executor import open_local_executor, thread_environment
from tests.forked import run_forked

pytestmark = [
    pytest.mark.skipif(forkserver.method() != "forkserver", reason="no fork server here"),
    pytest.mark.xdist_group("fork server"),
]


def look_around() -> tuple[bool, bool, int, str | None, str | None]:
    """Return the state of a worker before its first trial."""
    from tensorflow.python.eager.context import context

    return (
        {*forkserver.PRELOADED} <= {*sys.modules},
        bool(context()._initialized),
        os.getppid(),
        os.environ.get("MLFLOW_RUN_ID"),
        os.environ.get("TF_NUM_INTRAOP_THREADS"),
    )


def search_begins(folder: Path) -> None:
    """In a process that has no fork server yet, as at the start of a command."""
    os.environ["MLFLOW_RUN_ID"] = "of the search"
    with open_local_executor(2, folder, lambda event: None, thread_environment(1)) as executor:
        seen = executor.client.run(look_around)
        parents = {parent for *_, parent, _, _ in seen.values()}
        assert len(parents) == 1
        assert parents.pop() in {child.pid for child in psutil.Process().children()}
        for imported, begun, _, run_id, threads in seen.values():
            assert (imported, begun, run_id, threads) == (True, False, None, "1")
        first, second = executor.client.run(os.getpid).values()
        executor.client.restart_workers(list(executor.client.scheduler_info()["workers"]))
        renewed = executor.client.run(os.getpid).values()
        assert not {first, second} & {*renewed}
        assert all(imported for imported, *_ in executor.client.run(look_around).values())
    assert os.environ["MLFLOW_RUN_ID"] == "of the search"


def test_workers_and_renewed_ones_are_forked_with_all_imported_and_nothing_begun(
    tmp_path: Path,
) -> None:
    assert run_forked(search_begins, tmp_path) == 0
