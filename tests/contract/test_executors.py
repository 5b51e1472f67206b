"""Every executor gives the same search: in this process, one worker, two, and workers that die."""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import os
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from imdbtune.cluster import prune_decision
from imdbtune.cluster.dask_executor import DaskExecutor
from imdbtune.cluster.local_executor import open_local_executor, thread_environment
from imdbtune.cluster.trial_job import EpochEnded, Trainer, TrialJob
from imdbtune.config.hyperparameters import TrialParams
from imdbtune.errors import TrialFailed
from imdbtune.search.events import Event, SearchOpened, TrialEnded, TrialStarted
from imdbtune.tracking import reader
from imdbtune.tracking.entities import Search, Trial
from imdbtune.tracking.outbox import Outbox, new_key
from imdbtune.training.spec import Epoch, OnEpoch, TrialResult, TrialSpec
from tests.support import (
    Stub,
    isolate,
    kill_self,
    light_workers,
    make_config,
    run_search,
    stub_trainer,
)

pytestmark = pytest.mark.xdist_group("executors")
SPACE = {"rnn": ["simple_rnn", "lstm"], "units": [4, 5, 6]}
WORKERS = (0, 1, 2)
GRID_WORKERS = (0, 2)  # the searches with a pruner show that one is as good


class Odd(BaseException):
    """Nothing that a trial ought to end with."""


def disturb(marks: Path, lose: bool, spec: TrialSpec) -> None:
    """One trial fails; and if ``lose``, one ends oddly, and in one the worker dies, once."""
    (marks / f"pid-{os.getpid()}").touch()
    if (spec.params.rnn, spec.params.units) == ("lstm", 5):
        raise TrialFailed("loss became nan in epoch 1.")
    if lose and (spec.params.rnn, spec.params.units) == ("simple_rnn", 4):
        raise Odd("so be it")
    if lose and (spec.params.rnn, spec.params.units) == ("lstm", 6):
        mark = marks / "died"
        if not mark.exists():
            mark.touch()
            kill_self()


def mark_process(marks: Path, spec: TrialSpec) -> None:
    (marks / str(os.getpid())).touch()


@dataclass
class Done:
    """A search that has ended, and what was seen while it ran."""

    folder: Path
    client: Any
    search: Search
    trials: list[Trial]
    told: list[Event]
    addresses: set[str] = field(default_factory=set)

    def outcomes(self) -> Counter[tuple[Any, ...]]:
        return Counter(
            (t.trial_id, t.params, t.state, t.score, t.reason, t.metrics.get("val_loss"))
            for t in self.trials
            if t.state != "KILLED"
        )

    def pids(self) -> set[int]:
        return {int(path.name.partition("-")[2]) for path in self.folder.glob("pid-*")}


def listening() -> set[tuple[str, int]]:
    """The addresses and ports at which this process and its children wait for connections."""
    here = psutil.Process()
    found = set()
    for process in (here, *here.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):  # a worker has died meanwhile
            for connection in process.net_connections("inet"):
                if connection.status == psutil.CONN_LISTEN:
                    found.add((connection.laddr.ip, connection.laddr.port))
    return found


@dataclass(frozen=True)
class DiesAfterAnEpoch:
    """A trainer whose process dies once, after a trial's first epoch that the driver has judged."""

    folder: Path
    trial_id: str = ""  # empty: of none

    def __call__(self, spec: TrialSpec, on_epoch: OnEpoch) -> TrialResult:
        def report(execution: int, epoch: Epoch) -> bool | None:
            prune = on_epoch(execution, epoch)
            mark = self.folder / "died"
            if spec.folder.name == self.trial_id and not mark.exists():
                mark.touch()
                kill_self()
            return prune

        return stub_trainer(spec, report)


def search_with(
    folder: Path, kind: str, workers: int, lose: bool = False, trainer: Trainer | None = None
) -> Done:
    told: list[Event] = []
    addresses: set[str] = set()
    before = listening()  # of servers that other tests use

    def listen(event: Event) -> None:
        told.append(event)
        if isinstance(event, TrialEnded):
            addresses.update(address for address, _ in listening() - before)

    prune = {"prune": "asha"} if trainer else {}
    tuner = {"kind": kind, "max_trials": 6, "seed": 1, **prune}
    config = make_config(folder, space=SPACE, tuner=tuner)
    trainer = trainer or Stub(functools.partial(disturb, folder, lose))
    with pytest.MonkeyPatch.context() as patch:
        isolate(patch, folder)
        patch.setenv("MLFLOW_RUN_ID", "")
        light_workers()
        client, search = run_search(
            config, folder, workers=workers, trainer=trainer, listener=listen
        )
    trials = reader.read_trials(client, search)
    return Done(folder, client, search, trials, told, addresses)


@pytest.fixture(scope="module")
def grids(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Done]:
    folders = {workers: tmp_path_factory.mktemp(f"grid{workers}") for workers in GRID_WORKERS}
    return {workers: search_with(folders[workers], "grid", workers) for workers in GRID_WORKERS}


@pytest.fixture(scope="module")
def lossy(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A random search over two workers, one of which is killed in a trial."""
    return search_with(tmp_path_factory.mktemp("lossy"), "random", 2, lose=True)


@pytest.mark.parametrize("workers", GRID_WORKERS[1:])
def test_a_grid_comes_out_alike_wherever_it_runs(grids: dict[int, Done], workers: int) -> None:
    assert len(grids[0].outcomes()) == 6
    assert grids[workers].outcomes() == grids[0].outcomes()
    ranks = [[(t.params, t.score) for t in grids[w].trials if t.score] for w in (0, workers)]
    assert ranks[0] == ranks[1]


@pytest.mark.parametrize("workers", GRID_WORKERS)
def test_every_run_is_closed(grids: dict[int, Done], workers: int) -> None:
    done = grids[workers]
    assert done.search.status == "FINISHED"
    assert Counter(trial.status for trial in done.trials) == {"FINISHED": 5, "FAILED": 1}
    failed = done.trials[-1]
    text = Path(done.client.download_artifacts(failed.run_id, "traceback.txt")).read_text("utf-8")
    assert "in disturb" in text
    assert text.strip().endswith("TrialFailed: loss became nan in epoch 1.")


@pytest.mark.parametrize("workers", GRID_WORKERS)
def test_the_listener_is_told_of_every_trial(grids: dict[int, Done], workers: int) -> None:
    told = Counter(type(event) for event in grids[workers].told)
    assert told == {SearchOpened: 1, TrialStarted: 6, TrialEnded: 6, EpochEnded: 15}
    epochs = [event for event in grids[workers].told if isinstance(event, EpochEnded)]
    counts = Counter((event.trial_id, event.metrics["epoch"]) for event in epochs)
    assert set(counts.values()) == {1}


@pytest.mark.parametrize(("workers", "processes"), [(0, 1), (2, 2)])
def test_trials_run_in_processes_of_their_own(
    grids: dict[int, Done], workers: int, processes: int
) -> None:
    assert 1 <= len(grids[workers].pids()) <= processes
    assert (os.getpid() in grids[workers].pids()) == (workers == 0)


@pytest.mark.parametrize("workers", GRID_WORKERS)
def test_no_worker_is_left(grids: dict[int, Done], workers: int) -> None:
    others = grids[workers].pids() - {os.getpid()}
    assert not [pid for pid in others if psutil.pid_exists(pid)]


@pytest.mark.parametrize("workers", GRID_WORKERS)
def test_only_this_machine_can_reach_the_cluster(grids: dict[int, Done], workers: int) -> None:
    addresses = grids[workers].addresses
    assert bool(addresses) == (workers > 0)
    assert all(ipaddress.ip_address(address).is_loopback for address in addresses), addresses


def test_a_process_without_the_certificates_is_not_let_in(tmp_path: Path) -> None:
    """Dask runs what it is sent, and every user of a machine can reach its ports."""
    from distributed import Client
    from distributed.security import Security

    light_workers()
    with open_local_executor(1, tmp_path, lambda event: None, thread_environment(1)) as executor:
        assert isinstance(executor, DaskExecutor)
        address = executor.client.scheduler_info()["address"]  # where the workers reach it
        assert address.startswith("tls://127.0.0.1:")
        for stranger, to in (
            (None, address.replace("tls:", "tcp:")),
            (Security.temporary(), address),
        ):
            with pytest.raises((OSError, TimeoutError)):
                Client(to, security=stranger, timeout=2, set_as_default=False)


def test_a_trial_whose_worker_dies_when_it_has_ended_is_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver comes to hear of the end only when the process has gone."""
    collect = DaskExecutor._collect
    marks = tmp_path / "marks"
    marks.mkdir()

    def late(executor: DaskExecutor, future: Any) -> None:
        (mark,) = marks.iterdir()
        worker = psutil.Process(int(mark.name))
        worker.kill()
        worker.wait(60)
        executor.client.wait_for_workers(1, timeout=60)  # the process in its place
        time.sleep(0.5)  # for what Dask would have it do
        collect(executor, future)

    monkeypatch.setattr(DaskExecutor, "_collect", late)
    light_workers()
    trainer = Stub(functools.partial(mark_process, marks))
    outbox = Outbox(tmp_path / "spool")
    spec = TrialSpec(TrialParams(), tmp_path, tmp_path / "trial")
    job = TrialJob("0", spec, outbox, new_key(), log_model=False, trainer=trainer)
    with open_local_executor(1, tmp_path, lambda event: None, thread_environment(1)) as executor:
        executor.submit(job)
        ((_, outcome),) = executor.done(120)
    assert isinstance(outcome, TrialResult)
    assert len(list(marks.iterdir())) == 1


def test_a_trial_whose_worker_was_killed_is_run_again(lossy: Done) -> None:
    assert (lossy.folder / "died").exists()
    (killed,) = [trial for trial in lossy.trials if trial.status == "KILLED"]
    assert killed.reason == "the worker process died"
    assert killed.ended_ms is not None
    again = [t for t in lossy.trials if t.trial_id == killed.trial_id and t is not killed]
    assert [(trial.status, trial.params) for trial in again] == [("FINISHED", killed.params)]
    assert len(lossy.pids()) >= 2


def test_a_search_that_has_lost_a_worker_comes_out_as_one_that_has_not(
    lossy: Done, tmp_path: Path
) -> None:
    whole = search_with(tmp_path, "random", 0)
    assert {t.trial_id: t.params for t in lossy.trials} == {
        t.trial_id: t.params for t in whole.trials
    }
    differ = (whole.outcomes() - lossy.outcomes()) | (lossy.outcomes() - whole.outcomes())
    assert {outcome[1].label for outcome in differ} == {"simple_rnn-d1-u4-L500"}
    assert Counter(t.status for t in lossy.trials) == {"FINISHED": 4, "FAILED": 2, "KILLED": 1}
    assert lossy.search.status == "FINISHED"
    assert lossy.search.metrics["trials_finished"] == 4


def test_an_error_that_goes_past_the_worker_closes_the_run(lossy: Done) -> None:
    (odd,) = [t for t in lossy.trials if t.params.label == "simple_rnn-d1-u4-L500"]
    assert (odd.status, odd.reason) == ("FAILED", "Odd: so be it")
    names = {artifact.path for artifact in lossy.client.list_artifacts(odd.run_id)}
    assert names == {"traceback.txt"}


# Searches with a pruner.


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Done]:
    found = {}
    for workers in WORKERS:
        folder = tmp_path_factory.mktemp(f"pruned{workers}")
        found[workers] = search_with(folder, "random", workers, trainer=DiesAfterAnEpoch(folder))
    return found


def test_one_worker_prunes_as_this_process_does(pruned: dict[int, Done]) -> None:
    states = Counter(trial.state for trial in pruned[0].trials)
    assert states["PRUNED"] > 1
    assert states["FINISHED"] > 1
    assert pruned[1].outcomes() == pruned[0].outcomes()


@pytest.mark.parametrize("workers", WORKERS)
def test_a_pruned_trial_reports_no_epoch_after_the_last(
    pruned: dict[int, Done], workers: int
) -> None:
    done = pruned[workers]
    last: dict[str, int] = {}
    for event in done.told:
        if isinstance(event, EpochEnded):
            last[event.trial_id] = int(event.metrics["epoch"])
    pruned_after = {t.trial_id: t.pruned_after for t in done.trials if t.state == "PRUNED"}
    assert pruned_after
    assert {**dict.fromkeys(last, 3), **pruned_after} == last
    ended = {e.trial_id: e.reason for e in done.told if isinstance(e, TrialEnded)}
    assert ended == {t.trial_id: t.reason for t in done.trials}


@pytest.mark.parametrize("prunes", [True, False])
def test_a_lost_trial_is_judged_as_if_its_worker_had_not_died(
    prunes: bool, pruned: dict[int, Done], tmp_path: Path
) -> None:
    """Its epochs were judged already, and are reported again."""
    chosen = min(t.trial_id for t in pruned[0].trials if bool(t.pruned_after) == prunes)
    trainer = DiesAfterAnEpoch(tmp_path, chosen)
    lossy = search_with(tmp_path, "random", 1, trainer=trainer)
    assert (tmp_path / "died").exists()
    assert lossy.outcomes() == pruned[0].outcomes()
    (lost,) = [trial for trial in lossy.trials if trial.state == "KILLED"]
    assert (lost.trial_id, lost.reason) == (chosen, "the worker process died")


def test_a_worker_without_an_answer_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The driver answers the first trial late: it hears after a later epoch that it was pruned."""
    from distributed import Client, LocalCluster

    monkeypatch.setattr(prune_decision, "ANSWER_S", 0.2)
    with (
        LocalCluster(1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        task = client.submit(prune_decision.await_decision, "task", 1)
        assert task.result(60) is False
        prune_decision.send_decision(client, "task", 1, True)
        assert client.submit(prune_decision.await_decision, "task", 2).result(60) is True
        prune_decision.send_decision(client, "task", 3, False)
        assert client.submit(prune_decision.await_decision, "task", 3).result(60) is False
