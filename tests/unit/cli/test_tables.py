"""Tables and values for the terminal."""

from __future__ import annotations

from typing import Any

import pytest

from imdbtune.cli.tables import default_columns, format_cell, table

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
