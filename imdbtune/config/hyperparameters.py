"""The hyperparameters of a trial: the only file that names them.

Their meaning, defaults and limits are the fields of :class:`TrialParams`; everything else
(TOML keys, flags, MLflow parameters, Keras Tuner's entries) is derived from them. The
defaults are those of Listing 6.27.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from imdbtune.config.extensions import CELLS
from imdbtune.errors import UserError, short_repr, unknown_choice

Scalar = str | int | float | bool

POOLINGS = ("last", "max", "mean", "max_mean", "attention", "max_mean_attention")
OPTIMIZERS = ("rmsprop", "adam", "adamw", "sgd")
SCHEDULES = ("constant", "cosine", "linear")
WORD_VECTORS = ("random", "ppmi")


def setting(
    default: Scalar,
    about: str,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[Scalar, ...] = (),
    several: bool = False,
    suggested: bool = False,
) -> Any:
    """Return a dataclass field that carries its meaning and limits for :func:`check_field`.

    ``several``: its value may be several of the choices, separated by commas. ``suggested``: the
    choices depend on other settings as well, with which they are checked.
    """
    limits = {"about": about, "low": low, "high": high, "choices": choices, "several": several}
    limits["suggested"] = suggested
    return field(default=default, metadata=limits)


@dataclass(frozen=True)
class OwnValues:
    """The hyperparameters that a model of the user's own draws in one trial.

    Args:
        build: file and function of the model, such as ``my_model.py:build``.
        digest: sha256 of the file.
        compiled: whether the function compiles the model, and so chooses the optimizer itself.
        values: name and value of each hyperparameter that is active in the trial.
    """

    build: str
    digest: str
    compiled: bool
    values: tuple[tuple[str, Scalar], ...] = ()

    @property
    def shared_names(self) -> set[str]:
        """The names of our hyperparameters that apply to the model."""
        return set(beside_own(self.compiled)) - {name for name, _ in self.values}


# Of our hyperparameters, those that an own model has: of the reviews, and of their optimizer.
OF_REVIEWS = ("maxlen", "vocabulary", "word_dropout", "batch_size", "crop", "soft_labels")
OF_OPTIMIZER = (
    *("optimizer", "learning_rate", "weight_decay", "ema", "schedule", "warmup", "clip_norm"),
)


def beside_own(compiled: bool) -> tuple[str, ...]:
    """Return our hyperparameters that apply to an own model, compiled by its function or not."""
    return OF_REVIEWS if compiled else (*OF_REVIEWS, *OF_OPTIMIZER)


@dataclass(frozen=True)
class TrialParams:
    """The hyperparameters of one trial."""

    rnn: str = setting("lstm", "cell type", choices=tuple(CELLS))
    depth: int = setting(1, "recurrent layers on top of each other", 1, 8)
    units: int = setting(32, "size of each layer's state", 1, 2048)
    maxlen: int = setting(500, "maximum tokens of a review, its last ones", 1, 5000)
    bidirectional: bool = setting(False, "run each layer in both directions")
    pooling: str = setting("last", "how the outputs over time are pooled", choices=POOLINGS)
    vocabulary: int = setting(10_000, "number of ids; higher ones become unknown", 4, 100_000)
    embedding: int = setting(32, "size of a word vector", 1, 1024)
    dropout: float = setting(0.0, "rate of dropout before the output layer", 0.0, 0.95)
    word_dropout: float = setting(0.0, "share of words replaced by the unknown word", 0.0, 0.95)
    batch_size: int = setting(128, "reviews in a training step", 1, 8192)
    optimizer: str = setting("rmsprop", "Keras optimizer", choices=OPTIMIZERS)
    learning_rate: float = setting(0.001, "learning rate of the optimizer", 1e-7, 10.0)
    bigrams: int = setting(0, "hash buckets for embedded word pairs, 0 for no pairs", 0, 2**20)
    spatial_dropout: float = setting(0.0, "share of embedding features dropped", 0.0, 0.95)
    skip: bool = setting(False, "also feed the sum of the word vectors to the output layer")
    layer_norm: bool = setting(False, "layer normalisation before the output layer")
    weight_decay: float = setting(0.0, "decoupled weight decay, times the rate", 0.0, 1.0)
    ema: float = setting(0.0, "momentum of the weights' moving average, 0 for none", 0.0, 0.9999)
    schedule: str = setting("constant", "decay of the learning rate to 0", choices=SCHEDULES)
    warmup: float = setting(0.0, "share of the steps with a rising learning rate", 0.0, 0.9)
    clip_norm: float = setting(0.0, "maximum global norm of the gradient, 0 for no limit", 0.0, 1e6)
    crop: int = setting(0, "length of the random window of a training review, 0 for all", 0, 5000)
    soft_labels: float = setting(0.0, "weight of the linear model in the labels", 0.0, 0.5)
    ngrams: bool = setting(
        False, "also read the linear model's weights of words, pairs and triples"
    )
    ngram_dropout: float = setting(0.0, "share of these weights left out in training", 0.0, 0.95)
    word_vectors: str = setting(
        "random", "what word vectors start from; ppmi: their neighbours", choices=WORD_VECTORS
    )
    own: OwnValues | None = None  # of a model of the user's own, in place of our architecture

    def as_dict(self) -> dict[str, Scalar]:
        """Return all hyperparameters by name, in the order of declaration.

        Those of an own model are the ones that it draws, and ours that apply to it.
        """
        if self.own is None:
            return {name: getattr(self, name) for name in PARAMETERS}
        names = beside_own(self.own.compiled)
        return {**{name: getattr(self, name) for name in names}, **dict(self.own.values)}

    def value(self, name: str) -> Scalar | None:
        """Return the value of a hyperparameter; ``None`` if the model has none of this name."""
        return self.as_dict().get(name) if self.own else getattr(self, name, None)

    @property
    def label(self) -> str:
        """A readable run name, such as ``gru-d2-u64-L200-bi-max-bigrams``."""
        if self.own is not None:
            drawn = [f"{name}{_short(value)}" for name, value in self.own.values[:MAX_IN_LABEL]]
            return "-".join([self.own.build.partition(".")[0], f"L{self.maxlen}", *drawn])
        parts = [self.rnn, f"d{self.depth}", f"u{self.units}", f"L{self.maxlen}"]
        if self.bidirectional:
            parts.append("bi")
        if self.pooling != "last":
            parts.append(self.pooling)
        if self.bigrams:
            parts.append("bigrams")
        if self.ngrams:
            parts.append("ngrams")
        if self.skip:
            parts.append("skip")
        if self.word_vectors != "random":
            parts.append(self.word_vectors)
        return "-".join(parts)

    @classmethod
    def from_values(cls, values: Mapping[str, object]) -> TrialParams:
        """Return checked parameters from plain values, which may be text, as MLflow stores them.

        Raises:
            UserError: a name is unknown, or a value is outside its limits.
        """
        checked: dict[str, Any] = {name: check_value(name, v) for name, v in values.items()}
        return cls(**checked)


def names_of(configurations: Iterable[TrialParams]) -> list[str]:
    """Return the names of the hyperparameters that any of these configurations has, in order."""
    listed = list(configurations)
    if all(each.own is None for each in listed):
        return list(PARAMETERS)
    return list(dict.fromkeys(name for each in listed for name in each.as_dict()))


def same_model(one: TrialParams, other: TrialParams) -> bool:
    """Return whether two configurations are of the same own model, or both of ours."""
    if one.own is None or other.own is None:
        return one.own is other.own
    return (one.own.build, one.own.digest) == (other.own.build, other.own.digest)


# These change the reviews of each batch; with batching=padded the batches are built only once.
BUCKETS_ONLY = ("word_dropout", "crop", "soft_labels", "ngrams", "ngram_dropout")
PARAMETERS = {f.name: f for f in dataclasses.fields(TrialParams) if f.metadata}
MAX_IN_LABEL = 4  # hyperparameters of an own model in the name of a run


def _short(value: Scalar) -> str:
    text = f"{value:.3g}" if isinstance(value, float) else str(value)
    return "".join(c for c in text if c.isalnum() or c in "._+-")[:16]


def check_value(name: str, value: object) -> Scalar:
    """Return ``value`` as the type of hyperparameter ``name``; text is parsed as in TOML.

    Raises:
        UserError: the name is unknown or the value is not allowed for it.
    """
    if name not in PARAMETERS:
        raise unknown_choice("hyperparameter", name, PARAMETERS)
    return check_field(PARAMETERS[name], value)


def allowed(spec: dataclasses.Field[object]) -> str:
    """Describe the allowed values of a :func:`setting`, as in ``a whole number from 1 to 8``."""
    if spec.metadata["choices"]:
        number = "one or more" if spec.metadata["several"] else "one"
        return f"{number} of {', '.join(map(str, spec.metadata['choices']))}"
    if spec.type == "bool":
        return "true or false"
    if spec.type == "str":
        return "a line of text"
    low, high = spec.metadata["low"], spec.metadata["high"]
    if spec.type == "int":
        return f"a whole number from {low} to {high}"
    return f"a number from {low:g} to {high:g}"


def check_field(spec: dataclasses.Field[object], value: object) -> Scalar:
    """Return ``value`` as the field's type.

    Raises:
        UserError: the value is outside the field's limits; the message states them.
    """
    converted = convert(str(spec.type), value)
    if spec.metadata["several"] and isinstance(converted, str):
        converted = ",".join(part.strip() for part in converted.split(","))
    if converted is None or not _within(spec, converted):
        name = spec.name
        raise UserError(f"{name} = {short_repr(value)} is not allowed; {name} is {allowed(spec)}.")
    return converted


def convert(kind: str, value: object) -> Scalar | None:
    """Return ``value`` as ``kind``: ``str``, ``bool``, ``int`` or (finite) ``float``.

    Returns ``None`` if it is not of that kind, also not as text.
    """
    if kind == "str":
        text = str(value) if type(value) is int and abs(value) < 2**63 else value
        return text if isinstance(text, str) and text.isprintable() else None
    if kind == "bool":
        if not isinstance(value, str):
            return value if isinstance(value, bool) else None
        return {"true": True, "false": False}.get(value.strip().lower())
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    if isinstance(value, str) and not value.isascii():
        return None  # float() accepts the digits of every script
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    if not math.isfinite(number) or (kind == "int" and number != int(number)):
        return None
    return int(number) if kind == "int" else number


def _within(spec: dataclasses.Field[object], value: Scalar) -> bool:
    if spec.metadata["choices"] and not spec.metadata["suggested"]:
        parts = str(value).split(",") if spec.metadata["several"] else [value]
        return all(part in spec.metadata["choices"] for part in parts)
    if spec.metadata["low"] is None:
        return True
    return bool(spec.metadata["low"] <= float(value) <= spec.metadata["high"])
