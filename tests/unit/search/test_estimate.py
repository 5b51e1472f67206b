"""The estimated time of a search: its trials, the model of their times, and the total."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imdbtune import api
from imdbtune.config.hyperparameters import TrialParams
from imdbtune.config.schema import parse_config
from imdbtune.data.corpus import Corpus, NewCorpus, make_split, write_corpus
from imdbtune.search import estimate
from imdbtune.search.estimate import (
    STARTUP_S,
    TRIAL_OVERHEAD_S,
    amount_of,
    draw,
    in_words,
    makespan,
)
from imdbtune.search.sampler import make_sampler
from imdbtune.search.step_times import Amount, fit, most_different, multiplications, work
from imdbtune.training.spec import StepTimes, TrialSpec
from tests.driven import SIZE, config_of
from tests.forked import FORKS, warm_up
from tests.support import demo_cache, noting

UNITS = {"rnn": "gru", "units": [4, 8]}


def test_the_trials_of_a_random_search_are_those_that_it_will_run() -> None:
    config = config_of("random", max_trials=5, seed=3)
    drawn, scale = draw(config)
    sampler = make_sampler(config)
    suggested = [config.space.params(sampler.ask().values) for _ in range(5)]  # type: ignore[union-attr]
    assert [each.params for each in drawn] == suggested
    assert scale == 1


def test_a_grid_is_drawn_to_its_end_and_hyperband_with_the_epochs_of_its_rounds() -> None:
    drawn, scale = draw(config_of("grid"))
    assert (len({each.params for each in drawn}), scale) == (SIZE, 1)
    rounds, _ = draw(config_of("hyperband"))
    assert {each.epochs for each in rounds} <= {1, 2, 3, 4}
    assert sum(each.epochs for each in rounds) < 4 * len(rounds)


def test_a_space_too_large_to_draw_is_scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "MAX_DRAWN", 4)
    drawn, scale = draw(config_of("grid"))
    assert len(drawn) * scale == pytest.approx(SIZE)
    drawn, scale = draw(config_of("bayesian", max_trials=10))
    assert len(drawn) * scale == pytest.approx(10)


def test_work_counts_gates_layers_and_directions() -> None:
    one = TrialParams(rnn="simple_rnn", units=32, embedding=32)
    assert multiplications(one) == 32 + 32 * 64
    assert multiplications(TrialParams(rnn="lstm", units=32)) == 32 + 4 * 32 * 64
    both = TrialParams(rnn="gru", units=16, depth=2, bidirectional=True, embedding=32)
    assert multiplications(both) == 32 + 2 * 3 * 16 * (32 + 16) + 2 * 3 * 16 * (32 + 16)


VARIED = [
    TrialParams(rnn=rnn, units=units, depth=depth, vocabulary=vocabulary, ema=ema)
    for rnn, units, depth, vocabulary, ema in [
        ("simple_rnn", 16, 1, 10_000, 0.0),
        ("gru", 64, 1, 10_000, 0.0),
        ("lstm", 32, 2, 50_000, 0.9),
        ("gru", 16, 3, 20_000, 0.0),
        ("lstm", 128, 1, 10_000, 0.0),
    ]
]
RATES = np.array([4e-6, 2e-10, 3e-9, 1e-3])  # seconds for each kind of work


def timed(params: TrialParams, steps: int = 20, time_steps: int = 2000) -> StepTimes:
    seconds = float(work(params, Amount(steps, time_steps)) @ RATES)
    return StepTimes(2.0, seconds, steps, time_steps)


def test_the_times_of_other_trials_follow_from_those_that_were_timed() -> None:
    model = fit(VARIED, [timed(params) for params in VARIED])
    other = TrialParams(rnn="gru", units=48, depth=2, vocabulary=30_000, bidirectional=True)
    expected = timed(other, 313, 60_000).seconds
    assert model.seconds(other, Amount(313, 60_000)) == pytest.approx(expected, rel=1e-6)
    assert model.start_s == 2.0


@pytest.mark.parametrize("count", [1, 2, 3])
def test_no_kind_of_work_takes_less_than_no_time(count: int) -> None:
    """Even where there are fewer timed trials than kinds of work, or slower small ones."""
    slow_first = [replace(timed(p), seconds=9.0 / n) for n, p in enumerate(VARIED[:count], 1)]
    model = fit(VARIED[:count], slow_first)
    assert (model.rates >= 0).all()
    assert model.seconds(VARIED[0], Amount(20, 2000)) > 0


def test_the_timed_trials_are_the_one_with_the_most_work_and_the_most_different_ones() -> None:
    amounts = [Amount(20, 2000)] * len(VARIED)
    chosen = most_different(VARIED, amounts, 3)
    assert chosen[0] == 4
    assert {VARIED[index].rnn for index in chosen} == {"simple_rnn", "lstm", "gru"}
    assert sorted(most_different(VARIED, amounts, 9)) == [0, 1, 2, 3, 4]
    assert most_different([VARIED[0]] * 3, amounts[:3], 2) == [0]


def test_makespan_assigns_trials_to_the_next_free_worker() -> None:
    assert makespan([3, 1, 1, 1], 2) == 3
    assert makespan([1, 1, 1, 3], 2) == 4
    assert makespan([1, 2], 0) == 3


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    half = make_split([[1, *[5] * (i % 40)] for i in range(100)], [i % 2 for i in range(100)])
    return write_corpus(tmp_path / "corpus", NewCorpus("small", "A small corpus", half, half, {}))


def test_an_epoch_is_as_long_as_the_reviews_cut_to_maxlen(corpus: Corpus) -> None:
    config = parse_config({})
    whole = amount_of(TrialParams(maxlen=50, batch_size=10), corpus, config)
    short = amount_of(TrialParams(maxlen=10, batch_size=10), corpus, config)
    assert whole.steps == short.steps == pytest.approx(8 + 2 / 3)
    assert 8 * 20 < whole.time_steps < 8 * 40 * 1.1
    assert 8 * 8 < short.time_steps <= 8 * 10 * 1.1
    padded = parse_config({"training": {"batching": "padded"}})
    assert amount_of(TrialParams(maxlen=50, batch_size=10), corpus, padded).time_steps == (
        pytest.approx(50 * (8 + 2 / 3))
    )


def test_all_trials_on_all_workers(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    timed_specs: list[list[TrialSpec]] = []

    def time_stubs(specs: list[TrialSpec], workers: int) -> list[StepTimes]:
        timed_specs.append(specs)
        return [replace(timed(spec.params), start_s=1.0) for spec in specs]

    monkeypatch.setattr(estimate, "time_specs", time_stubs)
    config = config_of("grid", UNITS)
    estimated = estimate.estimate(config, corpus, 1)
    assert [spec.params.units for spec in timed_specs[0]] == [8, 4]
    assert (estimated.trials, estimated.epochs) == (2, 8)
    assert estimated.seconds == pytest.approx(
        STARTUP_S + 2 * (1 + TRIAL_OVERHEAD_S) + 4 * (estimated.cheapest_s + estimated.dearest_s)
    )
    assert estimated.least_seconds < estimated.seconds
    two = estimate.estimate(config, corpus, 2)
    assert two.seconds == pytest.approx(STARTUP_S + 1 + TRIAL_OVERHEAD_S + 4 * estimated.dearest_s)
    assert "2 trials" in in_words(estimated)
    pruned = estimate.estimate(config_of("grid", UNITS, prune="asha", executions=3), corpus, 1)
    assert pruned.seconds == pytest.approx(
        STARTUP_S + 2 * (3 + TRIAL_OVERHEAD_S) + 12 * (pruned.cheapest_s + pruned.dearest_s)
    )
    # Each trial is pruned in the first epoch of its first execution.
    assert pruned.least_seconds == pytest.approx(
        STARTUP_S + 2 * (1 + TRIAL_OVERHEAD_S) + pruned.cheapest_s + pruned.dearest_s
    )
    spared = estimate.estimate(config_of("grid", UNITS, prune="median"), corpus, 1)
    assert spared.least_seconds == estimated.least_seconds  # it spares the first five


def test_real_steps_are_timed_and_nothing_is_tracked(
    tmp_path: Path, demo: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By processes that are forked, for once: new ones would import TensorFlow."""
    warm_up()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(estimate, "get_context", {"spawn": FORKS}.__getitem__)
    monkeypatch.setattr(estimate, "TIMED_S", 0.01)
    table: dict[str, Any] = {
        "data": {"source": "demo", "reviews": 100},
        "space": {"rnn": "simple_rnn", "units": [2, 4], "maxlen": 20, "batch_size": 16},
        "training": {"epochs": 2, "compile": "off"},
    }
    notices: list[str] = []
    estimated = api.estimate(
        parse_config(table),
        api.Context(workers=2, cache=demo_cache(), listener=noting(notices)),
    )
    assert 0 < estimated.cheapest_s < 60
    assert estimated.seconds > STARTUP_S
    assert notices[-1].startswith("estimated: about")
    assert not (tmp_path / "mlflow.db").exists()
