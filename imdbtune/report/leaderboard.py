"""Writes the page of a search in MLflow: the best trial, a ranking, all curves in one figure."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imdbtune.config.objectives import COSTS
from imdbtune.confirm import description, results
from imdbtune.confirm.entities import Confirmation
from imdbtune.models.metrics.metric import format_value
from imdbtune.report.against_linear import find_comparison
from imdbtune.report.effects import short_value
from imdbtune.report.findings import BaselineComparison, find_baseline
from imdbtune.report.page import log_report
from imdbtune.report.page_data import read_report_data
from imdbtune.tracking import mlflow_links, mlflow_names, writer
from imdbtune.tracking.entities import PARTIAL, PRUNED, Baseline, Search, Trial
from imdbtune.tracking.ranking import as_rows, failed_trials, find_front, outcome_columns
from imdbtune.tracking.reader import find_search, read_baselines, read_history, read_trials
from imdbtune.tracking.sqlite_reader import runs_of
from imdbtune.training import learning_curves

if TYPE_CHECKING:
    from imdbtune.tracking.connection import MlflowClient

ROWS_SHOWN = 30
CURVES_SHOWN = 200


def publish_page(
    client: MlflowClient,
    run_id: str,
    varied: Sequence[str],
    report: bool = False,
    final: bool = True,
) -> None:
    """Write the page of the search with this run id, as :func:`publish` does."""
    publish(client, find_search(runs_of(client), run_id), varied, final, report)


def publish(
    client: MlflowClient,
    search: Search,
    varied: Sequence[str],
    final: bool,
    report: bool = False,
) -> None:
    """Write the leaderboard to the parent run, from what MLflow has of the trials.

    Args:
        client: of the tracking store.
        search: the search.
        varied: the hyperparameters that the search varies, which become columns.
        final: also write the table as an artifact, and the figure with all curves.
        report: also write the report and its figures.
    """
    runs = runs_of(client)
    trials = read_trials(runs, search)
    run = writer.Run(client, search.run_id)
    done = [t for t in trials if t.can_win]
    counts = {
        "trials_finished": sum(t.has_result for t in trials),
        "trials_failed": len(failed_trials(trials)),
    }
    if pruned := sum(t.shown_status in (PRUNED, PARTIAL) for t in trials):
        counts["trials_pruned"] = pruned
    metrics = {name: float(value) for name, value in counts.items()}
    report = report and bool(done)
    baselines, confirmed = read_baselines(runs, search), results.read(runs, search)
    linear = find_comparison(runs, search, done, baselines, confirmed)
    tags = {mlflow_names.NOTE: markdown(search, trials, varied, report, linear, confirmed)}
    if done:
        metrics |= {k: v for k, v in done[0].metrics.items() if k.startswith("best_")}
        best = confirmed.winner.name if confirmed else done[0].name
        tags |= {
            mlflow_names.BEST: best,
            mlflow_names.BEST_RUN_ID: results.best_run_id(trials, confirmed),
        }
    run.log(metrics, tags=tags)
    for tag in (mlflow_names.BEST, mlflow_names.BEST_RUN_ID) if not done else ():
        if tag in search.tags:
            client.delete_tag(search.run_id, tag)
    if final and done:
        _log_table(client, search, trials)
        _log_curves(
            client, search, done[:CURVES_SHOWN], find_baseline(baselines, mlflow_names.LINEAR)
        )
    if report:
        ended = dataclasses.replace(search, status="FINISHED")  # its run is closed after this
        log_report(client, read_report_data(client, ended, trials))


def markdown(
    search: Search,
    trials: Sequence[Trial],
    varied: Sequence[str],
    report: bool = False,
    linear: BaselineComparison | None = None,
    confirmed: Confirmation | None = None,
) -> str:
    """Return the leaderboard as Markdown, each name a link to its run."""
    done = [t for t in trials if t.can_win]
    about = mlflow_links.as_text(search.tags.get(mlflow_names.ABOUT, ""))
    data = mlflow_links.as_text(search.tags.get(mlflow_names.DATA, "?"))
    facts = f"Data: {data}. {_states(trials)}"
    if not done:
        return "\n".join([*([about, ""] if about else []), facts, ""])
    # MLflow shows the first lines before the description is unfolded.
    answer = _answer(search, done, confirmed)
    answer += _against_linear(search, linear) if linear else ""
    lines = [f"{answer} {facts} {_links(search, report)}", "", *_table(search, done, varied)]
    if len(done) > ROWS_SHOWN:
        lines.append(f"\n... and {len(done) - ROWS_SHOWN} more: leaderboard.json")
    return "\n".join([*lines, *(["", about] if about else [])])


def _table(search: Search, done: Sequence[Trial], varied: Sequence[str]) -> list[str]:
    """Return the rows of the best trials, and the two lines of the table's head."""
    further = outcome_columns(search)[1:]
    columns = ["#", "trial", *varied, search.objective, *further, "epoch", "seconds"]
    rows = [columns, ["---"] * len(columns)]
    shown = list(zip(done, as_rows(search, done), strict=True))[:ROWS_SHOWN]
    for place, (trial, values) in enumerate(shown, start=1):
        name = mlflow_links.as_text(trial.name)
        rows.append(
            [
                str(place),
                f"[{name}]({mlflow_links.run_link(search, trial.run_id)})",
                *(short_value(trial.params.value(hyperparameter)) for hyperparameter in varied),
                _score(search, trial),
                *(_further(column, values[column]) for column in further),
                f"{trial.metrics.get('best_epoch', 0):.0f}",
                f"{trial.metrics.get('train_seconds', 0):.0f}",
            ]
        )
    return [f"| {' | '.join(row)} |" for row in rows]


def _further(column: str, value: object) -> str:
    """Return a value of a further objective, or the mark of a trial on the front."""
    if isinstance(value, bool):
        return "yes" if value else ""
    if not isinstance(value, float):
        return "-"
    return f"{value:,.0f}" if column in COSTS else format_value(column, value)


def _answer(search: Search, done: Sequence[Trial], confirmed: Confirmation | None) -> str:
    """Return the best trial: the one that ranks first, or what a confirmation recommends."""
    if confirmed is not None:
        link = mlflow_links.run_link(search, confirmed.run_id)
        name = mlflow_links.as_text(confirmed.winner.name)
        return f"**Best: [{name}]({link}), {description.describe(confirmed)}.**"
    first, front = done[0], find_front(search, done)
    link = f"[{mlflow_links.as_text(first.name)}]({mlflow_links.run_link(search, first.run_id)})"
    epoch = f" at epoch {first.metrics['best_epoch']:.0f}" if "best_epoch" in first.metrics else ""
    reason = f", {mlflow_links.as_text(front.reason)}" if front else ""
    return f"**Best: {link}, {search.objective} {_score(search, first)}{epoch}{reason}.**"


def _score(search: Search, trial: Trial) -> str:
    return format_value(search.objective, trial.metrics[f"best_{search.objective}"])


def _against_linear(search: Search, found: BaselineComparison) -> str:
    """Return how the best trial compares with the linear model, with a link to its run."""
    name, _, rest = str(found).partition(" reaches")
    return f" {name.capitalize()} [reaches]({mlflow_links.run_link(search, found.run_id)}){rest}."


def _links(search: Search, report: bool) -> str:
    """Return links to MLflow's pages about the search."""
    places = {
        "table of all trials": mlflow_links.table_link(search),
        "charts": mlflow_links.charts_link(search),
    }
    if report:
        places["report"] = mlflow_links.run_link(search, search.run_id, "report.html")
    return "Open " + ", ".join(f"[{name}]({address})" for name, address in places.items()) + "."


def _states(trials: Sequence[Trial]) -> str:
    names = {
        "FINISHED": "finished",
        PRUNED: "pruned",
        PARTIAL: "pruned before the last fold",
        "FAILED": "failed",
        "RUNNING": "running",
        "KILLED": "ended early",
        "DISCARDED": "discarded",
        "MISSED": "missed the requirement",
    }
    counts = {name: sum(t.shown_status == state for t in trials) for state, name in names.items()}
    text = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    return f"Trials: {text or 'none yet'}."


def _log_table(client: MlflowClient, search: Search, trials: Sequence[Trial]) -> None:
    """Log the table in the form of MLflow's ``log_table``, which would append to an old one."""
    rows, run_id = as_rows(search, trials), search.run_id
    columns = list(dict.fromkeys(name for row in rows for name in row))
    data = [[row.get(name) for name in columns] for row in rows]
    client.log_dict(run_id, {"columns": columns, "data": data}, "leaderboard.json")
    logged = [{"path": "leaderboard.json", "type": "table"}]
    client.set_tag(run_id, "mlflow.loggedArtifacts", json.dumps(logged))


def _log_curves(
    client: MlflowClient, search: Search, trials: Sequence[Trial], linear: Baseline | None
) -> None:
    runs, wanted = runs_of(client), (search.objective,)
    histories = [(trial.name, read_history(runs, trial.run_id, wanted)) for trial in trials]
    metric = search.objective.removeprefix("val_")
    level = linear.metrics.get(f"best_{search.objective}") if linear else None
    curves = learning_curves.leaderboard_curves_data(histories, metric, search.larger_is_better)
    figure = learning_curves.draw_all_curves(curves, search.name, linear=level)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"all_{search.objective}.png"
        learning_curves.save_png(figure, path)
        client.log_artifact(search.run_id, str(path))
