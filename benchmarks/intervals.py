"""Measures the coverage of the intervals of `imdbtune confirm`, from many real trainings.

Configurations are trained with many seeds each on some of the training reviews, and predict all the
others (never the test reviews). Then confirmations are drawn repeatedly: a few of the seeds, and
some of the reviews as validation set. The mean of all seeds on all reviews is the true value. An
interval of 95 % should contain it in 95 % of the draws, and two samples of the same configuration
should differ significantly in at most 5 % of them.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.machine import machine_lines
from imdbtune.config.hyperparameters import TrialParams
from imdbtune.confirm.rule import LEVEL
from imdbtune.confirm.significance import Repeats, compare, interval
from imdbtune.data.sources import default_cache, open_corpus

COMMON = {"maxlen": 100, "vocabulary": 5000, "embedding": 16, "pooling": "max", "optimizer": "adam"}
CONFIGURATIONS = (
    TrialParams.from_values({**COMMON, "rnn": "gru", "units": 8, "learning_rate": 0.005}),
    TrialParams.from_values({**COMMON, "rnn": "simple_rnn", "units": 8, "learning_rate": 0.005}),
)
EPOCHS = 3
DRAWS = 4000
Answers = npt.NDArray[np.bool_]


def answers(params: TrialParams, corpus: Path, seeds: int, reviews: int) -> Answers:
    """Train with each seed: (seeds, other reviews), whether the model is right."""
    from imdbtune.data.corpus import read_corpus
    from imdbtune.training.evaluation import probabilities
    from imdbtune.training.spec import TrainingSettings, TrialSpec
    from imdbtune.training.trainer import train_trial

    train = read_corpus(corpus).train
    others = np.arange(reviews, len(train))
    right = []
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            settings = TrainingSettings(reviews, seed, epochs=EPOCHS, compile="on")
            spec = TrialSpec(params, corpus, Path(folder), settings)
            model = train_trial(spec).model
            predicted = probabilities(model, train, others, params, padded=False)
        right.append((predicted > 0.5) == (train.labels[others] == 1))
    return np.array(right)


def drawn(
    right: Answers, seeds: int, rows: npt.NDArray[np.int64], rng: np.random.Generator
) -> Answers:
    """A confirmation's answers: some of the seeds, on these reviews."""
    return right[np.ix_(rng.permutation(len(right))[:seeds], rows)]


def coverage(
    right: Answers, seeds: int, reviews: int, rng: np.random.Generator
) -> tuple[float, float]:
    """The share of draws whose interval holds the truth, and half the interval's usual width."""
    truth, held, widths = right.mean(), 0, []
    for _ in range(DRAWS):
        rows = rng.permutation(right.shape[1])[:reviews]
        found = interval(Repeats("", drawn(right, seeds, rows, rng), 1.0))
        held += abs(found.mean - truth) <= found.both
        widths.append(found.both)
    return held / DRAWS, float(np.median(widths))


def share_of_differences(
    first: Answers, second: Answers, seeds: int, reviews: int, rng: np.random.Generator
) -> float:
    """Return the share of draws in which two configurations, or samples of one, differ."""
    found = 0
    for _ in range(DRAWS):
        rows = rng.permutation(first.shape[1])[:reviews]
        if first is second:
            both = drawn(first, 2 * seeds, rows, rng)
            pair: Sequence[Answers] = (both[:seeds], both[seeds:])
        else:
            pair = (drawn(first, seeds, rows, rng), drawn(second, seeds, rows, rng))
        one, other = (Repeats("", right, 1.0) for right in pair)
        found += compare(one, other).p < LEVEL
    return found / DRAWS


def main() -> None:
    """Train, draw, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="imdb, or PATH/imdb.npz")
    parser.add_argument("--train", type=int, default=2000, help="reviews to train on")
    parser.add_argument("--trainings", type=int, default=40, help="seeds of each configuration")
    parser.add_argument("--seeds", type=int, default=5, help="of a confirmation")
    parser.add_argument("--reviews", type=int, nargs="+", default=[500, 5000], help="of validation")
    args = parser.parse_args()
    corpus = open_corpus(args.data, default_cache().absolute(), print).folder
    rng = np.random.default_rng(0)
    right = [answers(p, corpus, args.trainings, args.train) for p in CONFIGURATIONS]
    print(*machine_lines(), sep="\n")
    print(
        f"\n{args.trainings} trainings each; confirmations of {args.seeds} seeds, {DRAWS} draws\n"
    )
    print("| configuration | mean | std of seeds | validation reviews | coverage | +- |")
    print("|---|---|---|---|---|---|")
    for params, each in zip(CONFIGURATIONS, right, strict=True):
        spread = each.mean(axis=1).std(ddof=1)
        for reviews in args.reviews:
            share, width = coverage(each, args.seeds, reviews, rng)
            cells = f"{each.mean():.4f} | {spread:.4f} | {reviews} | {share:.1%} | {width:.4f}"
            print(f"| {params.label} | {cells} |")
    print("\n| significant difference | validation reviews | share of draws |\n|---|---|---|")
    for reviews in args.reviews:
        for name, pair in (("the same", (right[0], right[0])), ("the two", (right[0], right[1]))):
            share = share_of_differences(*pair, args.seeds, reviews, rng)
            print(f"| {name} | {reviews} | {share:.1%} |")


if __name__ == "__main__":
    main()
