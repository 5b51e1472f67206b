"""The README.md of an export folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imdbtune.config.hyperparameters import TrialParams
from imdbtune.data.corpus import LABELS
from imdbtune.errors import short_repr

_TEXT = """\
# {label}

{what} whether {tells}. `metadata.json` says
how it was trained and how good it is, `vocabulary.json` holds the rank of each word, `encode.py`
turns text into ids with Python's standard library alone. The scripts below run in this folder.

## With imdbtune

```sh
imdbtune predict --model . "A wonderful film, and so well played."
```

{usage}
## How a review becomes numbers

Letters A to Z in lower case, punctuation (not the apostrophe) replaced by spaces, cut at spaces;
words that are not in `vocabulary.json` are left out. The ids are 1, then rank + 3 of each word,
or 2 if that is {vocabulary} or more. The last {maxlen} ids are kept;
{padding}.
`encode.py` does so, by what `metadata.json` says.
"""


def readme(document: Mapping[str, Any], usage: str) -> str:
    """The text of the README, from the contents of ``metadata.json`` and the format's ``usage``."""
    padded = document["batching"] == "padded"
    labels = tuple(document["labels"])
    label, what = _title(document)
    return _TEXT.format(
        label=label,
        what=what,
        tells="an English movie review is positive"
        if labels == LABELS
        else f"a text is {short_repr(labels[1])} (a probability of 1) or "
        f"{short_repr(labels[0])} (of 0)",
        usage=usage,
        vocabulary=document["vocabulary"],
        maxlen=document["maxlen"],
        padding=f"fewer are always filled up to {document['maxlen']} with 0 at the front"
        if padded
        else "0 at the front is padding, of which any number gives the same answer",
    )


def _title(document: Mapping[str, Any]) -> tuple[str, str]:
    """What the model is called, and how a sentence about it begins."""
    members = [TrialParams.from_values(values).label for values in document.get("members", ())]
    if members:
        named = ", ".join(f"`{member}`" for member in members)
        beside = "; half the say is a linear model's" if document.get("linear") is True else ""
        count = len(members)
        return (
            f"The mean of {count} models",
            f"The mean of {count} networks ({named}{beside}) that tells",
        )
    label = TrialParams.from_values(document["parameters"]).label
    return label, "A recurrent network that tells"
