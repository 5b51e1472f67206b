"""Writes the runs of searches and trials.

A search is a parent run, each of its trials a child run. The client is handed in: MLflow's, or an
:class:`imdbtune.tracking.outbox.Outbox` that delivers later.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from imdbtune.config.hyperparameters import TrialParams
from imdbtune.config.objectives import FOLDS_MEAN
from imdbtune.config.search_space import word
from imdbtune.errors import UserError, short_repr
from imdbtune.tracking import mlflow_names as names
from imdbtune.tracking import run_record
from imdbtune.tracking.connection import hide_secrets, redact_secrets
from imdbtune.tracking.history_files import write_history
from imdbtune.tracking.outbox import Outbox, now_ms
from imdbtune.tracking.own_models import values_tags

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Param
    from mlflow.entities import Run as MlflowRun

    from imdbtune.tracking.logged_models import OwnInput
    from imdbtune.training.spec import Epoch, TrialResult, TrialSpec

# Not on their trials.
_OF_SEARCHES = (names.ABOUT, names.TUNER, names.VALIDATION_REVIEWS, names.OBJECTIVES)


@dataclass(frozen=True)
class CorpusFacts:
    """The description of a corpus that MLflow stores, enough to find the corpus again."""

    name: str
    title: str
    digest: str
    source: str
    train_rows: int
    test_rows: int
    reading: Mapping[str, object] = field(default_factory=dict)


def common_tags(corpus: CorpusFacts, settings: Mapping[str, object]) -> dict[str, str]:
    """Return what is to be known of a run, by the names of tags: data, settings, versions, commit.

    :meth:`SearchRun.open` writes some as tags, and :func:`imdbtune.tracking.run_record.write` the
    others.
    """
    tags = {names.DATA: corpus.name, names.DIGEST: corpus.digest, names.CORPUS: corpus.source}
    if corpus.reading:
        tags[names.READING] = json.dumps(dict(corpus.reading))
    tags |= run_record.named(settings) | run_record.versions()
    commit = run_record.git_commit()
    return {**tags, names.GIT_COMMIT: commit} if commit else tags


def get_experiment(client: MlflowClient, name: str) -> str:
    """Return the id of the experiment with this name, which is created if need be."""
    from mlflow.exceptions import MlflowException

    for _ in range(2):
        found = client.get_experiment_by_name(name)
        if found is not None:
            if found.lifecycle_stage == "deleted":
                raise UserError(
                    f"experiment {name!r} was deleted in MLflow; restore it with "
                    f"mlflow experiments restore -x {found.experiment_id}, or name another one."
                )
            return str(found.experiment_id)
        try:
            # MLflow then opens with runs and charts, not with traces of language models.
            return str(
                client.create_experiment(
                    name, tags={names.EXPERIMENT_KIND: "custom_model_development"}
                )
            )
        except MlflowException as error:  # another process was first
            lost = error
    raise lost


def adopted_run(client: MlflowClient) -> MlflowRun | None:
    """Return the run that ``mlflow run`` started for this process, if any; only once.

    Raises:
        UserError: the store has no such run.
    """
    from mlflow.exceptions import MlflowException

    run_id = os.environ.pop("MLFLOW_RUN_ID", "")
    try:
        return client.get_run(run_id) if run_id else None
    except MlflowException as error:
        raise UserError(
            f"MLFLOW_RUN_ID names run {short_repr(run_id)}, which is not in "
            f"{hide_secrets(str(client.tracking_uri))}; unset it, or name its store."
        ) from error


def _params(values: Mapping[str, object]) -> list[Param]:
    from mlflow.entities import Param

    return [Param(name, word(value)) for name, value in values.items()]


@dataclass(frozen=True)
class Run:
    """One MLflow run to write to, at once or by way of an outbox."""

    client: MlflowClient | Outbox
    run_id: str

    def log(
        self,
        metrics: Mapping[str, float] | None = None,
        step: int = 0,
        params: Mapping[str, object] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Log metrics, parameters and tags in one request."""
        from mlflow.entities import Metric, RunTag

        now = now_ms()
        self.client.log_batch(
            self.run_id,
            metrics=[Metric(k, float(v), now, step) for k, v in (metrics or {}).items()],
            params=_params(params or {}),
            tags=[RunTag(k, v) for k, v in (tags or {}).items()],
        )

    def log_corpus(self, corpus: CorpusFacts) -> None:
        """Log the corpus as an MLflow data set, with this project's digest."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        rows = {"train_rows": corpus.train_rows, "test_rows": corpus.test_rows}
        data = Dataset(
            name=corpus.name,
            digest=corpus.digest[:16],
            source_type="local",
            source=json.dumps({"uri": corpus.source, **corpus.reading}),
            profile=json.dumps(rows),
        )
        tags = [InputTag("mlflow.data.context", "training")]
        self.client.log_inputs(self.run_id, [DatasetInput(data, tags)])

    def end(self, status: str, reason: str = "") -> None:
        """Close the run as FINISHED, FAILED or KILLED."""
        if reason:
            self.log(tags={names.REASON: redact_secrets(reason)[:500]})
        self.client.set_terminated(self.run_id, status=status)


class TrialRun(Run):
    """The run of one trial, written by the process that trains it."""

    def log_epoch(self, execution: int, epoch: Epoch) -> None:
        """Log one epoch's metrics at its step; executions after the first have a prefix.

        The mean over the folds so far is a curve by fold.
        """
        prefix = f"execution_{execution + 1}/" if execution else ""
        metrics = {name: value for name, value in epoch.items() if name != "epoch"}
        mean = metrics.pop(FOLDS_MEAN, None)
        values = {prefix + name: value for name, value in metrics.items()}
        self.log(values, step=int(epoch["epoch"]))
        if mean is not None:
            self.log({FOLDS_MEAN: mean}, step=execution + 1)

    def log_result(self, result: TrialResult, spec: TrialSpec) -> None:
        """Log the final metrics, the record, the history with its plots, and the correctness."""
        best, scores = result.best, result.scores
        spread = (
            {f"best_{spec.settings.measure}_std": statistics.stdev(scores)} if scores[1:] else {}
        )
        if result.folds[1:]:
            spread[names.folds_error_name(spec.settings.measure)] = result.standard_error
        self.log(
            {
                **{f"best_{n}": v for n, v in best.items() if n not in ("epoch", "seconds")},
                **{f"best_{name}": value for name, value in result.errors.items()},
                f"best_{spec.settings.measure}": result.score,
                **spread,
                "best_epoch": result.best_epoch,
                "epochs_run": len(result.history),
                "train_seconds": result.seconds,
                "parameter_count": result.parameter_count,
            },
        )
        self.client.log_artifacts(self.run_id, str(write_history(result, spec)))

    def log_model(self, path: Path, own: OwnInput | None = None) -> None:
        """Log a ``.keras`` file as an MLflow Keras model with its signature.

        Args:
            own: of a user's own model.
        """
        from imdbtune.tracking.logged_models import save_model

        folder = path.with_name("mlflow_model")
        shutil.rmtree(folder, ignore_errors=True)
        save_model(path, folder, own)
        self.client.log_model(self.run_id, folder)

    def prune(self, epoch: int) -> None:
        """Close the run as pruned after this epoch: KILLED, as MLflow has it of Optuna."""
        self.client.set_terminated(self.run_id, "KILLED", pruned_after=epoch)

    def fail(self, reason: str, traceback: str) -> None:
        """Close the run as FAILED, with the reason as a tag and the traceback as an artifact."""
        self.client.log_text(self.run_id, redact_secrets(traceback), "traceback.txt")
        self.end("FAILED", reason)


def count_test_evaluation(client: MlflowClient, search_id: str) -> None:
    """Add one to the number of models of a search that were evaluated on the test reviews.

    MLflow has no operation that adds: of two evaluations at the same moment one is counted.
    """
    count = client.get_run(search_id).data.metrics.get(names.TEST_EVALUATIONS, 0) + 1
    Run(client, search_id).log({names.TEST_EVALUATIONS: count}, step=int(count))


def warm_up() -> None:
    """Import what logging needs, which takes seconds in a new process."""
    import mlflow.entities  # noqa: F401


@dataclass(frozen=True)
class SearchRun(Run):
    """The parent run of a search, written by the driver."""

    experiment_id: str
    tags: dict[str, str]

    @classmethod
    def open(
        cls,
        client: MlflowClient,
        name: str,
        experiment: str,
        tags: dict[str, str],
        kind: str,
        key: str = "",
        folder: str = "",
    ) -> SearchRun:
        """Start a run, or adopt the one that ``mlflow run`` has started.

        Args:
            tags: from :func:`common_tags`; the trials share them.
            key: the name of the run before it has an id.
            folder: host and folder in which a search can be resumed.
        """
        adopted = adopted_run(client)
        own = {
            names.KIND: kind,
            names.SEARCH: name,
            **{k: v for k, v in tags.items() if run_record.is_tag(k)},
        }
        unshared = {names.KEY: key, **({names.FOLDER: folder} if folder else {})}
        if adopted is not None:
            run = cls(client, adopted.info.run_id, adopted.info.experiment_id, own)
            run.log(tags={**own, **unshared, "mlflow.runName": name})
        else:
            experiment_id = get_experiment(client, experiment)
            created = client.create_run(
                experiment_id, tags={**names.SOURCE, **own, **unshared}, run_name=name
            )
            run = cls(client, created.info.run_id, experiment_id, own)
        return run

    @classmethod
    def adopt(
        cls, client: MlflowClient, run_id: str, experiment_id: str, tags: Mapping[str, str]
    ) -> SearchRun:
        """Return an existing run of a search, with the tags that its trials share."""
        shared = {
            k: v for k, v in tags.items() if k.startswith("imdbtune.") and run_record.is_tag(k)
        }
        for own in (
            names.KIND,
            names.KEY,
            names.REASON,
            names.FOLDER,
            names.CLUSTER,
            names.BEST,
            names.BEST_RUN_ID,
        ):
            shared.pop(own, None)
        commit = run_record.git_commit()
        now = {names.GIT_COMMIT: commit} if commit else {}
        return cls(client, run_id, experiment_id, {**shared, **now})

    def start_trial(
        self, trial_id: str, params: TrialParams, extra: Mapping[str, object], attempt: int = 1
    ) -> str:
        """Start a child run for an attempt at a trial, with its parameters; return its run id."""
        own = {names.KIND: "trial", names.TRIAL: trial_id, names.ATTEMPT: str(attempt)}
        own |= values_tags(params)
        return self._start_child(params.label, own, {**params.as_dict(), **extra})

    def start_baseline(self, name: str, settings: Mapping[str, object]) -> str:
        """Start a child run for a baseline; return its run id."""
        own = {names.KIND: "baseline", names.BASELINE: name}
        return self._start_child(f"baseline-{name}", own, settings)

    def _start_child(self, name: str, own: Mapping[str, str], params: Mapping[str, object]) -> str:
        shared = {k: v for k, v in self.tags.items() if k not in _OF_SEARCHES}
        tags = {
            **shared,
            **own,
            names.SEARCH_ID: self.run_id,
            names.PARENT: self.run_id,
            **names.SOURCE,
        }
        created = self.client.create_run(self.experiment_id, tags=tags, run_name=name)
        Run(self.client, created.info.run_id).log(params=params)
        return str(created.info.run_id)

    def stop_trials(self, reason: str) -> None:
        """Close all running children as KILLED.

        The outbox knows them, so that this works while the store is away.
        """
        for key in self.client.open_runs():
            if key != self.run_id:
                Run(self.client, key).end("KILLED", reason)
