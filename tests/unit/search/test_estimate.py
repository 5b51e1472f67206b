"""How long a search takes: its trials, the line through two timings, and who trains what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from imdbtune import api
from imdbtune.config.hyperparameters import TrialParams
from imdbtune.config.schema import parse_config
from imdbtune.data.corpus import Corpus, make_split, write_corpus
from imdbtune.search import estimate
from imdbtune.search.estimate import (
    BEGIN_S,
    BESIDE_S,
    Cost,
    Line,
    cost_of,
    draw,
    in_words,
    line_through,
    makespan,
    multiplications,
)
from imdbtune.search.keras_tuner_samplers import make_sampler
from imdbtune.training.spec import StepTimes, TrialSpec
from tests.driven import SIZE, config_of


def test_the_trials_of_a_random_search_are_those_that_it_will_run() -> None:
    config = config_of("random", max_trials=5, seed=3)
    drawn, times = draw(config)
    sampler = make_sampler(config)
    asked = [config.space.params(sampler.suggest(n).values) for n in range(5)]
    assert [each.params for each in drawn] == asked
    assert times == 1


def test_a_grid_is_drawn_to_its_end_and_hyperband_with_the_epochs_of_its_rounds() -> None:
    drawn, times = draw(config_of("grid"))
    assert (len({each.params for each in drawn}), times) == (SIZE, 1)
    rounds, _ = draw(config_of("hyperband"))
    assert {each.epochs for each in rounds} <= {1, 2, 3, 4}
    assert sum(each.epochs for each in rounds) < 4 * len(rounds)


def test_a_space_too_large_to_draw_is_scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "MOST_DRAWN", 4)
    drawn, times = draw(config_of("grid"))
    assert len(drawn) * times == pytest.approx(SIZE)
    drawn, times = draw(config_of("bayesian", max_trials=10))
    assert len(drawn) * times == pytest.approx(10)


def test_work_counts_gates_layers_and_ways() -> None:
    one = TrialParams(rnn="simple_rnn", units=32, embedding=32)
    assert multiplications(one) == 32 + 32 * 64
    assert multiplications(TrialParams(rnn="lstm", units=32)) == 32 + 4 * 32 * 64
    both = TrialParams(rnn="gru", units=16, depth=2, bidirectional=True, embedding=32)
    assert multiplications(both) == 32 + 2 * 3 * 16 * (32 + 16) + 2 * 3 * 16 * (32 + 16)


def test_the_line_goes_through_both_measurements_and_never_down() -> None:
    cheap, dear = StepTimes(1.0, 2.0, 1000), StepTimes(3.0, 8.0, 1000)
    line = line_through((cheap, 100), (dear, 500))
    assert line.epoch_s(Cost(1000, 100)) == pytest.approx(2.0)
    assert line.epoch_s(Cost(1000, 500)) == pytest.approx(8.0)
    assert line.start_s == 2.0
    level = line_through((dear, 100), (cheap, 500))  # the dearer one was faster
    assert level == Line(0.005, 0.0, 2.0)
    steep = line_through((cheap, 400), (dear, 500))  # would be below zero at no work
    assert steep.base == 0
    assert steep.slope > 0
    assert line_through((cheap, 100), (cheap, 100)) == Line(0.002, 0.0, 1.0)


def test_makespan_hands_trials_to_whoever_is_free() -> None:
    assert makespan([3, 1, 1, 1], 2) == 3
    assert makespan([1, 1, 1, 3], 2) == 4
    assert makespan([1, 2], 0) == 3


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    half = make_split([[1, *[5] * (i % 40)] for i in range(100)], [i % 2 for i in range(100)])
    return write_corpus(tmp_path / "corpus", "small", "A small corpus", half, half, {})


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
    asked: list[list[TrialSpec]] = []

    def timed(specs: list[TrialSpec], workers: int) -> list[StepTimes]:
        asked.append(specs)
        return [StepTimes(1.0, 0.001 * multiplications(s.params), 1000) for s in specs]

    monkeypatch.setattr(estimate, "time_both", timed)
    config = config_of("grid", {"rnn": "gru", "units": [4, 8]})
    made = estimate.estimate(config, corpus, 1)
    assert [spec.params.units for spec in asked[0]] == [4, 8]
    assert (made.trials, made.epochs) == (2, 8)
    assert made.seconds == pytest.approx(
        BEGIN_S + 2 * (1 + BESIDE_S) + 4 * (made.cheapest_s + made.dearest_s)
    )
    assert made.least_seconds < made.seconds
    two = estimate.estimate(config, corpus, 2)
    assert two.seconds == pytest.approx(BEGIN_S + 1 + BESIDE_S + 4 * made.dearest_s)
    assert "2 trials" in in_words(made)


def test_real_steps_are_timed_and_nothing_is_tracked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(estimate, "TIMED_S", 0.01)
    table: dict[str, Any] = {
        "data": {"source": "demo", "reviews": 100},
        "space": {"rnn": "simple_rnn", "units": [2, 4], "maxlen": 20, "batch_size": 16},
        "training": {"epochs": 2, "compile": "off"},
    }
    said: list[str] = []
    made = api.estimate(
        parse_config(table),
        workers=2,
        cache=tmp_path / "cache",
        listener=lambda kind, facts: said.append(facts.get("text", "")),
    )
    assert 0 < made.cheapest_s < 60
    assert made.seconds > BEGIN_S
    assert said[-1].startswith("estimated: about")
    assert not (tmp_path / "mlflow.db").exists()
