"""The names of tags and metrics in MLflow, and the values that they may have."""

from __future__ import annotations

from collections.abc import Mapping

from imdbtune.models.metrics.metric import epoch_names

KIND = "imdbtune.kind"  # search, trial, baseline, train or confirm
SEARCH = "imdbtune.search"
SEARCH_ID = "imdbtune.search_id"
TRIAL = "imdbtune.trial"
ATTEMPT = "imdbtune.attempt"  # from 1
BASELINE = "imdbtune.baseline"  # LINEAR or MAJORITY
LINEAR, MAJORITY = "nb-linear", "majority"
OBJECTIVE = "imdbtune.objective"
OBJECTIVES = "imdbtune.objectives"  # on a search: all of them, if there are several
LEARNED_FROM = "imdbtune.learn_from"  # what a search was told to learn from
REQUIRE = "imdbtune.require"  # the condition that the winner meets
DATA = "imdbtune.data"
DIGEST = "imdbtune.data_digest"
CORPUS = "imdbtune.corpus"
READING = "imdbtune.corpus_reading"  # as JSON: the columns of a table, and its split
BATCHING = "imdbtune.batching"
CLUSTER = "imdbtune.cluster"  # on a search: the address of its last Dask scheduler
FOLDER = "imdbtune.folder"  # on a search: host and folder of its journal
CONFIRMS = "imdbtune.confirms"  # the run of the search, or of the trial, that is trained again
CONFIRMED_BY = "imdbtune.confirmed_by"  # on a search: the run that holds the confirmation
ENSEMBLE_OF = "imdbtune.ensemble_of"  # the runs whose models are averaged, and maybe LINEAR
MEMBERS = "imdbtune.members"  # their hyperparameters, as JSON
REFITS = "imdbtune.refits"  # the run whose configuration was trained on all reviews
OF_SEARCH = "imdbtune.of_search"  # the search that a model was derived from
ESTIMATED = "estimated_seconds"  # on a search: the estimate of search_seconds
TEST_EVALUATIONS = "test_looks"  # on a search: models evaluated on the test reviews
CONTINUED = "imdbtune.continued_after"  # on a trial: the last epoch of an earlier attempt
KEY = "imdbtune.key"  # the name of a run before MLflow gives it an id
REASON = "imdbtune.reason"
DISCARDED = "imdbtune.discarded"  # on a trial that is not to be chosen: why; "false": it may be
DELETED_WITH = "imdbtune.deleted_with"  # on a deleted run: the search that was deleted as a whole
BEST = "imdbtune.best"  # on a search: the name that its page gives the best trial
BEST_RUN_ID = "imdbtune.best_run_id"
# On a KILLED trial that has a result: its last epoch, or how many folds it has trained.
PRUNED = "imdbtune.pruned_after"
FOLDS = "imdbtune.folds"  # of a cross-validation
VALIDATION_REVIEWS = "imdbtune.validation_reviews"
ABOUT = "imdbtune.about"  # on a search: the text of its configuration
TUNER = "imdbtune.tuner"  # on a search: its sampler
MODEL = "imdbtune.model"  # file and function of a user's own model
METRICS = "imdbtune.metrics"  # that not every search has, with commas
OWN_METRICS = "imdbtune.own_metrics"  # of these, the user's own, as JSON
OWN_VALUES = "imdbtune.model_values"  # on a trial: what it draws, as JSON
GIT_COMMIT = "mlflow.source.git.commit"
SOURCE = {"mlflow.source.name": "imdbtune", "mlflow.source.type": "LOCAL"}
PARENT = "mlflow.parentRunId"
NOTE = "mlflow.note.content"
EXPERIMENT_KIND = "mlflow.experimentKind"
OPEN = ("RUNNING", "SCHEDULED")
CURVES = epoch_names()
EPOCH_METRICS = (*CURVES, "seconds")


def pruned_after(tags: Mapping[str, str]) -> int:
    """Return the epoch or fold after which a KILLED run was pruned, by its tags; 0: it was not."""
    return _count(tags.get(PRUNED, ""))


def folds_of(tags: Mapping[str, str]) -> int:
    """Return the number of folds of a run's cross-validation; 0: it has none."""
    return _count(tags.get(FOLDS, ""))


def _count(value: str) -> int:
    return int(value) if value.isdecimal() and len(value) < 10 else 0


def pruned_reason(after: int, folds: int = 0) -> str:
    """Return why a trial was ended after an epoch, or after a fold of ``folds``; empty for 0."""
    unit = "fold" if folds else "epoch"
    return f"pruned after {unit} {after}" if after else ""


def folds_error_name(measure: str) -> str:
    """Return the name of the standard error over folds of a trial's objective."""
    return f"best_{measure}_se"
