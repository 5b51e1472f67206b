"""Titles, axes and sentences of reports name the metric of the objective, not the accuracy."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from imdbtune.config.extensions import METRICS
from imdbtune.config.hyperparameters import TrialParams
from imdbtune.confirm.entities import Confirmation
from imdbtune.report import comparison_page, page
from imdbtune.report.charts import charts_of
from imdbtune.report.comparison import compare_searches
from imdbtune.report.findings import compare_with_baseline
from imdbtune.tracking import mlflow_names
from imdbtune.tracking.entities import Baseline, Trial
from tests.unit.report import test_comparison_page as of_searches
from tests.unit.report.test_page import FEW, Page, made_trial, make_data, words
from tests.unit.tracking.test_notebook_html import ROW

ACCURACY = re.compile(r"(?<!balanced )accurac", re.IGNORECASE)
OBJECTIVES = ["val_f1", "val_balanced_accuracy"]


def measured_by(objective: str, trial: Trial) -> Trial:
    """The trial, whose metric of the objective is what its accuracy was, which it lacks now."""
    own = {f"best_{objective}": trial.metrics["best_val_accuracy"], f"best_{objective}_error": 0.02}
    metrics = {k: v for k, v in trial.metrics.items() if k != "best_val_accuracy"} | own
    return replace(trial, metrics=metrics, tags={mlflow_names.OBJECTIVE: objective})


def data_of(objective: str, **tags: str) -> page.ReportData:
    """A report of trials that are measured by an objective, with a linear model."""
    trials = [measured_by(objective, trial) for trial in FEW]
    data = make_data(trials, **{mlflow_names.OBJECTIVE: objective}, **tags)
    metrics = {f"best_{objective}": 0.8, f"best_{objective}_error": 0.01, "best_val_accuracy": 0.7}
    linear = [Baseline("a", mlflow_names.LINEAR, "FINISHED", metrics)]
    found = compare_with_baseline(linear, data.finished, data.search.validation_reviews)
    histories = [
        (name, [{**row, objective: row["val_accuracy"]} for row in rows])
        for name, rows in data.histories
    ]
    return replace(data, baselines=linear, linear=found, histories=histories)


def texts(drawn: page.ReportFigure) -> str:
    """All that a figure says, and its alternative text."""
    figure = drawn.figure
    found = [drawn.alt, *(text.get_text() for text in figure.texts)]
    for axes in figure.axes:
        labels = (axes.get_title(), axes.get_xlabel(), axes.get_ylabel())
        found += [*labels, *(text.get_text() for text in axes.texts)]
    return "\n".join(found)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_figures_name_the_metric(objective: str) -> None:
    label = METRICS[objective.removeprefix("val_")].label
    drawn = page.draw_figures(data_of(objective))
    of_accuracy = drawn.pop("best_accuracy")
    assert ACCURACY.search(texts(of_accuracy))
    assert {"curves", "train_seconds", "progress", "importance", "by_rnn"} <= set(drawn)
    for name, each in drawn.items():
        assert not ACCURACY.search(texts(each)), name
        if name != "best_loss":
            assert label in texts(each), name
    title = drawn["train_seconds"].figure.axes[0].get_title()
    assert title == f"{label[0].upper()}{label[1:]} and training time"


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_interactive_charts_name_the_metric(objective: str) -> None:
    label = METRICS[objective.removeprefix("val_")].label
    charts = charts_of(data_of(objective))
    titles = [scatter.title for scatter in charts.scatters.values()]
    assert f"{label[0].upper()}{label[1:]} and weights of the model" in titles
    assert charts.axes[-1].name == f"{label} (%)"
    assert charts.label == f"validation {label} (%)"
    assert not [title for title in titles if ACCURACY.search(title)]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_page_names_the_metric(objective: str) -> None:
    label = METRICS[objective.removeprefix("val_")].label
    text = words(Page(page.render(data_of(objective), {})).text)
    assert f"validation {label} 8" in text
    assert f"# trial validation {label}" in text
    assert f"Validation {label} by value" in text
    assert re.search(rf"reaches a validation {label} of 80\.0 % .* points above it", text)
    assert not ACCURACY.search(text)


def test_published_accuracies_stand_beside_the_accuracy_of_the_best_trial() -> None:
    data = data_of("val_f1", **{mlflow_names.DATA: "imdb"})
    known = replace(data.finished[0], metrics=data.finished[0].metrics | {"best_val_accuracy": 0.7})
    text = words(Page(page.render(replace(data, trials=[known, *data.trials[1:]]), {})).text)
    table = text.partition("Comparison with published accuracies")[2]
    assert (
        "70.00 % 5,000 validation reviews none 1 this search, best of 12 trials by val_f1" in table
    )


@pytest.mark.parametrize(
    ("objective", "said"),
    [
        ("val_accuracy", "gru had the highest validation accuracy, 87.0 %"),
        ("val_loss", "lstm was the best by val_loss, with the validation accuracy 86.0 %"),
    ],
)
def test_only_the_best_by_the_accuracy_is_said_to_have_the_highest(
    objective: str, said: str
) -> None:
    tags = {mlflow_names.OBJECTIVE: objective}
    trials = [
        made_trial(
            number,
            accuracy,
            TrialParams(),
            name=name,
            tags=tags,
            metrics={"best_val_loss": 1 - accuracy},
        )
        for number, (name, accuracy) in enumerate((("gru", 0.87), ("lstm", 0.86)), start=1)
    ]
    trials[1].metrics["best_val_loss"] = 0.1
    data = make_data(trials, **tags)
    ranked = sorted(trials, key=lambda trial: trial.metrics["best_val_loss"])
    data = replace(data, trials=trials if objective == "val_accuracy" else ranked)
    confirmed = Confirmation("c" * 32, "0" * 32, 5000, 1, (ROW,), ROW.trial_run_id)
    text = words(Page(page.render(replace(data, confirmed=confirmed), {})).text)
    assert f"In the search, {said}" in text
    ranked_by = "Trials are ranked by val_loss, which is 0.1000 here."
    assert (ranked_by in text) == (objective == "val_loss")


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_reports_of_several_searches_name_the_metric(objective: str) -> None:
    label = METRICS[objective.removeprefix("val_")].label
    searches: list[Any] = []
    for search, trials in (of_searches.SHORT, of_searches.LONG):
        tagged = replace(search, tags=search.tags | {mlflow_names.OBJECTIVE: objective})
        done = [trial for trial in trials if "best_val_accuracy" in trial.metrics]
        searches.append((tagged, [measured_by(objective, trial) for trial in done]))
    compared = Page(comparison_page.render(compare_searches(searches)))
    assert f"validation {label} 85.0 %" in words(compared.text)
    assert not ACCURACY.search(compared.text)
    alts = [alt for alt in compared.values("img", "alt") if alt]
    assert len(alts) == 2
    assert all(label in alt.lower() or label in alt for alt in alts)
    by_search = compared.charts["scatters"]["by_search"]
    assert by_search["title"] == f"{label[0].upper()}{label[1:]} by search"
