"""Results of a confirmation: the best configurations trained again, compared and logged."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from imdbtune.config.objectives import statistic_of
from imdbtune.confirm.description import markdown, method
from imdbtune.confirm.entities import Confirmation, Confirmed
from imdbtune.errors import UserError
from imdbtune.tracking import mlflow_names, reader, writer
from imdbtune.tracking.entities import Search, Trial
from imdbtune.tracking.predictions import gains_file, read_gains
from imdbtune.tracking.ranking import Front, find_front
from imdbtune.tracking.sqlite_reader import open_runs, runs_of

if TYPE_CHECKING:
    from imdbtune.confirm.rule import Rule
    from imdbtune.confirm.significance import Ranking, Repeats
    from imdbtune.tracking.connection import MlflowClient
    from imdbtune.tracking.sqlite_reader import Runs
    from imdbtune.training.spec import Gains

RESULT_FILE = "confirmation.json"


def read_confirmation(search: Search, uri: str = "") -> Confirmation | None:
    """Return the confirmation of a search, or ``None`` if the search was not confirmed."""
    if mlflow_names.CONFIRMED_BY not in search.tags:
        return None
    return read(open_runs(uri), search)


def read_front(search: Search, uri: str = "") -> Front | None:
    """Return the Pareto front of a search, its winner and why it is that.

    ``None`` if the search has one objective, or no trial that can win.
    """
    return find_front(search, reader.read_trials(open_runs(uri), search))


def best_trial(runs: Runs, search: Search) -> Trial:
    """Return the best trial of a search; if it was confirmed, the best of the recommended ones.

    Raises:
        UserError: none of its trials has finished.
    """
    confirmed = read(runs, search)
    if confirmed is not None:
        return reader.read_run(runs, confirmed.winner.run_ids[0])
    return reader.read_best(runs, search)


def best_run_id(trials: Sequence[Trial], confirmed: Confirmation | None) -> str:
    """Return the run of the best of these ranked trials, or of a confirmation; empty: none."""
    if confirmed is not None:
        return confirmed.winner.run_ids[0]
    return trials[0].run_id if trials and trials[0].can_win else ""


def read(runs: Runs, search: Search) -> Confirmation | None:
    """Return the confirmation of a search.

    Configurations whose trials were discarded or deleted are left out. ``None`` if there is none
    that can be read, or all trainings of the recommended configuration were deleted in MLflow.
    """
    run_id = search.tags.get(mlflow_names.CONFIRMED_BY, "")
    if not run_id.isalnum():
        return None
    try:
        plain = json.loads(reader.read_text(runs, run_id, RESULT_FILE))
        confirmation = Confirmation.from_dict(plain)
    except (ValueError, TypeError, KeyError):
        return None
    trials = reader.read_trials(runs, search)
    remaining = _with_trials(confirmation, trials)
    if remaining is None:
        return None
    winner = remaining.winner
    kept = [each for each in winner.run_ids if not reader.is_deleted(runs, each)]
    if not kept:
        return None
    rows = [
        dataclasses.replace(row, run_ids=tuple(kept)) if row is winner else row
        for row in remaining.rows
    ]
    newer = _count_newer(remaining, trials)
    return dataclasses.replace(remaining, rows=tuple(rows), newer=newer)


def _with_trials(confirmation: Confirmation, trials: Sequence[Trial]) -> Confirmation | None:
    """Return the confirmation of the configurations whose trials may be chosen, if any.

    Those whose trials were discarded or deleted may not. The tests were against the first
    configuration: without it, none of the others is known to be worse than the new first one,
    until the search is confirmed again.
    """
    chosen_from = {trial.run_id for trial in trials if trial.can_win}
    rows = [row for row in confirmation.rows if row.trial_run_id in chosen_from]
    if not rows:
        return None
    if rows[0] is not confirmation.rows[0]:
        untested = [(row, rows[0].mean - row.mean) for row in rows]
        rows = [dataclasses.replace(r, difference=d, p=1.0, alike=True) for r, d in untested]
        confirmation = dataclasses.replace(confirmation, is_shown=False, undecided=())
    known = {row.trial_run_id for row in rows}
    recommended = confirmation.recommended
    recommended = recommended if recommended in known else rows[0].trial_run_id
    return dataclasses.replace(confirmation, rows=tuple(rows), recommended=recommended)


def _count_newer(confirmation: Confirmation, trials: Sequence[Trial]) -> int:
    """Return how many of these ranked trials are above a confirmed one and were not confirmed.

    The confirmed configurations were the best of the search, so these have ended since then.
    Repetitions of a confirmed configuration do not count.
    """
    confirmed_ids = {row.trial_run_id for row in confirmation.rows}
    confirmed = [trial for trial in trials if trial.run_id in confirmed_ids]
    known = {trial.params for trial in confirmed}
    if not confirmed:
        return 0
    above = trials[: trials.index(confirmed[-1])]
    return len({trial.params for trial in above if trial.params not in known})


def read_finished_runs(
    client: MlflowClient, run: Search, needed: str
) -> dict[str, dict[int, Trial]]:
    """Return the finished trainings of a confirmation, by the trial's run id and by seed.

    Those whose results by review are gone from MLflow do not count, and so are trained again.

    Args:
        needed: the artifact with these results.
    """
    found: dict[str, dict[int, Trial]] = {}
    for trial in reader.read_trials(client, run):
        seed = trial.settings.get("seed", "")
        confirmed = trial.tags.get(mlflow_names.CONFIRMS, "")
        if trial.status != "FINISHED" or not (seed.isdecimal() and confirmed):
            continue
        if any(file.path == needed for file in client.list_artifacts(trial.run_id)):
            found.setdefault(confirmed, {})[int(seed)] = trial
    return found


def compare_and_log(client: MlflowClient, search: Search, run: Search, rule: Rule) -> Confirmation:
    """Compare all trainings of a confirmation; log the result on its run and the search's run.

    Raises:
        UserError: none of them has finished.
    """
    from imdbtune.confirm.significance import rank_configurations

    trainings = read_finished_runs(client, run, gains_file(search))
    runs = runs_of(client)
    trials = reader.read_trials(runs, search)
    originals = {t.run_id: t for t in trials if t.run_id in trainings and not t.is_discarded}
    repeated = dict(_read_repeats(runs, search, trainings, originals))
    if not repeated:
        raise UserError(
            f"no training of the confirmation of search {search.name!r} has finished; see the "
            f"reasons in run {run.run_id}."
        )
    ranking = rank_configurations(list(repeated.values()), rule)
    rows = _rows(ranking, trainings, originals, search)
    metric, measured = statistic_of(search.objective), ranking.order[0].values.shape[1]
    confirmation = Confirmation(
        search.run_id,
        run.run_id,
        reviews=measured if metric == "accuracy" else search.validation_reviews or measured,
        seeds=min(len(each.values) for each in ranking.order),
        rows=tuple(rows),
        recommended=ranking.recommended,
        rule=rule,
        is_shown=ranking.is_shown,
        undecided=ranking.undecided,
        more_seeds=ranking.more_seeds,
        metric=metric,
    )
    _log(client, confirmation)
    return confirmation


def _read_repeats(
    runs: Runs,
    search: Search,
    trainings: Mapping[str, Mapping[int, Trial]],
    known: Mapping[str, Trial],
) -> Iterator[tuple[str, Repeats]]:
    import numpy as np

    from imdbtune.confirm.significance import Repeats

    for run_id, by_seed in trainings.items():
        gains = [_read_gains(runs, t.run_id, search) for _, t in sorted(by_seed.items())]
        if run_id in known:
            cost = _cost(search, list(by_seed.values()))
            yield run_id, Repeats(run_id, np.stack(gains), cost)


def _cost(search: Search, trainings: Sequence[Trial]) -> float:
    """Return by what the cheapest is chosen: the second objective, if there is one, or seconds."""
    if not search.objectives[1:]:
        return _seconds(trainings)
    name = search.objectives[1]
    sign = -1.0 if search.is_maximised(name) else 1.0
    values = [sign * trial.measured[name] for trial in trainings if name in trial.measured]
    return statistics.median(values or [math.inf])


def _seconds(trainings: Sequence[Trial]) -> float:
    return statistics.median(t.metrics.get("train_seconds", math.inf) for t in trainings)


def _read_gains(runs: Runs, run_id: str, search: Search) -> Gains:
    """Return the results by review of a training's last epoch.

    Raises:
        UserError: the artifact is missing or invalid.
    """
    try:
        return read_gains(runs, run_id, search)
    except UserError as error:
        raise UserError(
            f"{error}; delete that run in MLflow and run imdbtune confirm again."
        ) from error


def _rows(
    ranking: Ranking,
    trainings: Mapping[str, Mapping[int, Trial]],
    originals: Mapping[str, Trial],
    search: Search,
) -> Iterator[Confirmed]:
    differences = {each.name: each for each in ranking.differences}
    metric = statistic_of(search.objective)
    searched, tested = f"best_val_{metric}", f"test_{metric}"
    sign = 1.0 if metric == "accuracy" or search.larger_is_better else -1.0
    for repeats, interval in zip(ranking.order, ranking.intervals, strict=True):
        runs = sorted(
            trainings[repeats.name].values(),
            key=lambda t: -sign * t.metrics.get(searched, math.nan),
        )
        found = differences.get(repeats.name)
        on_test = [t.metrics[tested] for t in runs if tested in t.metrics]
        yield Confirmed(
            name=originals[repeats.name].name,
            trial_run_id=repeats.name,
            run_ids=tuple(t.run_id for t in runs),
            mean=sign * repeats.mean,
            spread=repeats.spread,
            half_seeds=interval.seeds,
            half_reviews=interval.reviews,
            half_width=interval.both,
            seconds=_seconds(runs),
            parameter_count=runs[0].metrics.get("parameter_count", math.nan),
            difference=sign * found.difference if found else 0.0,
            p=found.p if found else 1.0,
            alike=not (found and found.is_significant),
            searched=originals[repeats.name].metrics.get(searched, math.nan),
            test_mean=statistics.fmean(on_test) if on_test else math.nan,
            test_spread=statistics.stdev(on_test) if len(on_test) > 1 else math.nan,
        )


def _log(client: MlflowClient, confirmation: Confirmation) -> None:
    plain = {**confirmation.as_dict(), "method": method(confirmation)}
    client.log_dict(confirmation.run_id, plain, RESULT_FILE)
    writer.Run(client, confirmation.run_id).log(
        {
            "confirmed_mean": confirmation.winner.mean,
            "confirmed_half_width": confirmation.winner.half_width,
        },
        tags={
            mlflow_names.NOTE: markdown(confirmation.rows, confirmation),
            "imdbtune.recommended": confirmation.recommended,
        },
    )
    writer.Run(client, confirmation.search_id).log(
        tags={mlflow_names.CONFIRMED_BY: confirmation.run_id}
    )
    for row in confirmation.rows:
        spread = {} if math.isnan(row.spread) else {"confirmed_std": row.spread}
        counts = {"confirmed_seeds": float(len(row.run_ids))}
        writer.Run(client, row.trial_run_id).log(
            {f"confirmed_val_{confirmation.metric}": row.mean, **spread, **counts}
        )
