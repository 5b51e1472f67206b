"""Where journal and MLflow disagree when a search goes on, and what the user is told of it."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from imdbtune import api
from imdbtune.cluster.trial_job import Trainer
from imdbtune.errors import SearchAborted, UserError
from imdbtune.search.events import Event, Notice, SearchResumed, TrialEnded
from imdbtune.tracking import reader
from imdbtune.tracking.connection import connect
from imdbtune.tracking.entities import Search, Trial
from imdbtune.tracking.model_files import fetch_model
from imdbtune.tracking.outbox import Outbox
from imdbtune.tracking.outbox_delivery import reopen
from imdbtune.training.spec import OnEpoch, TrialResult, TrialSpec
from tests.forked import run_forked
from tests.killing import AtWrite, read_outcome, run_driver
from tests.support import (
    Stub,
    draw_nothing,
    isolate,
    make_config,
    prepare,
    stub_trainer,
    write_tiny_model,
)

SPACE = {"rnn": ["simple_rnn", "lstm"], "units": {"min": 4, "max": 40}}


@dataclass
class Bench:
    """A search of four trials in a folder, which can be begun and gone on with."""

    folder: Path
    kind: str = "random"
    keep_models: str = "0"
    told: list[Event] = field(default_factory=list)
    trained: list[str] = field(default_factory=list)
    on_ended: Callable[[str], None] | None = None

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.folder / 'mlflow.db'}"

    @property
    def client(self) -> Any:
        return connect(self.uri)

    @property
    def search(self) -> Search:
        return reader.find_search(self.client)

    @property
    def journal(self) -> Path:
        return self.folder / "runs" / self.search.run_id / "journal.jsonl"

    def trials(self) -> list[Trial]:
        return reader.read_trials(self.client, self.search)

    def finished(self) -> dict[str, Any]:
        done = [trial for trial in self.trials() if trial.status == "FINISHED"]
        assert len(done) == len({trial.trial_id for trial in done})
        return {trial.trial_id: (trial.params, trial.score) for trial in done}

    def notices(self) -> list[str]:
        return [event.text for event in self.told if isinstance(event, Notice)]

    def _listen(self, event: Event) -> None:
        self.told.append(event)
        if isinstance(event, TrialEnded) and self.on_ended:
            self.on_ended(event.trial_id)

    def _arguments(self, trainer: Trainer) -> dict[str, Any]:
        def train(spec: TrialSpec, on_epoch: OnEpoch) -> TrialResult:
            self.trained.append(spec.folder.name)
            return trainer(spec, on_epoch)

        self.told.clear()
        self.trained.clear()
        where = {"cache": self.folder / "cache", "folder": self.folder / "runs"}
        return {**where, "workers": 0, "trainer": train, "listener": self._listen}

    def begin(self, trainer: Trainer = stub_trainer) -> None:
        tuner = {"kind": self.kind, "max_trials": 4, "seed": 2}
        keep = {"keep_models": self.keep_models}
        config = make_config(self.folder, space=SPACE, tuner=tuner, tracking=keep)
        api.search(config, api.Context(**self._arguments(trainer)))

    def go_on(self, trainer: Trainer = stub_trainer, **overrides: object) -> None:
        given = {name.replace("__", "."): value for name, value in overrides.items()}
        api.resume(None, given, api.Context(uri=self.uri, **self._arguments(trainer)))


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    isolate(monkeypatch, tmp_path)
    prepare(tmp_path)
    draw_nothing(monkeypatch)
    return Bench(tmp_path)


def interrupt_in(number: int) -> Trainer:
    """A trainer that is interrupted in the ``number``-th training of all (from 0)."""
    trained: list[TrialSpec] = []

    def train(spec: TrialSpec) -> None:
        trained.append(spec)
        if len(trained) > number:
            raise KeyboardInterrupt
        write_tiny_model(spec)

    return Stub(train)


def lines_of(bench: Bench, count: int) -> None:
    """Leave the first lines of the journal, as a disk that has lied may do."""
    lines = bench.journal.read_bytes().splitlines(keepends=True)
    bench.journal.write_bytes(b"".join(lines[:count]))


@pytest.mark.parametrize(
    ("kind", "lines"), [("random", n) for n in (0, 4, 5, 8)] + [("bayesian", 8)]
)
def test_what_only_mlflow_knows_is_not_trained_again(bench: Bench, kind: str, lines: int) -> None:
    """The journal's three lines a trial end between, before and after the note of an end."""
    bench.kind = kind
    bench.begin()
    before, journal = bench.finished(), bench.journal.read_bytes()
    runs = {trial.run_id for trial in bench.trials()}
    lines_of(bench, lines)
    bench.go_on()
    assert bench.trained == []
    assert bench.finished() == before
    assert {trial.run_id for trial in bench.trials()} == runs
    ends = [line for line in journal.splitlines() if b'"ended"' in line]
    assert [line for line in bench.journal.read_bytes().splitlines() if b'"ended"' in line] == ends


def test_what_mlflow_has_lost_is_trained_again_under_the_old_number(bench: Bench) -> None:
    """The store is put back as it was while the second trial ran."""
    store, backup = bench.folder / "mlflow.db", bench.folder / "backup.db"

    def keep(trial_id: str) -> None:
        while trial_id == "0000" and not backup.exists():
            time.sleep(0.01)
            if list(bench.finished()) == ["0000"]:
                shutil.copy(store, backup)

    bench.on_ended = keep
    bench.begin()
    before = bench.finished()
    shutil.copy(backup, store)
    assert list(bench.finished()) == ["0000"]
    bench.go_on()
    assert bench.trained == ["0001", "0002", "0003"]
    assert bench.finished() == before
    (notice,) = [text for text in bench.notices() if "lost" in text]
    assert notice.startswith("MLflow has lost trials 0001, 0002, 0003, which had finished")
    bench.go_on()
    assert bench.trained == []
    assert not [text for text in bench.notices() if "lost" in text]


def test_what_was_deleted_in_mlflow_stays_so(bench: Bench) -> None:
    bench.begin()
    gone = bench.trials()[0]
    bench.client.delete_run(gone.run_id)
    bench.go_on(tuner__max_trials=5)
    assert bench.trained == ["0004"]
    assert gone.trial_id not in bench.finished()
    (notice,) = [text for text in bench.notices() if "deleted" in text]
    assert notice.startswith(f"deleted in MLflow, and left so: trial {gone.trial_id};")
    assert "mlflow runs restore" in notice


def test_an_interruption_keeps_what_had_finished_and_the_best_model(bench: Bench) -> None:
    bench.keep_models = "best"
    with pytest.raises(KeyboardInterrupt):
        bench.begin(interrupt_in(2))
    states = Counter(trial.status for trial in bench.trials())
    assert (bench.search.status, states) == ("KILLED", {"FINISHED": 2, "KILLED": 1})
    best, second, killed = bench.trials()
    assert best.model_id
    assert second.model_id is None
    assert killed.reason == "interrupted"
    assert fetch_model(bench.client, best, bench.folder).is_file()
    bench.go_on(Stub(write_tiny_model))
    assert bench.trained == ["0002", "0003"]
    assert bench.trials()[0].model_id


def test_a_trial_that_ended_while_the_search_was_interrupted_has_ended(bench: Bench) -> None:
    def interrupt(trial_id: str) -> None:
        raise KeyboardInterrupt

    bench.on_ended = interrupt
    with pytest.raises(KeyboardInterrupt):
        bench.begin()
    assert Counter(trial.status for trial in bench.trials()) == {"FINISHED": 1}


def test_a_model_that_was_not_logged_in_time_is_to_be_had_by_going_on(bench: Bench) -> None:
    bench.keep_models = "best"
    bench.begin()
    reopen(bench.client, bench.search.run_id)  # as a crash leaves it
    with pytest.raises(UserError, match=f"--resume {bench.search.run_id}"):
        fetch_model(bench.client, bench.trials()[0], bench.folder)


def test_a_search_with_nothing_left_says_so(bench: Bench) -> None:
    bench.begin()
    bench.go_on()
    assert bench.notices() == [
        "nothing is left to train: --max-trials is 4 and all are done; "
        "a larger one extends the search."
    ]
    (standing,) = [event for event in bench.told if isinstance(event, SearchResumed)]
    assert standing == SearchResumed(ended=4, again=0, best=bench.trials()[0].score)


def test_a_raised_budget_holds_from_then_on(bench: Bench) -> None:
    bench.begin()
    with pytest.raises(KeyboardInterrupt):
        bench.go_on(interrupt_in(1), tuner__max_trials=7)
    assert len(bench.finished()) == 5
    bench.go_on()
    assert len(bench.finished()) == 7


def test_the_time_of_all_sessions_is_added_up(bench: Bench) -> None:
    bench.begin()
    first = bench.search.metrics["search_seconds"]
    bench.go_on()
    assert bench.search.metrics["search_seconds"] > first


def resume_and_note(bench: Bench, file: Path) -> None:
    """In another process."""
    try:
        bench.go_on()
    except SearchAborted as error:
        file.write_text(str(error), encoding="utf-8")


def test_a_search_is_gone_on_with_by_one_process_at_a_time(bench: Bench) -> None:
    said = bench.folder / "said.txt"
    other = Bench(bench.folder)

    def resume_too(trial_id: str) -> None:
        if trial_id == "0001":
            run_forked(resume_and_note, other, said)

    bench.on_ended = resume_too
    bench.begin()
    told = said.read_text(encoding="utf-8")
    assert told.startswith("another process is working on this search (")
    assert "wait for it" in told
    assert "\n" not in told
    assert Counter(trial.status for trial in bench.trials()) == {"FINISHED": 4}
    assert bench.search.status == "FINISHED"


@pytest.mark.parametrize(("writes", "known"), [(3, []), (6, ["RUNNING"]), (8, ["RUNNING"])])
def test_a_search_that_was_cut_off_before_its_first_trial(
    tmp_path: Path, writes: int, known: list[str]
) -> None:
    """Before its run was made; right after; and when MLflow was told of it."""
    prepare(tmp_path)
    assert run_driver(tmp_path, "grid", 0, AtWrite(writes, "after")) == -9
    runs = connect(f"sqlite:///{tmp_path / 'mlflow.db'}").search_runs(["0", "1"])
    assert [run.info.status for run in runs] == known
    assert run_driver(tmp_path, "grid", 0, None) == 0
    outcome = read_outcome(tmp_path)
    assert [search.status for search in outcome.searches] == ["FINISHED"]
    assert "RUNNING" not in outcome.statuses


def test_a_search_that_cannot_be_described_is_not_begun(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(Outbox, "log_text", refuse)
    with pytest.raises(OSError, match="no space left"):
        bench.begin()
    with pytest.raises(UserError, match="no search yet"):
        reader.find_search(bench.client)
    assert not (bench.folder / "runs").exists()


def test_a_damaged_journal_is_not_gone_on_with(bench: Bench) -> None:
    bench.begin()
    lines = bench.journal.read_bytes().splitlines(keepends=True)
    bench.journal.write_bytes(b"".join([lines[0], bytes(40) + b"\n", *lines[2:]]))
    with pytest.raises(SearchAborted, match=r"line 2 of .* is damaged"):
        bench.go_on()
    assert bench.search.status == "FINISHED"
    assert len(bench.finished()) == 4
