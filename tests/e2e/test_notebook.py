"""A search in a notebook: the stop button ends it, and one line says how to go on."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from imdbtune.tracking import reader
from imdbtune.tracking.connection import connect
from tests.e2e.test_interrupts import PATIENCE_S, ROOT, prepare_search

BEGIN = """
from imdbtune import api
from imdbtune.cluster import forkserver
from imdbtune.config.schema import load_config
from tests.e2e.test_interrupts import wait_long
from tests.forked import STUB_PRELOADED
from tests.support import Stub, stub_trainer

forkserver.PRELOADED = STUB_PRELOADED
"""
SEARCH = """
config = load_config("tiny.toml", {"tuner.kind": "tpe"})  # which needs no TensorFlow
api.search(config, api.Context(trainer=Stub(wait_long), workers=2))
"""
RESUME = "api.resume({run_id!r}, context=api.Context(trainer=stub_trainer, workers=2)).status"


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, Any]]:
    """A kernel in the folder of a search, as a notebook starts it, and its client."""
    reason = "notebooks need ipykernel, which the extra dev installs"
    manager = pytest.importorskip("jupyter_client.manager", reason=reason)
    pytest.importorskip("ipykernel", reason=reason)
    prepare_search(monkeypatch, tmp_path)
    environment = os.environ | {"PYTHONPATH": ROOT}
    kernel, client = manager.start_new_kernel(
        startup_timeout=PATIENCE_S, cwd=str(tmp_path), env=environment
    )
    yield kernel, client
    client.stop_channels()
    kernel.shutdown_kernel(now=True)


def run_cell(client: Any, code: str) -> list[dict[str, Any]]:
    """Run a cell to its end; return the contents of its outputs."""
    return outputs_of(client, client.execute(code))


def outputs_of(client: Any, cell: str) -> list[dict[str, Any]]:
    """Return the contents of a cell's outputs when it has ended; not what it writes on stderr."""
    outputs: list[dict[str, Any]] = []
    while True:
        message = client.get_iopub_msg(timeout=PATIENCE_S)
        content = message["content"]
        if message["parent_header"].get("msg_id") != cell:
            continue
        if content.get("execution_state") == "idle":
            return outputs
        if message["msg_type"] in ("execute_result", "error"):
            outputs.append(content)


def test_the_stop_button_ends_a_search_that_can_be_resumed(
    kernel: tuple[Any, Any], tmp_path: Path
) -> None:
    manager, client = kernel
    assert run_cell(client, BEGIN) == []
    cell = client.execute(SEARCH)
    patience = time.monotonic() + PATIENCE_S
    while len(list(tmp_path.glob("begun-*"))) < 2:
        assert time.monotonic() < patience
        time.sleep(0.1)
    main = psutil.Process(manager.provisioner.pid)
    workers = [each for each in main.children(recursive=True) if each.parent() != main]
    assert len(workers) == 2
    manager.interrupt_kernel()
    (shown,) = outputs_of(client, cell)
    store = connect(f"sqlite:///{tmp_path}/mlflow.db")
    search = reader.find_search(store)
    (line,) = shown["traceback"]
    assert line.endswith(f"api.resume({search.run_id!r}) continues it.")
    ended = [(trial.status, trial.reason) for trial in reader.read_trials(store, search)]
    assert (search.status, ended) == ("KILLED", [("KILLED", "interrupted")] * 2)
    assert psutil.wait_procs(workers, timeout=PATIENCE_S)[1] == []
    (result,) = run_cell(client, RESUME.format(run_id=search.run_id))
    assert result["data"]["text/plain"] == "'FINISHED'"
