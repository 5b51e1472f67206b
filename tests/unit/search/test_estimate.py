"""The estimated time of a search: its trials, the model of their times, and the total."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from imdbtune import api
from imdbtune.config.hyperparameters import TrialParams
from imdbtune.config.schema import parse_config
from imdbtune.data.corpus import Corpus, NewCorpus, make_split, write_corpus
from imdbtune.search import estimate
from imdbtune.search.estimate import (
    STARTUP_S,
    TRIAL_OVERHEAD_S,
    Cost,
    TimeModel,
    cost_of,
    draw,
    fit_line,
    in_words,
    makespan,
    multiplications,
)
from imdbtune.search.sampler import make_sampler
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


def test_the_line_goes_through_both_measurements_and_never_down() -> None:
    cheap, expensive = StepTimes(1.0, 2.0, 1000), StepTimes(3.0, 8.0, 1000)
    model = fit_line((cheap, 100), (expensive, 500))
    assert model.epoch_s(Cost(1000, 100)) == pytest.approx(2.0)
    assert model.epoch_s(Cost(1000, 500)) == pytest.approx(8.0)
    assert model.start_s == 2.0
    level = fit_line((expensive, 100), (cheap, 500))  # the more expensive one was faster
    assert level == TimeModel(0.005, 0.0, 2.0)
    steep = fit_line((cheap, 400), (expensive, 500))  # the base would be negative
    assert steep.base == 0
    assert steep.slope > 0
    assert fit_line((cheap, 100), (cheap, 100)) == TimeModel(0.002, 0.0, 1.0)


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
    whole = cost_of(TrialParams(maxlen=50, batch_size=10), corpus, config).positions
    short = cost_of(TrialParams(maxlen=10, batch_size=10), corpus, config).positions
    assert 80 * 20 < whole < 80 * 40 * 1.1
    assert 80 * 8 < short <= 80 * 10 * 1.1
    padded = parse_config({"training": {"batching": "padded"}})
    assert cost_of(TrialParams(maxlen=50), corpus, padded).positions == pytest.approx(
        50 * (80 + 20 / 3)
    )


def test_all_trials_on_all_workers(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    timed_specs: list[list[TrialSpec]] = []

    def timed(specs: list[TrialSpec], workers: int) -> list[StepTimes]:
        timed_specs.append(specs)
        return [StepTimes(1.0, 0.001 * multiplications(s.params), 1000) for s in specs]

    monkeypatch.setattr(estimate, "time_specs", timed)
    config = config_of("grid", UNITS)
    estimated = estimate.estimate(config, corpus, 1)
    assert [spec.params.units for spec in timed_specs[0]] == [4, 8]
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
