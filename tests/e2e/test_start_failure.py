"""Worker processes that cannot start: the message says why."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from imdbtune.cluster import start_failure
from tests.support import isolate, prepare

SCRIPT = """
from imdbtune import api
from imdbtune.cluster import forkserver
from imdbtune.config.schema import load_config

forkserver.PRELOADED = ("mlflow.entities",)
flags = {{"data.source": "imdb.npz", "space.units": "4", "tracking.baseline": "false"}}
config = load_config("none", {{"tuner.kind": "tpe", **flags}})  # needs no TensorFlow
{guard}api.search(config, api.Context(workers=2))
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    prepare(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    return isolate(monkeypatch, tmp_path)


def run(here: Path, guard: str, files: int = 0) -> subprocess.CompletedProcess[str]:
    def limit() -> None:
        if files:
            resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

    (here / "script.py").write_text(SCRIPT.format(guard=guard))
    command = [sys.executable, "script.py"]
    return subprocess.run(
        command, cwd=here, capture_output=True, text=True, check=False, preexec_fn=limit
    )


def test_a_script_without_a_guard_is_told_so_in_a_line(here: Path) -> None:
    done = run(here, guard="")
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1, done.stderr
    assert "bootstrapping" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("imdbtune.errors.SearchAborted: the worker processes did not start")
    assert 'put its code under `if __name__ == "__main__":`' in last


def test_too_few_descriptors_are_named(here: Path) -> None:
    done = run(here, guard='if __name__ == "__main__":\n    ', files=40)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert "the worker processes did not start (" in last
    assert "Too many open files" in last
    assert "__main__" not in last


def test_the_last_error_of_the_workers_is_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start_failure, "_output", None)
    code = "import sys; print('WARNING: x\\nValueError: no\\n  and more', file=sys.stderr)"
    with start_failure.record_output():
        subprocess.run([sys.executable, "-c", code], check=True)
    os.write(2, b"KeyError: of this process\n")
    message = str(start_failure.start_failure(RuntimeError("Nanny failed to start.")))
    assert message.startswith("the worker processes did not start (ValueError: no). 0 workers")


def test_a_lack_of_resources_is_the_reason_of_other_errors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(start_failure, "_output", None)
    code = (
        "import sys; print('OSError: [Errno 24] Too many open files\\nEOFError', file=sys.stderr)"
    )
    with start_failure.record_output():
        subprocess.run([sys.executable, "-c", code], check=True)
    message = str(start_failure.start_failure(RuntimeError("Nanny failed to start.")))
    assert "(OSError: [Errno 24] Too many open files)" in message


def test_without_output_the_cause_is_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start_failure, "_output", None)
    error = RuntimeError("Nanny failed to start.")
    error.__cause__ = OSError(12, "Cannot allocate memory")
    message = str(start_failure.start_failure(error))
    assert "did not start ([Errno 12] Cannot allocate memory). " in message
