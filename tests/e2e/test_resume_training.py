"""Searches over real models, very small ones, whose driver is killed in mid-training."""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path

import psutil
import pytest

from imdbtune.data.corpus import Corpus
from imdbtune.tracking import mlflow_names
from tests.killing import (
    REAL,
    AtEpoch,
    Death,
    Outcome,
    WorkerDiesAfter,
    outcome_of,
    read_outcome,
    run_driver,
)
from tests.support import prepare


def undisturbed(folder: Path, kind: str) -> Outcome:
    return outcome_of(folder, kind, 0, [])


@pytest.fixture(scope="module")
def whole(demo: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return undisturbed(tmp_path_factory.mktemp("whole"), "real random")


def worker_pids(folder: Path) -> set[int]:
    """The workers that signed in, as their logs name them."""
    return {int(re.findall(r"\d+", path.name)[0]) for path in folder.glob("runs/*/worker-*.lock")}


def test_hyperband_goes_on_within_its_rungs(tmp_path: Path) -> None:
    """The second rung starts at the second epoch, from weights and optimizer of the first."""
    killed = outcome_of(tmp_path / "killed", "real hyperband", 0, [AtEpoch(3)])
    whole = undisturbed(tmp_path / "whole", "real hyperband")
    assert killed.killed == 1
    continued = [event for event in whole.events if event.get("continues")]
    assert [event["initial_epoch"] for event in continued] == [1]
    assert killed.asked() == whole.asked()
    assert killed.told() == whole.told()
    assert killed.finished() == whole.finished()
    assert Counter(killed.statuses) == {"FINISHED": 5, "KILLED": 1}
    assert continued_after(killed) == ["2"]


@pytest.mark.xdist_group("real random")
def test_workers_die_with_their_driver_and_nothing_is_lost(whole: Outcome, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    prepare(folder)
    assert run_driver(folder, "real random", 2, AtEpoch(2)) == -9
    pids = worker_pids(folder)
    assert len(pids) == 2
    alive = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    _, left = psutil.wait_procs(alive, timeout=60)
    assert not left
    before = read_outcome(folder)
    assert "RUNNING" in before.statuses
    assert run_driver(folder, "real random", 0, None) == 0
    killed = read_outcome(folder)
    assert killed.asked() == whole.asked()
    assert killed.told() == whole.told()
    assert killed.finished() == whole.finished()
    assert set(killed.statuses) == {"FINISHED", "KILLED"}
    reasons = {trial.reason for trial in killed.trials if trial.status == "KILLED"}
    assert reasons == {"the driver process died"}
    assert not worker_pids(folder)
    assert "2" in continued_after(killed)


@pytest.mark.xdist_group("real random")
def test_a_trial_of_a_lost_worker_continues_after_its_last_epoch(
    whole: Outcome, tmp_path: Path
) -> None:
    killed = outcome_of(tmp_path / "killed", "real random", 1, [WorkerDiesAfter(2)])
    assert killed.asked() == whole.asked()
    assert killed.told() == whole.told()
    assert killed.finished() == whole.finished()
    (lost,) = [trial for trial in killed.trials if trial.status == "KILLED"]
    assert lost.reason == "the worker process died"
    assert continued_after(killed) == ["2"]
    assert not list((tmp_path / "killed").rglob("checkpoint.npz"))


def continued_after(outcome: Outcome) -> list[str]:
    """The epochs after which trials were continued."""
    tags = [trial.tags.get(mlflow_names.CONTINUED) for trial in outcome.trials]
    return [tag for tag in tags if tag]


@pytest.mark.fuzz
@pytest.mark.parametrize("kind", REAL)
def test_searches_over_models_end_as_undisturbed_ones(kind: str, tmp_path: Path) -> None:
    rng = random.Random()
    whole = undisturbed(tmp_path / "whole", kind)
    deaths: list[Death] = [
        rng.choice([AtEpoch, WorkerDiesAfter])(rng.randint(1, 3)) for _ in range(rng.randint(1, 3))
    ]
    killed = outcome_of(tmp_path / "killed", kind, 1, deaths)
    assert killed.asked() == whole.asked(), deaths
    assert killed.told() == whole.told(), deaths
    assert killed.finished() == whole.finished(), deaths


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, demo: Corpus) -> None:
    for name in ("killed", "whole"):
        (tmp_path / name).mkdir()
