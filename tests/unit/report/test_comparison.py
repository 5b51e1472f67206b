"""Trials as one table: order, columns, several searches, the data frame."""

from __future__ import annotations

import math
from typing import Any

import pytest

from imdbtune.config.hyperparameters import PARAMETERS, TrialParams
from imdbtune.errors import UserError
from imdbtune.report.comparison import Comparison, compare_searches
from imdbtune.tracking import mlflow_names
from imdbtune.tracking.entities import Search, Trial
from imdbtune.tracking.ranking import rank


def made_trial(number: int, score: float, status: str = "FINISHED", **params: Any) -> Trial:
    metrics = {"best_val_accuracy": score, "best_val_loss": 1.0 - score}
    metrics |= {"train_seconds": 100.0 - number, "execution_2/loss": 1.0}
    tags = {mlflow_names.TRIAL: f"{number:04d}"} | (
        {mlflow_names.REASON: "why"} if score != score else {}
    )
    return Trial(
        f"run{number}", f"t{number}", status, TrialParams(**params), metrics, tags, number, 0, None
    )


def made_search(name: str, objective: str = "val_accuracy") -> Search:
    return Search(name * 2, name, "FINISHED", "1", {mlflow_names.OBJECTIVE: objective}, {}, 0)


TRIALS = rank(
    [
        made_trial(1, 0.7, rnn="gru"),
        made_trial(2, 0.9, rnn="lstm", units=64),
        made_trial(3, math.nan, "FAILED", rnn="gru"),
        made_trial(4, 0.8, rnn="gru", units=64),
    ],
    larger_is_better=True,
)


def compare(**arguments: Any) -> Comparison:
    return compare_searches([(made_search("a"), TRIALS)], **arguments)


def names(compared: Comparison) -> list[str]:
    return [row["name"] for row in compared.rows]


def test_one_search_keeps_its_ranking() -> None:
    assert names(compare()) == ["t2", "t4", "t1", "t3"]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("best_val_accuracy", ["t2", "t4", "t1", "t3"]),
        ("best_val_accuracy:asc", ["t1", "t4", "t2", "t3"]),
        ("best_val_accuracy:desc", ["t2", "t4", "t1", "t3"]),
        ("best_val_loss", ["t2", "t4", "t1", "t3"]),
        ("best_val_loss:desc", ["t1", "t4", "t2", "t3"]),
        ("train_seconds", ["t4", "t3", "t2", "t1"]),
        ("rnn:desc,train_seconds:desc", ["t2", "t1", "t3", "t4"]),
        ("units, best_val_accuracy", ["t1", "t3", "t2", "t4"]),
        ("reason", ["t3", "t2", "t4", "t1"]),
    ],
)
def test_the_order_asked_for(order: str, expected: list[str]) -> None:
    assert names(compare(sort=order)) == expected


def test_conditions_and_limits() -> None:
    assert names(compare(where="rnn=gru and status=finished", limit=1)) == ["t4"]
    assert names(compare(where="reason=why")) == ["t3"]
    assert names(compare(where="units=9")) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"sort": "score"}, "column 'score' is not known"),
        ({"sort": "rnn:up"}, "order 'rnn:up' is not known; give COLUMN"),
        ({"sort": "rnn:"}, "order 'rnn:' is not known"),
        ({"columns": ["rnn", "cell"]}, "column 'cell' is not known"),
        ({"where": "cell=1"}, "column 'cell' is not known"),
    ],
)
def test_what_there_is_not(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        compare(**arguments)


def test_searches_with_one_objective_are_ranked_together() -> None:
    other = (made_search("b"), [made_trial(7, 0.85), made_trial(8, math.nan, "FAILED")])
    compared = compare_searches([(made_search("a"), TRIALS), other])
    assert names(compared) == ["t2", "t7", "t4", "t1", "t3", "t8"]
    assert [row["search"] for row in compared.rows[:2]] == ["a", "b"]


def test_a_search_with_another_objective_is_not_mixed_in() -> None:
    other = (made_search("b", "val_loss"), [made_trial(7, 0.85)])
    compared = compare_searches([(made_search("a"), TRIALS), other])
    assert names(compared) == ["t2", "t4", "t1", "t3", "t7"]
    assert compared.objectives == ["best_val_accuracy", "best_val_loss"]


def test_the_data_frame_has_a_row_for_each_trial() -> None:
    frame = compare(columns=["name", "units", "best_val_accuracy"]).frame
    assert frame.columns.tolist() == ["name", "units", "best_val_accuracy"]
    assert frame["units"].tolist() == [64, 64, 32, 32]
    assert frame["best_val_accuracy"].isna().tolist() == [False] * 3 + [True]


def test_all_columns_are_there_without_any_trial() -> None:
    compared = compare_searches([(made_search("a"), [])], where="rnn=gru", sort="train_seconds")
    assert set(PARAMETERS) < set(compared.columns)
    assert compared.frame.empty


def test_only_what_differs_counts_as_varied() -> None:
    assert compare().varied == ["rnn", "units"]
    assert compare(where="rnn=gru").varied == ["units"]
    assert "execution_2/loss" not in compare().columns
