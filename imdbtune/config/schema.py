"""The configuration of one search: a TOML file with flags over it, as frozen dataclasses."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from imdbtune.config.hyperparameters import NOT_PADDED, check_field, limited
from imdbtune.config.search_space import SearchSpace
from imdbtune.config.space_parser import parse_space
from imdbtune.errors import UserError, short_repr, unknown_choice
from imdbtune.files import read_small_text

LOCAL = "local"
TUNERS = ("random", "grid", "bayesian", "hyperband")


@dataclass(frozen=True)
class TableConfig:
    """How reviews of one's own are read; what is left empty is found."""

    text_column: str = limited("", "column with the texts (empty: found by its name or contents)")
    label_column: str = limited("", "column with the two labels (empty: found alike)")
    split_column: str = limited("", "column that says train or test (empty: split; none: no such)")
    positive: str = limited("", "the label whose probability is told (empty: found by its meaning)")
    test_share: float = limited(
        0.2, "share of each label's rows that is for testing, if none are yet", 0.01, 0.9
    )
    split_seed: int = limited(0, "the same seed gives the same parts and order", 0, 2**31 - 1)


@dataclass(frozen=True)
class DataConfig(TableConfig):
    """Which reviews."""

    source: str = limited(
        "auto", "auto, imdb, demo, an imdb.npz, a table of reviews, or a folder like aclImdb"
    )
    reviews: int = limited(0, "use only the first N training reviews (0: all)", 0, 10_000_000)


@dataclass(frozen=True)
class TunerConfig:
    """Which configurations are tried, and how many."""

    kind: str = limited("random", "Keras Tuner's oracle", choices=TUNERS)
    max_trials: int = limited(0, "trials at most (0: 12; all of a grid or hyperband)", 0, 1_000_000)
    max_minutes: float = limited(
        0.0, "no new trial starts after this (0: no limit)", 0.0, 525_600.0
    )
    seed: int = limited(0, "the same seed gives the same trials", 0, 2**31 - 1)
    executions: int = limited(1, "trainings of each configuration, averaged", 1, 100)
    trial_timeout: float = limited(
        0.0, "minutes after which a trial is ended and has failed (0: never)", 0.0, 525_600.0
    )
    retries: int = limited(
        0, "times that a failed trial is tried again, each with another seed", 0, 100
    )
    objective: str = limited("val_accuracy", "to optimise", choices=("val_accuracy", "val_loss"))

    @property
    def trial_limit(self) -> int | None:
        """Trials at most; ``None``: as many as the oracle wants."""
        return self.max_trials or (12 if self.kind in ("random", "bayesian") else None)


@dataclass(frozen=True)
class TrainingConfig:
    """How each trial is trained."""

    epochs: int = limited(4, "passes over the training reviews, at most", 1, 10_000)
    patience: int = limited(2, "epochs without improvement before it stops (0: never)", 0, 10_000)
    batching: str = limited(
        "buckets",
        "batches of like length, masked; or all padded to maxlen without a mask, as in the book",
        choices=("buckets", "padded"),
    )
    compile: str = limited("auto", "compile with XLA", choices=("auto", "on", "off"))


@dataclass(frozen=True)
class TrackingConfig:
    """What MLflow keeps."""

    experiment: str = limited("imdbtune", "MLflow experiment")
    uri: str = limited("", "tracking store (empty: MLFLOW_TRACKING_URI or sqlite:///mlflow.db)")
    keep_models: str = limited("all", "all, best, or the number of best models to keep")
    report: bool = limited(True, "log a report of the search at its end, which takes seconds")
    baseline: bool = limited(True, "train a linear model beside the trials, to compare with")

    @property
    def chooses_models(self) -> bool:
        """Whether only the end of a search shows which models are kept."""
        return self.keep_models not in ("all", "0")


@dataclass(frozen=True)
class ClusterConfig:
    """Where trials run."""

    address: str = limited(
        LOCAL, "local, or a Dask scheduler that runs: tcp://HOST:8786, tls://HOST:8786"
    )

    @property
    def is_local(self) -> bool:
        """Whether trials run in processes of this machine."""
        return self.address in ("", LOCAL)


@dataclass(frozen=True)
class SearchConfig:
    """Everything that decides what a search does."""

    name: str = "search"
    about: str = ""
    data: DataConfig = field(default_factory=DataConfig)
    space: SearchSpace = field(default_factory=SearchSpace)
    tuner: TunerConfig = field(default_factory=TunerConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)

    def as_dict(self) -> dict[str, Any]:
        """Plain nested values; :func:`parse_config` reads them back."""
        sections = {name: dataclasses.asdict(getattr(self, name)) for name in SECTIONS}
        plain: dict[str, Any] = {"name": self.name, "about": self.about}
        return {**plain, **sections, "space": self.space.as_toml()}

    @property
    def digest(self) -> str:
        """sha256 over what decides the trials: not over limits, names or where they are kept."""
        import hashlib

        decides = {k: self.as_dict()[k] for k in ("data", "space", "tuner", "training")}
        for limit in ("max_trials", "max_minutes", "trial_timeout", "retries"):
            del decides["tuner"][limit]
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


SECTIONS: dict[str, type[Any]] = {
    "data": DataConfig,
    "tuner": TunerConfig,
    "training": TrainingConfig,
    "tracking": TrackingConfig,
    "cluster": ClusterConfig,
}
TOP_LEVEL = ("name", "about", "space", *SECTIONS)


def parse_config(table: Mapping[str, Any], overrides: Mapping[str, object] = {}) -> SearchConfig:
    """A configuration from TOML's tables, with ``overrides`` such as ``{"tuner.seed": 3}`` over it.

    Raises:
        UserError: unknown key or section, or a value that is not allowed.
    """
    merged: dict[str, Any] = {k: dict(v) if isinstance(v, Mapping) else v for k, v in table.items()}
    for dotted, value in overrides.items():
        section, _, key = dotted.rpartition(".")
        if section in ("name", "about"):
            raise unknown_choice("section", section, ("space", *SECTIONS))
        into = merged.setdefault(section, {}) if section else merged
        if isinstance(into, dict):  # else it is refused below
            into[key] = value
    for key, value in merged.items():
        if key not in TOP_LEVEL:
            raise unknown_choice("section or key", key, TOP_LEVEL)
        if key in ("name", "about"):
            _check_line(key, value)
        elif not isinstance(value, Mapping):
            raise UserError(
                f"{key} = {short_repr(value)} is not a section; write [{key}] above its keys."
            )
    config = SearchConfig(
        name=merged.get("name", "search"),
        about=merged.get("about", ""),
        space=parse_space(merged.get("space", {})),
        **{name: _section(name, merged.get(name, {})) for name in SECTIONS},
    )
    _check_line("experiment", config.tracking.experiment)
    _check_keep_models(config.tracking.keep_models)
    _check_cluster(config.cluster.address)
    _check_padded(config)
    return config


def _check_padded(config: SearchConfig) -> None:
    """What would do nothing is not asked for by intent."""
    if config.training.batching != "padded":
        return
    for dimension in config.space.dimensions:
        if dimension.name in NOT_PADDED and dimension.values != (0,):
            raise UserError(
                f"{dimension.name} = {dimension.in_words()} does nothing in batches that are "
                "padded as in the book; leave it out, or take training.batching=buckets."
            )


def _check_line(key: str, value: object) -> None:
    """Names must be seen in lists, and fit into MLflow's columns."""
    longest = 1000 if key == "about" else 250
    if (
        not isinstance(value, str)
        or not value.isprintable()
        or len(value) > longest
        or not (value.strip() or key == "about")
    ):
        raise UserError(
            f"{key} = {short_repr(value)} is not allowed; it is a line of text, "
            f"at most {longest} characters."
        )


def _section(name: str, table: Mapping[str, Any]) -> Any:
    fields = {f.name: f for f in dataclasses.fields(SECTIONS[name])}
    for key in table:
        if key not in fields:
            raise unknown_choice(f"key in [{name}]", key, fields)
    return SECTIONS[name](**{key: check_field(fields[key], v) for key, v in table.items()})


def _check_keep_models(text: str) -> None:
    if text not in ("all", "best") and not (text.isascii() and text.isdigit() and len(text) < 10):
        raise UserError(
            f"keep_models = {short_repr(text)} is not allowed; it is all, best, "
            "or a number of models."
        )


def _check_cluster(address: str) -> None:
    parts = urlsplit(address) if address.isprintable() else urlsplit("")
    with contextlib.suppress(ValueError):  # the port is none
        if address in ("", LOCAL) or (
            parts.scheme in ("tcp", "tls") and parts.hostname and parts.port
        ):
            return
    raise UserError(
        f"cluster {short_repr(address)} is no Dask scheduler's address; write tcp://HOST:8786 or "
        f"tls://HOST:8786, or {LOCAL} for processes of this machine."
    )


def load_config(path: str | None, overrides: Mapping[str, object] = {}) -> SearchConfig:
    """The configuration in a TOML file, or in a bundled workflow named without ``.toml``.

    Without a file it is the workflow ``default``; but overrides that name hyperparameters then
    make up the whole space, and everything else keeps the listing's value.

    Raises:
        UserError: no such file, not TOML, or a wrong key or value in it.
    """
    if path is None and any(key.startswith("space.") for key in overrides):
        return parse_config({}, overrides)
    import tomllib  # here: a shell that completes a word waits for all that is imported above

    text, origin = _read(path or "default")
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also for numbers and nesting without end
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
        f"no file {short_repr(path)}; give the path of a TOML file, or one of {', '.join(known)}."
    )


def bundled_workflows() -> dict[str, Path]:
    """The workflows that come with the package, by name: in a wheel inside it, else beside it."""
    import importlib.resources

    package = Path(str(importlib.resources.files("imdbtune")))
    for folder in (package / "workflows", package.parent / "workflows"):
        if folder.is_dir():
            return {p.stem: p for p in sorted(folder.glob("*.toml"))}
    return {}
