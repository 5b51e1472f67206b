"""The hyperparameters of a trial: the only file that names them.

Their meaning, defaults and limits are the fields of :class:`TrialParams`; everything else
(TOML keys, flags, MLflow parameters, Keras Tuner's entries) is derived from them. The
defaults are those of Listing 6.27.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from imdbtune.errors import UserError, short_repr, unknown_choice

Scalar = str | int | float | bool

RNN_TYPES = ("simple_rnn", "lstm", "gru")
POOLINGS = ("last", "max", "mean", "max_mean", "attention", "max_mean_attention")
OPTIMIZERS = ("rmsprop", "adam", "adamw", "sgd")
SCHEDULES = ("constant", "cosine", "linear")


def limited(
    default: Scalar,
    about: str,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """A dataclass field that carries its meaning and limits for :func:`check_field`."""
    limits = {"about": about, "low": low, "high": high, "choices": choices}
    return field(default=default, metadata=limits)


@dataclass(frozen=True)
class TrialParams:
    """One configuration: what a model is built and trained from."""

    rnn: str = limited("lstm", "cell type", choices=RNN_TYPES)
    depth: int = limited(1, "recurrent layers on top of each other", 1, 8)
    units: int = limited(32, "size of each layer's state", 1, 2048)
    maxlen: int = limited(500, "tokens kept of a review: its last ones", 1, 5000)
    bidirectional: bool = limited(False, "read each review in both directions")
    pooling: str = limited("last", "what the output layer sees of the steps", choices=POOLINGS)
    vocabulary: int = limited(10_000, "most frequent ids kept, the rest unknown", 4, 100_000)
    embedding: int = limited(32, "size of a word's vector", 1, 1024)
    dropout: float = limited(0.0, "share of features dropped before the output layer", 0.0, 0.95)
    word_dropout: float = limited(0.0, "share of words replaced by the unknown word", 0.0, 0.95)
    batch_size: int = limited(128, "reviews in a training step", 1, 8192)
    optimizer: str = limited("rmsprop", "Keras optimizer", choices=OPTIMIZERS)
    learning_rate: float = limited(0.001, "step size of the optimizer", 1e-7, 10.0)
    bigrams: int = limited(0, "vectors shared by all pairs of neighbouring words", 0, 2**20)
    spatial_dropout: float = limited(0.0, "share of a vector dropped in all its words", 0.0, 0.95)
    skip: bool = limited(False, "the output layer sees the words' vectors too, past the recurrence")
    layer_norm: bool = limited(False, "normalise what the output layer sees")
    weight_decay: float = limited(0.0, "share of each weight lost in a step, x rate", 0.0, 1.0)
    ema: float = limited(0.0, "share that averaged weights keep in a step, 0 without", 0.0, 0.9999)
    schedule: str = limited("constant", "how the rate goes down to 0", choices=SCHEDULES)
    warmup: float = limited(0.0, "share of the steps in which the rate grows", 0.0, 0.9)
    clip_norm: float = limited(0.0, "longest gradient, longer ones are cut", 0.0, 1e6)
    crop: int = limited(0, "tokens from a random one on that a step sees, 0 for all", 0, 5000)
    soft_labels: float = limited(0.0, "share of a label that is the linear model's say", 0.0, 0.5)

    def as_dict(self) -> dict[str, Scalar]:
        """All hyperparameters by name, in the order of declaration."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}

    @property
    def label(self) -> str:
        """A run name that can be read, such as ``gru-d2-u64-L200-bi-max-bigrams``."""
        parts = [self.rnn, f"d{self.depth}", f"u{self.units}", f"L{self.maxlen}"]
        if self.bidirectional:
            parts.append("bi")
        if self.pooling != "last":
            parts.append(self.pooling)
        if self.bigrams:
            parts.append("bigrams")
        if self.skip:
            parts.append("skip")
        return "-".join(parts)

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> TrialParams:
        """Checked parameters out of plain values (also text, as MLflow stores it).

        Raises:
            UserError: an unknown name, or a value outside its limits.
        """
        checked: dict[str, Any] = {name: check_value(name, v) for name, v in values.items()}
        return cls(**checked)


# What is done to the reviews of each batch; those that are padded as in the book are made once.
NOT_PADDED = ("word_dropout", "crop", "soft_labels")
PARAMETERS: dict[str, dataclasses.Field[Any]] = {f.name: f for f in dataclasses.fields(TrialParams)}


def check_value(name: str, value: object) -> Scalar:
    """``value`` as the type of hyperparameter ``name``; text is read as TOML would write it.

    Raises:
        UserError: the name is unknown or the value is not allowed for it.
    """
    if name not in PARAMETERS:
        raise unknown_choice("hyperparameter", name, PARAMETERS)
    return check_field(PARAMETERS[name], value)


def allowed(spec: dataclasses.Field[Any]) -> str:
    """What a field made by :func:`limited` may be, in words: ``a whole number from 1 to 8``."""
    if spec.metadata["choices"]:
        return "one of " + ", ".join(spec.metadata["choices"])
    if spec.type == "bool":
        return "true or false"
    if spec.type == "str":
        return "a line of text"
    low, high = spec.metadata["low"], spec.metadata["high"]
    if spec.type == "int":
        return f"a whole number from {low} to {high}"
    return f"a number from {low:g} to {high:g}"


def check_field(spec: dataclasses.Field[Any], value: object) -> Scalar:
    """``value`` as the field's type, if it is within the field's limits.

    Raises:
        UserError: it is not; the message says what is allowed.
    """
    converted = convert(str(spec.type), value)
    if converted is None or not _within(spec, converted):
        name = spec.name
        raise UserError(f"{name} = {short_repr(value)} is not allowed; {name} is {allowed(spec)}.")
    return converted


def convert(kind: str, value: object) -> Scalar | None:
    """``value`` as a ``str``, ``bool``, ``int`` or finite ``float``; ``None`` if it is none."""
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
        return None  # float() takes the digits of every script
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    if not math.isfinite(number) or (kind == "int" and number != int(number)):
        return None
    return int(number) if kind == "int" else number


def _within(spec: dataclasses.Field[Any], value: Scalar) -> bool:
    if spec.metadata["choices"]:
        return value in spec.metadata["choices"]
    if spec.metadata["low"] is None:
        return True
    return bool(spec.metadata["low"] <= float(value) <= spec.metadata["high"])
