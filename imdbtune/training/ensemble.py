"""The mean of several trained models, as a model: a trainer that trains nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from imdbtune.config.hyperparameters import PARAMETERS, TrialParams
from imdbtune.data.batches import limit_rows, validation_split
from imdbtune.data.corpus import Split, read_corpus
from imdbtune.errors import UserError
from imdbtune.models.metrics import measure
from imdbtune.models.nb_linear import LinearModel, fit
from imdbtune.models.safe_load import load_keras
from imdbtune.tracking.mlflow_links import as_text, run_link
from imdbtune.tracking.reader import Search, Trial
from imdbtune.training.evaluation import probabilities
from imdbtune.training.spec import OnEpoch, TrialResult, TrialSpec

if TYPE_CHECKING:
    import keras

LINKED = 20  # members that a description names; a tag has its limits


def check_members(members: Sequence[Trial], linear: bool = False) -> None:
    """Raise UserError unless the models of these runs can be averaged."""
    for member in members:
        if member.tags.get("imdbtune.batching") == "padded":
            raise UserError(
                f"{member.name} (run {member.run_id}) was trained on padded reviews, as in the "
                "book, and cannot be averaged with others; search with training.batching=buckets."
            )
    if len(members) + linear < 2:
        raise UserError(
            "an ensemble needs two different configurations that have finished; there is one."
        )


def common_params(members: Sequence[TrialParams], linear: bool = False) -> TrialParams:
    """What stands for all: the longest maxlen, the largest vocabulary, else the first one's.

    A linear model reads whole reviews, and all words.
    """
    values = members[0].as_dict()
    for name in ("maxlen", "vocabulary"):
        most = max(int(params.as_dict()[name]) for params in members)
        values[name] = int(PARAMETERS[name].metadata["high"]) if linear else most
    return TrialParams.from_values(values)


def description(search: Search, members: Sequence[Trial], linear: bool = False) -> str:
    """What MLflow's page of the mean says of it, in Markdown, with links to its members."""
    links = [f"[{as_text(m.name)}]({run_link(search, m.run_id)})" for m in members[:LINKED]]
    others = [f"{len(members) - LINKED} others"] if len(members) > LINKED else []
    beside = (
        "; half the say is that of a linear model on words and pairs of words" if linear else ""
    )
    return (
        f"The mean of what {len(members)} models say: {', '.join([*links, *others])}{beside}. Its "
        "parameters are those of the first, but the longest maxlen and the largest vocabulary."
    )


def written(members: Sequence[TrialParams]) -> str:
    """The members' hyperparameters as JSON for a tag: what they share, and what is each one's."""
    every = [params.as_dict() for params in members]
    shared = {k: v for k, v in every[0].items() if all(values[k] == v for values in every)}
    own = [{k: v for k, v in values.items() if k not in shared} for values in every]
    return json.dumps({"shared": shared, "own": own}, separators=(",", ":"))


def read(tag: str) -> tuple[TrialParams, ...]:
    """What :func:`written` made; nothing of a tag that cannot be read."""
    try:
        told = json.loads(tag)
        return tuple(TrialParams.from_values({**told["shared"], **own}) for own in told["own"])
    except (ValueError, TypeError, KeyError, UserError):
        return ()


def fit_linear(reviews: Split) -> LinearModel:
    """The linear model of all these reviews, which takes half a minute.

    Raises:
        UserError: there is none.
    """
    try:
        return fit(reviews)
    except ValueError as error:
        raise UserError(f"no linear model: {error}; leave --with-linear out.") from error


@dataclass(frozen=True)
class EnsembleSpec:
    """Averages the models in ``files``, and a linear model if there is one, instead of training.

    The history has one "epoch": the mean's figures on the held-out reviews, or on all of them if
    none were held out.
    """

    files: tuple[Path, ...]
    params: tuple[TrialParams, ...]
    linear: LinearModel | None = None

    def __call__(self, spec: TrialSpec, on_epoch: OnEpoch) -> TrialResult:
        """As any trainer."""
        from imdbtune.models.builders import averaged_model

        began = time.monotonic()
        members = [(load_keras(f), p) for f, p in zip(self.files, self.params, strict=True)]
        model = averaged_model(members, spec.params, self._linear_network(spec.params))
        spec.folder.mkdir(parents=True, exist_ok=True)
        path = spec.folder / "model.keras"
        model.save(path)
        train = read_corpus(spec.corpus).train
        count = limit_rows(len(train), spec.reviews)
        rows = validation_split(count)[1] if spec.hold_out else np.arange(count)
        chances = probabilities(path, train, rows, spec.params, padded=False)
        prefix = "val_" if spec.hold_out else ""
        found = measure(chances, train.labels[rows])
        seconds = time.monotonic() - began
        epoch = {"epoch": 1.0, **{prefix + k: v for k, v in found.items()}, "seconds": seconds}
        on_epoch(0, epoch)
        return TrialResult(
            history=(epoch,),
            best_epoch=1,
            scores=(epoch[spec.measure],),
            seconds=seconds,
            parameter_count=int(model.count_params()),
            model=path,
        )

    def _linear_network(self, common: TrialParams) -> keras.Model | None:
        from imdbtune.models.nb_linear_keras import as_table, linear_network

        return linear_network(as_table(self.linear, common.vocabulary)) if self.linear else None
