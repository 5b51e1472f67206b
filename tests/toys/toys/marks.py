"""A data source: a file with a review in each line, after ``+`` or ``-``."""

from __future__ import annotations

import csv

from imdbtune.data.corpus import Corpus
from imdbtune.data.own import table_corpus
from imdbtune.data.source import Request, Source


def open_marks(request: Request) -> Corpus:
    table = request.cache / f"{request.path.stem}.csv"
    lines = request.path.read_text(encoding="utf-8").splitlines()
    table.parent.mkdir(parents=True, exist_ok=True)
    with table.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "label"])
        rows.writerows([line[2:], {"+": "good", "-": "bad"}[line[0]]] for line in lines)
    return table_corpus(table, request.cache, request.config, request.progress)


MARKS = Source(
    about="a file with a review in each line, after `+` or `-`", open=open_marks, has_settings=True
)
