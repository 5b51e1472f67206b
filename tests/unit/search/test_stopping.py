"""The limits of a search besides the number of trials."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from imdbtune.config.schema import SearchConfig, TunerConfig
from imdbtune.search.events import LimitReached, SpaceExhausted
from imdbtune.search.stopping import StoppingRules
from imdbtune.training.spec import OnEpoch, TrialResult, TrialSpec
from tests.driven import config_of, drive
from tests.support import stub_trainer

FLAT = "the last 3 trials have not improved the best by a standard error"


def rules(**tuner: object) -> StoppingRules:
    config = SearchConfig(tuner=replace(TunerConfig(), **tuner))  # type: ignore[arg-type]
    return StoppingRules(config, lambda: 0.0, validation_reviews=100)


@pytest.mark.parametrize(
    ("scores", "flat"),
    [
        ([], False),
        ([0.8, 0.8, 0.8], False),  # nothing is before the last three
        ([0.8, 0.8, 0.8, 0.8], True),
        ([0.8, 0.7, 0.7, 0.83], True),  # the standard error of 0.8 is 0.04
        ([0.8, 0.7, 0.7, 0.85], False),
        ([0.8, 0.82, 0.83, 0.845], False),  # in small steps
        ([0.8, 0.85, 0.7, 0.7, 0.7], True),
        ([0.8, 0.7, 0.85, 0.7, 0.7], False),
    ],
)
def test_accuracies_are_flat_when_the_best_rises_by_less_than_its_error(
    scores: list[float], flat: bool
) -> None:
    assert rules(until_flat=3).reason(scores) == (FLAT if flat else None)


@pytest.mark.parametrize(
    ("scores", "flat"),
    [([0.5, 0.6, 0.7, 0.4999], False), ([0.5, 0.5, 0.6, 0.7], True)],
)
def test_any_lower_loss_is_an_improvement(scores: list[float], flat: bool) -> None:
    found = rules(until_flat=3, objective="val_loss").reason(scores)
    assert found == (FLAT if flat else None)


@pytest.mark.parametrize(("last", "flat"), [(0.53, True), (0.56, False)])
def test_other_metrics_bring_their_errors(last: float, flat: bool) -> None:
    scores, errors = [0.5, 0.4, 0.4, last], [0.05, 0.2, 0.0, 0.0]
    found = rules(until_flat=3, objective="val_f1").reason(scores, errors)
    assert found == (FLAT if flat else None)


def test_without_limits_nothing_stops_a_search() -> None:
    assert rules().reason([0.5] * 100) is None


@pytest.mark.parametrize("slots", [1, 2])
def test_a_flat_search_ends_and_says_why_once(slots: int, tmp_path: Path) -> None:
    def train(spec: TrialSpec, on_epoch: OnEpoch) -> TrialResult:
        return replace(stub_trainer(spec, on_epoch), scores=(0.5,))

    driven = drive(config_of("random", until_flat=3), tmp_path, trainer=train, slots=slots)
    assert len(driven.suggested) == len(driven.trials.scores) == 3 + slots
    assert [e for e in driven.heard if isinstance(e, LimitReached)] == [LimitReached(FLAT)]


def test_the_end_of_the_time_is_said(tmp_path: Path) -> None:
    minutes = itertools.count()  # one for each call of the clock
    config = config_of("random", max_minutes=4, until_flat=9)
    driven = drive(config, tmp_path, clock=lambda: 60.0 * next(minutes))
    reason = "the 4 minutes of --max-minutes are over"
    assert [e for e in driven.heard if isinstance(e, LimitReached)] == [LimitReached(reason)]
    assert driven.kinds()[SpaceExhausted] == 0


def test_a_finished_flat_search_goes_on_with_a_larger_limit(tmp_path: Path) -> None:
    def train(spec: TrialSpec, on_epoch: OnEpoch) -> TrialResult:
        return replace(stub_trainer(spec, on_epoch), scores=(0.5,))

    first = drive(config_of("random", until_flat=3), tmp_path / "first", trainer=train)
    more = config_of("random", until_flat=5)
    again = drive(more, tmp_path / "again", trainer=train, events=first.journal)
    assert (len(first.suggested), len(again.suggested)) == (4, 2)
