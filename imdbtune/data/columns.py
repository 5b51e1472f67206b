"""Find the columns of a table that hold texts, labels and parts, and read the reviews."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from imdbtune.config.label_condition import LabelCondition, parse_label_condition
from imdbtune.config.schema import TableConfig
from imdbtune.data.column_detection import Sample, detect_columns, detect_text
from imdbtune.data.download import Progress
from imdbtune.data.labels import MOST, check_labels, label_name
from imdbtune.data.parts import NAMES, TRAIN
from imdbtune.data.review_buffer import Review
from imdbtune.data.tables import FORMATS, Csv, Table, Values, is_table, list_names, open_table
from imdbtune.data.text_lines import read_text_lines
from imdbtune.errors import UserError, short_repr, unknown_choice
from imdbtune.files import require_regular_file

NO_COLUMN = "none"

_MAX_NAME = 200  # characters


@dataclass(frozen=True)
class Columns:
    """The names of the columns; ``split`` is empty if there is no such column.

    ``condition`` divides the numbers in the column ``label`` into two labels.
    """

    text: str
    label: str
    split: str
    condition: LabelCondition | None = None

    def label_of(self, value: object) -> str:
        """Return the label that a value of the column ``label`` stands for; empty if invalid."""
        return self.condition.label(value) if self.condition else label_name(value)


def find_columns(table: Table, config: TableConfig) -> Columns:
    """Return the configured columns, or those detected by their names or by their values.

    Raises:
        UserError: a configured column is missing, or detection is ambiguous.
    """
    _check_names(table)
    sample = _sample(table)
    if isinstance(table, Csv):
        _check_first_line(table, sample)
    condition = parse_label_condition(config.label_at)
    split = _split_column(table, config.split_column)
    label = _configured(table, config.label_column)
    text = _configured(table, config.text_column)
    if not label:
        numbers = condition is not None
        text, label = detect_columns(table, sample, text, split, numbers)
    text = text or detect_text(table, sample, (label, split))
    text, label = _configured(table, text), _configured(table, label)  # no name occurs twice
    columns = Columns(text, label, split, condition)
    _check_differ(table, columns)
    _check_label_column(table, columns, sample[label])
    return columns


def read_reviews(table: Table, columns: Columns) -> Iterator[Review]:
    """Yield the reviews of a table; an empty text cell is an empty review.

    Raises:
        UserError: a text is not a string, or a row has no label, one too many or an unknown part.
    """
    names = [name for name in (columns.text, columns.label, columns.split) if name]
    labels: set[str] = set()
    for position, values in table.rows(names):
        text, label = values[0], columns.label_of(values[1])
        if text is None:
            text = ""
        if not isinstance(text, str):
            raise table.row_error(position, f"{_holds(columns.text, text)}, not text")
        if not label:
            raise table.row_error(position, _label_problem(columns, values[1]))
        if label not in labels:
            if len(labels) == MOST:
                more = f"{_holds(columns.label, label)}, label {MOST + 1} of this column"
                raise table.row_error(position, f"{more}; 2 to {MOST} are allowed")
            labels.add(label)
        part = _part(table, position, columns.split, values[2]) if columns.split else TRAIN
        yield Review(text, label, part)


def read_texts(path: Path, column: str = "", progress: Progress | None = None) -> Iterator[str]:
    """Return an iterator over the texts in a file: a column of a table, or the lines of a text.

    Empty cells of a table are empty texts, and numbers are converted to text.

    Args:
        path: the file.
        column: the text column of a table; empty: detected by its name or its values.
        progress: called with how much of the file has been read.

    Raises:
        UserError: the file cannot be read, or has no such column.
    """
    if not is_table(path):
        if column:
            raise UserError(
                f"column {short_repr(column)} is for tables, but {path} is not one "
                f"({', '.join(FORMATS)}); leave it out, or pass a table."
            )
        return _lines(path)
    table = open_table(path, progress)
    _check_names(table)
    name = _configured(table, column or detect_text(table, _sample(table), ()))
    return ("" if text is None else str(text) for _, (text,) in table.rows([name]))


def _lines(path: Path) -> Iterator[str]:
    try:
        file = require_regular_file(path).open("rb")
    except OSError as error:
        raise UserError(
            f"{path} cannot be read: {error.strerror or error}; pass a file with a review in each "
            "line, a table, or - for standard input."
        ) from error

    def lines() -> Iterator[str]:
        with file:
            yield from read_reviews_by_line(file, str(path))

    return lines()


def read_reviews_by_line(file: BinaryIO, name: str) -> Iterator[str]:
    """Yield the review in each line of a text in UTF-8, which errors call ``name``.

    Raises:
        UserError: as :func:`imdbtune.data.text_lines.read_text_lines`.
    """

    def line_error(number: int, problem: str) -> UserError:
        return UserError(f"{name}, line {number}: {problem}.")

    for line in read_text_lines(file, line_error, "a review"):
        yield line.rstrip("\r\n")


def _sample(table: Table) -> Sample:
    """Return column name -> its values in the first rows."""
    return dict(zip(table.columns, zip(*table.sample(), strict=True), strict=True))


def _holds(column: str, value: object) -> str:
    return f"column {short_repr(column)} holds {short_repr(value)}"


def _label_problem(columns: Columns, value: object) -> str:
    if value is None or (isinstance(value, str) and not value.strip()):
        return f"column {short_repr(columns.label)} is empty; each row needs a label"
    kind = "a number, as label_at needs" if columns.condition else "a label"
    return f"{_holds(columns.label, value)}, not {kind}"


def _part(table: Table, position: int, column: str, value: object) -> int:
    part = NAMES.get(value.strip().casefold()) if isinstance(value, str) else None
    if part is None:
        allowed = f"allowed: {', '.join(NAMES)}; or ignore it with --split-column {NO_COLUMN}"
        raise table.row_error(position, f"{_holds(column, value)}; {allowed}")
    return part


def _check_names(table: Table) -> None:
    invalid = [name for name in table.columns if not name.isprintable() or len(name) > _MAX_NAME]
    if invalid or not any(table.columns):
        first = short_repr(invalid[0] if invalid else "")
        raise UserError(
            f"{table.path} has a column {first}, which is not a valid name; the first row must be "
            "the column names, such as text,label."
        )


def _configured(table: Table, name: str) -> str:
    """Return the column ``name``, in another case if need be; "" if ``name`` is empty."""
    if not name:
        return ""
    matches = [c for c in table.columns if c == name] or _ignoring_case(table, name)
    if not matches:
        raise unknown_choice(f"column of {table.path}", name, table.columns)
    if len(matches) > 1:
        raise UserError(
            f"{table.path} has {len(matches)} columns {short_repr(name)}; rename one of them."
        )
    return matches[0]


def _ignoring_case(table: Table, name: str) -> list[str]:
    return [c for c in table.columns if c.casefold() == name.casefold()]


def _split_column(table: Table, name: str) -> str:
    if name == NO_COLUMN:
        return ""
    return _configured(table, name or ("split" if _ignoring_case(table, "split") else ""))


def _check_differ(table: Table, columns: Columns) -> None:
    names = [columns.text, columns.label, *([columns.split] if columns.split else [])]
    if len(set(names)) < len(names):
        raise UserError(
            f"texts, labels and parts of {table.path} must be in different columns, not in "
            f"{list_names(names)}; its columns: {list_names(table.columns)}."
        )


def _check_first_line(table: Table, sample: Sample) -> None:
    """Raise UserError if the first line seems to be a review: it holds a label as a name."""
    for name, values in sample.items():
        if name in values and len(set(values)) <= 2:
            raise UserError(
                f"{table.path}, line 1: it holds {short_repr(name)} like other lines, but must "
                "name the columns; put a line such as text,label before it."
            )


def _check_label_column(table: Table, columns: Columns, values: Values) -> None:
    """Raise UserError if the first rows already have too many labels, or what is none."""
    found = dict.fromkeys(filter(None, map(columns.label_of, values)))
    origin = f"column {short_repr(columns.label)} of {table.path}"
    check_labels(origin, found, more=True)
    if columns.condition and not found and any(values):
        raise UserError(f"{origin} has no numbers, which label_at needs; give another column.")
