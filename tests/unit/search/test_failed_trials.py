"""What the driver does with failed trials: it retries them, continues, or aborts the search."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from imdbtune import api
from imdbtune.cluster.executor import MAX_ATTEMPTS, InProcessExecutor
from imdbtune.cluster.trial_job import (
    TrialFailure,
    TrialJob,
    failure_of,
    is_overdue,
    time_limit_message,
)
from imdbtune.config.hyperparameters import TrialParams
from imdbtune.config.schema import SearchConfig
from imdbtune.errors import SearchAborted, TrialFailed
from imdbtune.search.events import SpaceExhausted, TrialEnded, TrialRetried, TrialStarted
from imdbtune.search.journal import Event, Journal, history, open_trials
from imdbtune.search.recorded import read_stage
from imdbtune.search.resume import reconcile
from imdbtune.search.sampled_trials import MIN_FAILURES_TO_STOP, most_common_failure
from imdbtune.search.sampler import make_sampler
from imdbtune.tracking import reader
from imdbtune.tracking.connection import connect
from imdbtune.tracking.entities import Trial
from imdbtune.tracking.writer import CorpusFacts, SearchRun, TrialRun, common_tags
from imdbtune.training.spec import TrialSpec
from tests.driven import SPACE, Driven, MemoryJournal, config_of, drive, make_driven, state_of
from tests.support import Stub, isolate, make_config, new_store, run_search, stub_trainer

LARGE = {"rnn": ["simple_rnn", "lstm", "gru"], "units": {"min": 1, "max": 300}}
SEED = 3


def fail(reason: str = "loss became nan in epoch 1.") -> None:
    raise TrialFailed(reason)


def fail_gru_at_first(spec: TrialSpec) -> None:
    if spec.params.rnn == "gru" and spec.settings.seed == SEED:
        fail()


# Reasons.


class ResourceExhaustedError(Exception):
    """TensorFlow's has this name."""


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TrialFailed("loss became nan in epoch 1.\nmore"), "loss became nan in epoch 1."),
        (TrialFailed(), "TrialFailed"),
        (ValueError("no\nyes"), "ValueError: no"),
        (KeyError(), "KeyError"),
        (MemoryError(), "out of memory"),
        (MemoryError("Unable to allocate 3 GiB"), "out of memory: Unable to allocate 3 GiB"),
        (ResourceExhaustedError("OOM"), "out of memory: OOM"),
    ],
)
def test_a_reason_is_one_line(error: Exception, reason: str) -> None:
    failure = failure_of(error, "a traceback")
    assert (failure.reason, failure.traceback) == (reason, "a traceback")
    assert failure.out_of_memory == reason.startswith("out of memory")


@pytest.mark.parametrize(
    ("minutes", "text"), [(1.0, "1 minute"), (90.0, "90 minutes"), (0.5, "0.5 minutes")]
)
def test_the_time_limit_is_in_minutes(minutes: float, text: str, tmp_path: Path) -> None:
    job = TrialJob("0000", _spec(tmp_path), "", "run", timeout_minutes=minutes)
    assert time_limit_message(job) == f"took longer than {text}"
    assert is_overdue(job, 60 * minutes + 1e-6)
    assert not is_overdue(job, 60 * minutes)
    assert not is_overdue(replace(job, timeout_minutes=0.0), 1e9)


def _spec(folder: Path) -> TrialSpec:
    return TrialSpec(TrialParams(), folder, folder)


@pytest.mark.parametrize(
    ("reasons", "found"),
    [
        (["a", "b", "b"], ("b", 2)),
        (["loss became nan in epoch 1.", "lost", "lost", "loss became nan in epoch 12."], None),
        (["at 0x7f3a: 1.5e-03 s", "other", "at 0xdead: 12 s"], ("at 0x7f3a: 1.5e-03 s", 2)),
    ],
)
def test_reasons_that_differ_in_numbers_are_one(
    reasons: list[str], found: tuple[str, int] | None
) -> None:
    assert most_common_failure(reasons) == (found or ("loss became nan in epoch 1.", 2))


# Retries.


@pytest.mark.parametrize("executions", [1, 3])
def test_a_failed_trial_is_retried_with_other_seeds(executions: int, tmp_path: Path) -> None:
    seen: list[int] = []

    def fail_twice(spec: TrialSpec) -> None:
        if spec.params.rnn == "gru":
            seen.append(spec.settings.seed)
            if spec.settings.seed < SEED + 2 * executions:
                fail()

    config = config_of("grid", {"rnn": ["lstm", "gru"]}, seed=SEED, retries=2)
    config = replace(config, tuner=replace(config.tuner, executions=executions))
    driven = drive(config, tmp_path, trainer=Stub(fail_twice))
    assert seen == [SEED, SEED + executions, SEED + 2 * executions]
    assert len(driven.trials.scores) == 2
    assert not driven.trials.failed
    (gru,) = [e.trial_id for e in driven.heard if isinstance(e, TrialRetried)][:1]
    assert driven.kinds() == {TrialStarted: 4, TrialRetried: 2, TrialEnded: 2, SpaceExhausted: 1}
    kinds = [event["event"] for event in driven.journal if event["trial_id"] == gru]
    assert kinds == ["asked", *["started", "failed"] * 2, "started", "ended"]


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_a_trial_that_fails_each_time_has_failed_once(retries: int, tmp_path: Path) -> None:
    def fail_lstm(spec: TrialSpec) -> None:
        if spec.params.rnn == "lstm":
            fail()

    config = config_of("grid", {"rnn": ["lstm", "gru"]}, retries=retries)
    driven = drive(config, tmp_path, trainer=Stub(fail_lstm))
    assert list(driven.trials.failed.values()) == ["loss became nan in epoch 1."]
    specs = [spec for spec in driven.executor.specs if spec.params.rnn == "lstm"]
    assert [spec.settings.seed for spec in specs] == list(range(retries + 1))
    assert len({spec.folder for spec in specs}) == 1
    assert sum(event["event"] == "ended" for event in driven.journal) == 2


def test_a_lost_worker_does_not_cost_a_retry_nor_change_the_seed(tmp_path: Path) -> None:
    config = config_of("grid", {"rnn": ["gru"]}, seed=SEED, retries=1)
    driven = drive(config, tmp_path, trainer=Stub(fail_gru_at_first), loses=["0000"])
    assert [spec.settings.seed for spec in driven.executor.specs] == [SEED, SEED, SEED + 1]
    assert list(driven.trials.scores) == ["0000"]
    kinds = [event["event"] for event in driven.journal]
    assert kinds == ["asked", "started", "lost", "started", "failed", "started", "ended"]


def test_a_trial_that_kills_its_workers_is_not_retried_for_ever(tmp_path: Path) -> None:
    config = config_of("grid", {"rnn": ["lstm", "gru"]}, retries=2)
    driven = drive(config, tmp_path, loses=["0000"] * 99)
    assert list(driven.trials.scores) == ["0001"]
    kinds = Counter(e["event"] for e in driven.journal if e["trial_id"] == "0000")
    assert kinds == {"asked": 1, "started": MAX_ATTEMPTS + 2, "lost": 2, "failed": 2, "ended": 1}


def test_no_attempt_starts_after_the_time_is_up(tmp_path: Path) -> None:
    now = [0.0]

    def take_long(spec: TrialSpec) -> None:
        now[0] += 3600
        fail()

    config = config_of("grid", {"rnn": ["gru"]}, retries=5, max_minutes=30)
    driven = drive(config, tmp_path, trainer=Stub(take_long), clock=lambda: now[0])
    assert [event["event"] for event in driven.journal] == ["asked", "started", "failed"]
    assert driven.trials.queued


# After a crash.


CRASHES = [("random", 2), ("grid", 2), ("hyperband", 1), ("hyperband", 2), ("hyperband", 3)]


def config_with_retries(kind: str) -> SearchConfig:
    return config_of(kind, max_trials=0 if kind == "hyperband" else 6, seed=SEED, retries=1)


def cut_everywhere(
    config: SearchConfig, folder: Path, **arguments: Any
) -> Iterator[tuple[Driven, list[Event], Driven]]:
    """Yield a search, its journal cut after each event, and the search resumed from that."""
    arguments = {"trainer": Stub(fail_middle_at_first), **arguments}
    losses = ["0001"] * (MAX_ATTEMPTS - 1)
    whole = drive(config, folder, loses=losses, **arguments)
    kinds = Counter(event["event"] for event in whole.journal)
    assert kinds["lost"] == MAX_ATTEMPTS - 1
    assert kinds["failed"] > 1
    for cut in range(len(whole.journal)):
        before = whole.journal[:cut]
        lost = sum(event["event"] == "lost" for event in before)
        again = drive(config, folder, events=before, loses=losses[lost:], **arguments)
        again.journal = [*before, *again.journal]
        yield whole, before, again


@pytest.mark.parametrize(("kind", "slots"), CRASHES)
def test_attempts_before_a_crash_count(kind: str, slots: int, tmp_path: Path) -> None:
    """The trials end in the same order, on which the numbers of Hyperband's next trials depend."""
    config = config_with_retries(kind)
    for whole, before, again in cut_everywhere(config, tmp_path, slots=slots, by_number=True):
        assert again.suggested == whole.suggested
        for what in ("failed", "lost", "ended"):
            assert _noted(again, what) == _noted(whole, what), f"{what}, cut at {len(before)}"
        assert again.trials.scores == whole.trials.scores


@pytest.mark.parametrize("slots", [2, 3])
def test_hyperband_follows_its_journal_when_trials_end_in_another_order(
    slots: int, tmp_path: Path
) -> None:
    """Only the numbers of its trials may differ then, as in any search with several workers."""
    config, reordered = config_with_retries("hyperband"), 0
    for whole, before, again in cut_everywhere(config, tmp_path, slots=slots):
        sampler = make_sampler(config)
        sampler.restore(list(history(again.journal)))
        assert open_trials(again.journal) == []
        assert state_of(sampler) == state_of(again.trials.sampler), f"cut at {len(before)}"
        same = _ends(again) == _ends(whole)
        reordered += not same
        assert not same or again.suggested == whole.suggested
        assert _unnumbered(again) == _unnumbered(whole)
    assert reordered


@pytest.mark.parametrize("units", [300, 4, 1])
@pytest.mark.parametrize("slots", [2, 3, 8])
def test_what_hyperband_trains_does_not_depend_on_which_trial_ends_first(
    slots: int, units: int, tmp_path: Path
) -> None:
    """Nor does it depend on how many run at once, even if the space is too small for its rounds."""
    config = config_of("hyperband", {**LARGE, "units": list(range(1, units + 1))}, seed=SEED)
    config = replace(config, training=replace(config.training, epochs=27 if units > 4 else 9))
    trainer = Stub(fail_thirds)
    whole = drive(config, tmp_path, trainer=trainer)
    assert whole.trials.failed
    assert bool(whole.kinds()[SpaceExhausted]) == (units < 300)
    for order in range(5):
        shuffle = random.Random(order)
        again = drive(config, tmp_path, trainer=trainer, slots=slots, shuffle=shuffle)
        assert _unnumbered(again) == _unnumbered(whole)
        assert again.kinds() == whole.kinds()


def fail_thirds(spec: TrialSpec) -> None:
    if spec.params.units % 3 == 1 and spec.params.rnn == "gru":
        fail()


@dataclass(frozen=True)
class Watched(MemoryJournal):
    """Saves the state of the sampler at each event: results are journaled before reported."""

    sampler: Any = None
    states: list[dict[str, Any]] = field(default_factory=list)

    def append(self, event: Event) -> None:
        self.states.append(state_of(self.sampler))
        super().append(event)


SMALL = {"units": [2, 4, 8]}  # so small that Hyperband has to wait


@pytest.mark.parametrize(
    ("kind", "slots", "space"),
    [(*crash, SPACE) for crash in CRASHES] + [("hyperband", slots, SMALL) for slots in (1, 2, 3)],
)
def test_a_journal_restores_the_state_of_a_sampler(
    kind: str, slots: int, space: dict[str, Any], tmp_path: Path
) -> None:
    config = replace(config_with_retries(kind), space=config_of(kind, space).space)
    arguments: dict[str, Any] = {"trainer": Stub(fail_middle_at_first), "slots": slots}
    driven = make_driven(config, tmp_path, loses=["0001"], **arguments)
    watched = Watched(tmp_path, sampler=driven.trials.sampler)
    driven.trials.journal = watched
    driven.driver.run(driven.executor)
    events = watched.read()
    assert {"failed", "lost", "ended"} < {event["event"] for event in events}
    for number, event in enumerate(events):
        sampler = make_sampler(config)
        known = events[: number + (event["event"] in ("asked", "idle"))]
        sampler.restore(list(history(known)))
        assert state_of(sampler) == watched.states[number], f"event {number}"


def test_a_journal_that_follows_keras_tuners_own_rule_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There, two of five trials are promoted only if at most two have failed; here three have."""
    config = config_of("hyperband", LARGE)
    with monkeypatch.context() as before:
        before.setattr(
            "imdbtune.search.keras_tuner_samplers.HyperbandSampler._continued",
            lambda sampler, trial_id: None,
        )
        old = drive(config, tmp_path, trainer=Stub(fail_first(3))).journal
    with pytest.raises(SearchAborted, match=r"trial 0005 comes out differently now.*imdbtune"):
        make_driven(config, tmp_path, events=old)


def fail_middle_at_first(spec: TrialSpec) -> None:
    if spec.params.units in (4, 8) and spec.settings.seed == SEED:
        fail()


def _noted(driven: Driven, kind: str) -> Counter[str]:
    return Counter(event["trial_id"] for event in driven.journal if event["event"] == kind)


def _unnumbered(driven: Driven) -> Counter[str]:
    """Return the suggested values, regardless of the numbers of the trials."""
    return Counter(
        str(sorted((key, value) for key, value in values.items() if key != "tuner/trial_id"))
        for values in driven.suggested
    )


def _ends(driven: Driven) -> list[str]:
    return [event["trial_id"] for event in driven.journal if event["event"] == "ended"]


# Hyperband: five trials of 2 epochs, of which two continue to 4, and three of 4 epochs.


def fail_first(count: int, epochs: int = 2) -> Callable[[TrialSpec], None]:
    """Return a function that fails ``count`` trials of so many epochs, from the second on."""

    def first(spec: TrialSpec) -> None:
        if spec.settings.epochs == epochs and 1 <= int(spec.folder.name) <= count:
            fail()

    return first


def rungs(driven: Driven) -> Counter[tuple[int, int]]:
    """Return how many trials trained from which epoch to which."""
    return Counter(
        (spec.settings.initial_epoch, spec.settings.epochs) for spec in driven.executor.specs
    )


@pytest.mark.parametrize("slots", [1, 2, 8])
@pytest.mark.parametrize(("failing", "promoted"), [(0, 2), (1, 2), (3, 2), (4, 1)])
def test_hyperband_discards_failures_first(
    failing: int, promoted: int, slots: int, tmp_path: Path
) -> None:
    trainer = Stub(fail_first(failing))
    config = config_of("hyperband", LARGE)
    driven = drive(config, tmp_path, trainer=trainer, slots=slots)
    assert rungs(driven) == Counter({(0, 2): 5, (2, 4): promoted, (0, 4): 3}) - Counter()
    assert len(driven.trials.failed) == failing
    assert not driven.kinds()[SpaceExhausted]
    for spec in driven.executor.specs:
        assert spec.state is None or spec.state.parent.name not in driven.trials.failed


def test_hyperband_continues_when_a_whole_first_round_fails(tmp_path: Path) -> None:
    def fail_short(spec: TrialSpec) -> None:
        if spec.settings.epochs == 2:
            fail()

    driven = drive(config_of("hyperband", LARGE), tmp_path, trainer=Stub(fail_short), slots=8)
    assert rungs(driven) == {(0, 2): 5, (0, 4): 3}
    assert (len(driven.trials.failed), len(driven.trials.scores)) == (5, 3)


@pytest.mark.parametrize("slots", [1, 3])
def test_hyperband_ends_when_a_whole_later_round_fails(slots: int, tmp_path: Path) -> None:
    def fail_continued(spec: TrialSpec) -> None:
        if spec.state is not None:
            fail()

    config = replace(config_of("hyperband", LARGE))
    config = replace(config, training=replace(config.training, epochs=27))
    driven = drive(config, tmp_path, trainer=Stub(fail_continued), slots=slots)
    found = rungs(driven)
    # Of brackets with 27, 18, 10 and 4 trials at the start, nothing continues a second time.
    starts = [count for (initial, _), count in sorted(found.items()) if initial == 0]
    assert sum(starts) == sum(_first_round(driven.trials.sampler, n) for n in range(4))
    first = [driven.trials.sampler._get_size(n, 1) for n in range(1, 4)]
    assert len(driven.trials.failed) == sum(first)
    assert sum(found.values()) == sum(starts) + sum(first)


def _first_round(sampler: Any, bracket: int) -> int:
    return int(sampler._get_size(bracket, 0))


def test_a_round_after_a_short_round_is_filled_too(tmp_path: Path) -> None:
    config = config_of("hyperband", LARGE)
    config = replace(config, training=replace(config.training, epochs=9))
    driven = make_driven(config, tmp_path)
    sizes = [driven.trials.sampler._get_size(2, n) for n in range(3)]
    failing = sizes[0] - sizes[1] + 1  # one place of the second round stays empty
    driven = drive(config, tmp_path / "search", trainer=Stub(fail_first(failing, 1)))
    found = rungs(driven)
    assert found[0, 1] == sizes[0]
    assert found[1, 3] == sizes[1] - 1
    continued_twice = found[3, 9] - driven.trials.sampler._get_size(1, 1)
    assert continued_twice == sizes[2]


def test_hyperband_in_a_small_space_uses_all_of_it(tmp_path: Path) -> None:
    driven = drive(config_of("hyperband", {"units": [2, 4, 8]}), tmp_path)
    assert rungs(driven) == {(0, 2): 3, (2, 4): 2}
    continued = [spec.params.units for spec in driven.executor.specs if spec.settings.epochs == 4]
    assert continued == [8, 4]


# When to abort.


@pytest.mark.parametrize("slots", [1, 2, 8])
def test_a_search_without_any_success_is_aborted(slots: int, tmp_path: Path) -> None:
    driven = make_driven(
        config_of("random", LARGE, max_trials=200),
        tmp_path,
        trainer=Stub(lambda spec: fail(f"no luck {spec.params.units}.")),
        slots=slots,
    )
    with pytest.raises(SearchAborted) as raised:
        driven.driver.run(driven.executor)
    count = MIN_FAILURES_TO_STOP + slots - 1
    assert f"{count} of {count} trials have failed, {count} of them with: no luck" in str(
        raised.value
    )


@pytest.mark.parametrize("trials", [1, 3])
def test_a_small_search_in_which_all_fail_has_not_succeeded(trials: int, tmp_path: Path) -> None:
    config = config_of("random", max_trials=trials)
    with pytest.raises(SearchAborted, match=f"{trials} of {trials} trials have failed"):
        drive(config, tmp_path, trainer=Stub(lambda spec: fail()))


def fail_share(quarters: int) -> Callable[[TrialSpec], None]:
    """Return a function that fails so many of every four trials."""

    def share(spec: TrialSpec) -> None:
        if int(spec.folder.name) % 4 >= 4 - quarters:
            fail()

    return share


@pytest.mark.parametrize(("quarters", "slots"), [(1, 1), (2, 4), (3, 1), (3, 3)])
def test_a_search_continues_while_a_quarter_succeeds(
    quarters: int, slots: int, tmp_path: Path
) -> None:
    config = config_of("random", LARGE, max_trials=80)
    driven = drive(config, tmp_path, trainer=Stub(fail_share(quarters)), slots=slots)
    assert (len(driven.trials.failed), len(driven.trials.scores)) == (
        20 * quarters,
        80 - 20 * quarters,
    )


def test_a_search_with_too_few_successes_is_aborted(tmp_path: Path) -> None:
    def nine_in_ten(spec: TrialSpec) -> None:
        if int(spec.folder.name) % 10:
            fail()

    config = config_of("random", LARGE, max_trials=500)
    with pytest.raises(SearchAborted, match=r"20 of 23 trials have failed, 20 of them with: loss"):
        drive(config, tmp_path, trainer=Stub(nine_in_ten))


# With MLflow.


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return isolate(monkeypatch, tmp_path)


FACTS = CorpusFacts("tiny", "a tiny corpus", "0123", "tiny", 10, 5)


def open_search(folder: Path) -> SearchRun:
    """Open a search in a store of its own."""
    client = connect(new_store(folder))
    return SearchRun.open(client, "tiny", "imdbtune", common_tags(FACTS, {}), "search")


def read(search: SearchRun) -> list[Trial]:
    return reader.read_trials(search.client, reader.find_search(search.client))


def test_in_this_process_a_time_limit_ends_a_trial_after_an_epoch(here: Path) -> None:
    search, epochs = open_search(here), []
    # A minute an epoch.
    executor = InProcessExecutor(epochs.append, clock=lambda: 60.0 * len(epochs))
    for trial_id, minutes in (("0000", 1.5), ("0001", 4.0), ("0002", 0.0)):
        run_id = search.start_trial(trial_id, TrialParams(), {})
        job = TrialJob(
            trial_id,
            _spec(here),
            search.client,  # in place of an outbox
            run_id,
            log_model=False,
            trainer=stub_trainer,
            timeout_minutes=minutes,
        )
        executor.submit(job)
    outcomes = {job.trial_id: outcome for job, outcome in executor.done(0)}
    assert isinstance(outcomes["0000"], TrialFailure)
    assert outcomes["0000"].reason == "took longer than 1.5 minutes"
    trials = {trial.trial_id: trial for trial in read(search)}
    assert {trial_id: trial.status for trial_id, trial in trials.items()} == {
        "0000": "FAILED",
        "0001": "FINISHED",
        "0002": "FINISHED",
    }
    assert trials["0000"].reason == outcomes["0000"].reason
    assert len(search.client.get_metric_history(trials["0000"].run_id, "loss")) == 2
    assert len(search.client.get_metric_history(trials["0002"].run_id, "loss")) == 4


def by_attempt(trials: list[Trial]) -> list[tuple[str, str, str]]:
    return sorted((t.trial_id, t.tags["imdbtune.attempt"], t.status) for t in trials)


def interrupt_at_second(spec: TrialSpec) -> None:
    if spec.settings.seed > SEED:
        raise KeyboardInterrupt
    fail()


def test_attempts_have_their_own_runs_and_an_interrupted_one_is_repeated(here: Path) -> None:
    space = {"rnn": ["gru", "lstm"]}
    config = make_config(here, space=space, tuner={"retries": 1, "seed": SEED})
    with pytest.raises(KeyboardInterrupt):
        run_search(config, here, trainer=Stub(interrupt_at_second))
    client = connect(config.tracking.uri)
    attempts = by_attempt(reader.read_trials(client, reader.find_search(client)))
    assert attempts == [("0000", "1", "FAILED"), ("0000", "2", "KILLED")]
    common: dict[str, Any] = {"workers": 0, "cache": here / "cache", "folder": here / "runs"}
    found = api.resume(
        context=api.Context(uri=config.tracking.uri, trainer=Stub(fail_gru_at_first), **common)
    )
    trials = reader.read_trials(client, found)
    again = [("0000", "2", "FINISHED"), ("0001", "1", "FINISHED")]
    assert by_attempt(trials) == sorted([*attempts, *again])
    params = {t.run_id: client.get_run(t.run_id).data.params for t in trials}
    seeds = {
        (t.attempt, t.status): params[t.run_id]["seed"] for t in trials if t.trial_id == "0000"
    }
    assert seeds == {
        (1, "FAILED"): str(SEED),
        (2, "KILLED"): str(SEED + 1),
        (2, "FINISHED"): str(SEED + 1),
    }
    (repeated,) = [t for t in trials if (t.trial_id, t.status) == ("0000", "FINISHED")]
    assert read_stage(client, repeated).settings.seed == SEED + 1
    assert found.metrics["trials_failed"] == 0
    assert found.metrics["trials_finished"] == 2


@pytest.mark.parametrize(
    ("retries", "noted", "kinds"),
    [(1, 0, ["failed"]), (0, 0, ["ended"]), (1, 1, ["failed", "ended"]), (2, 1, ["failed"] * 2)],
)
def test_a_failed_attempt_that_is_not_in_the_journal_counts(
    retries: int, noted: int, kinds: list[str], here: Path
) -> None:
    """MLflow has one more failed attempt than the journal, because the driver was killed."""
    search, journal = open_search(here), Journal(here / "journal.jsonl")
    journal.append({"event": "asked", "trial_id": "0000", "values": {}, "seed_state": 0})
    for attempt in range(1, noted + 2):
        run_id = search.start_trial("0000", TrialParams(), {}, attempt)
        journal.append({"event": "started", "trial_id": "0000", "run_id": run_id})
        TrialRun(search.client, run_id).fail("loss became nan in epoch 1.", "a traceback")
        if attempt <= noted:
            facts = {"trial_id": "0000", "run_id": run_id, "reason": "loss became nan in epoch 1."}
            journal.append({"event": "failed", **facts})
    found = reader.find_search(search.client)
    after = reconcile(search.client, found, journal, retries)
    assert after.events == journal.read()
    failed = [event for event in after.events if event["event"] == "failed"]
    trained = list(after.unjournaled.values())
    assert ["failed"] * len(failed) + ["ended"] * len(trained) == kinds
    reasons = {e["reason"] for e in failed} | {trial.reason for trial in trained}
    assert reasons == {"loss became nan in epoch 1."}
    assert reconcile(search.client, found, journal, retries) == after
