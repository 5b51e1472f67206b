"""Export as a ``.keras`` file of plain Keras layers, which opens with Keras alone."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

from imdbtune.data.text import SEPARATORS
from imdbtune.errors import UserError, shown
from imdbtune.export.folder import write_export
from imdbtune.params import TrialParams

MODEL_FORMAT = "keras"
MODEL = "model.keras"

# Keras stores without compressing. What is small is let pass, whatever its ratio.
_MOST_EXPANSION = 10
_HARMLESS_BYTES = 64 * 2**20

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


def check_archive(path: Path) -> None:
    """Check a ``.keras`` file, a zip archive, before anything in it is unpacked.

    Raises:
        UserError: it is damaged, leads out of its folder, or unpacks to far more than it is.
    """
    name = shown(str(path), limit=300)
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(name, archive.infolist(), path.stat().st_size)
            broken = archive.testzip()  # Keras itself overlooks wrong checksums
    except UserError:
        raise
    except Exception as error:  # zipfile and the decompressors raise many kinds
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{name} is not a readable .keras file ({reason}).") from error
    if broken is not None:
        raise UserError(f"{name} is not a readable .keras file ({shown(broken)} is damaged).")


def _check_members(name: str, members: list[zipfile.ZipInfo], packed: int) -> None:
    for member in members:
        if _leads_out(member.filename):
            raise UserError(
                f"{name} is not safe to open: it would unpack to {shown(member.filename)}."
            )
    unpacked = sum(member.file_size for member in members)
    if unpacked > max(_HARMLESS_BYTES, _MOST_EXPANSION * packed):
        raise UserError(
            f"{name} is not safe to open: {packed:,} bytes would unpack to {unpacked:,}."
        )


def _leads_out(member: str) -> bool:
    """Whether a member's name is absolute or climbs, read as POSIX or as Windows would."""
    path = PureWindowsPath(member)
    return bool(path.anchor) or ".." in path.parts
