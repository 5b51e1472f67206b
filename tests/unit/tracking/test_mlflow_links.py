"""Links into MLflow's pages."""

from __future__ import annotations

from urllib.parse import parse_qs

import pytest

from imdbtune.tracking import mlflow_links, mlflow_names
from imdbtune.tracking.entities import Search


def made_search(objective: str = "val_accuracy") -> Search:
    return Search("0" * 32, "mine", "FINISHED", "7", {mlflow_names.OBJECTIVE: objective}, {}, 0)


@pytest.mark.parametrize(("objective", "rises"), [("val_accuracy", False), ("val_loss", True)])
def test_the_table_has_the_trials_of_one_search_the_best_first(objective: str, rises: bool) -> None:
    page, _, query = mlflow_links.table_link(made_search(objective)).partition("?")
    assert page == "#/experiments/7/runs"
    assert parse_qs(query) == {
        "workflowType": ["machine_learning"],
        "searchFilter": [f"tags.`imdbtune.search_id` = '{'0' * 32}'"],
        "orderByKey": [f"metrics.`best_{objective}`"],
        "orderByAsc": [str(rises).lower()],
    }


def test_a_link_is_one_word_of_markdown() -> None:
    for link in (mlflow_links.table_link(made_search()), mlflow_links.charts_link(made_search())):
        assert not set(link) & set(" ()[]`'<>|")


def test_charts_and_artifacts_have_links() -> None:
    search = made_search()
    assert mlflow_links.charts_link(search) == (
        f"{mlflow_links.table_link(search)}&compareRunsMode=CHART"
    )
    artifact = mlflow_links.run_link(search, "abc", "report.html")
    assert artifact.startswith("#/experiments/7/runs/abc/artifacts/report.html?")
