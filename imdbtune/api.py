"""The Python API: one function for each command; they raise, and never print or exit."""

from __future__ import annotations

import json
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w

from imdbtune.cluster.executor import Executor
from imdbtune.cluster.local_executor import (
    await_workers,
    cpu_count,
    open_local_executor,
    training_environment,
)
from imdbtune.cluster.trial_job import (
    EpochEnded,
    Report,
    Trainer,
    TrialFailure,
    TrialJob,
    run_trial,
)
from imdbtune.cluster.worker_pool import WorkerPool, check_artifacts, check_store, open_worker_pool
from imdbtune.config.hyperparameters import convert
from imdbtune.config.schema import DataConfig, SearchConfig, parse_config
from imdbtune.data.download import Progress
from imdbtune.data.sources import check_source, default_cache, open_corpus, place_of
from imdbtune.errors import SearchAborted, UserError, quote_path, short_repr
from imdbtune.files import is_disk_full, replace_text
from imdbtune.report.comparison import Comparison, compare_searches
from imdbtune.search.crash_recovery import recover_crashed_runs
from imdbtune.search.resume import (
    CRASHED,
    Agreement,
    changed_config,
    journal_limits,
    reconcile,
    stored_config,
)
from imdbtune.search.sync import SyncResult, sync_folder
from imdbtune.search.workspace import (
    TRAINING,
    Workspace,
    create_workspace,
    open_workspace,
    workspace_of,
)
from imdbtune.tracking import reader, writer
from imdbtune.tracking.background_delivery import BackgroundDelivery, deliver_in_background
from imdbtune.tracking.connection import connect, connect_existing, resolve_uri
from imdbtune.tracking.mlflow_server import PORT, MlflowServer, run_page, serve
from imdbtune.tracking.reader import Baseline, Search, Trial
from imdbtune.tracking.sqlite_reader import open_runs, runs_of
from imdbtune.training.spec import TrialSpec

if TYPE_CHECKING:
    from imdbtune.confirm.reproduction import Reproduction
    from imdbtune.confirm.results import Confirmation
    from imdbtune.confirm.runs import RepeatedRuns, TrainingRequest
    from imdbtune.data.corpus import Corpus
    from imdbtune.doctor import Check
    from imdbtune.export.occlusion import Explanation
    from imdbtune.export.predictor import Prediction, Predictor
    from imdbtune.search.driver import Driver
    from imdbtune.search.estimate import Estimate
    from imdbtune.tracking.connection import MlflowClient
    from imdbtune.tracking.model_registry import Version
    from imdbtune.tracking.outbox import Outbox

Listener = Callable[[str, dict[str, Any]], None]


def _no_op_listener(kind: str, facts: dict[str, Any]) -> None:
    """No-op listener."""


@dataclass(frozen=True)
class Plan:
    """A resolved search, before anything is created."""

    config: SearchConfig
    store: str  # URI of the tracking store
    workers: int
    size: int | None  # number of configurations in the space; None: infinite
    reading: Mapping[str, Any]  # columns of a table of reviews
    cluster: str = ""  # address of a Dask scheduler; empty: processes of this machine


def plan(config: SearchConfig, workers: int | None = None) -> Plan:
    """Resolve all that a configuration leaves open, without creating anything."""
    reading = check_source(config.data.source, config.data)
    count = cpu_count() if workers is None else workers
    resolved = Plan(config, resolve_uri(config.tracking.uri), count, config.space.size(), reading)
    if config.cluster.is_local:
        return resolved
    check_store(resolved.store, config.cluster.address)
    return replace(resolved, workers=0, cluster=config.cluster.address)


def corpus_facts(corpus: Corpus, source: str) -> writer.CorpusFacts:
    """Return what is logged about a corpus."""
    return writer.CorpusFacts(
        corpus.name,
        corpus.title,
        corpus.digest,
        place_of(source, corpus),
        len(corpus.train),
        len(corpus.test),
        corpus.reading,
    )


def estimate(
    config: SearchConfig,
    *,
    workers: int | None = None,
    cache: Path | None = None,
    listener: Listener = _no_op_listener,
) -> Estimate:
    """Estimate the duration of a search on this machine from a few timed steps; log nothing.

    Raises:
        UserError: the data cannot be used.
        SearchAborted: the steps failed.
    """
    resolved = plan(config, workers)
    _set_environment(cache)
    return _estimate(resolved, _open_corpus(config.data, cache, listener), listener)


def _estimate(resolved: Plan, corpus: Corpus, listener: Listener) -> Estimate:
    from imdbtune.search import estimate

    if resolved.cluster:
        raise UserError(
            "--estimate times steps on this machine and cannot estimate the workers of "
            f"{resolved.cluster}; omit --estimate or --cluster."
        )
    listener("notice", {"text": "timing some steps of the fastest and the slowest trial ..."})
    estimated = estimate.estimate(resolved.config, corpus, resolved.workers)
    listener("notice", {"text": f"estimated: {estimate.in_words(estimated)}"})
    return estimated


def search(
    config: SearchConfig,
    *,
    workers: int | None = None,
    cluster: str = "",
    cache: Path | None = None,
    folder: Path | None = None,
    listener: Listener = _no_op_listener,
    trainer: Trainer | None = None,
    estimated: bool = False,
) -> Search:
    """Run a search to its end and return it as logged in MLflow.

    Args:
        config: from :func:`imdbtune.config.schema.load_config`.
        workers: number of processes, each with one thread; ``None``: one per core; 0: train in
            this process.
        cluster: address of a Dask scheduler whose workers run the trials, or ``local``; default:
            that of the configuration.
        cache: folder of downloaded and converted corpora.
        folder: folder of the workspaces of searches; default ``.imdbtune`` in the working
            directory.
        listener: called with the events ``download``, ``notice``, ``opened``, ``started``,
            ``epoch``, ``retried``, ``ended``, ``exhausted``, ``baseline``, ``waiting``; of a
            resumed search also ``resumed``.
        trainer: replaces :func:`imdbtune.training.trainer.train_trial`.
        estimated: estimate the duration first, and log the estimate.

    Raises:
        UserError: the data, the tracking store or the cluster cannot be used.
        SearchAborted: too many trials failed, or the cluster was lost.
        KeyboardInterrupt: after the runs were closed as KILLED.
    """
    config = _with_cluster(config, cluster)
    resolved = plan(config, workers)
    environment = _start_environment(resolved.workers, cache)
    corpus = _open_corpus(config.data, cache, listener)
    client = connect(resolved.store, _notice_sender(listener))
    facts = corpus_facts(corpus, config.data.source)
    seconds = _estimate(resolved, corpus, listener).seconds if estimated else 0.0
    base = _search_folder(folder)
    recover_crashed_runs(client, base, _notice_sender(listener))
    with (
        _open_cluster(resolved, client, corpus, listener) as pool,
        create_workspace(base, config.name, resolved.store) as (prepared, key),
    ):
        _log_configuration(writer.Run(prepared.outbox, key), config, facts)
        if seconds:
            writer.Run(prepared.outbox, key).log({writer.ESTIMATED: seconds})
        parent = _open_search(client, config, facts, key, _folder_tag(base))
        workspace = prepared.renamed(parent.run_id)
        return _run_search(
            resolved, client, parent, workspace, corpus, listener, trainer, environment, pool
        )


def _with_cluster(config: SearchConfig, cluster: str) -> SearchConfig:
    return parse_config(config.as_dict(), {"cluster.address": cluster}) if cluster else config


@contextmanager
def _open_cluster(
    resolved: Plan, client: MlflowClient, corpus: Corpus, listener: Listener
) -> Iterator[WorkerPool | None]:
    """Yield the worker pool of a plan with a cluster, after checking all workers."""
    if not resolved.cluster:
        yield None
        return
    experiment = resolved.config.tracking.experiment
    check_artifacts(client, writer.get_experiment(client, experiment))
    with open_worker_pool(
        resolved.cluster, resolved.store, corpus.digest, _notice_sender(listener)
    ) as cluster:
        yield cluster


def _start_environment(workers: int, cache: Path | None) -> dict[str, str]:
    """Set and return the environment of trainings; let worker processes start importing."""
    from imdbtune.cluster import forkserver

    environment = _set_environment(cache)
    if workers:
        forkserver.begin(environment)
    return environment


def resume(
    search_ref: str | None = None,
    overrides: Mapping[str, object] = {},
    *,
    uri: str = "",
    workers: int | None = None,
    cluster: str = "",
    cache: Path | None = None,
    folder: Path | None = None,
    listener: Listener = _no_op_listener,
    trainer: Trainer | None = None,
) -> Search:
    """Resume an interrupted or crashed search, or extend a finished one.

    Finished trials stay as they are. Trials that were running are closed as KILLED and run again,
    as new runs with the same trial numbers. The listener gets the discrepancies found by
    :func:`imdbtune.search.resume.reconcile` as ``notice``, and the state as ``resumed``.

    Args:
        search_ref: run id or name; ``None``: the last search.
        overrides: ``tuner.max_trials``, ``tuner.max_minutes`` (from now), ``tuner.trial_timeout``
            and ``tuner.retries`` may be changed permanently; all else must be unchanged.
        uri: the tracking store.

    The other arguments are those of :func:`search`.

    Raises:
        UserError: no such search, its journal is missing, or the configuration differs.
        SearchAborted: another process is running it, or the journal is damaged.
    """
    from imdbtune.report.leaderboard import publish_page

    client = connect_existing(uri, _notice_sender(listener))
    base = _search_folder(folder)
    recover_crashed_runs(client, base, _notice_sender(listener))
    found = reader.find_search(client, search_ref)
    workspace = workspace_of(base, found.run_id)
    _check_journal_exists(client, found, workspace)
    with workspace.locked():
        await_workers(workspace.folder)
        parent = writer.SearchRun.adopt(client, found.run_id, found.experiment_id, found.tags)
        replace(parent, client=workspace.outbox).stop_trials(CRASHED)
        notify = _notice_sender(listener)
        BackgroundDelivery(
            client, workspace.outbox, found.run_id, None, notify, publish=publish_page
        ).finish()
        before = stored_config(client, found)
        where = {"tracking.uri": str(client.tracking_uri)}
        config = changed_config(before, workspace.journal, {**overrides, **where})
        config = _with_cluster(config, cluster)
        resolved = plan(config, workers)
        environment = _start_environment(resolved.workers, cache)
        corpus = _open_corpus(config.data, cache, listener)
        check_corpus(corpus, found.tags, found.name)
        with _open_cluster(resolved, client, corpus, listener) as pool:
            agreed = reconcile(client, found, workspace.journal, config.tuner.retries)
            journal_limits(workspace.journal, before, config)
            workspace.outbox.reopen(parent.run_id)
            return _run_search(
                resolved,
                client,
                parent,
                workspace,
                corpus,
                listener,
                trainer,
                environment,
                pool,
                agreed,
            )


def _open_corpus(data: DataConfig, cache: Path | None, listener: Listener) -> Corpus:
    """Open the corpus; the listener gets notices and the progress of downloads."""

    def progress(name: str, done: int, total: int) -> None:
        listener("download", {"name": name, "done": done, "total": total})

    folder = cache or default_cache()
    return open_corpus(data.source, folder, _notice_sender(listener), progress, config=data)


def _set_environment(cache: Path | None) -> dict[str, str]:
    """Set and return the variables that TensorFlow reads when it is imported."""
    environment = training_environment(cache or default_cache())
    os.environ.update(environment)
    return environment


def _search_folder(folder: Path | None) -> Path:
    """Return the folder with the workspaces of all searches."""
    return (folder or Path(".imdbtune")).absolute()


def _folder_tag(base: Path) -> str:
    return f"{socket.gethostname()}:{base}"


def _check_journal_exists(client: MlflowClient, found: Search, workspace: Workspace) -> None:
    """Raise UserError if the search was started elsewhere, or its journal is missing."""
    if workspace.journal.path.exists():
        return
    if workspace.folder.exists() and not reader.read_trials(client, found):
        return
    place, here = found.tags.get(writer.FOLDER, ""), _folder_tag(workspace.folder.parent)
    where = "the folder where it was started" if place in ("", here) else place
    raise UserError(
        f"search {found.name!r} cannot be resumed here: its journal "
        f"{workspace.journal.path} is missing; "
        f"run this command in {where}, or start a new search."
    )


def _notice_sender(listener: Listener) -> Callable[[str], None]:
    return lambda text: listener("notice", {"text": text})


def _epoch_reporter(listener: Listener) -> Report:
    def report(event: EpochEnded) -> None:
        facts = {"trial_id": event.trial_id, "execution": event.execution, **event.metrics}
        listener("epoch", facts)

    return report


def _with_run_ids(listener: Listener, outbox: Outbox) -> Listener:
    """Return a listener that gets MLflow's run id of an ended trial, if delivered already."""

    def add_run_id(kind: str, facts: dict[str, Any]) -> None:
        if kind in ("ended", "retried"):
            facts = {**facts, "run_id": outbox.delivered(facts["run_id"]).run_id}
        listener(kind, facts)

    return add_run_id


def _run_search(
    resolved: Plan,
    client: MlflowClient,
    parent: writer.SearchRun,
    workspace: Workspace,
    corpus: Corpus,
    listener: Listener,
    trainer: Trainer | None,
    environment: Mapping[str, str],
    pool: WorkerPool | None,
    agreed: Agreement | None = None,
) -> Search:
    """Run the remaining trials and end the search; ``agreed``: state of a resumed search."""
    from imdbtune.report.leaderboard import publish_page
    from imdbtune.search.driver import Driver
    from imdbtune.search.keras_tuner_samplers import make_sampler
    from imdbtune.tracking import artifact_transfer

    config = resolved.config
    sampler = make_sampler(config)
    found = reader.find_search(client, parent.run_id)
    varied = [d.name for d in config.space.searched] or ["rnn"]
    report = config.tracking.report
    notify = _notice_sender(listener)
    delivery = BackgroundDelivery(
        client, workspace.outbox, parent.run_id, varied, notify, report, publish_page
    )
    listener = _with_run_ids(listener, workspace.outbox)
    travels = pool is not None or writer.CLUSTER in found.tags
    if pool is not None:
        resolved = replace(resolved, workers=len(pool.usable()))
    with deliver_in_background(delivery, found.metrics.get("search_seconds", 0.0)):
        facts = {"search": found, "plan": resolved, "corpus": corpus, "folder": workspace.folder}
        listener("opened", facts)
        if pool is not None:
            tags = {writer.CLUSTER: pool.address}
            writer.Run(workspace.outbox, parent.run_id).log(tags=tags)
        driver = Driver(
            config=config,
            sampler=sampler,
            search=replace(parent, client=workspace.outbox),
            journal=workspace.journal,
            corpus=corpus.folder,
            facts=corpus_facts(corpus, config.data.source),
            folder=workspace.folder,
            listener=listener,
            clock=time.monotonic,
            trainer=trainer,
            remote=pool is not None,
        )
        if travels:
            driver.download = partial(
                artifact_transfer.download_if_missing, client, workspace.outbox
            )
        if agreed is not None:
            for text in agreed.notices():
                listener("notice", {"text": text})
            driver.restore(agreed.events, agreed.unjournaled, agreed.lost)
            listener("resumed", driver.progress_summary())
        known = reader.read_baselines(client, found) if agreed is not None else []
        finished = [baseline.name for baseline in known if baseline.status == "FINISHED"]
        workers = _open_executor(resolved, environment, driver, client, corpus, pool)
        _run_trials(driver, workers, _train_baselines(config, driver, corpus, finished))
        if agreed is not None and not driver.started:
            listener("notice", {"text": driver.explain_nothing_to_train()})
    if travels:
        artifact_transfer.delete_leftovers(client, found, kept=driver.has_leftover_files())
    return reader.find_search(client, parent.run_id)


def _train_baselines(
    config: SearchConfig, driver: Driver, corpus: Corpus, finished: Sequence[str]
) -> AbstractContextManager[None]:
    """Train missing baselines in the background of the block, if the configuration says so."""
    from imdbtune.search.baseline_job import baselines_in_background

    if not config.tracking.baseline:
        return nullcontext()
    return baselines_in_background(
        driver.search,
        corpus,
        driver.facts,
        config.data.reviews,
        driver.folder,
        driver.listener,
        finished,
    )


def _open_executor(
    resolved: Plan,
    environment: Mapping[str, str],
    driver: Driver,
    client: MlflowClient,
    corpus: Corpus,
    pool: WorkerPool | None,
) -> AbstractContextManager[Executor]:
    """Return the executor of a search."""
    report = _epoch_reporter(driver.listener)
    if pool is None:
        return open_local_executor(resolved.workers, driver.folder, report, environment)
    from imdbtune.cluster.remote_executor import open_remote_executor

    return open_remote_executor(
        pool,
        client,
        outbox=driver.search.client,
        search=driver.search.run_id,
        corpus=corpus.folder,
        report=report,
        keep_model=resolved.config.tracking.chooses_models,
    )


def _run_trials(
    driver: Driver,
    workers: AbstractContextManager[Executor],
    baselines: AbstractContextManager[None],
) -> None:
    """Run the trials; close all runs and log the saved models, also after an error."""

    def stop(reason: str) -> None:
        driver.stop(reason)
        driver.log_best_models()

    with _stop_on_error(workers, stop) as executor, baselines:
        driver.run(executor)
    driver.log_best_models()


@contextmanager
def _stop_on_error(
    workers: AbstractContextManager[Executor], stop: Callable[[str], None]
) -> Iterator[Executor]:
    """Yield an executor; after an error, call ``stop`` with the reason once it is closed."""
    try:
        with workers as executor:
            yield executor
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt)
        with suppress(Exception):  # the first error is raised
            stop("interrupted" if interrupted else f"search aborted: {error}")
        raise


def _open_search(
    client: MlflowClient, config: SearchConfig, facts: writer.CorpusFacts, key: str, place: str
) -> writer.SearchRun:
    settings = {
        **_training_settings(config),
        "tuner": config.tuner.kind,
        "validation_reviews": _validation_reviews(facts, config),
        "config_digest": config.digest[:16],
        "about": config.about,
    }
    tags = writer.common_tags(facts, settings)
    name, experiment = config.name, config.tracking.experiment
    return writer.SearchRun.open(client, name, experiment, tags, "search", key, place)


def _log_configuration(run: writer.Run, config: SearchConfig, facts: writer.CorpusFacts) -> None:
    """Write the configuration and corpus to the outbox, before the run is created."""
    settings = config.as_dict()
    settings["tracking"]["uri"] = ""  # it may contain a password
    run.client.log_text(run.run_id, tomli_w.dumps(settings), "config.toml")
    run.log_corpus(facts)
    flat = {
        f"{section}.{key}": value
        for section in ("tuner", "training")
        for key, value in asdict(getattr(config, section)).items()
    }
    space = {f"space.{d.name}": d.in_words() for d in config.space.dimensions}
    run.log(params={**flat, **space})
    run.client.sync(run.run_id)


def _training_settings(config: SearchConfig) -> dict[str, object]:
    """Return the settings, besides hyperparameters and epochs, that determine results."""
    return {
        "reviews": config.data.reviews,
        "seed": config.tuner.seed,
        "executions": config.tuner.executions,
        "objective": config.tuner.objective,
        "patience": config.training.patience,
        "batching": config.training.batching,
        "compile": config.training.compile,
    }


def _validation_reviews(facts: writer.CorpusFacts, config: SearchConfig) -> int:
    from imdbtune.data.batches import limit_rows, validation_split

    return len(validation_split(limit_rows(facts.train_rows, config.data.reviews))[1])


def train(
    config: SearchConfig,
    *,
    cache: Path | None = None,
    folder: Path | None = None,
    listener: Listener = _no_op_listener,
    trainer: Trainer | None = None,
) -> Trial:
    """Train the only configuration of a space, tracked like a trial.

    The arguments are those of :func:`search`.

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
    store = resolve_uri(config.tracking.uri)
    corpus = _open_corpus(config.data, cache, listener)
    client = connect(store, _notice_sender(listener))
    facts = corpus_facts(corpus, config.data.source)
    settings = {**_training_settings(config), "epochs": config.training.epochs}
    tags = writer.common_tags(facts, settings)
    name, experiment = config.name, config.tracking.experiment
    with _open_training(client, name, experiment, tags, facts, folder, listener) as (
        run,
        workspace,
    ):
        # The settings are named like the fields of TrialSpec.
        spec = TrialSpec(params, corpus.folder, workspace.folder / "trial", **settings)  # type: ignore[arg-type]
        _set_environment(cache)
        return _train_tracked(run, workspace, spec, corpus, listener, trainer)


@contextmanager
def _open_training(
    client: MlflowClient,
    name: str,
    experiment: str,
    tags: dict[str, str],
    facts: writer.CorpusFacts,
    folder: Path | None,
    listener: Listener,
) -> Iterator[tuple[writer.SearchRun, Workspace]]:
    """Yield a new run and its workspace, which is deleted once all is delivered."""
    recover_crashed_runs(client, _search_folder(folder), _notice_sender(listener))
    with create_workspace(_search_folder(folder), name, str(client.tracking_uri), TRAINING) as (
        prepared,
        key,
    ):
        writer.Run(prepared.outbox, key).log_corpus(facts)  # before the run is created and open
        prepared.outbox.sync(key)
        run = writer.SearchRun.open(client, name, experiment, tags, "train", key)
        workspace = prepared.renamed(run.run_id)
        try:
            yield run, workspace
        finally:
            if workspace.outbox.is_empty():
                workspace.discard()


def _train_tracked(
    run: writer.SearchRun,
    workspace: Workspace,
    spec: TrialSpec,
    corpus: Corpus,
    listener: Listener,
    trainer: Trainer | None = None,
) -> Trial:
    """Train in this process and log to ``run``; close the run also after an error."""
    delivery = BackgroundDelivery(
        run.client, workspace.outbox, run.run_id, None, _notice_sender(listener)
    )
    with deliver_in_background(delivery):
        buffered = replace(run, client=workspace.outbox)
        extra = {"seed": spec.seed, "epochs": spec.epochs}
        extra |= {"schedule_epochs": spec.schedule_epochs} if spec.schedule_epochs else {}
        buffered.log(params={**spec.params.as_dict(), **extra})
        facts = {"run_id": run.run_id, "params": spec.params, "epochs": spec.epochs}
        listener("opened", {**facts, "corpus": corpus})
        job = TrialJob("", spec, workspace.outbox, run.run_id, trainer=trainer)
        outcome = run_trial(job, _epoch_reporter(listener))
        if isinstance(outcome, TrialFailure):
            raise SearchAborted(f"the training failed: {outcome.reason}")
    return reader.read_run(run.client, run.run_id)


def reproduce(
    run_id: str,
    *,
    uri: str = "",
    data: str = "",
    cache: Path | None = None,
    folder: Path | None = None,
    listener: Listener = _no_op_listener,
    trainer: Trainer | None = None,
) -> Reproduction:
    """Train a finished run again from its record in MLflow, as a new run, and compare the two.

    A Hyperband trial that continues another is trained from the beginning of the first.

    Args:
        run_id: of a trial, or of a single training.
        uri: the tracking store, which also gets the new run.
        data: location of the reviews; default: where they were in training.
        trainer: replaces :func:`imdbtune.training.trainer.train_trial`.

    The other arguments are those of :func:`search`.

    Raises:
        UserError: no such run, it has not finished, or its reviews are missing.
        SearchAborted: the training failed.
    """
    from imdbtune.confirm import reproduction

    client = connect_existing(uri)
    stages = reproduction.read_stages(client, run_id)
    original, settings = stages[-1].trial, stages[-1].settings
    corpus, facts = _reopen_corpus(original, data, cache, listener)
    tags = writer.common_tags(facts, {**settings, "reproduces": run_id})
    experiment = _experiment_name(client, run_id)
    name = f"reproduce-{original.name}"[:250]
    with _open_training(client, name, experiment, tags, facts, folder, listener) as (
        run,
        workspace,
    ):
        *before, spec = reproduction.make_specs(stages, corpus.folder, workspace.folder / "trial")
        chained = reproduction.ChainedTrainer(before, trainer)
        _set_environment(cache)
        again = _train_tracked(run, workspace, spec, corpus, listener, chained)
    compared = reproduction.compare_runs(client, original, again, spec.executions)
    run.log(tags={"imdbtune.agrees": compared.verdict})
    client.log_dict(run.run_id, compared.as_dict(), "reproduction.json")
    return compared


def confirm(
    search_ref: str | None = None,
    *,
    top: int = 5,
    seeds: int = 5,
    test: bool = False,
    uri: str = "",
    data: str = "",
    workers: int | None = None,
    cache: Path | None = None,
    folder: Path | None = None,
    listener: Listener = _no_op_listener,
    trainer: Trainer | None = None,
) -> Confirmation:
    """Train the best configurations of a search again with new seeds, and compare them.

    The trainings are tracked as children of a separate run. Called again, for example after a crash
    or with more seeds, it trains only what is missing.

    Args:
        search_ref: run id or name; ``None``: the last search.
        top: number of configurations.
        seeds: number of trainings of each.
        test: evaluate the trainings of the recommended configuration on the test reviews.
        data: location of the reviews; default: where they were in training.
        trainer: replaces :class:`imdbtune.confirm.runs.TrainAndSavePredictions`; it must write
            the same file.

    The other arguments are those of :func:`search`.

    Raises:
        UserError: no such search, none of its trials has finished, or its reviews are missing.
        SearchAborted: all trainings failed.
    """
    from imdbtune.confirm import results, runs
    from imdbtune.confirm.reproduction import read_stage
    from imdbtune.report.leaderboard import publish_page

    client = connect_existing(uri, _notice_sender(listener))
    base = _search_folder(folder)
    recover_crashed_runs(client, base, _notice_sender(listener))
    found = reader.find_search(client, search_ref)
    leading = runs.best_configurations(found, reader.read_trials(client, found), top)
    stages = [read_stage(client, trial) for trial in leading]
    count = cpu_count() if workers is None else workers
    environment = _start_environment(count, cache)
    corpus, facts = _reopen_corpus(leading[0], data, cache, listener)
    with _open_confirmation(client, found, facts, stages[0].settings, base, listener) as (
        run,
        workspace,
    ):
        parent = reader.find_confirmation(client, found)
        done = results.read_finished_runs(client, parent) if parent else {}
        todo = runs.training_requests(stages, seeds, done)
        listener = _with_run_ids(listener, workspace.outbox)
        shown = {
            "search": found,
            "run_id": run.run_id,
            "corpus": corpus,
            "folder": workspace.folder,
        }
        listener("confirming", {**shown, "trainings": len(todo), "workers": count})
        trainings = runs.RepeatedRuns(
            run=replace(run, client=workspace.outbox),
            corpus=corpus.folder,
            facts=facts,
            folder=workspace.folder,
            trainer=trainer or runs.TrainAndSavePredictions(),
            listener=listener,
        )
        with deliver_in_background(
            BackgroundDelivery(client, workspace.outbox, run.run_id, None, _notice_sender(listener))
        ):
            if todo:
                _train_all(trainings, todo, count, environment)
        if workspace.outbox.is_empty():
            workspace.discard()
    confirmed = reader.find_confirmation(client, found)
    assert confirmed is not None
    concluded = results.compare_and_log(client, found, confirmed)
    if test:
        for run_id in concluded.winner.run_ids:
            evaluate(reader.read_run(client, run_id), uri=uri, cache=cache)
        concluded = results.compare_and_log(client, found, confirmed)
    with suppress(UserError):  # for a search logged by an early version
        config = stored_config(client, found)
        varied = [d.name for d in config.space.searched] or ["rnn"]
        publish_page(client, found.run_id, varied, config.tracking.report)
    return concluded


def refit(
    trial: Trial,
    *,
    seed: int | None = None,
    uri: str = "",
    data: str = "",
    cache: Path | None = None,
    folder: Path | None = None,
    listener: Listener = _no_op_listener,
    trainer: Trainer | None = None,
) -> Trial:
    """Train a trial's configuration on all training reviews, for its best number of epochs.

    Nothing is held out, so there is no validation accuracy; evaluate it on the test reviews. An
    existing run of the same training is returned instead of a new one.

    Args:
        trial: from :func:`best`; if it is part of a confirmation, the epochs are the mean over
            seeds.
        seed: random seed; default: that of the trial.
        trainer: replaces :func:`imdbtune.training.trainer.train_trial`.

    The other arguments are those of :func:`confirm`.

    Raises:
        UserError: the trial has not finished, or its reviews are missing.
        SearchAborted: the training failed.
    """
    from imdbtune.confirm import results
    from imdbtune.confirm.reproduction import read_stage

    client = connect_existing(uri, _notice_sender(listener))
    settings = read_stage(client, trial).settings
    chosen = settings["seed"] if seed is None else seed
    known = reader.find_refit(client, trial, chosen)
    if known is not None:
        return known
    corpus, facts = _reopen_corpus(trial, data, cache, listener)
    planned = settings.pop("epochs")
    epochs = results.mean_best_epoch(client, trial)
    changes = {"executions": 1, "seed": chosen, "hold_out": False, "initial_epoch": 0}
    settings |= {**changes, "patience": 0, "schedule_epochs": planned}
    logged = {k: v for k, v in settings.items() if k not in ("seed", "schedule_epochs")}
    tags = writer.common_tags(facts, logged) | {writer.REFITS: trial.run_id}
    tags |= {writer.OF_SEARCH: reader.search_of(client, trial)}
    experiment = _experiment_name(client, trial.run_id)
    name = f"refit-{trial.name}"[:250]
    with _open_training(client, name, experiment, tags, facts, folder, listener) as (
        run,
        workspace,
    ):
        where = workspace.folder / "trial"
        spec = TrialSpec(trial.params, corpus.folder, where, epochs=epochs, **settings)
        _set_environment(cache)
        return _train_tracked(run, workspace, spec, corpus, listener, trainer)


def ensemble(
    search_ref: str | None = None,
    count: int = 3,
    *,
    refitted: bool = False,
    linear: bool = False,
    uri: str = "",
    data: str = "",
    cache: Path | None = None,
    folder: Path | None = None,
    listener: Listener = _no_op_listener,
) -> tuple[Trial, list[Trial]]:
    """Average the models of the best ``count`` distinct configurations, as a separate run.

    An existing run of the same ensemble is returned instead of a new one.

    Args:
        search_ref: run id or name; ``None``: the last search. If it was confirmed, confirmed
            configurations come first, in the order of their means.
        count: number of configurations.
        refitted: use each configuration trained on all training reviews (:func:`refit`).
        linear: add the search's linear model, with a weight of one half.
        data: location of the reviews; default: where they were in training.

    The other arguments are those of :func:`search`.

    Returns:
        The ensemble, and its members.

    Raises:
        UserError: too few models have been logged, or the search has no linear model.
    """
    from imdbtune.confirm import runs
    from imdbtune.models.nb_linear import LinearModel
    from imdbtune.search import ensemble_tags
    from imdbtune.training import ensemble

    client = connect_existing(uri, _notice_sender(listener))
    found = reader.find_search(client, search_ref)
    confirmed = read_confirmation(found, uri=uri)
    trials = reader.read_trials(client, found)
    chosen = runs.best_runs(found, trials, confirmed, count)
    members = [reader.read_run(client, run_id) for run_id in chosen]
    ensemble_tags.check_members(members, linear)
    if refitted:
        place: dict[str, Any] = {"uri": uri, "data": data, "cache": cache, "folder": folder}
        members = [refit(member, listener=listener, **place) for member in members]
    ensemble_tag = reader.ensemble_tag(members, linear)
    known = reader.find_ensemble(client, ensemble_tag)
    if known is not None:
        return known, members
    corpus, facts = _reopen_corpus(members[0], data, cache, listener)
    reviews = int(convert("int", members[0].tags.get("imdbtune.reviews")) or 0)
    tags = writer.common_tags(facts, {"batching": "buckets", "reviews": reviews})
    tags[writer.OBJECTIVE] = "val_accuracy"
    tags[writer.ENSEMBLE_OF] = ensemble_tag
    tags[writer.OF_SEARCH] = found.run_id
    experiment = _experiment_name(client, found.run_id)
    name = f"ensemble-of-{len(members)}{'-and-linear' if linear else ''}-{found.name}"[:250]
    params = tuple(member.params for member in members)
    tags[writer.MEMBERS] = ensemble_tags.write_members(params)
    tags[writer.NOTE] = ensemble_tags.description(found, members, linear)
    with (
        tempfile.TemporaryDirectory() as scratch,
        _open_training(client, name, experiment, tags, facts, folder, listener) as (run, workspace),
    ):
        files = []
        for number, member in enumerate(members):
            target = Path(scratch, str(number))
            target.mkdir()
            files.append(reader.fetch_model(client, member, target))
        spec = TrialSpec(
            ensemble.common_params(params, linear),
            corpus.folder,
            workspace.folder / "trial",
            reviews=reviews,
            epochs=1,
            hold_out=not refitted,
        )
        _set_environment(cache)
        linear_model = None
        if linear and refitted:
            linear_model = ensemble.fit_linear(corpus.train.head(reviews or len(corpus.train)))
        elif linear:
            linear_model = LinearModel.load(reader.fetch_linear(client, found, Path(scratch)))
        trainer = ensemble.EnsembleSpec(tuple(files), params, linear_model)
        averaged = _train_tracked(run, workspace, spec, corpus, listener, trainer)
    return averaged, members


@contextmanager
def _open_confirmation(
    client: MlflowClient,
    found: Search,
    facts: writer.CorpusFacts,
    settings: Mapping[str, object],
    base: Path,
    listener: Listener,
) -> Iterator[tuple[writer.SearchRun, Workspace]]:
    """Yield the new or reopened parent run of a confirmation, and its locked workspace."""
    common = {k: v for k, v in settings.items() if k not in ("seed", "epochs", "initial_epoch")}
    tags = writer.common_tags(facts, {**common, "executions": 1})
    tags[writer.CONFIRMS] = found.run_id
    reviews = found.tags.get(writer.VALIDATION_REVIEWS, "")
    tags |= {writer.VALIDATION_REVIEWS: reviews} if reviews else {}
    name = f"confirm-{found.name}"[:250]
    store = str(client.tracking_uri)
    existing = reader.find_confirmation(client, found)
    if existing is None:
        experiment = _experiment_name(client, found.run_id)
        with create_workspace(base, name, store, TRAINING) as (prepared, key):
            writer.Run(prepared.outbox, key).log_corpus(facts)  # before the run is created and open
            prepared.outbox.sync(key)
            run = writer.SearchRun.open(client, name, experiment, tags, "confirm", key)
            yield run, prepared.renamed(run.run_id)
        return
    with open_workspace(base, existing.run_id, name, store, TRAINING) as workspace:
        await_workers(workspace.folder)
        run = writer.SearchRun.adopt(client, existing.run_id, existing.experiment_id, tags)
        replace(run, client=workspace.outbox).stop_trials(CRASHED)
        BackgroundDelivery(
            client, workspace.outbox, existing.run_id, None, _notice_sender(listener)
        ).finish()
        for trial in reader.read_trials(client, existing):
            if trial.status in writer.OPEN:
                writer.Run(client, trial.run_id).end("KILLED", CRASHED)
        workspace.outbox.reopen(run.run_id)
        yield run, workspace


def _train_all(
    trainings: RepeatedRuns,
    todo: Sequence[TrainingRequest],
    workers: int,
    environment: Mapping[str, str],
) -> None:
    """Run trainings on workers; close all runs, also after an error.

    Raises:
        SearchAborted: all trainings failed.
    """
    report = _epoch_reporter(trainings.listener)
    processes = open_local_executor(workers, trainings.folder, report, environment)
    with _stop_on_error(processes, trainings.run.stop_trials) as executor:
        trainings.train_all(executor, todo)
    if len(trainings.failed) == len(todo):
        raise SearchAborted(f"all trainings failed, the last one with: {trainings.failed[-1]}")


def sync(
    search_ref: str | None = None,
    *,
    uri: str = "",
    folder: Path | None = None,
    listener: Listener = _no_op_listener,
) -> list[SyncResult]:
    """Deliver results to MLflow that it does not have yet, as its store was unreachable.

    Runs of crashed processes are closed as KILLED; their searches can still be resumed. Without
    ``search_ref``, running and deleted searches are skipped with a notice, and a ``problem`` with
    one search does not stop the others.

    Args:
        search_ref: run id or name; ``None``: all searches of this folder.
        uri: the tracking store; default: the store with which the search was started.
        folder: as in :func:`search`.
        listener: called with ``notice``.

    Raises:
        UserError: no such search here, or its store cannot be used or does not have it.
        Deleted: its run is in MLflow's bin.
        SearchAborted: the search is still running.
        NotDelivered: the store became unreachable again.
    """
    from imdbtune.report.leaderboard import publish_page

    notify = _notice_sender(listener)
    return sync_folder(_search_folder(folder), search_ref, uri, notify, publish_page)


def best(search_ref: str | None = None, *, uri: str = "") -> tuple[Search, Trial]:
    """Return a search and its best trial, read from MLflow alone.

    If the search was confirmed, it is the best training of the recommended configuration.

    Args:
        search_ref: run id or name; ``None``: the last search.
        uri: the tracking store.

    Raises:
        UserError: no such search, or none of its trials has finished.
    """
    runs = open_runs(uri)
    found = reader.find_search(runs, search_ref)
    confirmed = read_confirmation(found, uri=uri)
    if confirmed is not None:
        client = connect_existing(uri, reading=True)
        with suppress(UserError):  # the run has been deleted
            return found, reader.read_run(client, confirmed.winner.run_ids[0])
    return found, reader.read_best(runs, found)


def read_confirmation(search: Search, *, uri: str = "") -> Confirmation | None:
    """Return the result of :func:`confirm`, or ``None`` if the search was not confirmed."""
    if writer.CONFIRMED_BY not in search.tags:
        return None  # without importing MLflow, which takes seconds
    from imdbtune.confirm import results

    return results.read(connect_existing(uri, reading=True), search)


def baselines(search_ref: str | None = None, *, uri: str = "") -> list[Baseline]:
    """Return the baselines of a search: a linear model, and the majority class.

    Raises:
        UserError: no such search.
    """
    runs = open_runs(uri)
    return reader.read_baselines(runs, reader.find_search(runs, search_ref))


def compare(
    search_refs: Iterable[str] = (),
    *,
    where: str = "",
    sort: str = "",
    columns: Sequence[str] = (),
    limit: int = 0,
    uri: str = "",
) -> Comparison:
    """Return the trials of searches in one table, the best first.

    The table has ``.rows``, and ``.frame`` for pandas.

    Args:
        search_refs: names or run ids; default: the last search.
        where: condition that the trials meet, such as ``rnn=gru and maxlen>=200``.
        sort: another order, such as ``train_seconds:asc``.
        columns: columns to return; default: all.
        limit: maximum number of trials; 0: all.
        uri: the tracking store.

    Raises:
        UserError: no such search or column, or an invalid condition.
    """
    client = open_runs(uri)
    refs: list[str | None] = list(search_refs) or [None]
    found = [reader.find_search(client, ref) for ref in refs]
    searches = list({search.run_id: search for search in found}.values())  # without duplicates
    trials = [(search, reader.read_trials(client, search)) for search in searches]
    baselines = {search.run_id: reader.read_baselines(client, search) for search in searches}
    return replace(compare_searches(trials, where, sort, columns, limit), baselines=baselines)


def report(
    search_ref: str | None = None, out: Path = Path("report.html"), *, uri: str = ""
) -> Search:
    """Write an HTML report of a search to ``out``; replace an older report there.

    Raises:
        UserError: no such search, or ``out`` cannot be written or is another file.
    """
    from imdbtune.report.page import check_output_path, draw_figures, read_report_data, render

    check_output_path(out)
    client = connect_existing(uri, reading=True)
    runs = runs_of(client)
    found = reader.find_search(runs, search_ref)
    data = read_report_data(client, found, reader.read_trials(runs, found))
    address = str(client.tracking_uri)
    ui_address = {"ui": address.rstrip("/")} if address.startswith("http") else {}
    page = render(data, draw_figures(data), **ui_address)
    try:
        replace_text(out, page)
    except OSError as error:
        if is_disk_full(error):
            raise
        raise UserError(
            f"{quote_path(out)} cannot be written: {error.strerror}; give another file with --out."
        ) from error
    return found


@contextmanager
def ui(search_ref: str | None = None, *, port: int = PORT, uri: str = "") -> Iterator[MlflowServer]:
    """Serve MLflow's web interface on the store of a search while the block runs.

    If the store is a server, its own interface is used; otherwise a server is started on this
    machine.

    Raises:
        UserError: no such store or search, or no free port.
        SearchAborted: the server does not start.
    """
    client = connect_existing(uri, reading=True)
    store = str(client.tracking_uri)
    found = reader.find_search(client, search_ref) if search_ref else None
    found = found or next(iter(reader.read_searches(client, 1)), None)

    def page(address: str) -> str:
        return run_page(address, found.experiment_id, found.run_id) if found else ""

    if store.startswith("http"):
        address = store.rstrip("/")
        yield MlflowServer(address, page(address))
        return
    with serve(store, port) as (address, process):
        yield MlflowServer(address, page(address), process)


def _reopen_corpus(
    trial: Trial, location: str, cache: Path | None, listener: Listener
) -> tuple[Corpus, writer.CorpusFacts]:
    """Return the corpus that a trial was trained on, to train on it again.

    Raises:
        UserError: the reviews are missing or have changed.
    """
    config = _data_config(trial, location)
    check_source(config.source, config)
    corpus = _open_corpus(config, cache, listener)
    check_corpus(corpus, trial.tags, trial.name)
    return corpus, corpus_facts(corpus, config.source)


def _experiment_name(client: MlflowClient, run_id: str) -> str:
    """Return the name of a run's experiment."""
    return str(client.get_experiment(client.get_run(run_id).info.experiment_id).name)


def open_trial_corpus(trial: Trial, cache: Path | None = None) -> Corpus:
    """Return the corpus that a trial was trained on.

    Raises:
        UserError: the reviews are missing or have changed.
    """
    data = _data_config(trial)
    corpus = open_corpus(data.source, cache or default_cache(), lambda text: None, config=data)
    check_corpus(corpus, trial.tags, trial.name)
    return corpus


def _data_config(trial: Trial, location: str = "") -> DataConfig:
    """Return the data configuration of a trial; ``location``: where the reviews are now."""
    logged = trial.tags.get(writer.READING, "{}")
    try:
        reading = parse_config({"data": json.loads(logged)}).data
    except (ValueError, UserError) as error:
        raise UserError(
            f"run {trial.run_id} ({trial.name}) does not say how its reviews were read: its tag "
            f"{writer.READING} is {short_repr(logged)}; restore the original value."
        ) from error
    return replace(reading, source=location or trial.tags.get(writer.CORPUS, ""))


def check_corpus(corpus: Corpus, tags: Mapping[str, str], name: str) -> None:
    """Raise UserError unless the corpus has the digest in a run's tags."""
    digest = tags.get(writer.DIGEST, "")
    if corpus.digest != digest:
        raise UserError(
            f"the reviews at {tags.get(writer.CORPUS)} are not those of {name} "
            f"(digest {corpus.digest[:12]}, was {digest[:12]}); restore the original reviews."
        )


def evaluate(
    trial: Trial, *, uri: str = "", cache: Path | None = None, progress: Progress | None = None
) -> dict[str, float]:
    """Evaluate a trial's model on the test reviews; log and return loss and accuracy.

    If they have been logged already, they are returned without an evaluation. ``progress`` is
    called with the number of evaluated reviews.
    """
    logged = {k: v for k, v in trial.metrics.items() if k in ("test_accuracy", "test_loss")}
    if len(logged) == 2:
        return logged
    from imdbtune.training.evaluation import evaluate_model

    client = connect_existing(uri)
    corpus = open_trial_corpus(trial, cache)
    with tempfile.TemporaryDirectory() as folder:
        model = reader.fetch_model(client, trial, Path(folder))
        padded = trial.tags.get(writer.BATCHING) == "padded"
        metrics = evaluate_model(model, corpus.test, trial.params, padded, progress)
    writer.Run(client, trial.run_id).log(metrics)
    search_id = reader.search_of(client, trial)
    if search_id:
        writer.count_test_evaluation(client, search_id)
    return metrics


def export(
    trial: Trial,
    folder: Path,
    *,
    uri: str = "",
    cache: Path | None = None,
    overwrite: bool = False,
    extra: Mapping[str, float] | None = None,
    formats: Sequence[str] = ("keras",),
    progress: Progress | None = None,
) -> Path:
    """Write a trial's model with its vocabulary, metadata and README to ``folder``.

    Each of the ``formats`` is loaded in a new process without this package, and its predictions of
    real reviews must match those of Keras. An existing export of the same trial gets the new
    formats in addition, or is replaced if ``overwrite``. ``progress`` is called with the number of
    finished steps.

    Raises:
        UserError: the model or the corpus is missing, the folder cannot be written, or packages of
            a format are not installed.
        ExportFailed: the model cannot be exported to a format.
    """
    from imdbtune.export.format import Trained
    from imdbtune.export.formats import export_model
    from imdbtune.export.verify import sample_texts
    from imdbtune.export.writing import ExportContents
    from imdbtune.search.ensemble_tags import read_members

    client = connect_existing(uri, reading=True)
    corpus = open_trial_corpus(trial, cache)
    words = corpus.word_index()
    batching = trial.tags.get(writer.BATCHING, "buckets")
    members = read_members(trial.tags.get(writer.MEMBERS, ""))
    linear = writer.LINEAR in trial.tags.get(writer.ENSEMBLE_OF, "").split(",")
    metadata: dict[str, Any] = {
        "name": trial.name,
        "run_id": trial.run_id,
        "parameters": trial.params.as_dict(),
        **({"members": [params.as_dict() for params in members]} if members else {}),
        **({"linear": True} if linear else {}),
        "batching": batching,
        "metrics": {**trial.metrics, **(extra or {})},
        "data": {"name": corpus.name, "title": corpus.title, "digest": corpus.digest},
        "labels": list(corpus.labels),
        "versions": {
            k.removeprefix("version."): v for k, v in trial.tags.items() if k.startswith("version.")
        },
    }
    with tempfile.TemporaryDirectory() as scratch:
        model = reader.fetch_model(client, trial, Path(scratch))
        trained = Trained(model, trial.params, batching != "padded", members)
        texts = sample_texts(corpus.train, words)
        contents = ExportContents(words, metadata)
        return export_model(trained, formats, contents, texts, folder, overwrite, progress)


def register(
    trial: Trial,
    name: str,
    *,
    uri: str = "",
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Version:
    """Register a trial's model for raw text in MLflow, and make it the champion.

    Raises:
        UserError: an invalid name, the store refuses it, or as in :func:`export`.
        ExportFailed: as in :func:`export`.
    """
    from imdbtune.export.mlflow_format import MLFLOW, MODEL
    from imdbtune.tracking import model_registry

    model_registry.check_name(name)
    client = connect_existing(uri)
    trial = reader.read_run(client, trial.run_id)  # with later metrics, such as test accuracy
    with tempfile.TemporaryDirectory() as scratch:
        target, formats = Path(scratch, "export"), (MLFLOW.name,)
        folder = export(trial, target, uri=uri, cache=cache, formats=formats, progress=progress)
        return model_registry.register(client, trial, name, folder / MODEL)


def predict(
    model: str | Path,
    texts: Iterable[str],
    *,
    model_format: str = "",
    uri: str = "",
    cache: Path | None = None,
) -> Iterator[Prediction]:
    """Predict label and probability of each review with an exported model or one in MLflow.

    Args:
        model: an export folder, or a URI such as ``models:/NAME@champion`` or
            ``runs:/RUN_ID/model``.
        texts: the reviews.
        model_format: format of an export folder; default: its first.
        uri: the tracking store of models in MLflow.
        cache: folder of converted corpora; a trial's own model needs their vocabulary.

    Raises:
        UserError: the folder is not an export, or MLflow has no such model.
    """
    predictor = _load_predictor(str(model), model_format, uri, cache)
    return predictor.predictions([texts] if isinstance(texts, str) else texts)


def explain(
    model: str | Path,
    texts: Iterable[str],
    *,
    model_format: str = "",
    uri: str = "",
    cache: Path | None = None,
) -> Iterator[Explanation]:
    """Predict as :func:`predict`, with the effect of each word: one more prediction per word."""
    from imdbtune.export import occlusion

    predictor = _load_predictor(str(model), model_format, uri, cache)
    for text in [texts] if isinstance(texts, str) else texts:
        yield occlusion.explain(predictor, text)


def read_texts(path: Path, column: str = "", progress: Progress | None = None) -> Iterator[str]:
    """Yield the texts in a file, as :func:`imdbtune.data.columns.read_texts`."""
    from imdbtune.data import columns

    return columns.read_texts(path, column, progress)


def _load_predictor(model: str, model_format: str, uri: str, cache: Path | None) -> Predictor:
    from imdbtune.export.mlflow_format import export_in
    from imdbtune.export.predictor import Predictor
    from imdbtune.tracking import model_registry

    if not model_registry.is_uri(model):
        return Predictor.load(export_in(Path(model)), model_format)
    client = connect_existing(uri, reading=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = model_registry.fetch(client, model, Path(scratch))
        inner = export_in(folder)
        if inner != folder:
            return Predictor.load(inner, model_format)
        trial = reader.read_run(client, model_registry.run_of_version(folder))
        corpus = open_trial_corpus(trial, cache)
        words, labels = corpus.word_index(), corpus.labels
        padded = trial.tags.get(writer.BATCHING) == "padded"
        return Predictor.of_file(folder / "data", trial.params, words, padded, labels)


def doctor(*, uri: str = "", cache: Path | None = None) -> Iterator[Check]:
    """Run the checks of this machine: versions, cores, disk, store, data, tools.

    The ``state`` of each is ``ok``, ``warning``, or ``problem`` if imdbtune cannot be used.
    """
    from imdbtune.doctor import run_checks

    return run_checks(uri, cache or default_cache())
