"""What notebooks show of results."""

from __future__ import annotations

import math
from html.parser import HTMLParser
from pathlib import Path

import mlflow
import pytest

from imdbtune.config.hyperparameters import TrialParams
from imdbtune.confirm.entities import Confirmation, Confirmed
from imdbtune.report.comparison import compare_searches
from imdbtune.tracking import mlflow_names
from imdbtune.tracking.entities import Search, Trial
from imdbtune.tracking.notebook_html import run_link

EVIL = "<script>\"'&\x1b[31m"
RUN = "1" * 32
TAGS = {mlflow_names.BEST: EVIL, mlflow_names.BEST_RUN_ID: RUN, mlflow_names.DATA: EVIL}
COUNTS = {"trials_finished": 3.0, "trials_failed": 1.0, "best_val_accuracy": 0.87654}
SEARCH = Search(RUN, EVIL, "FINISHED", "7", TAGS, COUNTS, 0)
METRICS = {"best_val_accuracy": 0.87654, "train_seconds": 3.0}
TRIAL = Trial(RUN, EVIL, "FAILED", TrialParams(), METRICS, {"imdbtune.reason": EVIL}, 0, 1, None)
OTHER = Trial("2" * 32, EVIL, "FINISHED", TrialParams(units=7), METRICS, {}, 0, 1, None)
ROW = Confirmed(EVIL, RUN, ("3" * 32,), 0.87654, *[math.nan] * 4, 3.0, 10.0, 0.0, 1.0, True, 0.8)
CONFIRMATION = Confirmation(RUN, "4" * 32, 400, 1, (ROW,), RUN)
COMPARISON = compare_searches([(SEARCH, [TRIAL, OTHER])])
SHOWN = {"search": SEARCH, "trial": TRIAL, "confirmation": CONFIRMATION, "comparison": COMPARISON}
ALLOWED = {"div", "p", "b", "a", "table", "thead", "tbody", "tr", "th", "td"}


class Page(HTMLParser):
    """The tags of a fragment, which have to be balanced, and its text and links."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.tags.add(tag)
        self.links += [str(value) for name, value in attrs if name == "href"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("kind", SHOWN)
@pytest.mark.parametrize("uri", ["", "sqlite:///mlflow.db", "https://me:open.sesame@host:5000/ml/"])
def test_nothing_breaks_out_and_links_have_no_secret(
    kind: str, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    page = Page(SHOWN[kind]._repr_html_())  # type: ignore[attr-defined]
    assert page.tags <= ALLOWED
    assert EVIL.replace("\x1b", "\\x1b") in page.text
    assert "\x1b" not in page.text
    assert bool(page.links) == uri.startswith("https")
    assert all(link.startswith("https://host:5000/ml/#/runs/") for link in page.links)


def test_the_figures_are_there() -> None:
    assert "0.8765" in Page(SEARCH._repr_html_()).text
    assert "3 finished, 1 failed" in Page(SEARCH._repr_html_()).text
    assert "units7" in Page(OTHER._repr_html_()).text
    assert "maxlen" not in Page(OTHER._repr_html_()).text  # at its default
    assert "0.8765" in Page(CONFIRMATION._repr_html_()).text
    table = Page(COMPARISON._repr_html_()).text
    assert "units" in table  # in which they differ
    assert "maxlen" not in table


def test_many_rows_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = compare_searches([(SEARCH, [TRIAL] * 25)])
    assert "... and 5 more" in Page(compared._repr_html_()).text


def test_mlflow_has_a_page_of_this_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """The address is not documented: it stands in the code of MLflow's pages."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host")
    assert run_link(RUN).text.startswith(f'<a href="http://host/#/runs/{RUN}"')
    scripts = (Path(mlflow.__file__).parent / "server/js/build/static/js").glob("*.js")
    assert any('"/runs/:runUuid"' in path.read_text(encoding="utf-8") for path in scripts)
