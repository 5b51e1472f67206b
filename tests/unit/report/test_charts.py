"""The numbers of the interactive charts: each trial by its row in the table of all trials."""

from __future__ import annotations

import dataclasses
import json

import pytest

from imdbtune.report import charts
from imdbtune.report.charts import charts_of
from tests.unit.report.test_page import CASES, FEW, ONE, WIDE, make_data, with_linear


@pytest.mark.parametrize("case", CASES)
def test_every_trial_is_where_it_belongs(case: str) -> None:
    data = with_linear(CASES[case], 0.8)
    found = charts_of(data)
    percent = {row: charts.percent(trial) for row, trial in enumerate(data.finished)}
    costs = {"train_seconds", "parameter_count", "progress"}
    assert set(found.scatters) == costs | {name for name in found.scatters if name.startswith("by")}
    for name, scatter in found.scatters.items():
        assert {row: round(y, 4) for _, y, row in scatter.points} == percent, name
    assert all(len(axis.positions) == len(percent) for axis in found.axes)
    assert {interval.row for interval in found.intervals} == set(range(min(len(percent), 10)))
    json.dumps(dataclasses.asdict(found), allow_nan=False)


def test_values_of_a_range_are_those_of_their_trials() -> None:
    data = make_data(WIDE)
    scatter = charts_of(data).scatters["by_units"]
    assert scatter.log
    for x, _, row in scatter.points:
        assert x == data.finished[row].params.units
    groups = charts_of(make_data(FEW)).scatters["by_rnn"]
    assert groups.labels == ["simple_rnn", "lstm", "gru"]
    for x, _, row in groups.points:
        assert groups.labels[round(x)] == make_data(FEW).finished[row].params.rnn


def test_the_last_axis_is_the_accuracy() -> None:
    axes = charts_of(make_data(FEW)).axes
    assert [axis.name for axis in axes] == ["rnn", "depth", "units", "accuracy (%)"]
    assert axes[-1].positions[0] == 1
    assert min(axes[-1].positions) == 0
    assert not charts_of(make_data(ONE)).axes


def test_equal_accuracies_have_an_axis() -> None:
    even = [dataclasses.replace(each, metrics=FEW[0].metrics) for each in FEW[:2]]
    (*_, axis) = charts_of(make_data(even)).axes
    assert axis.positions == [0.5, 0.5]
    assert len(axis.ticks) == 1


def test_curves_begin_with_the_best_and_have_gaps() -> None:
    data = make_data(FEW)
    name, epochs = data.histories[1]
    better = [{**epochs[0], "val_accuracy": 0.95}, {**epochs[1], "val_accuracy": float("nan")}]
    lost = [{"epoch": 1.0, "val_accuracy": float("nan")}]
    histories = [data.histories[0], (name, better), (name, lost), *data.histories[3:]]
    curves = charts_of(dataclasses.replace(data, histories=histories)).curves
    assert [curve.row for curve in curves] == [1, 0, *range(3, len(FEW))]
    assert list(curves[0].points) == [(1, 95.0), (2, None)]
    assert curves[0].best == "95.00 % at epoch 1"


def test_levels_are_half_widths_of_normal_intervals() -> None:
    levels = dict(charts_of(make_data(ONE)).levels)
    assert levels[95] == pytest.approx(1.95996, abs=1e-5)
    assert levels[99] == pytest.approx(2.57583, abs=1e-5)
