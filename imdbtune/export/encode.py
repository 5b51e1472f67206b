"""Review text to word ids, with Python's standard library alone.

Every export has a copy of this file, which reads ``metadata.json`` and ``vocabulary.json`` next to
it. Any other language can encode a review from these two files in the same way.
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
    """Return the object in a JSON file of the export."""
    document: dict[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))
    return document


def encode(text: str, folder: Path = HERE) -> list[int]:
    """Return the last ``maxlen`` ids of a review, padded at the front to that length."""
    metadata, ranks = read(folder, "metadata.json"), read(folder, "vocabulary.json")
    ids, maxlen = metadata["ids"], metadata["maxlen"]
    separators = metadata["separators"]
    table = str.maketrans(UPPER + separators, UPPER.lower() + " " * len(separators))
    words = [word for word in text.translate(table).split(" ") if word in ranks and word]
    known = [ranks[word] + ids["rank_offset"] for word in words]
    review = [ids["start"], *(i if i < metadata["vocabulary"] else ids["unknown"] for i in known)]
    return [ids["padding"]] * (maxlen - len(review)) + review[-maxlen:]
