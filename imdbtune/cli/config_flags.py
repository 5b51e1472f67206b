"""Flags that set keys of the configuration: one row each, from which help and docs derive.

A command takes them all as one parameter, ``overrides: SearchFlags``, which is a dictionary by
dotted key, such as ``{"tuner.max_trials": "20"}``. Flags that were not given are not in it.
"""

from __future__ import annotations

import dataclasses
import inspect
import keyword
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from imdbtune.config.extensions import SOURCES, further_names
from imdbtune.config.hyperparameters import PARAMETERS
from imdbtune.config.schema import SECTIONS
from imdbtune.errors import UserError, short_repr

# Groups of flags in the help, in order.
SPACE, SEARCH, TRAINING = "Space", "Search", "Training"
DATA, PLACE, OUTPUT = "Data", "Where it runs", "Output"
URI_HELP = "MLflow tracking store; default MLFLOW_TRACKING_URI, else sqlite:///mlflow.db."
PANELS = (SPACE, SEARCH, TRAINING, DATA, PLACE, OUTPUT)


def join_conditions(conditions: Sequence[str]) -> str:
    """Return the condition that several conditions hold."""
    return conditions[0] if len(conditions) == 1 else f"({') and ('.join(conditions)})"


@dataclass(frozen=True)
class ConfigFlag:
    """A flag that sets one key of the configuration.

    Args:
        key: as in ``--set``.
        metavar: of its value; ``""``: a switch, ``--x/--no-x``.
        panel: where the help lists it.
        flag: default: the key's last part, ``--max-trials`` for ``tuner.max_trials``.
        about: one sentence for the help; default: what the key's field says.
        join: makes one text of the values of a flag that may be repeated; ``None``: it may not.
    """

    key: str
    metavar: str
    panel: str
    flag: str = ""
    about: str = ""
    join: Callable[[Sequence[str]], str] | None = None

    @property
    def name(self) -> str:
        """The flag as users write it."""
        return self.flag or "--" + self.key.rpartition(".")[2].replace("_", "-")

    @property
    def parameter(self) -> str:
        """The name of the flag's value in a call."""
        name = self.name.removeprefix("--").replace("-", "_")
        return f"{name}_" if keyword.iskeyword(name) else name

    @property
    def choices(self) -> tuple[str, ...]:
        """The values among which its hyperparameter or setting chooses; ``()``: any."""
        field = field_of(self.key) if "." in self.key else None
        if field is None or not self.metavar:
            return ()
        return ("true", "false") if field.type == "bool" else tuple(field.metadata["choices"])

    def joined(self, value: Any) -> Any:
        """Return the value of a call; several as one text."""
        return self.join(value) if self.join and value else value

    def as_parameter(self) -> inspect.Parameter:
        """Return the flag as a parameter for typer."""
        spelled = self.name if self.metavar else f"{self.name}/--no-{self.name.removeprefix('--')}"
        option = typer.Option(
            spelled,
            metavar=self.metavar or None,
            help=self.about or _sentence(self.key),
            rich_help_panel=self.panel,
            # A variable would be split at its spaces.
            allow_from_autoenv=self.join is None,
        )
        kind: Any = str if self.metavar else bool | None
        if self.join:
            kind = list[str] | None
        return inspect.Parameter(
            self.parameter,
            inspect.Parameter.KEYWORD_ONLY,
            default="" if self.metavar and not self.join else None,
            annotation=Annotated[kind, option],
        )


def field_of(key: str) -> dataclasses.Field[Any]:
    """Return the field behind a dotted key of the configuration."""
    section, _, name = key.partition(".")
    if section == "space":
        return PARAMETERS[name]
    return next(f for f in dataclasses.fields(SECTIONS[section]) if f.name == name)


def _sentence(key: str) -> str:
    """Return what a key's field says of itself, with its choices."""
    described = field_of(key).metadata
    choices = f": {', '.join(described['choices'])}" if described["choices"] else ""
    about = str(described["about"])
    return f"{about[0].upper()}{about[1:]}{choices}."


@dataclass(frozen=True)
class ConfigFlags:
    """The flags of a command that set keys of the configuration, and ``--set`` for all others."""

    rows: tuple[ConfigFlag, ...] = ()

    def parameters(self) -> Iterator[inspect.Parameter]:
        """Yield the flags as parameters for typer."""
        for row in self.rows:
            yield row.as_parameter()
        yield inspect.Parameter(
            "settings", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Settings
        )

    def overrides(self, values: Mapping[str, Any]) -> dict[str, object]:
        """Return the values of a call by dotted key; ``--set`` takes precedence.

        Raises:
            UserError: a ``--set`` without key or value.
        """
        given = ((row.key, row.joined(values[row.parameter])) for row in self.rows)
        merged: dict[str, object] = {k: str(v) for k, v in given if v not in (None, "")}
        for setting in values["settings"] or []:
            key, equals, value = setting.partition("=")
            if not equals or "." not in key:
                raise UserError(
                    f"--set {short_repr(setting)} is not SECTION.KEY=VALUE; "
                    "write for example --set training.patience=3."
                )
            merged[key.strip()] = value.strip()
        return merged


Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Set any key of the configuration file, such as space.pooling=last,max or "
        "training.patience=3. May be repeated.",
        rich_help_panel=SPACE,
    ),
]

SPACE_ROWS = tuple(
    ConfigFlag(f"space.{name}", "VALUES", SPACE)
    for name in (
        *("rnn", "depth", "units", "maxlen", "bidirectional", "pooling", "dropout"),
        *("word_dropout", "batch_size", "optimizer", "learning_rate"),
    )
)
TUNER_ROWS = (
    ConfigFlag("tuner.kind", "KIND", SEARCH, "--tuner"),
    ConfigFlag("tuner.prune", "KIND", SEARCH),
    ConfigFlag(
        "tuner.tries",
        "VALUES",
        SEARCH,
        "--try",
        'A configuration to train first, such as "rnn=gru units=64". May be repeated.',
        join="; ".join,
    ),
    ConfigFlag(
        "tuner.require",
        "CONDITION",
        SEARCH,
        about="Train only configurations that meet it, such as parameter_count<=400000; of "
        "results, such as train_seconds<=60, choose only trials that meet it. Conditions as in "
        "compare --where. May be repeated.",
        join=join_conditions,
    ),
    ConfigFlag("tuner.learn_from", "SEARCH|auto", SEARCH),
    ConfigFlag("tuner.objective", "A,B", SEARCH),
    ConfigFlag("tuner.max_trials", "N", SEARCH),
    ConfigFlag("tuner.max_minutes", "M", SEARCH),
    ConfigFlag("tuner.until_flat", "N", SEARCH),
    ConfigFlag("tuner.executions", "N", SEARCH),
    ConfigFlag("tuner.folds", "K", SEARCH),
    ConfigFlag("tuner.trial_timeout", "M", SEARCH),
    ConfigFlag("tuner.retries", "N", SEARCH),
    ConfigFlag("tracking.baseline", "", SEARCH),
)
TRAINING_ROWS = (
    ConfigFlag("training.epochs", "N", TRAINING),
    ConfigFlag("training.patience", "N", TRAINING),
    ConfigFlag("tuner.seed", "N", TRAINING),
    ConfigFlag(
        "training.compile",
        "auto|on|off",
        TRAINING,
        about="Compile training with XLA; auto: if the training is long enough to gain from it.",
    ),
    ConfigFlag(
        "training.metrics",
        "NAME|FILE.py:FUNCTION",
        TRAINING,
        "--metric",
        f"A metric to log besides accuracy and loss: {', '.join(further_names())}, or your own "
        "function of (labels, probabilities), FILE.py:FUNCTION:min if smaller values are better. "
        "May be repeated.",
        join=",".join,
    ),
    ConfigFlag("training.class_weight", "none|balanced", TRAINING),
)
TABLE_ROWS = (
    ConfigFlag(
        "data.source",
        "SOURCE",
        DATA,
        "--data",
        f"Reviews: {', '.join(SOURCES)}. auto is imdb, or demo where imdb cannot be downloaded.",
    ),
    ConfigFlag("data.text_column", "NAME", DATA),
    ConfigFlag("data.label_column", "NAME", DATA),
    ConfigFlag(
        "data.label_at",
        "CONDITION",
        DATA,
        about="Divide a column of numbers into two labels by a condition such as '>=4'; rows that "
        "meet it are positive.",
    ),
    ConfigFlag("data.split_column", "NAME", DATA),
    ConfigFlag("data.test_share", "SHARE", DATA),
)
DATA_ROWS = (*TABLE_ROWS, ConfigFlag("data.reviews", "N", DATA))
CLUSTER_ROW = ConfigFlag("cluster.address", "ADDRESS", PLACE, "--cluster")
KEEP_ROW = ConfigFlag("tracking.keep_models", "all|best|N", OUTPUT)
RUN_ROWS = (
    ConfigFlag("name", "NAME", OUTPUT, about="Name of the run in MLflow."),
    ConfigFlag("tracking.experiment", "NAME", OUTPUT),
    ConfigFlag("tracking.system_metrics", "", OUTPUT),
    ConfigFlag(
        "tracking.uri",
        "URI",
        OUTPUT,
        "--tracking-uri",
        URI_HELP,
    ),
)

MODEL_ROW = ConfigFlag("model.build", "FILE.py:FUNCTION", SPACE, "--model")

TRAIN_ROWS = (MODEL_ROW, *SPACE_ROWS, *TRAINING_ROWS, *DATA_ROWS, *RUN_ROWS)
SEARCH_ROWS = (*TRAIN_ROWS, *TUNER_ROWS, CLUSTER_ROW, KEEP_ROW)

SearchFlags = Annotated[dict[str, object], ConfigFlags(SEARCH_ROWS)]
TrainFlags = Annotated[dict[str, object], ConfigFlags(TRAIN_ROWS)]
DataFlags = Annotated[dict[str, object], ConfigFlags(TABLE_ROWS)]
SetOnly = Annotated[dict[str, object], ConfigFlags()]
