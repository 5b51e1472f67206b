"""Conditions over rows: what they select, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from imdbtune.config.filter_expression import parse_condition
from imdbtune.errors import UserError

ROWS: list[dict[str, Any]] = [
    {"n": 0, "rnn": "gru", "maxlen": 100, "acc": 0.80, "bi": False, "why": None},
    {"n": 1, "rnn": "gru", "maxlen": 200, "acc": 0.85, "bi": True, "why": None},
    {"n": 2, "rnn": "lstm", "maxlen": 200, "acc": 0.90, "bi": False, "why": "loss is nan"},
    {"n": 3, "rnn": "simple_rnn", "maxlen": 400, "acc": None, "bi": True, "why": "a ) or (b"},
]
COLUMNS = ("n", "rnn", "maxlen", "acc", "bi", "why")


def chosen(condition: str) -> list[int]:
    meets = parse_condition(condition, ROWS, COLUMNS)
    return [row["n"] for row in ROWS if meets(row)]


@pytest.mark.parametrize(
    ("condition", "numbers"),
    [
        ("rnn=gru", [0, 1]),
        ("rnn == GRU", [0, 1]),
        ("rnn!=gru", [2, 3]),
        ("maxlen>=200", [1, 2, 3]),
        ("maxlen > 200", [3]),
        ("maxlen<200", [0]),
        ("maxlen <= 2e2", [0, 1, 2]),
        ("rnn=gru and maxlen>=200", [1]),
        ("rnn=lstm or maxlen=100", [0, 2]),
        ("rnn=lstm or rnn=gru and maxlen=200", [1, 2]),
        ("(rnn=lstm or rnn=gru) and maxlen=100", [0]),
        ("maxlen in (100,400)", [0, 3]),
        ("rnn not in (gru, lstm)", [3]),
        ("RNN_is_no_column_but_values_may_be=1", None),
        ("bi=true", [1, 3]),
        ("bi != True AND rnn IN (lstm)", [2]),
        ("acc < 0.9", [0, 1]),
        ("acc != 0.9", [0, 1]),
        ("acc not in (0.9)", [0, 1]),
        ("why='loss is nan'", [2]),
        ('why = "a ) or (b"', [3]),
        ("'rnn' = 'gru'", [0, 1]),
        ("((((n=3))))", [3]),
        ("rnn=none_such", []),
    ],
)
def test_what_a_condition_selects(condition: str, numbers: list[int] | None) -> None:
    if numbers is None:
        with pytest.raises(UserError, match="column 'RNN"):
            chosen(condition)
    else:
        assert chosen(condition) == numbers


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("cell=gru", "column 'cell' is not known; allowed: n, rnn"),
        ("rn=gru", "Did you mean 'rnn'"),
        ("rnn", "has the end instead of one of = != < <= > >= in"),
        ("rnn=", "has the end instead of a value"),
        ("=gru", "has '=' instead of a column"),
        ("rnn=gru and", "has the end instead of a column"),
        ("and rnn=gru", "has 'and' instead of a column"),
        ("rnn=gru maxlen=200", "has 'maxlen' instead of and, or, or the end"),
        ("(rnn=gru", r"has the end instead of '\)'"),
        ("rnn=gru)", r"has '\)' instead of and, or, or the end"),
        ("rnn in gru", r"has 'gru' instead of '\('"),
        ("rnn in ()", r"has '\)' instead of a value"),
        ("rnn not gru", "has 'gru' instead of 'in'"),
        ("maxlen=many", "maxlen holds numbers, not 'many'"),
        ("bi=1", "bi holds true or false, not '1'"),
        ("rnn>gru", "rnn > 'gru' needs a number; use =, != or in"),
        ("bi<true", "use =, != or in"),
        ("why='open", "is invalid at"),
        ("rnn!gru", "is invalid at"),
        ("", "has the end instead of a column"),
        ("(" * 5000 + "n=1", "more than 50 nested parentheses"),
    ],
)
def test_an_invalid_condition_is_reported_in_one_line(condition: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        chosen(condition)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@given(st.lists(st.sampled_from([*COLUMNS, *"=()<>!,'", "and", "in", "not", "1", "gru", "\x1b"])))
@example(["__import__('os')"])
@example(["rnn.upper()=GRU"])
def test_of_any_text_rows_are_chosen_or_it_is_refused_in_a_line(parts: list[str]) -> None:
    refused = ""
    try:
        assert set(chosen(" ".join(parts))) <= {row["n"] for row in ROWS}
    except UserError as error:
        refused = str(error)
    assert refused.isprintable()


def test_without_rows_every_known_column_may_be_named() -> None:
    assert not parse_condition("maxlen=200 or acc>0.5 or bi=true", [], COLUMNS)({})
