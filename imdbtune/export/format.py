"""What a format is, and what it is made from."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from imdbtune.config.hyperparameters import TrialParams
from imdbtune.errors import ExportFailed, UserError
from imdbtune.export.folder import Export
from imdbtune.models.safe_load import load_keras

if TYPE_CHECKING:
    import keras

Run = Callable[[npt.NDArray[np.int32]], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Network:
    """One of the networks whose mean a model is; by itself, if it is no ensemble."""

    params: TrialParams
    weights: dict[str, Any]  # by the names that imdbtune.reference.network reads


@dataclass(frozen=True)
class Trained:
    """A trained model."""

    path: Path  # a .keras file of plain layers
    params: TrialParams
    masked: bool  # it passes padding over; else reviews are always padded to maxlen
    members: tuple[TrialParams, ...] = ()  # of an ensemble

    @functools.cached_property
    def model(self) -> keras.Model:
        """The model of the file."""
        return load_keras(self.path)

    def networks(self) -> list[Network]:
        """What it is the mean of, with their weights.

        Raises:
            ExportFailed: it is an ensemble, and not known of which configurations.
        """
        from imdbtune.models.builders import member_models, named_weights

        models = member_models(self.model) or [self.model]
        params = self.members or (self.params,)
        if len(models) != len(params):
            raise ExportFailed(
                "of this ensemble it was not noted what it is made of, so that it cannot be had as "
                "onnx or numpy; take keras, savedmodel, litert or mlflow, or make it again."
            )
        return [
            Network(each, named_weights(model, each))
            for model, each in zip(models, params, strict=True)
        ]

    def linear_table(self) -> npt.NDArray[np.float32] | None:
        """Of the linear model in an ensemble, as :mod:`imdbtune.models.nb_linear_keras` has it."""
        from imdbtune.models.builders import linear_part
        from imdbtune.models.nb_linear_keras import table_of

        network = linear_part(self.model)
        return None if network is None else table_of(network)


@dataclass(frozen=True)
class Format:
    """One form of an exported model; the files of all forms lie in one folder."""

    name: str
    about: str  # what it is for, in a few words
    files: tuple[str, ...]  # files and folders that it adds, the model first
    write: Callable[[Trained, Path], None]  # adds them
    load: Callable[[Export], Run]  # ids (batch, time) to probabilities (batch, 1), for imdbtune
    usage: str  # Markdown; its Python block defines probabilities(texts), without imdbtune
    runs_on: tuple[str, ...]  # the packages which that block may import
    installed_by: tuple[str, ...] = ()  # packages that come with the extra of the format's name

    def check_installed(self) -> None:
        """Raise UserError unless the packages of the format's extra are there."""
        missing = [name for name in self.installed_by if importlib.util.find_spec(name) is None]
        if missing:
            raise UserError(
                f"the format {self.name} needs {' and '.join(missing)}, not installed here; "
                f"install the extra: pip install 'imdbtune[{self.name}]'."
            )
