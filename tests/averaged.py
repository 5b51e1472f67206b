"""Averages of models, as ``imdbtune ensemble`` makes them, of members with random weights."""

from __future__ import annotations

from pathlib import Path

from imdbtune.config.extensions import CELLS
from imdbtune.config.hyperparameters import TrialParams
from imdbtune.data.corpus import Corpus
from imdbtune.models import nb_linear
from imdbtune.models.builders import initialize, plain_model
from imdbtune.models.nb_linear import LinearModel
from imdbtune.training.ensemble import EnsembleSpec, common_params
from imdbtune.training.spec import TrainingSettings, TrialSpec

PARAMS = (
    TrialParams(rnn="gru", units=4, maxlen=30, vocabulary=300, embedding=4),
    TrialParams(
        rnn="lstm", units=3, maxlen=60, vocabulary=800, embedding=4, pooling="max_mean", bigrams=64
    ),
    *(
        TrialParams(rnn=rnn, units=4, maxlen=60, vocabulary=300, bidirectional=True)
        for rnn in CELLS
        if rnn not in ("gru", "lstm")
    ),
)
TWO = PARAMS[:2]  # with the linear model: a third takes seconds in each format, and adds nothing
WEIGHTS = (0.4, 0.7)
REVIEWS = 150


def save_members(folder: Path, count: int = len(PARAMS)) -> tuple[Path, ...]:
    files = []
    for number, params in enumerate(PARAMS[:count]):
        model = plain_model(params)
        initialize(model, seed=number)
        for weight in model.weights:  # else all answers lie close to 0.5
            weight.assign(3 * weight)
        files.append(folder / f"{number}.keras")
        model.save(files[-1])
    return tuple(files)


def small_linear(demo: Corpus) -> LinearModel:
    return nb_linear.fit(demo.train.head(400))


def save_mix(demo: Corpus, folder: Path) -> Path:
    """Save the mix of :data:`TWO` models and a linear one in ``folder``; its file."""
    common = common_params(TWO, linear=True)
    spec = TrialSpec(common, demo.folder, folder, TrainingSettings(reviews=REVIEWS))
    mix = EnsembleSpec(save_members(folder, len(TWO)), TWO, small_linear(demo), WEIGHTS)
    return mix(spec, lambda execution, epoch: None).model
