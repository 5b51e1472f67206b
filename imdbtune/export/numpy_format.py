"""Export as arrays with a predictor in NumPy alone, which can be read from end to end."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from imdbtune import reference
from imdbtune.errors import named
from imdbtune.export.folder import Export, networks_of
from imdbtune.export.format import Format, Run, Trained
from imdbtune.keras_file import check_members

MODEL = "model.npz"
PREDICT = "predict.py"
REFERENCE = "reference.py"

_PREDICT = '''\
"""The probability that a review is positive, with NumPy alone: python predict.py "good film"."""

import sys

import numpy as np

from encode import HERE, encode, read
from reference import mean_of_networks

about = read(HERE, "metadata.json")
members = about.get("members") or [about["parameters"]]
with np.load(HERE / "model.npz", allow_pickle=False) as arrays:
    weights = dict(arrays)


def probabilities(texts):
    """One number for each text, from 0 to 1."""
    ids = np.array([encode(text) for text in texts], dtype="int32")
    return mean_of_networks(weights, ids, members, about["batching"] != "padded")[:, 0]


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
    networks = trained.networks()
    prefixes = reference.prefixes(len(networks), trained.linear)
    arrays = {"linear": trained.linear_table()} if trained.linear else {}
    arrays |= {
        prefix + name: array
        for prefix, network in zip(prefixes, networks, strict=True)
        for name, array in network.weights.items()
    }
    np.savez(folder / MODEL, allow_pickle=False, **arrays)
    shutil.copyfile(str(reference.__file__), folder / REFERENCE)
    (folder / PREDICT).write_text(_PREDICT, encoding="utf-8")


def _load(export: Export) -> Run:
    """By this package's own code: none of the folder is run."""
    members = [params.as_dict() for params in networks_of(export)]
    path = export.folder / MODEL
    with zipfile.ZipFile(path) as archive:
        check_members(named(path), archive.infolist(), path.stat().st_size)
    with np.load(path, allow_pickle=False) as arrays:
        weights = dict(arrays)
    masked = export.batching != "padded"

    def run(ids: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        return reference.mean_of_networks(weights, ids, members, masked).astype(np.float32)

    return run


NUMPY = Format(
    name="numpy",
    about="anywhere Python runs; reading how it works",
    files=(MODEL, PREDICT, REFERENCE),
    write=_write,
    load=_load,
    usage=_USAGE,
    runs_on=(),
)
