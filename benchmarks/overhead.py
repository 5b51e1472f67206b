"""Measures what a search costs beside the training: driver, sampler and tracking store.

The trainer is a stub that reports two epochs and returns. In this process the time of a trial is
split into its parts; with worker processes only the total is measured. Then an ordinary small
model is trained and logged.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.machine import machine_lines
from imdbtune import api
from imdbtune.cluster.executor import Executor
from imdbtune.cluster.local_executor import cpu_count, thread_environment
from imdbtune.config.hyperparameters import TrialParams
from imdbtune.config.schema import SearchConfig, parse_config
from imdbtune.data.sources import default_cache, open_corpus
from imdbtune.search.driver import Driver
from imdbtune.search.events import Event, TrialEnded
from imdbtune.search.journal import Journal
from imdbtune.search.keras_tuner_samplers import OracleSampler
from imdbtune.tracking import connection, writer
from imdbtune.tracking.outbox import Outbox
from imdbtune.tracking.outbox_delivery import DeliveryCache, deliver
from imdbtune.tracking.writer import SearchRun, TrialRun
from imdbtune.training import learning_curves
from imdbtune.training.spec import Epoch, OnEpoch, TrainingSettings, TrialResult, TrialSpec

PARTS: tuple[tuple[str, Any, str], ...] = (
    ("sampler", OracleSampler, "ask"),
    ("sampler", OracleSampler, "tell"),
    ("journal", Journal, "append"),
    ("outbox: start a trial", SearchRun, "start_trial"),
    ("outbox: two epochs", TrialRun, "log_epoch"),
    ("outbox: result", TrialRun, "log_result"),
    ("plots", learning_curves, "draw_curves"),
    ("plots", learning_curves, "save_png"),
    ("outbox: end a trial", writer.Run, "end"),
)
REST = "driver: the rest"


def stub(spec: TrialSpec, on_epoch: OnEpoch) -> TrialResult:
    """Return an invented history at once."""
    score = 0.5 + (spec.params.units % 97) / 200
    history = tuple(_epoch(number, score) for number in (1.0, 2.0))
    for epoch in history:
        on_epoch(0, epoch)
    spec.folder.mkdir(parents=True, exist_ok=True)
    return TrialResult(history, 2, (score,), 0.0, 1, spec.folder / "model.keras")


def _epoch(number: float, score: float) -> Epoch:
    measured = {"accuracy": score, "loss": 0.7, "val_accuracy": score, "val_loss": 0.7}
    return {"epoch": number, **measured, "seconds": 0.0}


class Stopwatch:
    """Seconds spent in each part while a driver runs, without the parts that it calls."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._within = 0.0

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``function`` with its time added to ``part``."""

        def run(*args: Any, **kwargs: Any) -> Any:
            outside, self._within = self._within, 0.0
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                took = time.perf_counter() - started
                self.seconds[part] += took - self._within
                self._within = outside + took

        return run

    def watch(self, run: Callable[..., None]) -> Callable[..., None]:
        """Return ``Driver.run`` with each of ``PARTS`` measured, and itself as the rest."""

        def watched(measured: Driver, executor: Executor) -> None:
            with contextlib.ExitStack() as patches:
                for part, owner, name in PARTS:
                    timed = self.timed(part, getattr(owner, name))
                    patches.enter_context(mock.patch.object(owner, name, timed))
                self.timed(REST, run)(measured, executor)

        return watched


def search(trials: int, workers: int, folder: Path) -> list[float]:
    """Run a search; return when each trial ended, in seconds."""
    ends: list[float] = []

    def listen(event: Event) -> None:
        if isinstance(event, TrialEnded):
            ends.append(time.perf_counter())

    config = stub_config(trials, folder)
    api.search(config, api.Context(workers=workers, folder=folder, listener=listen, trainer=stub))
    return ends


def stub_config(trials: int, folder: Path) -> SearchConfig:
    """Return a random search over a large space."""
    space = {"units": {"min": 1, "max": 2048}, "maxlen": {"min": 1, "max": 5000}}
    tables = {
        "data": {"source": "demo"},
        "space": space,
        "tuner": {"kind": "random", "max_trials": trials},
        "tracking": {"uri": f"sqlite:///{folder}/mlflow.db", "keep_models": "0"},
    }
    return parse_config(tables)


def print_split(trials: int, folder: Path) -> None:
    """Print the milliseconds of a trial in this process, by part."""
    stopwatch = Stopwatch()
    with mock.patch.object(Driver, "run", stopwatch.watch(Driver.run)):
        search(trials, 0, folder)
    print(f"\n| {trials} trials in this process | ms a trial |\n|---|---|")
    for part, seconds in stopwatch.seconds.items():
        print(f"| {part} | {seconds * 1000 / trials:.1f} |")
    print(f"| all | {sum(stopwatch.seconds.values()) * 1000 / trials:.1f} |")


def print_workers(trials: int, folder: Path) -> None:
    """Print the milliseconds of a trial with a worker on each core, once they have started."""
    workers = cpu_count()
    ends = search(trials, workers, folder)
    each = (ends[-1] - ends[0]) / (len(ends) - 1)
    print(f"\n{trials} trials on {workers} workers: {each * 1000:.1f} ms a trial")


def print_logging(folder: Path) -> None:
    """Print the seconds to log a real trial, for the first and the second one of a process."""
    os.environ.update(thread_environment(1))
    from imdbtune.training.trainer import train_trial

    corpus = open_corpus("demo", default_cache(), print)
    params = TrialParams(units=16, maxlen=50)
    spec = TrialSpec(
        params,
        corpus.folder,
        folder / "trial",
        settings=TrainingSettings(reviews=500, compile="off"),
    )
    result = train_trial(spec)
    client = connection.connect(f"sqlite:///{folder}/mlflow.db")
    opened = SearchRun.open(client, "logging", "imdbtune", {}, "search")
    outbox = Outbox(folder / "spool")
    search = replace(opened, client=outbox)
    print("\n| logging a trial | epochs s | result and plots s | model s | delivery s |")
    print("|---|---|---|---|---|")
    for label in ("the first", "the second"):
        run = TrialRun(outbox, search.start_trial(label, params, {}))
        took = log_trial(run, result, spec)
        began = time.perf_counter()
        deliver(client, outbox, search.run_id, DeliveryCache.at_start(outbox))
        took.append(time.perf_counter() - began)
        print(f"| {label} | " + " | ".join(f"{seconds:.2f}" for seconds in took) + " |")


def log_trial(run: TrialRun, result: TrialResult, spec: TrialSpec) -> list[float]:
    """Log as a worker does; return the seconds for the epochs, the result and the model."""
    times = [time.perf_counter()]
    for epoch in result.history:
        run.log_epoch(0, epoch)
    times.append(time.perf_counter())
    run.log_result(result, spec)
    times.append(time.perf_counter())
    run.log_model(result.model)
    times.append(time.perf_counter())
    return [after - before for before, after in pairwise(times)]


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, nargs="+", default=[200, 1000])
    args = parser.parse_args()
    print(*machine_lines(), sep="\n")
    for trials in args.trials:
        for measured in (print_split, print_workers):
            with tempfile.TemporaryDirectory() as folder:
                measured(trials, Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        print_logging(Path(folder))


if __name__ == "__main__":
    main()
