"""Export as a SavedModel, for TensorFlow itself, TensorFlow Serving and C++."""

from __future__ import annotations

from pathlib import Path

from imdbtune.export.folder import Export
from imdbtune.export.format import Format, Run, Trained

MODEL = "saved_model"

_USAGE = """\
## SavedModel: TensorFlow alone

```python
import numpy as np
import tensorflow as tf

from encode import encode

model = tf.saved_model.load("saved_model")


def probabilities(texts):
    ids = np.array([encode(text) for text in texts], dtype="int32")
    return model.serve(ids).numpy()[:, 0]


print(probabilities(["A wonderful film, and so well played.", "Two hours of boredom."]))
```

TensorFlow Serving loads `saved_model/`; its signature `serving_default` accepts any number of
reviews, of any length.
"""


def _write(trained: Trained, folder: Path) -> None:
    trained.export(folder / MODEL, format="tf_saved_model")


def _load(export: Export) -> Run:
    import tensorflow as tf

    model = tf.saved_model.load(export.folder / MODEL)
    # Bound to the lambda, because ``serve`` holds no reference to the variables that it reads.
    return lambda ids, model=model: model.serve(tf.constant(ids)).numpy()  # type: ignore[misc]


SAVEDMODEL = Format(
    name="savedmodel",
    about="TensorFlow, TensorFlow Serving",
    files=(MODEL,),
    write=_write,
    load=_load,
    usage=_USAGE,
    runs_on=("tensorflow",),
)
