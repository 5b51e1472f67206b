"""Whether what is claimed of confirmations and searches is true, from many real trainings.

Ten configurations are trained with 20 seeds each on 10,000 of the training reviews, and evaluated
after each epoch on the other 15,000 (never on the test reviews). These trainings are the
population. Confirmations are drawn from it again and again, with other seeds and other reviews
(with replacement, so that the population's mean is exactly what they estimate), and what is
computed from them is compared with the truth. Searches are drawn, too: some of the trainings,
validated on 5,000 of the reviews; the true accuracy of the best epoch of all is that on the other
10,000.

``--train`` makes the population anew, in half an hour; otherwise the file is used.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.machine import machine_lines
from imdbtune.config.hyperparameters import TrialParams
from imdbtune.confirm.rule import LEVEL, MARGIN
from imdbtune.confirm.significance import Repeats, interval, rank_configurations
from imdbtune.data.sources import default_cache, open_corpus
from imdbtune.report.paired import excess_of_the_best

FILE = Path(__file__).resolve().parent / "curves" / "correct.npz"
VALIDATION_SHARE = 0.6  # of the 25,000 training reviews: 15,000
SEEDS = 20
EPOCHS = 4
COMMON = {
    **{"vocabulary": 20_000, "embedding": 32, "spatial_dropout": 0.3, "word_dropout": 0.3},
    **{"optimizer": "adam", "learning_rate": 0.003, "schedule": "cosine", "clip_norm": 1.0},
    **{"ema": 0.99, "batch_size": 64, "crop": 128},
}
CONFIGURATIONS: tuple[dict[str, object], ...] = (
    {"rnn": "gru", "units": 32, "maxlen": 500},
    {"rnn": "gru", "units": 64, "maxlen": 500},
    {"rnn": "gru", "units": 16, "maxlen": 500},
    {"rnn": "lstm", "units": 32, "maxlen": 500},
    {"rnn": "lstm", "units": 64, "maxlen": 500},
    {"rnn": "gru", "units": 32, "maxlen": 500, "pooling": "max"},
    {"rnn": "lstm", "units": 32, "maxlen": 500, "pooling": "max"},
    {"rnn": "gru", "units": 32, "maxlen": 200},
    {"rnn": "gru", "units": 64, "maxlen": 200},
    {"rnn": "simple_rnn", "units": 32, "maxlen": 200, "pooling": "max"},
)
Correct = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Population:
    """All trainings.

    Args:
        epochs: (configurations, seeds, epochs, reviews), whether a prediction is correct.
        seconds: (configurations,), of one training.
    """

    epochs: Correct
    seconds: npt.NDArray[np.float64]

    @property
    def correct(self) -> Correct:
        """The last epochs: (configurations, seeds, reviews)."""
        return self.epochs[:, :, -1]

    @cached_property
    def truth(self) -> npt.NDArray[np.float64]:
        """The true accuracy of each configuration."""
        return np.asarray(self.correct.mean(axis=(1, 2)), np.float64)

    def draw(
        self, configurations: Sequence[int], seeds: int, reviews: int, rng: np.random.Generator
    ) -> list[Repeats]:
        """Return the result of a confirmation; a configuration that is named twice is drawn twice.

        Args:
            configurations: indices.
            seeds: of each configuration.
            reviews: on which all of them are evaluated.
            rng: source of randomness.
        """
        rows = rng.integers(self.correct.shape[2], size=reviews)
        drawn = []
        for number, index in enumerate(configurations):
            chosen = rng.integers(self.correct.shape[1], size=seeds)
            correct = self.correct[index][chosen][:, rows]
            drawn.append(Repeats(str(number), correct, float(self.seconds[index])))
        return drawn


def train_population(data: str, jobs: int) -> Population:
    """Train all configurations with all seeds."""
    import time

    corpus = open_corpus(data, default_cache().absolute(), print).folder
    tasks = [(c, seed) for seed in range(SEEDS) for c in range(len(CONFIGURATIONS))]
    correct: list[list[Correct]] = [[] for _ in CONFIGURATIONS]
    seconds: list[list[float]] = [[] for _ in CONFIGURATIONS]
    started = time.monotonic()
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        results = pool.map(partial(_train, corpus), *zip(*tasks, strict=True))
        for done, ((c, _), (right, took)) in enumerate(zip(tasks, results, strict=True), start=1):
            correct[c].append(right)
            seconds[c].append(took)
            print(f"{done} of {len(tasks)} after {time.monotonic() - started:.0f} s", flush=True)
    return Population(np.array(correct), np.median(seconds, axis=1))


def _train(corpus: Path, configuration: int, seed: int) -> tuple[Correct, float]:
    """Train once: whether each review that was not trained on is classified right, by epoch."""
    from imdbtune.training.spec import TrainingSettings, TrialSpec
    from imdbtune.training.trainer import train_trial

    params = TrialParams.from_values({**COMMON, **CONFIGURATIONS[configuration]})
    settings = TrainingSettings(
        seed=seed, epochs=EPOCHS, compile="on", validation_share=VALIDATION_SHARE
    )
    with tempfile.TemporaryDirectory() as folder:
        result = train_trial(TrialSpec(params, corpus, Path(folder), settings))
    return result.right, result.seconds


def write_population(population: Population, path: Path = FILE) -> None:
    """Write the trainings, a bit for each prediction."""
    packed = np.packbits(population.epochs, axis=-1)
    reviews = population.epochs.shape[-1]
    np.savez_compressed(path, packed=packed, reviews=reviews, seconds=population.seconds)


def read_population(path: Path = FILE) -> Population:
    """Return the trainings in a file."""
    with np.load(path, allow_pickle=False) as file:
        unpacked = np.unpackbits(file["packed"], axis=-1, count=int(file["reviews"]))
        return Population(unpacked.astype(bool), file["seconds"])


@dataclass(frozen=True)
class Setting:
    """How confirmations are drawn."""

    seeds: int = 5
    reviews: int = 5000
    draws: int = 1000


def coverage(population: Population, setting: Setting, rng: np.random.Generator) -> float:
    """Return the share of 95 % intervals that contain the true accuracy; 0.95 is right."""
    held = []
    everything = range(len(population.truth))
    for _ in range(setting.draws):
        drawn = population.draw(everything, setting.seeds, setting.reviews, rng)
        for repeats, truth in zip(drawn, population.truth, strict=True):
            found = interval(repeats)
            held.append(abs(found.mean - truth) <= found.both)
    return float(np.mean(held))


def family_error(
    population: Population, count: int, setting: Setting, rng: np.random.Generator
) -> float:
    """Return how often one of ``count`` equal configurations is called worse; at most 0.05."""
    wrong = 0
    for _ in range(setting.draws):
        index = int(rng.integers(len(population.truth)))
        drawn = population.draw([index] * count, setting.seeds, setting.reviews, rng)
        wrong += len(rank_configurations(drawn).indistinguishable) < count
    return wrong / setting.draws


@dataclass(frozen=True)
class Recommended:
    """How recommendations turn out.

    Args:
        wrong: share that is worse than the best confirmed configuration by more than the margin,
            although the opposite was claimed to be shown; at most 0.05.
        shown: share with such a claim.
        regret: by which the recommended configuration is worse than the best, on average.
    """

    wrong: float
    shown: float
    regret: float


def recommendations(
    population: Population, count: int, setting: Setting, rng: np.random.Generator
) -> Recommended:
    """Return how the recommendations of confirmations of ``count`` configurations turn out."""
    wrong, shown, regrets = 0, 0, []
    for _ in range(setting.draws):
        chosen = rng.permutation(len(population.truth))[:count]
        ranking = rank_configurations(
            population.draw(chosen.tolist(), setting.seeds, setting.reviews, rng)
        )
        truths = population.truth[chosen]
        regret = truths.max() - truths[int(ranking.recommended)]
        shown += ranking.is_shown
        wrong += ranking.is_shown and regret > MARGIN
        regrets.append(regret)
    return Recommended(wrong / setting.draws, shown / setting.draws, float(np.mean(regrets)))


def power(
    population: Population, setting: Setting, rng: np.random.Generator
) -> Iterator[tuple[float, float]]:
    """Yield the true difference of each pair of configurations, and how often it is significant."""
    pairs = [(i, j) for i in range(len(population.truth)) for j in range(i)]
    for i, j in sorted(pairs, key=lambda p: abs(population.truth[p[0]] - population.truth[p[1]])):
        found = 0
        for _ in range(setting.draws // 10):
            drawn = population.draw([i, j], setting.seeds, setting.reviews, rng)
            found += rank_configurations(drawn).differences[0].is_significant
        yield abs(population.truth[i] - population.truth[j]), found / (setting.draws // 10)


@dataclass(frozen=True)
class Excess:
    """By how much the best score of a search exceeds its true value: means over searches."""

    claimed: float
    true: float


def excess(
    population: Population, trials: int, setting: Setting, rng: np.random.Generator
) -> Excess:
    """Return the claimed and the true excess of the best score of searches of so many trials."""
    configurations, seeds, _, reviews = population.epochs.shape
    claimed, true = [], []
    for _ in range(setting.draws // 4):
        chosen = rng.choice(configurations * seeds, trials, replace=False)
        trained = population.epochs.reshape(configurations * seeds, -1, reviews)[chosen]
        order = rng.permutation(reviews)
        validated, others = trained[..., order[: setting.reviews]], order[setting.reviews :]
        scores = validated.mean(axis=2)
        trial, epoch = np.unravel_index(scores.argmax(), scores.shape)
        claimed.append(excess_of_the_best(validated.reshape(-1, setting.reviews)))
        true.append(scores.max() - trained[trial, epoch][others].mean())
    return Excess(float(np.mean(claimed)), float(np.mean(true)))


def print_tables(population: Population, setting: Setting) -> None:
    """Draw, and print what was claimed and what is true."""
    rng = np.random.default_rng(0)
    print("| configuration | true accuracy | std of seeds | seconds |\n|---|---|---|---|")
    for values, correct, seconds in zip(
        CONFIGURATIONS, population.correct, population.seconds, strict=True
    ):
        label = TrialParams.from_values({**COMMON, **values}).label
        spread = correct.mean(axis=1).std(ddof=1)
        print(f"| {label} | {correct.mean():.4f} | {spread:.4f} | {seconds:.0f} |")
    print(f"\n{setting.draws} draws.\n\n| claim | seeds | claimed | true |\n|---|---|---|---|")
    for seeds in (3, 5, 10):
        own = Setting(seeds, setting.reviews, setting.draws)
        print(f"| the interval of a mean contains it | {seeds} | {1 - LEVEL:.0%} ", end="")
        print(f"| {coverage(population, own, rng):.1%} |")
        for count in (2, 3, 5, 8):
            error = family_error(population, count, own, rng)
            print(f"| one of {count} equals is worse | {seeds} | at most {LEVEL:.0%} ", end="")
            print(f"| {error:.1%} |")
        found = recommendations(population, 5, own, rng)
        print(f"| shown to be within {100 * MARGIN:g} points, and is not | {seeds} ", end="")
        print(f"| at most {LEVEL:.0%} | {found.wrong:.1%} (claimed in {found.shown:.0%}; ", end="")
        print(f"the recommended are {100 * found.regret:.2f} points below the best) |")
    for trials in (4, 12, 33):
        found_excess = excess(population, trials, setting, rng)
        print(
            f"| points by which the best of {trials} trials and their epochs is too high | 1 ",
            end="",
        )
        print(f"| {100 * found_excess.claimed:.2f} | {100 * found_excess.true:.2f} |")
    print("\n| true difference, points | seeds | significant |\n|---|---|---|")
    for seeds in (3, 5, 10):
        own = Setting(seeds, setting.reviews, setting.draws)
        measured = list(power(population, own, rng))
        for low, high in ((0, 0.2), (0.2, 0.5), (0.5, 0.8), (0.8, 1.5), (1.5, 10)):
            inside = [share for gap, share in measured if low <= 100 * gap < high]
            if inside:
                print(f"| {low} to {high} | {seeds} | {np.mean(inside):.0%} |")


def main() -> None:
    """Make the population if wanted, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--train", metavar="DATA", help="make the population: PATH/imdb.npz")
    parser.add_argument("--jobs", type=int, default=2, help="trainings at the same time")
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--reviews", type=int, default=5000, help="of validation")
    args = parser.parse_args()
    if args.train:
        write_population(train_population(args.train, args.jobs))
    print(*machine_lines(), "", sep="\n")
    print_tables(read_population(), Setting(reviews=args.reviews, draws=args.draws))


if __name__ == "__main__":
    main()
