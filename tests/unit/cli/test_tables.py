"""Tables and values for the terminal."""

from __future__ import annotations

from typing import Any

import pytest

from imdbtune.cli.tables import default_columns, format_cell, table
from imdbtune.cli.winner_output import describe_ensemble
from imdbtune.config.hyperparameters import TrialParams
from imdbtune.tracking import mlflow_names
from imdbtune.tracking.entities import Search, Trial

ROWS: list[dict[str, Any]] = [
    {"name": "gru-d1", "rnn": "gru", "units": 8, "best_val_accuracy": 0.9, "status": "FINISHED"},
    {"name": "lstm", "rnn": "lstm", "units": 128, "status": "FAILED", "reason": "loss is nan."},
]


def test_numbers_are_right_aligned_and_text_left_aligned() -> None:
    lines = table(ROWS, ["name", "units", "best_val_accuracy", "status"]).splitlines()
    assert lines == [
        "#  name    units  best_val_accuracy  status",
        "1  gru-d1      8             0.9000  finished",
        "-  lstm      128                  -  failed: loss is nan.",
    ]


def test_a_table_without_rows_is_its_head() -> None:
    columns = default_columns(["rnn"], ["best_val_loss"])
    head = "#  name  rnn  best_val_loss  best_epoch  train_seconds  status"
    assert table([], columns) == head


@pytest.mark.parametrize(
    ("column", "value", "shown"),
    [
        ("learning_rate", 0.00012345678, "0.000123457"),
        ("best_val_accuracy", 0.87654321, "0.8765"),
        ("best_epoch", 3.0, "3"),
        ("parameter_count", 322080.0, "322080"),
        ("train_seconds", 61.44, "61.4"),
        ("bidirectional", True, "true"),
        ("units", 32, "32"),
        ("name", None, "-"),
        ("name", "a\x1b[31m\nb", "a\\x1b[31m\\nb"),
    ],
)
def test_values_as_people_read_them(column: str, value: object, shown: str) -> None:
    assert format_cell({column: value}, column) == shown


def test_control_characters_in_a_reason_are_escaped() -> None:
    assert format_cell({"status": "FAILED", "reason": "a\x1b[2J"}, "status") == "failed: a\\x1b[2J"


@pytest.mark.parametrize(
    ("objective", "scores", "linear", "shown"),
    [
        ("val_accuracy", (0.90, 0.85, 0.80), None, "5.00 points above its best member"),
        ("val_accuracy", (0.84, 0.85, 0.80), 0.86, "2.00 points below its best member"),
        ("val_f1", (0.84, 0.85, 0.80), None, "worse by 0.0100 than its best member"),
        ("val_log_loss", (0.30, 0.40, 0.50), None, "better by 0.1000 than its best member"),
    ],
)
def test_the_gain_of_an_ensemble_follows_the_metric(
    objective: str, scores: tuple[float, ...], linear: float | None, shown: str
) -> None:
    tags = {mlflow_names.OBJECTIVE: objective}
    search = Search("s", "mine", "FINISHED", "1", tags, {}, 0)
    params, ended = TrialParams(), (0, None, None)
    mean, *members = (
        Trial(str(n), "t", "FINISHED", params, {f"best_{objective}": score}, tags, *ended)
        for n, score in enumerate(scores)
    )
    printed = describe_ensemble(mean, search, members, linear)
    assert f"{objective} {scores[0]:.4f}: {shown}" in printed
