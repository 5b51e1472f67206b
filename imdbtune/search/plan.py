"""Resolve what a configuration leaves open, and estimate how long its search takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from imdbtune.cluster.worker_pool import check_store
from imdbtune.config.hyperparameters import beside_own
from imdbtune.config.own_model import inspect_model
from imdbtune.config.registry import check_extra
from imdbtune.config.schema import SearchConfig, parse_config, review_samples
from imdbtune.data.sources import check_contents, check_source
from imdbtune.errors import UserError
from imdbtune.models.own_metric import check_own_metrics
from imdbtune.search.context import Context
from imdbtune.search.initial_trials import check_initial_trials
from imdbtune.search.pruner import note_on_pruner
from imdbtune.search.sampler import sampler_kind
from imdbtune.tracking.connection import resolve_uri
from imdbtune.training.spec import TrainingSettings

if TYPE_CHECKING:
    from imdbtune.data.corpus import Corpus
    from imdbtune.search.estimate import Estimate


@dataclass(frozen=True)
class Plan:
    """A resolved search, before anything is created."""

    config: SearchConfig
    store: str  # URI of the tracking store
    workers: int
    size: int | None  # number of configurations in the space; None: infinite
    reading: Mapping[str, object]  # columns of a table of reviews
    cluster: str = ""  # address of a Dask scheduler; empty: processes of this machine


def make_plan(config: SearchConfig, context: Context, *, with_contents: bool = False) -> Plan:
    """Resolve all that a configuration leaves open, without creating anything.

    Args:
        config: the configuration.
        context: the circumstances.
        with_contents: also check the reviews, as far as that takes less than a second.

    Raises:
        UserError: the data or the sampler cannot be used, or the workers of the cluster cannot
            reach the store.
    """
    if context.cluster:
        config = parse_config(config.as_dict(), {"cluster.address": context.cluster})
    tuner = config.tuner.kind
    check_extra(f"the sampler {tuner}", tuner, sampler_kind(config).installed_by)
    check_initial_trials(config)
    reading = check_source(config.data.source, config.data)
    if note := note_on_pruner(config):
        context.notify(note)
    if with_contents:
        check_contents(config.data.source, config.data)
    store = resolve_uri(context.uri or config.tracking.uri)
    found = Plan(config, store, context.worker_count, config.space.size(), reading)
    if config.cluster.is_local:
        return found
    check_store(store, config.cluster.address)
    return replace(found, workers=0, cluster=config.cluster.address)


def open_reviews(config: SearchConfig, context: Context) -> Corpus:
    """Return the reviews of a configuration, after checking that its own model and metrics fit.

    Raises:
        UserError: they cannot be read, the model or a metric cannot have their labels, or a label
            has fewer rows than there are folds.
    """
    corpus = context.open_corpus(config.data)
    if config.space.own is not None:
        config.space.own.check_labels(corpus.labels)
    check_own_metrics(config.own_metrics, len(corpus.labels))
    TrainingSettings.of(config).division.check(corpus.train, config.data.reviews)
    return corpus


def own_model_config(config: SearchConfig, model: object, context: Context) -> SearchConfig:
    """Return a configuration with a user's own model in place of imdbtune's.

    A notice names the hyperparameters that this leaves out, as they are of imdbtune's models.

    Args:
        model: ``FILE.py:FUNCTION``, a function ``build(hp)``, or Keras Tuner's ``HyperModel``.

    Raises:
        UserError: the configuration has an own model, or ``model`` cannot be trained.
    """
    if config.space.own is not None:
        raise UserError(
            f"the configuration has the model {config.model.build} already; give one of the two."
        )
    table = config.as_dict()
    space = table["space"]
    own = inspect_model(model, Path(), review_samples(space))
    kept = {name: values for name, values in space.items() if name in beside_own(own.compiled)}
    found = parse_config({**table, "space": kept}, {"model.build": model})
    if left_out := [name for name in space if name not in kept]:
        context.notify(
            f"left out, as they belong to imdbtune's own models: {', '.join(left_out)}; "
            f"{found.model.build} is searched over what it draws."
        )
    return found


def estimate_duration(plan: Plan, context: Context, corpus: Corpus | None = None) -> Estimate:
    """Estimate the duration of a search on this machine from a few timed steps.

    Args:
        corpus: that of the plan; default: it is opened.

    Raises:
        UserError: the search would run on a cluster.
        SearchAborted: the steps failed.
    """
    from imdbtune.search import estimate

    if plan.cluster:
        raise UserError(
            "--estimate times steps on this machine and cannot estimate the workers of "
            f"{plan.cluster}; omit --estimate or --cluster."
        )
    context.set_environment()
    corpus = corpus or context.open_corpus(plan.config.data)
    context.notify("timing some steps of the trials that differ most ...")
    estimated = estimate.estimate(plan.config, corpus, plan.workers)
    context.notify(f"estimated: {estimate.in_words(estimated)}")
    return estimated
