"""Measures how a search scales with its trials: time of a trial, delivery, the driver's memory.

The trainer is a stub that reports two epochs and returns, so that all of it is overhead. A trial's
two plots are drawn only with ``--plots``: workers draw them, whose number can grow, and this
measures what all of them share. Then the samplers alone: milliseconds for the next trial after a
number of trials.

``--cluster N --uri http://...`` has the trials run by N workers of a Dask cluster of its own on
this machine, which deliver to a tracking server themselves; ``--seconds`` is what a trial takes.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import machine_lines
from benchmarks.overhead import stub
from imdbtune import api
from imdbtune.cluster import forkserver
from imdbtune.cluster.local_executor import cpu_count
from imdbtune.config.schema import SearchConfig, parse_config
from imdbtune.search.events import Event, TrialEnded
from imdbtune.search.sampler import make_sampler
from imdbtune.training import learning_curves
from imdbtune.training.spec import OnEpoch, TrialResult, TrialSpec

KINDS = ("random", "grid", "bayesian", "hyperband")
ENDED = {"bayesian": (30, 100, 300, 1000)}
ENDED_OTHERS = (100, 1000, 10_000)
# Epochs of the longest trial of Hyperband, which has as many trials as these make.
EPOCHS = 3**8
REPEATS = 3
# Workers that train nothing need no TensorFlow.
PRELOADED = (
    "mlflow.tracking.client",
    "mlflow.entities",
    "imdbtune.cluster.remote_task",
    "imdbtune.training.learning_curves",
)
SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Case:
    """A search to be measured."""

    kind: str
    trials: int
    workers: int
    uri: str = ""  # SQLite, in a folder of its own, if empty
    draw: bool = False
    seconds: float = 0.0  # that a trial takes
    cluster: bool = False  # the workers are those of a cluster


@dataclass
class Measured:
    """When each trial had ended, in seconds: by the clock, and of the driver's processor time."""

    ends: list[tuple[float, float]] = field(default_factory=list)
    driver_mib: float = 0.0

    def note(self) -> None:
        """Note that a trial, or at last the search, has ended."""
        self.ends.append((time.perf_counter(), time.process_time()))

    def ms(self, first: int, last: int, clock: int) -> float:
        """Return milliseconds a trial between two; ``clock`` 1: of the driver's processor."""
        passed = self.ends[last][clock] - self.ends[first][clock]
        return passed * 1000 / (last - first)


def config_of(kind: str, trials: int, uri: str) -> SearchConfig:
    """Return a search over six hyperparameters, large enough for any number of trials."""
    space = {
        "rnn": ["simple_rnn", "lstm", "gru"],
        "units": {"min": 1, "max": 2048},
        "maxlen": {"min": 1, "max": 5000},
        "dropout": {"min": 0.0, "max": 0.5},
        "word_dropout": {"min": 0.0, "max": 0.5},
        "learning_rate": {"min": 1e-4, "max": 1e-1, "sampling": "log"},
    }
    if kind == "grid":
        space = {"units": {"min": 1, "max": 2048}, "maxlen": {"min": 1, "max": 5000}}
    return parse_config(
        {
            "name": f"{kind}-{trials}",
            "data": {"source": "demo"},
            "space": space,
            "tuner": {"kind": kind, "max_trials": trials},
            "training": {"epochs": EPOCHS if kind == "hyperband" else 2},
            "tracking": {"uri": uri, "keep_models": "0", "baseline": False},
        }
    )


def train(draw: bool, seconds: float, spec: TrialSpec, on_epoch: OnEpoch) -> TrialResult:
    """Run the stub, in a worker process that draws nothing from now on without ``draw``."""
    if not draw:
        learning_curves.draw_curves = lambda *arguments: None
        learning_curves.save_png = lambda figure, path: path.touch()
    time.sleep(seconds)
    return stub(spec, on_epoch)


@contextmanager
def cluster_of(workers: int) -> Iterator[str]:
    """Yield the address of a Dask cluster in processes of its own, like one of other machines."""
    here, there = SPAWN.Pipe()
    process = SPAWN.Process(target=_serve, args=[workers, there])
    process.start()
    try:
        yield here.recv()
    finally:
        here.send("end")
        process.join()


def _serve(workers: int, there: Connection) -> None:
    import dask
    from distributed import LocalCluster

    forkserver.PRELOADED = PRELOADED
    settings = {
        "distributed.worker.multiprocessing-method": forkserver.method(),
        # Dask checks itself fifty times a second, too often for many workers on one machine.
        "distributed.admin.tick.interval": "10s",
        "distributed.admin.system-monitor.interval": "60s",
        "distributed.worker.profile.enabled": False,
    }
    with dask.config.set(settings):
        forkserver.begin(os.environ)
        sizes = {"n_workers": workers, "threads_per_worker": 1, "memory_limit": 0}
        with LocalCluster(host="127.0.0.1", dashboard_address=None, **sizes) as cluster:
            there.send(cluster.scheduler_address)
            there.recv()


def measure(case: Case) -> Measured:
    """Run the search in this process, which must be a new one."""
    measured = Measured()
    forkserver.PRELOADED = PRELOADED

    def listen(event: Event) -> None:
        if isinstance(event, TrialEnded):
            measured.note()

    with tempfile.TemporaryDirectory() as folder:
        uri = case.uri or f"sqlite:///{folder}/mlflow.db"
        config = config_of(case.kind, case.trials, uri)
        trainer = functools.partial(train, case.draw, case.seconds)
        with cluster_of(case.workers) if case.cluster else nullcontext("") as address:
            api.search(
                config,
                api.Context(
                    workers=case.workers,
                    cluster=address,
                    folder=Path(folder),
                    listener=listen,
                    trainer=trainer,
                ),
            )
            measured.note()
    measured.driver_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return measured


def search_row(case: Case) -> str:
    """Return a row of Markdown about one search in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=SPAWN) as pool:
        found = pool.submit(measure, case).result()
    last = len(found.ends) - 2  # after it, only the search itself ends
    tenth = max(1, last // 10)
    figures = (
        found.ms(0, last, 0),
        found.ms(0, tenth, 1),
        found.ms(last - tenth, last, 1),
        found.ms(0, last + 1, 1),
    )
    cells = [f"{ms:.1f}" for ms in figures]
    closing = found.ends[-1][0] - found.ends[-2][0]
    store = case.uri.partition(":")[0] or "sqlite"
    cells += [f"{closing:.0f}", f"{found.driver_mib:.0f}"]
    return f"| {case.kind} | {store} | {last + 1} | " + " | ".join(cells) + " |"


def answer_ms(kind: str, ended: int) -> float:
    """Return the milliseconds until a sampler suggests the next trial after ``ended`` trials."""
    sampler: Any = make_sampler(config_of(kind, ended + REPEATS, ""))
    rng = np.random.default_rng(1)
    fill = type(sampler)._random_populate_space if kind == "bayesian" else None
    times = []
    for number in range(ended + REPEATS):
        if fill is not None and number < ended:
            sampler.populate_space = lambda trial_id: fill(sampler)
        else:
            sampler.__dict__.pop("populate_space", None)
        began = time.perf_counter()
        suggestion = sampler.ask()
        times.append(time.perf_counter() - began)
        sampler.tell(suggestion.trial_id, float(rng.uniform(0.5, 0.9)))
    return statistics.median(times[-REPEATS:]) * 1000


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, nargs="*", default=[1000, 10_000])
    parser.add_argument("--tuner", nargs="+", default=["random"], choices=KINDS)
    parser.add_argument("--workers", type=int, default=cpu_count())
    parser.add_argument("--cluster", type=int, default=0, help="so many workers of a cluster")
    parser.add_argument("--seconds", type=float, default=0.0, help="that a trial takes")
    parser.add_argument("--uri", default="", help="a tracking store; default: SQLite, made anew")
    parser.add_argument("--samplers", nargs="*", default=KINDS, choices=KINDS)
    parser.add_argument("--plots", action="store_true", help="have the workers draw them")
    args = parser.parse_args()
    print(*machine_lines(), sep="\n")
    workers = args.cluster or args.workers
    where = (workers, args.uri, args.plots, args.seconds, bool(args.cluster))
    cases = [Case(kind, n, *where) for kind in args.tuner for n in args.trials]
    if cases:
        print("\n| tuner | store | trials | ms a trial until the last |", end="")
        print(" driver's processor, ms a trial: first tenth | last tenth | in all |", end="")
        print(" s after the last | driver MiB |\n" + "|---" * 9 + "|")
    for case in cases:
        print(search_row(case), flush=True)
    if args.samplers:
        print("\n| sampler | trials that have ended | ms for the next one |\n|---|---|---|")
    for kind in args.samplers:
        for ended in ENDED.get(kind, ENDED_OTHERS):
            print(f"| {kind} | {ended} | {answer_ms(kind, ended):.1f} |", flush=True)


if __name__ == "__main__":
    main()
