"""All reading from MLflow: searches, their trials, and the best of them."""

from __future__ import annotations

import dataclasses
import math
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from imdbtune.config.hyperparameters import PARAMETERS, TrialParams
from imdbtune.errors import Deleted, UserError, escape_control, short_repr
from imdbtune.tracking import writer
from imdbtune.tracking.sqlite_reader import SqliteRuns

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from imdbtune.training.spec import Epoch

    Runs: TypeAlias = MlflowClient | SqliteRuns


@dataclass(frozen=True)
class Trial:
    """One trial as MLflow has it."""

    run_id: str
    name: str
    status: str
    params: TrialParams
    metrics: dict[str, float]
    tags: dict[str, str]
    started_ms: int
    ended_ms: int | None
    model_id: str | None

    @property
    def trial_id(self) -> str:
        """The oracle's number of the trial; empty for a single training."""
        return self.tags.get(writer.TRIAL, "")

    @property
    def key(self) -> str:
        """What journal and outbox call its run."""
        return self.tags.get(writer.KEY) or self.run_id

    @property
    def objective(self) -> str:
        """What is optimised."""
        return self.tags.get(writer.OBJECTIVE, "val_accuracy")

    @property
    def attempt(self) -> int:
        """Which run of the trial it is, from 1."""
        told = self.tags.get(writer.ATTEMPT, "")
        return int(told) if told.isdecimal() else 1

    @property
    def score(self) -> float | None:
        """The objective, if the trial has come so far and it is a number."""
        return _finite(self.metrics.get(f"best_{self.objective}", math.nan))

    @property
    def reason(self) -> str:
        """Why it failed or was ended, if it was."""
        return self.tags.get(writer.REASON, "")


@dataclass(frozen=True)
class Baseline:
    """What a model without a recurrence reaches on the reviews of a search, as MLflow has it."""

    run_id: str
    which: str  # tracking.LINEAR or tracking.MAJORITY
    status: str
    metrics: dict[str, float]

    @property
    def accuracy(self) -> float | None:
        """On the validation reviews, if it has finished."""
        value = self.metrics.get("best_val_accuracy")
        return value if self.status == "FINISHED" else None


@dataclass(frozen=True)
class Search:
    """One search as MLflow has it."""

    run_id: str
    name: str
    status: str
    experiment_id: str
    tags: dict[str, str]
    metrics: dict[str, float]
    started_ms: int

    @property
    def objective(self) -> str:
        """What is optimised."""
        return self.tags.get(writer.OBJECTIVE, "val_accuracy")

    @property
    def larger_is_better(self) -> bool:
        """Direction of the objective."""
        return self.objective == "val_accuracy"

    @property
    def validation_reviews(self) -> int:
        """How many reviews validated each epoch; 0 where it is not known."""
        told = self.tags.get(writer.VALIDATION_REVIEWS, "")
        return int(told) if told.isascii() and told.isdigit() and len(told) < 12 else 0


def find_search(client: Runs, reference: str | None = None) -> Search:
    """The search with this run id or name (the newest of the name); without one, the last.

    Raises:
        UserError: there is none.
        Deleted: it is in MLflow's bin.
    """
    named = {writer.SEARCH: reference} if reference else {}
    found = _search_runs(client, {writer.KIND: "search", **named}, 1)
    if not found and reference and reference.isalnum():
        found = [run for run in _get_run(client, reference) if _kind(run) == "search"]
        for run in found:
            _check_not_deleted(run, "the search")
    if not found:
        what = f"no search {short_repr(reference)}" if reference else "no search yet"
        raise UserError(f"{what} in {_where(client)}; start one with imdbtune search.")
    return _as_search(found[0])


def read_searches(client: Runs, limit: int = 10_000) -> list[Search]:
    """Searches, the newest first."""
    runs = _search_runs(client, {writer.KIND: "search"}, limit)
    return [_as_search(run) for run in runs]


def find_confirmation(client: Runs, search: Search) -> Search | None:
    """The run whose trials are trainings that confirm a search, if there is one."""
    tags = {writer.KIND: "confirm", writer.CONFIRMS: search.run_id}
    found = _search_runs(client, tags, 1, [search.experiment_id])
    return _as_search(found[0]) if found else None


def read_trials(client: Runs, search: Search) -> list[Trial]:
    """The trials of a search: finished ones by score, then the others in order of start."""
    runs = _children(client, search, "trial")
    return rank([_as_trial(run) for run in runs], search.larger_is_better)


def read_baselines(client: Runs, search: Search) -> list[Baseline]:
    """What the trials of a search have to beat: each once, a finished run rather than another."""
    found: dict[str, Baseline] = {}
    for run in _children(client, search, "baseline"):
        which, status = run.data.tags.get(writer.BASELINE, ""), run.info.status
        if which not in found or (status == "FINISHED" != found[which].status):
            metrics = dict(run.data.metrics)
            found[which] = Baseline(run.info.run_id, which, status, metrics)
    return sorted(found.values(), key=lambda baseline: baseline.which)


def rank(trials: list[Trial], larger_is_better: bool) -> list[Trial]:
    """Finished trials from best to worst, equals in order of start; then all others."""
    sign = -1.0 if larger_is_better else 1.0

    def place(trial: Trial) -> tuple[bool, float, int, str]:
        done = trial.status == "FINISHED" and trial.score is not None
        return not done, sign * (trial.score or 0.0), trial.started_ms, trial.trial_id

    return sorted(trials, key=place)


def read_best(client: Runs, search: Search) -> Trial:
    """The finished trial with the best objective; never one that failed or is under way.

    Raises:
        UserError: no trial of the search has finished.
    """
    trials = read_trials(client, search)
    if not trials or trials[0].status != "FINISHED" or trials[0].score is None:
        states = ", ".join(f"{n} {s.lower()}" for s, n in sorted(count_states(trials).items()))
        raise UserError(
            f"no trial of search {search.name!r} has finished"
            f"{f' ({states})' if states else ''}; there is no best one yet."
        )
    return trials[0]


def failed_trials(trials: list[Trial]) -> list[Trial]:
    """The trials that have failed for good: not the attempts after which there was another."""
    last: dict[str, int] = {}
    for trial in trials:
        last[trial.trial_id] = max(trial.attempt, last.get(trial.trial_id, 0))
    return [t for t in trials if t.status == "FAILED" and t.attempt == last[t.trial_id]]


def count_states(trials: list[Trial]) -> dict[str, int]:
    """How many trials have each MLflow status."""
    counts: dict[str, int] = {}
    for trial in trials:
        counts[trial.status] = counts.get(trial.status, 0) + 1
    return counts


def read_run(client: MlflowClient, run_id: str) -> Trial:
    """One trial or single training by its run id.

    Raises:
        UserError: no such run, or not one of a model.
        Deleted: it is in MLflow's bin.
    """
    for run in _get_run(client, run_id):
        if _kind(run) in ("trial", "train"):
            _check_not_deleted(run, "the trial")
            return _as_trial(run)
    raise UserError(f"no trial with run id {short_repr(run_id)} in {_where(client)}.")


def deleted_keys(client: MlflowClient, search: Search) -> set[str]:
    """The keys of a search's trials that are in MLflow's bin."""
    runs = _children(client, search, "trial", deleted=True)
    return {run.data.tags.get(writer.KEY, run.info.run_id) for run in runs}


def find_run(client: MlflowClient, key: str) -> str | None:
    """The id of the run that had this key before it had an id, if it has been made."""
    found = _search_runs(client, {writer.KEY: key}, 1)
    return str(found[0].info.run_id) if found else None


def read_extra_params(client: MlflowClient, run_id: str) -> dict[str, str]:
    """What is logged among a run's parameters and is no hyperparameter, such as its epochs."""
    params = client.get_run(run_id).data.params
    return {name: value for name, value in params.items() if name not in PARAMETERS}


def check_not_deleted(client: MlflowClient, run_id: str, what: str) -> None:
    """Raise Deleted if a run, that of ``what``, is in MLflow's bin."""
    for run in _get_run(client, run_id):
        _check_not_deleted(run, what)


def _check_not_deleted(run: Any, what: str) -> None:
    if run.info.lifecycle_stage == "deleted":
        run_id = run.info.run_id
        raise Deleted(
            f"{what} (run {run_id}) was deleted in MLflow, and stays deleted; restore it with: "
            f"mlflow runs restore --run-id {run_id}"
        )


def is_deleted(client: MlflowClient, run_id: str) -> bool:
    """Whether a run is in MLflow's bin, or has gone from there."""
    from mlflow.exceptions import MlflowException

    try:
        return str(client.get_run(run_id).info.lifecycle_stage) == "deleted"
    except MlflowException as error:
        return str(error.error_code) == "RESOURCE_DOES_NOT_EXIST"


def run_exists(client: MlflowClient, run_id: str) -> bool:
    """Whether the store has a run of this id."""
    return bool(_get_run(client, run_id))


def read_history(
    client: Runs,
    run_id: str,
    names: Sequence[str] = writer.CURVES,
    execution: int = 0,
) -> list[Epoch]:
    """The metrics of each epoch of an execution (from 0), in order; each name costs a query."""
    prefix = f"execution_{execution + 1}/" if execution else ""
    epochs: dict[int, Epoch] = {}
    for name in names:
        for metric in client.get_metric_history(run_id, prefix + name):
            epochs.setdefault(metric.step, {"epoch": float(metric.step)})[name] = metric.value
    return [epochs[step] for step in sorted(epochs)]


def read_text(client: MlflowClient, run_id: str, artifact: str) -> str:
    """Return a text artifact of a run; empty where there is none, or it cannot be read."""
    try:
        return read_artifact(client, run_id, artifact).decode("utf-8")
    except (UserError, UnicodeDecodeError):
        return ""


def read_artifact(client: MlflowClient, run_id: str, artifact: str) -> bytes:
    """Return the content of an artifact of a run.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    from mlflow.exceptions import MlflowException

    try:
        with tempfile.TemporaryDirectory() as folder:
            return Path(client.download_artifacts(run_id, artifact, folder)).read_bytes()
    except (MlflowException, OSError) as error:
        raise UserError(str(error)) from error


def fetch_model(client: MlflowClient, trial: Trial, folder: Path) -> Path:
    """The trial's ``model.keras``, downloaded into ``folder``.

    Raises:
        UserError: the trial's model was not kept, or its file is gone.
    """
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    if trial.model_id is None:
        raise UserError(
            f"the model of {trial.name} (run {trial.run_id}) was not kept; {_remedy(client, trial)}"
        )
    try:
        model = client.get_logged_model(trial.model_id)
        source = f"{model.artifact_location}/data/model.keras"
        where = {"dst_path": str(folder), "tracking_uri": client.tracking_uri}
        return Path(download_artifacts(artifact_uri=source, **where))
    except (MlflowException, OSError) as error:
        raise UserError(
            f"the model file of {trial.name} (run {trial.run_id}) cannot be read: "
            f"{str(error).splitlines()[0]}"
        ) from error


def fetch_linear(client: MlflowClient, search: Search, folder: Path) -> Path:
    """The file of a search's linear model, downloaded into ``folder``.

    Raises:
        UserError: the search has none, or it cannot be read.
    """
    from mlflow.exceptions import MlflowException

    from imdbtune.models.nb_linear import MODEL

    for found in read_baselines(client, search):
        if found.which == writer.LINEAR and found.status == "FINISHED":
            try:
                return Path(client.download_artifacts(found.run_id, MODEL, str(folder)))
            except (MlflowException, OSError) as error:
                raise UserError(
                    f"the linear model of search {search.name!r} (run {found.run_id}) cannot be "
                    f"read: {str(error).splitlines()[0]}"
                ) from error
    raise UserError(
        f"search {search.name!r} has no linear model; take --refit, which trains one, or search "
        "again without --no-baseline."
    )


def _remedy(client: MlflowClient, trial: Trial) -> str:
    """How to get at a model that MLflow has not got."""
    for run in _get_run(client, trial.tags.get(writer.SEARCH_ID, "")):
        if run.info.status != "FINISHED" and run.data.params.get("tracking.keep_models") != "0":
            return (
                "the search has not come to its end, at which the best ones are: "
                f"imdbtune search --resume {run.info.run_id}"
            )
    return "search again with --keep-models all, or best."


def _search_runs(
    client: Runs,
    tags: Mapping[str, str],
    limit: int,
    experiments: list[str] | None = None,
    deleted: bool = False,
    status: str = "",
) -> list[Any]:
    """The runs with these tags, the newest first; see :meth:`SqliteRuns.find`."""
    if isinstance(client, SqliteRuns):
        return client.find(tags, limit, experiments, deleted, status)
    from mlflow.entities import ViewType

    if experiments is None:
        experiments = [e.experiment_id for e in _all(client.search_experiments, 100_000)]
    # MLflow's filters have no way to quote a quote.
    asked = {key: value for key, value in tags.items() if re.fullmatch(r"[\w ,.:+-]*", value)}
    conditions = [f"tags.`{key}` = '{value}'" for key, value in asked.items()]
    conditions += [f"attributes.status = '{status}'"] if status else []
    found = _all(
        client.search_runs,
        limit if asked == tags else 100_000,
        experiment_ids=experiments,
        filter_string=" and ".join(conditions),
        run_view_type=ViewType.DELETED_ONLY if deleted else ViewType.ACTIVE_ONLY,
        order_by=["attributes.start_time DESC"],
    )
    return [run for run in found if tags.items() <= run.data.tags.items()][:limit]


def _children(client: Runs, search: Search, kind: str, deleted: bool = False) -> list[Any]:
    """The runs of a kind that belong to a search, the newest first."""
    tags = {writer.SEARCH_ID: search.run_id, writer.KIND: kind}
    return _search_runs(client, tags, 100_000, [search.experiment_id], deleted)


def _all(fetch: Any, limit: int, **query: Any) -> list[Any]:
    """All pages of a paged MLflow query."""
    found: list[Any] = []
    token = None
    while len(found) < limit:
        page = fetch(**query, max_results=min(1000, limit - len(found)), page_token=token)
        found += page
        token = page.token
        if not token:
            break
    return found


def _get_run(client: Runs, run_id: str) -> list[Any]:
    if isinstance(client, SqliteRuns):
        return client.get(run_id)
    from mlflow.exceptions import MlflowException

    try:
        return [client.get_run(run_id)]
    except MlflowException:
        return []


def _kind(run: Any) -> str:
    return str(run.data.tags.get(writer.KIND, ""))


def _where(client: Runs) -> str:
    from imdbtune.tracking.connection import hide_secrets

    return hide_secrets(str(client.tracking_uri))


def _harmless_tags(run: Any) -> dict[str, str]:
    """Anyone who can write to the store can write what steers a terminal."""
    return {name: escape_control(value) for name, value in run.data.tags.items()}


def _as_search(run: Any) -> Search:
    return Search(
        run_id=run.info.run_id,
        name=escape_control(run.data.tags.get(writer.SEARCH, run.info.run_name)),
        status=run.info.status,
        experiment_id=run.info.experiment_id,
        tags=_harmless_tags(run),
        metrics=dict(run.data.metrics),
        started_ms=run.info.start_time,
    )


def _as_trial(run: Any) -> Trial:
    known = {k: v for k, v in run.data.params.items() if k in PARAMETERS}
    try:
        params = TrialParams.from_values(known)
    except UserError as error:
        raise UserError(
            f"run {run.info.run_id} cannot be read: {error} Delete that run in MLflow."
        ) from error
    outputs = run.outputs.model_outputs if run.outputs else []
    return Trial(
        run_id=run.info.run_id,
        name=escape_control(run.info.run_name),
        status=run.info.status,
        params=params,
        metrics=dict(run.data.metrics),
        tags=_harmless_tags(run),
        started_ms=run.info.start_time,
        ended_ms=run.info.end_time,
        model_id=outputs[0].model_id if outputs else None,
    )


def ensemble_tag(members: Sequence[Trial], linear: bool) -> str:
    """What an average is made of, as its tag says it."""
    return ",".join([member.run_id for member in members] + [writer.LINEAR] * linear)


def find_ensemble(client: MlflowClient, tag: str) -> Trial | None:
    """The finished average of exactly the models of an :func:`ensemble_tag`, if there is one."""
    found = _search_runs(client, {writer.ENSEMBLE_OF: tag}, 1, status="FINISHED")
    return _as_trial(found[0]) if found else None


def read_seeds(client: MlflowClient, trial: Trial) -> list[Trial]:
    """A training and those that confirmed the same configuration with other seeds."""
    confirms = trial.tags.get(writer.CONFIRMS, "")
    parent = trial.tags.get(writer.SEARCH_ID, "")
    if not (confirms.isalnum() and parent.isalnum()):
        return [trial]
    same = {writer.CONFIRMS: confirms, writer.SEARCH_ID: parent}
    runs = _search_runs(client, same, 10_000, status="FINISHED")
    return [_as_trial(run) for run in runs] or [trial]


def find_refit(client: MlflowClient, trial: Trial, seed: int) -> Trial | None:
    """The finished training of a trial's configuration on all reviews with this seed, if any."""
    for run in _search_runs(client, {writer.REFITS: trial.run_id}, 100, status="FINISHED"):
        if run.data.params.get("seed") == str(seed):
            return _as_trial(run)
    return None


def search_of(client: MlflowClient, trial: Trial) -> str:
    """The run id of the search that a trial belongs to; empty where there is none.

    A training that confirms a search, or was made out of one, belongs to it too.
    """
    parent = trial.tags.get(writer.OF_SEARCH) or trial.tags.get(writer.SEARCH_ID, "")
    for run in _get_run(client, parent) if parent.isalnum() else []:
        return str(run.data.tags.get(writer.CONFIRMS, parent))
    return ""


def as_row(trial: Trial) -> dict[str, Any]:
    """A trial as one flat row: name, status, parameters, metrics, start, reason, run id.

    A metric that is not a finite number, as those of a failed trial may be, is ``None``.
    """
    metrics = {k: _finite(v) for k, v in trial.metrics.items() if "/" not in k}
    return {
        "trial": trial.trial_id,
        "name": trial.name,
        "status": trial.status,
        **dataclasses.asdict(trial.params),
        **metrics,
        "started": _in_utc(trial.started_ms),
        "reason": trial.reason or None,
        "run_id": trial.run_id,
    }


def _finite(value: float) -> float | None:
    """The value, unless it is none; MLflow's SQL stores keep infinity as the largest number."""
    return value if abs(value) < sys.float_info.max else None


def _in_utc(milliseconds: int) -> str:
    moment = datetime.fromtimestamp(milliseconds / 1000, tz=UTC)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
