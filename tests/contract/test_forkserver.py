"""Worker processes are copies of one that has the libraries imported, and nothing else."""

from __future__ import annotations

import gc
import multiprocessing.forkserver
import os
import sys
from pathlib import Path

import psutil
import pytest

from imdbtune.cluster import forkserver
from imdbtune.cluster.local_executor import open_local_executor, thread_environment


@pytest.fixture(autouse=True, scope="module")
def own_fork_server() -> None:
    """This process has one; another test may have had other modules imported in it."""
    multiprocessing.forkserver._forkserver._stop()


pytestmark = pytest.mark.skipif(forkserver.method() != "forkserver", reason="no fork server here")


def look_around() -> tuple[bool, bool, bool, int, str | None, str | None]:
    """In a worker: what is there before its first trial."""
    from tensorflow.python.eager.context import context

    return (
        "imdbtune.training.trainer" in sys.modules,
        bool(context()._initialized),
        gc.isenabled() and gc.get_freeze_count() > 0,
        os.getppid(),
        os.environ.get("MLFLOW_RUN_ID"),
        os.environ.get("TF_NUM_INTRAOP_THREADS"),
    )


def test_workers_are_forked_with_all_imported_and_nothing_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "of the search")
    with open_local_executor(2, tmp_path, lambda event: None, thread_environment(1)) as executor:
        seen = executor.client.run(look_around)
        parents = {parent for *_, parent, _, _ in seen.values()}
        assert len(parents) == 1
        assert parents.pop() in {child.pid for child in psutil.Process().children()}
        for imported, begun, tidy, _, run_id, threads in seen.values():
            assert (imported, begun, tidy, run_id, threads) == (True, False, True, None, "1")
    assert os.environ["MLFLOW_RUN_ID"] == "of the search"


def import_what_was_spared() -> bool:
    """In a worker: whether it had to be imported."""
    there = "sklearn" in sys.modules
    import matplotlib.pyplot as plt
    import sklearn

    return not there and bool(plt.__name__ and sklearn.__version__)


def test_what_keras_was_spared_is_imported_when_it_is_needed(tmp_path: Path) -> None:
    with open_local_executor(1, tmp_path, lambda event: None, thread_environment(1)) as executor:
        assert [*executor.client.run(import_what_was_spared).values()] == [True]


def test_a_renewed_worker_is_there_at_once(tmp_path: Path) -> None:
    with open_local_executor(1, tmp_path, lambda event: None, thread_environment(1)) as executor:
        (before,) = executor.client.run(os.getpid).values()
        executor.client.restart_workers(list(executor.client.scheduler_info()["workers"]))
        (after,) = executor.client.run(os.getpid).values()
        assert after != before
        ((imported, *_),) = executor.client.run(look_around).values()
        assert imported


def test_what_is_taken_out_of_the_environment_comes_back() -> None:
    environment = {"A": "1", "B": "2"}
    with forkserver.without(environment, ("A", "C")):
        assert environment == {"B": "2"}
    assert environment == {"A": "1", "B": "2"}
