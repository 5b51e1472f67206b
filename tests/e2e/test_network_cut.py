"""A search over machines with networks of their own, of which one is cut off for a while."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from imdbtune import api
from imdbtune.search.events import Event, TrialRetried
from imdbtune.tracking import reader
from imdbtune.tracking.connection import connect
from imdbtune.training.spec import TrialSpec
from tests.e2e.test_remote_cluster import GRID, UNITS, machine, mark, outcomes
from tests.machines import Machines, machines, wait_until
from tests.support import Stub, isolate, make_config, prepare, run_search

NET = "10.213.47"
# Dask's own patience with a connection is 30 s; less than 11 s it does not take.
IMPATIENT = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "11s"}


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@dataclass(frozen=True)
class Net:
    """A switch on this machine, and hosts behind it."""

    tag: str

    @property
    def switch(self) -> str:
        return f"{self.tag}s"

    def place(self, number: int) -> str:
        return f"{self.tag}n{number}"

    def add(self, number: int) -> None:
        """A host with the address ``NET.number``."""
        here, there, place = f"{self.tag}v{number}", f"{self.tag}w{number}", self.place(number)
        ip("netns", "add", place)
        ip("link", "add", here, "type", "veth", "peer", "name", there)
        ip("link", "set", here, "master", self.switch)
        ip("link", "set", here, "up")
        ip("link", "set", there, "netns", place)
        ip("-n", place, "addr", "add", f"{NET}.{number}/24", "dev", there)
        ip("-n", place, "link", "set", there, "up")
        ip("-n", place, "link", "set", "lo", "up")

    def cut(self, number: int) -> None:
        ip("link", "set", f"{self.tag}v{number}", "down")

    def mend(self, number: int) -> None:
        ip("link", "set", f"{self.tag}v{number}", "up")


@contextmanager
def network(count: int) -> Iterator[Net]:
    net = Net(f"t{os.getpid() % 100_000}")
    with ExitStack() as stack:
        try:
            ip("link", "add", net.switch, "type", "bridge")
            stack.callback(ip, "link", "del", net.switch)
            ip("addr", "add", f"{NET}.1/24", "dev", net.switch)
            ip("link", "set", net.switch, "up")
            for number in range(2, 2 + count):
                stack.callback(
                    subprocess.run, ["ip", "netns", "del", net.place(number)], check=False
                )
                net.add(number)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces can be made here: {error.stderr.decode().strip()}")
        yield net


SCHEDULER, TRACKING, NEAR, FAR = range(2, 6)


@dataclass
class Place:
    net: Net
    machines: Machines
    scheduler: str
    store: str

    def worker(self, name: str, number: int) -> None:
        where = ["--host", f"{NET}.{number}"]
        more: dict[str, Any] = {"network": self.net.place(number), "environment": IMPATIENT}
        self.machines.worker(name, self.scheduler, *where, **more)


pytestmark = pytest.mark.xdist_group("network")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    if not shutil.which("ip") or os.geteuid() != 0:
        pytest.skip("needs the command ip, and the rights of root to make network namespaces")
    with network(4) as net, machines(tmp_path_factory.mktemp("networks")) as made:
        server = made.tracking(f"{NET}.{TRACKING}", net.place(TRACKING))
        more: dict[str, Any] = {"network": net.place(SCHEDULER), "environment": IMPATIENT}
        scheduler = made.scheduler(host=f"{NET}.{SCHEDULER}", **more)
        found = Place(net, made, scheduler, server.address)
        found.worker("near", NEAR)
        found.worker("far", FAR)
        server.wait()
        yield found


def linger(marks: Path, spec: TrialSpec) -> None:
    """On the far machine, until it has been cut off and is back."""
    mark(marks, spec)
    if machine() == "far" and not (marks / "back").exists():
        (marks / "begun").touch()
        wait_until((marks / "back").exists, "it was not cut off")
    time.sleep(0.3)


def test_a_worker_is_cut_off_and_nothing_is_lost(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(tmp_path)
    isolate(monkeypatch, tmp_path)
    _, local = run_search(make_config(tmp_path, **GRID), tmp_path)
    whole = outcomes(reader.read_trials(connect(f"sqlite:///{tmp_path / 'mlflow.db'}"), local))

    missed = threading.Event()

    def listen(event: Event) -> None:
        if isinstance(event, TrialRetried):
            missed.set()

    def cut() -> None:
        wait_until((tmp_path / "begun").exists, "the far machine got no trial")
        place.net.cut(FAR)
        wait_until(missed.is_set, "nobody has missed the far machine")
        place.net.mend(FAR)
        (tmp_path / "back").touch()
        place.worker("again", FAR)

    cutter = threading.Thread(target=cut)
    cutter.start()
    config = make_config(tmp_path, name="cut", tracking={"uri": place.store}, **GRID)
    trainer = Stub(functools.partial(linger, tmp_path))
    where = {"cluster": place.scheduler, "cache": tmp_path / "cache", "trainer": trainer}
    found = api.search(config, api.Context(listener=listen, **where))
    cutter.join()
    trials = reader.read_trials(connect(place.store), found)
    assert found.status == "FINISHED"
    assert outcomes(trials) == whole
    assert len(whole) == len(UNITS)
    killed = [trial for trial in trials if trial.status != "FINISHED"]
    assert [(t.status, t.reason) for t in killed] == [("KILLED", "the worker process died")]
