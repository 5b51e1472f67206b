"""A model of the user's own: a file with a function ``build(hp)``, and what that function draws.

The function is run elsewhere, in :mod:`imdbtune.search.model_inspection`; here is what it leaves
behind, as plain values that a configuration can hold, send to workers and log.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, field
from pathlib import Path
from typing import Any

from imdbtune.config.hyperparameters import (
    PARAMETERS,
    OwnValues,
    Scalar,
    TrialParams,
    beside_own,
    check_field,
    setting,
)
from imdbtune.config.own_source import OwnSource, split_reference
from imdbtune.config.search_space import Dimension
from imdbtune.errors import UserError, short_repr, unknown_choice

# What runs the user's code. It stands in packages above this one, and is imported when it is first
# needed, as the entries of a registry are.
INSPECTION, RUNNING = "imdbtune.search.model_inspection", "imdbtune.models.own_source"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Logged beside the hyperparameters of each trial, or columns of tables.
RESERVED = (
    *("epochs", "seed", "schedule_epochs", "initial_epoch", "continues", "keep_best", "when"),
    *("search", "trial", "name", "status", "started", "reason", "run_id", "parameter_count"),
    *("train_seconds", "best_epoch", "epochs_run", "own", "rnn"),
)


@dataclass(frozen=True)
class ModelSource(OwnSource):
    """The source of an own model; it travels with each trial.

    Its function may also be a class of Keras Tuner's ``HyperModel``.
    """

    @property
    def build(self) -> str:
        """File and function, such as ``my_model.py:build``."""
        return self.reference


@dataclass(frozen=True)
class OwnModel:
    """An own model and its hyperparameters, as found by dry builds.

    Args:
        source: of the model.
        compiled: whether the function compiles the model.
        drawn: the search range of each hyperparameter that the function draws.
        location: path of the file on the machine where the search was started.
        outputs: probabilities of a review that the model returns: 1 for two labels.
    """

    source: ModelSource
    compiled: bool
    drawn: tuple[Dimension, ...]
    location: str = field(default="", compare=False)
    outputs: int = 1

    @functools.cached_property
    def parameters(self) -> dict[str, Field[object]]:
        """All hyperparameters of a configuration, with their limits: ours, then the drawn ones."""
        ours = {name: PARAMETERS[name] for name in beside_own(self.compiled)}
        drawn = [each for each in self.drawn if each.kind]
        return {**ours, **{each.name: _as_field(each) for each in drawn}}

    @property
    def samples(self) -> tuple[tuple[str, Scalar], ...]:
        """Some value of each hyperparameter, which shows its type."""
        return tuple((name, each.default) for name, each in self.parameters.items())  # type: ignore[misc]

    def params(self, values: Mapping[str, object]) -> TrialParams:
        """Return the configuration with these values; what is not given has its default.

        Raises:
            UserError: a name is unknown, or a value is not allowed.
        """
        for name in values:
            if name not in self.parameters:
                raise unknown_choice("hyperparameter", name, self.parameters)
        checked = {name: check_field(self.parameters[name], v) for name, v in values.items()}
        names = [each.name for each in self.drawn if each.kind and each.name in checked]
        own = OwnValues(
            self.source.build,
            self.source.digest,
            self.compiled,
            tuple((name, checked.pop(name)) for name in names),
        )
        ours: dict[str, Any] = checked
        return TrialParams(**ours, own=own)

    def check_labels(self, labels: Sequence[str]) -> None:
        """Raise UserError unless the model returns what these labels of the reviews need."""
        wanted = output_count(len(labels))
        if self.outputs != wanted:
            where = importlib.import_module(RUNNING).where(self.source)
            raise UserError(
                f"{where}: the model returns probabilities of shape (batch, "
                f"{self.outputs}), but the reviews have {len(labels)} labels and need (batch, "
                f"{wanted}); end with {last_layer(wanted)}."
            )

    def as_dict(self) -> dict[str, object]:
        """Return plain values, from which :func:`own_model_of` restores the object."""
        return {
            **dataclasses.asdict(self.source),
            "compiled": self.compiled,
            "location": self.location,
            "outputs": self.outputs,
            "drawn": [{"name": d.name, "kind": d.kind, **_as_table(d)} for d in self.drawn],
        }


def _as_table(dimension: Dimension) -> dict[str, object]:
    plain = dimension.as_toml()
    return dict(plain) if isinstance(plain, Mapping) else {"values": list(dimension.values)}


def own_model_of(table: Mapping[str, Any]) -> OwnModel:
    """Return the own model in plain values, without running its code.

    Raises:
        UserError: they are not those of :meth:`OwnModel.as_dict`.
    """
    try:
        source = ModelSource(table["file"], table["function"], table["text"])
        drawn = tuple(_from_table(each) for each in table["drawn"])
        outputs = int(table.get("outputs", 1))
        return OwnModel(source, bool(table["compiled"]), drawn, str(table["location"]), outputs)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"[model.found] is not what imdbtune has written ({error!r}); leave that table out."
        ) from error


def _from_table(table: Mapping[str, Any]) -> Dimension:
    when = tuple((parent, tuple(values)) for parent, values in table.get("when", {}).items())
    name, kind = str(table["name"]), str(table["kind"])
    if "values" in table:
        return Dimension(name, values=tuple(table["values"]), when=when, kind=kind)
    low, high = float(table["min"]), float(table["max"])
    step = float(table["step"]) if "step" in table else None
    sampling = table.get("sampling", "linear")
    return Dimension(name, (), low, high, step, sampling, when, kind)


def _as_field(dimension: Dimension) -> Field[object]:
    """Return the limits of a drawn hyperparameter, as our own hyperparameters have them."""
    about = "drawn by your model"
    made: Field[object]
    if dimension.values:
        made = setting(dimension.values[0], about, choices=dimension.values)
    else:
        low, high = (float(dimension.typed(end)) for end in (dimension.low, dimension.high))
        if dimension.is_int:
            low, high = int(low), int(high)
        made = setting(low, about, low, high)
    made.name, made.type = dimension.name, dimension.kind
    return made


def output_count(labels: int) -> int:
    """Return the outputs of a model: the probability of the second of two labels, or of each."""
    return 1 if labels == 2 else labels


def last_layer(outputs: int) -> str:
    """Return the last layer of a model with so many outputs, as Keras code."""
    return f'Dense({outputs}, activation="{"sigmoid" if outputs == 1 else "softmax"}")'


def check_name(name: str) -> None:
    """Raise UserError unless a hyperparameter can have this name in files, flags and MLflow."""
    if not _NAME.fullmatch(name) or len(name) > 100:
        raise UserError(
            f"the hyperparameter {short_repr(name)} cannot be named so; use letters, digits and _."
        )
    if name in RESERVED or name.startswith(("best_", "test_", "val_")):
        raise UserError(
            f"the hyperparameter {name} has the name of a setting or a result; give it another."
        )


def split_build(text: str) -> tuple[Path, str]:
    """Return the file and the function in a text such as ``my_model.py:build``.

    Raises:
        UserError: it has another form.
    """
    return split_reference(text, "model", "my_model.py:build")


def inspect_model(build: object, folder: Path, samples: Sequence[Mapping[str, Scalar]]) -> OwnModel:
    """Return the own model of a configuration, after running its function.

    Args:
        build: file and function; or a function or ``HyperModel`` of Python.
        folder: that the file is relative to.
        samples: values of our hyperparameters to build it with.

    Raises:
        UserError: there is no such function, or what it returns cannot be trained.
    """
    found: OwnModel
    if isinstance(build, str):
        path, function = split_build(build)
        inspection = importlib.import_module(INSPECTION)
        found = inspection.inspect_file(folder / path, function, samples)
    else:
        found = importlib.import_module(INSPECTION).inspect_object(build, samples)
    return found
