"""Thresholds of ``best --at-least``: what they mean, and which model has to reach them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest

from imdbtune import api
from imdbtune.cli.app import app
from imdbtune.config.hyperparameters import TrialParams
from imdbtune.confirm.threshold import judge, parse_threshold
from imdbtune.errors import UserError
from imdbtune.tracking.entities import Trial
from tests.support import isolate, make_config, run_search

METRICS = {"best_val_accuracy": 0.88, "best_val_loss": 0.4}
TRIAL = Trial("1" * 32, "lstm", "FINISHED", TrialParams(), METRICS, {}, 0, 1, None)


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("val_accuracy=0.88", True),
        (" val_accuracy = 0.8801", False),
        ("val_loss=0.4", True),
        ("val_loss=0.39", False),
        ("test_accuracy=0.9", True),
        ("test_accuracy=0.95", False),
    ],
)
def test_a_value_as_good_as_the_threshold_is_enough(text: str, met: bool) -> None:
    (verdict,) = judge([parse_threshold(text)], TRIAL, None, {"test_accuracy": 0.9})
    assert verdict.is_met is met


@pytest.mark.parametrize(
    "text", ["0.88", "accuracy=0.88", "val_accuracy=", "val_accuracy=nan", "val_accuracy=high", ""]
)
def test_what_is_no_threshold_is_refused(text: str) -> None:
    with pytest.raises(UserError):
        parse_threshold(text)


def test_a_model_without_the_value_does_not_pass() -> None:
    with pytest.raises(UserError, match="has no test_accuracy; with --export DIR"):
        judge([parse_threshold("test_accuracy=0.5")], TRIAL)
    nan = replace(TRIAL, metrics={"best_val_accuracy": float("nan")})
    assert not judge([parse_threshold("val_accuracy=0.1")], nan)[0].is_met


def test_after_a_confirmation_the_mean_counts() -> None:
    confirmed: Any = SimpleNamespace(winner=SimpleNamespace(mean=0.87), metric="accuracy")
    (verdict,) = judge([parse_threshold("val_accuracy=0.88")], TRIAL, confirmed)
    assert str(verdict) == "val_accuracy 0.8700 is below 0.88"


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("searched")
    run_search(make_config(folder), folder)  # the best has a val_accuracy of 0.628
    return folder


def best(searched: Path, patch: pytest.MonkeyPatch, *words: str) -> int | None:
    folder = searched / "here"
    folder.mkdir(exist_ok=True)
    isolate(patch, folder)
    patch.setenv("GITHUB_STEP_SUMMARY", "summary.md")
    store = ["--tracking-uri", f"sqlite:///{searched / 'mlflow.db'}"]
    code: int | None = app(["best", *store, *words], standalone_mode=False)
    return code


def test_the_exit_code_tells(
    searched: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert best(searched, monkeypatch, "--at-least", "val_accuracy=0.6") is None
    assert capsys.readouterr().out.endswith("val_accuracy 0.6280 is at least 0.6\n")
    missed = ["--at-least", "val_accuracy=0.6", "--at-least", "val_accuracy=0.7", "--json"]
    assert best(searched, monkeypatch, *missed) == 1
    told = capsys.readouterr()
    assert [each["met"] for each in json.loads(told.out)["at_least"]] == [True, False]
    assert told.err == "imdbtune: val_accuracy 0.6280 is below 0.7\n"


def test_a_model_that_is_not_good_enough_is_neither_exported_nor_registered(
    searched: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("evaluate", "export", "register"):
        monkeypatch.setattr(api, name, lambda *arguments, **named: pytest.fail("not good enough"))
    words = ["--export", "winner", "--register", "reviews", "--at-least", "val_accuracy=0.9"]
    words += ["--at-least", "val_accuracy=0.6", "--at-least", "test_accuracy=0.5"]
    assert best(searched, monkeypatch, *words, "--junit", "best.xml", "--github-summary") == 1
    (suite,) = ElementTree.parse("best.xml").iter("testsuite")
    assert [suite.attrib[name] for name in ("tests", "failures", "skipped")] == ["3", "1", "1"]
    (failure,) = suite.iter("failure")
    assert failure.text == "val_accuracy 0.6280 is below 0.9"
    summary = Path("summary.md").read_text(encoding="utf-8")
    assert "of tiny is not good enough" in summary
    assert "- test_accuracy was not checked: a value of validation was missed" in summary


def test_test_reviews_decide_before_an_export(
    searched: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "evaluate", lambda *arguments, **named: {"test_accuracy": 0.8})
    monkeypatch.setattr(api, "export", lambda *arguments, **named: pytest.fail("not good enough"))
    assert best(searched, monkeypatch, "--export", "w", "--at-least", "test_accuracy=0.9") == 1


def test_what_cannot_be_checked_is_refused_before_a_training(
    searched: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "refit", lambda *arguments, **named: pytest.fail("too early"))
    with pytest.raises(UserError, match="cannot be checked with --refit"):
        best(searched, monkeypatch, "--refit", "--at-least", "val_accuracy=0.5")
    with pytest.raises(UserError, match="needs --export DIR"):
        best(searched, monkeypatch, "--refit", "--at-least", "test_accuracy=0.5")
