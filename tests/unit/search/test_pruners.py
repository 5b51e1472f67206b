"""The pruners, on cases computed by hand and beside Optuna's; and the decisions of a search."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest

from imdbtune.cluster.trial_job import EpochEnded
from imdbtune.config.extensions import PRUNERS, SAMPLERS
from imdbtune.config.objectives import FOLDS_MEAN
from imdbtune.config.schema import SearchConfig, parse_config
from imdbtune.errors import TrialFailed, UserError
from imdbtune.search.pruner import Pruner, note_on_pruner, pruner_kind
from imdbtune.search.pruners import HalvingPruner, MedianPruner
from imdbtune.search.pruning import Pruning
from imdbtune.training.spec import TrialSpec
from tests.driven import SPACE, MemoryJournal, config_of, drive, make_driven
from tests.support import Stub

EPOCHS = 9


def report(pruner: Pruner, trial_id: str, *values: float, completes: bool = True) -> list[bool]:
    """The answers to a trial with these values, up to the first that prunes it."""
    answers = []
    for epoch, value in enumerate(values, start=1):
        answers.append(pruner.report(trial_id, epoch, value))
        if answers[-1]:
            return answers
    if completes:
        pruner.complete(trial_id)
    return answers


# The median stopping rule.


def test_a_trial_below_the_median_of_its_epoch_is_pruned() -> None:
    pruner = MedianPruner(startup_trials=3, warmup_epochs=0)
    for number, values in enumerate([(0.1, 0.6), (0.2, 0.7), (0.3, 0.8)]):
        assert report(pruner, f"{number}", *values) == [False, False]
    assert report(pruner, "3", 0.19) == [True]  # the median of epoch 1 is 0.2
    assert report(pruner, "4", 0.2, 0.69) == [False, True]  # that of epoch 2 is 0.7
    assert report(pruner, "5", 0.2, 0.7) == [False, False]  # not worse


def test_the_median_of_an_even_number_is_the_mean_of_the_middle_two() -> None:
    pruner = MedianPruner(startup_trials=2, warmup_epochs=0)
    report(pruner, "0", 0.25)
    report(pruner, "1", 0.75)
    assert report(pruner, "2", 0.5, completes=False) == [False]
    assert report(pruner, "3", 0.4375) == [True]


def test_the_best_value_of_a_trial_counts() -> None:
    pruner = MedianPruner(startup_trials=1, warmup_epochs=0)
    report(pruner, "0", 0.5, 0.6, 0.7)
    assert report(pruner, "1", 0.65, 0.1, 0.2) == [False, False, True]


def test_only_completed_trials_count_and_only_where_they_have_been() -> None:
    pruner = MedianPruner(startup_trials=2, warmup_epochs=0)
    report(pruner, "0", 0.5)
    report(pruner, "running", 0.9, 0.9, completes=False)
    assert report(pruner, "1", 0.1, 0.1) == [False, False]  # one trial has completed so far
    assert report(pruner, "2", 0.2) == [True]  # the median of 0.5 and 0.1
    assert report(pruner, "3", 0.4, 0.05) == [False, False]  # best value 0.4, median 0.1


def test_the_first_epochs_and_the_first_trials_are_spared() -> None:
    pruner = MedianPruner()
    for number in range(5):
        assert report(pruner, f"{number}", 1.0 - number / 10, 1.0) == [False, False]
    assert report(pruner, "5", 0.0, 0.0) == [False, True]


def test_a_failed_trial_is_forgotten() -> None:
    pruner = MedianPruner(startup_trials=1, warmup_epochs=0)
    report(pruner, "0", 0.5)
    pruner.forget("0")
    assert report(pruner, "1", 0.1) == [False]


# Successive halving.


def test_one_in_three_goes_on_at_each_rung() -> None:
    pruner = HalvingPruner(3)
    assert report(pruner, "0", 0.5, 0.5, 0.6, 0.6) == [False] * 4
    assert report(pruner, "1", 0.4) == [True]  # the best one of two goes on
    assert report(pruner, "2", 0.6, 0.1, 0.5) == [False, False, True]
    assert report(pruner, "3", 0.55) == [True]  # one of four
    assert report(pruner, "4", 0.59) == [True]  # one of five
    assert report(pruner, "5", 0.59, completes=False) == [False]  # two of six


def test_there_are_rungs_at_the_powers_of_the_factor_alone() -> None:
    for factor, rungs in ((3, [1, 3, 9, 27]), (2, [1, 2, 4, 8, 16])):
        pruner = HalvingPruner(factor)
        report(pruner, "0", *[1.0] * 30)
        assert sorted(pruner.rungs) == rungs


def test_equal_trials_all_go_on() -> None:
    pruner = HalvingPruner(3)
    for number in range(7):
        assert report(pruner, f"{number}", 0.5) == [False]


def test_a_failed_trial_leaves_the_rungs() -> None:
    pruner = HalvingPruner(3)
    report(pruner, "0", 0.9)
    pruner.forget("0")
    assert report(pruner, "1", 0.1) == [False]


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
@pytest.mark.parametrize("name", PRUNERS)
@pytest.mark.parametrize("seed", range(10))
def test_the_answers_are_those_of_optuna(name: str, direction: Any, seed: int) -> None:
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    theirs = {
        "median": optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=2),
        "asha": optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3),
    }
    study = optuna.create_study(direction=direction, pruner=theirs[name])
    ours, sign = PRUNERS[name].make(), 1 if direction == "maximize" else -1
    rng = random.Random(seed)
    answers = []
    running = {}
    # Up to three trials advance in a random order, as on several workers.
    for number in range(40):
        running[f"{number}"] = (study.ask(), iter(range(1, EPOCHS + 1)))
        while len(running) == 3 or (number == 39 and running):
            trial_id = rng.choice(list(running))
            trial, epochs = running[trial_id]
            epoch, value = next(epochs), rng.randint(0, 64) / 64 + int(trial_id) / 64
            trial.report(value, epoch)
            answers.append(ours.report(trial_id, epoch, sign * value))
            assert answers[-1] == trial.should_prune()
            if answers[-1] or epoch == EPOCHS:
                state = optuna.trial.TrialState
                study.tell(
                    trial, None if answers[-1] else value, state.PRUNED if answers[-1] else None
                )
                if not answers[-1]:
                    ours.complete(trial_id)
                del running[trial_id]
    assert set(answers) == {True, False}


# The decisions of a search.


def epoch(trial_id: str, number: int, value: float, execution: int = 0) -> EpochEnded:
    return EpochEnded(trial_id, execution, {"epoch": float(number), "val_accuracy": value})


def pruning_of(config: SearchConfig, folder: Path) -> Pruning:
    return Pruning.of(config, MemoryJournal(folder / "journal.jsonl"))


def test_decisions_are_journaled_and_given_again(tmp_path: Path) -> None:
    config = config_of("random", prune="asha")
    pruning = pruning_of(config, tmp_path)
    told = [epoch("0", 1, 0.5), epoch("1", 1, 0.4), epoch("2", 1, 0.6), epoch("2", 2, 0.1)]
    answers = [pruning.decide(event) for event in told]
    assert answers == [False, True, False, False]
    events = pruning.journal.read()
    assert [(e["trial_id"], e["epoch"], e["value"], e["prune"]) for e in events] == [
        ("0", 1, 0.5, False),
        ("1", 1, 0.4, True),
        ("2", 1, 0.6, False),
        ("2", 2, 0.1, False),
    ]
    again = pruning_of(config, tmp_path)
    again.restore(events)
    # A later one would prune trial 0, which is not among the best any more.
    assert [again.decide(event) for event in told] == answers
    assert again.journal.read() == []
    assert again.pruner == pruning.pruner


def test_a_trial_that_was_not_stopped_in_time_is_stopped_later(tmp_path: Path) -> None:
    pruning = pruning_of(config_of("random", prune="asha"), tmp_path)
    pruning.decide(epoch("0", 1, 0.5))
    assert pruning.decide(epoch("1", 1, 0.4))
    assert pruning.decide(epoch("1", 2, 0.9))
    assert len(pruning.journal.read()) == 2


def test_the_last_epoch_prunes_nothing(tmp_path: Path) -> None:
    config = parse_config(config_of("random", prune="asha").as_dict(), {"training.epochs": 3})
    pruning = pruning_of(config, tmp_path)
    for number in (1, 2, 3):
        assert not pruning.decide(epoch("0", number, 0.5))
    assert not any(pruning.decide(epoch("1", number, 0.7)) for number in (1, 2))
    assert not pruning.decide(epoch("1", 3, 0.1))


def test_only_the_first_execution_is_judged(tmp_path: Path) -> None:
    pruning = pruning_of(config_of("random", prune="asha", executions=2), tmp_path)
    assert not pruning.decide(epoch("0", 1, 0.5))
    assert not pruning.decide(epoch("1", 1, 0.1, execution=1))
    assert len(pruning.journal.read()) == 1


def test_folds_are_judged_by_their_mean(tmp_path: Path) -> None:
    """Each as an epoch; the epochs within a fold are not."""
    pruning = pruning_of(config_of("random", prune="asha", folds=3), tmp_path)

    def end_fold(trial_id: str, fold: int, mean: float) -> bool:
        within = {"epoch": 1.0, "val_accuracy": 0.0}
        assert not pruning.decide(EpochEnded(trial_id, fold, within))
        return pruning.decide(EpochEnded(trial_id, fold, {**within, FOLDS_MEAN: mean}))

    assert not end_fold("0", 0, 0.8)
    assert not end_fold("0", 1, 0.7)
    assert end_fold("1", 0, 0.7)
    assert [event["epoch"] for event in pruning.journal.read()] == [1, 2, 1]
    assert not end_fold("2", 0, 0.9)
    assert not end_fold("2", 2, 0.0)  # the last one


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_not_finite_is_left_to_the_trainer(value: float, tmp_path: Path) -> None:
    pruning = pruning_of(config_of("random", prune="asha"), tmp_path)
    assert not pruning.decide(epoch("0", 1, value))
    assert pruning.journal.read() == []


def test_a_smaller_loss_is_better(tmp_path: Path) -> None:
    config = config_of("random", prune="asha", objective="val_loss")
    pruning = pruning_of(config, tmp_path)
    values = (0.5, 0.6, 0.4)
    events = [
        EpochEnded(f"{n}", 0, {"epoch": 1.0, "val_loss": value, "val_accuracy": 0.9})
        for n, value in enumerate(values)
    ]
    assert [pruning.decide(event) for event in events] == [False, True, False]


def test_a_search_without_a_pruner_journals_no_epochs(tmp_path: Path) -> None:
    driven = drive(config_of("grid"), tmp_path)
    assert {event["event"] for event in driven.journal} == {"asked", "started", "ended"}


def test_a_retried_trial_is_judged_anew(tmp_path: Path) -> None:
    """Another seed has other values; a lost worker has the same."""
    attempts = []

    def fail_first_time(spec: TrialSpec) -> None:
        attempts.append(spec.folder.name)
        if len(attempts) == 1:
            pruning.decide(epoch("0000", 1, 0.9))
            raise TrialFailed("loss became nan in epoch 2.")

    config = config_of("grid", {"rnn": "lstm", "units": [4, 8]}, prune="asha", retries=1)
    driven = make_driven(config, tmp_path, trainer=Stub(fail_first_time))
    pruning = driven.trials.pruning
    driven.driver.run(driven.executor)
    assert attempts == ["0000", "0000", "0001"]
    events = driven.trials.journal.read()
    first = [(e["trial_id"], e["value"]) for e in events if e.get("epoch") == 1]
    assert first == [("0000", 0.9), ("0000", 0.604), ("0001", 0.608)]
    assert [e["reason"] for e in events if e["event"] == "ended"] == ["", ""]


def test_the_sampler_is_told_the_best_epoch_of_a_pruned_trial(tmp_path: Path) -> None:
    driven = drive(config_of("grid", prune="asha"), tmp_path)
    pruned = [e for e in driven.journal if e["event"] == "ended" and e["reason"]]
    assert pruned
    for event in pruned:
        trial: Any = driven.trials.sampler.trials[event["trial_id"]]  # type: ignore[attr-defined]
        assert (trial.status, trial.score) == ("COMPLETED", event["score"])
        assert driven.trials.scores[event["trial_id"]] == event["score"]
    assert driven.trials.failed == {}


# What is refused, and what is noted.


@pytest.mark.parametrize("name", PRUNERS)
def test_a_pruner_says_what_it_does_and_when(name: str) -> None:
    kind = PRUNERS[name]
    assert kind.about
    pruner = kind.make()
    for number in range(kind.spared + 3):
        value = 1.0 - number / 100
        answers = report(pruner, f"{number}", *[value] * EPOCHS)
        assert (True in answers) == (number >= max(1, kind.spared))
        if True in answers:
            assert len(answers) == kind.first_epoch


def test_hyperband_needs_no_pruner() -> None:
    with pytest.raises(UserError, match=r"prune = 'asha' is not possible with .* hyperband"):
        config_of("hyperband", prune="asha")
    assert pruner_kind(config_of("hyperband")) is None
    for kind in set(SAMPLERS) - {"hyperband"}:
        assert pruner_kind(config_of(kind, prune="median")) is PRUNERS["median"]


def test_a_pruner_for_trials_of_one_epoch_is_noted() -> None:
    table = {"space": dict(SPACE), "tuner": {"prune": "median"}}
    assert note_on_pruner(parse_config(table)) == ""
    noted = note_on_pruner(parse_config(table, {"training.epochs": 1}))
    assert noted.startswith("prune = median has no effect on trials of one epoch")


def test_the_pruner_belongs_to_the_digest() -> None:
    digests = {config_of("random", prune=name).digest for name in ("none", *PRUNERS)}
    assert len(digests) == 1 + len(PRUNERS)
