"""Export for LiteRT (TensorFlow Lite), which runs on phones and small devices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from imdbtune.export.folder import Export
from imdbtune.export.format import Format, Run, Trained

MODEL = "model.tflite"

_USAGE = """\
## LiteRT: phones and small devices

With `pip install ai-edge-litert numpy`; one review at a time, of any length:

```python
import numpy as np
from ai_edge_litert.interpreter import Interpreter

from encode import encode

run = Interpreter("model.tflite").get_signature_runner("serving_default")


def probabilities(texts):
    ids = [np.array([encode(text)], dtype="int32") for text in texts]
    return [run(ids=review)["output_0"][0, 0] for review in ids]


print(probabilities(["A wonderful film, and so well played.", "Two hours of boredom."]))
```
"""


def _write(trained: Trained, folder: Path) -> None:
    """Convert with batch size 1: tensor lists of recurrent layers need all sizes but time."""
    import tensorflow as tf

    length = None if trained.params.own is None else trained.params.maxlen
    signature = [tf.TensorSpec((1, length), tf.int32, name="ids")]
    trained.export(folder / MODEL, format="litert", input_signature=signature)


def _load(export: Export) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(export.folder / MODEL))
    runner = interpreter.get_signature_runner("serving_default")

    def run(ids: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        return np.concatenate([runner(ids=row[None])["output_0"] for row in ids])

    return run


LITERT = Format(
    name="litert",
    about="phones and small devices",
    files=(MODEL,),
    write=_write,
    load=_load,
    usage=_USAGE,
    runs_on=("ai_edge_litert",),
    columns=("[0, 0]", "[0]"),
    installed_by=("ai_edge_litert",),
)
