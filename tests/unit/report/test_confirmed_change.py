"""Is the confirmed winner of a new search worse than that of an old one?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from imdbtune import api
from imdbtune.cli.app import app
from imdbtune.confirm.significance import Repeats, change_between
from imdbtune.errors import UserError
from imdbtune.tracking import writer
from tests.support import draw_nothing, isolate, make_config, run_search
from tests.unit.confirm import test_runs

SEEDS = 3


def repeats(rate: float, rng: np.random.Generator, spread: float = 0.01) -> Repeats:
    """Trainings on 500 reviews of different difficulty, with a spread between seeds."""
    hard = np.random.default_rng(0).beta(4, 1, size=500)
    shifted = np.clip(hard + rate + rng.normal(0, spread, (5, 1)), 0, 1)
    return Repeats("", rng.random(shifted.shape) < shifted, 1.0)


def test_equal_models_are_called_worse_in_one_case_of_forty() -> None:
    rng = np.random.default_rng(1)
    changes = [change_between(repeats(0, rng), repeats(0, rng)) for _ in range(400)]
    assert np.mean([change.is_worse for change in changes]) < 0.05
    assert np.mean([change.is_better for change in changes]) < 0.05


def test_a_model_that_is_five_points_worse_is_found() -> None:
    rng = np.random.default_rng(2)
    changes = [change_between(repeats(0, rng), repeats(-0.05, rng)) for _ in range(50)]
    assert np.mean([change.is_worse for change in changes]) > 0.7


def test_the_same_model_is_not_worse() -> None:
    same = Repeats("", np.ones((2, 10), bool), 1.0)
    change = change_between(same, same)
    assert (change.difference, change.half_width, change.is_worse) == (0.0, 0.0, False)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store with the searches good, bad and again, all confirmed, and unconfirmed."""
    with pytest.MonkeyPatch.context() as patch:
        folder = isolate(patch, tmp_path_factory.mktemp("searched"))
        draw_nothing(patch)
        patch.setattr(writer.TrialRun, "log_model", lambda *arguments: None)
        for name, rate in {"good": 0.9, "bad": 0.6, "again": 0.9, "unconfirmed": 0.0}.items():
            config = make_config(folder, name=name, space={"units": [4, 8]})
            run_search(config, folder)
            patch.setitem(test_runs.RATES, "lstm", rate)
            trainer = test_runs.StubTrainer()
            context = api.Context(
                uri=config.tracking.uri, cache=folder / "cache", trainer=trainer, workers=0
            )
            if rate:
                api.confirm(name, context, top=2, seeds=SEEDS)
        return config.tracking.uri


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return isolate(monkeypatch, tmp_path)


def run(store: str, *words: str) -> int | None:
    code: int | None = app(
        ["compare", *words, "--confirmed", "--tracking-uri", store], standalone_mode=False
    )
    return code


def test_the_winner_of_a_worse_search_is_significantly_worse(store: str) -> None:
    found = api.compare_confirmed("good", "bad", uri=store)
    assert found.is_worse
    low, high = found.as_dict()["interval"]  # type: ignore[misc]
    assert low < -0.3 < high < 0
    assert found.reviews == test_runs.REVIEWS
    assert len(found.new.accuracies) == SEEDS
    back = api.compare_confirmed("bad", "good", uri=store)
    assert back.verdict == "significantly better"
    assert back.change.difference == pytest.approx(-found.change.difference)


def test_the_exit_code_and_the_files_tell(
    store: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(here / "summary.md"))
    (here / "summary.md").write_text("before\n")
    files = ["--junit", "found.xml", "--github-summary"]
    assert run(store, "good", "bad", *files) == 1
    assert "is significantly worse than" in capsys.readouterr().out
    (failure,) = ElementTree.parse(here / "found.xml").iter("failure")
    assert "95 % interval" in failure.attrib["message"]
    summary = (here / "summary.md").read_text()
    assert summary.startswith("before\n### ❌ The new winner is significantly worse")
    assert run(store, "good", "again", "--json", *files) is None
    assert json.loads(capsys.readouterr().out)["verdict"] == "not significantly worse"
    assert not list(ElementTree.parse(here / "found.xml").iter("failure"))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["good"], "compares two searches, OLD NEW; you gave 1"),
        (["good", "good"], "are the same search"),
        (["good", "unconfirmed"], "'unconfirmed' is not confirmed; run imdbtune confirm"),
        (["good", "bad", "--where", "units=4"], "--confirmed and --where are mutually exclusive"),
        (["good", "bad", "--csv"], "--confirmed and --csv are mutually exclusive"),
        (["good", "bad", "--junit", "no/x.xml"], "lies in no folder that exists"),
        (["good", "bad", "--github-summary"], "needs the variable GITHUB_STEP_SUMMARY"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    words: list[str], says: str, store: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    with pytest.raises(UserError, match=says):
        run(store, *words)


def test_searches_of_other_reviews_are_refused(store: str, here: Path, tmp_path: Path) -> None:
    from imdbtune.tracking.connection import connect

    client: Any = connect(store)
    found, _ = api.best("again", uri=store)
    digest = found.tags["imdbtune.data_digest"]
    client.set_tag(found.run_id, "imdbtune.data_digest", "other")
    try:
        with pytest.raises(UserError, match="have other reviews"):
            run(store, "good", "again")
    finally:
        client.set_tag(found.run_id, "imdbtune.data_digest", digest)


def test_files_of_a_plain_comparison_are_refused(store: str, here: Path) -> None:
    with pytest.raises(UserError, match="need --confirmed"):
        app(["compare", "good", "--junit", "x.xml"], standalone_mode=False)
