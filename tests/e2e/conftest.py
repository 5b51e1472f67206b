"""A tracking server and a Dask cluster that several files share; their tests are one group."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.killing import Outcome, outcome_of, read_outcome
from tests.machines import Machines, Tracking, machines


@dataclass
class Place:
    """A scheduler, two workers and a tracking server."""

    machines: Machines
    scheduler: str
    tracking: Tracking


@pytest.fixture(scope="session")
def several_machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    with machines(tmp_path_factory.mktemp("machines")) as made:
        yield made


@pytest.fixture(scope="session")
def tracking_server(several_machines: Machines) -> Tracking:
    made = several_machines.tracking()
    made.wait()
    return made


@pytest.fixture(scope="session")
def place(several_machines: Machines, tracking_server: Tracking) -> Place:
    scheduler = several_machines.scheduler()
    for name in ("first", "second"):
        several_machines.worker(name, scheduler)
    return Place(several_machines, scheduler, tracking_server)


@pytest.fixture(scope="session")
def undisturbed(built_once: Callable[..., Path]) -> Callable[[str], Outcome]:
    """Returns how a search of a kind ends whose driver is not killed; it runs once a session."""

    def outcome(kind: str) -> Outcome:
        def build(folder: Path) -> None:
            outcome_of(folder, kind, 0, [])

        return read_outcome(built_once(f"undisturbed {kind}", build))

    return outcome
