"""The driver and all samplers: which trials run, in which order, and when a search ends."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from imdbtune.cluster.executor import MAX_ATTEMPTS
from imdbtune.config.extensions import PRUNERS
from imdbtune.config.schema import SearchConfig
from imdbtune.errors import SearchAborted, TrialFailed
from imdbtune.search.events import SpaceExhausted, TrialEnded, TrialStarted
from imdbtune.search.journal import Event, Journal, asked_event, history, open_trials
from imdbtune.search.sampled_trials import MIN_FAILURES_TO_STOP
from imdbtune.search.sampler import Suggestion, make_sampler
from imdbtune.training.spec import TrialSpec
from tests.driven import (
    KINDS,
    LEARNING_RATE,
    ORACLES,
    SIZE,
    SPACE,
    Driven,
    config_of,
    drive,
    make_driven,
)
from tests.support import Stub, stub_trainer


def fail_lstm(spec: TrialSpec) -> None:
    if spec.params.rnn == "lstm":
        raise TrialFailed("loss became nan in epoch 1.")


def fail_always(spec: TrialSpec) -> None:
    raise TrialFailed("no such luck." if spec.params.units == 2 else "loss became nan in epoch 1.")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("slots", [1, 3])
def test_the_budget_is_spent_and_not_exceeded(kind: str, slots: int, tmp_path: Path) -> None:
    driven = drive(config_of(kind, max_trials=5), tmp_path, slots=slots)
    assert len(driven.suggested) == len(driven.trials.scores) == 5
    assert driven.kinds() == {TrialStarted: 5, TrialEnded: 5}
    assert driven.executor.in_flight == slots


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [0, 1, 2**31 - 1])
def test_the_same_seed_gives_the_same_trials(kind: str, seed: int, tmp_path: Path) -> None:
    config = config_of(
        kind, LEARNING_RATE if kind == "bayesian" else SPACE, seed=seed, max_trials=5
    )
    first, again = drive(config, tmp_path / "first"), drive(config, tmp_path / "again")
    assert first.suggested == again.suggested


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "grid"])
def test_another_seed_gives_other_trials(kind: str, tmp_path: Path) -> None:
    searches = [
        drive(config_of(kind, seed=seed, max_trials=4), tmp_path / str(seed)).suggested
        for seed in range(4)
    ]
    for one, other in itertools.combinations(searches, 2):
        assert one != other


@pytest.mark.parametrize("slots", [1, 4])
def test_a_grid_covers_the_whole_space_once_and_says_so(slots: int, tmp_path: Path) -> None:
    driven = drive(config_of("grid"), tmp_path, slots=slots)
    assert Counter((values["rnn"], values["units"]) for values in driven.suggested) == Counter(
        itertools.product(SPACE["rnn"], SPACE["units"])
    )
    assert [e for e in driven.heard if isinstance(e, SpaceExhausted)] == [SpaceExhausted(SIZE)]


def test_a_grid_over_conditions_visits_each_configuration_once(tmp_path: Path) -> None:
    space = {"rnn": ["simple_rnn", "lstm"], "units": {"values": [4, 8], "when": {"rnn": "lstm"}}}
    config = config_of("grid", space)
    specs = drive(config, tmp_path).executor.specs
    found = Counter((spec.params.rnn, spec.params.units) for spec in specs)
    assert found == Counter([("simple_rnn", 32), ("lstm", 4), ("lstm", 8)])
    assert config.space.size() == 3


def test_a_random_search_ends_and_says_so_when_the_space_is_exhausted(tmp_path: Path) -> None:
    driven = drive(config_of("random", {"units": [4, 8]}, max_trials=100), tmp_path)
    assert sorted(values["units"] for values in driven.suggested) == [4, 8]
    assert driven.kinds()[SpaceExhausted] == 1


def test_a_complete_hyperband_has_not_exhausted_the_space(tmp_path: Path) -> None:
    space = {**SPACE, "embedding": [1, 2, 3, 4, 5, 6, 7, 8]}
    driven = drive(config_of("hyperband", space), tmp_path)
    assert len(driven.suggested) == 10  # 5 and 2 of bracket 1, 3 of bracket 0
    assert driven.kinds()[SpaceExhausted] == 0


def test_hyperband_continues_from_the_state_of_the_previous_trial(tmp_path: Path) -> None:
    driven = drive(config_of("hyperband"), tmp_path)
    specs = {spec.folder.name: spec for spec in driven.executor.specs}
    assert all(spec.keep_state for spec in specs.values())
    first = [spec for spec in specs.values() if spec.state is None]
    continued = [spec for spec in specs.values() if spec.state is not None]
    assert {(spec.settings.initial_epoch, spec.settings.epochs) for spec in first} == {
        (0, 2),
        (0, 4),
    }
    assert [(spec.settings.initial_epoch, spec.settings.epochs) for spec in continued] == [
        (2, 4),
        (2, 4),
    ]
    assert {spec.settings.schedule_epochs for spec in specs.values()} == {4}  # of all rungs
    for spec in continued:
        previous = specs[spec.state.parent.name]
        assert spec.state == previous.folder / "state.npz"
        assert spec.params == previous.params
        assert previous.settings.epochs == spec.settings.initial_epoch
    first_rung = [spec for spec in first if spec.settings.epochs == 2]
    best = sorted(first_rung, key=lambda spec: stub_trainer(spec, ignore).score)
    assert {spec.params for spec in continued} == {spec.params for spec in best[-2:]}


def ignore(execution: int, epoch: dict[str, float]) -> None:
    """Ignore the epochs."""


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "hyperband"])
def test_other_samplers_train_each_trial_from_the_start(kind: str, tmp_path: Path) -> None:
    for spec in drive(config_of(kind, max_trials=4, seed=7), tmp_path).executor.specs:
        assert (spec.settings.initial_epoch, spec.settings.epochs, spec.state, spec.keep_state) == (
            0,
            4,
            None,
            False,
        )
        assert spec.settings.seed == 7


@pytest.mark.parametrize("kind", [k for k in KINDS if k not in ("grid", "hyperband")])
def test_twelve_trials_where_no_number_is_given(kind: str, tmp_path: Path) -> None:
    assert len(drive(config_of(kind, {"units": {"min": 1, "max": 1000}}), tmp_path).suggested) == 12


@pytest.mark.parametrize("objective", ["val_accuracy", "val_loss"])
def test_bayesian_search_moves_to_better_values(objective: str, tmp_path: Path) -> None:
    config = config_of("bayesian", {"units": {"min": 1, "max": 300}}, objective=objective)
    units = [values["units"] for values in drive(config, tmp_path).suggested]
    assert max(units[:3]) < 300
    assert 300 in units[3:]


@pytest.mark.parametrize("slots", [1, 2])
def test_no_trial_starts_after_the_time_is_up(slots: int, tmp_path: Path) -> None:
    minutes = itertools.count()  # one for each call of the clock
    config = config_of("random", max_minutes=4, max_trials=SIZE)
    driven = drive(config, tmp_path, clock=lambda: 60.0 * next(minutes), slots=slots)
    assert 1 <= len(driven.suggested) < SIZE
    assert len(driven.trials.scores) == len(driven.suggested)


@pytest.mark.parametrize("kind", KINDS)
def test_a_search_continues_after_failed_trials(kind: str, tmp_path: Path) -> None:
    driven = drive(config_of(kind, max_trials=8), tmp_path, trainer=Stub(fail_lstm), slots=2)
    assert driven.trials.failed
    assert set(driven.trials.failed.values()) == {"loss became nan in epoch 1."}
    assert len(driven.trials.scores) + len(driven.trials.failed) == len(driven.suggested)
    ended_events = [event for event in driven.heard if isinstance(event, TrialEnded)]
    reasons = [event.reason for event in ended_events if event.score is None]
    assert len(reasons) == len(driven.trials.failed)
    ended = [event for event in driven.journal if event["event"] == "ended"]
    assert Counter(event["score"] is None for event in ended)[True] == len(reasons)


@pytest.mark.parametrize("kind", KINDS)
def test_a_search_of_failures_is_aborted_with_the_most_common_reason(
    kind: str, tmp_path: Path
) -> None:
    driven = make_driven(config_of(kind), tmp_path, trainer=Stub(fail_always))
    with pytest.raises(
        SearchAborted, match=f"{MIN_FAILURES_TO_STOP} of {MIN_FAILURES_TO_STOP} trials have failed"
    ) as hit:
        driven.driver.run(driven.executor)
    assert "loss became nan in epoch 1." in str(hit.value)
    assert len(driven.trials.journal.read()) >= 2 * MIN_FAILURES_TO_STOP


def test_some_failures_among_many_do_not_stop_a_search(tmp_path: Path) -> None:
    space = {"rnn": ["simple_rnn", "lstm"], "units": {"min": 1, "max": 15}}
    driven = drive(config_of("grid", space), tmp_path, trainer=Stub(fail_lstm), slots=2)
    assert (len(driven.trials.scores), len(driven.trials.failed)) == (15, 15)


@pytest.mark.parametrize("lost", [1, MAX_ATTEMPTS - 1])
def test_a_trial_whose_worker_died_is_retried(lost: int, tmp_path: Path) -> None:
    driven = drive(config_of("random", max_trials=3), tmp_path, loses=["0001"] * lost)
    assert sorted(driven.trials.scores) == ["0000", "0001", "0002"]
    runs = ["run-0001", *(f"run-0001-{attempt}" for attempt in range(2, lost + 1))]
    assert driven.client.ended == {run: ["KILLED"] for run in runs}
    assert len(driven.suggested) == 3
    again = [spec.params for spec in driven.executor.specs if spec.folder.name == "0001"]
    assert again == [again[0]] * (lost + 1)


def test_a_trial_whose_worker_dies_each_time_has_failed(tmp_path: Path) -> None:
    lost = ["0001"] * (MAX_ATTEMPTS + 1)
    driven = drive(config_of("random", max_trials=3), tmp_path, loses=lost)
    reason = f"the worker process died {MAX_ATTEMPTS} times (out of memory?)"
    assert driven.trials.failed == {"0001": reason}
    assert sorted(driven.trials.scores) == ["0000", "0002"]
    assert driven.client.ended[f"run-0001-{MAX_ATTEMPTS}"] == ["FAILED"]


def test_running_trials_are_closed_when_a_search_is_stopped(tmp_path: Path) -> None:
    driven = make_driven(config_of("random"), tmp_path, trainer=Stub(interrupt), slots=2)
    with pytest.raises(KeyboardInterrupt):
        driven.driver.run(driven.executor)
    driven.driver.parent.stop_trials("interrupted")
    assert driven.client.ended == {"run-0000": ["KILLED"], "run-0001": ["KILLED"]}


def interrupt(spec: TrialSpec) -> None:
    raise KeyboardInterrupt


# What a search does after a crash. The journal is cut after every event.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("slots", [1, 2])
def test_a_replayed_sampler_continues_as_without_the_crash(
    kind: str, slots: int, tmp_path: Path
) -> None:
    config = config_of(kind, max_trials=0 if kind == "hyperband" else 9, seed=3)
    if kind == "bayesian":  # slow after its three random trials
        config = config_of(kind, LEARNING_RATE, max_trials=6)
    whole = check_cuts(config, tmp_path, slots, sparse=kind == "bayesian")
    assert len(whole.suggested) == config.tuner.max_trials or kind == "hyperband"


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_hyperband_in_a_space_that_is_too_small_for_it_can_be_replayed(
    slots: int, tmp_path: Path
) -> None:
    check_cuts(config_of("hyperband", {"units": [2, 4, 8]}), tmp_path, slots)


@pytest.mark.parametrize(
    ("kind", "prune"),
    [
        (kind, prune)
        for kind in KINDS
        for prune in PRUNERS
        # Hyperband needs no pruner, and five trials of the slow one are too few for the median.
        if kind != "hyperband" and (kind, prune) != ("bayesian", "median")
    ],
)
@pytest.mark.parametrize("slots", [1, 2])
def test_a_resumed_search_prunes_as_without_the_crash(
    kind: str, prune: str, slots: int, tmp_path: Path
) -> None:
    """A trial that was cut off after any of its epochs reports them all again."""
    trials = 5 if kind == "bayesian" else 9
    config = config_of(kind, max_trials=trials, seed=3, prune=prune)
    whole = check_cuts(config, tmp_path, slots, sparse=kind == "bayesian")
    ended = {e["trial_id"]: e["reason"] for e in whole.journal if e["event"] == "ended"}
    assert any(reason.startswith("pruned after epoch ") for reason in ended.values())


def check_cuts(config: SearchConfig, folder: Path, slots: int, sparse: bool = False) -> Driven:
    """Cut the journal of a search after each event (or some), and resume it."""
    whole = drive(config, folder / "whole", slots=slots, trainer=Stub(fail_gru_16))
    for cut in range(0, len(whole.journal) + 1, 7 if sparse else 1):
        before = whole.journal[:cut]
        arguments = {"slots": slots, "trainer": Stub(fail_gru_16), "events": before}
        again = drive(config, folder / f"cut{cut}", **arguments)
        known = [event["values"] for event in before if event["event"] == "asked"]
        assert known + again.suggested == whole.suggested, f"cut after {cut} events"
        journal = before + again.journal
        for name in ("ended", "epoch"):
            assert by_trial(journal, name) == by_trial(whole.journal, name), f"{cut}, {name}"
    return whole


def by_trial(journal: list[Event], name: str) -> dict[str, list[Event]]:
    """The events of this name, by trial."""
    found: dict[str, list[Event]] = {}
    for event in journal:
        if event["event"] == name:
            found.setdefault(event["trial_id"], []).append(event)
    return found


def fail_gru_16(spec: TrialSpec) -> None:
    if spec.params.rnn == "gru" and spec.params.units == 16:
        raise TrialFailed("loss became nan in epoch 1.")


@pytest.mark.parametrize("kind", ORACLES)
def test_a_replayed_sampler_knows_every_score(kind: str, tmp_path: Path) -> None:
    config = config_of(kind, max_trials=6)
    whole = drive(config, tmp_path, trainer=Stub(fail_lstm))
    sampler = make_sampler(config)
    sampler.restore(list(history(whole.journal)))
    assert open_trials(whole.journal) == []
    known = {trial_id: (t.status, t.score) for trial_id, t in sampler.trials.items()}
    assert known == {i: (t.status, t.score) for i, t in whole.trials.sampler.trials.items()}
    assert {status for status, _ in known.values()} == {"COMPLETED", "FAILED"}


def test_a_journal_of_another_search_is_refused(tmp_path: Path) -> None:
    other = drive(config_of("random", seed=1), tmp_path / "other").journal
    with pytest.raises(SearchAborted, match=r"trial 000. comes out differently now"):
        drive(config_of("random", seed=2), tmp_path, events=other)


# The journal itself.

EVENTS = [asked_event(Suggestion(f"000{i}", {"units": i}, state=i)) for i in range(3)]


def written(folder: Path) -> Journal:
    journal = Journal(folder / "search" / "journal.jsonl")
    for event in EVENTS:
        journal.append(event)
    return journal


def test_a_journal_returns_its_events(tmp_path: Path) -> None:
    assert Journal(tmp_path / "none.jsonl").read() == []
    assert written(tmp_path).read() == EVENTS


@pytest.mark.parametrize("torn", [b'{"event": "ask', b"{", b'{"event": "asked"}', b"\xc3"])
def test_the_next_event_takes_the_place_of_a_torn_line(torn: bytes, tmp_path: Path) -> None:
    journal = written(tmp_path)
    whole = journal.path.read_bytes()
    journal.path.write_bytes(whole + torn)
    assert journal.read() == EVENTS
    journal.append(EVENTS[0])
    assert journal.read() == [*EVENTS, EVENTS[0]]
    assert [path.name for path in journal.path.parent.iterdir()] == ["journal.jsonl"]


@pytest.mark.parametrize("score", [0.1 + 0.2, 1e-300, 0.8844000101089478])
def test_scores_come_back_to_the_last_bit(score: float, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append({"score": score})
    assert journal.read() == [{"score": score}]


@pytest.mark.parametrize(
    ("kind", "keep", "complete", "left"),
    [
        ("random", "best", False, True),
        ("random", "3", True, True),
        ("random", "all", True, False),
        ("random", "0", True, False),
        ("hyperband", "0", False, False),
        ("hyperband", "0", True, True),
    ],
)
def test_leftover_files_of_remote_trials_are_known(
    kind: str, keep: str, complete: bool, left: bool, tmp_path: Path
) -> None:
    config = config_of(kind, max_trials=5)
    config = replace(config, tracking=replace(config.tracking, keep_models=keep))
    trials = make_driven(config, tmp_path).trials
    trials.exhausted = complete
    assert trials.has_leftover_files() is left
