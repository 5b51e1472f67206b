"""Searches over a Dask cluster that runs already, whose workers have no disk in common."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from imdbtune import api, carrying, results, tracking
from imdbtune.results import Search, Trial
from imdbtune.store import connect
from tests.machines import Machines, Tracking, machines
from tests.support import isolate, make_config, prepare, stub_trainer

SPACE = {"rnn": ["simple_rnn", "lstm", "gru"], "units": {"min": 4, "max": 40}}
RANDOM = {"kind": "random", "max_trials": 6, "seed": 3}


@dataclass
class Place:
    """A scheduler, two workers and a tracking server."""

    machines: Machines
    scheduler: str
    tracking: Tracking


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with machines(tmp_path_factory.mktemp("machines")) as made:
        server = made.tracking()
        scheduler = made.scheduler()
        for name in ("first", "second"):
            made.worker(name, scheduler)
        server.wait()
        yield Place(made, scheduler, server)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    prepare(tmp_path)
    return isolate(monkeypatch, tmp_path)


def outcomes(trials: list[Trial]) -> dict[str, Any]:
    done = [trial for trial in trials if trial.status == "FINISHED"]
    assert len(done) == len({trial.trial_id for trial in done})
    return {t.trial_id: (t.params, t.score, t.metrics["best_val_loss"]) for t in done}


def search(
    place: Place, here: Path, name: str, **arguments: Any
) -> tuple[Any, Search, list[Trial]]:
    settings = {"space": SPACE, "tuner": RANDOM, **arguments.pop("config", {})}
    tracked = {"uri": place.tracking.address, **settings.pop("tracking", {})}
    config = make_config(here, name=name, tracking=tracked, **settings)
    given = {"cluster": place.scheduler, "trainer": stub_trainer, **arguments}
    found = api.search(config, cache=here / "cache", **given)
    client = connect(place.tracking.address)
    return client, found, results.read_trials(client, found)


def test_a_search_comes_out_as_on_this_machine(place: Place, here: Path) -> None:
    told: list[tuple[str, dict[str, Any]]] = []
    client, found, trials = search(
        place, here, "remote", listener=lambda kind, facts: told.append((kind, facts))
    )
    _, _, local = search(place, here, "local", cluster="local", workers=0)
    assert found.status == "FINISHED"
    assert outcomes(trials) == outcomes(local)
    assert len(trials) == 6
