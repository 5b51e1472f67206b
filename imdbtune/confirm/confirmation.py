"""Confirm a search: train its best configurations again with new seeds, and compare them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from imdbtune.cluster.local_executor import open_local_executor
from imdbtune.confirm import results, runs
from imdbtune.confirm.entities import Confirmation
from imdbtune.confirm.evaluation import evaluate_trial
from imdbtune.confirm.rule import LEVEL, MARGIN, Rule
from imdbtune.errors import UserError
from imdbtune.search.context import Context
from imdbtune.search.crash_recovery import (
    close_if_removed,
    recover_crashed_runs,
    stop_crashed_trials,
)
from imdbtune.search.driver import Driver, stop_on_error, with_run_ids
from imdbtune.search.events import ConfirmationOpened
from imdbtune.search.parent_run import settings_tags
from imdbtune.search.recorded import Stage, read_stage
from imdbtune.search.rerun import MAX_NAME
from imdbtune.search.resume import CRASHED, stored_config
from imdbtune.search.trusted_sources import find_code
from imdbtune.search.workspace import TRAINING, Workspace, create_workspace, open_workspace
from imdbtune.tracking import mlflow_names, reader, run_record, writer
from imdbtune.tracking.background_delivery import BackgroundDelivery, deliver_in_background
from imdbtune.tracking.entities import Search
from imdbtune.tracking.outbox_delivery import Publish
from imdbtune.tracking.own_models import code_tags
from imdbtune.tracking.predictions import gains_file

if TYPE_CHECKING:
    from imdbtune.config.own_code import OwnCode
    from imdbtune.data.corpus import Corpus
    from imdbtune.tracking.connection import MlflowClient

ROUNDS = (3, 5, 8, 13, 20, 30, 50)  # seeds, of a confirmation until it is settled
AGAIN = "Run imdbtune confirm again, which trains only what is missing."


@dataclass(frozen=True)
class Extent:
    """How much a confirmation trains.

    Args:
        top: number of configurations.
        seeds: number of trainings of each.
        test: evaluate the trainings of the recommended configuration on the test reviews.
        margin: by which the recommended configuration may be worse than any other.
        until_settled: train in rounds, and only those that are undecided; ``seeds`` is the limit.
    """

    top: int = 5
    seeds: int = 5
    test: bool = False
    margin: float = MARGIN
    until_settled: bool = False

    @property
    def rounds(self) -> list[int]:
        """How many seeds each undecided configuration has after each round."""
        if not self.until_settled:
            return [self.seeds]
        return [*(seeds for seeds in ROUNDS if seeds < self.seeds), self.seeds]

    @property
    def rule(self) -> Rule:
        """What is recommended; the rounds share the level, as each looks at the results."""
        return Rule(self.margin, LEVEL / len(self.rounds))


def confirm_search(
    search_ref: str | None, extent: Extent, context: Context, publish: Publish
) -> Confirmation:
    """Train the best configurations of a search again with new seeds, and compare them.

    The trainings are tracked as children of a separate run. Called again, for example after a crash
    or with more seeds, it trains only what is missing.

    Args:
        search_ref: run id or name; ``None``: the last search.
        extent: how much is trained.
        context: the results of its ``trainer`` must tell which reviews were classified right.
        publish: writes the search's page in MLflow.

    Raises:
        UserError: no such search, none of its trials has finished, or its reviews are missing.
        SearchAborted: all trainings failed, or the folder of the confirmation was removed.
    """
    client = context.connect()
    recover_crashed_runs(client, context.workspaces, context.notify)
    found = reader.find_search(client, search_ref)
    leading = runs.configurations_to_confirm(found, reader.read_trials(client, found), extent.top)
    stages = [read_stage(client, trial) for trial in leading]
    code = find_code(client, leading[0], context)
    environment = context.start_environment(context.worker_count)
    corpus, facts = context.open_trial_corpus(leading[0])
    opened = _Opened(client, context, found, stages, corpus, facts, code)
    for seeds in extent.rounds:
        concluded = opened.run_round(seeds, extent.rule, environment)
        undecided = [stage for stage in stages if stage.trial.run_id in concluded.undecided]
        if not undecided:
            break
        opened = replace(opened, stages=undecided)
    if extent.test:
        for run_id in concluded.winner.run_ids:
            evaluate_trial(client, reader.read_run(client, run_id), context)
        concluded = opened.compare(extent.rule)
    with suppress(UserError):  # for a search logged by an early version
        config = stored_config(client, found)
        publish(client, found.run_id, config.space.varied, config.tracking.report, final=True)
    return concluded


@dataclass(frozen=True)
class _Opened:
    """A search that is being confirmed, with its reviews."""

    client: MlflowClient
    context: Context
    search: Search
    stages: list[Stage]
    corpus: Corpus
    facts: writer.CorpusFacts
    code: OwnCode  # of the user's own

    def run_round(self, seeds: int, rule: Rule, environment: dict[str, str]) -> Confirmation:
        """Train what is missing of so many seeds, and compare all."""
        with self.parent_run() as (run, workspace):
            self.train_missing(run, workspace, seeds, environment)
            if workspace.outbox.is_empty():
                workspace.discard()
        return self.compare(rule)

    def compare(self, rule: Rule) -> Confirmation:
        """Compare the trainings that MLflow has, and log the result."""
        run = reader.find_confirmation(self.client, self.search)
        assert run is not None
        return results.compare_and_log(self.client, self.search, run, rule)

    @contextmanager
    def parent_run(self) -> Iterator[tuple[writer.SearchRun, Workspace]]:
        """Yield the new or reopened parent run of the confirmation, and its locked workspace."""
        existing = reader.find_confirmation(self.client, self.search)
        if existing is None:
            with self._new_run() as opened:
                yield opened
        else:
            with self._reopened_run(existing) as opened:
                yield opened

    @property
    def _name(self) -> str:
        return f"confirm-{self.search.name}"[:MAX_NAME]

    def _tags(self) -> dict[str, str]:
        """Return the tags of the parent run."""
        settings = replace(self.stages[0].settings, executions=1)
        shown = settings_tags(settings, "initial_epoch", *runs.OWN_SETTINGS)
        tags = writer.common_tags(self.facts, shown) | {mlflow_names.CONFIRMS: self.search.run_id}
        reviews = self.search.tags.get(mlflow_names.VALIDATION_REVIEWS, "")
        tags |= run_record.named(code_tags(self.code))
        return tags | ({mlflow_names.VALIDATION_REVIEWS: reviews} if reviews else {})

    @contextmanager
    def _new_run(self) -> Iterator[tuple[writer.SearchRun, Workspace]]:
        client, base, name = self.client, self.context.workspaces, self._name
        experiment = reader.experiment_name(client, self.search.run_id)
        store = str(client.tracking_uri)
        with create_workspace(base, name, store, TRAINING) as (prepared, key):
            # Before the run is created and open:
            tags = self._tags()
            writer.Run(prepared.outbox, key).log_corpus(self.facts)
            run_record.write(prepared.outbox, key, tags)
            prepared.outbox.sync(key)
            run = writer.SearchRun.open(client, name, experiment, tags, "confirm", key)
            yield run, prepared.renamed(run.run_id)

    @contextmanager
    def _reopened_run(self, existing: Search) -> Iterator[tuple[writer.SearchRun, Workspace]]:
        client, base, name = self.client, self.context.workspaces, self._name
        store = str(client.tracking_uri)
        with open_workspace(base, existing.run_id, name, store, TRAINING) as workspace:
            stop_crashed_trials(workspace, self._delivery(existing.run_id, workspace))
            for trial in reader.read_trials(client, existing):
                if trial.status in mlflow_names.OPEN:
                    writer.Run(client, trial.run_id).end("KILLED", CRASHED)
            workspace.outbox.reopen(existing.run_id)
            tags = self._tags()
            run = writer.SearchRun.adopt(client, existing.run_id, existing.experiment_id, tags)
            yield run, workspace

    def _delivery(self, run_id: str, workspace: Workspace) -> BackgroundDelivery:
        context = self.context
        return BackgroundDelivery(
            self.client,
            workspace.outbox,
            run_id,
            None,
            context.notify,
            report_outage=context.report_outage,
        )

    def train_missing(
        self,
        run: writer.SearchRun,
        workspace: Workspace,
        seeds: int,
        environment: dict[str, str],
    ) -> None:
        """Run the trainings that MLflow does not have; close all runs, also after an error."""
        context, folder = self.context, workspace.folder
        parent = reader.find_confirmation(self.client, self.search)
        needed = gains_file(self.search)
        done = results.read_finished_runs(self.client, parent, needed) if parent else {}
        requests = runs.training_requests(self.stages, seeds, done, self.code)
        workers = context.worker_count
        context.listener(
            ConfirmationOpened(self.search, run.run_id, self.corpus, folder, len(requests), workers)
        )
        driver = Driver(
            source=runs.RepeatedTrials(requests, self.corpus.folder, folder),
            parent=replace(run, client=workspace.outbox),
            facts=self.facts,
            folder=folder,
            listener=with_run_ids(context.listener, workspace.outbox),
            trainer=context.trainer,
            check=partial(workspace.check_not_removed, "confirmation", AGAIN),
        )
        with (
            close_if_removed(self.client, parent, workspace) if parent else nullcontext(),
            deliver_in_background(self._delivery(run.run_id, workspace), "The same call"),
        ):
            if not requests:
                return
            processes = open_local_executor(workers, folder, context.listener, environment)
            with stop_on_error(processes, driver.parent.stop_trials) as executor:
                driver.run(executor)
