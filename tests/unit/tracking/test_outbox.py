"""Writes on their way to MLflow: on a full disk, from searches at once, made twice, cut off."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from imdbtune import api, files
from imdbtune.config.hyperparameters import TrialParams
from imdbtune.config.schema import SearchConfig
from imdbtune.errors import DiskFull, Interrupted, NotDelivered, UserError
from imdbtune.files import append_line, read_lines, replace_text
from imdbtune.search.workspace import Workspace
from imdbtune.tracking import entities, mlflow_names, reader
from imdbtune.tracking.background_delivery import BackgroundDelivery, deliver_in_background
from imdbtune.tracking.connection import connect
from imdbtune.tracking.entities import Search
from imdbtune.tracking.outbox import Outbox
from imdbtune.tracking.outbox_delivery import DeliveryCache, deliver, is_temporary
from imdbtune.tracking.writer import SearchRun, TrialRun
from imdbtune.training.spec import TrialSpec
from tests.forked import start_forked
from tests.support import (
    Stub,
    isolate,
    make_config,
    new_store,
    no_room_beyond,
    run_search,
    stub_metrics,
    stub_trainer,
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return isolate(monkeypatch, tmp_path)


def go_on(here: Path, config: SearchConfig) -> Search:
    where: dict[str, Any] = {"cache": here / "cache", "folder": here / "runs"}
    return api.resume(
        context=api.Context(uri=config.tracking.uri, workers=0, trainer=stub_trainer, **where)
    )


def test_what_is_no_file_is_written_to_and_stays(tmp_path: Path) -> None:
    """As /dev/stdout or /dev/null, in whose place no file may come."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(pipe.read_text)
        replace_text(pipe, "whole")
        assert read.result(10) == "whole"
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]


@pytest.mark.parametrize("room", range(0, 40, 7))
def test_of_a_line_without_room_nothing_stays(room: int, tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    append_line(path, {"first": 1})
    size = path.stat().st_size
    with no_room_beyond(size + room), pytest.raises(OSError, match=r"File too large.*lines") as hit:
        append_line(path, {"second": "x" * 100})
    assert files.is_disk_full(hit.value)
    assert path.stat().st_size == size
    append_line(path, {"third": 3})
    assert [record for record, _ in read_lines(path)] == [{"first": 1}, {"third": 3}]


def test_a_text_without_room_replaces_none(tmp_path: Path) -> None:
    path, link = tmp_path / "page.html", tmp_path / "link.html"
    replace_text(path, "whole")
    path.chmod(0o640)
    link.symlink_to(path.name)
    with no_room_beyond(8), pytest.raises(OSError, match=r"File too large.*link") as hit:
        replace_text(link, "x" * 100)
    assert files.is_disk_full(hit.value)
    assert path.read_text() == "whole"
    replace_text(link, "longer than that")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("longer than that", 0o640)
    assert sorted(tmp_path.iterdir()) == [link, path]
    assert link.is_symlink()


def test_a_search_on_a_full_disk_ends_in_a_line_and_goes_on_when_there_is_room(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full for the outbox and the journal from the second trial on."""
    real = files.append_line
    limit = [10**9]

    def append(path: Path, record: Any, sync: bool = True) -> None:
        with no_room_beyond(limit[0]):
            real(path, record, sync)

    def fill(spec: TrialSpec) -> None:
        limit[0] = 20 if spec.params.units == 5 else limit[0]

    monkeypatch.setattr("imdbtune.tracking.outbox.append_line", append)
    monkeypatch.setattr("imdbtune.search.journal.append_line", append)
    config = make_config(here, space={"units": [4, 5, 6]})
    with pytest.raises(DiskFull, match="File too large") as hit:
        run_search(config, here, trainer=Stub(fill))
    assert len(str(hit.value).splitlines()) == 1
    limit[0] = 10**9
    found = go_on(here, config)
    client = connect(config.tracking.uri)
    trials = reader.read_trials(client, found)
    assert (found.status, found.metrics["trials_finished"]) == ("FINISHED", 3)
    assert [(t.params.units, t.status) for t in trials[:3]] == [
        (units, "FINISHED") for units in (6, 5, 4)
    ]
    assert {t.status for t in trials[3:]} <= {"KILLED"}


def search_in(folder: Path, name: str, store: str) -> None:
    """What a search writes, in a process of its own."""
    client, outbox = connect(store), Outbox(folder / name)
    parent = SearchRun.open(client, name, "imdbtune", {}, "search")
    with deliver_in_background(BackgroundDelivery(client, outbox, parent.run_id, None, print)):
        search = replace(parent, client=outbox)
        for number in range(8):
            params = TrialParams(units=4 + number)
            trial = TrialRun(outbox, search.start_trial(f"{number:04}", params, {}))
            for epoch in (1, 2, 3):
                trial.log_epoch(0, stub_metrics(TrialSpec(params, folder, folder), epoch))
            trial.end("FINISHED")


def test_two_searches_write_to_one_new_store_at_once(here: Path) -> None:
    store = f"sqlite:///{here / 'shared.db'}"
    names = ("one", "other")
    processes = [start_forked(search_in, here, name, store) for name in names]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    client = connect(store)
    for name in names:
        search = reader.find_search(client, name)
        trials = reader.read_trials(client, search)
        assert (search.status, [t.status for t in trials]) == ("FINISHED", ["FINISHED"] * 8)
        for trial in trials:
            assert len(reader.read_history(client, trial.run_id)) == 3


def begun_trial(here: Path) -> tuple[Any, Outbox, SearchRun, TrialRun]:
    client, outbox = connect(new_store(here)), Outbox(here / "spool")
    parent = SearchRun.open(client, "tiny", "imdbtune", {}, "search")
    search = SearchRun(outbox, parent.run_id, parent.experiment_id, parent.tags)
    trial = TrialRun(outbox, search.start_trial("0000", TrialParams(), {}))
    return client, outbox, parent, trial


def test_calls_that_are_made_twice_come_out_as_made_once(here: Path) -> None:
    client, outbox, parent, trial = begun_trial(here)
    trial.log({"loss": float("nan"), "accuracy": 0.5}, step=1)
    trial.end("FINISHED")
    for _ in range(2):
        assert deliver(client, outbox, parent.run_id, DeliveryCache.at_start(outbox)) == 3
        (outbox.folder / trial.run_id / "delivered.json").unlink()
    (run,) = client.search_runs([parent.experiment_id], f"tags.`{mlflow_names.TRIAL}` = '0000'")
    assert run.info.status == "FINISHED"
    for name in ("loss", "accuracy"):
        assert len(client.get_metric_history(run.info.run_id, name)) == 1


def test_neighbouring_batches_go_together_as_far_as_the_store_takes_them(here: Path) -> None:
    client, outbox, parent, trial = begun_trial(here)
    deliver(client, outbox, parent.run_id, DeliveryCache.at_start(outbox))
    for step in range(1000):
        trial.log({"loss": 1 / (step + 1)}, step=step)
    for told in ("first", "second"):  # the store takes no name twice in a batch
        trial.log(tags={"told": told})
    assert deliver(client, outbox, parent.run_id, DeliveryCache.at_start(outbox)) == 3
    assert deliver(client, outbox, parent.run_id, DeliveryCache.at_start(outbox)) == 0
    run = client.get_run(outbox.delivered(trial.run_id).run_id)
    history = client.get_metric_history(run.info.run_id, "loss")
    assert sorted(metric.step for metric in history) == list(range(1000))
    assert run.data.tags["told"] == "second"


def with_files(here: Path, outbox: Outbox, trial: TrialRun) -> None:
    """A figure, files and another figure of a trial."""
    trial.log({"loss": 0.5}, step=1)
    (here / "history").mkdir()
    (here / "history" / "history.csv").write_text("epoch\n1\n")
    outbox.log_artifacts(trial.run_id, str(here / "history"))
    trial.log({"best_loss": 0.5})


def test_batches_go_together_whatever_files_are_between_them(here: Path) -> None:
    client, outbox, parent, trial = begun_trial(here)
    deliver(client, outbox, parent.run_id, DeliveryCache.at_start(outbox))
    with_files(here, outbox, trial)
    trial.end("FINISHED")
    made = deliver(client, outbox, parent.run_id, DeliveryCache.at_start(outbox))
    assert made == 3  # its figures, its files, its end
    run = client.get_run(outbox.delivered(trial.run_id).run_id)
    assert run.data.metrics == {"loss": 0.5, "best_loss": 0.5}
    assert [a.path for a in client.list_artifacts(run.info.run_id)] == ["history.csv"]


def test_what_is_cut_short_between_calls_is_made_again(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The figures have gone out when the store goes away; their files stay until they have."""
    client, outbox, parent, trial = begun_trial(here)
    with_files(here, outbox, trial)

    def away(*arguments: object) -> None:
        raise ConnectionError("away")

    cache = DeliveryCache.at_start(outbox)
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_artifacts", away)
        with pytest.raises(ConnectionError):
            deliver(client, outbox, parent.run_id, cache)
    (run,) = client.search_runs([parent.experiment_id], f"tags.`{mlflow_names.TRIAL}` = '0000'")
    assert outbox.delivered(trial.run_id).run_id == run.info.run_id
    deliver(client, outbox, parent.run_id, cache)
    assert len(client.get_metric_history(run.info.run_id, "loss")) == 1
    assert [a.path for a in client.list_artifacts(run.info.run_id)] == ["history.csv"]
    assert outbox.is_empty()
    assert not list(outbox.folder.glob("*/log_artifacts-*"))


def test_the_end_of_a_search_waits_for_what_its_trials_were_told(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial and the search end while the trial's calls are being made."""
    client, outbox, parent, trial = begun_trial(here)
    search = replace(parent, client=outbox)
    sizes = Outbox.sizes

    def end_both(outbox: Outbox) -> dict[str, int]:
        found = sizes(outbox)
        trial.end("FINISHED")
        search.end("FINISHED")
        return found

    cache = DeliveryCache.at_start(outbox)
    with monkeypatch.context() as patch:
        patch.setattr(Outbox, "sizes", end_both)
        deliver(client, outbox, parent.run_id, cache)
    assert client.get_run(parent.run_id).info.status == "RUNNING"
    deliver(client, outbox, parent.run_id, DeliveryCache.at_start(outbox))
    (ended,) = client.search_runs([parent.experiment_id], f"tags.`{mlflow_names.TRIAL}` = '0000'")
    statuses = {run.info.status for run in (ended, client.get_run(parent.run_id))}
    assert statuses == {"FINISHED"}


def test_what_cannot_be_noted_for_want_of_room_is_delivered_all_the_same(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is closed in the store; when there is room, nothing comes out twice."""
    client, outbox, parent, trial = begun_trial(here)
    trial.log({"loss": 0.5}, step=1)
    (here / "history").mkdir()
    (here / "history" / "history.csv").write_text("epoch\n1\n")
    outbox.log_artifacts(trial.run_id, str(here / "history"))
    trial.end("FINISHED")

    def refuse(path: Path, record: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    for full in (True, False):
        with monkeypatch.context() as patch:
            if full:
                patch.setattr("imdbtune.tracking.outbox.replace_file", refuse)
            made = deliver(client, outbox, parent.run_id, DeliveryCache.at_start(outbox))
            assert made == 4
        assert outbox.is_empty() is not full
        (run,) = client.search_runs([parent.experiment_id], f"tags.`{mlflow_names.TRIAL}` = '0000'")
        assert run.info.status == "FINISHED"
        assert len(client.get_metric_history(run.info.run_id, "loss")) == 1
        assert [a.path for a in client.list_artifacts(run.info.run_id)] == ["history.csv"]


def test_a_store_is_back_when_it_has_answered(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not when there was nothing to deliver, while the page cannot be kept up to date."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr("imdbtune.tracking.background_delivery.POLL_S", 0.01)
    monkeypatch.setattr("imdbtune.tracking.background_delivery.RETRY_EVERY_S", 0.01)
    monkeypatch.setattr("imdbtune.tracking.background_delivery.PUBLISH_EVERY_S", 0.0)
    tries = threading.Semaphore(0)

    def publish(
        client: MlflowClient, run_id: str, varied: Sequence[str], report: bool, final: bool
    ) -> None:
        tries.release()
        client.search_experiments()

    lines: list[str] = []
    client = MlflowClient("http://127.0.0.1:9")
    outbox = Outbox(here / "spool")
    delivery = BackgroundDelivery(
        client, outbox, "parent", ["units"], lines.append, publish=publish
    )
    delivery.start()
    for _ in range(4):
        assert tries.acquire(timeout=60)
    delivery.finish()
    assert lines[:1] == [
        "the tracking store http://127.0.0.1:9 cannot be written (Connection refused); the data is "
        "kept here, and sent again later."
    ]
    assert len(lines) <= 2


@pytest.mark.parametrize("delivered_before", [True, False])
def test_what_a_killed_trial_logs_afterwards_is_dropped(here: Path, delivered_before: bool) -> None:
    client, outbox, parent, trial = begun_trial(here)
    cache = DeliveryCache.at_start(outbox)
    trial.end("KILLED", "the search was cut off")
    if delivered_before:
        deliver(client, outbox, parent.run_id, cache)
    trial.log({"loss": 0.5}, step=2)
    trial.end("FINISHED")
    deliver(client, outbox, parent.run_id, cache)
    run = client.get_run(outbox.delivered(trial.run_id).run_id)
    assert (run.info.status, dict(run.data.metrics)) == ("KILLED", {})
    assert outbox.is_empty()


def test_a_pruned_trial_is_killed_with_its_epoch_and_logs_more_afterwards(here: Path) -> None:
    client, outbox, parent, trial = begun_trial(here)
    trial.prune(2)
    trial.log({"later": 0.5})  # as its model, if it is among the best of the search
    for _ in range(2):
        deliver(client, outbox, parent.run_id, DeliveryCache.at_start(outbox))
    run = client.get_run(outbox.delivered(trial.run_id).run_id)
    assert (run.info.status, dict(run.data.metrics)) == ("KILLED", {"later": 0.5})
    assert run.data.tags[mlflow_names.REASON] == "pruned after epoch 2"
    assert entities.as_trial(run).state == "PRUNED"


@pytest.mark.parametrize("name", ["set_terminated", "set_tag"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_as_a_trial_is_pruned_leaves_it_pruned(
    name: str, when: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, outbox, parent, trial = begun_trial(here)
    trial.prune(2)
    write = getattr(MlflowClient, name)

    def deadly(*arguments: Any) -> None:
        if when == "after":
            write(*arguments)
        raise Dies

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, name, deadly)
        with pytest.raises(Dies):
            deliver(client, outbox, parent.run_id, DeliveryCache.at_start(outbox))
    run_id = reader.find_run(client, trial.run_id)
    assert run_id
    between = entities.as_trial(client.get_run(run_id))
    assert between.status == (
        "RUNNING" if (name, when) == ("set_terminated", "before") else "KILLED"
    )
    deliver(client, outbox, parent.run_id, DeliveryCache.at_start(outbox))
    found = entities.as_trial(client.get_run(run_id))
    assert (found.state, found.reason) == ("PRUNED", "pruned after epoch 2")


def test_a_trial_that_was_killed_is_not_pruned_afterwards(here: Path) -> None:
    """As a worker does that was only disconnected, and whose trial another one has run."""
    client, outbox, parent, trial = begun_trial(here)
    deliver(client, outbox, parent.run_id, DeliveryCache.at_start(outbox))
    run_id = outbox.delivered(trial.run_id).run_id
    client.set_terminated(run_id, "KILLED")
    trial.prune(2)
    deliver(client, outbox, parent.run_id, DeliveryCache.at_start(outbox))
    assert entities.as_trial(client.get_run(run_id)).state == "KILLED"


def test_a_page_is_published_by_the_function_that_is_given(here: Path) -> None:
    client, outbox, parent, _ = begun_trial(here)
    outbox.publish(parent.run_id, ["units"], report=True)
    published: list[tuple[Any, ...]] = []

    def publish(
        client: MlflowClient, run_id: str, varied: Sequence[str], report: bool, final: bool
    ) -> None:
        published.append((run_id, varied, report, final))

    with pytest.raises(ValueError, match="page"):
        deliver(client, outbox, parent.run_id, DeliveryCache.at_start(outbox))
    cache = DeliveryCache.at_start(outbox)
    deliver(client, outbox, parent.run_id, cache, publish=publish)
    assert published == [(parent.run_id, ["units"], True, True)]
    assert outbox.is_empty()


def test_a_page_that_cannot_be_drawn_is_not_the_fault_of_the_store(here: Path) -> None:
    client, outbox, parent, _ = begun_trial(here)
    outbox.publish(parent.run_id, ["units"], report=True)

    def publish(*arguments: object, **more: object) -> None:
        raise ZeroDivisionError("division by zero")

    delivery = BackgroundDelivery(client, outbox, parent.run_id, None, print, publish=publish)
    reason = r"^results cannot be delivered \(ZeroDivisionError: division by zero\); the remaining"
    with pytest.raises(NotDelivered, match=reason):
        delivery.finish(patience_s=60.0)


def test_an_interrupt_says_how_to_go_on(here: Path) -> None:
    client, outbox, parent, _ = begun_trial(here)
    delivery = BackgroundDelivery(client, outbox, parent.run_id, None, print)
    with (
        pytest.raises(Interrupted) as raised,
        deliver_in_background(delivery, "The same call"),
    ):
        raise KeyboardInterrupt
    line = "Interrupted: what was running is closed as KILLED. The same call continues it."
    assert raised.value._render_traceback_() == [line]
    assert client.get_run(parent.run_id).info.status == "KILLED"


def test_a_locked_database_is_tried_again(here: Path) -> None:
    error = UserError("the tracking store cannot be read: database is locked")
    error.__cause__ = sqlite3.OperationalError("database is locked")
    assert is_temporary(error)
    assert not is_temporary(UserError("no such search"))


def test_a_run_that_was_deleted_holds_up_no_other(here: Path) -> None:
    client, outbox, parent, trial = begun_trial(here)
    deliver(client, outbox, parent.run_id, DeliveryCache.at_start(outbox))
    client.delete_run(outbox.delivered(trial.run_id).run_id)
    search = SearchRun(outbox, parent.run_id, parent.experiment_id, parent.tags)
    other = TrialRun(outbox, search.start_trial("0001", TrialParams(), {}))
    for run in (trial, other):
        run.log({"loss": 0.5}, step=1)
    deleted: list[str] = []
    deliver(client, outbox, parent.run_id, DeliveryCache.at_start(outbox), deleted.append)
    assert deleted == [outbox.delivered(trial.run_id).run_id]
    assert client.get_run(outbox.delivered(other.run_id).run_id).data.metrics == {"loss": 0.5}


class Dies(BaseException):
    """The end of a process."""


def die(workspace: Workspace, run_id: str) -> Workspace:
    raise Dies


def test_a_search_that_died_as_its_run_was_made_is_gone_on_with(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(here, space={"units": [4, 5]})
    with monkeypatch.context() as patch:
        patch.setattr(Workspace, "renamed", die)
        patch.setattr(Workspace, "discard", lambda workspace: None)
        with pytest.raises(Dies):
            run_search(config, here)
    client = connect(config.tracking.uri)
    dead = reader.find_search(client)
    assert (dead.status, client.get_run(dead.run_id).data.params) == ("RUNNING", {})
    found = go_on(here, config)
    assert (found.run_id, found.status) == (dead.run_id, "FINISHED")
    assert len(reader.read_trials(client, found)) == 2
    assert client.get_run(found.run_id).data.params["tuner.kind"] == "grid"
    assert [path.name for path in (here / "runs").iterdir()] == [dead.run_id]


def test_a_home_whose_run_was_never_made_goes_away(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(here, space={"units": [4]})
    with monkeypatch.context() as patch:
        patch.setattr(SearchRun, "open", lambda *arguments: die(*arguments[:2]))
        patch.setattr(Workspace, "discard", lambda workspace: None)
        with pytest.raises(Dies):
            run_search(config, here)
    assert len(list((here / "runs").iterdir())) == 1
    _, search = run_search(config, here)
    assert [path.name for path in (here / "runs").iterdir()] == [search.run_id]


def test_runs_that_have_not_ended_are_open(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    search = SearchRun(outbox, "parent", "0", {})
    keys = [search.start_trial(f"{number:04}", TrialParams(), {}) for number in range(3)]
    TrialRun(outbox, keys[0]).end("FINISHED")
    TrialRun(outbox, keys[0]).log({"test_loss": 0.5})
    search.log(tags={"about": "films"})
    torn = tmp_path / "torn" / "calls.jsonl"
    torn.parent.mkdir()
    torn.write_bytes(b'{"call": "create_r')
    assert outbox.open_runs() == sorted([*keys[1:], "parent"])
    search.stop_trials("interrupted")
    assert outbox.open_runs() == ["parent"]


@pytest.mark.parametrize("torn", [b'{"call": "log_ba', bytes(40), b'{"call":' + bytes(40) + b"\n"])
def test_what_a_power_failure_has_torn_is_none(torn: bytes, tmp_path: Path) -> None:
    """Of a trial that was under way, whose calls had not been written through."""
    outbox = Outbox(tmp_path)
    run = TrialRun(outbox, "run")
    run.log({"loss": 0.5})
    whole = outbox.size("run")
    with (tmp_path / "run" / "calls.jsonl").open("ab") as file:
        file.write(torn)
    assert len(list(outbox.pending_calls("run"))) == 1
    run.end("KILLED")
    assert [call["call"] for call, _ in outbox.pending_calls("run")] == [
        "log_batch",
        "set_terminated",
    ]
    assert outbox.size("run") > whole
    with (tmp_path / "run" / "calls.jsonl").open("ab") as file:
        file.write(torn.strip() + b"\n")
    assert outbox.open_runs() == []
