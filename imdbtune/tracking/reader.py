"""Reads searches, their trials and their files from MLflow."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imdbtune.errors import Deleted, NotInStore, UserError, short_repr
from imdbtune.tracking import mlflow_names
from imdbtune.tracking.connection import connect_existing, hide_secrets
from imdbtune.tracking.entities import (
    Baseline,
    Search,
    Trial,
    as_search,
    as_trial,
)
from imdbtune.tracking.ranking import count_states, rank_trials
from imdbtune.tracking.run_queries import find_runs, runs_by_id
from imdbtune.tracking.sqlite_reader import SqliteRuns

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from imdbtune.tracking.sqlite_reader import Runs, StoredRun
    from imdbtune.training.spec import Epoch


def find_search(client: Runs, reference: str | None = None) -> Search:
    """Return the search with this run id or name (the newest of the name); by default the last.

    Raises:
        NotInStore: there is no such search.
        Deleted: it was deleted in MLflow.
    """
    named = {mlflow_names.SEARCH: reference} if reference else {}
    found = find_runs(client, {mlflow_names.KIND: "search", **named}, 1)
    if not found and reference and reference.isalnum():
        found = [run for run in runs_by_id(client, reference) if _kind(run) == "search"]
    if not found and reference:
        found = find_runs(client, {mlflow_names.KIND: "search", **named}, 1, deleted=True)
    for run in found:
        _check_not_deleted(run, "the search")
    if not found:
        what = f"no search {short_repr(reference)}" if reference else "no search yet"
        where = f"in {_store_name(client)}; start one with imdbtune search."
        raise NotInStore(f"{what} {where}", reference or "")
    return as_search(found[0])


def find_searches(client: Runs, references: Iterable[str]) -> list[Search]:
    """Return the searches of these names or run ids, without repetitions; default: the last one.

    Raises:
        UserError: there is no such search.
    """
    refs: list[str | None] = list(references) or [None]
    found = (find_search(client, ref) for ref in refs)
    return list({search.run_id: search for search in found}.values())


def read_searches(client: Runs, limit: int = 10_000) -> list[Search]:
    """Return the searches, the newest first."""
    runs = find_runs(client, {mlflow_names.KIND: "search"}, limit)
    return [as_search(run) for run in runs]


def find_confirmation(client: Runs, search: Search) -> Search | None:
    """Return the run whose children are the trainings that confirm a search, if there is one."""
    tags = {mlflow_names.KIND: "confirm", mlflow_names.CONFIRMS: search.run_id}
    found = find_runs(client, tags, 1, [search.experiment_id])
    return as_search(found[0]) if found else None


def read_trials(client: Runs, search: Search) -> list[Trial]:
    """Return the trials of a search: the winner, other finished ones by score, then the others."""
    runs = _children(client, search, "trial")
    return rank_trials(search, [as_trial(run) for run in runs])


def read_all_trials(client: Runs) -> dict[str, list[Trial]]:
    """Return the trials of all searches by the run id of their search, in one query."""
    found: dict[str, list[Trial]] = {}
    for run in find_runs(client, {mlflow_names.KIND: "trial"}, 1_000_000):
        found.setdefault(run.data.tags.get(mlflow_names.SEARCH_ID, ""), []).append(as_trial(run))
    return found


def read_baselines(client: Runs, search: Search) -> list[Baseline]:
    """Return the baselines of a search: one run of each, a finished one if there is one."""
    found: dict[str, Baseline] = {}
    for run in _children(client, search, "baseline"):
        which, status = run.data.tags.get(mlflow_names.BASELINE, ""), run.info.status
        if which not in found or (status == "FINISHED" != found[which].status):
            metrics = dict(run.data.metrics)
            found[which] = Baseline(run.info.run_id, which, status, metrics)
    return sorted(found.values(), key=lambda baseline: baseline.name)


def read_best(client: Runs, search: Search) -> Trial:
    """Return the winner of a search; raise UserError without one."""
    trials = read_trials(client, search)
    if not trials or not trials[0].can_win:
        if missed := sum(bool(trial.misses) for trial in trials):
            raise UserError(
                f"none of the {missed} finished trials of search {search.name!r} meets --require "
                f"{search.tags.get(mlflow_names.REQUIRE, '')}; there is no best one."
            )
        states = ", ".join(f"{n} {s.lower()}" for s, n in sorted(count_states(trials).items()))
        raise UserError(
            f"no trial of search {search.name!r} has finished"
            f"{f' ({states})' if states else ''}; there is no best one yet."
        )
    return trials[0]


def read_run(client: Runs, run_id: str) -> Trial:
    """Return the trial or single training with this run id.

    Raises:
        UserError: there is no such run, or it is of another kind.
        Deleted: it was deleted in MLflow.
    """
    for run in runs_by_id(client, run_id):
        if _kind(run) in ("trial", "train"):
            _check_not_deleted(run, "the trial")
            return as_trial(run)
    raise UserError(f"no trial with run id {short_repr(run_id)} in {_store_name(client)}.")


def deleted_keys(client: MlflowClient, search: Search) -> set[str]:
    """Return the keys of a search's trials that were deleted in MLflow."""
    runs = _children(client, search, "trial", deleted=True)
    return {run.data.tags.get(mlflow_names.KEY, run.info.run_id) for run in runs}


def find_run(client: MlflowClient, key: str) -> str | None:
    """Return the id of the run that was created under this key, if there is one."""
    found = find_runs(client, {mlflow_names.KEY: key}, 1)
    return str(found[0].info.run_id) if found else None


def check_not_deleted(client: MlflowClient, run_id: str, what: str) -> None:
    """Raise Deleted if a run, which the message calls ``what``, was deleted in MLflow."""
    for run in runs_by_id(client, run_id):
        _check_not_deleted(run, what)


def _check_not_deleted(run: StoredRun, what: str) -> None:
    if run.info.lifecycle_stage == "deleted":
        run_id = run.info.run_id
        search_id = run.data.tags.get(mlflow_names.DELETED_WITH, "")
        remedy = (
            f"imdbtune delete {search_id} --undo"
            if search_id.isalnum()
            else f"mlflow runs restore --run-id {run_id}"
        )
        raise Deleted(
            f"{what} (run {run_id}) was deleted in MLflow, and stays deleted; restore it with: "
            f"{remedy}"
        )


def is_deleted(client: Runs, run_id: str) -> bool:
    """Return whether a run was deleted in MLflow, for good or not."""
    if isinstance(client, SqliteRuns):
        return all(run.info.lifecycle_stage == "deleted" for run in client.get(run_id))
    from mlflow.exceptions import MlflowException

    try:
        return str(client.get_run(run_id).info.lifecycle_stage) == "deleted"
    except MlflowException as error:
        return str(error.error_code) == "RESOURCE_DOES_NOT_EXIST"


def run_exists(client: MlflowClient, run_id: str) -> bool:
    """Return whether the store has a run with this id."""
    return bool(runs_by_id(client, run_id))


def read_history(
    client: Runs,
    run_id: str,
    names: Sequence[str] = mlflow_names.CURVES,
    execution: int = 0,
) -> list[Epoch]:
    """Return the metrics of each epoch of an execution (from 0); each name costs a query."""
    prefix = f"execution_{execution + 1}/" if execution else ""
    epochs: dict[int, Epoch] = {}
    for name in names:
        for metric in client.get_metric_history(run_id, prefix + name):
            epochs.setdefault(metric.step, {"epoch": float(metric.step)})[name] = metric.value
    return [epochs[step] for step in sorted(epochs)]


def read_text(client: Runs, run_id: str, artifact: str) -> str:
    """Return a text artifact of a run; empty where there is none, or it cannot be read."""
    try:
        return read_artifact(client, run_id, artifact).decode("utf-8")
    except (UserError, UnicodeDecodeError):
        return ""


def read_artifact(client: Runs, run_id: str, artifact: str) -> bytes:
    """Return the content of an artifact of a run.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    from mlflow.exceptions import MlflowException

    try:
        if isinstance(client, SqliteRuns):
            path = client.artifact(run_id, artifact)
            if path is not None:
                return path.read_bytes()
            client = connect_existing(client.tracking_uri, reading=True)
        with tempfile.TemporaryDirectory() as folder:
            return Path(client.download_artifacts(run_id, artifact, folder)).read_bytes()
    except (MlflowException, OSError) as error:
        raise UserError(str(error)) from error


def _children(client: Runs, search: Search, kind: str, deleted: bool = False) -> list[StoredRun]:
    """Return the runs of a kind that belong to a search, the newest first."""
    tags = {mlflow_names.SEARCH_ID: search.run_id, mlflow_names.KIND: kind}
    return find_runs(client, tags, 100_000, [search.experiment_id], deleted)


def _kind(run: StoredRun) -> str:
    return str(run.data.tags.get(mlflow_names.KIND, ""))


def _store_name(client: Runs) -> str:
    return hide_secrets(str(client.tracking_uri))


def ensemble_tag(members: Sequence[Trial], linear: bool) -> str:
    """Return the value of the tag that names the members of an ensemble."""
    return ",".join([member.run_id for member in members] + [mlflow_names.LINEAR] * linear)


def find_ensemble(client: MlflowClient, members: Sequence[Trial], linear: bool) -> Trial | None:
    """Return the finished ensemble of exactly these members, if any.

    Earlier versions mixed a linear model without fitted weights, which is another ensemble.
    """
    from imdbtune.models.mix_weights import from_metrics

    tags = {mlflow_names.ENSEMBLE_OF: ensemble_tag(members, linear)}
    found = [as_trial(run) for run in find_runs(client, tags, 100, status="FINISHED")]
    return next((run for run in found if bool(from_metrics(run.metrics)) == linear), None)


def read_seeds(client: MlflowClient, trial: Trial) -> list[Trial]:
    """Return the trainings of a trial's configuration with all of its seeds."""
    confirms = trial.tags.get(mlflow_names.CONFIRMS, "")
    parent = trial.tags.get(mlflow_names.SEARCH_ID, "")
    if not (confirms.isalnum() and parent.isalnum()):
        return [trial]
    same = {mlflow_names.CONFIRMS: confirms, mlflow_names.SEARCH_ID: parent}
    runs = find_runs(client, same, 10_000, status="FINISHED")
    return [as_trial(run) for run in runs] or [trial]


def find_refit(client: MlflowClient, trial: Trial, seed: int) -> Trial | None:
    """Return the finished training of a trial's configuration on all reviews with this seed."""
    for run in find_runs(client, {mlflow_names.REFITS: trial.run_id}, 100, status="FINISHED"):
        if run.data.params.get("seed") == str(seed):
            return as_trial(run)
    return None


def search_of(client: MlflowClient, trial: Trial) -> str:
    """Return the run id of the search that a trial belongs to; empty where there is none.

    A training that confirms a search, or was derived from one, belongs to it too.
    """
    parent = trial.tags.get(mlflow_names.OF_SEARCH) or trial.tags.get(mlflow_names.SEARCH_ID, "")
    for run in runs_by_id(client, parent) if parent.isalnum() else []:
        return str(run.data.tags.get(mlflow_names.CONFIRMS, parent))
    return ""


def experiment_name(client: MlflowClient, run_id: str) -> str:
    """Return the name of a run's experiment."""
    return str(client.get_experiment(client.get_run(run_id).info.experiment_id).name)


def mean_best_epoch(client: MlflowClient, trial: Trial) -> int:
    """Return the best epoch of a configuration: the mean over seeds if it was confirmed."""
    epochs = [t.metrics.get("best_epoch", 1.0) for t in read_seeds(client, trial)]
    return max(1, round(statistics.fmean(epochs)))
