"""Milliseconds a training step, over kinds and sizes of models, on real reviews.

Each model in three ways:

* plain: plain Keras layers as they come (``jit_compile="auto"``), reviews padded to ``maxlen``
  without a mask, all cores;
* uncompiled: plain Keras layers, masked, one thread (``training.compile = "off"``);
* fused: the compiled loop of this project, batches of like length, one thread.

A step is a batch of 128 reviews. Batches of like length differ, so "fused" is the mean over a
whole epoch. "First" is the first step in seconds: tracing, and compiling where that is done.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.cases import BATCH_SIZE, RNN_TYPES
from benchmarks.machine import machine_lines
from imdbtune.cluster.local_executor import cpu_count, thread_environment
from imdbtune.config.hyperparameters import TrialParams
from imdbtune.data.batches import Batches, pad, validation_split
from imdbtune.data.corpus import Split, read_corpus
from imdbtune.data.sources import default_cache, open_corpus

if TYPE_CHECKING:
    import keras

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
    """The speed of each model; runs in a process of its own, before TensorFlow is imported."""
    os.environ.update(thread_environment(cpu_count() if way == "plain" else 1))
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


def measure_all(chosen: list[TrialParams], corpus: Path, reviews: int) -> list[dict[str, Speed]]:
    """For each model its speed in each way."""
    speeds: list[dict[str, Speed]] = [{} for _ in chosen]
    spawn = multiprocessing.get_context("spawn")
    for way in WAYS:
        with ProcessPoolExecutor(1, mp_context=spawn) as pool:
            found = pool.submit(measure, way, chosen, corpus, reviews).result()
        for row, speed in zip(speeds, found, strict=True):
            row[way] = speed
    return speeds


def table_row(params: TrialParams, speeds: dict[str, Speed]) -> str:
    """A row of Markdown."""
    steps = " | ".join(f"{speeds[way].step_ms:.0f}" for way in WAYS)
    ratio = speeds["plain"].step_ms / speeds["fused"].step_ms
    first = " | ".join(f"{speeds[way].first_s:.1f}" for way in WAYS)
    return f"| {params.label} | {steps} | {ratio:.1f} | {first} |"


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="imdb, demo, or PATH/imdb.npz")
    parser.add_argument("--quick", action="store_true", help="two small models, few reviews")
    args = parser.parse_args()
    corpus = open_corpus(args.data, default_cache(), print)
    chosen = models(args.quick)
    speeds = measure_all(chosen, corpus.folder, QUICK_REVIEWS if args.quick else 0)
    print(*machine_lines(), sep="\n")
    print("\n| model | plain ms | uncompiled ms | fused ms | plain / fused |", end="")
    print(" first: plain s | uncompiled s | fused s |\n|---|---|---|---|---|---|---|---|")
    print(*map(table_row, chosen, speeds), sep="\n")


if __name__ == "__main__":
    main()
