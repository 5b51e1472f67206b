"""Messages about searches that are over, to a webhook on this machine."""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from imdbtune import api
from imdbtune.cli.app import app
from imdbtune.errors import SearchAborted, UserError
from imdbtune.search.events import Event, Notice
from imdbtune.search.notification import open_notifier
from imdbtune.tracking import background_delivery, writer
from imdbtune.tracking.connection import connect
from tests.support import draw_nothing, isolate, make_config, prepare, stub_trainer
from tests.unit.confirm.test_runs import StubTrainer

SECRET = "open.sesame"


def test_without_apprise_it_is_refused_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    isolate(monkeypatch, tmp_path)
    monkeypatch.setitem(sys.modules, "apprise", None)
    message = r"not installed; run: pip install 'imdbtune\[notify\]'"
    with pytest.raises(UserError, match=message) as refused:
        app(["confirm", "--notify", f"json://{SECRET}@host"], standalone_mode=False)
    assert "\n" not in str(refused.value)
    assert SECRET not in str(refused.value)
    assert {path.name for path in tmp_path.iterdir()} <= {"cache"}


@pytest.fixture
def apprise() -> Any:
    return pytest.importorskip("apprise", reason="--notify needs the extra notify: apprise")


@pytest.fixture
def received() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Yield the address of a webhook, and what it receives."""
    messages: list[dict[str, str]] = []

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # the name that http.server calls
            body = self.rfile.read(int(self.headers["Content-Length"]))
            messages.append(json.loads(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Webhook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"json://user:{SECRET}@127.0.0.1:{server.server_port}/{SECRET}", messages
    server.shutdown()
    server.server_close()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, apprise: Any) -> Path:
    isolate(monkeypatch, tmp_path)
    prepare(tmp_path)
    draw_nothing(monkeypatch)
    monkeypatch.setattr(writer.TrialRun, "log_model", lambda *arguments: None)
    return tmp_path


def context(*urls: str, trainer: Any = stub_trainer, said: list[Event] | None = None) -> Any:
    listener = (said if said is not None else []).append
    return api.Context(workers=0, trainer=trainer, listener=listener, notify_urls=urls)


def test_a_webhook_hears_of_a_search_and_its_confirmation(
    here: Path, received: tuple[str, list[dict[str, str]]], caplog: pytest.LogCaptureFixture
) -> None:
    url, messages = received
    said: list[Event] = []
    caplog.set_level(logging.DEBUG, "apprise")
    found = api.search(make_config(here), context(url, said=said))
    api.confirm("tiny", context(url, trainer=StubTrainer(), said=said), top=1, seeds=2)
    first, second = messages
    assert first["title"] == "imdbtune: search tiny finished"
    assert first["type"] == "success"
    assert "val_accuracy 0.6280" in first["message"]
    assert "trials: 4 finished" in first["message"]
    assert found.run_id in first["message"]
    assert second["title"] == "imdbtune: confirmation of tiny finished"
    assert "recommended: lstm" in second["message"]
    assert SECRET not in str(said) + str(messages) + caplog.text
    assert SECRET not in str(context(url))
    store = connect(f"sqlite:///{here}/mlflow.db")
    experiments = [each.experiment_id for each in store.search_experiments()]
    assert SECRET not in str([run.to_dictionary() for run in store.search_runs(experiments)])
    files = [path for path in here.rglob("*") if path.is_file()]
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []


def interrupt(*arguments: Any) -> Any:
    raise KeyboardInterrupt


def fail(*arguments: Any) -> Any:
    raise OSError(f"https://me:{SECRET}@host is gone")


@pytest.mark.parametrize(
    ("trainer", "error", "title"),
    [
        (interrupt, KeyboardInterrupt, "imdbtune: search tiny was interrupted"),
        (fail, SearchAborted, "imdbtune: search tiny failed"),
    ],
)
def test_a_webhook_hears_of_a_failure(
    trainer: Any,
    error: type[BaseException],
    title: str,
    here: Path,
    received: tuple[str, list[dict[str, str]]],
) -> None:
    url, messages = received
    with pytest.raises(error):
        api.search(make_config(here, tuner={"retries": 0}), context(url, trainer=trainer))
    (message,) = messages
    assert (message["title"], message["type"]) == (title, "failure")
    assert SECRET not in str(message)


def test_a_webhook_hears_of_a_store_that_stays_away(
    here: Path, received: tuple[str, list[dict[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, messages = received
    monkeypatch.setattr(background_delivery, "STAYS_AWAY_S", 0.0)
    deliver, failures = background_delivery.deliver, [OSError("no route to host")]

    def deliver_later(*arguments: Any) -> int:
        if failures:
            raise failures.pop()
        return deliver(*arguments)

    monkeypatch.setattr(background_delivery, "deliver", deliver_later)
    monkeypatch.setattr(background_delivery, "is_temporary", lambda error: True)
    api.search(make_config(here), context(url))
    away, finished = messages
    assert away["title"] == "imdbtune: search tiny goes on without its tracking store"
    assert "no route to host" in away["message"]
    assert finished["type"] == "success"


def test_an_address_that_does_not_answer_is_a_notice_and_no_failure(
    here: Path, received: tuple[str, list[dict[str, str]]]
) -> None:
    said: list[Event] = []
    dead = f"json://{SECRET}@127.0.0.1:9/{SECRET}"
    api.search(make_config(here), context(dead, received[0], said=said))
    (notice,) = [e.text for e in said if isinstance(e, Notice) and "could not be sent" in e.text]
    assert "json://...; check --notify" in notice
    assert SECRET not in notice
    assert len(received[1]) == 1


@pytest.mark.parametrize("url", [f"nonsense://{SECRET}", SECRET, ""])
def test_an_unknown_address_is_refused_without_showing_it(url: str, apprise: Any) -> None:
    with pytest.raises(UserError, match="address 2 of --notify") as refused:
        open_notifier(["json://127.0.0.1", url])
    assert SECRET not in str(refused.value)
