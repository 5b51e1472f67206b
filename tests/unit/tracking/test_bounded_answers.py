"""Answers of tracking servers that are too slow, too long or empty, after the first contact."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
import requests

from imdbtune.tracking import bounded_answers
from imdbtune.tracking.bounded_answers import BoundedAnswersProvider
from imdbtune.tracking.client_environment import AUTH, AUTH_PLUGIN
from tests.unit.tracking.test_server_probe import (
    LONG_S,
    RECEIVED,
    Answer,
    Serve,
    empty,
    endless,
    endless_error,
    slow_body,
)
from tests.unit.tracking.test_server_probe import serve as serve

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (slow_body, "no complete answer within 2 s"),
        (endless, "more than 1,048,576 bytes"),
        (endless_error, "more than 1,048,576 bytes"),
        (empty, "its answer is empty"),
    ],
)
def test_an_answer_is_bounded(
    answer: Answer, says: str, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded_answers, "MAX_BYTES", 2**20)
    monkeypatch.setattr(bounded_answers, "TIMES", 2)
    started = time.monotonic()
    with pytest.raises(requests.ConnectionError, match=says):
        requests.get(serve(answer), auth=BoundedAnswersProvider().get_auth(), timeout=1)
    assert time.monotonic() - started < LONG_S / 2


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n{}",
    ],
)
def test_an_answer_as_it_should_be_is_passed_on(answer: bytes, serve: Serve) -> None:
    uri = serve(lambda to: to.sendall(answer)).replace("127", "me:word@127")
    found = requests.get(uri, auth=BoundedAnswersProvider().get_auth(), timeout=1)
    assert (found.text, found.json()) == ("{}", {})
    assert b"Authorization: Basic bWU6d29yZA==" in RECEIVED[0]


def test_mlflow_takes_the_plugin(serve: Serve, tmp_path: Path) -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    group = "mlflow.request_auth_provider"
    points = "".join(f"{k} = {v}\n" for k, v in declared["entry-points"][group].items())
    about = tmp_path / "installed-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: installed\nVersion: 1\n")
    (about / "entry_points.txt").write_text(f"[{group}]\n{points}")
    code = (
        "import os, sys\n"
        "from imdbtune.tracking.connection import failure_reason, open_client\n"
        "client = open_client(sys.argv[1])\n"
        f"assert os.environ[{AUTH!r}] == {AUTH_PLUGIN!r}\n"
        "try:\n"
        "    client.search_experiments()\n"
        "except Exception as error:\n"
        "    print(failure_reason(error))\n"
    )
    paths = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", code, serve(empty)],
        env={**os.environ, "PYTHONPATH": paths, AUTH: ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "its answer is empty\n"
