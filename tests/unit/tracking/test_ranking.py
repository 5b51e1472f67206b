"""The winner of a search: on the front of several objectives, and where a requirement is missed."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from imdbtune.config.hyperparameters import TrialParams
from imdbtune.tracking import mlflow_names
from imdbtune.tracking.entities import Search, Trial
from imdbtune.tracking.ranking import Front, as_rows, find_front, rank_trials


def made(
    number: int, accuracy: float, weights: float, status: str = "FINISHED", **more: Any
) -> Trial:
    tags = {mlflow_names.TRIAL: f"{number:04d}", **more.pop("tags", {})}
    metrics = {"best_val_accuracy": accuracy, "parameter_count": weights, "train_seconds": 9.0}
    metrics |= more
    return Trial(f"r{number}", f"t{number}", status, TrialParams(), metrics, tags, number, 0, None)


def search(reviews: int = 100_000, objectives: str = "val_accuracy,parameter_count") -> Search:
    tags = {mlflow_names.VALIDATION_REVIEWS: str(reviews), mlflow_names.OBJECTIVES: objectives}
    return Search("s", "s", "FINISHED", "1", tags, {}, 0)


def front_of(trials: list[Trial], reviews: int = 100_000) -> Front:
    front = find_front(search(reviews), trials)
    assert front is not None
    return front


TRIALS = [made(1, 0.90, 900), made(2, 0.899, 300), made(3, 0.80, 100), made(4, 0.85, 500)]


def test_the_cheapest_of_those_shown_to_be_as_accurate_wins() -> None:
    front = front_of(TRIALS)
    assert [trial.name for trial in front.trials] == ["t1", "t2", "t3"]
    assert front.winner.name == "t2"
    assert front.reason.startswith("the cheapest of 3 trials on the front of val_accuracy and ")
    assert front.reason.endswith("less accurate than the best of them, t1")
    assert [t.name for t in rank_trials(search(), TRIALS)] == ["t2", "t1", "t4", "t3"]


@pytest.mark.parametrize(("reviews", "winner"), [(0, "t1"), (5_000, "t1"), (40_000, "t2")])
def test_few_reviews_show_nothing(reviews: int, winner: str) -> None:
    """The limit is 0.001 + 1.645 sqrt(2 * 0.09 / n): 0.011 for 5,000 reviews, 0.004 for 40,000."""
    front = front_of(TRIALS, reviews)
    assert front.winner.name == winner
    assert (winner == "t1") == ("; none of the cheaper ones is shown on " in front.reason)


def test_no_wrong_answer_among_few_reviews_shows_nothing() -> None:
    perfect = [made(1, 1.0, 900), made(2, 1.0 - 1e-9, 300)]
    assert front_of(perfect, 60).winner.name == "t1"
    assert front_of(perfect, 5_000).winner.name == "t2"


def test_equal_trials_are_on_the_front_together() -> None:
    front = front_of([made(1, 0.9, 100), made(2, 0.9, 100), made(3, 0.9, 101)])
    assert [trial.name for trial in front.trials] == ["t1", "t2"]
    assert front.winner.name == "t1"


@pytest.mark.parametrize(
    "worse",
    [
        made(9, 0.99, 1, "FAILED"),
        made(9, math.nan, 1),
        made(9, 0.99, math.nan),
        made(9, 0.99, 1, tags={mlflow_names.DISCARDED: "true"}),
        made(9, 0.99, 1, tags={mlflow_names.REQUIRE: "train_seconds<5"}),
    ],
    ids=["failed", "nan", "unknown cost", "discarded", "missed"],
)
def test_what_cannot_win_is_not_on_the_front(worse: Trial) -> None:
    front = front_of([worse, *TRIALS])
    assert [trial.name for trial in front.trials] == ["t1", "t2", "t3"]
    marks = {row["name"]: row["front"] for row in as_rows(search(), [worse, *TRIALS])}
    assert marks == {"t1": True, "t2": True, "t3": True, "t4": False, "t9": False}


def test_a_search_with_one_objective_has_no_front() -> None:
    one = search(objectives="val_accuracy")
    assert find_front(one, TRIALS) is None
    assert "front" not in as_rows(one, TRIALS)[0]
    assert [t.name for t in rank_trials(one, TRIALS)] == ["t1", "t2", "t4", "t3"]
    assert find_front(search(), []) is None


def test_a_trial_that_misses_the_requirement_ranks_behind_and_says_so() -> None:
    tags = {mlflow_names.REQUIRE: "train_seconds<=60"}
    slow = made(1, 0.9, 100, tags=tags, train_seconds=61.0)
    fast = made(2, 0.8, 100, tags=tags, train_seconds=60.0)
    pruned = {**tags, mlflow_names.PRUNED: "2"}
    cut = made(3, 0.95, 100, "KILLED", tags=pruned, train_seconds=99.0)
    failed = dataclasses.replace(slow, status="FAILED", run_id="r4")
    ranked = rank_trials(search(objectives="val_accuracy"), [slow, fast, cut, failed])
    assert [t.run_id for t in ranked] == ["r2", "r3", "r1", "r4"]
    assert [t.shown_status for t in ranked] == ["FINISHED", "MISSED", "MISSED", "FAILED"]
    assert {slow.reason, cut.reason} == {"misses train_seconds<=60"}
    assert cut.end_reason == "pruned after epoch 2"
    assert slow.has_result
    assert not slow.can_win
