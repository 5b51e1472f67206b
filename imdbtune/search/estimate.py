"""Estimate how long a search takes, from the trials that its sampler draws and a few timed steps.

The trials that differ most in what they compute are timed, in parallel if the search has several
workers. :mod:`imdbtune.search.step_times` derives the times of the others from theirs.
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

import numpy as np

from imdbtune.config.hyperparameters import TrialParams
from imdbtune.config.schema import SearchConfig
from imdbtune.data.batches import Batches, limit_rows, validation_split
from imdbtune.data.corpus import Corpus
from imdbtune.errors import SearchAborted
from imdbtune.search.pruner import pruner_kind
from imdbtune.search.sampler import Suggestion, make_sampler, sampler_kind
from imdbtune.search.step_times import Amount, fit, most_different
from imdbtune.training.out_of_fold import estimate_seconds
from imdbtune.training.spec import StepTimes, TrainingSettings, TrialSpec

MAX_DRAWN = 1000
TIMED_TRIALS = 6
TIMED_S = 5.0  # of steps, for each of them
# Measured: from the command to the first trial; and for a trial, logging, saving its model and
# drawing its curves.
STARTUP_S = 10.0
TRIAL_OVERHEAD_S = 0.3
VALIDATION_SHARE = 1 / 3  # work of a validation step, relative to a training step


@dataclass(frozen=True)
class DrawnTrial:
    """A trial that the sampler suggests."""

    params: TrialParams
    epochs: int  # without those of the trial that it continues


@dataclass(frozen=True)
class Estimate:
    """The time of a search, for all trials on all workers."""

    seconds: float  # if every trial runs all its epochs
    least_seconds: float  # if every trial stops as soon as its patience or the pruner allows
    trials: int
    epochs: int
    cheapest_s: float  # per epoch of the cheapest trial
    dearest_s: float  # per epoch of the most expensive trial

    def as_dict(self) -> dict[str, float]:
        """Return plain values, for JSON."""
        return asdict(self)


def draw(config: SearchConfig) -> tuple[list[DrawnTrial], float]:
    """Draw the trials of a search, at most ``MAX_DRAWN``, with random scores.

    For a sampler that takes too long, the trials of another one are drawn from the same space.

    Returns:
        The trials, and the number of trials of the search for each of them.
    """
    tuner, kind = config.tuner, sampler_kind(config)
    if kind.estimated_as:
        config = replace(config, tuner=replace(tuner, kind=kind.estimated_as))
    sampler, scores = make_sampler(config), random.Random(tuner.seed)
    limit = tuner.trial_limit or MAX_DRAWN
    drawn: list[DrawnTrial] = []
    while len(drawn) < min(limit, MAX_DRAWN):
        trial = sampler.ask()
        if not isinstance(trial, Suggestion):
            break
        epochs = (trial.epochs or config.training.epochs) - trial.initial_epoch
        drawn.append(DrawnTrial(config.space.params(trial.values), epochs))
        measured = {name: scores.random() for name in tuner.objectives}
        sampler.tell(trial.trial_id, measured[tuner.main_objective], "", measured)
    size = config.space.size() if kind.covers_space else None
    limits = [number for number in (tuner.trial_limit, size) if number]
    total = min(limits) if limits and len(drawn) == MAX_DRAWN else len(drawn)
    return drawn, max(1.0, total / len(drawn))


def amount_of(params: TrialParams, corpus: Corpus, config: SearchConfig) -> Amount:
    """Return what an epoch computes; validation counts ``VALIDATION_SHARE``."""
    count = limit_rows(len(corpus.train), config.data.reviews)
    division = TrainingSettings.of(config).division
    labels = corpus.train.labels[:count]
    parts = division.rows(labels, 0) if division.count else validation_split(count)
    training, validation = (math.ceil(len(part) / params.batch_size) for part in parts)
    steps = training + VALIDATION_SHARE * validation
    if config.training.batching == "padded" or params.own is not None:
        return Amount(steps, steps * params.maxlen)
    shape = (params.batch_size, params.maxlen, params.vocabulary)
    batches = Batches(corpus.train, parts[0], *shape, crop=params.crop)
    trained = batches.time_steps(np.random.default_rng(0))
    validated = Batches(corpus.train, parts[1], *shape).time_steps()
    return Amount(steps, trained + VALIDATION_SHARE * validated)


def makespan(seconds: Sequence[float], workers: int) -> float:
    """Return the time until all trials are done, each started in order on the next free worker."""
    free_at = [0.0] * max(1, workers)
    for duration in seconds:
        heapq.heappush(free_at, heapq.heappop(free_at) + duration)
    return max(free_at)


def estimate(config: SearchConfig, corpus: Corpus, workers: int) -> Estimate:
    """Time the trials that differ most, and add up the times of all trials.

    Args:
        workers: processes that train at once; 0: this process.

    Raises:
        SearchAborted: the steps fail, for example because memory runs out.
    """
    drawn, scale = draw(config)
    amounts = {trial.params: amount_of(trial.params, corpus, config) for trial in drawn}
    known = list(amounts)
    chosen = [known[i] for i in most_different(known, list(amounts.values()), TIMED_TRIALS)]
    specs = [_make_spec(params, corpus.folder, config) for params in chosen]
    model = fit(chosen, time_specs(specs, workers))
    epoch_s = {params: model.seconds(params, amount) for params, amount in amounts.items()}
    out_of_fold_s = 0.0
    if any(params.soft_labels or params.ngrams for params in known):
        trained_on = len(validation_split(limit_rows(len(corpus.train), config.data.reviews))[0])
        out_of_fold_s = estimate_seconds(corpus.folder, trained_on) / max(1, workers)
    folds, executions = config.tuner.folds, TrainingSettings.of(config).trainings
    patience = config.training.patience
    pruner = pruner_kind(config)

    def total(early_stopping: bool) -> float:
        durations = []
        for number, trial in enumerate(drawn):
            shortened = early_stopping and patience
            epochs = min(trial.epochs, patience + 1) if shortened else trial.epochs
            trainings = executions
            if early_stopping and pruner and folds and number >= pruner.spared:
                trainings = min(folds, pruner.first_epoch)
            elif early_stopping and pruner and number >= pruner.spared:
                epochs, trainings = min(epochs, pruner.first_epoch), 1
            trained = model.start_s + epochs * epoch_s[trial.params]
            durations.append(trainings * trained + TRIAL_OVERHEAD_S)
        whole = makespan(durations, workers) * scale + out_of_fold_s
        limit = config.tuner.max_minutes * 60
        return STARTUP_S + (min(whole, limit + max(durations)) if limit else whole)

    return Estimate(
        seconds=total(early_stopping=False),
        least_seconds=total(early_stopping=True),
        trials=round(len(drawn) * scale),
        epochs=round(sum(trial.epochs for trial in drawn) * executions * scale),
        cheapest_s=min(epoch_s.values()),
        dearest_s=max(epoch_s.values()),
    )


def _make_spec(params: TrialParams, corpus: Path, config: SearchConfig) -> TrialSpec:
    settings = TrainingSettings.of(config)
    return TrialSpec(params, corpus, Path(), settings, code=config.own_code)  # writes nothing


def time_specs(specs: Sequence[TrialSpec], workers: int) -> list[StepTimes]:
    """Time the steps of trials in processes that slow each other down as workers do.

    Raises:
        SearchAborted: a process died, or could not train.
    """
    processes = min(len(specs), max(1, workers))
    try:
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            return list(pool.map(_time_spec, specs))
    except BrokenProcessPool as error:
        raise SearchAborted(
            "the time cannot be estimated: a process died while it ran the first steps of a trial "
            "(out of memory?)."
        ) from error


def _time_spec(spec: TrialSpec) -> StepTimes:
    from imdbtune.training.trainer import time_steps

    return time_steps(spec, TIMED_S)


def in_words(estimated: Estimate) -> str:
    """Return an estimate as one line of text."""
    text = (
        f"about {_duration(estimated.seconds)} if all {estimated.trials} trials run all their "
        "epochs"
    )
    if estimated.least_seconds < 0.9 * estimated.seconds:
        text += f", {_duration(estimated.least_seconds)} if each stops as early as possible"
    epoch = f"{_duration(estimated.cheapest_s)} to {_duration(estimated.dearest_s)}"
    return f"{text}; an epoch takes {epoch}"


def _duration(seconds: float) -> str:
    if seconds >= 5400:
        return f"{seconds / 3600:.1f} h"
    if seconds >= 90:
        return f"{seconds / 60:.0f} min"
    return f"{seconds:.0f} s" if seconds >= 10 or math.isclose(seconds, 0) else f"{seconds:.1f} s"
