"""Average the models of several trials as one tracked model."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imdbtune.cluster.trial_job import Trainer
from imdbtune.config.hyperparameters import convert
from imdbtune.config.objectives import statistic_of
from imdbtune.errors import UserError
from imdbtune.search import ensemble_tags
from imdbtune.search.context import Context
from imdbtune.search.rerun import TrackedTraining, train_tracked
from imdbtune.search.trusted_sources import find_code
from imdbtune.tracking import mlflow_names, reader, writer
from imdbtune.tracking.entities import Search, Trial
from imdbtune.tracking.model_files import fetch_linear, fetch_model
from imdbtune.training.spec import TrainingSettings, TrialSpec

if TYPE_CHECKING:
    from imdbtune.data.corpus import Corpus
    from imdbtune.models.nb_linear import LinearModel
    from imdbtune.tracking.connection import MlflowClient


def check_members(
    members: Sequence[Trial], linear: bool = False, *, refitted: bool = False
) -> None:
    """Raise UserError unless the models of these runs can be averaged.

    Args:
        members: the runs.
        linear: whether a linear model is added.
        refitted: whether their configurations are trained again, on all reviews.
    """
    for member in members:
        if member.folds and not refitted:
            raise UserError(
                f"{member.name} (run {member.run_id}) was cross-validated, and the models of its "
                "folds have been trained on different reviews; average models that are trained on "
                "all (--refit)."
            )
        if member.params.own is not None:
            raise UserError(
                f"{member.name} (run {member.run_id}) is a model of {member.params.own.build}; "
                "only imdbtune's own models can be averaged."
            )
        if member.tags.get(mlflow_names.BATCHING) == "padded":
            raise UserError(
                f"{member.name} (run {member.run_id}) was trained on padded reviews, as in the "
                "book, and cannot be averaged with others; search with training.batching=buckets."
            )
    if len(members) + linear < 2:
        raise UserError(
            "an ensemble needs two different configurations that have finished; there is one."
        )


def average_models(
    client: MlflowClient,
    search: Search,
    members: Sequence[Trial],
    context: Context,
    *,
    linear: bool = False,
) -> Trial:
    """Average the models of these runs, as a run of its own.

    An existing run of the same ensemble is returned instead of a new one. The ensemble is measured
    on the validation reviews, or on all if its members were trained on all.

    Args:
        members: checked by :func:`check_members`.
        linear: add the search's linear model, with a weight of one half.

    Raises:
        UserError: a model has not been logged, or the search has no linear model.
    """
    from imdbtune.training.ensemble import EnsembleSpec, common_params

    known = reader.find_ensemble(client, reader.ensemble_tag(members, linear))
    if known is not None:
        return known
    corpus, facts = context.open_trial_corpus(members[0])
    reviews = int(convert("int", members[0].tags.get("imdbtune.reviews")) or 0)
    shared = writer.common_tags(facts, {"batching": "buckets", "reviews": reviews})
    tags = shared | _own_tags(search, members, linear)
    name = f"ensemble-of-{len(members)}{'-and-linear' if linear else ''}-{search.name}"
    experiment = reader.experiment_name(client, search.run_id)
    refitted = mlflow_names.REFITS in members[0].tags
    code = find_code(client, members[0], context)
    with tempfile.TemporaryDirectory() as scratch:
        files = _fetch_models(client, members, Path(scratch))

        def make_spec(folder: Path) -> tuple[TrialSpec, Trainer]:
            model = None
            if linear:
                held = search if not refitted else None
                model = _linear_model(client, held, corpus, reviews, Path(scratch))
            params = tuple(member.params for member in members)
            common = common_params(params, linear)
            settings = TrainingSettings(
                reviews=reviews,
                objective=_objective(search),
                epochs=1,
                hold_out=not refitted,
                metrics=search.tags.get(mlflow_names.METRICS, ""),
            )
            spec = TrialSpec(common, corpus.folder, folder, settings, own_metrics=code.metrics)
            return spec, EnsembleSpec(files, params, model)

        training = TrackedTraining(name, experiment, tags, corpus, facts, make_spec, code)
        return train_tracked(client, training, context)


def _own_tags(search: Search, members: Sequence[Trial], linear: bool) -> dict[str, str]:
    """Return the tags that only ensembles have."""
    metrics = search.tags.get(mlflow_names.METRICS, "")
    return {
        mlflow_names.OBJECTIVE: _objective(search),
        **({mlflow_names.METRICS: metrics} if metrics else {}),
        mlflow_names.ENSEMBLE_OF: reader.ensemble_tag(members, linear),
        mlflow_names.OF_SEARCH: search.run_id,
        mlflow_names.MEMBERS: ensemble_tags.write_members([member.params for member in members]),
        mlflow_names.NOTE: ensemble_tags.description(search, members, linear),
    }


def _objective(search: Search) -> str:
    """Return by what an ensemble is judged: accuracy, unless the search has another metric."""
    return f"val_{statistic_of(search.objective)}"


def _fetch_models(client: MlflowClient, members: Sequence[Trial], folder: Path) -> tuple[Path, ...]:
    """Return the downloaded model files of the members."""
    files = []
    for number, member in enumerate(members):
        target = folder / str(number)
        target.mkdir()
        files.append(fetch_model(client, member, target))
    return tuple(files)


def _linear_model(
    client: MlflowClient, search: Search | None, corpus: Corpus, reviews: int, folder: Path
) -> LinearModel:
    """Return the linear model of a search; without one, a new one trained on all reviews."""
    from imdbtune.models.nb_linear import LinearModel
    from imdbtune.training.ensemble import fit_linear

    if search is None:
        reviews_used = corpus.train.head(reviews or len(corpus.train))
        return fit_linear(reviews_used, len(corpus.labels))
    return LinearModel.load(fetch_linear(client, search, folder))
