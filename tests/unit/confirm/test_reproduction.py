"""A run is trained again from MLflow alone and compared epoch by epoch."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from imdbtune import api
from imdbtune.cli.reproduce import table
from imdbtune.confirm.reproduction import EpochPair, find_differences
from imdbtune.errors import SearchAborted, TrialFailed, UserError
from imdbtune.tracking import entities, reader, run_record
from imdbtune.training.spec import OnEpoch, TrialResult, TrialSpec
from tests.support import isolate, make_config, run_search, stub_trainer, write_tiny_model


@dataclass
class Recorder:
    """Stub trainer that records its specs and may shift the metrics."""

    shift: float = 0.0
    specs: list[TrialSpec] = field(default_factory=list)

    def __call__(self, spec: TrialSpec, on_epoch: OnEpoch) -> TrialResult:
        self.specs.append(spec)
        write_tiny_model(spec)

        def shifted(execution: int, epoch: dict[str, float]) -> bool | None:
            return on_epoch(execution, {**epoch, "val_loss": epoch["val_loss"] + self.shift})

        return stub_trainer(spec, shifted)


@dataclass
class Done:
    client: Any
    trials: list[entities.Trial]
    uri: str
    cache: Path
    specs: dict[str, TrialSpec]  # by the trial's number

    def again(self, trial: entities.Trial, trainer: Recorder, **arguments: Any) -> Any:
        where = {"uri": self.uri, "cache": self.cache, "trainer": trainer}
        return api.reproduce(trial.run_id, api.Context(**{**where, **arguments}))


def searched(folder: Path, **sections: Any) -> Done:
    recorder = Recorder()
    config = make_config(folder, **sections)
    client, search = run_search(config, folder, trainer=recorder)
    specs = {spec.folder.name: spec for spec in recorder.specs}
    trials = reader.read_trials(client, search)
    return Done(client, trials, config.tracking.uri, folder / "cache", specs)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Done]:
    """A search of four trials; tests that change a run use a trial of their own."""
    with pytest.MonkeyPatch.context() as patch:
        folder = isolate(patch, tmp_path_factory.mktemp("searched"))
        yield searched(
            folder,
            data={"reviews": 8},
            tuner={"seed": 7, "executions": 2, "objective": "val_loss"},
            training={"epochs": 3, "patience": 1, "batching": "padded", "compile": "off"},
        )


PLACES = ("folder", "state", "keep_state", "checkpoint_after_s")


def settings_of(spec: TrialSpec) -> dict[str, Any]:
    return {k: v for k, v in vars(spec).items() if k not in PLACES}


def test_a_reproduction_has_the_same_settings(done: Done) -> None:
    recorder, trial = Recorder(), done.trials[0]
    compared = done.again(trial, recorder)
    (spec,) = recorder.specs
    assert settings_of(spec) == settings_of(done.specs[trial.trial_id])
    assert (spec.settings.reviews, spec.settings.patience, spec.settings.compile) == (8, 1, "off")
    assert (compared.verdict, compared.differs) == ("exactly", {})
    assert [(pair.execution, pair.epoch) for pair in compared.epochs] == [
        (execution, epoch) for execution in (1, 2) for epoch in (1, 2, 3)
    ]


def test_the_new_run_names_the_old_one(done: Done) -> None:
    first = done.again(done.trials[0], Recorder())
    tags = first.again.tags
    assert tags["imdbtune.reproduces"] == done.trials[0].run_id
    assert (tags["imdbtune.kind"], first.again.status) == ("train", "FINISHED")
    assert done.client.get_run(first.again.run_id).data.tags["imdbtune.agrees"] == "exactly"
    logged = done.client.download_artifacts(first.again.run_id, "reproduction.json")
    assert json.loads(Path(logged).read_text("utf-8")) == first.as_dict()
    with pytest.raises(UserError, match=f"is itself a reproduction.*{done.trials[0].run_id}"):
        done.again(first.again, Recorder())


@pytest.mark.parametrize(
    ("shift", "verdict"), [(9e-7, "within 1e-06"), (1.1e-6, "no"), (0.01, "no")]
)
def test_metrics_that_differ_a_little_agree(done: Done, shift: float, verdict: str) -> None:
    compared = done.again(done.trials[0], Recorder(shift))
    assert (compared.verdict, compared.agrees) == (verdict, verdict != "no")
    assert compared.difference == pytest.approx(shift)
    told = table(compared).splitlines()
    assert told[2].split()[0] == "1/1"
    assert told[-2].endswith("do not agree." if verdict == "no" else f"agree {verdict}.")
    assert told[-1].endswith("are the same.")


def test_an_epoch_that_one_run_lacks_is_a_difference() -> None:
    epoch = {"accuracy": 0.5, "loss": 1.0, "val_accuracy": 0.5, "val_loss": 1.0}
    assert EpochPair(1, 1, epoch, dict(epoch)).difference == 0
    assert EpochPair(1, 1, epoch, {}).difference == math.inf
    assert EpochPair(1, 1, epoch, {**epoch, "loss": math.nan}).difference == math.inf


def test_differences_of_the_machine_are_listed(done: Done) -> None:
    trial = done.trials[3]
    changes = {"version.keras": "3.0.0", "imdbtune.threads": "4", "imdbtune.cpu": "an old one"}
    for name, value in changes.items():
        done.client.set_tag(trial.run_id, name, value)
    compared = done.again(trial, Recorder(0.1))
    assert {name: then for name, (then, _) in compared.differs.items()} == {
        "keras": "3.0.0",
        "threads": "4",
        "processor": "an old one",
    }
    assert "\n  threads: 4, now 1\n" in table(compared)
    assert find_differences({"imdbtune.about": "a"}, {"imdbtune.about": "b"}) == {}


def test_a_trial_that_continues_another_is_trained_from_the_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    isolate(monkeypatch, tmp_path)
    done = searched(
        tmp_path,
        space={"rnn": "lstm", "units": list(range(4, 40))},
        tuner={"kind": "hyperband", "max_trials": 5},
        training={"epochs": 3},
    )
    (trial, *_) = [t for t in done.trials if done.specs[t.trial_id].settings.initial_epoch > 0]
    recorder = Recorder()
    compared = done.again(trial, recorder)
    assert compared.verdict == "exactly"
    assert len(recorder.specs) > 1
    assert settings_of(recorder.specs[-1]) == settings_of(done.specs[trial.trial_id])
    starts = [
        (spec.settings.initial_epoch, spec.settings.epochs, spec.keep_state)
        for spec in recorder.specs
    ]
    assert starts[0][0] == 0
    assert all(before[1] == after[0] for before, after in pairwise(starts))
    assert [keep for *_, keep in starts] == [True] * (len(starts) - 1) + [False]
    for before, after in pairwise(recorder.specs):
        assert after.state == before.folder / "state.npz"
    for earlier in done.trials:
        if earlier.trial_id == done.client.get_run(trial.run_id).data.params["continues"]:
            done.client.delete_run(earlier.run_id)
    with pytest.raises(UserError, match=r"continues trial \d+ of its search, which was deleted"):
        done.again(trial, Recorder())


def test_a_training_that_fails_closes_its_run(done: Done) -> None:
    def fail(spec: TrialSpec, on_epoch: OnEpoch) -> TrialResult:
        raise TrialFailed("loss became nan in epoch 1.")

    with pytest.raises(SearchAborted, match="loss became nan"):
        api.reproduce(
            done.trials[0].run_id, api.Context(uri=done.uri, cache=done.cache, trainer=fail)
        )
    (run, *_) = done.client.search_runs(
        [done.client.get_run(done.trials[0].run_id).info.experiment_id]
    )
    assert (run.info.status, run.data.tags["imdbtune.reproduces"]) == (
        "FAILED",
        done.trials[0].run_id,
    )


def test_what_cannot_be_reproduced_is_refused(done: Done, tmp_path: Path) -> None:
    trial, old, odd = done.trials[0], done.trials[1], done.trials[2]
    with pytest.raises(UserError, match="no trial with run id"):
        api.reproduce("0" * 32, api.Context(uri=done.uri))
    with pytest.raises(UserError, match="no trial with run id"):
        api.reproduce(trial.tags["imdbtune.search_id"], api.Context(uri=done.uri))
    with pytest.raises(UserError, match="data source 'reviews' is not known"):
        done.again(trial, Recorder(), data="reviews")
    with pytest.raises(UserError, match="are not those of"):
        done.again(trial, Recorder(), data="demo")
    done.client.log_text(old.run_id, "{}", run_record.NAME)
    with pytest.raises(
        UserError, match="lacks the settings executions, patience, compile: it was logged by an old"
    ):
        done.again(old, Recorder())
    early = {"imdbtune.executions": "1", "imdbtune.patience": "many", "imdbtune.compile": "off"}
    for name, value in early.items():
        done.client.set_tag(old.run_id, name, value)
    with pytest.raises(UserError, match="patience = 'many' is not allowed"):
        done.again(old, Recorder())
    done.client.set_terminated(odd.run_id, "FAILED")
    with pytest.raises(UserError, match=r"is FAILED; give a finished run"):
        done.again(odd, Recorder())


def test_a_pruned_trial_is_trained_until_it_was_pruned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    isolate(monkeypatch, tmp_path)
    units = {"units": [4, 5, 6, 7]}
    executed = {"executions": 2, "prune": "asha", "seed": 1, "kind": "random", "max_trials": 4}
    done = searched(tmp_path, space=units, tuner=executed)
    pruned = next(trial for trial in done.trials if trial.pruned_after)
    reproduced = done.again(pruned, Recorder())
    assert reproduced.verdict == "exactly"
    assert [(pair.execution, pair.epoch) for pair in reproduced.epochs] == [(1, 1)]
    assert reproduced.again.status == "FINISHED"
    assert reproduced.again.score == pruned.score
