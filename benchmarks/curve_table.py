"""A table of learning curves: every configuration of the default space, a tenth with three seeds.

Made from searches that have trained the whole space, and some of it with other seeds::

    imdbtune search default --name curves --data PATH/imdb.npz --keep-models 0 --no-baseline \\
        --tuner random --prune none --max-trials 1000
    python -m benchmarks.curve_table curves [OTHER_SEED ...]

The table holds the validation accuracy of each epoch and when it was known, in seconds since the
start of the trial.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median, stdev

from imdbtune.config.hyperparameters import TrialParams, check_value
from imdbtune.config.schema import SearchConfig, load_config
from imdbtune.tracking.connection import connect_existing
from imdbtune.tracking.entities import Trial
from imdbtune.tracking.reader import find_search, read_history, read_trials

FOLDER = Path(__file__).resolve().parent / "curves"
SPACE = "default"  # a workflow
TABLE = FOLDER / "imdb.csv"


@dataclass(frozen=True)
class Curve:
    """One training.

    Args:
        accuracy: on the validation reviews, after each epoch.
        seconds: from the start of the trial to the end of each epoch, with compiling.
    """

    accuracy: tuple[float, ...]
    seconds: tuple[float, ...]


@dataclass(frozen=True)
class CurveTable:
    """All curves of a space.

    Args:
        config: the search that has trained them.
        curves: by configuration; those of further seeds follow the first.
    """

    config: SearchConfig
    curves: Mapping[TrialParams, Sequence[Curve]]

    @cached_property
    def best(self) -> float:
        """The largest accuracy of all configurations, with the first seed."""
        return max(max(curves[0].accuracy) for curves in self.curves.values())

    @cached_property
    def noise(self) -> float:
        """The standard deviation of the best accuracy between seeds, the median configuration's."""
        groups = [[max(c.accuracy) for c in curves] for curves in self.curves.values()]
        return median([stdev(group) for group in groups if group[1:]] or [0.0])


def read_table(path: Path = TABLE, space: str = SPACE) -> CurveTable:
    """Return the table in a file, with the space that it belongs to."""
    config = load_config(space)
    curves: dict[TrialParams, list[Curve]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            values = {d.name: check_value(d.name, row[d.name]) for d in config.space.searched}
            curve = Curve(_numbers(row["accuracy"]), _numbers(row["seconds"]))
            curves.setdefault(config.space.params(values), []).append(curve)
    return CurveTable(config, curves)


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split())


def write_table(searches: Sequence[str], uri: str, path: Path = TABLE, space: str = SPACE) -> int:
    """Write the finished trials of searches as a table; return how many there are."""
    names = [d.name for d in load_config(space).space.searched]
    client = connect_existing(uri, reading=True)
    rows: list[list[object]] = []
    for reference in searches:
        search = find_search(client, reference)
        trials = [trial for trial in read_trials(client, search) if trial.status == "FINISHED"]
        for trial in sorted(trials, key=lambda trial: trial.trial_id):
            epochs = read_history(client, trial.run_id, ("val_accuracy", "seconds"))
            accuracy = " ".join(f"{epoch['val_accuracy']:.4f}" for epoch in epochs)
            values = [getattr(trial.params, name) for name in names]
            rows.append([*values, accuracy, " ".join(_times(trial, epochs))])
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*names, "accuracy", "seconds"])
        writer.writerows(rows)
    return len(rows)


def _times(trial: Trial, epochs: Sequence[Mapping[str, float]]) -> Iterator[str]:
    """Yield when each epoch ended; what the epochs do not account for comes before them."""
    known = trial.metrics["train_seconds"] - sum(epoch["seconds"] for epoch in epochs)
    for epoch in epochs:
        known += epoch["seconds"]
        yield f"{known:.2f}"


def main() -> None:
    """Write the table of finished searches."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("searches", nargs="+", help="names or run ids; the first has the table")
    parser.add_argument("--uri", default="sqlite:///mlflow.db", help="their tracking store")
    args = parser.parse_args()
    print(f"{write_table(args.searches, args.uri)} curves written to {TABLE}")


if __name__ == "__main__":
    main()
