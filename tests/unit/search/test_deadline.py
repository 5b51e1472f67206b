"""The time by which a search has to be done."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from imdbtune.errors import UserError
from imdbtune.search.deadline import FINISH_S, START_S, Deadline, parse_deadline
from imdbtune.search.events import LimitReached
from imdbtune.training.spec import OnEpoch, TrialResult, TrialSpec
from tests.driven import Driven, config_of, make_driven
from tests.support import stub_trainer

NOW = datetime(2026, 11, 29, 18, 0)


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("90m", 90),
        ("1h30m", 90),
        ("2h", 120),
        ("90s", 1.5),
        ("18:30", 30),
        ("23:59", 359),
        ("2026-11-30T06:00", 720),
        (" 5m ", 5),
    ],
)
def test_times_from_now_and_of_the_day(text: str, minutes: float) -> None:
    assert parse_deadline(text, NOW) == NOW + timedelta(minutes=minutes)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        *(
            (text, "is not a time; write 90m")
            for text in ("", "soon", "9", "-5m", "25:00", "1:2", "٣m")
        ),
        *((text, "has passed") for text in ("17:59", "18:00", "2020-01-01")),
        *((text, "is only 59 s away") for text in ("59s", "2026-11-29T18:00:59")),
    ],
)
def test_other_texts_and_what_is_over_are_refused(text: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        parse_deadline(text, NOW)


@dataclass
class Clock:
    """Seconds that pass by hand."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_longest_epoch_decides_about_a_trial() -> None:
    clock = Clock()
    deadline = Deadline(100.0, clock)
    assert deadline.allows_trial()
    deadline.note_epoch(100.0 - START_S - FINISH_S)
    deadline.note_epoch(1.0)
    assert deadline.allows_trial()
    clock.now = 0.1
    assert not deadline.allows_trial()
    assert deadline.allows_epoch(1.0)


def driven_until(end: float, folder: Path, **tuner: object) -> Driven:
    """A search whose epochs take ten seconds each."""
    clock = Clock()

    def train(spec: TrialSpec, on_epoch: OnEpoch) -> TrialResult:
        epochs = []

        def slow(execution: int, epoch: dict[str, float]) -> bool | None:
            clock.now += 10.0
            epochs.append({**epoch, "seconds": 10.0})
            return on_epoch(execution, epochs[-1])

        result = stub_trainer(spec, slow)
        return replace(result, seconds=10.0 * len(epochs))

    config = config_of(str(tuner.pop("kind", "random")), **tuner)
    driven = make_driven(config, folder, trainer=train, clock=clock)
    driven.trials.stopping.deadline = Deadline(end, clock)
    driven.driver.run(driven.executor)
    driven.journal += driven.trials.journal.read()
    return driven


def test_a_search_is_done_by_its_deadline_and_says_why(tmp_path: Path) -> None:
    driven = driven_until(125.0, tmp_path)
    ended = [event for event in driven.journal if event["event"] == "ended"]
    # Ten epochs fit before the report: trials of 4, 4 and 2 epochs.
    assert [event["reason"] for event in ended] == ["", "", "pruned after epoch 2"]
    reasons = [event.reason for event in driven.heard if isinstance(event, LimitReached)]
    assert reasons == ["the deadline is too near for an epoch of another trial"]


def test_a_trial_that_has_run_all_its_epochs_is_not_pruned(tmp_path: Path) -> None:
    driven = driven_until(61.0, tmp_path)
    ended = [event for event in driven.journal if event["event"] == "ended"]
    assert [event["reason"] for event in ended] == [""]


def test_hyperband_ends_no_trial_that_another_continues(tmp_path: Path) -> None:
    driven = driven_until(35.0, tmp_path, kind="hyperband")
    assert not driven.trials.can_end_trials
    ended = [event for event in driven.journal if event["event"] == "ended"]
    assert ended
    assert not any(event["reason"] for event in ended)
