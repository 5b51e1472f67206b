"""The same searches by this project and by plain scripts, whole processes, side by side.

The second plain script batches reviews of similar length, which shows how much of the difference is
not that.

Both train the same configurations on the same reviews with the same batch size, optimizer and
number of epochs, without early stopping, and track every trial with its model in an SQLite store.
The linear model that this project trains besides is left out. They take turns. What is measured is
a process from start to end.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.cases import BATCH_SIZE, SIZES, VOCABULARY, Case
from benchmarks.machine import machine_lines
from imdbtune.data.sources import default_cache, open_corpus

ROOT = Path(__file__).resolve().parents[1]
SMALL_REVIEWS = 2_500


@dataclass(frozen=True)
class Setting:
    """What both sides are given."""

    data: str
    cache: Path
    epochs: int
    reviews: int


@dataclass(frozen=True)
class Outcome:
    """One search: how long it took, and the best validation accuracy of each RNN type."""

    seconds: float
    accuracy: dict[str, float]


Side = Callable[[Case, Setting], Outcome]


def run_imdbtune(case: Case, setting: Setting) -> Outcome:
    """This project's command line."""
    flags = {
        "--data": setting.data,
        "--cache": setting.cache,
        "--reviews": setting.reviews,
        "--epochs": setting.epochs,
        "--tuner": "grid",
        "--rnn": ",".join(case.rnn),
        "--depth": case.depth,
        "--units": case.units,
        "--maxlen": case.maxlen,
        "--optimizer": "rmsprop",
        "--batch-size": BATCH_SIZE,
        "--patience": 0,
        "--tracking-uri": "sqlite:///mlflow.db",
    }
    fixed = {
        "space.vocabulary": VOCABULARY,
        "tracking.baseline": "false",
    }
    command = ["-m", "imdbtune", "search", "none", "--json"]
    command += [str(part) for flag in flags.items() for part in flag]
    command += [part for key, value in fixed.items() for part in ("--set", f"{key}={value}")]
    seconds, answer = timed(command)
    return Outcome(seconds, {t["rnn"]: t["best_val_accuracy"] for t in answer["trials"]})


def run_plain(case: Case, setting: Setting) -> Outcome:
    """The plain script."""
    command = ["-m", "benchmarks.plain", "--case", case.to_json(), "--data", setting.data]
    command += ["--cache", str(setting.cache), "--epochs", str(setting.epochs)]
    seconds, trials = timed([*command, "--reviews", str(setting.reviews)])
    return Outcome(seconds, {trial["rnn"]: trial["val_accuracy"] for trial in trials})


def run_by_length(case: Case, setting: Setting) -> Outcome:
    """The plain script with batches by length."""
    return run_plain(dataclasses.replace(case, by_length=True), setting)


SIDES: dict[str, Side] = {
    "imdbtune": run_imdbtune,
    "plain": run_plain,
    "by length": run_by_length,
}


def timed(arguments: Sequence[str]) -> tuple[float, Any]:
    """Run Python in an empty folder: seconds, and the last line printed, read as JSON."""
    environment = {name: value for name, value in os.environ.items() if "MLFLOW" not in name}
    environment |= {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.monotonic() - started
    if done.returncode:
        sys.exit(f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return seconds, json.loads(done.stdout.splitlines()[-1])


def measure(
    case: Case, setting: Setting, sides: Sequence[str], repeat: int
) -> dict[str, list[Outcome]]:
    """All sides ``repeat`` times; who goes first changes each time."""
    outcomes: dict[str, list[Outcome]] = {side: [] for side in sides}
    for turn in range(repeat):
        for side in sorted(sides, reverse=bool(turn % 2)):
            outcomes[side].append(SIDES[side](case, setting))
            took = outcomes[side][-1].seconds
            print(f"{case.label}: {side} {took:.1f} s", file=sys.stderr, flush=True)
    return outcomes


def speed_row(case: Case, setting: Setting, outcomes: dict[str, list[Outcome]]) -> str:
    """Seconds of each side, its trial-epochs a minute, and ratios, as a row of Markdown."""
    seconds = {side: mean(o.seconds for o in found) for side, found in outcomes.items()}
    work = len(case.rnn) * setting.epochs * 60
    cells = [case.label, f"{len(case.rnn)} x {setting.epochs}"]
    cells += [f"{took:.1f} s, {work / took:.2f}" for took in seconds.values()]
    cells += [f"{took / seconds['imdbtune']:.2f}" for s, took in seconds.items() if s != "imdbtune"]
    return f"| {' | '.join(cells)} |"


def accuracy_rows(case: Case, outcomes: dict[str, list[Outcome]]) -> list[str]:
    """The best validation accuracy of each trial as rows of Markdown."""
    rows = []
    for rnn in case.rnn:
        means = [mean(o.accuracy[rnn] for o in found) for found in outcomes.values()]
        rows.append(f"| {rnn}, {case.label} | {' | '.join(f'{value:.4f}' for value in means)} |")
    return rows


def chosen_cases(size: str, rnn: str, maxlen: int) -> list[Case]:
    """The cases of a size, cut down to some RNN types or one length."""
    cases = [case for case in SIZES[size] if maxlen in (0, case.maxlen)]
    return [dataclasses.replace(c, rnn=tuple(rnn.split(","))) for c in cases] if rnn else cases


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="imdb, demo, or PATH/imdb.npz")
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--rnn", default="", help="only these, such as lstm,gru")
    parser.add_argument("--maxlen", type=int, default=0, help="only the case of this length")
    parser.add_argument("--sides", default=",".join(SIDES), help="imdbtune and some plain scripts")
    return parser.parse_args()


def main() -> None:
    """Measure, and print the tables."""
    args = parse_arguments()
    data = str(Path(args.data).absolute()) if args.data.endswith(".npz") else args.data
    reviews = SMALL_REVIEWS if args.size == "small" else 0
    setting = Setting(data, default_cache().absolute(), args.epochs, reviews)
    open_corpus(data, setting.cache, print)
    cases = chosen_cases(args.size, args.rnn, args.maxlen)
    sides = args.sides.split(",")
    measured = {case: measure(case, setting, sides, args.repeat) for case in cases}
    print(*machine_lines(), sep="\n")
    heads = ["search", "trials x epochs", *(f"{side}: s, trial-epochs/min" for side in sides)]
    heads += [f"ratio to {side}" for side in sides if side != "imdbtune"]
    print(f"\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    print(*(speed_row(case, setting, measured[case]) for case in cases), sep="\n")
    heads = ["trial", *(f"{side}, val. accuracy" for side in sides)]
    print(f"\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    print(*(row for case in cases for row in accuracy_rows(case, measured[case])), sep="\n")


if __name__ == "__main__":
    main()
