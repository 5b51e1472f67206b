"""The model of a trial outside its search: exported, registered, or loaded to predict."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from imdbtune.config.hyperparameters import TrialParams
from imdbtune.data.download import Progress
from imdbtune.search.context import Context
from imdbtune.search.ensemble_tags import read_members
from imdbtune.search.trusted_sources import needed_source, trusts_export
from imdbtune.tracking import mlflow_names, reader, run_record
from imdbtune.tracking.entities import Trial
from imdbtune.tracking.model_files import fetch_model

if TYPE_CHECKING:
    from imdbtune.data.corpus import Corpus
    from imdbtune.export.predictor import Predictor
    from imdbtune.tracking.connection import MlflowClient
    from imdbtune.tracking.model_registry import Version


@dataclass(frozen=True)
class ExportRequest:
    """What an export contains.

    Args:
        formats: names of export formats.
        overwrite: replace an existing export instead of adding formats to it.
        metrics: shown in addition to those of the trial.
    """

    formats: Sequence[str] = ("keras",)
    overwrite: bool = False
    metrics: Mapping[str, float] = field(default_factory=dict)


def export_trial(
    client: MlflowClient,
    trial: Trial,
    folder: Path,
    request: ExportRequest,
    context: Context,
    progress: Progress | None = None,
) -> Path:
    """Write a trial's model with its vocabulary, metadata and README to ``folder``.

    Args:
        progress: called with the number of finished steps.

    Raises:
        UserError: the model or the corpus is missing, the folder cannot be written, or packages of
            a format are not installed.
        ExportFailed: the model cannot be exported to a format.
    """
    from imdbtune.export.format import Trained
    from imdbtune.export.formats import export_model
    from imdbtune.export.verify import sample_texts
    from imdbtune.export.writing import ExportContents

    corpus, _ = context.open_trial_corpus(trial)
    words = corpus.word_index()
    members = read_members(trial.tags.get(mlflow_names.MEMBERS, ""))
    metadata = _metadata(trial, corpus, members, request.metrics)
    facts = run_record.read_facts(client, trial).items()
    metadata["versions"] = {
        name.removeprefix("version."): v for name, v in facts if name.startswith("version.")
    }
    with tempfile.TemporaryDirectory() as scratch:
        model = fetch_model(client, trial, Path(scratch))
        source = needed_source(client, trial, model, context)
        return export_model(
            Trained(
                model, trial.params, not trial.reads_padding, members, source, len(corpus.labels)
            ),
            request.formats,
            ExportContents(words, metadata),
            sample_texts(corpus.train, words),
            folder,
            request.overwrite,
            progress,
        )


def _metadata(
    trial: Trial, corpus: Corpus, members: Sequence[TrialParams], metrics: Mapping[str, float]
) -> dict[str, object]:
    """Return what the ``metadata.json`` of an export says of a trial."""
    from imdbtune.models.mix_weights import from_metrics

    linear = mlflow_names.LINEAR in trial.tags.get(mlflow_names.ENSEMBLE_OF, "").split(",")
    weights = from_metrics(trial.metrics)
    return {
        "name": trial.name,
        "run_id": trial.run_id,
        "parameters": trial.params.as_dict(),
        **({"members": [params.as_dict() for params in members]} if members else {}),
        **({"linear": True} if linear else {}),
        **({"weights": weights} if weights else {}),
        **_own_model(trial),
        "batching": "padded" if trial.reads_padding else "buckets",
        "metrics": {**trial.metrics, **metrics},
        "data": {"name": corpus.name, "title": corpus.title, "digest": corpus.digest},
        "labels": list(corpus.labels),
    }


def _own_model(trial: Trial) -> dict[str, object]:
    """Return what the metadata say of a user's own model, if it is one."""
    own, members = trial.params.own, trial.tags.get(mlflow_names.ENSEMBLE_OF, "")
    if own is None:
        return {}
    averaged = {"averaged": len(members.split(","))} if members else {}
    return {"own_model": {"build": own.build, "sha256": own.digest, **averaged}}


def register_trial(
    client: MlflowClient,
    trial: Trial,
    name: str,
    context: Context,
    progress: Progress | None = None,
) -> Version:
    """Register a trial's model for raw text in MLflow, and make it the champion.

    Raises:
        UserError: an invalid name, the store refuses it, or as in :func:`export_trial`.
        ExportFailed: as in :func:`export_trial`.
    """
    from imdbtune.export.folder import read_export
    from imdbtune.export.mlflow_format import MLFLOW, MODEL
    from imdbtune.tracking import model_registry

    model_registry.check_name(name)
    trial = reader.read_run(client, trial.run_id)  # with later metrics, such as test accuracy
    request = ExportRequest(formats=(MLFLOW.name,))
    with tempfile.TemporaryDirectory() as scratch:
        folder = export_trial(client, trial, Path(scratch, "export"), request, context, progress)
        labels = read_export(folder).labels
        return model_registry.register(client, trial, name, folder / MODEL, labels)


def load_predictor(model: str, model_format: str, context: Context) -> Predictor:
    """Load an exported model, or one in MLflow.

    Args:
        model: an export folder, or a URI such as ``models:/NAME@champion``.
        model_format: format of an export folder; default: its first.

    Raises:
        UserError: the folder is not an export, or MLflow has no such model.
    """
    from imdbtune.export.mlflow_format import export_in
    from imdbtune.export.predictor import Predictor
    from imdbtune.tracking import model_registry

    if not model_registry.is_uri(model):
        folder = export_in(Path(model))
        return Predictor.load(folder, model_format, trusts_export(folder, context))
    client = context.connect_for_reading()
    with tempfile.TemporaryDirectory() as scratch:
        folder = model_registry.fetch(client, model, Path(scratch))
        inner = export_in(folder)
        if inner != folder:
            return Predictor.load(inner, model_format, trusts_export(inner, context))
        trial = reader.read_run(client, model_registry.run_of_version(folder))
        corpus, _ = context.open_trial_corpus(trial)
        words, labels = corpus.word_index(), corpus.labels
        data, padded = folder / "data", trial.reads_padding
        source = needed_source(client, trial, data / "model.keras", context)
        return Predictor.of_file(data, trial.params, words, padded, labels, source)
