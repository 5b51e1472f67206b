"""Everything that can be chosen by name: an extension is one module and one line here.

CONTRIBUTING.md says how to add an entry of each kind, here or from another package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from imdbtune.config.registry import Registry

if TYPE_CHECKING:
    from imdbtune.data.source import Source
    from imdbtune.export.format import Format
    from imdbtune.models.cells.base import Cell
    from imdbtune.models.metrics.metric import Metric
    from imdbtune.search.pruner import PrunerKind
    from imdbtune.search.sampler import SamplerKind

# The values of the hyperparameter ``rnn``.
CELLS: Registry[Cell] = Registry(
    "cell",
    "imdbtune.cells",
    {
        "simple_rnn": "imdbtune.models.cells.simple_rnn:SIMPLE_RNN",
        "lstm": "imdbtune.models.cells.lstm:LSTM",
        "gru": "imdbtune.models.cells.gru:GRU",
        "gru_v1": "imdbtune.models.cells.gru_v1:GRU_V1",
    },
)

SAMPLERS: Registry[SamplerKind] = Registry(
    "sampler",
    "imdbtune.samplers",
    {
        "random": "imdbtune.search.keras_tuner_kinds:RANDOM",
        "grid": "imdbtune.search.keras_tuner_kinds:GRID",
        "bayesian": "imdbtune.search.keras_tuner_kinds:BAYESIAN",
        "hyperband": "imdbtune.search.keras_tuner_kinds:HYPERBAND",
        "tpe": "imdbtune.search.optuna_kinds:TPE",
        "gp": "imdbtune.search.optuna_kinds:GP",
        "cmaes": "imdbtune.search.optuna_kinds:CMAES",
        "nsga2": "imdbtune.search.optuna_kinds:NSGA2",
    },
)

PRUNERS: Registry[PrunerKind] = Registry(
    "pruner",
    "imdbtune.pruners",
    {
        "median": "imdbtune.search.pruners:MEDIAN",
        "asha": "imdbtune.search.pruners:ASHA",
    },
)

METRICS: Registry[Metric] = Registry(
    "metric",
    "imdbtune.metrics",
    {
        "accuracy": "imdbtune.models.metrics.accuracy:ACCURACY",
        "loss": "imdbtune.models.metrics.loss:LOSS",
        "balanced_accuracy": "imdbtune.models.metrics.balanced_accuracy:BALANCED_ACCURACY",
        "f1": "imdbtune.models.metrics.f1:F1",
        "auc": "imdbtune.models.metrics.auc:AUC",
        "log_loss": "imdbtune.models.metrics.log_loss:LOG_LOSS",
    },
)
DEFAULT_OBJECTIVE = "val_accuracy"
ALWAYS = ("accuracy", "loss")  # measured in each search; other metrics where they are asked for


def measured_always() -> tuple[str, ...]:
    """Return the metrics of each search: accuracy and loss, and those that other packages add."""
    return (*ALWAYS, *METRICS.added)


def further_names() -> tuple[str, ...]:
    """Return the registered metrics that are measured where they are asked for."""
    always = measured_always()
    return tuple(name for name in METRICS if name not in always)


# imdbtune predicts with the first of them that an export folder has.
FORMATS: Registry[Format] = Registry(
    "format",
    "imdbtune.formats",
    {
        "keras": "imdbtune.export.keras_format:KERAS",
        "savedmodel": "imdbtune.export.savedmodel_format:SAVEDMODEL",
        "mlflow": "imdbtune.export.mlflow_format:MLFLOW",
        "numpy": "imdbtune.export.numpy_format:NUMPY",
        "onnx": "imdbtune.export.onnx_format:ONNX",
        "litert": "imdbtune.export.litert_format:LITERT",
    },
)

# A word names a source itself; the other forms are explained in imdbtune.data.source.
SOURCES: Registry[Source] = Registry(
    "data source",
    "imdbtune.sources",
    {
        "auto": "imdbtune.data.auto_source:AUTO",
        "imdb": "imdbtune.data.imdb_source:IMDB",
        "demo": "imdbtune.data.demo_source:DEMO",
        "PATH.npz": "imdbtune.data.npz_source:NPZ",
        "PATH.csv": "imdbtune.data.table_source:TABLE",
        "PATH.tsv": "imdbtune.data.table_source:TABLE",
        "PATH.jsonl": "imdbtune.data.table_source:TABLE",
        "PATH.parquet": "imdbtune.data.table_source:TABLE",
        "FOLDER": "imdbtune.data.folder_source:FOLDER",
    },
)


def registries() -> list[Registry[Any]]:
    """Return all registries, in the order of their definition."""
    return [value for value in globals().values() if isinstance(value, Registry)]
