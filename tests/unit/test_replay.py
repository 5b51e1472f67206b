"""The benchmark of search efficiency: searches in simulated time, from a table of curves."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.curve_table import Curve, CurveTable, read_table, write_table
from benchmarks.efficiency import Setting, Summary, replay
from benchmarks.replay import Found, Method, Replay
from imdbtune.config.schema import parse_config
from tests.support import isolate, make_config, run_search

SPACE = {"units": [8, 16, 32, 64]}
CURVES = {8: (0.4, 0.5, 0.6), 16: (0.5, 0.6, 0.7), 32: (0.7, 0.8, 0.9), 64: (0.6, 0.7, 0.8)}


@pytest.fixture
def table() -> CurveTable:
    """Four configurations of three epochs, which take 10 s each after 5 s of compiling."""
    config = parse_config({"space": SPACE, "training": {"epochs": 3}})
    curves = {
        config.space.params({"units": units}): [Curve(accuracy, (15.0, 25.0, 35.0))]
        for units, accuracy in CURVES.items()
    }
    return CurveTable(config, curves)


@pytest.mark.parametrize("workers", [1, 2])
def test_trials_take_the_time_of_their_curves(table: CurveTable, workers: int) -> None:
    found = Replay.of(table, Method("grid").config(table, 0, 40), workers, 1000.0).run()
    expected = {0.6: 35, 0.7: 70, 0.9: 105} if workers == 1 else {0.6: 35, 0.7: 35, 0.9: 70}
    assert {each.accuracy: each.seconds for each in found} == expected
    assert table.best == 0.9


def test_a_pruned_trial_ends_after_its_first_epoch(table: CurveTable) -> None:
    """The grid goes from bad to good, so only the last one, of 64 units, is pruned."""
    replayed = Replay.of(table, Method("grid", "asha").config(table, 0, 40), 1, 119.0)
    assert replayed.run()[-1] == Found(105.0, 0.9)
    assert replayed.running == 1
    replayed = Replay.of(table, Method("grid", "asha").config(table, 0, 40), 1, 121.0)
    replayed.run()
    assert replayed.running == 0


def test_it_ends_with_its_time(table: CurveTable) -> None:
    found = replay(table, Setting(1, 60.0, 40), Method("random"), 0)
    assert 0 < len(found) <= 2
    assert all(each.seconds <= 60 for each in found)


def test_hyperband_continues_the_best_of_a_rung(table: CurveTable) -> None:
    found = replay(table, Setting(1, 1000.0, 40), Method("hyperband"), 0)
    assert found[0].seconds == 15  # one epoch
    assert found[-1].accuracy >= 0.8  # three epochs


def test_a_summary_knows_when_which_accuracy_was_reached() -> None:
    runs = [[Found(10, 0.8), Found(50, 0.9)], [Found(20, 0.85)]]
    summary = Summary(Method("tpe", "asha"), runs, 0.91)
    assert summary.accuracy(15).tolist() == [0.8, 0.5]
    assert summary.time_to(0.85).tolist() == [50, 20]
    assert summary.row(60).startswith("| tpe, asha | 87.50 ±")
    assert summary.row(60).endswith("| (50 %) | (50 %) | (50 %) | 3.50 | 0 |")


def test_a_finished_search_becomes_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = isolate(monkeypatch, tmp_path)
    config = make_config(folder, space={**SPACE, "rnn": "gru"}, training={"epochs": 3})
    _, search = run_search(config, folder)
    space, file = tmp_path / "space.toml", tmp_path / "table.csv"
    space.write_text('[space]\nrnn = "gru"\nunits = [8, 16, 32, 64]\n', encoding="utf-8")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    assert write_table([search.run_id], uri, file, str(space)) == 4
    curves = read_table(file, str(space)).curves
    assert {params.units for params in curves} == set(CURVES)
    for (curve,) in curves.values():
        assert len(curve.accuracy) == len(curve.seconds) == 3
        assert list(curve.seconds) == sorted(curve.seconds)
