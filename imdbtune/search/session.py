"""Run a search, new or interrupted, from its parent run in MLflow to its final page."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from imdbtune.cluster.executor import Executor
from imdbtune.cluster.local_executor import open_local_executor
from imdbtune.cluster.trial_job import EpochEnded
from imdbtune.cluster.worker_pool import WorkerPool, check_artifacts, open_worker_pool
from imdbtune.config.schema import SearchConfig
from imdbtune.search import trusted_sources
from imdbtune.search.borrowed import NOTHING, Loan, find_loan, log_loan
from imdbtune.search.context import Context
from imdbtune.search.crash_recovery import (
    close_if_removed,
    recover_crashed_runs,
    report_removed_files,
    stop_crashed_trials,
)
from imdbtune.search.driver import Driver, stop_on_error, with_run_ids
from imdbtune.search.events import SearchOpened
from imdbtune.search.kept_models import KeptModels, no_download
from imdbtune.search.parent_run import log_configuration, open_parent_run
from imdbtune.search.plan import Plan, estimate_duration, make_plan, open_reviews
from imdbtune.search.resume import (
    Agreement,
    changed_config,
    check_journal_exists,
    journal_limits,
    reconcile,
    stored_config,
)
from imdbtune.search.same_sources import check_same_sources
from imdbtune.search.sampled_trials import SampledTrials
from imdbtune.search.sampler import make_sampler
from imdbtune.search.stopping import StoppingRules
from imdbtune.search.workspace import Workspace, create_workspace, workspace_of
from imdbtune.tracking import artifact_transfer, mlflow_names, reader, writer
from imdbtune.tracking.background_delivery import BackgroundDelivery, deliver_in_background
from imdbtune.tracking.connection import connect
from imdbtune.tracking.entities import Search
from imdbtune.tracking.outbox_delivery import Publish
from imdbtune.tracking.trial_corpus import check_corpus, corpus_facts

if TYPE_CHECKING:
    from imdbtune.data.corpus import Corpus
    from imdbtune.tracking.connection import MlflowClient


def start_search(
    config: SearchConfig, context: Context, publish: Publish, *, estimated: bool = False
) -> Search:
    """Run a new search to its end and return it as logged in MLflow.

    Args:
        publish: writes the search's page in MLflow.
        estimated: estimate the duration first, and log the estimate.

    Raises:
        UserError: the data, the tracking store or the cluster cannot be used.
        SearchAborted: too many trials failed, or the cluster was lost.
        Interrupted: after the runs were closed as KILLED.
    """
    config = (plan := make_plan(config, context)).config
    environment = context.start_environment(plan.workers)
    corpus = open_reviews(config, context)
    client = connect(plan.store, context.notify)
    facts = corpus_facts(corpus, config.data.source)
    loan = find_loan(client, config, facts)
    seconds = estimate_duration(plan, context, corpus).seconds if estimated else 0.0
    recover_crashed_runs(client, base := context.workspaces, context.notify)
    trusted_sources.remember(base, config.own_code.sources)
    with (
        _open_pool(plan, client, corpus, context) as pool,
        create_workspace(base, config.name, plan.store) as (prepared, key),
    ):
        log_configuration(writer.Run(prepared.outbox, key), config, facts)
        if seconds:
            writer.Run(prepared.outbox, key).log({mlflow_names.ESTIMATED: seconds})
        parent = open_parent_run(client, config, facts, key, base)
        workspace = prepared.renamed(parent.run_id)
        opened = Session(context, plan, corpus, client, parent, workspace, publish, pool)
        return opened.run(environment, loan=loan)


def resume_search(
    search_ref: str | None, overrides: Mapping[str, object], context: Context, publish: Publish
) -> Search:
    """Resume an interrupted or crashed search, or extend a finished one.

    Args:
        search_ref: run id or name; ``None``: the last search.
        overrides: new limits, by key such as ``tuner.max_trials``.
        publish: writes the search's page in MLflow.

    Raises:
        UserError: no such search, its journal is missing, or the configuration differs.
        SearchAborted: another process is running it, or the journal is damaged.
        Interrupted: after the runs were closed as KILLED.
    """
    client = context.connect()
    recover_crashed_runs(client, context.workspaces, context.notify)
    found = reader.find_search(client, search_ref)
    workspace = workspace_of(context.workspaces, found.run_id)
    check_journal_exists(client, found, workspace)
    with workspace.locked():
        left = BackgroundDelivery(
            client, workspace.outbox, found.run_id, None, context.notify, publish=publish
        )
        stop_crashed_trials(workspace, left)
        parent = writer.SearchRun.adopt(client, found.run_id, found.experiment_id, found.tags)
        before = stored_config(client, found, workspace.outbox)
        check_same_sources(before, overrides, found.name, context.workspaces)
        given = {**overrides, "tracking.uri": str(client.tracking_uri)}
        config = changed_config(before, workspace.journal, given)
        plan = make_plan(config, replace(context, uri=""))
        environment = context.start_environment(plan.workers)
        corpus = open_reviews(config, context)
        check_corpus(corpus, found.tags, found.name)
        with _open_pool(plan, client, corpus, context) as pool:
            agreed = reconcile(client, found, workspace.journal, config.tuner.retries)
            journal_limits(workspace.journal, before, plan.config)
            workspace.outbox.reopen(parent.run_id)
            opened = Session(context, plan, corpus, client, parent, workspace, publish, pool)
            facts = corpus_facts(corpus, config.data.source)
            loan = NOTHING if agreed.has_begun else find_loan(client, config, facts)
            return opened.run(environment, agreed, loan)


@contextmanager
def _open_pool(
    plan: Plan, client: MlflowClient, corpus: Corpus, context: Context
) -> Iterator[WorkerPool | None]:
    """Yield the worker pool of a plan with a cluster, after checking all workers."""
    if not plan.cluster:
        yield None
        return
    check_artifacts(client, writer.get_experiment(client, plan.config.tracking.experiment))
    with open_worker_pool(plan.cluster, plan.store, corpus.digest, context.notify) as pool:
        yield pool


@dataclass(frozen=True)
class Session:
    """A search whose parent run is open, in this process.

    Args:
        parent: its run, written at once.
        workspace: its folder, locked.
        publish: writes its page in MLflow.
        pool: the workers of its cluster; ``None``: this machine.
    """

    context: Context
    plan: Plan
    corpus: Corpus
    client: MlflowClient
    parent: writer.SearchRun
    workspace: Workspace
    publish: Publish
    pool: WorkerPool | None

    @property
    def config(self) -> SearchConfig:
        """The configuration of the search."""
        return self.plan.config

    def run(
        self,
        environment: Mapping[str, str],
        agreed: Agreement | None = None,
        loan: Loan = NOTHING,
    ) -> Search:
        """Run the remaining trials and end the search.

        Args:
            environment: variables of the worker processes.
            agreed: state of a resumed search.
            loan: what the sampler learns before the first trial.
        """
        found = reader.find_search(self.client, self.parent.run_id)
        self.workspace.save_run(found, self.config.tracking.experiment)
        travels = self.pool is not None or mlflow_names.CLUSTER in found.tags
        with (
            close_if_removed(self.client, found, self.workspace),
            deliver_in_background(
                self._delivery(),
                f"api.resume({found.run_id!r})",
                found.metrics.get("search_seconds", 0.0),
            ),
        ):
            # Samplers import libraries for seconds, and an interrupt then ends the run as well.
            source = self._make_source(found, travels)
            driver = self._make_driver(source)
            self._announce(found)
            if agreed is not None:
                self._restore(source, agreed)
            if self.config.tuner.learn_from and not (agreed and agreed.has_begun):
                self.context.notify(loan.in_words())
                log_loan(self.workspace.outbox, self.parent.run_id, loan)
                source.borrow(loan.trials)
            baselines = self._baselines(driver, found if agreed is not None else None)
            self._run_trials(driver, source, environment, baselines)
            if agreed is not None and not driver.started:
                self.context.notify(source.explain_nothing_to_train())
        report_removed_files(self.client, found, self.workspace.folder, self.context.notify)
        if travels:
            artifact_transfer.delete_leftovers(self.client, found, kept=source.has_leftover_files())
        return reader.find_search(self.client, self.parent.run_id)

    def _delivery(self) -> BackgroundDelivery:
        return BackgroundDelivery(
            self.client,
            self.workspace.outbox,
            self.parent.run_id,
            self.config.space.varied,
            self.context.notify,
            self.config.tracking.report,
            self.publish,
            self.context.report_outage,
        )

    def _make_source(self, found: Search, travels: bool) -> SampledTrials:
        """Return the trials; ``travels``: some of them were trained on other machines."""
        folder, outbox = self.workspace.folder, self.workspace.outbox
        reviews, limit = found.validation_reviews, self.context.time_limit()
        download = (
            partial(artifact_transfer.download_if_missing, self.client, outbox)
            if travels
            else no_download
        )
        return SampledTrials(
            config=self.config,
            sampler=make_sampler(self.config),
            journal=self.workspace.journal,
            corpus=self.corpus.folder,
            folder=folder,
            listener=with_run_ids(self.context.listener, outbox),
            stopping=StoppingRules(self.config, time.monotonic, reviews, limit),
            models=KeptModels(self.config, folder, download),
            remote=self.pool is not None,
        )

    def _make_driver(self, source: SampledTrials) -> Driver:
        return Driver(
            source=source,
            parent=replace(self.parent, client=self.workspace.outbox),
            facts=corpus_facts(self.corpus, self.config.data.source),
            folder=self.workspace.folder,
            listener=source.listener,
            trainer=self.context.trainer,
            log_models=self.config.tracking.keep_models == "all",
            timeout_minutes=self.config.tuner.trial_timeout,
            retries=self.config.tuner.retries,
            prunable=source.can_end_trials,
            system_metrics=self.config.tracking.system_metrics,
            check=self.workspace.check_not_removed,
        )

    def _announce(self, found: Search) -> None:
        """Report that the search begins, and on which workers."""
        plan = self.plan
        if self.pool is not None:
            plan = replace(plan, workers=len(self.pool.usable()))
            tags = {mlflow_names.CLUSTER: self.pool.address}
            writer.Run(self.workspace.outbox, self.parent.run_id).log(tags=tags)
        self.context.listener(SearchOpened(found, plan, self.corpus, self.workspace.folder))

    def _restore(self, source: SampledTrials, agreed: Agreement) -> None:
        """Bring the trials to the state on which journal and MLflow agree."""
        for text in agreed.notices():
            self.context.notify(text)
        source.models.discarded = agreed.discarded
        source.restore(agreed.events, agreed.unjournaled, agreed.lost)
        self.context.listener(source.progress())

    def _baselines(self, driver: Driver, resumed: Search | None) -> AbstractContextManager[None]:
        """Train missing baselines in the background of the block, if the configuration says so."""
        from imdbtune.search.baseline_job import baselines_in_background

        if not self.config.tracking.baseline:
            return nullcontext()
        known = reader.read_baselines(self.client, resumed) if resumed is not None else []
        return baselines_in_background(
            driver.parent,
            self.corpus,
            driver.facts,
            self.config,
            driver.folder,
            self.context.listener,
            [baseline.name for baseline in known if baseline.status == "FINISHED"],
        )

    def _run_trials(
        self,
        driver: Driver,
        source: SampledTrials,
        environment: Mapping[str, str],
        baselines: AbstractContextManager[None],
    ) -> None:
        """Run the trials; close all runs and log the kept models, also after an error."""

        def stop(reason: str) -> None:
            driver.parent.stop_trials(reason)
            source.models.log(self.workspace.outbox)

        with stop_on_error(self._open_executor(source, environment), stop) as executor, baselines:
            driver.run(executor)
        source.models.log(self.workspace.outbox)

    def _open_executor(
        self, source: SampledTrials, environment: Mapping[str, str]
    ) -> AbstractContextManager[Executor]:
        def report(event: EpochEnded) -> bool:
            self.context.listener(event)
            return source.ends_trial(event)

        if self.pool is None:
            return open_local_executor(
                self.plan.workers, self.workspace.folder, report, environment
            )
        from imdbtune.cluster.remote_executor import open_remote_executor

        return open_remote_executor(
            self.pool,
            self.client,
            outbox=self.workspace.outbox,
            search=self.parent.run_id,
            corpus=self.corpus.folder,
            report=report,
            keep_model=self.config.tracking.chooses_models,
        )
