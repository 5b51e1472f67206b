"""What CI systems read of a search."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from imdbtune import api
from imdbtune.cli.app import app
from imdbtune.config.hyperparameters import TrialParams
from imdbtune.errors import TrialFailed
from imdbtune.report.ci import search_suite
from imdbtune.tracking.entities import Search, Trial
from imdbtune.training.spec import OnEpoch, TrialResult, TrialSpec
from tests.support import draw_nothing, isolate, prepare, stub_trainer

EVIL = 'x|"]]>&<b>\x1b\x00'
SEARCH = Search("1" * 32, EVIL, "FINISHED", "1", {}, {}, 0)


def trial(number: int, status: str, **metrics: float) -> Trial:
    tags = {"imdbtune.trial": f"{number:04d}", "imdbtune.reason": EVIL}
    return Trial(str(number), EVIL, status, TrialParams(), metrics, tags, 0, 1, None)


def test_each_trial_is_a_case_and_nothing_breaks_the_file() -> None:
    good = trial(0, "FINISHED", best_val_accuracy=0.9, train_seconds=2.0)
    suite = search_suite(SEARCH, [good, trial(1, "FAILED"), trial(2, "KILLED")], f"full {EVIL}")
    root = ElementTree.fromstring(suite.as_xml().encode())
    assert (root.attrib["tests"], root.attrib["failures"], root.attrib["skipped"]) == (
        *("4", "2"),
        "1",
    )
    passed, failed, killed, aborted = root.iter("testcase")
    assert passed.attrib["time"] == "2.000"
    assert [child.tag for child in passed] == ["system-out"]
    assert failed.find("failure") is not None
    assert killed.find("skipped") is not None
    assert aborted.attrib["name"] == "search"
    assert "<b>" not in suite.markdown
    rows = [line for line in suite.markdown.splitlines() if line.startswith("| ")]
    assert {line.replace("\\|", "").count("|") for line in rows} == {6}


def failing(spec: TrialSpec, on_epoch: OnEpoch) -> TrialResult:
    if spec.params.units == 8:
        raise TrialFailed("the loss became nan.")
    return stub_trainer(spec, on_epoch)


def interrupted(spec: TrialSpec, on_epoch: OnEpoch) -> TrialResult:
    raise KeyboardInterrupt


@pytest.mark.parametrize(("trainer", "code"), [(failing, None), (interrupted, 130)])
def test_a_search_writes_both_files(
    trainer: object,
    code: int | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    isolate(monkeypatch, tmp_path)
    prepare(tmp_path)
    draw_nothing(monkeypatch)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    context = api.Context
    monkeypatch.setattr(api, "Context", lambda **given: context(**given, trainer=trainer))
    words = ["none", "--units", "4,8", "--data", "imdb.npz", "--workers", "0", "--no-baseline"]
    words += ["--keep-models", "0", "--set", "tracking.report=false", "--retries", "0"]
    words += ["--junit", "search.xml", "--github-summary", "-q"]
    assert app(["search", *words], standalone_mode=False) == code
    failures = list(ElementTree.parse(tmp_path / "search.xml").iter("failure"))
    reason = "interrupted" if code else "the loss became nan"
    assert [reason in str(failure.text) for failure in failures] == [True]
    assert reason in (tmp_path / "summary.md").read_text()
