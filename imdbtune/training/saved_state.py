"""Saved states of trainings: variables for a later trial, checkpoints for a later attempt.

A state has all variables of a model and its optimizer. A trial that continues another one needs no
more. A checkpoint is a state and all else that the next epoch of the same trial depends on, so that
an attempt that continues from it ends with the same numbers as an undisturbed one. The variables
include the moving averages, the step of the learning-rate schedule and the seeds of dropout.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from imdbtune.data.corpus import read_corpus
from imdbtune.errors import first_line
from imdbtune.files import atomic_path, require_regular_file
from imdbtune.training.spec import Epoch, Recorded, TrialSpec

if TYPE_CHECKING:
    import keras

Array = npt.NDArray[Any]

FORMAT = 3  # of checkpoints; one of another format is not used
# Other versions may number the variables differently, or compute other values.
PACKAGES = ("imdbtune", "tensorflow", "keras", "numpy")
# Names of the additional arrays.
_ABOUT, _RIGHT, _PREDICTED, _BEST, _MODEL = "about", "right", "predicted", "best", "model"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """What an attempt at a trial continues from, besides the state; by default, its beginning.

    Args:
        histories: the epochs of all executions so far, the current one last.
        recorded: what these executions have recorded of their validation.
        seconds: that the trial has trained.
        best_weights: of the model in the best epoch of the current execution; empty without
            validation.
        best_model: weights of the best execution that has ended, in the plain form; empty in the
            first one.
    """

    histories: Sequence[list[Epoch]] = field(default_factory=lambda: [[]])
    recorded: Sequence[Recorded] = (Recorded(),)
    seconds: float = 0.0
    best_weights: Sequence[Array] = ()
    best_model: Sequence[Array] = ()

    @property
    def execution(self) -> int:
        """The number of the current execution, from 0."""
        return len(self.histories) - 1

    @property
    def epoch(self) -> int:
        """The last epoch that was trained; 0: none."""
        return int(self.histories[-1][-1]["epoch"]) if self.histories[-1] else 0

    def ends_with(self, execution: int, epoch: Epoch) -> bool:
        """Return whether this epoch is the last one that was trained."""
        return (execution, epoch["epoch"]) == (self.execution, self.epoch)


def save_state(model: keras.Model, path: Path, **more: npt.ArrayLike) -> None:
    """Write all variables of a model and its optimizer, and ``more`` arrays, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, *[np.asarray(v) for v in _variables(model)], **more)  # type: ignore[arg-type]
        file.flush()
        os.fsync(file.fileno())  # after a power failure, the renamed file could be empty


def load_state(model: keras.Model, path: Path) -> None:
    """Restore the variables that :func:`save_state` wrote for a model of the same shape."""
    with np.load(path, allow_pickle=False) as arrays:
        for number, variable in enumerate(_variables(model)):
            variable.assign(arrays[f"arr_{number}"])


def _variables(model: keras.Model) -> list[keras.Variable]:
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    return [*model.variables, *model.optimizer.variables]


def checkpoint_path(spec: TrialSpec) -> Path:
    """Return the file of a trial's checkpoint, whether it has one or not."""
    return spec.folder / "checkpoint.npz"


def save_checkpoint(spec: TrialSpec, model: keras.Model, checkpoint: Checkpoint) -> None:
    """Replace the checkpoint of a trial; if the disk has no room, log a line and go on without."""
    facts = {"histories": list(checkpoint.histories), "seconds": checkpoint.seconds}
    more: dict[str, npt.ArrayLike] = {_ABOUT: json.dumps({"trial": _digest(spec), **facts})}
    for name, arrays in (
        (_RIGHT, [each.right for each in checkpoint.recorded]),
        (_PREDICTED, [each.predicted for each in checkpoint.recorded]),
        (_BEST, checkpoint.best_weights),
        (_MODEL, checkpoint.best_model),
    ):
        more |= {f"{name}_{number}": array for number, array in enumerate(arrays)}
    try:
        save_state(model, checkpoint_path(spec), **more)
    except OSError as error:
        _LOG.warning("epoch %d is not kept: %s", checkpoint.epoch, first_line(error))


def find_checkpoint(spec: TrialSpec) -> Checkpoint | None:
    """Return the checkpoint that an earlier attempt at this trial has left, if there is one.

    One that cannot be read, or that another configuration or version has written, is deleted.
    """
    path = checkpoint_path(spec)
    if not path.exists():
        return None
    try:
        return _read(spec, path)
    except Exception as error:  # zipfile, NumPy and JSON raise many kinds for damaged files
        _LOG.warning("%s is not used: %s", path, first_line(error))
        path.unlink(missing_ok=True)
        return None


def _read(spec: TrialSpec, path: Path) -> Checkpoint:
    with np.load(require_regular_file(path), allow_pickle=False) as file:
        about = json.loads(str(file[_ABOUT]))
        if about["trial"] != _digest(spec):
            raise ValueError("another configuration or version has written it")
        arrays = {name: file[name] for name in file.files}  # all, so that damage shows now
    pairs = zip(_numbered(arrays, _RIGHT), _numbered(arrays, _PREDICTED), strict=True)
    recorded = [Recorded(right, predicted) for right, predicted in pairs]
    best, model = (_numbered(arrays, name) for name in (_BEST, _MODEL))
    return Checkpoint(about["histories"], recorded, about["seconds"], best, model)


def _numbered(arrays: dict[str, Array], prefix: str) -> list[Array]:
    count = sum(name.startswith(f"{prefix}_") for name in arrays)
    return [arrays[f"{prefix}_{number}"] for number in range(count)]


def delete_checkpoint(spec: TrialSpec) -> None:
    """Delete the checkpoint of a trial that has ended, or whose next attempt begins anew."""
    checkpoint_path(spec).unlink(missing_ok=True)


def _digest(spec: TrialSpec) -> str:
    """Return a digest of all that determines a trial's result."""
    facts = {
        "format": FORMAT,
        "versions": [importlib.metadata.version(package) for package in PACKAGES],
        "params": spec.params.as_dict(),
        **({"model": spec.source.digest} if spec.source else {}),
        **({"metrics": [m.source.digest for m in spec.code.metrics]} if spec.code.metrics else {}),
        "settings": asdict(spec.settings),
        "corpus": read_corpus(spec.corpus).digest,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
