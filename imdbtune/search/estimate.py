"""How long a search will take: the trials that its sampler would suggest, and a few timed steps.

The cheapest and the dearest of these trials are timed, side by side if the search has several
workers; what the others take is read off the line through the two.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from imdbtune.config.hyperparameters import TrialParams
from imdbtune.config.schema import SearchConfig
from imdbtune.data.batches import Batches, limit_rows, validation_split
from imdbtune.data.corpus import Corpus
from imdbtune.errors import SearchAborted
from imdbtune.search.keras_tuner_samplers import make_sampler
from imdbtune.training.spec import StepTimes, TrialSpec

MOST_DRAWN = 1000
TIMED_S = 8.0  # of steps, of each of the two
# Measured: from the command to the first trial; and what a trial takes beside its steps, for
# logging, saving its model and drawing its curves.
BEGIN_S = 8.0
BESIDE_S = 2.0
GATES = {"simple_rnn": 1, "gru": 3, "lstm": 4}
FORWARD = 1 / 3  # of a training step's work: what a validation step is


@dataclass(frozen=True)
class Drawn:
    """A trial that the sampler might suggest."""

    params: TrialParams
    epochs: int  # that it trains itself


@dataclass(frozen=True)
class Cost:
    """What is known of a trial's time."""

    positions: float  # rows x time steps in an epoch, validation included at its share
    work: float  # multiplications for one of them


@dataclass(frozen=True)
class Estimate:
    """Seconds, for all trials on all workers."""

    seconds: float  # if every trial runs all its epochs
    least_seconds: float  # if every trial stops as soon as its patience allows
    trials: int
    epochs: int
    cheapest_s: float  # an epoch
    dearest_s: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def draw(config: SearchConfig) -> tuple[list[Drawn], float]:
    """The trials of a search, and how many there are for each of them if they are too many.

    The sampler is told random scores. Bayesian optimisation takes too long to suggest trials, and
    its trials lie in the same space as those of a random search.
    """
    tuner = config.tuner
    if tuner.kind == "bayesian":
        config = replace(config, tuner=replace(tuner, kind="random"))
    sampler, scores = make_sampler(config), random.Random(tuner.seed)
    limit = tuner.trial_limit or MOST_DRAWN
    drawn: list[Drawn] = []
    while len(drawn) < min(limit, MOST_DRAWN):
        trial = sampler.suggest(len(drawn))
        if trial.status != "RUNNING":
            break
        values = trial.values
        epochs = int(values.get("tuner/epochs", config.training.epochs))
        epochs -= int(values.get("tuner/initial_epoch", 0))
        drawn.append(Drawn(config.space.params(values), epochs))
        sampler.tell(trial.trial_id, scores.random())
    size = config.space.size() if tuner.kind == "grid" else None
    known = [number for number in (tuner.trial_limit, size) if number]
    many = min(known) if known and len(drawn) == MOST_DRAWN else len(drawn)
    return drawn, max(1.0, many / len(drawn))


def multiplications(params: TrialParams) -> float:
    """For one time step of one review: the recurrent layers, and looking up its vector."""
    ways = 2 if params.bidirectional else 1
    inputs, total = params.embedding, params.embedding
    for _ in range(params.depth):
        total += ways * GATES[params.rnn] * params.units * (inputs + params.units)
        inputs = ways * params.units
    return float(total)


def cost_of(params: TrialParams, corpus: Corpus, config: SearchConfig) -> Cost:
    """Rows x time steps of an epoch, and the work of one."""
    count = limit_rows(len(corpus.train), config.data.reviews)
    part, held_out = validation_split(count)
    work = multiplications(params)
    if config.training.batching == "padded":
        rows = len(part) + FORWARD * len(held_out)
        return Cost(rows * params.maxlen, work)
    shape = (params.batch_size, params.maxlen, params.vocabulary)
    training = Batches(corpus.train, part, *shape, crop=params.crop)
    columns = training.time_steps(np.random.default_rng(0))
    validated = Batches(corpus.train, held_out, *shape).time_steps()
    return Cost((columns + FORWARD * validated) * params.batch_size, work)


@dataclass(frozen=True)
class Line:
    """Seconds for a row's time step: ``base + slope x work``; and until a first step is done."""

    base: float
    slope: float
    start_s: float

    def epoch_s(self, cost: Cost) -> float:
        """Of an epoch."""
        return cost.positions * (self.base + self.slope * cost.work)


def line_through(cheap: tuple[StepTimes, float], dear: tuple[StepTimes, float]) -> Line:
    """The line through two measurements, each with its work; it never goes down."""
    (first, low), (second, high) = cheap, dear
    rates = [t.seconds / max(t.positions, 1) for t in (first, second)]
    start_s = (first.start_s + second.start_s) / 2
    slope = (rates[1] - rates[0]) / (high - low) if high > low else 0.0
    if slope <= 0:
        return Line(sum(rates) / 2, 0.0, start_s)
    if rates[0] < slope * low:  # it would cross zero: all of it is in proportion to the work
        return Line(0.0, (rates[0] / low + rates[1] / high) / 2, start_s)
    return Line(rates[0] - slope * low, slope, start_s)


def makespan(seconds: Sequence[float], workers: int) -> float:
    """How long trials take that are handed in order to whoever is free."""
    free = [0.0] * max(1, workers)
    for each in seconds:
        heapq.heappush(free, heapq.heappop(free) + each)
    return max(free)


def estimate(config: SearchConfig, corpus: Corpus, workers: int) -> Estimate:
    """Time the cheapest and the dearest trial, and add up all of them.

    Raises:
        SearchAborted: the steps cannot be made, for want of memory for example.
    """
    drawn, times = draw(config)
    costs = {each.params: cost_of(each.params, corpus, config) for each in drawn}
    by_cost = sorted(costs, key=lambda p: costs[p].positions * costs[p].work)
    cheap, dear = by_cost[0], by_cost[-1]
    timed = time_both([_spec(p, corpus.folder, config) for p in (cheap, dear)], workers)
    line = line_through((timed[0], costs[cheap].work), (timed[1], costs[dear].work))
    executions = config.tuner.executions
    patience = config.training.patience

    def total(stopping: bool) -> float:
        each = []
        for trial in drawn:
            epochs = min(trial.epochs, patience + 1) if stopping and patience else trial.epochs
            trained = line.start_s + epochs * line.epoch_s(costs[trial.params])
            each.append(executions * trained + BESIDE_S)
        whole = makespan(each, workers) * times
        limit = config.tuner.max_minutes * 60
        return BEGIN_S + (min(whole, limit + max(each)) if limit else whole)

    return Estimate(
        seconds=total(stopping=False),
        least_seconds=total(stopping=True),
        trials=round(len(drawn) * times),
        epochs=round(sum(trial.epochs for trial in drawn) * executions * times),
        cheapest_s=line.epoch_s(costs[cheap]),
        dearest_s=line.epoch_s(costs[dear]),
    )


def _spec(params: TrialParams, corpus: Path, config: SearchConfig) -> TrialSpec:
    return TrialSpec(
        params,
        corpus,
        Path(),  # nothing is written
        reviews=config.data.reviews,
        epochs=config.training.epochs,
        batching=config.training.batching,
        compile=config.training.compile,
    )


def time_both(specs: Sequence[TrialSpec], workers: int) -> list[StepTimes]:
    """The steps of two trials in processes of their own, which slow each other down as workers do.

    Raises:
        SearchAborted: a process died, or could not train.
    """
    at_once = min(2, max(1, workers))
    try:
        with ProcessPoolExecutor(at_once, mp_context=get_context("spawn")) as pool:
            return list(pool.map(_timed, specs))
    except BrokenProcessPool as error:
        raise SearchAborted(
            "the time cannot be estimated: a process died while it made the first steps of the "
            "dearest or cheapest trial (out of memory?)."
        ) from error


def _timed(spec: TrialSpec) -> StepTimes:
    from imdbtune.training.trainer import time_steps

    return time_steps(spec, TIMED_S)


def in_words(made: Estimate) -> str:
    """``about 12 min for 12 trials ...``, in a line."""
    told = f"about {_span(made.seconds)} if all {made.trials} trials run all their epochs"
    if made.least_seconds < 0.9 * made.seconds:
        told += f", {_span(made.least_seconds)} if each stops as soon as it may"
    return f"{told}; an epoch takes {_span(made.cheapest_s)} to {_span(made.dearest_s)}"


def _span(seconds: float) -> str:
    if seconds >= 5400:
        return f"{seconds / 3600:.1f} h"
    if seconds >= 90:
        return f"{seconds / 60:.0f} min"
    return f"{seconds:.0f} s" if seconds >= 10 or math.isclose(seconds, 0) else f"{seconds:.1f} s"
