"""A damaged journal, and samplers that replay one; test_files.py has it cut at any byte."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imdbtune.config.schema import SearchConfig, parse_config
from imdbtune.errors import SearchAborted
from imdbtune.search.journal import (
    Event,
    Journal,
    asked_event,
    borrowed_event,
    ended_event,
    history,
    idle_event,
    open_trials,
)
from imdbtune.search.sampler import Borrowed, Idle, Suggestion, Told, make_sampler

EVENTS: list[Event] = [
    {"event": "asked", "trial_id": "0000", "values": {"rnn": "lstm", "units": 4}, "seed_state": 9},
    {"event": "started", "trial_id": "0000", "run_id": "0a1b"},
    {
        "event": "ended",
        "trial_id": "0000",
        "run_id": "0a1b",
        "score": None,
        "reason": "größer: ∞ 字",
    },
    {"event": "asked", "trial_id": "0001", "values": {"units": 2**40}, "seed_state": 2**31},
    {
        "event": "ended",
        "trial_id": "0001",
        "run_id": "ff",
        "score": 0.1 + 0.2,
        "reason": "a\nb\x85",
    },
]


def write(path: Path, raw: bytes) -> Journal:
    path.write_bytes(raw)
    return Journal(path)


@pytest.mark.parametrize("torn", [b"{", b"\x00" * 30, b'"text"', b"\xff\xfe", b"[1]", b"12"])
def test_damage_before_the_last_line_is_told_and_left_alone(torn: bytes, tmp_path: Path) -> None:
    lines = [json.dumps(event).encode() for event in EVENTS]
    lines[2] = torn
    journal = write(tmp_path / "journal.jsonl", b"".join(line + b"\n" for line in lines))
    raw = journal.path.read_bytes()
    with pytest.raises(SearchAborted, match=r"line 3 of .*journal\.jsonl is damaged"):
        journal.read()
    assert journal.path.read_bytes() == raw


def test_a_trial_that_has_ended_is_not_ended_again() -> None:
    """Twice told is a trial that MLflow had lost: the sampler keeps what it knew."""
    config, events = config_of("random", {"units": [1, 2, 3, 4, 5, 6]}), []
    sampler = make_sampler(config)
    suggest_and_note(sampler, events)
    tell_and_note(sampler, "0000", 0.5, events)
    tell_and_note(sampler, "0000", 0.25, events)
    assert sampler.trials["0000"].score == 0.5
    assert sampler.end_order == ["0000"]
    again = restored(config, events)
    assert open_trials(events) == []
    assert again.trials["0000"].score == 0.5


def test_results_come_back_and_early_journals_have_none() -> None:
    told = Told("0000", 0.5, "", {"val_loss": 0.25, "parameter_count": 9.0})
    lent = Borrowed({"units": 4}, 0.5, ("a", "b"), {"val_loss": 0.25})
    events = [borrowed_event([lent]), ended_event("0a1b", told)]
    events = json.loads(json.dumps(events))
    assert list(history(events)) == [lent, told]
    del events[0]["trials"][0]["measured"], events[1]["measured"]
    assert list(history(events)) == [replace(lent, measured={}), replace(told, measured={})]


# Samplers; test_driver.py has the driver's part.

LEARNING_RATE = {"learning_rate": {"min": 1e-4, "max": 1e-1, "sampling": "log"}}


def config_of(kind: str, space: dict[str, Any], epochs: int = 4, seed: int = 5) -> SearchConfig:
    table = {"space": space, "tuner": {"kind": kind, "seed": seed}, "training": {"epochs": epochs}}
    return parse_config(table)


def suggest_and_note(sampler: Any, events: list[Event]) -> Any:
    answer = sampler.ask()
    events.append(idle_event(answer) if isinstance(answer, Idle) else asked_event(answer))
    return answer


def restored(config: SearchConfig, events: list[Event]) -> Any:
    """A new sampler in the state after these events."""
    sampler: Any = make_sampler(config)
    sampler.restore(list(history(events)))
    return sampler


def tell_and_note(sampler: Any, trial_id: str, score: float | None, events: list[Event]) -> None:
    sampler.tell(trial_id, score)
    events.append({"event": "ended", "trial_id": trial_id, "score": score, "reason": ""})


def test_trials_that_have_not_ended_come_back_in_order() -> None:
    config, events = config_of("random", {"units": [1, 2, 3, 4, 5, 6]}), []
    sampler = make_sampler(config)
    for _ in range(4):
        suggest_and_note(sampler, events)
    tell_and_note(sampler, "0001", 0.5, events)
    tell_and_note(sampler, "0002", None, events)
    assert [asked_event(trial) for trial in open_trials(events)] == [events[0], events[3]]


# A few points may not determine the length scale of the kernel.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("in_flight", [1, 3])
def test_a_replayed_bayesian_sampler_answers_alike(in_flight: int) -> None:
    """It has fitted its regressor and drawn its numbers, even if the values were put in."""
    config, events = config_of("bayesian", LEARNING_RATE), []
    sampler = make_sampler(config)
    for number in range(6):
        suggest_and_note(sampler, events)
        if number >= in_flight - 1:
            score = 0.5 + 0.01 * number**2 % 0.07
            tell_and_note(sampler, f"{number - in_flight + 1:04d}", score, events)
    again = restored(config, events)
    for _ in range(2):
        one, other = sampler.ask(), again.ask()
        assert one.values == other.values


def test_waiting_that_has_used_up_random_numbers_is_replayed() -> None:
    """A bracket's first round takes the whole space; the next bracket begins, and has to wait."""
    config, events = config_of("hyperband", {"units": [2, 3, 4, 5, 6]}), []
    sampler = make_sampler(config)
    for _ in range(5):
        suggest_and_note(sampler, events)
    waits = suggest_and_note(sampler, events)
    assert isinstance(waits, Idle)
    assert waits.has_changed
    assert events[-1]["event"] == "idle"
    for number in range(5):
        tell_and_note(sampler, f"{number:04d}", 0.5 + number / 100, events)
    again = restored(config, events)
    assert open_trials(events) == []
    one = sampler.ask()
    assert isinstance(one, Suggestion)
    assert again.ask() == one


@pytest.mark.parametrize("kind", ["random", "grid", "hyperband"])
def test_values_that_a_sampler_does_not_confirm_stop_the_search(kind: str) -> None:
    config, events = config_of(kind, {"units": [2, 3, 4, 5, 6]}), []
    suggest_and_note(make_sampler(config), events)
    events[0]["values"]["units"] = 7
    with pytest.raises(SearchAborted, match="trial 0000 comes out differently now"):
        restored(config, events)


@pytest.mark.parametrize("kind", ["random", "grid", "bayesian", "hyperband"])
def test_true_and_false_come_through_a_sampler_and_the_journal(kind: str) -> None:
    """Keras Tuner makes 1 and 0 of them."""
    units = {"values": [4, 8], "when": {"bidirectional": True}}
    config, events = config_of(kind, {"bidirectional": [False, True], "units": units}), []
    sampler = make_sampler(config)
    for number in range(3):
        suggest_and_note(sampler, events)
        tell_and_note(sampler, f"{number:04d}", 0.5, events)
    noted = [json.loads(json.dumps(e["values"])) for e in events if e["event"] == "asked"]
    found = {(p.bidirectional, p.units) for p in map(config.space.params, noted)}
    assert found == {(False, 32), (True, 4), (True, 8)}
