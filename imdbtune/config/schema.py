"""The configuration of one search: a TOML file, overridden by flags, as frozen dataclasses."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imdbtune.config.checks import LOCAL as LOCAL
from imdbtune.config.checks import NO_PRUNER as NO_PRUNER
from imdbtune.config.checks import check_config, check_text
from imdbtune.config.extensions import SAMPLERS, measured_always
from imdbtune.config.filter_expression import words_in
from imdbtune.config.hyperparameters import OF_REVIEWS, Scalar, check_field
from imdbtune.config.objectives import larger_is_better, metric_objectives
from imdbtune.config.own_code import OwnCode
from imdbtune.config.own_metric import (
    OwnMetric,
    own_metric_of,
    read_own_metrics,
    split_metrics,
)
from imdbtune.config.own_model import OwnModel, inspect_model, own_model_of
from imdbtune.config.search_space import SearchSpace, word
from imdbtune.config.sections import NO_CLASS_WEIGHT
from imdbtune.config.sections import ClusterConfig as ClusterConfig
from imdbtune.config.sections import DataConfig as DataConfig
from imdbtune.config.sections import ModelConfig as ModelConfig
from imdbtune.config.sections import TableConfig as TableConfig
from imdbtune.config.sections import TrackingConfig as TrackingConfig
from imdbtune.config.sections import TrainingConfig as TrainingConfig
from imdbtune.config.sections import TunerConfig as TunerConfig
from imdbtune.config.space_parser import parse_dimension, parse_space
from imdbtune.config.tries import is_possible, split_tries
from imdbtune.errors import UserError, short_repr, unknown_choice
from imdbtune.files import read_small_text

NO_SPACE = "none"  # in place of a file: a space without hyperparameters, which have their defaults


@dataclass(frozen=True)
class SearchConfig:
    """The whole configuration of a search."""

    name: str = "search"
    about: str = ""
    data: DataConfig = field(default_factory=DataConfig)
    space: SearchSpace = field(default_factory=SearchSpace)
    tuner: TunerConfig = field(default_factory=TunerConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    own_metrics: tuple[OwnMetric, ...] = ()  # of the user's own, among those of ``training``

    @property
    def larger_is_better(self) -> bool:
        """Whether the main objective is maximised."""
        return self.is_maximised(self.tuner.main_objective)

    @property
    def own_code(self) -> OwnCode:
        """The user's own model and metrics."""
        model = self.space.own.source if self.space.own else None
        return OwnCode(model, self.own_metrics)

    def is_maximised(self, objective: str) -> bool:
        """Return whether an objective is maximised."""
        return larger_is_better(objective, self.own_metrics)

    @property
    def further_metrics(self) -> tuple[str, ...]:
        """The names of the metrics that not every search has: those it needs, and asks for."""
        known = {name.removeprefix("val_") for name in metric_objectives(self.own_metrics)}
        aims = [*self.tuner.objectives, *words_in(self.tuner.require)]
        needed = [each.removeprefix("val_") for each in aims if each.startswith("val_")]
        own = {metric.text: metric.name for metric in self.own_metrics}
        asked = [own.get(item, item) for item in split_metrics(self.training.metrics)]
        further = known.difference(measured_always())
        return tuple(name for name in dict.fromkeys([*needed, *asked]) if name in further)

    def as_dict(self) -> dict[str, Any]:
        """Return plain nested values, from which :func:`parse_config` restores the object.

        An own model is among them with its source, so that its file is not needed any more.
        """
        sections = {name: dataclasses.asdict(getattr(self, name)) for name in SECTIONS}
        if self.space.own is None:
            del sections["model"]
        else:
            sections["model"][FOUND] = self.space.own.as_dict()
        if self.own_metrics:
            sections["training"][FOUND] = [metric.as_dict() for metric in self.own_metrics]
        return {"name": self.name, "about": self.about, **sections, "space": self.space.as_toml()}

    @property
    def digest(self) -> str:
        """sha256 of the settings that determine the trials: no limits, names or tracking."""
        import hashlib

        hashed = {k: self.as_dict()[k] for k in ("data", "space", "tuner", "training")}
        for limit in ("max_trials", "max_minutes", "until_flat", "trial_timeout", "retries"):
            del hashed["tuner"][limit]
        hashed["training"].pop(FOUND, None)
        # A setting that is off does not count, so that searches of earlier versions keep theirs.
        if not self.tuner.folds:
            del hashed["tuner"]["folds"]
        if not self.training.metrics:
            del hashed["training"]["metrics"]
        if self.training.class_weight == NO_CLASS_WEIGHT:
            del hashed["training"]["class_weight"]
        if self.own_metrics:
            hashed["own_metrics"] = [[m.text, m.source.digest] for m in self.own_metrics]
        if self.space.own is not None:
            hashed["model"] = [self.space.own.source.function, self.space.own.source.digest]
        return hashlib.sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest()


SECTIONS: dict[str, type[Any]] = {
    "data": DataConfig,
    "tuner": TunerConfig,
    "training": TrainingConfig,
    "tracking": TrackingConfig,
    "cluster": ClusterConfig,
    "model": ModelConfig,
}
# In [model]: what dry builds of an own model have found; in [training]: the source of own metrics.
FOUND = "found"
TOP_LEVEL = ("name", "about", "space", *SECTIONS)


def parse_config(
    table: Mapping[str, object], overrides: Mapping[str, object] = {}, folder: Path = Path()
) -> SearchConfig:
    """Return the configuration in TOML tables, after ``overrides`` such as ``{"tuner.seed": 3}``.

    An own model is built with some of its hyperparameters, unless the tables tell what such dry
    builds have found before.

    Args:
        folder: that the file of an own model in the tables is relative to.

    Raises:
        UserError: a key or section is unknown, or a value is not allowed.
    """
    merged: dict[str, Any] = {k: dict(v) if isinstance(v, Mapping) else v for k, v in table.items()}
    for dotted, value in overrides.items():
        section, _, key = dotted.rpartition(".")
        if section in ("name", "about"):
            raise unknown_choice("section", section, ("space", *SECTIONS))
        target = merged.setdefault(section, {}) if section else merged
        if isinstance(target, dict):  # otherwise it is refused below
            target[key] = value
    _drop_excluded_pruner(merged, overrides)
    for key, value in merged.items():
        if key not in TOP_LEVEL:
            raise unknown_choice("section or key", key, TOP_LEVEL)
        if key in ("name", "about"):
            check_text(key, value)
        elif not isinstance(value, Mapping):
            raise UserError(
                f"{key} = {short_repr(value)} is not a section; write [{key}] above its keys."
            )
    own = _own_model(merged, overrides, folder)
    own_metrics = _own_metrics(merged, overrides, folder)
    config = SearchConfig(
        name=merged.get("name", "search"),
        about=merged.get("about", ""),
        space=parse_space(merged.get("space", {}), _hyperparameters(overrides), own),
        **{name: _section(name, merged.get(name, {})) for name in SECTIONS},
        own_metrics=own_metrics,
    )
    config = _without_excluded_tries(config, overrides)
    check_config(config)
    return config


def _without_excluded_tries(config: SearchConfig, overrides: Mapping[str, object]) -> SearchConfig:
    """Leave out what a file tries first and an override excludes: by the space or the sampler."""
    tuner = config.tuner
    if not overrides or "tuner.tries" in overrides or not tuner.tries:
        return config
    heeded = SAMPLERS[tuner.kind].has_initial_trials
    kept = [text for text in split_tries(tuner.tries) if heeded and is_possible(text, config.space)]
    return dataclasses.replace(config, tuner=dataclasses.replace(tuner, tries="; ".join(kept)))


def _own_model(
    merged: dict[str, Any], overrides: Mapping[str, object], folder: Path
) -> OwnModel | None:
    """Return the own model of a configuration, if it has one; leave only its name in ``merged``."""
    model = merged.get("model", {})
    is_given = "model.build" in overrides
    found = None if is_given else model.get(FOUND)
    merged["model"] = {key: value for key, value in model.items() if key != FOUND}
    build = merged["model"].get("build", "")
    if isinstance(build, str):
        build = _section("model", merged["model"]).build
    if not build:
        return None
    if isinstance(found, Mapping):
        own = own_model_of(found)
    else:
        samples = review_samples(merged.get("space", {}))
        own = inspect_model(build, Path() if is_given else folder, samples)
    merged["model"] = {"build": own.source.build}
    return own


def _own_metrics(
    merged: dict[str, Any], overrides: Mapping[str, object], folder: Path
) -> tuple[OwnMetric, ...]:
    """Return the user's own metrics of a configuration; leave only their names in ``merged``."""
    training = merged.get("training", {})
    is_given = "training.metrics" in overrides
    found = None if is_given else training.get(FOUND)
    merged["training"] = {key: value for key, value in training.items() if key != FOUND}
    text = _section("training", merged["training"]).metrics
    if isinstance(found, list):
        split_metrics(text)
        return tuple(own_metric_of(table) for table in found)
    merged["training"]["metrics"], own = read_own_metrics(text, Path() if is_given else folder)
    return own


def review_samples(space: Mapping[str, object]) -> list[dict[str, Scalar]]:
    """Return the smallest and largest of our hyperparameters, to build an own model with."""
    ends: list[dict[str, Scalar]] = [{}, {}]
    for name in (name for name in OF_REVIEWS if name in space):
        dimension = parse_dimension(name, space[name])
        values = dimension.values or (
            dimension.typed(dimension.low),
            dimension.typed(dimension.high),
        )
        ends[0][name], ends[1][name] = min(values), max(values)
    return ends if ends[0] != ends[1] else ends[:1]


def _drop_excluded_pruner(merged: dict[str, Any], overrides: Mapping[str, object]) -> None:
    """Remove a file's pruner that the sampler of an override excludes."""
    kind = str(overrides.get("tuner.kind"))
    excludes = kind in SAMPLERS and SAMPLERS[kind].continues_trials
    if excludes and "tuner.prune" not in overrides and isinstance(merged["tuner"], dict):
        merged["tuner"].pop("prune", None)


def _hyperparameters(overrides: Mapping[str, object]) -> frozenset[str]:
    """Return the names of the hyperparameters that overrides set."""
    parts = (key.partition(".") for key in overrides)
    return frozenset(key for section, _, key in parts if section == "space")


def _join_tries(table: Mapping[str, object]) -> dict[str, object]:
    """Return the section with its tables ``[[tuner.try]]`` as the text ``tries``."""
    joined = {key: value for key, value in table.items() if key != "try"}
    tables = table.get("try", [])
    if not isinstance(tables, list) or not all(isinstance(each, Mapping) for each in tables):
        raise UserError(
            f"try = {short_repr(tables)} is not a table; write [[tuner.try]] above its values."
        )
    texts = [" ".join(f"{name}={word(value)}" for name, value in each.items()) for each in tables]
    return {"tries": "; ".join(texts), **joined} if texts else joined


def _join_metrics(table: Mapping[str, object]) -> Mapping[str, object]:
    """Return the section with its list ``metrics`` as a text."""
    metrics = table.get("metrics")
    if not isinstance(metrics, list) or not all(isinstance(each, str) for each in metrics):
        return table
    return {**table, "metrics": ",".join(metrics)}


def _section(name: str, table: Mapping[str, object]) -> Any:
    if name == "tuner":
        table = _join_tries(table)
    if name == "training":
        table = _join_metrics(table)
    fields = {f.name: f for f in dataclasses.fields(SECTIONS[name])}
    for key in table:
        if key not in fields:
            raise unknown_choice(f"key in [{name}]", key, fields)
    return SECTIONS[name](**{key: check_field(fields[key], v) for key, v in table.items()})


def load_config(path: str | None, overrides: Mapping[str, object] = {}) -> SearchConfig:
    """Return the configuration in a TOML file, or in a bundled workflow named without ``.toml``.

    Args:
        path: of the file; ``None``: the workflow ``default``, or with an own model no file;
            ``none``: no file, so that all has its default and ``overrides`` are the whole space.
        overrides: values by key, such as ``{"space.rnn": "gru"}``, which replace those of the file.

    Raises:
        UserError: the file does not exist, is not TOML, or has a wrong key or value.
    """
    own = overrides.get("model.build") if path in (None, NO_SPACE) else None
    if own or path == NO_SPACE:
        name = Path(str(getattr(own, "__name__", own))).stem
        return parse_config({"name": name} if own else {}, overrides)
    import tomllib  # here, because shell completion waits for the module-level imports

    text, origin = _read(path or "default")
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also for huge numbers and deep nesting
        raise UserError(f"{origin} is not TOML: {error}") from error
    folder = Path(path).parent if path and Path(path).exists() else Path()
    try:
        if "model.build" not in overrides:  # the file's space may be that of another model
            parse_config(table, folder=folder)
    except UserError as error:
        raise UserError(f"{origin}: {error}") from error
    return parse_config({"name": Path(origin).stem, **table}, overrides, folder)


def _read(path: str) -> tuple[str, str]:
    try:
        if not Path(path).is_dir() and Path(path).exists():
            return read_small_text(Path(path)), path
        known = bundled_workflows()
        if path in known:
            return known[path].read_text(encoding="utf-8"), path
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a text file in UTF-8: {error.reason}.") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot read {short_repr(path)}: {reason}.") from error
    raise UserError(
        f"no file {short_repr(path)}; give the path of a TOML file, or one of {', '.join(known)}; "
        f"{NO_SPACE} is a space with the defaults of all hyperparameters."
    )


def bundled_workflows() -> dict[str, Path]:
    """Return the bundled workflows by name: inside the package in a wheel, else next to it."""
    import importlib.resources

    package = Path(str(importlib.resources.files("imdbtune")))
    for folder in (package / "workflows", package.parent / "workflows"):
        if folder.is_dir():
            return {p.stem: p for p in sorted(folder.glob("*.toml"))}
    return {}
