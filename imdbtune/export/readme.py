"""The README.md of an export folder."""

from __future__ import annotations

from collections.abc import Mapping

from imdbtune.data.corpus import LABELS
from imdbtune.data.tables import list_names
from imdbtune.errors import short_repr
from imdbtune.export.folder import checked_labels, checked_params

_TEXT = """\
# {label}

{what} {classes}. `metadata.json` has
its hyperparameters and metrics, `vocabulary.json` the rank of each word, and `encode.py` converts
text to ids with Python's standard library alone. The scripts below run in this folder.
{columns}
## With imdbtune

```sh
imdbtune predict --model . "A wonderful film, and so well played."
```

{usage}
## How a review is encoded

The letters A to Z are lowercased, punctuation (except the apostrophe) is replaced by spaces, and
the text is split at spaces. Words that are not in `vocabulary.json` are left out. The ids are 1,
then rank + 3 of each word, or 2 if that is {vocabulary} or more. The model reads the last {maxlen}
ids; {padding}.
`encode.py` does this with the settings in `metadata.json`.
"""


def readme(document: Mapping[str, object], usage: str) -> str:
    """Return the README for the contents of ``metadata.json`` and the formats' ``usage``."""
    padded = document["batching"] == "padded"
    labels = checked_labels(document["labels"])
    label, what = _title(document)
    return _TEXT.format(
        label=label,
        what=what,
        classes=_classes(labels),
        columns=_columns(labels),
        usage=usage,
        vocabulary=document["vocabulary"],
        maxlen=document["maxlen"],
        padding=f"shorter reviews are always padded to {document['maxlen']} with 0 at the front"
        if padded
        else "0 at the front is padding, and any amount of it gives the same probability",
    )


def _classes(labels: tuple[str, ...]) -> str:
    """Return what is predicted, after the word predicts."""
    if labels == LABELS:
        return "whether an English movie review is positive"
    if len(labels) > 2:
        return f"which of {len(labels)} labels a text has"
    negative, positive = map(short_repr, labels)
    return f"whether a text is {positive} (a probability of 1) or {negative} (of 0)"


def _columns(labels: tuple[str, ...]) -> str:
    """Return a paragraph on the columns of the probabilities of more than two labels."""
    if len(labels) == 2:
        return ""
    named = list_names(labels, len(labels))
    return f"\nA model returns a probability for each label, in this order: {named}.\n"


def _title(document: Mapping[str, object]) -> tuple[str, str]:
    """Return the title, and the start of the first sentence."""
    members = checked_params("members", document.get("members", []))
    if members:
        labels = ", ".join(f"`{member.label}`" for member in members)
        count, weights = len(members), document.get("weights")
        if isinstance(weights, list | tuple) and len(weights) == 2:
            networks, of_linear = map(float, weights)
            return (
                f"A mix of {count} networks and a linear model",
                f"The mean logit of {count} networks ({labels}), times {networks:.3f}, plus the "
                f"logit of a linear model on word n-grams, times {of_linear:.3f}: a model that "
                "predicts",
            )
        # As earlier versions mixed it:
        linear = "; a linear model has weight 1/2" if document.get("linear") is True else ""
        return (
            f"The mean of {count} models",
            f"The mean of {count} networks ({labels}{linear}) that predicts",
        )
    own = document.get("own_model")
    if isinstance(own, dict):
        name = short_repr(str(document.get("name", "own model"))).strip("'")
        averaged = own.get("averaged")
        what = f"The mean of {averaged} Keras models" if averaged else "A Keras model"
        return name, f"{what} that `{own.get('build')}` has built. It predicts"
    (params,) = checked_params("parameters", [document["parameters"]])
    return params.label, "A recurrent network that predicts"
