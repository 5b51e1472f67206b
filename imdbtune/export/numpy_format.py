"""Export as arrays, with a readable predictor that needs only NumPy."""

from __future__ import annotations

import inspect
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from imdbtune.config.extensions import CELLS
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
from reference import CELLS, whole_model

metadata = read(HERE, "metadata.json")
with np.load(HERE / "model.npz", allow_pickle=False) as arrays:
    weights = dict(arrays)


def probabilities(texts):
    """Return one number from 0 to 1 for each text."""
    ids = np.array([encode(text) for text in texts], dtype="int32")
    return whole_model(weights, ids, metadata, CELLS)[:, 0]


if __name__ == "__main__":
    for text in sys.argv[1:]:
        print(f"{probabilities([text])[0]:.4f}  {text[:60]}")
'''

# Instead of the last lines of _PREDICT, if there are more than two labels.
_SEVERAL = """\
    return whole_model(weights, ids, metadata, CELLS)


if __name__ == "__main__":
    for text in sys.argv[1:]:
        found = sorted(zip(probabilities([text])[0], metadata["labels"]), reverse=True)
        print(", ".join(f"{label} {share:.4f}" for share, label in found[:3]), "", text[:60])
"""

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
    mix = trained.mix()
    arrays = {"linear": mix.table, "mix": mix.weights} if mix else {}
    for number, network in enumerate(trained.networks(), start=1):
        prefix = f"{number}/" if trained.members else ""
        arrays |= {prefix + name: array for name, array in network.weights.items()}
    np.savez(folder / MODEL, allow_pickle=False, **arrays)
    cells = dict.fromkeys(network.params.rnn for network in trained.networks())
    (folder / REFERENCE).write_text(_reference(cells), encoding="utf-8")
    (folder / PREDICT).write_text(_predict(trained.classes), encoding="utf-8")


def _predict(classes: int) -> str:
    """Return the source of ``predict.py``."""
    if classes == 2:
        return _PREDICT
    start = _PREDICT[: _PREDICT.index("    return whole_model")]
    for old, new in (
        ("The probability that a review is positive", "The probability of each label of a review"),
        ("one number from 0 to 1 for each text", "a row for each text, with a number per label"),
    ):
        start = start.replace(old, new)
    return start + _SEVERAL


def _reference(names: Iterable[str]) -> str:
    """Return the source of ``reference.py``: the equations of a network and of these cells."""
    cells = {name: CELLS[name] for name in names}
    # Two cells may share a step.
    steps = dict.fromkeys(inspect.getsource(cell.numpy_step) for cell in cells.values())
    entries = [
        f'    "{name}": NumpyCell({cell.numpy_step.__name__}, {cell.states}, {cell.bound}),\n'
        for name, cell in cells.items()
    ]
    registry = "".join(["CELLS = {\n", *entries, "}\n"])
    return "\n\n".join([inspect.getsource(numpy_reference), *steps, registry])


def _load(export: Export) -> Run:
    """Load with this package's code; no code in the folder is run."""
    networks = networks_of(export)
    params = [network.as_dict() for network in networks]
    model = {"members": params} if export.members else {"parameters": params[0]}
    metadata = {**model, "batching": export.batching}
    cells = {network.rnn: CELLS[network.rnn].numpy for network in networks}
    path = export.folder / MODEL
    with zipfile.ZipFile(path) as archive:
        check_members(quote_path(path), archive.infolist(), path.stat().st_size)
    with np.load(path, allow_pickle=False) as arrays:
        weights = dict(arrays)

    def run(ids: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        return numpy_reference.whole_model(weights, ids, metadata, cells).astype(np.float32)

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
