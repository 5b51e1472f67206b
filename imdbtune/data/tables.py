"""Tables of texts as a stream of rows: CSV, TSV, JSON lines and Parquet.

Only the current row is in memory, so a table may be larger than that. Errors name their position:
the line of the file in which a row begins, or the row in a format without lines.
"""

from __future__ import annotations

import csv
import itertools
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imdbtune.data.cache import not_readable
from imdbtune.data.download import Progress
from imdbtune.data.text_lines import MAX_LINE, read_text_lines
from imdbtune.errors import UserError, first_line, short_repr
from imdbtune.files import require_regular_file

if TYPE_CHECKING:  # imported when a Parquet file is read
    from pyarrow import Array
    from pyarrow.parquet import FileMetaData, ParquetFile

SAMPLE = 1000  # rows from which columns are detected
_REPORT_EVERY = 2**22  # bytes
# A column of a Parquet file may unpack to _FREE_BYTES, or to _MAX_RATIO times its packed size.
_MAX_RATIO = 100
_FREE_BYTES = 2**26

Values = tuple[object, ...]


class Table(ABC):
    """A table in a file, which each call reads again.

    All methods raise UserError if the content does not have the format of the file's ending.
    """

    unit = "line"

    def __init__(self, path: Path, progress: Progress | None = None) -> None:
        self.path = path
        self.progress = progress
        self.columns: tuple[str, ...] = ()

    @abstractmethod
    def rows(self, names: Sequence[str]) -> Iterator[tuple[int, Values]]:
        """Yield each row's position (from 1) and its values in the columns ``names``."""

    def sample(self) -> list[Values]:
        """Return all columns of the first ``SAMPLE`` rows."""
        return [row for _, row in itertools.islice(self.rows(self.columns), SAMPLE)]

    def row_error(self, position: int, problem: str) -> UserError:
        """Return the error for a problem in one row."""
        return UserError(f"{self.path}, {self.unit} {position}: {problem}.")

    def _lines(self) -> Iterator[str]:
        """Yield the lines of a file in UTF-8, with their line breaks."""
        reported = 0
        with self.path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            for line in read_text_lines(file, self.row_error, "a table"):
                yield line
                done = file.tell()
                if self.progress is not None and done - reported >= _REPORT_EVERY:
                    reported = done
                    self.progress(f"reading {self.path.name}", done, size)


class Csv(Table):
    """Values between commas, semicolons or tabs; the first line names the columns."""

    def __init__(self, path: Path, progress: Progress | None = None) -> None:
        super().__init__(path, progress)
        tabs = path.suffix.lower() == ".tsv"
        first = next(self._lines(), "")
        self.delimiter = "\t" if tabs else max((",", ";", "\t"), key=first.count)
        _, record = next(self._records(), (1, ()))
        self.columns = tuple(name.strip() for name in record)

    def rows(self, names: Sequence[str]) -> Iterator[tuple[int, Values]]:
        """Yield line number and values of each record."""
        indices, width = [self.columns.index(name) for name in names], len(self.columns)
        for line, record in itertools.islice(self._records(), 1, None):
            if len(record) != width:
                raise self.row_error(line, _width_problem(len(record), width, self.delimiter))
            yield line, tuple(record[i] for i in indices)

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        csv.field_size_limit(MAX_LINE)
        reader = csv.reader(self._lines(), delimiter=self.delimiter, strict=True)
        end = 0
        try:
            for record in reader:
                begin, end = end + 1, reader.line_num
                if record:  # not an empty line
                    yield begin, record
        except csv.Error as error:
            raise self.row_error(end + 1, f"{_csv_problem(error)}; {_QUOTING}") from error


_QUOTING = (
    'put a value with commas, quotes or line breaks in double quotes, and write a quote in it as ""'
)


def _width_problem(fields: int, width: int, delimiter: str) -> str:
    values = f"{fields} value{'' if fields == 1 else 's'} (separated by {delimiter!r})"
    return f"{values}, but the first line names {width} columns; {_QUOTING}"


def _csv_problem(error: csv.Error) -> str:
    if "unexpected end" in str(error):
        return "a quote opened in this row is never closed"
    if "field larger" in str(error):
        return f"a quote opened in this row is not closed within {MAX_LINE:,} characters"
    return short_repr(str(error))


class JsonLines(Table):
    """A JSON object in each line; its keys are the columns."""

    def __init__(self, path: Path, progress: Progress | None = None) -> None:
        super().__init__(path, progress)
        self._first = [record for _, record in itertools.islice(self._records(), SAMPLE)]
        self.columns = tuple(dict.fromkeys(key for record in self._first for key in record))

    def sample(self) -> list[Values]:
        """Return all columns of the first ``SAMPLE`` rows, None for a missing key."""
        return [tuple(record.get(name) for name in self.columns) for record in self._first]

    def rows(self, names: Sequence[str]) -> Iterator[tuple[int, Values]]:
        """Yield line number and values of each object."""
        for line, record in self._records():
            for name in names:
                if name not in record:
                    problem = f"it has no {short_repr(name)}, only {list_names(record)}"
                    raise self.row_error(line, problem)
            yield line, tuple(record[name] for name in names)

    def _records(self) -> Iterator[tuple[int, dict[str, object]]]:
        for line, text in enumerate(self._lines(), start=1):
            if text.isspace():
                continue
            try:
                record = json.loads(text)
            except (ValueError, RecursionError) as error:
                problem = f"it is not JSON ({str(error).removesuffix('.')})"
                raise self.row_error(line, f"{problem}; each line must be an object") from error
            if not isinstance(record, dict):
                problem = f"it is {short_repr(record)}, not an object such as {_OBJECT}"
                raise self.row_error(line, problem)
            yield line, record


_OBJECT = '{"text": "a wonderful film", "label": "good"}'


class Parquet(Table):
    """A Parquet file, of which only the requested columns are read."""

    unit = "row"

    def __init__(self, path: Path, progress: Progress | None = None) -> None:
        super().__init__(path, progress)
        self.columns = tuple(map(str, self._open().schema_arrow.names))

    def rows(self, names: Sequence[str]) -> Iterator[tuple[int, Values]]:
        """Yield row number and values of each row."""
        import pyarrow

        file, done = self._open(names), 0
        self._check_packing(file.metadata, names)
        batches = file.iter_batches(batch_size=SAMPLE, columns=list(dict.fromkeys(names)))
        while True:
            try:
                batch = next(batches)
                columns = [_values(batch.column(name)) for name in names]
            except StopIteration:
                return
            except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
                problem = f"the file cannot be read from here on ({first_line(error)})"
                raise self.row_error(done + 1, problem) from error
            for values in zip(*columns, strict=True):
                done += 1
                if any(isinstance(value, str) and len(value) > MAX_LINE for value in values):
                    raise self.row_error(done, f"a value has more than {MAX_LINE:,} characters")
                yield done, values
            if self.progress is not None:
                self.progress(f"reading {self.path.name}", done, file.metadata.num_rows)

    def _check_packing(self, metadata: FileMetaData, names: Sequence[str]) -> None:
        """Raise UserError if a column would unpack to far more bytes than it has in the file."""
        for group in range(metadata.num_row_groups):
            for number in range(metadata.num_columns):
                chunk = metadata.row_group(group).column(number)
                packed, unpacked = chunk.total_compressed_size, chunk.total_uncompressed_size
                requested = chunk.path_in_schema.partition(".")[0] in names
                if requested and unpacked > max(_FREE_BYTES, _MAX_RATIO * packed):
                    raise UserError(
                        f"{self.path} is not safe to read: {packed:,} bytes of its column "
                        f"{short_repr(chunk.path_in_schema)} would unpack to {unpacked:,}."
                    )

    def _open(self, names: Sequence[str] = ()) -> ParquetFile:
        """Open the file so that equal values of the columns ``names`` share their memory."""
        import pyarrow
        import pyarrow.parquet

        try:
            leaves = pyarrow.parquet.ParquetFile(self.path).schema.names  # without nested columns
            flat = [name for name in names if name in leaves]
            return pyarrow.parquet.ParquetFile(self.path, read_dictionary=flat)
        except pyarrow.ArrowException as error:
            raise UserError(f"{self.path} is not Parquet: {first_line(error)}.") from error


def _values(column: Array) -> list[object]:
    import pyarrow

    if not pyarrow.types.is_dictionary(column.type):
        return list(column.to_pylist())
    values = column.dictionary.to_pylist()
    return [None if index is None else values[index] for index in column.indices.to_pylist()]


FORMATS: dict[str, type[Table]] = {
    ".csv": Csv,
    ".tsv": Csv,
    ".jsonl": JsonLines,
    ".parquet": Parquet,
}


def is_table(path: Path) -> bool:
    """Return whether the name has the ending of a table."""
    return path.suffix.lower() in FORMATS


def open_table(path: Path, progress: Progress | None = None) -> Table:
    """Open the table in a file, in the format of its ending.

    Args:
        path: the file.
        progress: called with how much of the file has been read.

    Raises:
        UserError: the file cannot be read, has another format, or has no rows.
    """
    try:
        if not require_regular_file(path).stat().st_size:
            raise UserError(f"{path} is empty; it must have a row for each review.")
        table = FORMATS[path.suffix.lower()](path, progress)
        if not table.columns or next(table.rows(table.columns[:1]), None) is None:
            raise UserError(
                f"{path} has no rows below the column names; add a row for each review."
            )
    except OSError as error:
        raise not_readable(path, error) from error
    return table


def list_names(names: Iterable[object], limit: int = 12) -> str:
    """Return the first ``limit`` names for a message, and how many more there are."""
    every = list(names)
    rest = f" and {len(every) - limit} more" if len(every) > limit else ""
    return ", ".join(short_repr(name, 40) for name in every[:limit]) + rest
