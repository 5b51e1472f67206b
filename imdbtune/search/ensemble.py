"""Average the models of several trials, or mix them with a linear model, as one tracked model."""

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
from imdbtune.search.rerun import TrackedTraining, train_on_all_reviews, train_tracked
from imdbtune.search.trusted_sources import find_code
from imdbtune.tracking import mlflow_names, reader, writer
from imdbtune.tracking.entities import Search, Trial
from imdbtune.tracking.model_files import fetch_model
from imdbtune.training.spec import TrainingSettings, TrialSpec

if TYPE_CHECKING:
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
        if member.folds and (linear or not refitted):
            remedy = ", without a linear model" if linear else ""
            raise UserError(
                f"{member.name} (run {member.run_id}) was cross-validated, and the models of its "
                "folds have been trained on different reviews; average models that are trained on "
                f"all (--refit){remedy}."
            )
        if linear and member.params.own is not None:
            raise UserError(
                f"{member.name} (run {member.run_id}) is a model of {member.params.own.build}, and "
                "a linear model can be mixed with imdbtune's own models only; leave --with-linear "
                "out."
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


def combine_models(
    client: MlflowClient,
    search: Search,
    members: Sequence[Trial],
    context: Context,
    *,
    refitted: bool = False,
    linear: bool = False,
) -> tuple[Trial, list[Trial]]:
    """Combine the models of these runs, or those of the same configurations on all reviews.

    An existing run of the same ensemble is returned instead of a new one. The ensemble is measured
    on the validation reviews, or on all if its members were trained on all.

    Args:
        members: checked by :func:`check_members`.
        refitted: train each configuration on all training reviews first.
        linear: instead of averaging, add the mean logit of the models and the logit of a linear
            model, with weights that are fitted to the validation reviews. So with ``refitted``, the
            models of the search are combined first.

    Returns:
        The ensemble, and the runs whose models it has.

    Raises:
        UserError: a model has not been logged, or no linear model can be trained or mixed.
    """
    if not refitted:
        return _combine(client, search, members, context, linear), [*members]
    mix = _combine(client, search, members, context, linear) if linear else None
    again = [train_on_all_reviews(client, member, context) for member in members]
    return _combine(client, search, again, context, linear, mix), again


def _combine(
    client: MlflowClient,
    search: Search,
    members: Sequence[Trial],
    context: Context,
    linear: bool,
    fitted: Trial | None = None,
) -> Trial:
    """Combine these models, with the weights of an earlier mix if it is given."""
    from imdbtune.models.mix_weights import from_metrics
    from imdbtune.training.ensemble import EnsembleSpec, common_params, linear_model

    known = reader.find_ensemble(client, members, linear)
    if known is not None:
        return known
    corpus, facts = context.open_trial_corpus(members[0])
    if linear and len(corpus.labels) > 2:
        raise UserError(
            "a linear model can be mixed with models of two labels only, and these reviews have "
            f"{len(corpus.labels)}; leave --with-linear out."
        )
    reviews = int(convert("int", members[0].tags.get("imdbtune.reviews")) or 0)
    shared = writer.common_tags(facts, {"batching": "buckets", "reviews": reviews})
    tags = shared | _own_tags(search, members, linear, fitted)
    name = f"ensemble-of-{len(members)}{'-and-linear' if linear else ''}-{search.name}"
    experiment = reader.experiment_name(client, search.run_id)
    refitted = mlflow_names.REFITS in members[0].tags
    code = find_code(client, members[0], context)
    with tempfile.TemporaryDirectory() as scratch:
        files = _fetch_models(client, members, Path(scratch))

        def make_spec(folder: Path) -> tuple[TrialSpec, Trainer]:
            model = linear_model(corpus, reviews, held_out=not refitted) if linear else None
            params = tuple(member.params for member in members)
            common = common_params(params, linear)
            settings = TrainingSettings(
                reviews=reviews,
                objective=_objective(search),
                epochs=1,
                hold_out=not refitted,
                metrics=search.tags.get(mlflow_names.METRICS, ""),
            )
            spec = TrialSpec(common, corpus.folder, folder, settings, code=code)
            weights = from_metrics(fitted.metrics) if fitted else ()
            return spec, EnsembleSpec(files, params, model, weights)

        training = TrackedTraining(name, experiment, tags, corpus, facts, make_spec, code)
        return train_tracked(client, training, context)


def _own_tags(
    search: Search, members: Sequence[Trial], linear: bool, fitted: Trial | None
) -> dict[str, str]:
    """Return the tags that only ensembles have."""
    metrics = search.tags.get(mlflow_names.METRICS, "")
    params = [member.params for member in members]
    built_here = all(each.own is None for each in params)
    return {
        mlflow_names.OBJECTIVE: _objective(search),
        **({mlflow_names.METRICS: metrics} if metrics else {}),
        mlflow_names.ENSEMBLE_OF: reader.ensemble_tag(members, linear),
        mlflow_names.OF_SEARCH: search.run_id,
        **({mlflow_names.MEMBERS: ensemble_tags.write_members(params)} if built_here else {}),
        mlflow_names.NOTE: ensemble_tags.description(search, members, linear, fitted),
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
