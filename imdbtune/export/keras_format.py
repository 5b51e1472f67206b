"""Export as a ``.keras`` file of plain Keras layers, which opens with Keras alone."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imdbtune.data.text import SEPARATORS
from imdbtune.export.folder import write_export
from imdbtune.keras_file import check_archive
from imdbtune.params import TrialParams

MODEL_FORMAT = "keras"
MODEL = "model.keras"

_USAGE = '''\
## With Keras alone

```python
import json

import keras
import numpy as np

UPPER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
SEPARATORS = {separators!r}
TABLE = str.maketrans(UPPER + SEPARATORS, UPPER.lower() + " " * len(SEPARATORS))

with open("vocabulary.json", encoding="utf-8") as file:
    ranks = json.load(file)
model = keras.models.load_model("model.keras", compile=False)


def encode(text):
    words = text.translate(TABLE).split(" ")
    ids = [1] + [ranks[word] + 3 for word in words if word and word in ranks]
    ids = [i if i < {vocabulary} else 2 for i in ids][-{maxlen}:]
    return [0] * ({maxlen} - len(ids)) + ids


def probabilities(texts):
    """How likely each review is positive, from 0 to 1."""
    ids = np.array([encode(text) for text in texts], dtype="int32")
    return model.predict(ids, verbose=0)[:, 0]


print(probabilities(["A wonderful film, and so well played.", "Two hours of boredom."]))
```
'''


def export_keras(
    model: Path,
    word_index: Mapping[str, int],
    metadata: Mapping[str, Any],
    folder: Path,
    overwrite: bool = False,
) -> Path:
    """Write an export folder with the ``.keras`` file ``model`` in it.

    Args:
        model: made of plain Keras layers, as ``train_trial`` saves it; copied.
        word_index: every word of the corpus -> rank, 1 = most frequent.
        metadata: see :func:`imdbtune.export.folder.write_export`.
        folder: where to.
        overwrite: replace the files of an export that is there.

    Returns:
        The absolute path of the folder.

    Raises:
        UserError: ``model`` is no ``.keras`` file, or the folder cannot be written.
    """
    check_archive(model)
    params = TrialParams.from_values(metadata["parameters"])
    usage = _USAGE.format(separators=SEPARATORS, vocabulary=params.vocabulary, maxlen=params.maxlen)

    def add_model(new: Path) -> None:
        shutil.copyfile(model, new / MODEL)

    return write_export(folder, MODEL_FORMAT, add_model, word_index, metadata, usage, overwrite)
