"""Export as a ``.keras`` file of plain Keras layers, which Keras alone can load."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from imdbtune.config.own_model import ModelSource, split_build
from imdbtune.errors import UserError, quote_path
from imdbtune.export.folder import Export, damaged
from imdbtune.export.format import Format, Run, Trained
from imdbtune.files import read_small_text
from imdbtune.models.safe_load import has_known_layers_only, load_keras

if TYPE_CHECKING:
    import keras

MODEL = "model.keras"
SOURCE = "own_model.py"  # of a user's own model, if it has layers of its own

_USAGE = """\
## Keras

```python
import keras
import numpy as np

from encode import encode

model = keras.models.load_model("model.keras", compile=False)


def probabilities(texts):
    ids = np.array([encode(text) for text in texts], dtype="int32")
    return model.predict(ids, verbose=0)[:, 0]


print(probabilities(["A wonderful film, and so well played.", "Two hours of boredom."]))
```
"""


_OWN_USAGE = """\
## Keras, with the source of the custom layers

`own_model.py` is the file that the model was built with. Loading the model runs it.

```python
import keras
import numpy as np

import own_model
from encode import encode

own = [value for value in vars(own_model).values() if hasattr(value, "__name__")]
known = {keras.saving.get_registered_name(value): value for value in own}
model = keras.models.load_model("model.keras", custom_objects=known, compile=False)


def probabilities(texts):
    ids = np.array([encode(text) for text in texts], dtype="int32")
    return model.predict(ids, verbose=0)[:, 0]


print(probabilities(["A wonderful film, and so well played.", "Two hours of boredom."]))
```

imdbtune opens it with `--trust-model`.
"""


def _write(trained: Trained, folder: Path) -> None:
    shutil.copyfile(trained.path, folder / MODEL)
    if trained.source is not None:
        (folder / SOURCE).write_text(trained.source.text, encoding="utf-8")


def _source(export: Export) -> ModelSource | None:
    """Return the source of a user's own model in a trusted export, if it has one.

    Raises:
        UserError: it has one, and is not trusted.
    """
    path, about = export.folder / SOURCE, export.metadata.get("own_model")
    if has_known_layers_only(export.folder / MODEL) or not path.is_file():
        return None
    if not export.trusted:
        raise UserError(
            f"the model in {quote_path(export.folder)} has layers of its own, and opening it would "
            f"run {SOURCE} of that folder; read that file, and add --trust-model."
        )
    build = str(about["build"]) if isinstance(about, dict) else "own_model.py:build"
    file, function = split_build(build)
    return ModelSource(file.name, function, read_small_text(path))


def _load(export: Export) -> Run:
    """Return the model as a function."""
    source = _source(export)
    try:
        model = load_keras(export.folder / MODEL, source)
    except UserError as error:
        raise damaged(export.folder, str(error)) from error
    return run_of(model)


def run_of(model: keras.Model) -> Run:
    """Return a model as a function for any batch size and length, which is traced once."""
    import tensorflow as tf

    signature = [tf.TensorSpec((None, None), tf.int32)]
    graph = tf.function(lambda ids: model(ids, training=False), input_signature=signature)

    def run(ids: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        probabilities: npt.NDArray[np.float32] = graph(ids).numpy()
        return probabilities

    return run


KERAS = Format(
    name="keras",
    about="Keras, for more training or inspection",
    files=(MODEL,),
    write=_write,
    load=_load,
    usage=_USAGE,
    own_usage=_OWN_USAGE,
    runs_on=("keras", "tensorflow"),
)
