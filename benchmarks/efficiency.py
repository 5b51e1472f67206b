"""How soon samplers and pruners find a good configuration.

Replays each of them on the table of curves (``curve_table.py``), with many seeds and the clock of
some workers. All use the real sampler and the real pruner; only the trainings are looked up.
``--live`` runs whole searches on this machine instead, beside scripts of Keras Tuner and Optuna
(``live.py``).
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.curve_table import CurveTable, read_table
from benchmarks.live import run_live
from benchmarks.machine import machine_lines
from benchmarks.replay import Found, Method, Replay

METHODS = (
    Method("grid"),
    Method("hyperband"),
    *(
        Method(sampler, pruner)
        for sampler in ("random", "bayesian", "tpe", "cmaes", "nsga2")
        for pruner in ("none", "median", "asha")
    ),
    Method("tpe", "median", "tried"),  # the default
)
SHOWN_S = (60, 120, 240, 390)
GOALS = (0.87, 0.88, 0.885, 0.89)
CLOSE = 0.005  # to the best of the table
Figures = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Setting:
    """What all replays have in common.

    Args:
        seconds: of each search.
        trials: the largest number of them.
    """

    workers: int
    seconds: float
    trials: int


@dataclass(frozen=True)
class Summary:
    """A method over all seeds.

    Args:
        runs: of each seed, its improvements.
        best: the best accuracy in the table.
    """

    method: Method
    runs: Sequence[Sequence[Found]]
    best: float

    def accuracy(self, seconds: float) -> Figures:
        """Return the best accuracy of each seed after some time; 0.5 before the first trial."""
        return np.array(
            [max((f.accuracy for f in r if f.seconds <= seconds), default=0.5) for r in self.runs]
        )

    def time_to(self, goal: float) -> Figures:
        """Return when each seed has reached an accuracy; infinite: it has not."""
        return np.array(
            [min((f.seconds for f in r if f.accuracy >= goal), default=np.inf) for r in self.runs]
        )

    def row(self, seconds: float) -> str:
        """Return a row of Markdown: accuracy by time, times to the goals, and regret."""
        cells = [self.method.label]
        cells += [_mean_and_interval(self.accuracy(t)) for t in (*SHOWN_S, seconds)]
        cells += [_median_time(self.time_to(goal)) for goal in GOALS]
        last = self.accuracy(seconds)
        cells += [f"{100 * (self.best - last.mean()):.2f}"]
        cells += [f"{100 * (last >= self.best - CLOSE).mean():.0f}"]
        return f"| {' | '.join(cells)} |"


def _mean_and_interval(values: Figures) -> str:
    """Return the mean in percent, with half of its 95 % interval over seeds."""
    half = 1.96 * values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return f"{100 * values.mean():.2f} ±{100 * half:.2f}"


def _median_time(times: Figures) -> str:
    """Return the median in seconds, or the share that got there if it is below a half."""
    middle = np.median(times)
    return f"{middle:.0f}" if np.isfinite(middle) else f"({100 * np.isfinite(times).mean():.0f} %)"


def replay(table: CurveTable, setting: Setting, method: Method, seed: int) -> list[Found]:
    """Run one search in simulated time."""
    config = method.config(table, seed, setting.trials)
    return Replay.of(table, config, setting.workers, setting.seconds).run()


def summaries(
    table: CurveTable, setting: Setting, seeds: Sequence[int], methods: Sequence[Method], jobs: int
) -> Iterator[Summary]:
    """Yield the results of each method."""
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        for method in methods:
            run = partial(replay, table, setting, method)
            yield Summary(method, list(pool.map(run, seeds, chunksize=5)), table.best)


def plot(results: Mapping[str, Summary], seconds: float, path: Path) -> None:
    """Draw the mean best accuracy against time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    times = np.linspace(15, seconds, 200)
    for label, result in results.items():
        axes.plot(times, [100 * result.accuracy(t).mean() for t in times], label=label)
    axes.axhline(100 * next(iter(results.values())).best, color="grey", ls=":", label="the best")
    axes.set(xlabel="seconds", ylabel="best validation accuracy so far, %")
    axes.set_ylim(bottom=84)
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=150)


def chosen_methods(text: str) -> Sequence[Method]:
    """Return the methods in a text such as ``tpe,tpe+asha``; empty: all."""
    if not text:
        return METHODS
    return [Method(*part.split("+")) for part in text.split(",")]


def print_replays(args: argparse.Namespace) -> None:
    """Replay, and print the table."""
    table = read_table()
    setting = Setting(args.workers, args.seconds, args.trials)
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    print(*machine_lines(), sep="\n")
    print(
        f"\n{len(table.curves)} configurations, the best with {100 * table.best:.2f} %; standard "
        f"deviation between seeds of one configuration {100 * table.noise:.2f} points. "
        f"{args.seeds} seeds, {args.workers} workers.\n"
    )
    heads = [f"% after {t:g} s" for t in (*SHOWN_S, args.seconds)]
    heads += [f"s to {100 * goal:g} %" for goal in GOALS]
    heads += ["regret, points", f"within {100 * CLOSE:g} points, % of seeds"]
    print(f"| method | {' | '.join(heads)} |\n|{'---|' * (len(heads) + 1)}")
    results = {}
    for result in summaries(table, setting, seeds, chosen_methods(args.methods), args.jobs):
        results[result.method.label] = result
        print(result.row(args.seconds), flush=True)
    if args.plot:
        plot(results, args.seconds, args.plot)


def main() -> None:
    """Replay all methods, or run the live comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=100, help="replays of each method")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="of each search")
    parser.add_argument("--seconds", type=float, default=600.0, help="of each search")
    parser.add_argument("--trials", type=int, default=40, help="the largest number of each search")
    parser.add_argument("--methods", default="", help="such as random,tpe+asha; default: all")
    parser.add_argument("--jobs", type=int, default=2, help="replays at the same time")
    parser.add_argument("--plot", type=Path, help="file for a figure of accuracy against time")
    parser.add_argument("--live", metavar="DATA", help="run real searches on PATH/imdb.npz")
    parser.add_argument("--minutes", type=float, default=7.0, help="of each live search")
    args = parser.parse_args()
    if args.live:
        run_live(args.live, args.minutes)
    else:
        print_replays(args)


if __name__ == "__main__":
    main()
