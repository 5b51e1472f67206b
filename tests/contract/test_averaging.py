"""An average of models is a model: plain layers, one file, each member as it is by itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from imdbtune.averaging import Averaging, common_params
from imdbtune.data.batches import validation_split
from imdbtune.data.corpus import Corpus
from imdbtune.data.demo import demo_corpus
from imdbtune.errors import ExportFailed
from imdbtune.evaluation import probabilities
from imdbtune.export.format import Trained
from imdbtune.model import initialize, is_average, plain_model
from imdbtune.params import TrialParams
from imdbtune.scores import measure
from imdbtune.tracking import save_model
from imdbtune.trial import TrialSpec

PARAMS = (
    TrialParams(rnn="gru", units=4, maxlen=30, vocabulary=300, embedding=4),
    TrialParams(
        rnn="lstm", units=3, maxlen=60, vocabulary=800, embedding=4, pooling="max_mean", bigrams=64
    ),
    TrialParams(rnn="simple_rnn", units=4, maxlen=60, vocabulary=300, bidirectional=True),
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return demo_corpus(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    folder = tmp_path_factory.mktemp("members")
    files = []
    for number, params in enumerate(PARAMS):
        model = plain_model(params)
        initialize(model, seed=number)
        for weight in model.weights:  # else all answers lie close to 0.5
            weight.assign(3 * weight)
        files.append(folder / f"{number}.keras")
        model.save(files[-1])
    return tuple(files)


@pytest.mark.parametrize("hold_out", [True, False])
def test_the_average_answers_the_mean_of_what_its_members_answer(
    corpus: Corpus, members: tuple[Path, ...], tmp_path: Path, hold_out: bool
) -> None:
    common = common_params(PARAMS)
    assert (common.maxlen, common.vocabulary) == (60, 800)
    reviews = 150
    spec = TrialSpec(common, corpus.folder, tmp_path, reviews=reviews, hold_out=hold_out)
    result = Averaging(members, PARAMS)(spec, lambda execution, epoch: None)
    rows = validation_split(reviews)[1] if hold_out else np.arange(reviews)
    alone = [
        probabilities(file, corpus.train, rows, params, padded=False)
        for file, params in zip(members, PARAMS, strict=True)
    ]
    together = probabilities(result.model, corpus.train, rows, common, padded=False)
    assert np.ptp(together) > 0.01
    np.testing.assert_allclose(together, np.mean(alone, axis=0), atol=1e-6)
    expected = measure(np.mean(alone, axis=0), corpus.train.labels[rows])
    prefix = "val_" if hold_out else ""
    assert result.score == expected["accuracy"] == result.best[f"{prefix}accuracy"]
    assert result.best[f"{prefix}loss"] == pytest.approx(expected["loss"], abs=1e-6)


def test_it_has_no_weights_for_the_formats_that_are_written_out_by_hand(
    members: tuple[Path, ...], corpus: Corpus, tmp_path: Path
) -> None:
    spec = TrialSpec(common_params(PARAMS), corpus.folder, tmp_path, reviews=50)
    result = Averaging(members, PARAMS)(spec, lambda execution, epoch: None)
    trained = Trained(result.model, spec.params, masked=True)
    assert is_average(trained.model)
    save_model(result.model, tmp_path / "mlflow")  # with its example
    assert (tmp_path / "mlflow" / "MLmodel").exists()
    assert not is_average(plain_model(PARAMS[0]))
    with pytest.raises(ExportFailed, match="mean of several models"):
        trained.weights()
