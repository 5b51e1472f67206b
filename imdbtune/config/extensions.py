"""Everything that can be chosen by name: an extension is one module and one line here.

CONTRIBUTING.md says how to add an entry of each kind, here or from another package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from imdbtune.config.registry import Registry

if TYPE_CHECKING:
    from imdbtune.export.format import Format
    from imdbtune.models.cells.base import Cell
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
    },
)

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
