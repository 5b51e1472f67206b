"""An export format: Keras's layers as JSON, and their weights as HDF5."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from imdbtune.export.folder import Export
from imdbtune.export.format import Format, Run, Trained

MODEL = "layers.json"
WEIGHTS = "layers.weights.h5"

USAGE = """\
## Keras's layers as JSON

```python
import keras
import numpy as np

from encode import encode

with open("layers.json", encoding="utf-8") as file:
    model = keras.models.model_from_json(file.read())
model.load_weights("layers.weights.h5")


def probabilities(texts):
    ids = np.array([encode(text) for text in texts], dtype="int32")
    return model.predict(ids, verbose=0)[:, 0]


print(probabilities(["A wonderful film, and so well played.", "Two hours of boredom."]))
```
"""


def write(trained: Trained, folder: Path) -> None:
    (folder / MODEL).write_text(trained.model.to_json(), encoding="utf-8")
    trained.model.save_weights(folder / WEIGHTS)


def load(export: Export) -> Run:
    import keras

    model = keras.models.model_from_json((export.folder / MODEL).read_text(encoding="utf-8"))
    model.load_weights(export.folder / WEIGHTS)

    def run(ids: Any) -> Any:
        return model(ids, training=False).numpy()

    return run


KERAS_JSON = Format(
    name="keras_json",
    about="Keras, with layers that can be read",
    files=(MODEL, WEIGHTS),
    write=write,
    load=load,
    usage=USAGE,
    runs_on=("keras", "tensorflow"),
)
