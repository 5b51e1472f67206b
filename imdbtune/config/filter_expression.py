"""Filter rows by expressions such as ``rnn=gru and (maxlen>=200 or units in (32,64))``.

An expression is parsed into nested functions that test a row; it is never evaluated as code.

    condition  = conjunction { "or" conjunction }
    conjunction = test { "and" test }
    test       = "(" condition ")" | COLUMN operator VALUE | COLUMN ["not"] "in" "(" VALUE, ... ")"

Values with spaces or operators need quotes. The comparison of texts ignores case. A row without a
value in a column fails every test of that column, unless the caller wants it to meet them.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from imdbtune.errors import UserError, short_repr, unknown_choice

Row = Mapping[str, object]
Condition = Callable[[Row], bool]

OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
KEYWORDS = ("and", "or", "not", "in")
MAX_DEPTH = 50
_TOKEN = re.compile(r"""\s*(?:(<=|>=|!=|==|[=<>(),])|"([^"]*)"|'([^']*)'|([^\s=<>!(),'"]+))""")


@dataclass(frozen=True)
class _Token:
    text: str
    kind: str  # "sign", "word" or "quoted"

    def means(self, *texts: str) -> bool:
        """Return whether it is one of these operators or keywords."""
        return self.kind != "quoted" and self.text.lower() in texts


_END = _Token("the end", "end")


def parse_condition(
    text: str, rows: Sequence[Row], columns: Collection[str], missing: bool = False
) -> Condition:
    """Return a function that tests whether a row meets the condition ``text``.

    Args:
        text: the condition.
        rows: the rows to filter; their values decide whether a column holds text or numbers.
        columns: the columns that may be used.
        missing: whether a row without a value in a column meets the tests of that column.

    Raises:
        UserError: a syntax error, an unknown column, or a value of the wrong type.
    """
    parser = _Parser(text, _tokens(text), rows, columns, missing)
    condition = parser.condition(0)
    if parser.peek() is not _END:
        raise parser.syntax_error("and, or, or the end")
    return condition


def words_in(text: str) -> set[str]:
    """Return the words of a condition: columns, values and keywords."""
    return {token.text for token in _tokens(text) if token.kind != "sign"}


def _tokens(text: str) -> list[_Token]:
    found, position, end = [], 0, len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None:
            raise UserError(
                f"the condition {short_repr(text)} is invalid at "
                f"{short_repr(text[position:].strip())}; "
                "write for example: rnn=gru and maxlen>=200."
            )
        sign, double, single, word = match.groups()
        if sign or word:
            found.append(_Token(sign or word, "sign" if sign else "word"))
        else:
            found.append(_Token(double if double is not None else single, "quoted"))
        position = match.end()
    return found


@dataclass
class _Parser:
    text: str
    tokens: list[_Token]
    rows: Sequence[Row]
    columns: Collection[str]
    missing: bool
    position: int = 0

    def peek(self) -> _Token:
        return self.tokens[self.position] if self.position < len(self.tokens) else _END

    def next(self) -> _Token:
        token = self.peek()
        self.position += 1
        return token

    def syntax_error(self, expected: str) -> UserError:
        token = self.peek()
        found = "the end" if token is _END else short_repr(token.text)
        return UserError(
            f"the condition {short_repr(self.text)} has {found} instead of {expected}; "
            "write for example: rnn=gru and maxlen>=200."
        )

    def take(self, sign: str) -> None:
        if not self.peek().means(sign):
            raise self.syntax_error(repr(sign))
        self.next()

    def condition(self, depth: int) -> Condition:
        if depth > MAX_DEPTH:
            raise UserError(
                f"the condition has more than {MAX_DEPTH} nested parentheses; simplify it."
            )
        return self._joined("or", any, lambda: self._joined("and", all, lambda: self.test(depth)))

    def _joined(
        self, word: str, join: Callable[[Iterable[object]], bool], part: Callable[[], Condition]
    ) -> Condition:
        parts = [part()]
        while self.peek().means(word):
            self.next()
            parts.append(part())
        return parts[0] if len(parts) == 1 else lambda row: join(each(row) for each in parts)

    def test(self, depth: int) -> Condition:
        if self.peek().means("("):
            self.next()
            inner = self.condition(depth + 1)
            self.take(")")
            return inner
        if self.peek().kind not in ("word", "quoted") or self.peek().means(*KEYWORDS):
            raise self.syntax_error("a column")
        column = self.next().text
        if column not in self.columns:
            raise unknown_choice("column", column, self.columns)
        sign = self.peek()
        if sign.means("not", "in"):
            return self._membership(column)
        if sign.kind != "sign" or sign.text not in OPERATORS:
            raise self.syntax_error("one of = != < <= > >= in")
        self.next()
        return self._comparison(column, sign.text)

    def _comparison(self, column: str, sign: str) -> Condition:
        value = self._value(column)
        if isinstance(value, (str, bool)) and sign not in ("=", "==", "!="):
            raise UserError(
                f"{column} {sign} {short_repr(value)} needs a number; use =, != or in for texts."
            )
        compare = OPERATORS[sign]
        return self._of_column(column, lambda found: compare(found, value))

    def _membership(self, column: str) -> Condition:
        negated = self.peek().means("not")
        if negated:
            self.next()
        self.take("in")
        self.take("(")
        values = [self._value(column)]
        while self.peek().means(","):
            self.next()
            values.append(self._value(column))
        self.take(")")
        return self._of_column(column, lambda found: (found in values) != negated)

    def _of_column(self, column: str, test: Callable[[object], bool]) -> Condition:
        """Return the condition that a row's value in a column passes a test."""
        missing = self.missing
        return lambda row: test(_comparable(row[column])) if _has(row, column) else missing

    def _value(self, column: str) -> str | bool | float:
        if self.peek().kind not in ("word", "quoted"):
            raise self.syntax_error("a value")
        text = self.next().text
        # Without any value in the column, no row can meet the test and any value will do.
        sample = next((row[column] for row in self.rows if _has(row, column)), None)
        value = 0.0 if sample is None else _convert_like(sample, text)
        if value is None:
            kind = "true or false" if isinstance(sample, bool) else "numbers"
            raise UserError(f"{column} holds {kind}, not {short_repr(text)}; give such a value.")
        return value


def _has(row: Row, column: str) -> bool:
    return row.get(column) is not None


def _comparable(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _convert_like(sample: object, text: str) -> str | bool | float | None:
    """Return ``text`` converted to the type of ``sample``; ``None`` if it cannot be."""
    if isinstance(sample, str):
        return text.lower()
    if isinstance(sample, bool):
        return {"true": True, "false": False}.get(text.lower())
    try:
        return float(text)
    except ValueError:
        return None
