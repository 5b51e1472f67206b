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
from imdbtune.config.extensions import (
    DEFAULT_OBJECTIVE,
    PRUNERS,
    SAMPLERS,
    SOURCES,
)
from imdbtune.config.hyperparameters import check_field, setting
from imdbtune.config.objectives import all_objectives, larger_is_better, split_objectives
from imdbtune.config.search_space import SearchSpace, word
from imdbtune.config.space_parser import parse_space
from imdbtune.config.tries import is_possible, split_tries
from imdbtune.errors import UserError, short_repr, unknown_choice
from imdbtune.files import read_small_text

NO_SPACE = "none"  # in place of a file: a space without hyperparameters, which have their defaults


@dataclass(frozen=True)
class TableConfig:
    """How a table of reviews is read; empty settings are detected."""

    text_column: str = setting("", "column with the texts (empty: by its name or contents)")
    label_column: str = setting("", "column with the two labels (empty: by its name or contents)")
    split_column: str = setting(
        "", "column with the values train and test (empty: one named split; none: ignore it)"
    )
    label_at: str = setting(
        "",
        "condition such as >=4 that makes two labels of numbers; rows that meet it are positive",
    )
    positive: str = setting("", "label that the model predicts (empty: detected by its meaning)")
    test_share: float = setting(
        0.2, "share of each label's rows used for testing, if the table has no split", 0.01, 0.9
    )
    split_seed: int = setting(0, "seed of the split and of the order", 0, 2**31 - 1)


@dataclass(frozen=True)
class DataConfig(TableConfig):
    """Which reviews are used."""

    source: str = setting("auto", f"one of the data sources {', '.join(SOURCES)}")
    reviews: int = setting(0, "use only the first N training reviews (0: all)", 0, 10_000_000)


@dataclass(frozen=True)
class TunerConfig:
    """How configurations are chosen, and how many."""

    kind: str = setting("random", "sampler", choices=tuple(SAMPLERS))
    prune: str = setting(
        NO_PRUNER, "pruner, which ends bad trials early", choices=(NO_PRUNER, *PRUNERS)
    )
    max_trials: int = setting(
        0, "maximum number of trials (0: 12; all of a grid or hyperband)", 0, 1_000_000
    )
    max_minutes: float = setting(
        0.0, "minutes after which no new trial starts (0: no limit)", 0.0, 525_600.0
    )
    tries: str = setting(
        "", "configurations to train first, such as rnn=gru units=64, separated by semicolons"
    )
    require: str = setting(
        "", "condition that trials meet, if possible before their training, as in compare --where"
    )
    learn_from: str = setting(
        "", "earlier search over the same reviews whose trials guide the sampler; auto: all"
    )
    until_flat: int = setting(
        0,
        "trials without an improvement by a standard error after which none starts (0: no limit)",
        0,
        1_000_000,
    )
    seed: int = setting(0, "seed of the sampler and of the trials", 0, 2**31 - 1)
    executions: int = setting(1, "trainings of each configuration, averaged", 1, 100)
    trial_timeout: float = setting(
        0.0, "minutes after which a trial is stopped and fails (0: never)", 0.0, 525_600.0
    )
    retries: int = setting(
        0, "how often a failed trial is retried, each time with another seed", 0, 100
    )
    objective: str = setting(
        DEFAULT_OBJECTIVE,
        "metrics and costs to optimise, the main one, a metric, first",
        choices=all_objectives(),
        several=True,
    )

    @property
    def objectives(self) -> tuple[str, ...]:
        """What is optimised, the main objective first."""
        return split_objectives(self.objective)

    @property
    def main_objective(self) -> str:
        """The metric by which trials are ranked, stopped and pruned."""
        return self.objectives[0]

    @property
    def larger_is_better(self) -> bool:
        """Whether the main objective is maximised."""
        return larger_is_better(self.main_objective)

    @property
    def trial_limit(self) -> int | None:
        """Maximum number of trials; ``None`` if the sampler decides."""
        return self.max_trials or SAMPLERS[self.kind].default_trials


@dataclass(frozen=True)
class TrainingConfig:
    """How each trial is trained."""

    epochs: int = setting(4, "maximum number of epochs", 1, 10_000)
    patience: int = setting(
        2, "epochs without improvement before training stops (0: never)", 0, 10_000
    )
    batching: str = setting(
        "buckets",
        "masked batches of similar length; or all padded to maxlen without a mask, as in the book",
        choices=("buckets", "padded"),
    )
    compile: str = setting("auto", "compile with XLA", choices=("auto", "on", "off"))


@dataclass(frozen=True)
class TrackingConfig:
    """What is logged to MLflow."""

    experiment: str = setting("imdbtune", "MLflow experiment")
    uri: str = setting("", "tracking store (empty: MLFLOW_TRACKING_URI or sqlite:///mlflow.db)")
    keep_models: str = setting("all", "all, best, or the number of best models to keep")
    report: bool = setting(True, "log a report at the end of the search, which takes seconds")
    baseline: bool = setting(True, "train a linear baseline during the search, for comparison")

    @property
    def chooses_models(self) -> bool:
        """Whether the models to keep are known only at the end of a search."""
        return self.keep_models not in ("all", "0")


@dataclass(frozen=True)
class ClusterConfig:
    """Where trials run."""

    address: str = setting(
        LOCAL, "local, or the address of a Dask scheduler: tcp://HOST:8786, tls://HOST:8786"
    )

    @property
    def is_local(self) -> bool:
        """Whether trials run in processes on this machine."""
        return self.address in ("", LOCAL)


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

    def as_dict(self) -> dict[str, Any]:
        """Return plain nested values, from which :func:`parse_config` restores the object."""
        sections = {name: dataclasses.asdict(getattr(self, name)) for name in SECTIONS}
        return {"name": self.name, "about": self.about, **sections, "space": self.space.as_toml()}

    @property
    def digest(self) -> str:
        """sha256 of the settings that determine the trials: no limits, names or tracking."""
        import hashlib

        hashed = {k: self.as_dict()[k] for k in ("data", "space", "tuner", "training")}
        for limit in ("max_trials", "max_minutes", "until_flat", "trial_timeout", "retries"):
            del hashed["tuner"][limit]
        return hashlib.sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest()


SECTIONS: dict[str, type[Any]] = {
    "data": DataConfig,
    "tuner": TunerConfig,
    "training": TrainingConfig,
    "tracking": TrackingConfig,
    "cluster": ClusterConfig,
}
TOP_LEVEL = ("name", "about", "space", *SECTIONS)


def parse_config(table: Mapping[str, object], overrides: Mapping[str, object] = {}) -> SearchConfig:
    """Return the configuration in TOML tables, after ``overrides`` such as ``{"tuner.seed": 3}``.

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
    config = SearchConfig(
        name=merged.get("name", "search"),
        about=merged.get("about", ""),
        space=parse_space(merged.get("space", {}), _hyperparameters(overrides)),
        **{name: _section(name, merged.get(name, {})) for name in SECTIONS},
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


def _section(name: str, table: Mapping[str, object]) -> Any:
    if name == "tuner":
        table = _join_tries(table)
    fields = {f.name: f for f in dataclasses.fields(SECTIONS[name])}
    for key in table:
        if key not in fields:
            raise unknown_choice(f"key in [{name}]", key, fields)
    return SECTIONS[name](**{key: check_field(fields[key], v) for key, v in table.items()})


def load_config(path: str | None, overrides: Mapping[str, object] = {}) -> SearchConfig:
    """Return the configuration in a TOML file, or in a bundled workflow named without ``.toml``.

    Args:
        path: of the file; ``None``: the workflow ``default``; ``none``: no file, so that all has
            its default and ``overrides`` are the whole space.
        overrides: values by key, such as ``{"space.rnn": "gru"}``, which replace those of the file.

    Raises:
        UserError: the file does not exist, is not TOML, or has a wrong key or value.
    """
    if path == NO_SPACE:
        return parse_config({}, overrides)
    import tomllib  # here, because shell completion waits for the module-level imports

    text, origin = _read(path or "default")
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also for huge numbers and deep nesting
        raise UserError(f"{origin} is not TOML: {error}") from error
    try:
        parse_config(table)
    except UserError as error:
        raise UserError(f"{origin}: {error}") from error
    return parse_config({"name": Path(origin).stem, **table}, overrides)


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
