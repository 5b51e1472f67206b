"""The Python API: a function for each command; it raises, and never prints or exits."""

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

from imdbtune.cluster.local_executor import (
    Executor,
    await_workers,
    cpu_count,
    open_local_executor,
    training_environment,
)
from imdbtune.cluster.trial_job import Trainer, TrialFailure, TrialJob, run_trial
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
    note_limits,
    reconcile,
    stored_config,
)
from imdbtune.search.sync import Synced, sync_folder
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
from imdbtune.tracking.outbox_delivery import publish_page
from imdbtune.tracking.reader import Baseline, Search, Trial
from imdbtune.tracking.sqlite_reader import open_runs, runs_of
from imdbtune.training.spec import TrialSpec

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from imdbtune.confirm.reproduction import Reproduction
    from imdbtune.confirm.results import Confirmation
    from imdbtune.confirm.runs import RepeatedRuns, TrainingRequest
    from imdbtune.data.corpus import Corpus
    from imdbtune.doctor import Check
    from imdbtune.export.occlusion import Explanation
    from imdbtune.export.predictor import Prediction, Predictor
    from imdbtune.search.driver import Driver
    from imdbtune.search.estimate import Estimate
    from imdbtune.tracking.model_registry import Version
    from imdbtune.tracking.outbox import Outbox

Listener = Callable[[str, dict[str, Any]], None]


def _ignore(kind: str, facts: dict[str, Any]) -> None:
    """The listener of those who do not listen."""


@dataclass(frozen=True)
class Plan:
    """What a search would run, before anything is created."""

    config: SearchConfig
    store: str
    workers: int
    size: int | None
    reading: Mapping[str, Any]  # how a table of reviews is read
    cluster: str = ""  # the scheduler of the workers; empty: processes of this machine


def plan(config: SearchConfig, workers: int | None = None) -> Plan:
    """Resolve what is left open in a configuration; touches nothing."""
    reading = check_source(config.data.source, config.data)
    count = cpu_count() if workers is None else workers
    made = Plan(config, resolve_uri(config.tracking.uri), count, config.space.size(), reading)
    if config.cluster.is_local:
        return made
    check_store(made.store, config.cluster.address)
    return replace(made, workers=0, cluster=config.cluster.address)


def corpus_facts(corpus: Corpus, source: str) -> writer.CorpusFacts:
    """What the tracking store is told of a corpus."""
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
    listener: Listener = _ignore,
) -> Estimate:
    """How long a search would take on this machine, by timing a few steps; nothing is tracked.

    Raises:
        UserError: the data cannot be used.
        SearchAborted: the steps cannot be made.
    """
    resolved = plan(config, workers)
    _set_environment(cache)
    return _estimate(resolved, _open_corpus(config.data, cache, listener), listener)


def _estimate(resolved: Plan, corpus: Corpus, listener: Listener) -> Estimate:
    from imdbtune.search import estimate

    if resolved.cluster:
        raise UserError(
            "an estimate times steps on this machine, which says nothing of the workers of "
            f"{resolved.cluster}; leave --estimate or --cluster out."
        )
    listener("notice", {"text": "timing some steps of the cheapest and the dearest trial ..."})
    made = estimate.estimate(resolved.config, corpus, resolved.workers)
    listener("notice", {"text": f"estimated: {estimate.in_words(made)}"})
    return made


def search(
    config: SearchConfig,
    *,
    workers: int | None = None,
    cluster: str = "",
    cache: Path | None = None,
    folder: Path | None = None,
    listener: Listener = _ignore,
    trainer: Trainer | None = None,
    estimated: bool = False,
) -> Search:
    """Run a search to its end and return it as MLflow has it.

    Args:
        config: from :func:`imdbtune.config.schema.load_config`.
        workers: processes, each with one thread; ``None``: one a core; 0: in this process.
        cluster: address of a Dask scheduler whose workers train instead, or ``local``; default
            what the configuration says.
        cache: folder of the converted corpora.
        folder: folder for what a search needs while it runs; default ``.imdbtune`` here.
        listener: called with what happens: ``download``, ``notice``, ``opened``, ``started``,
            ``epoch``, ``retried``, ``ended``, ``exhausted``, ``baseline``, ``waiting``; of a
            search that goes on also ``resumed``.
        trainer: instead of :func:`imdbtune.training.trainer.train_trial`.
        estimated: say before it begins how long it will take, and log that.

    Raises:
        UserError: the data, the tracking store or the cluster cannot be used.
        SearchAborted: too many trials fail, or the cluster goes away.
        KeyboardInterrupt: after the runs were closed as KILLED.
    """
    config = _on_cluster(config, cluster)
    resolved = plan(config, workers)
    environment = _begin_environment(resolved.workers, cache)
    corpus = _open_corpus(config.data, cache, listener)
    client = connect(resolved.store, _teller(listener))
    facts = corpus_facts(corpus, config.data.source)
    seconds = _estimate(resolved, corpus, listener).seconds if estimated else 0.0
    base = _base(folder)
    recover_crashed_runs(client, base, _teller(listener))
    with (
        _reached(resolved, client, corpus, listener) as reached,
        create_workspace(base, config.name, resolved.store) as (begun, key),
    ):
        _describe(writer.Run(begun.outbox, key), config, facts)
        if seconds:
            writer.Run(begun.outbox, key).log({writer.ESTIMATED: seconds})
        parent = _open_search(client, config, facts, key, _place(base))
        workspace = begun.renamed(parent.run_id)
        return _drive(
            resolved, client, parent, workspace, corpus, listener, trainer, environment, reached
        )


def _on_cluster(config: SearchConfig, cluster: str) -> SearchConfig:
    return parse_config(config.as_dict(), {"cluster.address": cluster}) if cluster else config


@contextmanager
def _reached(
    resolved: Plan, client: MlflowClient, corpus: Corpus, listener: Listener
) -> Iterator[WorkerPool | None]:
    """The cluster of a plan, if it has one, all of whose workers fit."""
    if not resolved.cluster:
        yield None
        return
    experiment = resolved.config.tracking.experiment
    check_artifacts(client, writer.get_experiment(client, experiment))
    with open_worker_pool(
        resolved.cluster, resolved.store, corpus.digest, _teller(listener)
    ) as cluster:
        yield cluster


def _begin_environment(workers: int, cache: Path | None) -> dict[str, str]:
    """The environment of what trains; worker processes begin to import what they need."""
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
    listener: Listener = _ignore,
    trainer: Trainer | None = None,
) -> Search:
    """Go on with a search that was interrupted or has crashed, or extend one that has ended.

    Finished trials stay as they are; those that were under way are closed as KILLED and run
    again, as new runs under their old numbers. What :func:`imdbtune.search.resume.reconcile` finds
    amiss is told as a ``notice``, where the search stands as ``resumed``.

    Args:
        search_ref: run id or name; ``None``: the last search.
        overrides: ``tuner.max_trials``, ``tuner.max_minutes`` (from now), ``tuner.trial_timeout``
            and ``tuner.retries`` may be changed, for good; anything else must be what it was.
        uri: the tracking store; the other arguments are those of :func:`search`.

    Raises:
        UserError: no such search, its journal is not here, or the configuration differs.
        SearchAborted: another process is working on it, or the journal is damaged.
    """
    client = connect_existing(uri, _teller(listener))
    base = _base(folder)
    recover_crashed_runs(client, base, _teller(listener))
    found = reader.find_search(client, search_ref)
    workspace = workspace_of(base, found.run_id)
    _check_is_here(client, found, workspace)
    with workspace.locked():
        await_workers(workspace.folder)
        parent = writer.SearchRun.adopt(client, found.run_id, found.experiment_id, found.tags)
        replace(parent, client=workspace.outbox).stop_trials(CRASHED)
        BackgroundDelivery(client, workspace.outbox, found.run_id, None, _teller(listener)).finish()
        before = stored_config(client, found)
        where = {"tracking.uri": str(client.tracking_uri)}
        config = changed_config(before, workspace.journal, {**overrides, **where})
        config = _on_cluster(config, cluster)
        resolved = plan(config, workers)
        environment = _begin_environment(resolved.workers, cache)
        corpus = _open_corpus(config.data, cache, listener)
        check_corpus(corpus, found.tags, found.name)
        with _reached(resolved, client, corpus, listener) as reached:
            agreed = reconcile(client, found, workspace.journal, config.tuner.retries)
            note_limits(workspace.journal, before, config)
            workspace.outbox.reopen(parent.run_id)
            return _drive(
                resolved,
                client,
                parent,
                workspace,
                corpus,
                listener,
                trainer,
                environment,
                reached,
                agreed,
            )


def _open_corpus(data: DataConfig, cache: Path | None, listener: Listener) -> Corpus:
    """The corpus; the listener is told what is used instead of it, and how far a download is."""

    def progress(name: str, done: int, total: int) -> None:
        listener("download", {"name": name, "done": done, "total": total})

    kept = cache or default_cache()
    return open_corpus(data.source, kept, _teller(listener), progress, config=data)


def _set_environment(cache: Path | None) -> dict[str, str]:
    """Set the variables that TensorFlow must find when it is imported; returns them."""
    environment = training_environment(cache or default_cache())
    os.environ.update(environment)
    return environment


def _base(folder: Path | None) -> Path:
    """The folder with a folder for each search."""
    return (folder or Path(".imdbtune")).absolute()


def _place(base: Path) -> str:
    return f"{socket.gethostname()}:{base}"


def _check_is_here(client: MlflowClient, found: Search, workspace: Workspace) -> None:
    """Raise UserError if the search was begun elsewhere, or its journal is gone."""
    if workspace.journal.path.exists():
        return
    if workspace.folder.exists() and not reader.read_trials(client, found):
        return
    place, here = found.tags.get(writer.FOLDER, ""), _place(workspace.folder.parent)
    where = "the folder in which it was begun" if place in ("", here) else place
    raise UserError(
        f"search {found.name!r} cannot go on here: its journal "
        f"{workspace.journal.path} is missing; "
        f"run this in {where}, or begin a new one."
    )


def _teller(listener: Listener) -> Callable[[str], None]:
    return lambda text: listener("notice", {"text": text})


def _with_run_ids(listener: Listener, outbox: Outbox) -> Listener:
    """Tell MLflow's run id of a trial that has ended, if MLflow has the run already."""

    def tell(kind: str, facts: dict[str, Any]) -> None:
        if kind in ("ended", "retried"):
            facts = {**facts, "run_id": outbox.delivered(facts["run_id"]).run_id}
        listener(kind, facts)

    return tell


def _drive(
    resolved: Plan,
    client: MlflowClient,
    parent: writer.SearchRun,
    workspace: Workspace,
    corpus: Corpus,
    listener: Listener,
    trainer: Trainer | None,
    environment: Mapping[str, str],
    reached: WorkerPool | None,
    agreed: Agreement | None = None,
) -> Search:
    """Run the trials that are left, and end the search; ``agreed``: of one that goes on."""
    from imdbtune.search.driver import Driver
    from imdbtune.search.keras_tuner_samplers import make_sampler
    from imdbtune.tracking import artifact_transfer

    config = resolved.config
    sampler = make_sampler(config)
    found = reader.find_search(client, parent.run_id)
    varied = [d.name for d in config.space.searched] or ["rnn"]
    report = config.tracking.report
    say = _teller(listener)
    alone = reached is None
    delivery = BackgroundDelivery(
        client, workspace.outbox, parent.run_id, varied, say, report, alone
    )
    listener = _with_run_ids(listener, workspace.outbox)
    travels = reached is not None or writer.CLUSTER in found.tags
    if reached is not None:
        resolved = replace(resolved, workers=len(reached.usable()))
    with deliver_in_background(delivery, found.metrics.get("search_seconds", 0.0)):
        facts = {"search": found, "plan": resolved, "corpus": corpus, "folder": workspace.folder}
        listener("opened", facts)
        if reached is not None:
            tags = {writer.CLUSTER: reached.address}
            writer.Run(workspace.outbox, parent.run_id).log(tags=tags)
        tuner = Driver(
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
            elsewhere=reached is not None,
        )
        if travels:
            tuner.bring = partial(artifact_transfer.download_if_missing, client, workspace.outbox)
        if agreed is not None:
            for text in agreed.notices():
                listener("notice", {"text": text})
            tuner.restore(agreed.events, agreed.trained, agreed.lost)
            listener("resumed", tuner.standing())
        known = reader.read_baselines(client, found) if agreed is not None else []
        made = [baseline.which for baseline in known if baseline.status == "FINISHED"]
        workers = _workers_of(resolved, environment, tuner, client, corpus, reached)
        _run(tuner, workers, _beside(config, tuner, corpus, made))
        if agreed is not None and not tuner.begun:
            listener("notice", {"text": tuner.why_nothing_was_left()})
    if travels:
        artifact_transfer.delete_leftovers(client, found, kept=tuner.has_left_files())
    return reader.find_search(client, parent.run_id)


def _beside(
    config: SearchConfig, tuner: Driver, corpus: Corpus, made: Sequence[str]
) -> AbstractContextManager[None]:
    """Makes what the trials have to beat, beside them, unless that is not wanted or there is it."""
    from imdbtune.search.baseline_job import baselines_in_background

    if not config.tracking.baseline:
        return nullcontext()
    return baselines_in_background(
        tuner.search,
        corpus,
        tuner.facts,
        config.data.reviews,
        tuner.folder,
        tuner.listener,
        made,
    )


def _workers_of(
    resolved: Plan,
    environment: Mapping[str, str],
    tuner: Driver,
    client: MlflowClient,
    corpus: Corpus,
    reached: WorkerPool | None,
) -> AbstractContextManager[Executor]:
    """What the trials of a search run on."""
    report = partial(tuner.listener, "epoch")
    if reached is None:
        return open_local_executor(resolved.workers, tuner.folder, report, environment)
    from imdbtune.cluster.remote_executor import open_remote_executor

    return open_remote_executor(
        reached,
        client,
        outbox=tuner.search.client,
        search=tuner.search.run_id,
        corpus=corpus.folder,
        report=report,
        keep_model=resolved.config.tracking.chooses_models,
    )


def _run(
    tuner: Driver,
    workers: AbstractContextManager[Executor],
    beside: AbstractContextManager[None],
) -> None:
    """Run the trials on workers; however that ends, no run is left open, and the best models."""

    def stop(reason: str) -> None:
        tuner.stop(reason)
        tuner.log_kept_models()

    with _stopping(workers, stop) as executor, beside:
        tuner.run(executor)
    tuner.log_kept_models()


@contextmanager
def _stopping(
    workers: AbstractContextManager[Executor], stop: Callable[[str], None]
) -> Iterator[Executor]:
    """What trials run on; once all have ended, ``stop`` is told why it went wrong."""
    try:
        with workers as executor:
            yield executor
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt)
        with suppress(Exception):  # the first error counts
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


def _describe(run: writer.Run, config: SearchConfig, facts: writer.CorpusFacts) -> None:
    """Say in full what a search is about, in its outbox: before its run is made."""
    told = config.as_dict()
    told["tracking"]["uri"] = ""  # it may hold a password, and is where this is kept
    run.client.log_text(run.run_id, tomli_w.dumps(told), "config.toml")
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
    """What the outcome of every trial depends on beside its hyperparameters and epochs."""
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
    listener: Listener = _ignore,
    trainer: Trainer | None = None,
) -> Trial:
    """Train the one configuration of a file whose space has nothing to choose, tracked as a trial.

    The arguments are those of :func:`search`.

    Raises:
        UserError: the space has something to choose, or data or store cannot be used.
        SearchAborted: the training failed.
    """
    params = config.space.single()
    if params is None:
        names = ", ".join(d.name for d in config.space.searched)
        raise UserError(f"{config.name} leaves {names} open; fix them, or run imdbtune search.")
    store = resolve_uri(config.tracking.uri)
    corpus = _open_corpus(config.data, cache, listener)
    client = connect(store, _teller(listener))
    facts = corpus_facts(corpus, config.data.source)
    settings = {**_training_settings(config), "epochs": config.training.epochs}
    tags = writer.common_tags(facts, settings)
    name, experiment = config.name, config.tracking.experiment
    with _new_training(client, name, experiment, tags, facts, folder, listener) as (run, workspace):
        # The settings have the names of the fields that they fill.
        spec = TrialSpec(params, corpus.folder, workspace.folder / "trial", **settings)  # type: ignore[arg-type]
        _set_environment(cache)
        return _train_tracked(run, workspace, spec, corpus, listener, trainer)


@contextmanager
def _new_training(
    client: MlflowClient,
    name: str,
    experiment: str,
    tags: dict[str, str],
    facts: writer.CorpusFacts,
    folder: Path | None,
    listener: Listener,
) -> Iterator[tuple[writer.SearchRun, Workspace]]:
    """A run for one training, and its folder, which goes away once MLflow has all."""
    recover_crashed_runs(client, _base(folder), _teller(listener))
    with create_workspace(_base(folder), name, str(client.tracking_uri), TRAINING) as (begun, key):
        writer.Run(begun.outbox, key).log_corpus(facts)  # before the run is made: it is open
        begun.outbox.sync(key)
        run = writer.SearchRun.open(client, name, experiment, tags, "train", key)
        workspace = begun.renamed(run.run_id)
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
    """Train in this process, as a run that has been opened; it is closed however that ends."""
    delivery = BackgroundDelivery(run.client, workspace.outbox, run.run_id, None, _teller(listener))
    with deliver_in_background(delivery):
        spooled = replace(run, client=workspace.outbox)
        extra = {"seed": spec.seed, "epochs": spec.epochs}
        extra |= {"schedule_epochs": spec.schedule_epochs} if spec.schedule_epochs else {}
        spooled.log(params={**spec.params.as_dict(), **extra})
        told = {"run_id": run.run_id, "params": spec.params, "epochs": spec.epochs}
        listener("opened", {**told, "corpus": corpus})
        job = TrialJob("", spec, workspace.outbox, run.run_id, trainer=trainer)
        outcome = run_trial(job, lambda event: listener("epoch", event))
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
    listener: Listener = _ignore,
    trainer: Trainer | None = None,
) -> Reproduction:
    """Train a finished run again from what MLflow holds of it, as a new run, and compare the two.

    A trial of Hyperband that goes on from another is trained from the beginning of the first.

    Args:
        run_id: of a trial, or of a single training.
        uri: the tracking store, which also receives the new run.
        data: where the reviews are on this machine; default: where they were.
        trainer: instead of :func:`imdbtune.training.trainer.train_trial`; for the others see
            :func:`search`.

    Raises:
        UserError: no such run, it has not finished, or its reviews are not here.
        SearchAborted: the training failed.
    """
    from imdbtune.confirm import reproduction

    client = connect_existing(uri)
    stages = reproduction.read_stages(client, run_id)
    original, settings = stages[-1].trial, stages[-1].settings
    corpus, facts = _open_again(original, data, cache, listener)
    tags = writer.common_tags(facts, {**settings, "reproduces": run_id})
    experiment = _experiment_of(client, run_id)
    name = f"reproduce-{original.name}"[:250]
    with _new_training(client, name, experiment, tags, facts, folder, listener) as (run, workspace):
        *before, spec = reproduction.make_specs(stages, corpus.folder, workspace.folder / "trial")
        chained = reproduction.Chained(before, trainer)
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
    listener: Listener = _ignore,
    trainer: Trainer | None = None,
) -> Confirmation:
    """Train the leading configurations of a search again with new seeds, and say which are better.

    The trainings are tracked as children of a run of their own. Called again, it trains only what
    is missing: after a crash, or with more seeds or configurations.

    Args:
        search_ref: run id or name; ``None``: the last search.
        top: how many configurations.
        seeds: how many trainings of each.
        test: evaluate the trainings of the recommended configuration on the test reviews.
        data: where the reviews are on this machine; default: where they were.
        trainer: in the place of :class:`imdbtune.confirm.runs.TrainAndSavePredictions`, whose file
        it has to
            write too. For the other arguments see :func:`search`.

    Raises:
        UserError: no such search, nothing in it has finished, or its reviews are not here.
        SearchAborted: every training failed.
    """
    from imdbtune.confirm import results, runs
    from imdbtune.confirm.reproduction import read_stage

    client = connect_existing(uri, _teller(listener))
    base = _base(folder)
    recover_crashed_runs(client, base, _teller(listener))
    found = reader.find_search(client, search_ref)
    best_ones = runs.leading(found, reader.read_trials(client, found), top)
    stages = [read_stage(client, trial) for trial in best_ones]
    count = cpu_count() if workers is None else workers
    environment = _begin_environment(count, cache)
    corpus, facts = _open_again(best_ones[0], data, cache, listener)
    with _confirming(client, found, facts, stages[0].settings, base, listener) as (run, workspace):
        parent = reader.find_confirmation(client, found)
        done = results.finished(client, parent) if parent else {}
        todo = runs.training_requests(stages, seeds, done)
        listener = _with_run_ids(listener, workspace.outbox)
        told = {"search": found, "run_id": run.run_id, "corpus": corpus, "folder": workspace.folder}
        listener("confirming", {**told, "trainings": len(todo), "workers": count})
        trainings = runs.RepeatedRuns(
            run=replace(run, client=workspace.outbox),
            corpus=corpus.folder,
            facts=facts,
            folder=workspace.folder,
            trainer=trainer or runs.TrainAndSavePredictions(),
            listener=listener,
        )
        with deliver_in_background(
            BackgroundDelivery(client, workspace.outbox, run.run_id, None, _teller(listener))
        ):
            if todo:
                _train_all(trainings, todo, count, environment)
        if workspace.outbox.is_empty():
            workspace.discard()
    confirmed = reader.find_confirmation(client, found)
    assert confirmed is not None
    concluded = results.conclude(client, found, confirmed)
    if test:
        for run_id in concluded.winner.run_ids:
            evaluate(reader.read_run(client, run_id), uri=uri, cache=cache)
        concluded = results.conclude(client, found, confirmed)
    with suppress(UserError):  # of a search that an early version has logged
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
    listener: Listener = _ignore,
    trainer: Trainer | None = None,
) -> Trial:
    """Train a trial's configuration on all training reviews, for as many epochs as were best.

    Nothing is held out, so that there is no validation accuracy; the test reviews measure it. A
    training with the same seed that is in MLflow already is returned as it is.

    Args:
        trial: from :func:`best`; where it confirms a search, the epochs are the mean over seeds.
        seed: default: the trial's.
        trainer: instead of :func:`imdbtune.training.trainer.train_trial`; for the others see
            :func:`confirm`.

    Raises:
        UserError: the trial has not finished, or its reviews are not here.
        SearchAborted: the training failed.
    """
    from imdbtune.confirm import results
    from imdbtune.confirm.reproduction import read_stage

    client = connect_existing(uri, _teller(listener))
    settings = read_stage(client, trial).settings
    chosen = settings["seed"] if seed is None else seed
    known = reader.find_refit(client, trial, chosen)
    if known is not None:
        return known
    corpus, facts = _open_again(trial, data, cache, listener)
    planned = settings.pop("epochs")
    epochs = results.best_epochs(client, trial)
    own = {"executions": 1, "seed": chosen, "hold_out": False, "initial_epoch": 0}
    settings |= {**own, "patience": 0, "schedule_epochs": planned}
    told = {k: v for k, v in settings.items() if k not in ("seed", "schedule_epochs")}
    tags = writer.common_tags(facts, told) | {writer.REFITS: trial.run_id}
    tags |= {writer.OF_SEARCH: reader.search_of(client, trial)}
    experiment = _experiment_of(client, trial.run_id)
    name = f"refit-{trial.name}"[:250]
    with _new_training(client, name, experiment, tags, facts, folder, listener) as (run, workspace):
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
    listener: Listener = _ignore,
) -> tuple[Trial, list[Trial]]:
    """Average the models of the best ``count`` different configurations, as a run of its own.

    Args:
        search_ref: run id or name; ``None``: the last search. Where it was confirmed, the order is
            that of the confirmed means, and others come after them.
        refitted: take each configuration trained on all training reviews (:func:`refit`).
        linear: give the linear model that the search has to beat half the say.
        data: where the reviews are on this machine; for the others see :func:`search`.

    Returns:
        The average, and the runs that it is made of. The same average is made once.

    Raises:
        UserError: there are too few such models, or the search has no linear one.
    """
    from imdbtune.confirm import runs
    from imdbtune.models.nb_linear import LinearModel
    from imdbtune.training import ensemble

    client = connect_existing(uri, _teller(listener))
    found = reader.find_search(client, search_ref)
    confirmed = read_confirmation(found, uri=uri)
    trials = reader.read_trials(client, found)
    chosen = runs.best_runs(found, trials, confirmed, count)
    members = [reader.read_run(client, run_id) for run_id in chosen]
    ensemble.check_members(members, linear)
    if refitted:
        place: dict[str, Any] = {"uri": uri, "data": data, "cache": cache, "folder": folder}
        members = [refit(member, listener=listener, **place) for member in members]
    made_of = reader.ensemble_tag(members, linear)
    known = reader.find_ensemble(client, made_of)
    if known is not None:
        return known, members
    corpus, facts = _open_again(members[0], data, cache, listener)
    reviews = int(convert("int", members[0].tags.get("imdbtune.reviews")) or 0)
    tags = writer.common_tags(facts, {"batching": "buckets", "reviews": reviews})
    tags[writer.OBJECTIVE] = "val_accuracy"
    tags[writer.ENSEMBLE_OF] = made_of
    tags[writer.OF_SEARCH] = found.run_id
    experiment = _experiment_of(client, found.run_id)
    name = f"ensemble-of-{len(members)}{'-and-linear' if linear else ''}-{found.name}"[:250]
    params = tuple(member.params for member in members)
    tags[writer.MEMBERS] = ensemble.written(params)
    tags[writer.NOTE] = ensemble.description(found, members, linear)
    with (
        tempfile.TemporaryDirectory() as scratch,
        _new_training(client, name, experiment, tags, facts, folder, listener) as (run, workspace),
    ):
        files = []
        for number, member in enumerate(members):
            place_of_one = Path(scratch, str(number))
            place_of_one.mkdir()
            files.append(reader.fetch_model(client, member, place_of_one))
        spec = TrialSpec(
            ensemble.common_params(params, linear),
            corpus.folder,
            workspace.folder / "trial",
            reviews=reviews,
            epochs=1,
            hold_out=not refitted,
        )
        _set_environment(cache)
        beside = None
        if linear and refitted:
            beside = ensemble.fit_linear(corpus.train.head(reviews or len(corpus.train)))
        elif linear:
            beside = LinearModel.load(reader.fetch_linear(client, found, Path(scratch)))
        trainer = ensemble.EnsembleSpec(tuple(files), params, beside)
        made = _train_tracked(run, workspace, spec, corpus, listener, trainer)
    return made, members


@contextmanager
def _confirming(
    client: MlflowClient,
    found: Search,
    facts: writer.CorpusFacts,
    settings: Mapping[str, object],
    base: Path,
    listener: Listener,
) -> Iterator[tuple[writer.SearchRun, Workspace]]:
    """The run whose children confirm a search, made or taken up, and its folder, locked."""
    one = {k: v for k, v in settings.items() if k not in ("seed", "epochs", "initial_epoch")}
    tags = writer.common_tags(facts, {**one, "executions": 1})
    tags[writer.CONFIRMS] = found.run_id
    reviews = found.tags.get(writer.VALIDATION_REVIEWS, "")
    tags |= {writer.VALIDATION_REVIEWS: reviews} if reviews else {}
    name = f"confirm-{found.name}"[:250]
    store = str(client.tracking_uri)
    existing = reader.find_confirmation(client, found)
    if existing is None:
        experiment = _experiment_of(client, found.run_id)
        with create_workspace(base, name, store, TRAINING) as (begun, key):
            writer.Run(begun.outbox, key).log_corpus(facts)  # before the run is made: it is open
            begun.outbox.sync(key)
            run = writer.SearchRun.open(client, name, experiment, tags, "confirm", key)
            yield run, begun.renamed(run.run_id)
        return
    with open_workspace(base, existing.run_id, name, store, TRAINING) as workspace:
        await_workers(workspace.folder)
        run = writer.SearchRun.adopt(client, existing.run_id, existing.experiment_id, tags)
        replace(run, client=workspace.outbox).stop_trials(CRASHED)
        BackgroundDelivery(
            client, workspace.outbox, existing.run_id, None, _teller(listener)
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
    """Run trainings on workers; however that ends, no run is left open.

    Raises:
        SearchAborted: all have failed.
    """
    report = partial(trainings.listener, "epoch")
    processes = open_local_executor(workers, trainings.folder, report, environment)
    with _stopping(processes, trainings.run.stop_trials) as executor:
        trainings.all(executor, todo)
    if len(trainings.failed) == len(todo):
        raise SearchAborted(f"all trainings have failed, the last one with: {trainings.failed[-1]}")


def sync(
    search_ref: str | None = None,
    *,
    uri: str = "",
    folder: Path | None = None,
    listener: Listener = _ignore,
) -> list[Synced]:
    """Bring into MLflow what it lacks of searches whose tracking store was away.

    Searches and trainings whose process has died are closed as KILLED; searches can still go on.
    A search that is running, or whose run was deleted in MLflow, is left alone, and told of, unless
    it is asked for. Where one of several has a ``problem``, the others are brought in.

    Args:
        search_ref: run id or name; ``None``: all searches of this folder.
        uri: the tracking store; by default the one with which the search was begun.
        folder: the ``folder`` of :func:`search`.
        listener: called with ``notice``.

    Raises:
        UserError: no such search here, or its store cannot be used or does not know it.
        Deleted: its run is in MLflow's bin.
        SearchAborted: a search is still running.
        NotDelivered: the store has gone away again.
    """
    return sync_folder(_base(folder), search_ref, uri, _teller(listener))


def best(search_ref: str | None = None, *, uri: str = "") -> tuple[Search, Trial]:
    """The winner of a search (the last one, or by run id or name), read from MLflow alone.

    Where the search has been confirmed, it is the best training of the recommended configuration.

    Raises:
        UserError: no such search, or none of its trials has finished.
    """
    client = connect_existing(uri, reading=True)
    found = reader.find_search(client, search_ref)
    confirmed = read_confirmation(found, uri=uri)
    if confirmed is not None:
        with suppress(UserError):  # deleted meanwhile
            return found, reader.read_run(client, confirmed.winner.run_ids[0])
    return found, reader.read_best(client, found)


def read_confirmation(search: Search, *, uri: str = "") -> Confirmation | None:
    """What :func:`confirm` has found out about a search, if it has been confirmed."""
    from imdbtune.confirm import results

    return results.read(connect_existing(uri, reading=True), search)


def baselines(search_ref: str | None = None, *, uri: str = "") -> list[Baseline]:
    """What the trials of a search have to beat: a linear model, and the larger class.

    Raises:
        UserError: no such search.
    """
    client = connect_existing(uri, reading=True)
    return reader.read_baselines(client, reader.find_search(client, search_ref))


def compare(
    search_refs: Iterable[str] = (),
    *,
    where: str = "",
    sort: str = "",
    columns: Sequence[str] = (),
    limit: int = 0,
    uri: str = "",
) -> Comparison:
    """The trials of searches in one table (``.rows``, or ``.frame`` for pandas), the best first.

    Args:
        search_refs: names or run ids; without any, the last search.
        where: only trials that meet this, such as ``rnn=gru and maxlen>=200``.
        sort: another order, such as ``train_seconds:asc``.
        columns: only these.
        limit: trials at most; 0: all.
        uri: the tracking store.

    Raises:
        UserError: no such search or column, or a condition that cannot be read.
    """
    client = open_runs(uri)
    refs: list[str | None] = list(search_refs) or [None]
    named = [reader.find_search(client, ref) for ref in refs]
    found = list({search.run_id: search for search in named}.values())  # by id and by name is once
    read = [(search, reader.read_trials(client, search)) for search in found]
    beaten = {search.run_id: reader.read_baselines(client, search) for search in found}
    return replace(compare_searches(read, where, sort, columns, limit), baselines=beaten)


def report(
    search_ref: str | None = None, out: Path = Path("report.html"), *, uri: str = ""
) -> Search:
    """Write one HTML page about a search to ``out``, an older report there being replaced.

    Raises:
        UserError: no such search, or ``out`` cannot be written or is something else.
    """
    from imdbtune.report.page import check_out, draw_all, read_report_data, render

    check_out(out)
    client = connect_existing(uri, reading=True)
    runs = runs_of(client)
    found = reader.find_search(runs, search_ref)
    material = read_report_data(client, found, reader.read_trials(runs, found))
    address = str(client.tracking_uri)
    place = {"ui": address.rstrip("/")} if address.startswith("http") else {}
    page = render(material, draw_all(material), **place)
    try:
        replace_text(out, page)
    except OSError as error:
        if is_disk_full(error):
            raise
        raise UserError(
            f"{quote_path(out)} cannot be written: {error.strerror}; name another file with --out."
        ) from error
    return found


@contextmanager
def ui(search_ref: str | None = None, *, port: int = PORT, uri: str = "") -> Iterator[MlflowServer]:
    """MLflow's pages over the store of a search, while the block runs.

    A store that is a server has its own; for any other, one is started on this machine.

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


def _open_again(
    trial: Trial, elsewhere: str, cache: Path | None, listener: Listener
) -> tuple[Corpus, writer.CorpusFacts]:
    """The reviews that a trial was trained on, to train on them again.

    Raises:
        UserError: they are not here, or not the same any more.
    """
    given = _data_of(trial, elsewhere)
    check_source(given.source, given)
    corpus = _open_corpus(given, cache, listener)
    check_corpus(corpus, trial.tags, trial.name)
    return corpus, corpus_facts(corpus, given.source)


def _experiment_of(client: MlflowClient, run_id: str) -> str:
    """The name of a run's experiment."""
    return str(client.get_experiment(client.get_run(run_id).info.experiment_id).name)


def open_trial_corpus(trial: Trial, cache: Path | None = None) -> Corpus:
    """The corpus that a trial was trained on.

    Raises:
        UserError: it is not here, or it is not the same any more.
    """
    data = _data_of(trial)
    corpus = open_corpus(data.source, cache or default_cache(), lambda text: None, config=data)
    check_corpus(corpus, trial.tags, trial.name)
    return corpus


def _data_of(trial: Trial, elsewhere: str = "") -> DataConfig:
    """Which reviews a trial was trained on, how they were read, and where they are now."""
    told = trial.tags.get(writer.READING, "{}")
    try:
        reading = parse_config({"data": json.loads(told)}).data
    except (ValueError, UserError) as error:
        raise UserError(
            f"run {trial.run_id} ({trial.name}) does not say how its reviews were read: its tag "
            f"{writer.READING} is {short_repr(told)}; set it as it was."
        ) from error
    return replace(reading, source=elsewhere or trial.tags.get(writer.CORPUS, ""))


def check_corpus(corpus: Corpus, tags: Mapping[str, str], name: str) -> None:
    """Raise UserError unless the corpus is the one that a run's tags name."""
    was = tags.get(writer.DIGEST, "")
    if corpus.digest != was:
        raise UserError(
            f"the reviews at {tags.get(writer.CORPUS)} are not those of {name} "
            f"(digest {corpus.digest[:12]}, was {was[:12]}); put the old ones back."
        )


def evaluate(
    trial: Trial, *, uri: str = "", cache: Path | None = None, progress: Progress | None = None
) -> dict[str, float]:
    """Loss and accuracy on the corpus's test reviews, logged on the trial's run, once.

    A later call returns what is logged. ``progress`` is told how many reviews are done.
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
    reader.count_test_evaluation(client, trial)
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

    Each of the ``formats`` is opened again in a fresh process without this package, and has to
    answer to real reviews as Keras does. An export of the same trial that is there keeps the
    formats that it has, unless ``overwrite``. ``progress`` is told how many steps are done.

    Raises:
        UserError: the model or the corpus is not to be had, the folder cannot be written, or the
            packages of a format are missing.
        ExportFailed: the model cannot be had in a format.
    """
    from imdbtune.export.format import Trained
    from imdbtune.export.formats import export_model
    from imdbtune.export.verify import sample_texts
    from imdbtune.training import ensemble

    client = connect_existing(uri, reading=True)
    corpus = open_trial_corpus(trial, cache)
    words = corpus.word_index()
    batching = trial.tags.get(writer.BATCHING, "buckets")
    members = ensemble.read(trial.tags.get(writer.MEMBERS, ""))
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
        return export_model(trained, formats, words, texts, metadata, folder, overwrite, progress)


def register(
    trial: Trial,
    name: str,
    *,
    uri: str = "",
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Version:
    """Register a trial's model in MLflow, as one that takes raw text, and make it the champion.

    Raises:
        UserError: no such name is allowed, the store refuses it, or as :func:`export`.
        ExportFailed: as :func:`export`.
    """
    from imdbtune.export.mlflow_format import MLFLOW, MODEL
    from imdbtune.tracking import model_registry

    model_registry.check_name(name)
    client = connect_existing(uri)
    trial = reader.read_run(client, trial.run_id)  # with what was logged since, as test figures
    with tempfile.TemporaryDirectory() as scratch:
        target, formats = Path(scratch, "export"), (MLFLOW.name,)
        told: dict[str, Any] = {"uri": uri, "cache": cache, "progress": progress}
        folder = export(trial, target, formats=formats, **told)
        return model_registry.register(client, trial, name, folder / MODEL)


def predict(
    model: str | Path,
    texts: Iterable[str],
    *,
    model_format: str = "",
    uri: str = "",
    cache: Path | None = None,
) -> Iterator[Prediction]:
    """Label and probability of each review text, by an exported model or one in MLflow.

    Args:
        model: an export folder, or ``models:/NAME@champion``, ``runs:/RUN_ID/model`` and the like.
        texts: the reviews.
        model_format: which format of an export folder to predict with.
        uri: the tracking store; for models in MLflow.
        cache: folder of the converted corpora, whose words a trial's own model needs.

    Raises:
        UserError: the folder is no export, or MLflow has no such model.
    """
    predictor = _predictor(str(model), model_format, uri, cache)
    return predictor.predictions([texts] if isinstance(texts, str) else texts)


def explain(
    model: str | Path,
    texts: Iterable[str],
    *,
    model_format: str = "",
    uri: str = "",
    cache: Path | None = None,
) -> Iterator[Explanation]:
    """As :func:`predict`, with the effect of each word; one more prediction for each word."""
    from imdbtune.export import occlusion as explaining

    predictor = _predictor(str(model), model_format, uri, cache)
    for text in [texts] if isinstance(texts, str) else texts:
        yield explaining.explain(predictor, text)


def read_texts(path: Path, column: str = "", progress: Progress | None = None) -> Iterator[str]:
    """The texts in a file for :func:`predict`; see :func:`imdbtune.data.columns.read_texts`."""
    from imdbtune.data import columns

    return columns.read_texts(path, column, progress)


def _predictor(model: str, model_format: str, uri: str, cache: Path | None) -> Predictor:
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
    """Checks of this machine, one after the other: versions, cores, disk, store, data, tools.

    Each has a ``state``: ``ok``, ``warning``, or ``problem`` where imdbtune cannot be used.
    """
    from imdbtune.doctor import examine

    return examine(uri, cache or default_cache())
