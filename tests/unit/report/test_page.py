"""The page about a search: what it says, what it never holds, and figures that fit."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imdbtune import api
from imdbtune.config.hyperparameters import TrialParams
from imdbtune.errors import TrialFailed, UserError
from imdbtune.report import charts, figures, html_file, page
from imdbtune.report.effects import effect_data, spread_dots
from imdbtune.report.findings import compare_with_baseline, cost_data
from imdbtune.tracking import mlflow_names, ranking, reader
from imdbtune.tracking.entities import Baseline, Search, Trial
from imdbtune.training.confusion import Confusion
from imdbtune.training.length_groups import LengthGroup
from imdbtune.training.spec import TrialSpec
from tests.support import (
    Stub,
    assert_legible,
    isolate,
    make_config,
    no_room_beyond,
    run_search,
)

EVIL = '<script>alert("1")</script>&\'"><img src=x onerror=alert(1)>'


def made_trial(number: int, accuracy: float, params: TrialParams, **more: Any) -> Trial:
    metrics = {
        "best_val_accuracy": accuracy,
        "best_epoch": 2.0,
        "train_seconds": 5.0 + number * 7 % 50,
        "parameter_count": 1000.0 * params.units,
        **more.pop("metrics", {}),
    }
    values: dict[str, Any] = {"status": "FINISHED", "name": params.label, "tags": {}, **more}
    run_id = f"{number:032x}"
    return Trial(
        run_id=run_id,
        params=params,
        metrics=metrics,
        started_ms=0,
        ended_ms=number * 60_000,
        model_id=None,
        **values,
    )


def make_data(trials: Sequence[Trial], **tags: str) -> page.ReportData:
    known = {
        mlflow_names.DATA: "demo",
        mlflow_names.VALIDATION_REVIEWS: "5000",
        "imdbtune.tuner": "random",
        "imdbtune.seed": "0",
        "version.keras": "3.15.1",
    }
    search = Search("0" * 32, "mine", "FINISHED", "1", known | tags, {"search_seconds": 99.0}, 0)
    epochs = [
        {
            "epoch": float(n),
            "val_accuracy": 0.5 + n / 10,
            "val_loss": 0.5,
            "accuracy": 0.9,
            "loss": 0.1,
        }
        for n in (1, 2)
    ]
    ranked = ranking.rank(list(trials), larger_is_better=True)
    done = [t for t in ranked if t.status == "FINISHED"]
    histories, config = [(t.name, epochs) for t in done], "[space]\nunits = 4\n"
    return page.ReportData(search, ranked, histories, config, facts=known | tags)


def random_trials(count: int, **axes: Sequence[Any]) -> list[Trial]:
    """Trials that are drawn at random from ``axes``, as their accuracies are."""
    generator = np.random.default_rng(0)
    trials = []
    for number in range(1, count + 1):
        chosen = {name: values[generator.integers(len(values))] for name, values in axes.items()}
        params = TrialParams(**chosen)
        trials.append(made_trial(number, float(generator.uniform(0.6, 0.9)), params))
    return trials


FEW = random_trials(12, rnn=("simple_rnn", "lstm", "gru"), depth=(1, 2), units=(8, 16))
WIDE = random_trials(
    40,
    rnn=("simple_rnn", "lstm", "gru"),
    units=tuple(range(1, 2048, 97)),
    maxlen=tuple(range(1, 5000, 300)),
    learning_rate=tuple(10.0 ** -np.arange(1, 8)),
    dropout=tuple(np.linspace(0, 0.9, 10).tolist()),
    pooling=("last", "max", "mean", "max_mean"),
    bidirectional=(False, True),
    batch_size=(1, 8192),
)
MANY = random_trials(400, units=tuple(range(1, 401)), rnn=("lstm", "gru"))
ALIKE = [made_trial(n, 0.8, TrialParams(units=n + 1)) for n in range(3)]
ONE = [made_trial(1, 0.8765, TrialParams())]
CASES = {"few": FEW, "wide": WIDE, "many": MANY, "alike": ALIKE, "one": ONE}


@pytest.mark.parametrize("trials", CASES.values(), ids=CASES)
def test_every_figure_fits(trials: list[Trial]) -> None:
    drawn = page.draw_figures(make_data(trials))
    assert {"best_accuracy", "best_loss", "curves", "intervals", "train_seconds"} <= set(drawn)
    for each in drawn.values():
        assert_legible(each.figure)
        assert each.alt.endswith(".")


def with_linear(trials: Sequence[Trial], accuracy: float) -> page.ReportData:
    metrics = {"best_val_accuracy": accuracy, "train_seconds": 21.0}
    linear = Baseline("a", mlflow_names.LINEAR, "FINISHED", metrics)
    majority = Baseline("b", mlflow_names.MAJORITY, "FINISHED", {"best_val_accuracy": 0.505})
    data, known = make_data(trials), [linear, majority]
    compared = compare_with_baseline(known, data.finished, data.search.validation_reviews)
    return dataclasses.replace(data, baselines=known, linear=compared)


@pytest.mark.parametrize("trials", CASES.values(), ids=CASES)
def test_the_linear_model_is_a_dashed_line(
    trials: list[Trial], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The figures without it are not drawn: they take most of the time."""
    for others in ("_draw_costs", "_draw_effects"):
        monkeypatch.setattr(page, others, lambda *data: [])
    for accuracy in (0.2, 0.99):
        drawn = page.draw_figures(with_linear(trials, accuracy))
        for name, scale in (("curves", 1), ("progress", 100)):
            (axes,) = drawn[name].figure.axes
            (line,) = (line for line in axes.get_lines() if line.get_linestyle() == "--")
            assert set(line.get_ydata()) == {accuracy * scale}
            assert axes.get_ylim()[0] < accuracy * scale < axes.get_ylim()[1]
            assert_legible(drawn[name].figure)


def test_the_best_trial_is_shown_by_length_of_review() -> None:
    groups = (LengthGroup(12, 128, 1250, 0.91), LengthGroup(310, 2494, 1250, 0.86))
    data = dataclasses.replace(make_data(FEW), by_length=groups)
    shown = words(Page(page.render(data, {})).text)
    assert "12 to 128 1,250 91.0 % ± 1.6" in shown
    assert "310 to 2494 1,250 86.0 % ± 1.9" in shown
    assert "by length of review" not in page.render(make_data(FEW), {})


def test_the_best_trial_is_shown_by_label() -> None:
    confusion = Confusion(("art", "<b>"), ((30, 10), (0, 0)))
    page_of = page.render(dataclasses.replace(make_data(FEW), confusion=confusion), {})
    shown = words(Page(page_of).text)
    assert "art 40 75.0 % 59.8 to 85.8 % 100.0 % <b> (10)" in shown
    assert "<b> 0 – – 0.0 % –" in shown
    assert "Confusion matrix" not in page.render(make_data(FEW), {})


@pytest.mark.parametrize(
    ("accuracy", "said"),
    [(0.95, "It is beaten by"), (0.5, "It beats"), (0.876, "It does not differ significantly")],
)
def test_the_answer_begins_with_the_linear_model(accuracy: float, said: str) -> None:
    text = page.render(with_linear(ONE, accuracy), {})
    answer = text.partition('<p class="what">')[2]
    assert answer.index(said) < answer.index("Uncertainty:")
    assert (
        f"which reaches {accuracy * 100:.1f} % after 21 s of training: the best trial is" in answer
    )
    assert "label of the training reviews is right for 50.5 % of the validation reviews." in answer
    assert "linear model" not in rendered(ONE).text


def test_the_figures_of_a_search_over_a_space() -> None:
    drawn = page.draw_figures(make_data(WIDE))
    effects = {name for name in drawn if name.startswith("by_")}
    assert effects >= {"by_rnn", "by_units", "by_maxlen", "by_learning_rate", "by_bidirectional"}
    assert len(drawn["parallel"].figure.axes[0].get_xticks()) == charts.MAX_AXES
    assert "by_units" in page.draw_figures(make_data(ALIKE))
    assert not [name for name in page.draw_figures(make_data(ONE)) if name.startswith("by_")]


def test_an_effect_shows_every_trial_and_its_medians() -> None:
    effect = effect_data("rnn", FEW)
    axes = figures.draw_effect(effect, (0.5, 1.0)).axes[0]
    dots = [line for line in axes.get_lines() if line.get_marker() == "o" and len(line.get_xdata())]
    assert sum(len(line.get_ydata()) for line in dots) == len(FEW)
    bars = [line for line in axes.get_lines() if line.get_color() == figures.VERMILLION]
    heights = [line.get_ydata()[0] for line in bars if len(line.get_xdata())]
    assert heights == pytest.approx([group.median * 100 for group in effect.groups])
    assert [text.get_text() for text in axes.get_xticklabels()] == ["simple_rnn", "lstm", "gru"]


def test_dots_of_like_height_are_moved_apart() -> None:
    moved = spread_dots(np.array([80.0, 80.0, 80.0, 90.0]), (50.0, 100.0))
    assert len(set(moved[:3])) == 3
    assert moved[3] == 0
    assert abs(moved).max() <= 0.28


def test_the_front_is_labelled_by_rank() -> None:
    cost = cost_data(FEW, "train_seconds")
    figure = figures.draw_cost(cost, range(1, len(FEW) + 1))
    labels = {text.get_text() for text in figure.axes[0].texts}
    assert labels <= {f"#{index + 1}" for index in cost.front}
    assert f"#{cost.front[-1] + 1}" in labels


# The page.


class Page(HTMLParser):
    """What a page refers to, its text, its scripts, and whether its tags are closed."""

    VOID = ("meta", "img", "br", "link", "input", "hr")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.scripts: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self.text += " " if tag in ("td", "th", "p", "div") else ""

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["script"]:
            self.scripts.append(data)
        elif self.open[-1:] != ["style"]:
            self.text += data

    @property
    def charts(self) -> dict[str, Any]:
        """What its charts show; the other scripts are exactly those that its policy allows."""
        charts, *code = self.scripts
        assert code == [html_file.scripts().vega, html_file.scripts().page]
        assert len([tag for tag, _ in self.tags if tag == "script"]) == 3
        return dict(json.loads(charts))

    def values(self, tag: str, attribute: str) -> list[str]:
        return [
            attrs[attribute] or ""
            for name, attrs in self.tags
            if name == tag and attribute in attrs
        ]


def rendered(trials: Sequence[Trial], **tags: str) -> Page:
    """The page without its figures, which take a second."""
    return Page(page.render(make_data(trials, **tags), {}))


@pytest.fixture(scope="module")
def few() -> Page:
    data = make_data(FEW)
    return Page(page.render(data, page.draw_figures(data)))


def words(text: str) -> str:
    return " ".join(text.split())


def test_the_answer_comes_first(few: Page) -> None:
    best = max(FEW, key=lambda t: t.metrics["best_val_accuracy"])
    answer = words(few.text).partition("The best trials")[0]
    accuracy = f"{best.metrics['best_val_accuracy'] * 100:.1f} %"
    assert f"{best.name}: validation accuracy {accuracy}" in answer
    assert "n = 5,000 validation reviews" in answer
    assert "√(p(1−p)/n)" in answer


@pytest.mark.parametrize(
    ("evaluations", "expected"),
    [
        (0, "No model of this search has been evaluated on the test reviews: imdbtune best"),
        (2, "This model has not been evaluated on the test reviews: imdbtune best"),
    ],
)
def test_untouched_test_reviews_are_so(evaluations: int, expected: str) -> None:
    data = make_data(FEW)
    search = dataclasses.replace(
        data.search, metrics={mlflow_names.TEST_EVALUATIONS: float(evaluations)}
    )
    shown = words(Page(page.render(dataclasses.replace(data, search=search), {})).text)
    assert expected in shown
    assert ("2 models of this search have been evaluated" in shown) == bool(evaluations)


def test_the_page_needs_nothing_else(few: Page) -> None:
    assert {tag for tag, _ in few.tags} & {"link", "iframe", "object", "base"} == set()
    assert [list(attrs) for tag, attrs in few.tags if tag == "script"] == [
        ["type", "id"],
        [],
        ["type"],
    ]
    sources = few.values("img", "src")
    assert sources
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert all(few.values("img", "alt"))


def test_the_page_runs_no_other_scripts(few: Page) -> None:
    (policy,) = [value for value in few.values("meta", "content") if "default-src" in value]
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives["default-src"] == "'none'"
    digests = [hashlib.sha256(script.encode()).digest() for script in few.scripts[1:]]
    hashes = [f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests]
    assert directives["script-src"].split() == hashes  # no 'unsafe-eval'
    assert directives["img-src"] == "data:"
    assert set(few.charts) >= {"curves", "intervals", "axes", "scatters"}


def test_names_lead_to_the_tracking_server_if_there_is_one(few: Page) -> None:
    assert not [link for link in few.values("a", "href") if "/runs/" in link]
    assert "127.0.0.1" not in few.text
    assert f"imdbtune ui {'0' * 32}" in few.text
    served = Page(page.render(make_data(FEW), {}, ui="http://127.0.0.1:5000"))
    links = [link for link in served.values("a", "href") if "/runs/" in link]
    assert len(links) > len(FEW)
    known = {trial.run_id for trial in FEW} | {"0" * 32}
    for link in links:
        match = re.fullmatch(
            r"http://127\.0\.0\.1:5000/#/experiments/1/runs/(\w{32})\?workflowType=\w+", link
        )
        assert match
        assert match[1] in known


@pytest.mark.parametrize("data", ["demo", "npz", "imdb"])
def test_published_figures_stand_beside_imdb_only(data: str) -> None:
    tested = [made_trial(1, 0.88, TrialParams(), metrics={"test_accuracy": 0.8712})]
    text = words(rendered(tested, **{mlflow_names.DATA: data}).text)
    sources = ("Dai & Le 2015", "Maas et al. 2011", "Wang & Manning 2012", "92.76 %", "85.84 %")
    assert [source in text for source in sources] == [data == "imdb"] * 5
    assert text.count("87.12 %") == (2 if data == "imdb" else 1)


def test_nothing_of_others_becomes_html() -> None:
    tags = {
        "imdbtune.about": EVIL,
        "imdbtune.corpus": EVIL,
        "version.keras": EVIL,
        "version.x": EVIL,
    }
    failed = made_trial(
        9, 0.1, TrialParams(), status="FAILED", name=EVIL, tags={mlflow_names.REASON: EVIL}
    )
    good = [made_trial(n, 0.8 + n / 100, TrialParams(units=n), name=EVIL) for n in (1, 2)]
    data = make_data([*good, failed], **tags)
    search = Search(
        "0" * 32, EVIL, EVIL, EVIL, data.search.tags | {mlflow_names.REASON: EVIL}, {}, 0
    )
    data = page.ReportData(search, data.trials, data.histories, EVIL, facts=tags)
    evil = Page(page.render(data, page.draw_figures(data), ui=f"http://{EVIL}"))
    assert evil.charts["curves"]
    assert not [attrs for _, attrs in evil.tags if "onerror" in attrs]
    assert evil.text.count("<script>") > 8


def test_failures_are_told_with_their_reasons() -> None:
    lost = {"status": "FAILED", "tags": {mlflow_names.REASON: "loss became nan in epoch 1."}}
    bad = [made_trial(20 + n, 0.5, TrialParams(units=3), **lost) for n in range(12)]
    text = words(rendered([*FEW, *bad]).text)
    assert "12 failed loss became nan in epoch 1." in text
    assert "and 2 more" in text


def test_without_a_finished_trial_the_page_says_so() -> None:
    trials = [
        made_trial(1, 0.5, TrialParams(), status="FAILED", tags={mlflow_names.REASON: "lost."})
    ]
    text = words(rendered(trials).text)
    assert "No trial has finished" in text
    assert "lost." in text
    assert page.draw_figures(make_data(trials)) == {}


@pytest.mark.parametrize("tuner", ["hyperband", "bayesian"])
def test_the_page_warns_of_tuners_that_choose(tuner: str) -> None:
    text = words(rendered(FEW, **{"imdbtune.tuner": tuner}).text)
    assert ("Hyperband trains many" in text) == (tuner == "hyperband")
    assert ("read the effects as hints" in text) == (tuner == "bayesian")


# From a search.


def fail_one(spec: TrialSpec) -> None:
    if (spec.params.rnn, spec.params.units) == ("simple_rnn", 4):
        raise TrialFailed("loss became nan in epoch 1.")


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Search]:
    folder = tmp_path_factory.mktemp("searched")
    with pytest.MonkeyPatch.context() as patch:
        isolate(patch, folder)
        config = make_config(folder, tracking={"report": True})
        client, search = run_search(config, folder, trainer=Stub(fail_one))
    return folder, client, search


def test_a_search_ends_with_its_report(searched: tuple[Path, Any, Search]) -> None:
    _, client, search = searched
    paths = {artifact.path for artifact in client.list_artifacts(search.run_id, "figures")}
    assert {"figures/importance.png", "figures/by_rnn.png", "figures/parallel.png"} <= paths
    html = reader.read_text(client, search.run_id, "report.html")
    text = words(Page(html).text)
    assert "A search of 4 trials on the npz reviews, finished." in text
    assert "loss became nan in epoch 1." in text
    assert "report.html" in search.tags[mlflow_names.NOTE]


def test_the_same_report_is_written_to_a_file(searched: tuple[Path, Any, Search]) -> None:
    folder, client, search = searched
    out = folder / "report.html"
    for _ in range(2):  # an older report is replaced
        assert api.report(out=out, uri=client.tracking_uri).run_id == search.run_id
    assert "lstm" in Page(out.read_text(encoding="utf-8")).text


def test_a_report_without_room_leaves_the_older_one_whole(
    searched: tuple[Path, Any, Search],
) -> None:
    folder, client, _ = searched
    out = folder / "older.html"
    api.report(out=out, uri=client.tracking_uri)
    before = out.read_bytes()
    with no_room_beyond(len(before) // 2), pytest.raises(OSError, match=r"File too large.*older"):
        api.report(out=out, uri=client.tracking_uri)
    assert out.read_bytes() == before
    assert [p.name for p in folder.iterdir() if "older" in p.name] == ["older.html"]


@pytest.mark.parametrize(
    ("name", "said"),
    [("", "is a folder"), ("mlflow.db", "is not a report"), ("no/x.html", "there is no folder")],
)
def test_a_report_harms_no_other_file(
    name: str, said: str, searched: tuple[Path, Any, Search]
) -> None:
    folder, client, _ = searched
    before = (folder / "mlflow.db").stat().st_size
    with pytest.raises(UserError, match=said):
        api.report(out=folder / name, uri=client.tracking_uri)
    assert (folder / "mlflow.db").stat().st_size == before


@pytest.mark.parametrize(
    ("space", "says"),
    [
        ('rnn = ["simple_rnn", "lstm", "gru_v1"]\nunits = [8, 16, 99]', "rnn gru_v1; units 99"),
        ("units = [8, 16]", ""),
        ("unit = [8, 99]", ""),  # of a version that knew it
    ],
)
def test_the_page_names_values_that_were_never_tried(space: str, says: str) -> None:
    data = dataclasses.replace(make_data(FEW), config=f"[space]\n{space}\n")
    text = page.render(data, {})
    assert ("Never tried" in text) == bool(says)
    assert f"<b>Never tried:</b> {says}." in text or not says
