"""The Python API: a function for each command; it raises, and never prints or exits."""

from __future__ import annotations

import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
import tomli_w

from imdbtune import results, tracking
from imdbtune.cluster import await_workers, cpu_count, open_cluster, training_environment
from imdbtune.comparison import Comparison, compare_searches
from imdbtune.config import SearchConfig
from imdbtune.data.sources import check_source, default_cache, open_corpus
from imdbtune.errors import SearchAborted, UserError, shown
from imdbtune.journal import Journal
from imdbtune.results import Search, Trial
from imdbtune.resuming import (
    Agreement,
    changed_config,
    config_of_unbegun,
    note_limits,
    reconcile,
    stored_config,
)
from imdbtune.store import connect, connect_existing, resolve_uri
from imdbtune.trial import TrialSpec
from imdbtune.ui import PORT, Pages, run_page, serve
from imdbtune.worker import Trainer, TrialFailure, TrialJob, run_trial

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from imdbtune.data.corpus import Corpus
    from imdbtune.predict import Prediction, Predictor
    from imdbtune.registry import Version
    from imdbtune.reproduction import Reproduction

Listener = Callable[[str, dict[str, Any]], None]
PUBLISH_EVERY_S = 15.0


def _ignore(kind: str, facts: dict[str, Any]) -> None:
    """The listener of those who do not listen."""


@dataclass(frozen=True)
class Plan:
    """What a search would run, before anything is created."""

    config: SearchConfig
    store: str
    workers: int
    size: int | None


def plan(config: SearchConfig, workers: int | None = None) -> Plan:
    """Resolve what is left open in a configuration; touches nothing."""
    check_source(config.data.source)
    count = cpu_count() if workers is None else workers
    return Plan(config, resolve_uri(config.tracking.uri), count, config.space.size())


def corpus_facts(corpus: Corpus, source: str) -> tracking.CorpusFacts:
    """What the tracking store is told of a corpus."""
    named = str(Path(source).absolute()) if source.endswith(".npz") else corpus.name
    return tracking.CorpusFacts(
        corpus.name, corpus.title, corpus.digest, named, len(corpus.train), len(corpus.test)
    )


def search(
    config: SearchConfig,
    *,
    workers: int | None = None,
    cache: Path | None = None,
    folder: Path | None = None,
    listener: Listener = _ignore,
    trainer: Trainer | None = None,
) -> Search:
    """Run a search to its end and return it as MLflow has it.

    Args:
        config: from :func:`imdbtune.config.load_config`.
        workers: processes, each with one thread; ``None``: one a core; 0: in this process.
        cache: folder of the converted corpora.
        folder: folder for what a search needs while it runs; default ``.imdbtune`` here.
        listener: called with what happens: ``notice``, ``opened``, ``started``, ``epoch``,
            ``retried``, ``ended``, ``exhausted``; of a search that goes on also ``resumed``.
        trainer: instead of :func:`imdbtune.training.train_trial`.

    Raises:
        UserError: the data or the tracking store cannot be used.
        SearchAborted: too many trials fail.
        KeyboardInterrupt: after the runs were closed as KILLED.
    """
    resolved = plan(config, workers)
    environment = _begin_workers(resolved, cache)
    corpus = open_corpus(
        config.data.source,
        cache or default_cache(),
        lambda text: listener("notice", {"text": text}),
    )
    client = connect(resolved.store)
    facts = corpus_facts(corpus, config.data.source)
    here = _searches(folder)
    here.mkdir(parents=True, exist_ok=True)
    parent = _open_search(client, config, facts, here)
    found = results.find_search(client, parent.run_id)
    home = _home(here, parent.run_id)
    with _closing(client, found, config) as publish, _only_driver(home):
        _describe(client, parent, config, facts)
        _drive(resolved, client, parent, home, corpus, listener, trainer, environment, publish)
    return results.find_search(client, parent.run_id)


def _begin_workers(resolved: Plan, cache: Path | None) -> dict[str, str]:
    """The environment of what trains; worker processes begin to import what they need."""
    from imdbtune import forking

    environment = _set_environment(cache)
    if resolved.workers:
        forking.begin(environment)
    return environment


def resume(
    search_ref: str | None = None,
    overrides: Mapping[str, object] = {},
    *,
    uri: str = "",
    workers: int | None = None,
    cache: Path | None = None,
    folder: Path | None = None,
    listener: Listener = _ignore,
    trainer: Trainer | None = None,
) -> Search:
    """Go on with a search that was interrupted or has crashed, or extend one that has ended.

    Finished trials stay as they are; those that were under way are closed as KILLED and run
    again, as new runs under their old numbers. What :func:`imdbtune.resuming.reconcile` finds
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
    client = connect_existing(uri)
    found = results.find_search(client, search_ref)
    here = _searches(folder)
    home = _home(here, found.run_id)
    journal = Journal(home / "journal.jsonl")
    begun = journal.path.exists()
    if not begun:
        _check_cut_off(client, found, here)
    with _only_driver(home):
        await_workers(home)
        before = stored_config(client, found) if begun else config_of_unbegun(client, found)
        where = {"tracking.uri": str(client.tracking_uri)}
        config = changed_config(before, journal, {**overrides, **where})
        resolved = plan(config, workers)
        environment = _begin_workers(resolved, cache)
        corpus = open_corpus(
            config.data.source,
            cache or default_cache(),
            lambda text: listener("notice", {"text": text}),
        )
        check_corpus(corpus, found.tags, found.name)
        agreed = reconcile(client, found, journal, config.tuner.retries)
        note_limits(journal, before, config)
        parent = tracking.SearchRun.adopt(client, found.run_id, found.experiment_id, found.tags)
        parent.reopen()
        with _closing(client, found, config) as publish:
            if not begun:
                _describe(client, parent, before, corpus_facts(corpus, before.data.source))
            _drive(
                resolved,
                client,
                parent,
                home,
                corpus,
                listener,
                trainer,
                environment,
                publish,
                agreed,
            )
    return results.find_search(client, found.run_id)


def _set_environment(cache: Path | None) -> dict[str, str]:
    """Set the variables that TensorFlow must find when it is imported; returns them."""
    environment = training_environment(cache or default_cache())
    os.environ.update(environment)
    return environment


def _searches(folder: Path | None) -> Path:
    """The folder with a folder for each search."""
    return (folder or Path(".imdbtune")).absolute()


def _home(here: Path, run_id: str) -> Path:
    if not run_id.isalnum():  # a server gives the ids
        raise UserError(f"run id {shown(run_id)} is none of MLflow's; use another tracking store.")
    return here / run_id


def _place(here: Path) -> str:
    return f"{socket.gethostname()}:{here}"


def _check_cut_off(client: MlflowClient, found: Search, here: Path) -> None:
    """Raise UserError unless it is this folder's, and was cut off before its first note."""
    place = found.tags.get(tracking.FOLDER, "")
    if place == _place(here) and not results.read_trials(client, found):
        return
    where = "the folder in which it was begun" if place in ("", _place(here)) else place
    raise UserError(
        f"search {found.name!r} cannot go on here: its journal {here / found.run_id} is missing; "
        f"run this in {where}, or begin a new one."
    )


@contextmanager
def _only_driver(home: Path) -> Iterator[None]:
    """A lock on the search's folder, which a dead process does not hold."""
    home.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(home / "driver.lock", is_singleton=True)
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        raise SearchAborted(
            f"another process is working on this search ({home}); wait for it, or stop it first."
        ) from None
    try:
        yield
    finally:
        lock.release()


def _drive(
    resolved: Plan,
    client: MlflowClient,
    parent: tracking.SearchRun,
    home: Path,
    corpus: Corpus,
    listener: Listener,
    trainer: Trainer | None,
    environment: Mapping[str, str],
    publish: Callable[[], None],
    agreed: Agreement | None = None,
) -> None:
    """Run the trials that are left, on workers; ``agreed``: of a search that goes on."""
    from imdbtune.oracles import make_oracle
    from imdbtune.tuner import Tuner

    config = resolved.config
    found = results.find_search(client, parent.run_id)
    listener("opened", {"search": found, "plan": resolved, "corpus": corpus, "folder": home})
    tuner = Tuner(
        config=config,
        oracle=make_oracle(config),
        search=parent,
        journal=Journal(home / "journal.jsonl"),
        corpus=corpus.folder,
        facts=corpus_facts(corpus, config.data.source),
        folder=home,
        store=resolved.store,
        listener=listener,
        clock=time.monotonic,
        trainer=trainer,
    )
    if agreed is not None:
        for text in agreed.notices():
            listener("notice", {"text": text})
        tuner.restore(agreed.events, agreed.trained, agreed.lost)
        listener("resumed", tuner.standing())
    try:
        with open_cluster(
            resolved.workers, home, lambda event: listener("epoch", event), environment
        ) as executor:
            tuner.run(executor, publish)
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt)
        tuner.stop("interrupted" if interrupted else f"search aborted: {error}")
        with suppress(Exception):  # the first error counts
            tuner.log_kept_models()
        raise
    tuner.log_kept_models()
    if agreed is not None and not tuner.begun:
        listener("notice", {"text": tuner.why_nothing_was_left()})


def _open_search(
    client: MlflowClient, config: SearchConfig, facts: tracking.CorpusFacts, here: Path
) -> tracking.SearchRun:
    """Make the parent run; what it is about is written by :func:`_describe`."""
    settings = {
        **_training_settings(config),
        "tuner": config.tuner.kind,
        "validation_reviews": _validation_reviews(facts, config),
        "config_digest": config.digest[:16],
        "about": config.about,
    }
    tags = tracking.common_tags(facts, settings)
    experiment = config.tracking.experiment
    return tracking.SearchRun.open(client, config.name, experiment, tags, "search", _place(here))


def _describe(
    client: MlflowClient,
    run: tracking.SearchRun,
    config: SearchConfig,
    facts: tracking.CorpusFacts,
) -> None:
    logged = config.as_dict()
    logged["tracking"]["uri"] = ""  # it may hold a password, and is where this is kept
    client.log_text(run.run_id, tomli_w.dumps(logged), "config.toml")
    run.log_corpus(facts)
    flat = {
        f"{section}.{key}": value
        for section in ("tuner", "training")
        for key, value in asdict(getattr(config, section)).items()
    }
    space = {f"space.{d.name}": d.in_words() for d in config.space.dimensions}
    run.log(params={**flat, **space})


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


def _validation_reviews(facts: tracking.CorpusFacts, config: SearchConfig) -> int:
    from imdbtune.data.batches import validation_split

    rows = min(facts.train_rows, config.data.reviews or facts.train_rows)
    return len(validation_split(rows)[1])


@contextmanager
def _closing(
    client: MlflowClient, search: Search, config: SearchConfig
) -> Iterator[Callable[[], None]]:
    """Publishes the leaderboard now and then, and ends the parent run however the search ends."""
    from imdbtune.leaderboard import publish

    varied = [d.name for d in config.space.searched] or ["rnn"]
    run = tracking.Run(client, search.run_id)
    began = time.monotonic() - search.metrics.get("search_seconds", 0.0)
    due = [time.monotonic() + PUBLISH_EVERY_S]

    def now_and_then() -> None:
        started = time.monotonic()
        if started >= due[0]:
            publish(client, search, varied, final=False)
            took = time.monotonic() - started
            due[0] = time.monotonic() + max(PUBLISH_EVERY_S, 20 * took)

    status, reason = "FINISHED", ""
    try:
        yield now_and_then
    except KeyboardInterrupt:
        status, reason = "KILLED", "interrupted"
        raise
    except BaseException as error:
        status, reason = "FAILED", str(error) or type(error).__name__
        raise
    finally:
        try:
            report = config.tracking.report and status == "FINISHED"
            publish(client, search, varied, final=True, report=report)
            run.log({"search_seconds": time.monotonic() - began})
        finally:
            run.end(status, reason)


def train(
    config: SearchConfig,
    *,
    cache: Path | None = None,
    folder: Path | None = None,
    listener: Listener = _ignore,
) -> Trial:
    """Train the one configuration of a file whose space has nothing to choose, tracked as a trial.

    Raises:
        UserError: the space has something to choose, or data or store cannot be used.
        SearchAborted: the training failed.
    """
    params = config.space.single()
    if params is None:
        names = ", ".join(d.name for d in config.space.searched)
        raise UserError(f"{config.name} leaves {names} open; fix them, or run imdbtune search.")
    store = resolve_uri(config.tracking.uri)
    corpus = open_corpus(
        config.data.source,
        cache or default_cache(),
        lambda text: listener("notice", {"text": text}),
    )
    client = connect(store)
    facts = corpus_facts(corpus, config.data.source)
    settings = {**_training_settings(config), "epochs": config.training.epochs}
    tags = tracking.common_tags(facts, settings)
    run = tracking.SearchRun.open(client, config.name, config.tracking.experiment, tags, "train")
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        # The settings have the names of the fields that they fill.
        spec = TrialSpec(params, corpus.folder, Path(scratch), **settings)  # type: ignore[arg-type]
        _set_environment(cache)
        return _train_tracked(run, store, spec, corpus, facts, listener)


def _train_tracked(
    run: tracking.SearchRun,
    store: str,
    spec: TrialSpec,
    corpus: Corpus,
    facts: tracking.CorpusFacts,
    listener: Listener,
    trainer: Trainer | None = None,
) -> Trial:
    """Train in this process, as a run that has been opened; it is closed however that ends."""
    run.log_corpus(facts)
    run.log(params={**spec.params.as_dict(), "seed": spec.seed})
    told = {"run_id": run.run_id, "params": spec.params, "epochs": spec.epochs}
    listener("opened", {**told, "corpus": corpus})
    job = TrialJob("", spec, store, run.run_id, trainer=trainer)
    try:
        outcome = run_trial(job, lambda event: listener("epoch", event))
    except KeyboardInterrupt:
        run.end("KILLED", "interrupted")
        raise
    if isinstance(outcome, TrialFailure):
        raise SearchAborted(f"the training failed: {outcome.reason}")
    return results.read_run(run.client, run.run_id)


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
        trainer: instead of :func:`imdbtune.training.train_trial`; for the others see
            :func:`search`.

    Raises:
        UserError: no such run, it has not finished, or its reviews are not here.
        SearchAborted: the training failed.
    """
    from imdbtune import reproduction

    client = connect_existing(uri)
    stages = reproduction.read_stages(client, run_id)
    original, settings = stages[-1].trial, stages[-1].settings
    source = data or original.tags.get(tracking.CORPUS, "")
    check_source(source)
    corpus = open_corpus(
        source, cache or default_cache(), lambda text: listener("notice", {"text": text})
    )
    check_corpus(corpus, original.tags, original.name)
    facts = corpus_facts(corpus, source)
    tags = tracking.common_tags(facts, {**settings, "reproduces": run_id})
    experiment = client.get_experiment(client.get_run(run_id).info.experiment_id).name
    name = f"reproduce-{original.name}"[:250]
    run = tracking.SearchRun.open(client, name, experiment, tags, "train")
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        *before, spec = reproduction.make_specs(stages, corpus.folder, Path(scratch))
        chained = reproduction.Chained(before, trainer)
        _set_environment(cache)
        again = _train_tracked(run, resolve_uri(uri), spec, corpus, facts, listener, chained)
    compared = reproduction.compare_runs(client, original, again, spec.executions)
    run.log(tags={"imdbtune.agrees": compared.verdict})
    client.log_dict(run.run_id, compared.as_dict(), "reproduction.json")
    return compared


def best(search_ref: str | None = None, *, uri: str = "") -> tuple[Search, Trial]:
    """The winner of a search (the last one, or by run id or name), read from MLflow alone.

    Raises:
        UserError: no such search, or none of its trials has finished.
    """
    client = connect_existing(uri)
    found = results.find_search(client, search_ref)
    return found, results.read_best(client, found)


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
    client = connect_existing(uri)
    refs: list[str | None] = list(search_refs) or [None]
    found = [results.find_search(client, ref) for ref in refs]
    read = [(search, results.read_trials(client, search)) for search in found]
    return compare_searches(read, where, sort, columns, limit)


def report(
    search_ref: str | None = None, out: Path = Path("report.html"), *, uri: str = ""
) -> Search:
    """Write one HTML page about a search to ``out``, an older report there being replaced.

    Raises:
        UserError: no such search, or ``out`` cannot be written or is something else.
    """
    from imdbtune.report.page import check_out, draw_all, read_material, render

    check_out(out)
    client = connect_existing(uri)
    found = results.find_search(client, search_ref)
    material = read_material(client, found, results.read_trials(client, found))
    address = str(client.tracking_uri)
    place = {"ui": address.rstrip("/")} if address.startswith("http") else {}
    out.write_text(render(material, draw_all(material), **place), encoding="utf-8")
    return found


@contextmanager
def ui(search_ref: str | None = None, *, port: int = PORT, uri: str = "") -> Iterator[Pages]:
    """MLflow's pages over the store of a search, while the block runs.

    A store that is a server has its own; for any other, one is started on this machine.

    Raises:
        UserError: no such store or search, or no free port.
        SearchAborted: the server does not start.
    """
    client = connect_existing(uri)
    store = str(client.tracking_uri)
    found = results.find_search(client, search_ref) if search_ref else None
    found = found or next(iter(results.read_searches(client, 1)), None)

    def page(address: str) -> str:
        return run_page(address, found.experiment_id, found.run_id) if found else ""

    if store.startswith("http"):
        address = store.rstrip("/")
        yield Pages(address, page(address))
        return
    with serve(store, port) as (address, process):
        yield Pages(address, page(address), process)


def open_trial_corpus(trial: Trial, cache: Path | None = None) -> Corpus:
    """The corpus that a trial was trained on.

    Raises:
        UserError: it is not here, or it is not the same any more.
    """
    source = trial.tags.get(tracking.CORPUS, "")
    corpus = open_corpus(source, cache or default_cache(), lambda text: None)
    check_corpus(corpus, trial.tags, trial.name)
    return corpus


def check_corpus(corpus: Corpus, tags: Mapping[str, str], name: str) -> None:
    """Raise UserError unless the corpus is the one that a run's tags name."""
    was = tags.get(tracking.DIGEST, "")
    if corpus.digest != was:
        raise UserError(
            f"the reviews at {tags.get(tracking.CORPUS)} are not those of {name} "
            f"(digest {corpus.digest[:12]}, was {was[:12]}); put the old ones back."
        )


def evaluate(trial: Trial, *, uri: str = "", cache: Path | None = None) -> dict[str, float]:
    """Loss and accuracy on the corpus's test reviews, logged on the trial's run, once.

    A later call returns what is logged.
    """
    logged = {k: v for k, v in trial.metrics.items() if k in ("test_accuracy", "test_loss")}
    if len(logged) == 2:
        return logged
    from imdbtune.evaluation import evaluate_model

    client = connect_existing(uri)
    corpus = open_trial_corpus(trial, cache)
    with tempfile.TemporaryDirectory() as folder:
        model = results.fetch_model(client, trial, Path(folder))
        padded = trial.tags.get(tracking.BATCHING) == "padded"
        metrics = evaluate_model(model, corpus.test, trial.params, padded)
    tracking.Run(client, trial.run_id).log(metrics)
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
) -> Path:
    """Write a trial's model with its vocabulary, metadata and README to ``folder``.

    Each of the ``formats`` is opened again in a fresh process without this package, and has to
    answer to real reviews as Keras does.

    Raises:
        UserError: the model or the corpus is not to be had, the folder cannot be written, or the
            packages of a format are missing.
        ExportFailed: the model cannot be had in a format.
    """
    from imdbtune.export.format import Trained
    from imdbtune.export.formats import export_model
    from imdbtune.export.verify import sample_texts

    client = connect_existing(uri)
    corpus = open_trial_corpus(trial, cache)
    words = corpus.word_index()
    batching = trial.tags.get(tracking.BATCHING, "buckets")
    metadata = {
        "name": trial.name,
        "run_id": trial.run_id,
        "parameters": trial.params.as_dict(),
        "batching": batching,
        "metrics": {**trial.metrics, **(extra or {})},
        "data": {"name": corpus.name, "title": corpus.title, "digest": corpus.digest},
        "versions": {
            k.removeprefix("version."): v for k, v in trial.tags.items() if k.startswith("version.")
        },
    }
    with tempfile.TemporaryDirectory() as scratch:
        model = results.fetch_model(client, trial, Path(scratch))
        trained = Trained(model, trial.params, masked=batching != "padded")
        texts = sample_texts(corpus.train, words)
        return export_model(trained, formats, words, texts, metadata, folder, overwrite)


def register(trial: Trial, name: str, *, uri: str = "", cache: Path | None = None) -> Version:
    """Register a trial's model in MLflow, as one that takes raw text, and make it the champion.

    Raises:
        UserError: no such name is allowed, the store refuses it, or as :func:`export`.
        ExportFailed: as :func:`export`.
    """
    from imdbtune import registry
    from imdbtune.export.mlflow_format import MLFLOW, MODEL

    registry.check_name(name)
    client = connect_existing(uri)
    trial = results.read_run(client, trial.run_id)  # with what was logged since, as test figures
    with tempfile.TemporaryDirectory() as scratch:
        target, formats = Path(scratch, "export"), (MLFLOW.name,)
        folder = export(trial, target, uri=uri, cache=cache, formats=formats)
        return registry.register(client, trial, name, folder / MODEL)


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


def _predictor(model: str, model_format: str, uri: str, cache: Path | None) -> Predictor:
    from imdbtune import registry
    from imdbtune.export.mlflow_format import export_in
    from imdbtune.predict import Predictor

    if not registry.is_uri(model):
        return Predictor.load(export_in(Path(model)), model_format)
    client = connect_existing(uri)
    with tempfile.TemporaryDirectory() as scratch:
        folder = registry.fetch(client, model, Path(scratch))
        inner = export_in(folder)
        if inner != folder:
            return Predictor.load(inner, model_format)
        trial = results.read_run(client, registry.run_of(folder))
        words = open_trial_corpus(trial, cache).word_index()
        padded = trial.tags.get(tracking.BATCHING) == "padded"
        return Predictor.of_file(folder / "data", trial.params, words, padded)
