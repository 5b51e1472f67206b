"""The interface of an export format, and the trained model that it writes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from imdbtune.config.hyperparameters import TrialParams
from imdbtune.config.own_model import ModelSource
from imdbtune.config.registry import check_extra
from imdbtune.errors import ExportFailed
from imdbtune.export.folder import Export
from imdbtune.models.safe_load import load_keras

if TYPE_CHECKING:
    import keras

Weights = dict[str, npt.NDArray[np.float32]]
Run = Callable[[npt.NDArray[np.int32]], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Network:
    """A recurrent network: the model itself, or a member of an ensemble."""

    params: TrialParams
    weights: Weights  # by the names of imdbtune.models.numpy_reference.network


@dataclass(frozen=True)
class Mix:
    """What :func:`imdbtune.models.ensembles.mixed_model` has besides its networks."""

    table: npt.NDArray[np.float32]  # of the linear model, (rows, 1)
    weights: npt.NDArray[np.float32]  # (networks + 1, 1), the linear model's last


@dataclass(frozen=True)
class Trained:
    """A trained model."""

    path: Path  # a .keras file of plain layers
    params: TrialParams
    masked: bool  # it masks padding; otherwise reviews are always padded to maxlen
    members: tuple[TrialParams, ...] = ()  # of an ensemble
    source: ModelSource | None = None  # of a user's own model, if the file needs it
    classes: int = 2  # labels of the corpus

    @functools.cached_property
    def model(self) -> keras.Model:
        """The Keras model in the file."""
        return load_keras(self.path, self.source)

    def export(self, path: Path, **options: object) -> None:
        """Export the model with Keras; its input has the name ``ids``."""
        import keras

        model = self.model
        if self.params.own is not None:
            ids = keras.Input((self.params.maxlen,), dtype="int32", name="ids")
            model = keras.Model(ids, model(ids, training=False), name="own_model")
        model.export(path, verbose=False, **options)

    def networks(self) -> list[Network]:
        """Return the recurrent networks of the model: itself, or the members of an ensemble.

        Raises:
            ExportFailed: it is a user's own model, or the hyperparameters of an ensemble's
                members are unknown.
        """
        from imdbtune.models.builders import named_weights
        from imdbtune.models.ensembles import member_models

        if self.params.own is not None:
            raise ExportFailed(
                "the format numpy is written from the equations of imdbtune's own cells, and "
                f"cannot represent a model of {self.params.own.build}; choose another one. "
                "Nothing was written."
            )
        models = member_models(self.model) or [self.model]
        params = self.members or (self.params,)
        if len(models) != len(params):
            raise ExportFailed(
                "the hyperparameters of this ensemble's members were not logged, so it cannot be "
                "exported as onnx or numpy; choose keras, savedmodel, litert or mlflow, or create "
                "the ensemble again."
            )
        return [
            Network(own_params, named_weights(model, own_params))
            for model, own_params in zip(models, params, strict=True)
        ]

    def mix(self) -> Mix | None:
        """Return what a mix has besides its networks; ``None`` for other models.

        Raises:
            ExportFailed: an earlier version made it, with a linear model on word pairs.
        """
        from imdbtune.models.ensembles import linear_part, weights_of_mix
        from imdbtune.models.nb_linear_keras import table_of

        network = linear_part(self.model)
        if network is None:
            return None
        try:
            return Mix(table_of(network), weights_of_mix(self.model))
        except ValueError as error:
            raise ExportFailed(
                "an earlier version made this ensemble, with a linear model that onnx and numpy no "
                "longer have; choose keras, savedmodel, litert or mlflow, or create the ensemble "
                "again."
            ) from error


@dataclass(frozen=True)
class Format:
    """An export format; the files of several formats share one folder."""

    name: str
    about: str  # its purpose, in a few words
    files: tuple[str, ...]  # files and folders of the format, the model first
    write: Callable[[Trained, Path], None]  # writes the files to a folder
    # Returns ids (batch, time) to probabilities: of label 1, (batch, 1), or of several labels.
    load: Callable[[Export], Run]
    # Markdown; its Python block defines, without imdbtune, probabilities(texts): of label 1, (n,).
    usage: str
    runs_on: tuple[str, ...]  # packages that this block may import
    installed_by: tuple[str, ...] = ()  # packages of the extra with the format's name
    own_usage: str = ""  # takes the place of usage if the model has classes of a user's source
    # What in the usage gives the probabilities of label 1, and what gives those of all labels.
    columns: tuple[str, str] = ("[:, 0]", "")

    def for_model(self, trained: Trained) -> Format:
        """Return the format with the usage for this model."""
        usage = self.own_usage if trained.source is not None and self.own_usage else self.usage
        if trained.classes > 2:
            usage = usage.replace(*self.columns)
        return replace(self, usage=usage)

    def check_installed(self) -> None:
        """Raise UserError unless the packages of the format's extra are installed."""
        check_extra(f"the format {self.name}", self.name, self.installed_by)
