"""Reading searches back from MLflow: which trial is best, and what the leaderboard says."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from imdbtune.config.hyperparameters import TrialParams
from imdbtune.errors import UserError
from imdbtune.report import leaderboard
from imdbtune.tracking import (
    entities,
    logged_models,
    mlflow_names,
    ranking,
    reader,
    run_queries,
    writer,
)
from imdbtune.tracking.connection import connect
from imdbtune.tracking.entities import Search, Trial
from imdbtune.tracking.model_files import fetch_model
from imdbtune.tracking.writer import CorpusFacts, Run, SearchRun, TrialRun
from tests.support import isolate, new_store, write_tiny_model

FACTS = CorpusFacts("demo", "a demo", "0123456789abcdef" * 4, "demo", 10, 5)


@dataclass
class Store:
    """A store into which searches and trials are put without running them."""

    folder: Path
    client: Any
    begun: list[SearchRun] = field(default_factory=list)

    def search(self, name: str = "tiny", kind: str = "search", **tags: str) -> SearchRun:
        common = writer.common_tags(FACTS, {"objective": "val_accuracy", **tags})
        self.begun.append(SearchRun.open(self.client, name, "experiment", common, kind))
        return self.begun[-1]

    def trial(
        self, search: SearchRun, score: float | None, status: str = "FINISHED", **params: Any
    ) -> str:
        """A trial whose objective is ``score``; RUNNING is left as it was begun."""
        number = len(reader.read_trials(self.client, self.read(search)))
        run_id = search.start_trial(f"{number:04d}", TrialParams(**params), {})
        run = TrialRun(self.client, run_id)
        if score is not None:
            run.log({f"best_{search.tags[mlflow_names.OBJECTIVE]}": score})
        if status != "RUNNING":
            run.end(status, "" if status == "FINISHED" else "a reason")
        return run_id

    def read(self, search: SearchRun) -> Search:
        return reader.find_search(self.client, search.run_id)

    def best(self, search: SearchRun) -> Trial:
        return reader.read_best(self.client, self.read(search))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    isolate(monkeypatch, tmp_path)
    return Store(tmp_path, connect(new_store(tmp_path)))


# Which search.


def test_without_a_name_it_is_the_last_search(store: Store) -> None:
    for name in ("first", "second"):
        store.search(name)
    store.search("a training", kind="train")
    assert reader.find_search(store.client).name == "second"


def test_of_one_name_it_is_the_newest(store: Store) -> None:
    old, new = store.search("twice"), store.search("twice")
    store.search("another")
    assert reader.find_search(store.client, "twice").run_id == new.run_id
    assert reader.find_search(store.client, old.run_id).run_id == old.run_id


@pytest.mark.parametrize(
    "name",
    ["it's", 'say "hi"', 'it\'s "both"', "a`b", "back\\", "50 %", "größer 字", "x' or '1'='1"],
)
def test_a_search_is_found_whatever_its_name(name: str, store: Store) -> None:
    made = store.search(name)
    store.search("another")
    found = reader.find_search(store.client, name)
    assert (found.run_id, found.name) == (made.run_id, name)


@pytest.mark.parametrize("name", ["none", "it's", "0" * 32, "a\nb", "tin", "tiny ", "%"])
def test_a_search_that_there_is_not(name: str, store: Store) -> None:
    store.search("tiny")
    with pytest.raises(UserError, match=r"no search .* in sqlite:.*; start one with") as caught:
        reader.find_search(store.client, name)
    assert "\n" not in str(caught.value)


def test_an_empty_store_has_no_search(store: Store) -> None:
    with pytest.raises(UserError, match="no search yet in sqlite:"):
        reader.find_search(store.client)
    assert reader.read_searches(store.client) == []


def test_a_trial_is_not_a_search(store: Store) -> None:
    run_id = store.trial(store.search(), 0.5)
    with pytest.raises(UserError, match="no search"):
        reader.find_search(store.client, run_id)


def test_searches_are_listed_the_newest_first(store: Store) -> None:
    made = [store.search(name).run_id for name in ("a", "b", "c")]
    store.trial(store.begun[0], 0.5)
    assert [s.run_id for s in reader.read_searches(store.client)] == made[::-1]


def test_a_deleted_search_is_not_found(store: Store) -> None:
    kept, gone = store.search("kept"), store.search("gone")
    store.client.delete_run(gone.run_id)
    assert reader.find_search(store.client).run_id == kept.run_id


# The best trial.


@pytest.mark.parametrize(("objective", "best"), [("val_accuracy", 0.9), ("val_loss", 0.1)])
def test_the_best_has_the_best_objective(objective: str, best: float, store: Store) -> None:
    search = store.search(objective=objective)
    for score in (0.3, best, 0.5):
        store.trial(search, score)
    assert store.best(search).score == best
    scores = [trial.score for trial in reader.read_trials(store.client, store.read(search))]
    assert scores == sorted(scores, reverse=objective == "val_accuracy")


@pytest.mark.parametrize("status", ["FAILED", "KILLED", "RUNNING"])
def test_the_best_has_finished(status: str, store: Store) -> None:
    search = store.search()
    store.trial(search, 0.99, status)
    good = store.trial(search, 0.5)
    store.trial(search, 0.98, status)
    assert store.best(search).run_id == good


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("objective", ["val_accuracy", "val_loss"])
def test_what_is_not_a_number_is_not_the_best(objective: str, value: float, store: Store) -> None:
    search = store.search(objective=objective)
    for score in (value, 0.5, value, 0.6, value):
        store.trial(search, score)
    assert store.best(search).score == (0.6 if objective == "val_accuracy" else 0.5)
    trials = reader.read_trials(store.client, store.read(search))
    assert [trial.score for trial in trials[2:]] == [None] * 3


def test_of_equals_the_first_is_best(store: Store) -> None:
    search = store.search()
    made = [store.trial(search, score) for score in (0.5, 0.7, 0.7, 0.7)]
    assert store.best(search).run_id == made[1]
    ranked = [trial.run_id for trial in reader.read_trials(store.client, store.read(search))]
    assert ranked == [*made[1:], made[0]]


def test_equals_of_one_millisecond_are_ranked_by_number() -> None:
    trials = [made_trial(number, score=0.5) for number in (3, 1, 2)]
    assert [t.trial_id for t in ranking.rank(trials, True)] == ["0001", "0002", "0003"]


def test_a_score_of_zero_is_a_score(store: Store) -> None:
    search = store.search(objective="val_loss")
    store.trial(search, 0.1)
    zero = store.trial(search, 0.0)
    assert store.best(search).run_id == zero


@pytest.mark.parametrize(
    ("trials", "told"),
    [
        ([], "finished; there"),
        (["FAILED", "FAILED"], r"finished \(2 failed\); there"),
        (["RUNNING", "FAILED", "KILLED"], r"\(1 failed, 1 killed, 1 running\)"),
        (["FINISHED"], r"\(1 finished\)"),
    ],
)
def test_where_no_trial_has_finished_there_is_no_best(
    trials: list[str], told: str, store: Store
) -> None:
    search = store.search("mine")
    for status in trials:
        store.trial(search, math.nan if status == "FINISHED" else 0.9, status)
    with pytest.raises(UserError, match=f"no trial of search 'mine' has .*{told}.*no best one yet"):
        store.best(search)


def test_trials_of_another_search_do_not_count(store: Store) -> None:
    mine, other = store.search("same"), store.search("same")
    store.trial(other, 0.9)
    good = store.trial(mine, 0.5)
    assert store.best(mine).run_id == good


# Single trials.


def test_a_trial_is_read_as_it_was_written(store: Store) -> None:
    params = {"rnn": "gru", "bidirectional": True, "learning_rate": 1e-05, "pooling": "max_mean"}
    trial = reader.read_run(store.client, store.trial(store.search(), 0.5, **params))
    assert trial.params == TrialParams(**params)
    assert (trial.trial_id, trial.name) == ("0000", "gru-d1-u32-L500-bi-max_mean")
    assert (trial.status, trial.score, trial.reason) == ("FINISHED", 0.5, "")
    assert trial.ended_ms is not None


@pytest.mark.parametrize("run_id", ["none", "0" * 32, "' or 1=1"])
def test_a_trial_that_there_is_not(run_id: str, store: Store) -> None:
    with pytest.raises(UserError, match="no trial with run id"):
        reader.read_run(store.client, run_id)


def test_a_search_is_not_a_trial(store: Store) -> None:
    with pytest.raises(UserError, match="no trial with run id"):
        reader.read_run(store.client, store.search().run_id)


def test_a_history_is_in_order_of_epochs(store: Store) -> None:
    run = TrialRun(store.client, store.trial(store.search(), None, "RUNNING"))
    for epoch in (2, 1, 10, 3):
        figures = dict.fromkeys(mlflow_names.CURVES, epoch / 10)
        run.log_epoch(0, {"epoch": epoch, **figures, "seconds": 1.0})
        run.log_epoch(1, {"epoch": epoch, **dict.fromkeys(figures, 0.0), "seconds": 1.0})
    history = reader.read_history(store.client, run.run_id)
    assert [epoch["epoch"] for epoch in history] == [1, 2, 3, 10]
    assert history[3] == {"epoch": 10.0, **dict.fromkeys(mlflow_names.CURVES, 1.0)}


def test_a_model_that_was_not_kept(store: Store) -> None:
    trial = reader.read_run(store.client, store.trial(store.search(), 0.5))
    with pytest.raises(UserError, match=r"the model of lstm-d1-u32-L500 \(run \w+\) was not saved"):
        fetch_model(store.client, trial, store.folder)


def test_a_model_whose_file_is_gone(store: Store) -> None:
    from imdbtune.training.spec import TrialSpec

    run_id = store.trial(store.search(), 0.5)
    write_tiny_model(TrialSpec(TrialParams(), corpus=store.folder, folder=store.folder))
    logged_models.save_model(store.folder / "model.keras", store.folder / "model")
    logged_models.upload_model(store.client, run_id, store.folder / "model")
    trial = reader.read_run(store.client, run_id)
    there = fetch_model(store.client, trial, store.folder / "fetched")
    assert there.stat().st_size > 0
    logged = store.client.get_logged_model(trial.model_id)
    Path(logged.artifact_location, "data", "model.keras").unlink()
    with pytest.raises(UserError, match=r"the model file of lstm-d1-u32-L500 .* cannot be read"):
        fetch_model(store.client, trial, store.folder / "again")


class Page(list[int]):
    """As MLflow's paged lists are."""

    token: str | None = None


@pytest.mark.parametrize(("there", "limit"), [(0, 10), (999, 5000), (2500, 5000), (2500, 1200)])
def test_all_pages_are_read(there: int, limit: int) -> None:
    def fetch(max_results: int, page_token: str | None) -> Page:
        start = int(page_token or 0)
        page = Page(range(start, min(there, start + max_results)))
        page.token = str(start + len(page)) if start + len(page) < there else None
        return page

    assert run_queries.all_pages(fetch, limit) == list(range(min(there, limit)))


# The leaderboard.


def made_trial(number: int, score: float | None = None, status: str = "FINISHED") -> Trial:
    metrics = {"best_epoch": 2.0, "train_seconds": 61.4, "execution_2/loss": 0.1}
    return Trial(
        run_id=f"run{number}",
        name=f"trial-{number}",
        status=status,
        params=TrialParams(units=number),
        metrics={**metrics, **({} if score is None else {"best_val_accuracy": score})},
        tags={mlflow_names.TRIAL: f"{number:04d}"},
        started_ms=0,
        ended_ms=None,
        model_id=None,
    )


def made_search(**tags: str) -> Search:
    return Search("id", "mine", "RUNNING", "7", {mlflow_names.DATA: "demo", **tags}, {}, 0)


def table_of(text: str) -> Sequence[str]:
    return [line for line in text.splitlines() if line.startswith("|")]


def test_each_row_of_the_description_is_a_link() -> None:
    trials = [made_trial(3, 0.91234), made_trial(4, 0.9)]
    table = table_of(leaderboard.markdown(made_search(), trials, ["units", "rnn"]))
    assert table == [
        "| # | trial | units | rnn | val_accuracy | epoch | seconds |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| 1 | [trial-3](#/experiments/7/runs/run3"
        "?workflowType=machine_learning) | 3 | lstm | 0.9123 | 2 | 61 |",
        "| 2 | [trial-4](#/experiments/7/runs/run4"
        "?workflowType=machine_learning) | 4 | lstm | 0.9000 | 2 | 61 |",
    ]


def test_the_description_begins_with_the_answer_and_its_links() -> None:
    text = leaderboard.markdown(made_search(), [made_trial(3, 0.91234)], ["units"], report=True)
    first = text.splitlines()[0]
    assert first.startswith("**Best: [trial-3](#/experiments/7/runs/run3?")
    assert "), val_accuracy 0.9123 at epoch 2.** Data: demo. Trials: 1 finished. Open [" in first
    assert "[report](#/experiments/7/runs/id/artifacts/report.html?" in first
    assert "searchFilter=" in first
    assert "report" not in leaderboard.markdown(made_search(), [made_trial(3, 0.9)], ["units"])


def test_the_description_counts_all_and_ranks_the_finished() -> None:
    others = [made_trial(n, 0.99, s) for n, s in enumerate(("RUNNING", "FAILED", "KILLED"), 1)]
    text = leaderboard.markdown(made_search(), [made_trial(9, 0.5), *others], ["units"])
    assert "Data: demo. Trials: 1 finished, 1 failed, 1 running, 1 ended early." in text
    assert len(table_of(text)) == 3


def test_a_description_without_trials() -> None:
    text = leaderboard.markdown(made_search(**{"imdbtune.about": "GRUs."}), [], ["units"])
    assert text.split("\n") == ["GRUs.", "", "Data: demo. Trials: none yet.", ""]


def test_the_answer_comes_before_all_else_on_the_page_of_a_search() -> None:
    """MLflow folds a long description after its first lines."""
    search = made_search(**{"imdbtune.about": "GRUs, " * 99})
    text = leaderboard.markdown(search, [made_trial(3, 0.8)], ["units"])
    assert text.startswith("**Best: ")
    assert text.rstrip().endswith("GRUs,")


@pytest.mark.parametrize("more", [0, 1, 70])
def test_a_long_leaderboard_is_cut_and_says_so(more: int) -> None:
    trials = [made_trial(n, 0.5) for n in range(1, leaderboard.ROWS_SHOWN + more + 1)]
    text = leaderboard.markdown(made_search(), trials, ["units"])
    assert len(table_of(text)) == leaderboard.ROWS_SHOWN + 2
    assert text.endswith(f"... and {more} more: leaderboard.json") == bool(more)


def test_a_page_is_written_while_the_search_runs(store: Store) -> None:
    search = store.search()
    store.trial(search, 0.5)
    store.trial(search, None, "RUNNING")
    leaderboard.publish(store.client, store.read(search), ["rnn"], final=False)
    found = store.read(search)
    assert found.metrics == {
        "trials_finished": 1.0,
        "trials_failed": 0.0,
        "best_val_accuracy": 0.5,
    }
    assert "Trials: 1 finished, 1 running." in found.tags[mlflow_names.NOTE]
    assert store.client.list_artifacts(search.run_id) == []


def test_the_page_of_a_search_in_which_nothing_finished(store: Store) -> None:
    search = store.search()
    store.trial(search, None, "FAILED")
    leaderboard.publish(store.client, store.read(search), ["rnn"], final=True)
    found = store.read(search)
    assert found.metrics == {"trials_finished": 0.0, "trials_failed": 1.0}
    assert "imdbtune.best" not in found.tags
    assert "Trials: 1 failed." in found.tags[mlflow_names.NOTE]


def test_mlflow_loads_the_leaderboard_as_a_table(store: Store) -> None:
    import mlflow

    search = store.search()
    for score, status in ((0.5, "FINISHED"), (0.75, "FINISHED"), (math.nan, "FAILED")):
        run_id = store.trial(search, score, status)
        Run(store.client, run_id).log({"execution_2/loss": 0.5})
    leaderboard.publish(store.client, store.read(search), ["rnn"], final=True)
    mlflow.set_tracking_uri(store.client.tracking_uri)
    table = store.client.load_table(search.experiment_id, "leaderboard.json", [search.run_id])
    assert table["best_val_accuracy"].tolist()[:2] == [0.75, 0.5]
    assert table["status"].tolist() == ["FINISHED", "FINISHED", "FAILED"]
    assert "execution_2/loss" not in table.columns
    path = store.client.download_artifacts(search.run_id, "leaderboard.json")
    assert "NaN" not in Path(path).read_text(encoding="utf-8")


def test_a_leaderboard_is_written_anew_each_time(store: Store) -> None:
    search = store.search()
    for score in (0.5, 0.7):
        store.trial(search, score)
        leaderboard.publish(store.client, store.read(search), ["rnn"], final=True)
    path = store.client.download_artifacts(search.run_id, "leaderboard.json")
    table = json.loads(Path(path).read_text(encoding="utf-8"))
    assert len(table["data"]) == 2
    assert store.read(search).metrics["best_val_accuracy"] == 0.7


def test_a_row_is_flat() -> None:
    row = entities.as_row(made_trial(5, 0.5))
    assert (row["trial"], row["status"], row["units"], row["run_id"]) == (
        "0005",
        "FINISHED",
        5,
        "run5",
    )
    assert set(TrialParams().as_dict()) <= set(row)
    assert "execution_2/loss" not in row


def test_an_ensemble_is_found_again_but_not_one_of_an_earlier_version(store: Store) -> None:
    """Which mixed a linear model with half of the weight, without logging any."""
    search = store.search()
    trials = [store.trial(search, 0.8, units=units) for units in (4, 8)]
    members = [reader.read_run(store.client, run_id) for run_id in trials]
    for linear in (False, True):
        assert reader.find_ensemble(store.client, members, linear) is None
        tag = {mlflow_names.ENSEMBLE_OF: reader.ensemble_tag(members, linear)}
        made = Run(store.client, store.trial(search, 0.9, status="RUNNING"))
        made.log(tags=tag)
        made.end("FINISHED")
        found = reader.find_ensemble(store.client, members, linear)
        assert (found and found.run_id) == (None if linear else made.run_id)
    made.log({"weight_networks": 0.3, "weight_linear": 0.7})
    again = reader.find_ensemble(store.client, members, linear=True)
    assert again is not None
    assert again.run_id == made.run_id
