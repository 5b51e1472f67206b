"""Review text to word ids, with Python's standard library alone.

Every export has a copy of this file. All that it needs to know is in ``metadata.json`` and
``vocabulary.json`` beside it, so it reads a review as any other language would.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
UPPER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@functools.cache
def read(folder: Path, name: str) -> dict[str, Any]:
    """A JSON file of the export."""
    document: dict[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))
    return document


def encode(text: str, folder: Path = HERE) -> list[int]:
    """The ids of a review's last words, filled up with padding at the front to ``maxlen``."""
    about, ranks = read(folder, "metadata.json"), read(folder, "vocabulary.json")
    ids, maxlen = about["ids"], about["maxlen"]
    separators = about["separators"]
    table = str.maketrans(UPPER + separators, UPPER.lower() + " " * len(separators))
    words = [word for word in text.translate(table).split(" ") if word in ranks and word]
    known = [ranks[word] + ids["rank_offset"] for word in words]
    review = [ids["start"], *(i if i < about["vocabulary"] else ids["unknown"] for i in known)]
    return [ids["padding"]] * (maxlen - len(review)) + review[-maxlen:]
