"""Milliseconds a training step, over kinds and sizes of models, on real reviews.

Each model in three ways:

* plain: plain Keras layers as they come (``jit_compile="auto"``), reviews padded to ``maxlen``
  without a mask, all cores;
* uncompiled: plain Keras layers, masked, one thread (``training.compile = "off"``);
* fused: the compiled loop of this project, batches of like length, one thread.

A step is a batch of 128 reviews. Batches of like length differ, so "fused" is the mean over a
whole epoch. "First" is the first step in seconds: tracing, and compiling where that is done. The
"limit" is the time of a fused step if it had only the matrix products of its time steps, as fast
as the largest products of one core.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np

from benchmarks.cases import BATCH_SIZE, RNN_TYPES
from benchmarks.machine import machine_lines
from imdbtune.cluster.local_executor import cpu_count, thread_environment
from imdbtune.config.extensions import CELLS
from imdbtune.config.hyperparameters import TrialParams
from imdbtune.data.batches import Batches, pad, validation_split
from imdbtune.data.corpus import Split, read_corpus
from imdbtune.data.sources import default_cache, open_corpus

if TYPE_CHECKING:
    import keras

P = ParamSpec("P")
T = TypeVar("T")
LARGE = 1024  # rows and columns of the products that measure a core
WAYS = ("plain", "uncompiled", "fused")
PADDED_STEPS = 20  # all batches cost the same
QUICK_REVIEWS = 3_200
BASE = TrialParams(maxlen=200)
CHANGES: tuple[dict[str, Any], ...] = (
    {},
    {"maxlen": 500},
    {"units": 64},
    {"depth": 2},
    {"pooling": "max"},
    {"bidirectional": True},
)


@dataclass(frozen=True)
class Speed:
    """The first step in seconds, and the mean of the others in milliseconds."""

    first_s: float
    step_ms: float


def models(quick: bool) -> list[TrialParams]:
    """Each change of the base model, for each RNN type."""
    if quick:
        return [dataclasses.replace(BASE, maxlen=100, rnn=rnn) for rnn in ("simple_rnn", "lstm")]
    return [dataclasses.replace(BASE, rnn=rnn, **c) for c in CHANGES for rnn in RNN_TYPES]


def measure(way: str, chosen: list[TrialParams], corpus: Path, reviews: int) -> list[Speed]:
    """The speed of each model."""
    train = read_corpus(corpus).train
    return [_measure_one(way, params, train, reviews or len(train)) for params in chosen]


def _measure_one(way: str, params: TrialParams, train: Split, reviews: int) -> Speed:
    import keras

    keras.backend.clear_session()
    keras.utils.set_random_seed(1)
    make = {"plain": _plain, "uncompiled": _uncompiled, "fused": _fused}[way]
    model, data = make(params, train, validation_split(reviews)[0])
    started = time.perf_counter()
    model.fit(data.take(1), verbose=0)
    first = time.perf_counter() - started
    steps = len(data) if way == "fused" else min(PADDED_STEPS, len(data))
    started = time.perf_counter()
    model.fit(data.take(steps), verbose=0)
    return Speed(first, (time.perf_counter() - started) * 1000 / steps)


def gigaflops() -> float:
    """The speed of large matrix products."""
    import tensorflow as tf

    x = tf.random.normal((LARGE, LARGE))
    seconds = []
    for _ in range(30):
        started = time.process_time()  # of one thread, so that other processes hardly matter
        tf.matmul(x, x).numpy()
        seconds.append(time.process_time() - started)
    return 2 * LARGE**3 / min(seconds) / 1e9


def gigaflop(params: TrialParams, train: Split, reviews: int) -> float:
    """The matrix products of a fused step: those of the input and the state, and two gradients."""
    directions = 2 if params.bidirectional else 1
    inputs = params.embedding + (params.depth - 1) * directions * params.units
    columns = CELLS[params.rnn].gates * params.units * directions
    rows = validation_split(reviews or len(train))[0]
    batches = Batches(train, rows, BATCH_SIZE, params.maxlen, params.vocabulary)
    time_steps = batches.time_steps(np.random.default_rng(1)) / len(batches)
    products = (inputs + params.depth * params.units) * columns
    return 3 * 2 * BATCH_SIZE * time_steps * products / 1e9


def _plain(params: TrialParams, train: Split, rows: Any) -> tuple[keras.Model, Any]:
    import tensorflow as tf

    from imdbtune.models.builders import plain_model

    model = plain_model(params, masked=False)
    model.compile(optimizer="rmsprop", loss="binary_crossentropy", metrics=["accuracy"])
    rows = rows[: (PADDED_STEPS + 1) * BATCH_SIZE]
    ids = pad(train, rows, params.maxlen, params.vocabulary)
    labels = train.labels[rows].astype(np.float32)[:, None]
    return model, tf.data.Dataset.from_tensor_slices((ids, labels)).batch(
        BATCH_SIZE, drop_remainder=True
    )


def _uncompiled(params: TrialParams, train: Split, rows: Any) -> tuple[keras.Model, Any]:
    from imdbtune.models.builders import MANY_STEPS, compile_model, plain_model

    model = compile_model(plain_model(params), params, jit=False, steps=MANY_STEPS)
    return model, _buckets(params, train, rows)


def _fused(params: TrialParams, train: Split, rows: Any) -> tuple[keras.Model, Any]:
    from imdbtune.models.builders import MANY_STEPS, compile_model, fused_model

    model = compile_model(fused_model(params), params, jit=True, steps=MANY_STEPS)
    return model, _buckets(params, train, rows)


def _buckets(params: TrialParams, train: Split, rows: Any) -> Any:
    from imdbtune.training.fit_data import as_dataset

    batches = Batches(train, rows, BATCH_SIZE, params.maxlen, params.vocabulary)
    return as_dataset(batches, np.random.default_rng(1))


def in_new_process(threads: int, function: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
    """The result of a function in a process in which TensorFlow has so many threads."""
    os.environ.update(thread_environment(threads))  # which the process has from its start
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(function, *args, **options).result()


def measure_all(chosen: list[TrialParams], corpus: Path, reviews: int) -> list[dict[str, Speed]]:
    """For each model its speed in each way."""
    speeds: list[dict[str, Speed]] = [{} for _ in chosen]
    for way in WAYS:
        threads = cpu_count() if way == "plain" else 1
        found = in_new_process(threads, measure, way, chosen, corpus, reviews)
        for row, speed in zip(speeds, found, strict=True):
            row[way] = speed
    return speeds


def table_row(params: TrialParams, speeds: dict[str, Speed], limit_ms: float) -> str:
    """A row of Markdown."""
    steps = " | ".join(f"{speeds[way].step_ms:.0f}" for way in WAYS)
    ratio = speeds["plain"].step_ms / speeds["fused"].step_ms
    limit = f"{limit_ms:.0f} | {100 * limit_ms / speeds['fused'].step_ms:.0f}"
    first = " | ".join(f"{speeds[way].first_s:.1f}" for way in WAYS)
    return f"| {params.label} | {steps} | {ratio:.1f} | {limit} | {first} |"


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="imdb, demo, or PATH/imdb.npz")
    parser.add_argument("--quick", action="store_true", help="two small models, few reviews")
    args = parser.parse_args()
    corpus = open_corpus(args.data, default_cache(), print)
    chosen = models(args.quick)
    reviews = QUICK_REVIEWS if args.quick else 0
    speeds = measure_all(chosen, corpus.folder, reviews)
    peak = in_new_process(1, gigaflops)
    limits = [gigaflop(params, corpus.train, reviews) / peak * 1000 for params in chosen]
    print(*machine_lines(), f"{peak:.0f} GFLOP/s in large products on one core", sep="\n")
    print("\n| model | plain ms | uncompiled ms | fused ms | plain / fused | limit ms |", end="")
    print(" fused, % of the limit | first: plain s | uncompiled s | fused s |")
    print(f"|{'---|' * 10}")
    print(*map(table_row, chosen, speeds, limits), sep="\n")


if __name__ == "__main__":
    main()
