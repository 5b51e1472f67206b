"""Trainings that are runs of their own: a single model, a reproduction, a model on all reviews."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from imdbtune.cluster.trial_job import Trainer, TrialFailure, TrialJob, run_trial
from imdbtune.config.own_code import NO_CODE, OwnCode
from imdbtune.config.schema import SearchConfig
from imdbtune.errors import SearchAborted, UserError
from imdbtune.search import trusted_sources
from imdbtune.search.context import Context
from imdbtune.search.crash_recovery import recover_crashed_runs
from imdbtune.search.events import TrainingOpened
from imdbtune.search.parent_run import OF_TRIALS, settings_tags
from imdbtune.search.plan import open_reviews
from imdbtune.search.recorded import ChainedTrainer, make_specs, read_stage, read_stages
from imdbtune.search.workspace import TRAINING, Workspace, create_workspace
from imdbtune.tracking import mlflow_names, own_models, reader, run_record, writer
from imdbtune.tracking.background_delivery import BackgroundDelivery, deliver_in_background
from imdbtune.tracking.connection import connect, resolve_uri
from imdbtune.tracking.entities import Trial
from imdbtune.tracking.trial_corpus import corpus_facts
from imdbtune.training.spec import TrainingSettings, TrialSpec

if TYPE_CHECKING:
    from imdbtune.data.corpus import Corpus
    from imdbtune.tracking.connection import MlflowClient

MAX_NAME = 250  # characters of a run's name


@dataclass(frozen=True)
class TrackedTraining:
    """A training to be tracked as a run of its own.

    Args:
        name: of the run; a long one is cut.
        experiment: its name.
        tags: of the run.
        facts: describe the corpus in MLflow.
        make_spec: returns what is trained, and by what, for the folder of its files.
        code: of the user's own, to be logged.
        system_metrics: whether to log the use of the machine.
    """

    name: str
    experiment: str
    tags: Mapping[str, str]
    corpus: Corpus
    facts: writer.CorpusFacts
    make_spec: Callable[[Path], tuple[TrialSpec, Trainer | None]]
    code: OwnCode = NO_CODE
    system_metrics: bool = False


def train_tracked(client: MlflowClient, training: TrackedTraining, context: Context) -> Trial:
    """Train in this process, as a new run; close the run also after an error.

    Raises:
        SearchAborted: the training failed.
    """
    with _open_run(client, training, context) as (run, workspace):
        context.set_environment()
        spec, trainer = training.make_spec(workspace.folder / "trial")
        delivery = BackgroundDelivery(client, workspace.outbox, run.run_id, None, context.notify)
        with deliver_in_background(delivery):
            settings = spec.settings
            logged: dict[str, object] = {"seed": settings.seed, "epochs": settings.epochs}
            if settings.schedule_epochs:
                logged["schedule_epochs"] = settings.schedule_epochs
            buffered = replace(run, client=workspace.outbox)
            tags = own_models.values_tags(spec.params)
            buffered.log(params={**spec.params.as_dict(), **logged}, tags=tags)
            about = (spec.params, settings.epochs, training.corpus, settings.objective)
            context.listener(TrainingOpened(run.run_id, *about))
            job = TrialJob(
                "",
                spec,
                workspace.outbox,
                run.run_id,
                trainer=trainer,
                system_metrics=training.system_metrics,
            )
            outcome = run_trial(job, context.listener)
            if isinstance(outcome, TrialFailure):
                raise SearchAborted(f"the training failed: {outcome.reason}")
    return reader.read_run(client, run.run_id)


@contextmanager
def _open_run(
    client: MlflowClient, training: TrackedTraining, context: Context
) -> Iterator[tuple[writer.SearchRun, Workspace]]:
    """Yield a new run and its workspace, which is deleted once all is delivered."""
    recover_crashed_runs(client, context.workspaces, context.notify)
    name, store = training.name[:MAX_NAME], str(client.tracking_uri)
    with create_workspace(context.workspaces, name, store, TRAINING) as (prepared, key):
        # Before the run is created and open:
        tags = dict(training.tags)
        writer.Run(prepared.outbox, key).log_corpus(training.facts)
        own_models.log_code(prepared.outbox, key, training.code)
        tags |= run_record.named(own_models.code_tags(training.code))
        run_record.write(prepared.outbox, key, tags)
        prepared.outbox.sync(key)
        run = writer.SearchRun.open(client, name, training.experiment, tags, "train", key)
        workspace = prepared.renamed(run.run_id)
        try:
            yield run, workspace
        finally:
            if workspace.outbox.is_empty():
                workspace.discard()


def train_single(config: SearchConfig, context: Context) -> Trial:
    """Train the only configuration of a space.

    Raises:
        UserError: the space has several configurations, or data or store cannot be used.
        SearchAborted: the training failed.
    """
    params = config.space.single()
    if params is None:
        names = ", ".join(d.name for d in config.space.searched)
        raise UserError(
            f"{config.name} leaves {names} open; set each to one value, or run imdbtune search."
        )
    store = resolve_uri(context.uri or config.tracking.uri)
    corpus = open_reviews(config, context)
    settings = TrainingSettings.of(config)
    client = connect(store, context.notify)
    facts = corpus_facts(corpus, config.data.source)
    of_trials = [name for name in OF_TRIALS if name != "epochs"]
    code = config.own_code
    training = TrackedTraining(
        config.name,
        config.tracking.experiment,
        writer.common_tags(facts, settings_tags(settings, *of_trials)),
        corpus,
        facts,
        lambda folder: (
            TrialSpec(params, corpus.folder, folder, settings, code=code),
            context.trainer,
        ),
        code,
        config.tracking.system_metrics,
    )
    trusted_sources.remember(context.workspaces, code.sources)
    return train_tracked(client, training, context)


def train_again(client: MlflowClient, run_id: str, context: Context) -> tuple[Trial, Trial]:
    """Train a finished run again from its record in MLflow, as a new run.

    A Hyperband trial that continues another is trained from the beginning of the first, a pruned
    trial until the epoch in which it was pruned.

    Returns:
        The original and the new run.

    Raises:
        UserError: no such run, it has not finished, or its reviews are missing.
        SearchAborted: the training failed.
    """
    stages = read_stages(client, run_id)
    original, settings = stages[-1].trial, stages[-1].settings
    code = trusted_sources.find_code(client, original, context)
    corpus, facts = context.open_trial_corpus(original)

    def make_spec(folder: Path) -> tuple[TrialSpec, Trainer | None]:
        *before, spec = make_specs(stages, corpus.folder, folder, code)
        return spec, ChainedTrainer(before, context.trainer, original.pruned_after)

    training = TrackedTraining(
        f"reproduce-{original.name}",
        reader.experiment_name(client, run_id),
        writer.common_tags(facts, {**settings_tags(settings), "reproduces": run_id}),
        corpus,
        facts,
        make_spec,
        code,
    )
    return original, train_tracked(client, training, context)


def train_on_all_reviews(
    client: MlflowClient, trial: Trial, context: Context, seed: int | None = None
) -> Trial:
    """Train a trial's configuration on all training reviews, for its best number of epochs.

    An existing run of the same training is returned instead of a new one.

    Args:
        seed: random seed; default: that of the trial.

    Raises:
        UserError: the trial has not finished, or its reviews are missing.
        SearchAborted: the training failed.
    """
    recorded = read_stage(client, trial).settings
    chosen = recorded.seed if seed is None else seed
    known = reader.find_refit(client, trial, chosen)
    if known is not None:
        return known
    settings = replace(
        recorded,
        seed=chosen,
        executions=1,
        folds=0,
        fold_seed=0,
        epochs=reader.mean_best_epoch(client, trial),
        schedule_epochs=recorded.schedule_epochs or recorded.epochs,
        initial_epoch=0,
        patience=0,
        hold_out=False,
        keep_best=True,
    )
    code = trusted_sources.find_code(client, trial, context)
    corpus, facts = context.open_trial_corpus(trial)
    logged = settings_tags(settings, "epochs", "seed", "schedule_epochs", "validation_share")
    tags = writer.common_tags(facts, logged) | {mlflow_names.REFITS: trial.run_id}
    training = TrackedTraining(
        f"refit-{trial.name}",
        reader.experiment_name(client, trial.run_id),
        tags | {mlflow_names.OF_SEARCH: reader.search_of(client, trial)},
        corpus,
        facts,
        lambda folder: (
            TrialSpec(trial.params, corpus.folder, folder, settings, code=code),
            context.trainer,
        ),
        code,
    )
    return train_tracked(client, training, context)
