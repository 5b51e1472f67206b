"""The circumstances in which a task runs, which are the same for all tasks."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from imdbtune.cluster.local_executor import cpu_count, training_environment
from imdbtune.cluster.trial_job import Trainer
from imdbtune.config.schema import DataConfig
from imdbtune.data.sources import default_cache, open_corpus
from imdbtune.search.deadline import Deadline
from imdbtune.search.events import DownloadProgress, Listener, Notice, StoreAway, ignore_events
from imdbtune.tracking.connection import connect_existing
from imdbtune.tracking.trial_corpus import open_trial_corpus

if TYPE_CHECKING:
    from imdbtune.data.corpus import Corpus
    from imdbtune.tracking.connection import MlflowClient
    from imdbtune.tracking.entities import Trial
    from imdbtune.tracking.writer import CorpusFacts


@dataclass(frozen=True)
class Context:
    """Where a task finds its data and store, what it runs on, and who hears of it.

    Args:
        uri: the tracking store; default: that of the configuration, else ``MLFLOW_TRACKING_URI``,
            else ``sqlite:///mlflow.db``.
        data: location of the reviews; default: where they were in training.
        cache: folder of downloaded and converted corpora; default: the user's cache folder.
        folder: folder of the workspaces of searches; default: ``.imdbtune`` in the working
            directory.
        workers: number of processes, each with one thread; ``None``: one per core; 0: train in
            this process.
        cluster: address of a Dask scheduler whose workers run the trials, or ``local``; default:
            that of the configuration.
        listener: called with each event of :mod:`imdbtune.search.events`.
        deadline: when a search has to be done, with its report; default: never.
        trainer: replaces :func:`imdbtune.training.trainer.train_trial`.
        notify_urls: addresses of apprise, such as ``ntfy://TOPIC``, that hear how a search or a
            confirmation ends, and of a store that stays away.
        trust_model: run the source of a user's own model also if only MLflow or an export has it.
    """

    uri: str = ""
    data: str = ""
    cache: Path | None = None
    folder: Path | None = None
    workers: int | None = None
    cluster: str = ""
    listener: Listener = ignore_events
    trainer: Trainer | None = None
    deadline: datetime | None = None
    notify_urls: tuple[str, ...] = field(default=(), repr=False)  # they hold secrets
    trust_model: bool = False

    @property
    def worker_count(self) -> int:
        """The number of worker processes."""
        return cpu_count() if self.workers is None else self.workers

    @property
    def workspaces(self) -> Path:
        """The folder with the workspaces of all searches and trainings."""
        return (self.folder or Path(".imdbtune")).absolute()

    def time_limit(self) -> Deadline | None:
        """Return the deadline by the monotonic clock."""
        if self.deadline is None:
            return None
        left = (self.deadline - datetime.now(self.deadline.tzinfo)).total_seconds()
        return Deadline(time.monotonic() + left, time.monotonic)

    def notify(self, text: str) -> None:
        """Report a message for the user."""
        self.listener(Notice(text))

    def report_outage(self, text: str) -> None:
        """Report that the tracking store stays away."""
        self.listener(StoreAway(text))

    def _report_progress(self, name: str, done: int, total: int) -> None:
        self.listener(DownloadProgress(name, done, total))

    def connect(self) -> MlflowClient:
        """Connect to the tracking store, which must exist.

        Raises:
            UserError: there is no such store.
        """
        return connect_existing(self.uri, self.notify)

    def connect_for_reading(self) -> MlflowClient:
        """Connect to the tracking store, which must exist and is not written to.

        Raises:
            UserError: there is no such store.
        """
        return connect_existing(self.uri, self.notify, reading=True)

    def open_corpus(self, data: DataConfig) -> Corpus:
        """Open the corpus of a configuration.

        Raises:
            UserError: it cannot be downloaded or read.
        """
        cache = self.cache or default_cache()
        return open_corpus(data.source, cache, self.notify, self._report_progress, config=data)

    def open_trial_corpus(self, trial: Trial) -> tuple[Corpus, CorpusFacts]:
        """Return the corpus that a trial was trained on, and what is logged about it.

        Raises:
            UserError: the reviews are missing or have changed.
        """
        return open_trial_corpus(trial, self.cache, self.data, self.notify, self._report_progress)

    def set_environment(self) -> dict[str, str]:
        """Set and return the variables that TensorFlow reads when it is imported."""
        environment = training_environment(self.cache or default_cache())
        os.environ.update(environment)
        return environment

    def start_environment(self, workers: int) -> dict[str, str]:
        """Set and return the variables; let worker processes start importing."""
        from imdbtune.cluster import forkserver

        environment = self.set_environment()
        if workers:
            forkserver.begin(environment)
        return environment
