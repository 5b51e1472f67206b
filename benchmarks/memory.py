"""Memory of a search's processes, by the number of workers.

Each worker trains one LSTM(32) on the reviews, and then waits. Shared pages (the libraries, which
workers have from the process that they are forked from, and the reviews, which are mapped) are
divided among those who share them: the proportional set size, as Linux counts it.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import psutil

from benchmarks.machine import machine_lines
from imdbtune.cluster.local_executor import open_local_executor, thread_environment
from imdbtune.config.hyperparameters import TrialParams
from imdbtune.data.sources import default_cache, open_corpus
from imdbtune.training.spec import TrainingSettings, TrialSpec

REVIEWS = 2_000
MIB = 2**20


def train(spec: TrialSpec) -> None:
    """In a worker: one trial; the files of the workers must not be the same."""
    import os
    from dataclasses import replace

    from imdbtune.training.trainer import train_trial

    train_trial(replace(spec, folder=spec.folder / str(os.getpid())))


def measure(workers: int, spec: TrialSpec, folder: Path) -> dict[str, list[float]]:
    """MiB of each process while ``workers`` workers wait after a trial."""
    with open_local_executor(
        workers, folder, lambda event: None, thread_environment(1)
    ) as executor:
        executor.client.run(train, spec)
        pids = {info for info in executor.client.run(lambda: psutil.Process().pid).values()}
        here = psutil.Process()
        found: dict[str, list[float]] = {"driver": [_mib(here)], "worker": [], "other": []}
        for process in here.children(recursive=True):
            found["worker" if process.pid in pids else "other"].append(_mib(process))
    return found


def _mib(process: psutil.Process) -> float:
    return float(process.memory_full_info().pss / MIB)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="imdb, demo, or PATH/imdb.npz")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    args = parser.parse_args()
    corpus = open_corpus(args.data, default_cache(), print)
    print(*machine_lines(), sep="\n")
    print("\n| workers | each worker MiB | fork server and others MiB | driver MiB | all MiB |")
    print("|---|---|---|---|---|")
    for workers in args.workers:
        with tempfile.TemporaryDirectory() as folder:
            params = TrialParams(maxlen=500)
            spec = TrialSpec(
                params,
                corpus.folder,
                Path(folder),
                settings=TrainingSettings(reviews=REVIEWS, epochs=1, compile="on"),
            )
            found = measure(workers, spec, Path(folder))
        each = sum(found["worker"]) / len(found["worker"])
        total = sum(map(sum, found.values()))
        other, driver = sum(found["other"]), sum(found["driver"])
        print(f"| {workers} | {each:.0f} | {other:.0f} | {driver:.0f} | {total:.0f} |", flush=True)


if __name__ == "__main__":
    main()
