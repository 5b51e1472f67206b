"""Export as arrays, with a readable predictor that needs only NumPy."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from imdbtune.errors import quote_path
from imdbtune.export.folder import Export, networks_of
from imdbtune.export.format import Format, Run, Trained
from imdbtune.models import numpy_reference
from imdbtune.models.safe_load import check_members

MODEL = "model.npz"
PREDICT = "predict.py"
REFERENCE = "reference.py"

_PREDICT = '''\
"""The probability that a review is positive, with NumPy alone: python predict.py "good film"."""

import sys

import numpy as np

from encode import HERE, encode, read
from reference import whole_model

metadata = read(HERE, "metadata.json")
with np.load(HERE / "model.npz", allow_pickle=False) as arrays:
    weights = dict(arrays)


def probabilities(texts):
    """Return one number from 0 to 1 for each text."""
    ids = np.array([encode(text) for text in texts], dtype="int32")
    return whole_model(weights, ids, metadata)[:, 0]


if __name__ == "__main__":
    for text in sys.argv[1:]:
        print(f"{probabilities([text])[0]:.4f}  {text[:60]}")
'''

_USAGE = """\
## NumPy alone

`reference.py` has the equations, `model.npz` the weights (no pickle), `predict.py` uses them:

```sh
python predict.py "A wonderful film, and so well played." "Two hours of boredom."
```

```python
from predict import probabilities

print(probabilities(["A wonderful film, and so well played.", "Two hours of boredom."]))
```
"""


def _write(trained: Trained, folder: Path) -> None:
    table = trained.linear_table()
    arrays = {} if table is None else {"linear": table}
    for number, network in enumerate(trained.networks(), start=1):
        prefix = f"{number}/" if trained.members else ""
        arrays |= {prefix + name: array for name, array in network.weights.items()}
    np.savez(folder / MODEL, allow_pickle=False, **arrays)
    shutil.copyfile(str(numpy_reference.__file__), folder / REFERENCE)
    (folder / PREDICT).write_text(_PREDICT, encoding="utf-8")


def _load(export: Export) -> Run:
    """Load with this package's code; no code in the folder is run."""
    params = [network.as_dict() for network in networks_of(export)]
    model = {"members": params} if export.members else {"parameters": params[0]}
    metadata = {**model, "batching": export.batching}
    path = export.folder / MODEL
    with zipfile.ZipFile(path) as archive:
        check_members(quote_path(path), archive.infolist(), path.stat().st_size)
    with np.load(path, allow_pickle=False) as arrays:
        weights = dict(arrays)

    def run(ids: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        return numpy_reference.whole_model(weights, ids, metadata).astype(np.float32)

    return run


NUMPY = Format(
    name="numpy",
    about="any Python with NumPy; reading how the model works",
    files=(MODEL, PREDICT, REFERENCE),
    write=_write,
    load=_load,
    usage=_USAGE,
    runs_on=(),
)
