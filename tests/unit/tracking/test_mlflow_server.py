"""Where MLflow's pages are served, without serving them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from imdbtune import api
from imdbtune.cli.ui import has_display
from imdbtune.errors import UserError
from imdbtune.tracking import mlflow_server
from tests.support import isolate, make_config, run_search


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which somebody listens."""
    with socket.socket() as bound:
        bound.bind((mlflow_server.HOST, 0))
        bound.listen()
        yield bound.getsockname()[1]


def test_a_port_in_use_gives_way_to_the_next_free_one(taken: int) -> None:
    free = mlflow_server.free_port(taken)
    assert taken < free < taken + mlflow_server.TRIES
    assert mlflow_server.free_port(free) == free


def test_without_a_free_port_it_says_so(taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow_server, "TRIES", 1)
    with pytest.raises(UserError, match=rf"no port from {taken} to {taken} is free.*--port"):
        mlflow_server.free_port(taken)


def test_the_page_of_a_run_is_that_of_model_training() -> None:
    page = mlflow_server.run_page("http://127.0.0.1:5000", "7", "abc")
    assert page == "http://127.0.0.1:5000/#/experiments/7/runs/abc?workflowType=machine_learning"


@pytest.mark.parametrize(("variable", "value"), [("DISPLAY", ":0"), ("WAYLAND_DISPLAY", "w-0")])
def test_a_browser_needs_a_display(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert not has_display()
    monkeypatch.setenv(variable, value)
    assert has_display()


def test_a_search_that_there_is_not_starts_no_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    isolate(monkeypatch, tmp_path)
    config = make_config(tmp_path, space={"units": [4]})
    run_search(config, tmp_path)
    monkeypatch.setattr(
        "imdbtune.tracking.mlflow_server.serve", lambda *_: pytest.fail("a server was started")
    )
    with (
        pytest.raises(UserError, match="no search 'other'"),
        api.ui("other", uri=config.tracking.uri),
    ):
        pass
