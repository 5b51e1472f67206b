"""Links into MLflow's pages, and the ready-made state of its page of runs."""

from __future__ import annotations

import json

import pytest

from imdbtune.config.hyperparameters import PARAMETERS
from imdbtune.tracking import mlflow_links, writer
from imdbtune.tracking.reader import Search


def made_search(objective: str = "val_accuracy") -> Search:
    return Search("0" * 32, "mine", "FINISHED", "7", {writer.OBJECTIVE: objective}, {}, 0)


@pytest.mark.parametrize(("objective", "rises"), [("val_accuracy", False), ("val_loss", True)])
def test_the_view_has_the_trials_of_one_search_the_best_first(objective: str, rises: bool) -> None:
    state = json.loads(mlflow_links.shared_view(made_search(objective), ["rnn", "units"]))
    assert state["searchFilter"] == f"tags.`imdbtune.search_id` = '{'0' * 32}'"
    assert (state["orderByKey"], state["orderByAsc"]) == (f"metrics.`best_{objective}`", rises)
    assert state["runsHiddenMode"] == "SHOW_ALL"  # as MLflow spells it: else its menu has no choice
    columns = ["params.`rnn`", "params.`units`", f"metrics.`best_{objective}`"]
    assert state["selectedColumns"][:3] == columns
    lines, parallel, *_ = state["compareRunCharts"]
    assert (lines["type"], lines["metricKey"], lines["xAxisKey"]) == ("LINE", objective, "step")
    assert parallel["selectedParams"] == ["rnn", "units"]
    sections = {chart["metricSectionId"] for chart in state["compareRunCharts"]}
    assert sections == {section["uuid"] for section in state["compareRunSections"]}


def test_the_view_of_every_hyperparameter_fits_into_a_tag() -> None:
    text = mlflow_links.shared_view(made_search(), list(PARAMETERS))
    assert len(text) <= mlflow_links.TAG_LIMIT
    assert len(json.loads(text)["compareRunCharts"]) > 2


def test_links_lead_to_the_state_that_was_tagged() -> None:
    search = made_search()
    assert mlflow_links.table_link(search).startswith("#/experiments/7/runs?")
    assert mlflow_links.table_link(search).endswith(f"viewStateShareKey={search.run_id}")
    assert mlflow_links.charts_link(search).endswith("compareRunsMode=CHART")
    artifact = mlflow_links.run_link(search, "abc", "report.html")
    assert artifact.startswith("#/experiments/7/runs/abc/artifacts/report.html?")
