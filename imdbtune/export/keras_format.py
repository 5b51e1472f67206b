"""Export as a ``.keras`` file of plain Keras layers, which Keras alone can load."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt

from imdbtune.errors import UserError
from imdbtune.export.folder import Export, damaged
from imdbtune.export.format import Format, Run, Trained
from imdbtune.models.safe_load import load_keras

MODEL = "model.keras"

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


def _write(trained: Trained, folder: Path) -> None:
    shutil.copyfile(trained.path, folder / MODEL)


def _load(export: Export) -> Run:
    """Return a function for any batch size and length, which is traced once."""
    try:
        model = load_keras(export.folder / MODEL)
    except UserError as error:
        raise damaged(export.folder, str(error)) from error
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
    runs_on=("keras", "tensorflow"),
)
