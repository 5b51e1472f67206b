"""The Python API: one function for each command; they raise, and never print or exit.

``context`` says where data and store are, what a task runs on, and who hears of it; see
:class:`imdbtune.search.context.Context`. All functions raise ``UserError`` if the input, the data
or the store cannot be used, and ``SearchAborted`` if trainings do not come to their end. Without a
name or run id, the last run or search is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from imdbtune.config.schema import SearchConfig
from imdbtune.confirm.description import describe_winner
from imdbtune.confirm.results import best_run_id, best_trial
from imdbtune.confirm.results import read_confirmation as read_confirmation
from imdbtune.confirm.results import read_front as read_front
from imdbtune.data.download import Progress
from imdbtune.data.sources import default_cache
from imdbtune.report.comparison import Comparison, read_comparison
from imdbtune.report.confirmed_change import compare_confirmed as compare_confirmed
from imdbtune.report.refresh import discard as discard
from imdbtune.report.refresh import refresh_page
from imdbtune.report.search_list import list_searches as list_searches
from imdbtune.search.context import Context as Context
from imdbtune.search.disposal import delete as delete
from imdbtune.search.disposal import rename as rename
from imdbtune.search.disposal import undelete as undelete
from imdbtune.search.notification import describe_search, sends_result
from imdbtune.search.plan import Plan as Plan
from imdbtune.search.plan import estimate_duration, make_plan, own_model_config
from imdbtune.search.sync import SyncResult, sync_folder
from imdbtune.tracking import reader
from imdbtune.tracking.connection import connect_existing
from imdbtune.tracking.entities import Baseline, Search, Trial
from imdbtune.tracking.mlflow_server import PORT, MlflowServer, open_page
from imdbtune.tracking.sqlite_reader import open_runs

if TYPE_CHECKING:
    from imdbtune.confirm.entities import Confirmation
    from imdbtune.confirm.reproduction import Reproduction
    from imdbtune.doctor import Check
    from imdbtune.export.occlusion import Explanation
    from imdbtune.export.predictor import Prediction
    from imdbtune.search.estimate import Estimate
    from imdbtune.search.python_model import BuildsModel
    from imdbtune.tracking.model_registry import Version

HERE = Context()  # the defaults: this machine, its cache and its store


def plan(config: SearchConfig, context: Context = HERE) -> Plan:
    """Resolve all that a configuration leaves open, and check the reviews; create nothing."""
    return make_plan(config, context, with_contents=True)


def estimate(config: SearchConfig, context: Context = HERE) -> Estimate:
    """Estimate the duration of a search on this machine from a few timed steps; log nothing."""
    return estimate_duration(make_plan(config, context), context)


@sends_result("search", describe_search)
def search(
    config: SearchConfig,
    context: Context = HERE,
    *,
    model: BuildsModel | None = None,
    estimated: bool = False,
) -> Search:
    """Run a search to its end and return it as logged in MLflow; an interrupt closes its runs.

    Args:
        config: from :func:`imdbtune.config.schema.load_config`; ``data`` of the context is unused.
        model: your own: a function ``build(hp)``, a ``HyperModel`` or ``FILE.py:FUNCTION``.
        estimated: estimate the duration first, and log the estimate.
    """
    from imdbtune.report.leaderboard import publish_page
    from imdbtune.search.session import start_search

    config = config if model is None else own_model_config(config, model, context)
    return start_search(config, context, publish_page, estimated=estimated)


@sends_result("search", describe_search)
def resume(
    search_ref: str | None = None, overrides: Mapping[str, object] = {}, context: Context = HERE
) -> Search:
    """Resume an interrupted or crashed search, or extend a finished one.

    Trials that were running are closed as KILLED and run again, under the same trial numbers.

    Args:
        overrides: new limits, which last; ``imdbtune.search.resume.LIMITS`` lists them.
    """
    from imdbtune.report.leaderboard import publish_page
    from imdbtune.search.session import resume_search

    return resume_search(search_ref, overrides, context, publish_page)


def train(config: SearchConfig, context: Context = HERE) -> Trial:
    """Train the only configuration of a space, tracked like a trial."""
    from imdbtune.search.rerun import train_single

    return train_single(config, context)


def reproduce(run_id: str, context: Context = HERE) -> Reproduction:
    """Train a finished run again from its record in MLflow, as a new run, and compare the two.

    A Hyperband trial that continues another is trained from the beginning of the first.
    """
    from imdbtune.confirm.reproduction import reproduce_run

    return reproduce_run(connect_existing(context.uri), run_id, context)


@sends_result("confirmation of", describe_winner)
def confirm(
    search_ref: str | None = None,
    context: Context = HERE,
    *,
    top: int = 5,
    seeds: int = 5,
    test: bool = False,
    margin: float = 0.005,
    until_settled: bool = False,
) -> Confirmation:
    """Train the best configurations of a search again with new seeds, and compare them.

    Called again, it trains only what is missing. The trainings are children of a separate run.

    Args:
        context: the results of its ``trainer`` must tell which reviews were classified right.
        top: this and all others are those of :class:`imdbtune.confirm.confirmation.Extent`.
    """
    from imdbtune.confirm.confirmation import Extent, confirm_search
    from imdbtune.report.leaderboard import publish_page

    extent = Extent(top, seeds, test, margin, until_settled)
    return confirm_search(search_ref, extent, context, publish_page)


def refit(trial: Trial, context: Context = HERE, *, seed: int | None = None) -> Trial:
    """Train a trial's configuration on all training reviews, for its best number of epochs.

    Nothing is held out: evaluate it on the test reviews. An existing run of it is returned instead.

    Args:
        trial: from :func:`best`; of a confirmed one, the epochs are the mean over seeds.
        seed: random seed; default: that of the trial.
    """
    from imdbtune.search.rerun import train_on_all_reviews

    return train_on_all_reviews(connect_existing(context.uri), trial, context, seed)


def ensemble(
    search_ref: str | None = None,
    count: int = 3,
    context: Context = HERE,
    *,
    refitted: bool = False,
    linear: bool = False,
) -> tuple[Trial, list[Trial]]:
    """Combine the models of the best ``count`` configurations; return the run and its members.

    An existing run of the same ensemble is returned instead of a new one.

    Args:
        count: number of configurations; confirmed ones come first, by their means.
        refitted: use each configuration trained on all training reviews (:func:`refit`).
        linear: mix them with a linear model (fitted weights) instead of averaging them.
    """
    from imdbtune.confirm.best_models import combine_best

    store = connect_existing(context.uri)
    return combine_best(store, search_ref, count, context, refitted=refitted, linear=linear)


def sync(
    search_ref: str | None = None, context: Context = HERE, *, restore: bool = False
) -> list[SyncResult]:
    """Deliver results to MLflow that it does not have yet, as its store was unreachable.

    Runs of crashed processes are closed as KILLED; their searches can be resumed. Without
    ``search_ref`` it is all of this folder; a ``problem`` with one does not stop the others.

    Args:
        restore: write a search anew as a whole, into a new run or SQLite file if those are gone.

    Raises ``Deleted`` if its run is in MLflow's bin, ``NotDelivered`` if its store is unreachable.
    """
    from imdbtune.report.leaderboard import publish_page

    return sync_folder(
        context.workspaces, search_ref, context.uri, context.notify, publish_page, restore
    )


def best(search_ref: str | None = None, *, uri: str = "") -> tuple[Search, Trial]:
    """Return a search and its best trial; after a confirmation, the recommended one's best."""
    runs = open_runs(uri)
    found = reader.find_search(runs, search_ref)
    trial = best_trial(runs, found)
    refresh_page(uri, found, trial.run_id)
    return found, trial


def baselines(search_ref: str | None = None, *, uri: str = "") -> list[Baseline]:
    """Return the baselines of a search: a linear model, and the majority class."""
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
    """Return the trials of searches, the best first, as ``.rows`` or as ``.frame`` for pandas.

    Args:
        search_refs: names or run ids; default: the last search.
        where: condition that the trials meet, such as ``rnn=gru and maxlen>=200``.
        sort: another order, such as ``train_seconds:asc``.
        columns, limit: columns and number of trials to return; default: all.
    """
    compared = read_comparison(open_runs(uri), search_refs, where, sort, columns, limit)
    for found, trials in compared.searches:
        refresh_page(uri, found, best_run_id(trials, compared.confirmed.get(found.run_id)))
    return compared


def report(
    search_ref: str | None = None, out: Path = Path("report.html"), *, uri: str = ""
) -> Search:
    """Write an HTML report of a search to ``out``; replace an older report there."""
    from imdbtune.report.page import write_report

    found = write_report(search_ref, out, uri)
    compare([found.run_id], uri=uri)  # writes its page in MLflow anew if need be
    return found


def report_comparison(
    search_refs: Sequence[str], out: Path = Path("report.html"), *, uri: str = ""
) -> list[Search]:
    """Write one HTML report that compares several searches of the same reviews to ``out``."""
    from imdbtune.report.comparison_page import write_comparison

    return write_comparison(search_refs, out, uri)


@contextmanager
def ui(search_ref: str | None = None, *, port: int = PORT, uri: str = "") -> Iterator[MlflowServer]:
    """Serve MLflow's web interface on the store of a search while the block runs.

    If the store is a server, its own interface is used; otherwise a server is started here.
    """
    client = connect_existing(uri, reading=True)
    found = reader.find_search(client, search_ref) if search_ref else None
    found = found or next(iter(reader.read_searches(client, 1)), None)
    with open_page(str(client.tracking_uri), port, found) as server:
        yield server


def evaluate(
    trial: Trial, context: Context = HERE, *, progress: Progress | None = None
) -> dict[str, float]:
    """Evaluate a trial's model on the test reviews unless it was; log and return all metrics."""
    from imdbtune.confirm.evaluation import evaluate_trial

    return evaluate_trial(connect_existing(context.uri), trial, context, progress)


def export(
    trial: Trial,
    folder: Path,
    context: Context = HERE,
    *,
    formats: Sequence[str] = ("keras",),
    overwrite: bool = False,
    metrics: Mapping[str, float] = {},
    progress: Progress | None = None,
) -> Path:
    """Write a trial's model with its vocabulary, metadata and README to ``folder``.

    Each of the ``formats`` is loaded in a new process without this package, and must predict as
    Keras does. An existing export of the same trial gets the new formats in addition, or is
    replaced if ``overwrite``. The README also shows ``metrics``.

    Raises ``ExportFailed`` if the model cannot be exported to a format.
    """
    from imdbtune.search.trial_model import ExportRequest, export_trial

    client = connect_existing(context.uri, reading=True)
    request = ExportRequest(formats, overwrite, metrics)
    return export_trial(client, trial, folder, request, context, progress)


def register(
    trial: Trial, name: str, context: Context = HERE, *, progress: Progress | None = None
) -> Version:
    """Register a trial's model for raw text in MLflow, and make it the champion."""
    from imdbtune.search.trial_model import register_trial

    return register_trial(connect_existing(context.uri), trial, name, context, progress)


def predict(
    model: str | Path, texts: Iterable[str], context: Context = HERE, *, model_format: str = ""
) -> Iterator[Prediction]:
    """Predict label and probability of each review with an exported model or one in MLflow.

    Args:
        model: an export folder, or a URI in the store of ``context``: ``models:/NAME@champion`` or
            ``runs:/RUN_ID/model``.
        model_format: format of an export folder; default: its first.
    """
    from imdbtune.search.trial_model import load_predictor

    predictor = load_predictor(str(model), model_format, context)
    return predictor.predictions([texts] if isinstance(texts, str) else texts)


def explain(
    model: str | Path, texts: Iterable[str], context: Context = HERE, *, model_format: str = ""
) -> Iterator[Explanation]:
    """Predict as :func:`predict`, with the effect of each word: one more prediction per word."""
    from imdbtune.export import occlusion
    from imdbtune.search.trial_model import load_predictor

    predictor = load_predictor(str(model), model_format, context)
    for text in [texts] if isinstance(texts, str) else texts:
        yield occlusion.explain(predictor, text)


def doctor(*, uri: str = "", cache: Path | None = None) -> Iterator[Check]:
    """Run the checks of this machine; the ``state`` of each is ok, warning or problem."""
    from imdbtune.doctor import run_checks

    return run_checks(uri, cache or default_cache())
