"""Trained models in MLflow: saved in its form by the worker, uploaded once by the delivery."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imdbtune.config.own_model import ModelSource
from imdbtune.models.safe_load import load_keras
from imdbtune.tracking.mlflow_names import EPOCH_METRICS, GIT_COMMIT, SOURCE

if TYPE_CHECKING:
    import keras
    import numpy as np
    import numpy.typing as npt
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run

EXAMPLE = (1, 14, 22, 16)  # "this film was" in IMDB's ids; the first one starts a review
REQUIREMENTS = ("tensorflow", "keras", "numpy")


def save_model(path: Path, folder: Path, own: OwnInput | None = None) -> None:
    """Write a ``.keras`` file to a folder in MLflow's form, with its signature and an example.

    Args:
        own: of a user's own model.
    """
    import mlflow
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    from imdbtune.data.corpus import OOV

    ids = TensorSpec(np.dtype("int32"), (-1, own.maxlen if own else -1), name="ids")
    model = load_keras(path, own.source if own else None)
    example = np.array([EXAMPLE], np.int32)
    if own is None:
        known = next(layer.input_dim for layer in _layers(model) if hasattr(layer, "input_dim"))
    else:
        known = own.vocabulary
        example = np.pad(example, ((0, 0), (own.maxlen, 0)))[:, -own.maxlen :]
    example = np.where(example < known, example, OOV)
    out = TensorSpec(np.dtype("float32"), (-1, _columns(model, example)), name="probability")
    folder.mkdir(parents=True)  # MLflow writes the example before it creates the folder
    mlflow.keras.save_model(
        model,
        str(folder),
        signature=ModelSignature(inputs=Schema([ids]), outputs=Schema([out])),
        input_example={"ids": example},
        # Inferring them would take MLflow a process of its own for each model.
        pip_requirements=[f"{p}=={importlib.metadata.version(p)}" for p in REQUIREMENTS],
    )


@dataclass(frozen=True)
class OwnInput:
    """What a user's own model needs to be opened, and the ids that it reads."""

    source: ModelSource
    maxlen: int
    vocabulary: int


def _columns(model: keras.Model, example: npt.NDArray[np.int32]) -> int:
    """Return the number of a model's outputs; only functional models know it."""
    shape = getattr(model, "output_shape", None) or model(example, training=False).shape
    return int(shape[-1])


def _layers(model: keras.Model) -> Iterator[keras.Layer]:
    """Iterate over a model's layers and those of the models inside it."""
    for layer in model.layers:
        yield layer
        if hasattr(layer, "layers"):
            yield from _layers(layer)


def upload_model(client: MlflowClient, run_id: str, folder: Path) -> None:
    """Make a folder of :func:`save_model` the run's model; a second call changes nothing.

    MLflow's ``Model.log`` does the same for a model in memory, but creates another one when it is
    called again after a lost answer, and writes to the tracking URI of the whole process.
    """
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model

    run = client.get_run(run_id)
    model = _find_or_create(client, run)
    if model.status == "READY":
        return
    described = Model.load(str(folder))
    described.run_id, described.model_id = run_id, model.model_id
    described.model_uuid, described.artifact_path = model.model_id, model.artifact_location
    described.save(str(folder / "MLmodel"))
    client.log_model_artifacts(model.model_id, str(folder))
    _log_metrics(client, run, model.model_id)
    if not (run.outputs and run.outputs.model_outputs):
        epoch = int(run.data.metrics.get("best_epoch", 0))  # whose weights it has
        client.log_outputs(run_id, models=[LoggedModelOutput(model.model_id, step=epoch)])
    client.finalize_logged_model(model.model_id, "READY")


def _find_or_create(client: MlflowClient, run: Run) -> LoggedModel:
    experiment, run_id = run.info.experiment_id, run.info.run_id
    found = client.search_logged_models([experiment], f"source_run_id = '{run_id}'", max_results=1)
    if found:
        return found[0]
    source = {k: v for k, v in run.data.tags.items() if k in (*SOURCE, GIT_COMMIT)}
    return client.create_logged_model(
        experiment, name="model", source_run_id=run_id, tags=source, params=run.data.params
    )


def _log_metrics(client: MlflowClient, run: Run, model_id: str) -> None:
    """Log a run's final metrics for its model, with their old times so that none comes twice."""
    from mlflow.entities import Metric

    run_id = run.info.run_id
    values = run.data.metrics
    of_epochs = {*EPOCH_METRICS, *(name for name in values if f"best_{name}" in values)}
    names = [name for name in values if name not in of_epochs and "/" not in name]
    last = [client.get_metric_history(run_id, name)[-1] for name in names]
    used = run.inputs.dataset_inputs if run.inputs else []
    data = (used[0].dataset.name, used[0].dataset.digest) if used else (None, None)
    client.log_batch(
        run_id,
        metrics=[
            Metric(m.key, m.value, m.timestamp, m.step, model_id, *data, run_id) for m in last
        ],
    )
