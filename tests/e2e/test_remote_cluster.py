"""Searches over a Dask cluster that runs already, whose workers have no disk in common."""

from __future__ import annotations

import _thread
import functools
import os
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.config
import pytest

from imdbtune import api
from imdbtune.cluster import worker_pool
from imdbtune.cluster.trial_job import EpochEnded
from imdbtune.config.schema import parse_config
from imdbtune.data.corpus import Corpus, digest_of, read_corpus
from imdbtune.errors import SearchAborted, UserError
from imdbtune.search.events import Event, TrialEnded, TrialStarted
from imdbtune.search.workspace import list_workspaces
from imdbtune.tracking import artifact_transfer, mlflow_names, reader
from imdbtune.tracking.connection import connect
from imdbtune.tracking.entities import Search, Trial
from imdbtune.tracking.model_files import fetch_model
from imdbtune.tracking.outbox import Outbox
from imdbtune.training.spec import OnEpoch, TrialResult, TrialSpec
from tests.e2e.conftest import Place
from tests.machines import ROOT, kill, wait_until
from tests.outages import ask_again_soon
from tests.support import (
    KeepingStub,
    Stub,
    demo_cache,
    draw_nothing,
    isolate,
    kill_self,
    make_config,
    noting,
    prepare,
    run_search,
    stub_metrics,
    stub_trainer,
)

pytestmark = pytest.mark.xdist_group("machines")
SPACE = {"rnn": ["simple_rnn", "lstm", "gru"], "units": {"min": 4, "max": 40}}
RANDOM = {"kind": "random", "max_trials": 6, "seed": 3}


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers draw their pictures; this process draws none."""
    ask_again_soon(monkeypatch)
    draw_nothing(monkeypatch)


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
    estimated = given.pop("estimated", False)
    context = api.Context(**{"cache": here / "cache", **given})
    found = api.search(config, context, estimated=estimated)
    client = connect(place.tracking.address)
    return client, found, reader.read_trials(client, found)


def machine() -> str:
    """In a worker: the name that the test has given it."""
    return Path(os.environ["IMDBTUNE_CACHE"]).parent.name


def mark(marks: Path, spec: TrialSpec) -> None:
    (marks / f"{machine()}-{os.getpid()}-{spec.params.units}-{time.monotonic_ns()}").touch()


def marked(marks: Path) -> list[tuple[str, int, int]]:
    """Machine, process and units of each training, in order."""
    found = [path.name.split("-") for path in marks.glob("*-*-*-*")]
    ordered = sorted(found, key=lambda parts: int(parts[3]))
    return [(name, int(pid), int(units)) for name, pid, units, _ in ordered]


UNITS = list(range(4, 10))
GRID: dict[str, Any] = {"space": {"units": UNITS}, "tuner": {"kind": "grid"}}


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the grid comes to on this machine."""
    folder = tmp_path_factory.mktemp("grid")
    prepare(folder)
    with pytest.MonkeyPatch.context() as patch:
        isolate(patch, folder)
        client, found = run_search(make_config(folder, **GRID), folder)
        return outcomes(reader.read_trials(client, found))


def nothing_open(folder: Path) -> bool:
    """Whether the spools of all searches that were begun in a folder know of no run under way."""
    return not any(
        workspace.outbox.open_runs() for workspace in list_workspaces(folder / ".imdbtune")
    )


def test_a_search_comes_out_as_on_this_machine(place: Place, here: Path) -> None:
    told: list[Event] = []
    with_metrics = {"tracking": {"system_metrics": True}}
    client, found, trials = search(place, here, "remote", listener=told.append, config=with_metrics)
    _, _, local = search(place, here, "local", cluster="local", workers=0)
    assert found.status == "FINISHED"
    assert outcomes(trials) == outcomes(local)
    assert len(trials) == 6
    assert nothing_open(here)
    ended = [event for event in told if isinstance(event, EpochEnded)]
    epochs = Counter((event.trial_id, event.metrics["epoch"]) for event in ended)
    assert sorted(epochs.values()) == [1] * 18
    for trial in trials:
        files = {artifact.path for artifact in client.list_artifacts(trial.run_id)}
        assert files == {"history.csv", "history.json", "record.json", "accuracy.png", "loss.png"}
        assert len(client.get_run(trial.run_id).inputs.dataset_inputs) == 1
        history = client.get_metric_history(trial.run_id, "val_accuracy")
        assert [metric.step for metric in history] == [1, 2, 3]
        assert "system/cpu_utilization_percentage" in trial.metrics
    assert found.tags[mlflow_names.CLUSTER] == place.scheduler


def test_trials_on_other_machines_are_pruned(place: Place, here: Path) -> None:
    """The first two may run at once; each other one is worse than they were in its first epoch."""
    descending: dict[str, Any] = {"units": UNITS[::-1]}
    config = {"space": descending, "tuner": {"kind": "grid", "prune": "asha"}}
    _, found, trials = search(place, here, "pruned", config=config)
    assert found.status == "FINISHED"
    assert len(trials) == len({trial.trial_id for trial in trials}) == len(UNITS)
    assert nothing_open(here)
    pruned = [trial for trial in trials if trial.state == "PRUNED"]
    assert {trial.params.units for trial in pruned} >= set(UNITS[:4])
    for trial in pruned:
        assert (trial.status, trial.pruned_after) == ("KILLED", 1)
        assert trial.tags[mlflow_names.REASON] == "pruned after epoch 1"
        assert (trial.has_result, trial.metrics["epochs_run"]) == (True, 1)


def test_the_reviews_are_fetched_once_a_machine_and_leave_mlflow(place: Place, here: Path) -> None:
    """After the search above."""
    client, found, _ = search(place, here, "again", config={"tuner": {**RANDOM, "max_trials": 2}})
    digest = found.tags[mlflow_names.DIGEST]
    for name in ("first", "second"):
        copy = artifact_transfer.corpus_place(place.machines.folder / name / "cache", digest)
        assert digest_of(read_corpus(copy)) == digest
    for known in reader.read_searches(client):
        assert not client.list_artifacts(known.run_id, artifact_transfer.CORPUS)
    assert not list(place.machines.folder.glob("*/scratch/*/imdbtune/*"))


def join_and_die(marks: Path, spec: TrialSpec) -> None:
    """The second trial dies once with its worker; from the third on all wait for a newcomer."""
    mark(marks, spec)
    if spec.params.units == 5 and not (marks / "died").exists():
        (marks / "died").touch()
        kill_self()
    while spec.params.units >= 6 and not list(marks.glob("newcomer-*")):
        time.sleep(0.05)


def test_a_worker_joins_and_one_is_killed(place: Place, here: Path, grid: dict[str, Any]) -> None:
    newcomer: list[Any] = []

    def listen(event: Event) -> None:
        if isinstance(event, TrialEnded) and not newcomer:
            newcomer.append(place.machines.worker("newcomer", place.scheduler, "--no-nanny"))

    trainer = Stub(functools.partial(join_and_die, here))
    _, found, trials = search(place, here, "lossy", config=GRID, trainer=trainer, listener=listen)
    kill(newcomer[0])
    assert found.status == "FINISHED"
    assert outcomes(trials) == grid
    (killed,) = [trial for trial in trials if trial.status != "FINISHED"]
    assert (killed.status, killed.reason) == ("KILLED", "the worker process died")
    assert killed.params.units == 5
    assert Counter(units for _, _, units in marked(here)) == {**dict.fromkeys(UNITS, 1), 5: 2}
    assert nothing_open(here)


def deliver_and_die(marks: Path, spec: TrialSpec, epoch: int) -> None:
    """A worker dies once in the third epoch of a trial, when MLflow has what came before."""
    mark(marks, spec)
    outbox = Outbox(spec.folder.parent / "spool")
    wait_until(outbox.is_empty, "MLflow does not get the epochs")
    if epoch == 3 and spec.params.units == 5 and not (marks / "died").exists():
        (marks / "died").touch()
        kill_self()


def test_a_trial_of_a_lost_worker_continues_on_another_machine(
    place: Place, here: Path, grid: dict[str, Any]
) -> None:
    trainer = KeepingStub(functools.partial(deliver_and_die, here))
    client, found, trials = search(place, here, "kept", config=GRID, trainer=trainer)
    assert found.status == "FINISHED"
    assert outcomes(trials) == grid
    (killed,) = [trial for trial in trials if trial.status != "FINISHED"]
    assert (killed.params.units, killed.reason) == (5, "the worker process died")
    continued = [t for t in trials if mlflow_names.CONTINUED in t.tags]
    assert [(t.params.units, t.tags[mlflow_names.CONTINUED]) for t in continued] == [(5, "2")]
    curve = client.get_metric_history(continued[0].run_id, "val_accuracy")
    assert [metric.step for metric in curve] == [1, 2, 3]
    assert Counter(units for _, _, units in marked(here)) == {**dict.fromkeys(UNITS, 3), 5: 4}
    for trial in trials:
        assert not client.list_artifacts(trial.run_id, artifact_transfer.CHECKPOINT)


def stop_server(marks: Path, server: int, spec: TrialSpec) -> None:
    mark(marks, spec)
    if spec.params.units == 6:
        os.kill(server, signal.SIGKILL)


def test_a_worker_waits_for_a_store_that_is_away(
    place: Place, here: Path, grid: dict[str, Any]
) -> None:
    """It goes away in the middle of a trial, which ends before it is back."""
    told: list[str] = []

    listen = noting(told)

    def bring_back() -> None:
        wait_until(lambda: any(line.startswith("tcp:") for line in told), "nobody has missed it")
        place.tracking.start()

    mender = threading.Thread(target=bring_back)
    mender.start()
    trainer = Stub(functools.partial(stop_server, here, place.tracking.running))
    _, found, trials = search(place, here, "away", config=GRID, trainer=trainer, listener=listen)
    mender.join()
    assert found.status == "FINISHED"
    assert outcomes(trials) == grid
    assert {trial.status for trial in trials} == {"FINISHED"}
    assert Counter(units for _, _, units in marked(here)) == dict.fromkeys(UNITS, 1)


def hang(marks: Path, spec: TrialSpec) -> None:
    mark(marks, spec)
    while spec.params.units == 4:
        time.sleep(1)


def test_a_trial_that_hangs_is_ended_with_its_process(place: Place, here: Path) -> None:
    config = {"space": {"units": [4, 5]}, "tuner": {"kind": "grid", "trial_timeout": 0.05}}
    trainer = Stub(functools.partial(hang, here))
    client, _, trials = search(place, here, "hangs", config=config, trainer=trainer)
    by_units = {trial.params.units: trial for trial in trials}
    assert (by_units[5].status, by_units[4].status) == ("FINISHED", "FAILED")
    assert by_units[4].reason == "took longer than 0.05 minutes"
    text = client.download_artifacts(by_units[4].run_id, "traceback.txt", str(here))
    assert "in hang" in Path(text).read_text("utf-8")


@dataclass(frozen=True)
class Endless:
    """A training that nobody has the time to wait for."""

    marks: Path

    def __call__(self, spec: TrialSpec, on_epoch: OnEpoch) -> TrialResult:
        mark(self.marks, spec)
        for epoch in range(1, 10_000):
            on_epoch(0, stub_metrics(spec, epoch))
            time.sleep(0.05)
        raise AssertionError


def test_ctrl_c_closes_all_runs_and_frees_the_workers(place: Place, here: Path) -> None:
    def listen(event: Event) -> None:
        if isinstance(event, EpochEnded) and not (here / "pressed").exists():
            (here / "pressed").touch()
            _thread.interrupt_main()

    given = {"config": GRID, "listener": listen, "trainer": Endless(here)}
    with pytest.raises(KeyboardInterrupt):
        search(place, here, "interrupted", **given)
    client = connect(place.tracking.address)
    found = reader.find_search(client, "interrupted")
    assert found.status == "KILLED"
    assert {t.status for t in reader.read_trials(client, found)} == {"KILLED"}
    _, _, trials = search(place, here, "after", config=GRID)
    assert len(outcomes(trials)) == len(UNITS)


REAL = {
    "space": {
        **{"units": 4, "embedding": 4, "maxlen": 12, "batch_size": 32, "optimizer": "adam"},
        **{"learning_rate": [0.003, 0.01, 0.03], "rnn": "simple_rnn"},
    },
    "data": {"source": "demo", "reviews": 160},
    "tuner": {"kind": "hyperband", "seed": 3},
    "training": {"epochs": 3, "patience": 0},
    "tracking": {"keep_models": "best"},
}


def test_states_and_models_travel_by_way_of_mlflow(place: Place, here: Path, demo: Corpus) -> None:
    """Real trainings of a Hyperband whose last one goes on from one of the first."""
    given = {"config": REAL, "trainer": None, "cache": demo_cache()}
    client, _, trials = search(place, here, "bands", **given)
    _, _, local = search(place, here, "local", cluster="", workers=0, **given)
    assert outcomes(trials) == outcomes(local)
    assert len(trials) == 4
    continued = [client.get_run(t.run_id).data.params.get("continues") for t in trials]
    assert sorted(map(bool, continued)) == [False, False, False, True]
    assert [bool(trial.model_id) for trial in trials] == [True, False, False, False]
    fetched = fetch_model(client, trials[0], here)
    assert fetched.stat().st_size > 1000
    for trial in trials:
        assert not client.list_artifacts(trial.run_id, artifact_transfer.KEPT)


def test_a_worker_of_another_version_is_refused(
    place: Place, here: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """One that comes later gets no trials; one that is there before a search keeps it from it."""
    packages = tmp_path_factory.mktemp("packages")
    (packages / "keras-9.9.9.dist-info").mkdir()
    (packages / "keras-9.9.9.dist-info" / "METADATA").write_text("Name: keras\nVersion: 9.9.9\n")
    path = {"PYTHONPATH": f"{packages}{os.pathsep}{ROOT}"}
    told: list[str] = []
    odd: list[Any] = []

    note = noting(told)

    def listen(event: Event) -> None:
        note(event)
        if isinstance(event, TrialStarted) and not odd:
            odd.append(
                place.machines.worker("odd", place.scheduler, "--no-nanny", environment=path)
            )

    def wait_for_odd(marks: Path) -> None:
        wait_until(lambda: any("9.9.9" in line for line in told), "nobody has noticed")
        (marks / "noticed").touch()

    watcher = threading.Thread(target=wait_for_odd, args=[here])
    watcher.start()
    trainer = Stub(functools.partial(wait_until_noticed, here))
    _, found, _ = search(place, here, "late", config=GRID, trainer=trainer, listener=listen)
    watcher.join()
    assert found.metrics["trials_finished"] == len(UNITS)
    assert "odd" not in {name for name, _, _ in marked(here)}
    assert any("keras 9.9.9 (here " in line and "it gets no trials" in line for line in told)
    with pytest.raises(UserError, match=r"keras 9\.9\.9 \(here \d") as refused:
        search(place, here, "refused", config=GRID)
    assert len(str(refused.value).splitlines()) == 1
    kill(odd[0])
    assert "refused" not in {s.name for s in reader.read_searches(connect(place.tracking.address))}


def wait_until_noticed(marks: Path, spec: TrialSpec) -> None:
    mark(marks, spec)
    while not (marks / "noticed").exists():
        time.sleep(0.05)


def pause(marks: Path, spec: TrialSpec) -> None:
    mark(marks, spec)
    time.sleep(0.3)


@pytest.mark.parametrize("then", ["elsewhere", "here"])
def test_a_search_whose_scheduler_dies_goes_on(
    place: Place, here: Path, grid: dict[str, Any], then: str
) -> None:
    scheduler = place.machines.scheduler(f"mortal-{then}")
    mortal = place.machines.started[-1]
    place.machines.worker(f"worker-{then}", scheduler, "--no-nanny")
    ended: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, TrialEnded):
            ended.append(event.trial_id)
            if len(ended) == 2:
                kill(mortal)

    given = {"config": GRID, "trainer": Stub(functools.partial(pause, here)), "listener": listen}
    with pytest.raises(SearchAborted, match="does not answer any more") as hit:
        search(place, here, then, cluster=scheduler, **given)
    assert len(str(hit.value).splitlines()) == 1
    client = connect(place.tracking.address)
    found = reader.find_search(client, then)
    assert found.status == "FAILED"
    assert not {t.status for t in reader.read_trials(client, found)} & {"RUNNING", "SCHEDULED"}
    again = place.scheduler if then == "elsewhere" else "local"
    where = {"uri": place.tracking.address, "cache": here / "cache", "workers": 0}
    found = api.resume(then, context=api.Context(cluster=again, trainer=stub_trainer, **where))
    assert found.status == "FINISHED"
    assert outcomes(reader.read_trials(client, found)) == grid
    assert nothing_open(here)


def test_with_certificates_only(place: Place, here: Path) -> None:
    """Dask's own configuration says where they are."""
    from distributed.security import Security

    made = Security.temporary()
    files = {"ca-file": made.tls_ca_file, "cert": made.tls_client_cert, "key": made.tls_client_key}
    for name, text in files.items():
        (here / f"{name}.pem").write_text(text)
    where = {name: str(here / f"{name}.pem") for name in files}
    role = {"cert": where["cert"], "key": where["key"]}
    tls = {"ca-file": where["ca-file"], **{f"client.{what}": path for what, path in role.items()}}
    given = {
        f"DASK_DISTRIBUTED__COMM__TLS__{part}": value
        for part, value in {
            "CA_FILE": where["ca-file"],
            **{
                f"{of}__{what.upper()}": v
                for of in ("SCHEDULER", "WORKER")
                for what, v in role.items()
            },
        }.items()
    }
    scheduler = place.machines.scheduler("closed", protocol="tls", environment=given)
    assert scheduler.startswith("tls://")
    place.machines.worker("let-in", scheduler, "--no-nanny", environment=given)
    with pytest.raises(UserError, match="no Dask scheduler can be used at tls://"):
        search(place, here, "outside", cluster=scheduler)
    with dask.config.set({f"distributed.comm.tls.{key}": value for key, value in tls.items()}):
        config = {"tuner": {**RANDOM, "max_trials": 2}}
        _, found, _ = search(place, here, "inside", cluster=scheduler, config=config)
    assert found.metrics["trials_finished"] == 2


@pytest.mark.parametrize(
    ("store", "cluster", "reason"),
    [
        ("sqlite:///mlflow.db", "tcp://127.0.0.1:1", "on this machine's disk"),
        ("http://127.0.0.1:1", "tls://10.0.0.1:8786", "which only this machine can reach"),
        ("http://localhost:1", "tcp://far:8786", "which only this machine can reach"),
    ],
)
def test_a_store_that_workers_cannot_reach_is_refused_before_anything_starts(
    store: str, cluster: str, reason: str, here: Path
) -> None:
    (here / "mlflow.db").unlink()
    with pytest.raises(UserError, match=reason) as hit:
        api.search(make_config(here, tracking={"uri": store}), api.Context(cluster=cluster))
    assert "mlflow server" in str(hit.value)
    assert "--tracking-uri" in str(hit.value)
    assert not (here / "mlflow.db").exists()


def test_no_time_is_estimated_here_for_workers_elsewhere(place: Place, here: Path) -> None:
    with pytest.raises(UserError, match="cannot estimate the workers of tcp://"):
        search(place, here, "estimated", estimated=True)


def test_an_experiment_whose_files_lie_on_a_disk_is_refused(place: Place, here: Path) -> None:
    connect(place.tracking.address).create_experiment("disk", artifact_location=str(here))
    with pytest.raises(UserError, match="a folder on the disk of each machine"):
        search(place, here, "disk", config={"tracking": {"experiment": "disk"}})


def test_where_no_scheduler_answers_nothing_starts(
    place: Place, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_pool, "CONNECT_S", 0.5)
    with pytest.raises(UserError, match=r"no Dask scheduler can be used at tcp://127\.0\.0\.1:1 "):
        search(place, here, "nobody", cluster="tcp://127.0.0.1:1")
    assert "nobody" not in {s.name for s in reader.read_searches(connect(place.tracking.address))}


@pytest.mark.parametrize("address", ["tcp://host", "http://host:1", "host:8786", "tcp://h:x"])
def test_what_is_no_address_of_a_scheduler_is_refused(address: str) -> None:
    with pytest.raises(UserError, match="the address of a Dask scheduler; write tcp://HOST:8786"):
        parse_config({"cluster": {"address": address}})
