"""How far estimated durations of searches are from what the searches take, over random spaces.

Each space fixes some hyperparameters at random and searches two or three others. Its search is
estimated as by ``imdbtune search --estimate``, then it runs.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.machine import machine_lines
from imdbtune import api
from imdbtune.config.schema import SearchConfig, parse_config
from imdbtune.data.sources import default_cache

VALUES: dict[str, list[object]] = {
    "rnn": ["simple_rnn", "gru", "lstm"],
    "depth": [1, 2],
    "units": [8, 16, 32, 64],
    "maxlen": [100, 200, 400],
    "vocabulary": [5_000, 20_000, 50_000],
    "embedding": [16, 32, 64],
    "pooling": ["last", "max", "mean"],
    "bidirectional": [False, True],
    "bigrams": [0, 2**16],
    "batch_size": [32, 64, 128],
    "ema": [0.0, 0.99],
    "optimizer": ["adam", "rmsprop"],
    "crop": [0, 128],
    "soft_labels": [0.0, 0.0, 0.3],
}
SEARCHED = 3  # hyperparameters of each space


def draw_config(rng: random.Random, data: str, reviews: int, trials: int) -> SearchConfig:
    """Return a search of a random space."""
    space: dict[str, object] = {name: rng.choice(values) for name, values in VALUES.items()}
    for name in rng.sample([name for name in VALUES if name != "soft_labels"], SEARCHED):
        space[name] = VALUES[name]
    return parse_config(
        {
            "data": {"source": data, "reviews": reviews},
            "space": space,
            "tuner": {"kind": "random", "max_trials": trials, "seed": rng.randrange(1000)},
            "training": {"epochs": 2},
            "tracking": {"report": False},
        }
    )


def measure(config: SearchConfig, folder: Path) -> tuple[float, float]:
    """Return the estimated and the measured seconds of a search."""
    store = f"sqlite:///{folder}/mlflow.db"
    context = api.Context(uri=store, cache=default_cache(), folder=folder)
    estimated = api.estimate(config, context).seconds
    began = time.monotonic()
    api.search(config, context)
    return estimated, time.monotonic() - began


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", required=True, metavar="PATH", help="imdb.npz")
    parser.add_argument("--spaces", type=int, default=10)
    parser.add_argument("--reviews", type=int, default=10_000)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng, errors = random.Random(args.seed), []
    print(*machine_lines(), sep="\n")
    print("\n| space | estimated, s | measured, s | error |\n|---|---|---|---|")
    for _ in range(args.spaces):
        config = draw_config(rng, str(Path(args.data).absolute()), args.reviews, args.trials)
        with tempfile.TemporaryDirectory() as folder:
            estimated, measured = measure(config, Path(folder))
        errors.append(estimated / measured - 1)
        varied = ", ".join(d.name for d in config.space.searched)
        print(f"| {varied} | {estimated:.0f} | {measured:.0f} | {errors[-1]:+.0%} |", flush=True)
    within = np.mean(np.abs(errors) <= 0.15)
    print(f"\nmean absolute error {np.mean(np.abs(errors)):.0%}; {within:.0%} within 15 %")


if __name__ == "__main__":
    main()
