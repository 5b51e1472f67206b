"""A real tracking server that is killed in the middle of a search, and what becomes of it."""

from __future__ import annotations

import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from imdbtune import api, doctor
from imdbtune.cli.app import main
from imdbtune.errors import NotDelivered
from imdbtune.tracking import background_delivery, outbox_delivery
from imdbtune.tracking.connection import connect
from imdbtune.tracking.outbox import Outbox
from imdbtune.training.spec import TrialSpec
from tests.machines import Tracking
from tests.outages import MANY, OnWorkers, ask_again_soon, check_whole
from tests.support import (
    Stub,
    isolate,
    light_workers,
    make_config,
    noting,
    prepare,
    write_tiny_model,
)

pytestmark = pytest.mark.xdist_group("machines")
SECRET = "s3cr3t"
UNITS = [4, 5, 6, 7]


@dataclass(frozen=True)
class Server:
    """The server by an address with a password, which is to be kept quiet."""

    tracking: Tracking

    @property
    def uri(self) -> str:
        return self.tracking.address.replace("http://", f"http://me:{SECRET}@")

    def start(self) -> None:
        self.tracking.start()

    def kill(self) -> None:
        self.tracking.kill()


@pytest.fixture
def server(tracking_server: Tracking) -> Server:
    return Server(tracking_server)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    ask_again_soon(monkeypatch)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    prepare(tmp_path)
    return isolate(monkeypatch, tmp_path)


@dataclass
class During:
    """What happens to the server before which trial, by its units."""

    happens: dict[int, Callable[[], None]]
    trained: list[int] = field(default_factory=list)

    def __call__(self, spec: TrialSpec) -> None:
        self.happens.get(spec.params.units, lambda: None)()
        write_tiny_model(spec)
        self.trained.append(spec.params.units)


def begin(folder: Path, server: Server, name: str, during: During, told: list[str]) -> Any:
    config = make_config(
        folder,
        name=name,
        space={"units": UNITS},
        tracking={"uri": server.uri, "keep_models": "all"},
    )

    listen = noting(told)

    return api.search(
        config,
        api.Context(workers=0, cache=folder / "cache", listener=listen, trainer=Stub(during)),
    )


def test_doctor_writes_and_leaves_nothing(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def dump() -> list[str]:
        with closing(sqlite3.connect(server.tracking.folder / "mlflow.db")) as database:
            return list(database.iterdump())

    set_tags: list[str] = []
    kept = MlflowClient.set_experiment_tag
    monkeypatch.setattr(
        MlflowClient, "set_experiment_tag", lambda *a: set_tags.append(a[2]) or kept(*a)
    )
    connect(server.uri)
    before = dump()
    assert doctor.store(server.uri).state == doctor.OK
    assert len(set_tags) == 1
    assert dump() == before


def test_an_outage_in_the_middle_of_a_search_loses_nothing(server: Server, here: Path) -> None:
    told: list[str] = []

    def wait_until_missed() -> None:
        while not told:
            time.sleep(0.05)
        server.start()

    during = During({5: server.kill, 7: wait_until_missed})
    search = begin(here, server, "outage", during, told)
    assert search.status == "FINISHED"
    assert during.trained == UNITS
    check_whole(server.uri, "outage", UNITS)
    assert "cannot be written" in told[0]
    assert told[-1] == "the tracking store has received everything that was waiting for it."
    assert SECRET not in "".join(told)


class Dies(BaseException):
    """The end of a process."""


def test_what_a_server_that_stays_away_lacks_is_brought_in_later(
    server: Server,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(background_delivery, "PATIENCE_S", 0.5)
    told: list[str] = []
    during = During({5: server.kill})
    with pytest.raises(NotDelivered) as hit:
        begin(here, server, "away", during, told)
    assert during.trained == UNITS
    line = str(hit.value)
    (workspace,) = (here / ".imdbtune").iterdir()
    assert f"imdbtune sync {workspace.name}" in line
    assert len(line.splitlines()) == 1
    assert SECRET not in line + (workspace / "about.json").read_text()
    server.start()
    server.tracking.wait()
    note, left = Outbox.note, Counter[str]()

    def deadly(make_call: Callable[..., Any]) -> Callable[..., Any]:
        """Dies after so many calls that were made, before they are noted."""

        def make(*arguments: Any, **named: Any) -> Any:
            made = make_call(*arguments, **named)
            left["calls"] -= 1
            if not left["calls"]:
                raise Dies
            return made

        return make

    def note_if_alive(outbox: Outbox, key: str, delivered: Any) -> None:
        if not left["calls"]:
            raise Dies
        note(outbox, key, delivered)

    with monkeypatch.context() as patch:
        for name in ("create_run", "_make_call", "_set_terminated"):
            patch.setattr(outbox_delivery, name, deadly(getattr(outbox_delivery, name)))
        patch.setattr(Outbox, "note", note_if_alive)
        for calls in range(1, 8):
            left["calls"] = calls
            with pytest.raises(Dies):
                api.sync(context=api.Context(uri=server.uri))
    for told_of in ("writes\n", "nothing was missing"):
        monkeypatch.setattr(sys, "argv", ["imdbtune", "sync", "--tracking-uri", server.uri])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        assert told_of in capsys.readouterr().out
    check_whole(server.uri, "away", UNITS)


# With worker processes: what they write goes by way of the disk, too.


@pytest.fixture
def _light_workers() -> None:
    light_workers()


@pytest.mark.usefixtures("_light_workers")
def test_workers_train_on_while_the_server_is_away(server: Server, here: Path) -> None:
    search = OnWorkers(server, here, comes_back=True)
    assert search.run(here, "workers-outage").status == "FINISHED"
    check_whole(server.uri, "workers-outage", MANY, models=False)
    assert "cannot be written" in search.told[0]
    assert search.told[-1] == "the tracking store has received everything that was waiting for it."
    assert SECRET not in "".join(search.told)


@pytest.mark.usefixtures("_light_workers")
def test_what_workers_wrote_is_brought_in_later(
    server: Server, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background_delivery, "PATIENCE_S", 0.5)
    search = OnWorkers(server, here, comes_back=False)
    with pytest.raises(NotDelivered):
        search.run(here, "workers-away")
    assert search.ended == len(MANY)
    server.start()
    server.tracking.wait()
    (synced,) = api.sync(context=api.Context(uri=server.uri))
    assert synced.calls > len(MANY)
    check_whole(server.uri, "workers-away", MANY, models=False)
    (again,) = api.sync(context=api.Context(uri=server.uri))
    assert again.calls == 0
