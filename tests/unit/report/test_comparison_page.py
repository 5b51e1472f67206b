"""One report of several searches: their winners, figures and trials, on the same reviews."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imdbtune import api
from imdbtune.cli.app import app
from imdbtune.config.hyperparameters import TrialParams
from imdbtune.errors import UserError
from imdbtune.report import comparison_page
from imdbtune.report.comparison import compare_searches
from imdbtune.report.comparison_page import Compared
from imdbtune.tracking import mlflow_names
from imdbtune.tracking.connection import connect
from imdbtune.tracking.entities import Search, Trial
from imdbtune.tracking.writer import Run, SearchRun
from tests.support import isolate, new_store
from tests.unit.report.test_page import EVIL, Page, words

TAGS = {
    mlflow_names.OBJECTIVE: "val_accuracy",
    mlflow_names.DATA: "demo",
    mlflow_names.DIGEST: "abc" * 20,
    mlflow_names.VALIDATION_REVIEWS: "800",
}


def made_search(name: str, **tags: str) -> Search:
    return Search(name * 4, name, "FINISHED", "1", TAGS | tags, {}, 0)


def made_trial(search: str, number: int, score: float | None, **params: Any) -> Trial:
    metrics = {} if score is None else {"best_val_accuracy": score, "train_seconds": 9.0}
    status = "FAILED" if score is None else "FINISHED"
    name = f"{search}-{number}"
    return Trial(name, name, status, TrialParams(**params), metrics, {}, 0, 60_000 * number, None)


def shown(*searches: tuple[Search, Sequence[Trial]], ui: str = "") -> Page:
    compared = compare_searches([(search, list(trials)) for search, trials in searches])
    return Page(comparison_page.render(compared, ui))


SHORT = made_search("short"), [made_trial("short", 1, 0.8, units=8), made_trial("short", 2, 0.7)]
LONG = made_search("long"), [made_trial("long", 1, 0.85), made_trial("long", 2, None)]


def test_the_winners_and_all_trials_stand_side_by_side() -> None:
    text = words(shown(SHORT, LONG).text)
    assert "long-1 of search long: validation accuracy 85.0 %" in text
    assert "2 searches with 4 trials on the same demo reviews, digest abcabcabcabc" in text
    table, _, trials = text.partition("All trials")
    assert table.index("2 long") < table.index("1 short")  # the best search first
    assert "80.00 % ± 2.8" in table
    ranks = [trials.index(name) for name in ("long-1", "short-1", "short-2", "long-2 (failed)")]
    assert ranks == sorted(ranks)
    assert "units" in trials
    assert "dropout" not in trials


def test_names_are_links_only_with_a_server() -> None:
    assert not shown(SHORT, LONG).values("a", "href")
    links = shown(SHORT, LONG, ui="http://box:5000").values("a", "href")
    assert "http://box:5000/#/experiments/1/runs/long-1?workflowType=machine_learning" in links


def test_figures_are_of_all_searches() -> None:
    drawn = comparison_page.draw_figures(
        [
            Compared(n, search, trials, (), None)
            for n, (search, trials) in enumerate((SHORT, LONG), 1)
        ]
    )
    (by_search,) = drawn["by_search"].figure.axes
    assert [tick.get_text() for tick in by_search.get_xticklabels()] == ["1 short", "2 long"]
    (progress,) = drawn["progress"].figure.axes
    steps = {line.get_label(): list(line.get_ydata()) for line in progress.get_lines()}
    assert steps["1 short"] == [80.0, 80.0]
    assert steps["2 long"] == [85.0]
    assert {image for image in shown(SHORT, LONG).values("img", "alt")} == {
        figure.alt for figure in drawn.values()
    }


def test_charts_name_trials_by_their_rows() -> None:
    scatters = shown(SHORT, LONG).charts["scatters"]
    assert scatters["progress"]["steps"] == {"1 short": [[1, 80], [2, 80]], "2 long": [[1, 85]]}
    assert scatters["progress"]["owners"] == ["1 short", "1 short", "2 long"]
    accuracy_of = {row: y for _, y, row in scatters["progress"]["points"]}
    assert accuracy_of == pytest.approx({0: 85, 1: 80, 2: 70})  # as the table ranks them
    assert {row: y for _, y, row in scatters["by_search"]["points"]} == accuracy_of


def test_searches_without_a_finished_trial_are_listed() -> None:
    none = made_search("none"), [made_trial("none", 1, None)]
    assert "0 of 1" in words(shown(SHORT, none).text)
    assert "No trial has finished" in shown(none, (made_search("other"), [])).text


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        (mlflow_names.DIGEST, "other"),
        ("imdbtune.reviews", "500"),
        (mlflow_names.VALIDATION_REVIEWS, "5000"),
    ],
)
def test_searches_of_other_reviews_are_refused(tag: str, value: str) -> None:
    other = made_search("other", **{tag: value})
    with pytest.raises(
        UserError, match=r"searches 'short' .data abcabcabcabc, 800 .* 'other' .*ot"
    ):
        comparison_page.check_comparable([SHORT[0], LONG[0], other])
    comparison_page.check_comparable([SHORT[0], LONG[0]])


def test_nothing_of_others_becomes_html() -> None:
    search = replace(made_search("</script><b>"), tags={**TAGS, "imdbtune.tuner": EVIL})
    page = shown((search, [replace(made_trial("a", 1, 0.8), name=EVIL)]), LONG)
    assert page.charts["scatters"]["by_search"]["labels"] == ["1 </script><b>", "2 long"]
    assert not [attrs for _, attrs in page.tags if "onerror" in attrs]


def test_the_command_takes_several_searches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    isolate(monkeypatch, tmp_path)
    new_store(tmp_path)
    client = connect(f"sqlite:///{tmp_path}/mlflow.db")
    for name, digest in (("a", "x"), ("b", "x"), ("c", "y")):
        search = SearchRun.open(client, name, "e", {**TAGS, mlflow_names.DIGEST: digest}, "search")
        trial = Run(client, search.start_trial("0000", TrialParams(), {}))
        trial.log({"best_val_accuracy": 0.8})
        trial.end("FINISHED")
    app(["report", "a", "b", "--json"], standalone_mode=False)
    output = json.loads(capsys.readouterr().out)
    assert [each["search"] for each in output["searches"]] == ["a", "b"]
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "report of 2 searches" in text
    with pytest.raises(UserError, match="have other reviews"):
        app(["report", "a", "c"], standalone_mode=False)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == text
    (found,) = api.report_comparison(["b", output["searches"][1]["search_id"]])
    assert found.name == "b"
    assert "report of a search" in (tmp_path / "report.html").read_text(encoding="utf-8")
