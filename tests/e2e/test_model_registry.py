"""The winner as a registered model: found by its alias, and answering to text without imdbtune."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from imdbtune import api
from imdbtune.cli.app import app
from imdbtune.errors import UserError
from imdbtune.models.builders import plain_model
from imdbtune.tracking import model_registry
from imdbtune.tracking.connection import connect
from imdbtune.tracking.entities import Trial
from imdbtune.training.spec import TrialSpec
from tests.support import Stub, isolate, make_config, run_search, untried_exports

pytestmark = pytest.mark.xdist_group("model registry")
TEXTS = ["w1 w2 w3", "", "unheard of", "w4 " * 30]


def write_model(spec: TrialSpec) -> None:
    """A real model, whose weights are far from zero, where a trial leaves its own."""
    model = plain_model(spec.params)
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=weights.shape) for weights in model.weights])
    spec.folder.mkdir(parents=True, exist_ok=True)
    model.save(spec.folder / "model.keras")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a search in it, whose models were kept, and a registered winner."""
    folder = tmp_path_factory.mktemp("registry")
    with pytest.MonkeyPatch.context() as patch:
        isolate(patch, folder)
        untried_exports(patch)  # a test here loads it from the registry
        words = json.dumps({f"w{rank}": rank for rank in range(1, 20)})
        (folder / "imdb_word_index.json").write_text(words)
        space = {"rnn": "gru", "units": [4, 8], "vocabulary": 20, "maxlen": 10}
        config = make_config(folder, space=space, tracking={"keep_models": "all"})
        run_search(config, folder, trainer=Stub(write_model))
        app(["best", "--register", "film reviews"], standalone_mode=False)
    return folder


@pytest.fixture
def here(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return isolate(monkeypatch, workspace)


@pytest.fixture
def winner(here: Path) -> Trial:
    return api.best()[1]


def probabilities(model: str) -> list[float]:
    return [prediction.probability for prediction in api.predict(model, TEXTS)]


def test_the_version_says_where_it_comes_from(winner: Trial) -> None:
    client = connect(f"sqlite:///{Path('mlflow.db').absolute()}")
    version = client.get_model_version_by_alias("film reviews", "champion")
    assert (int(version.version), version.run_id) == (1, winner.run_id)
    assert version.tags == {
        "imdbtune.search": "tiny",
        "imdbtune.search_id": winner.tags["imdbtune.search_id"],
        "imdbtune.trial": winner.trial_id,
        "imdbtune.objective": "val_accuracy",
        "imdbtune.score": str(winner.score),
        "imdbtune.data": winner.tags["imdbtune.data"],
        "imdbtune.data_digest": winner.tags["imdbtune.data_digest"],
    }


def test_it_answers_to_text_where_imdbtune_cannot_be_imported(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process; the test of the format ``mlflow`` starts a new one."""
    import mlflow

    uri = "models:/film reviews@champion"
    expected = probabilities(uri)
    mlflow.set_tracking_uri(f"sqlite:///{here / 'mlflow.db'}")
    with monkeypatch.context() as patch:
        for name in [name for name in sys.modules if name.partition(".")[0] == "imdbtune"]:
            patch.setitem(sys.modules, name, None)
        alone = mlflow.pyfunc.load_model(uri).predict(TEXTS)["probability"]
    np.testing.assert_allclose(alone, expected, rtol=0, atol=1e-6)
    assert np.ptp(alone) > 0.01


def test_every_uri_of_a_model_predicts_alike(winner: Trial) -> None:
    """The registered one, and the trial's own, which has no words with it."""
    expected = probabilities("models:/film reviews/1")
    for uri in (f"runs:/{winner.run_id}/model", f"models:/{winner.model_id}"):
        np.testing.assert_allclose(probabilities(uri), expected, rtol=0, atol=1e-6)


def test_both_models_have_an_example_which_they_take(winner: Trial, tmp_path: Path) -> None:
    """The model's page shows it; its ids are those that the model knows."""
    import mlflow
    from mlflow.models import Model

    client = connect(f"sqlite:///{Path('mlflow.db').absolute()}")
    for uri, count in (("models:/film reviews@champion", 2), (f"runs:/{winner.run_id}/model", 1)):
        folder = model_registry.fetch(client, uri, tmp_path / str(count))
        described = Model.load(str(folder))
        example = described.load_input_example(str(folder))
        answers = mlflow.pyfunc.load_model(str(folder)).predict(example)
        assert len(answers) == count
        if count == 1:
            assert example["ids"].tolist() == [[1, 14, 2, 16]]


def test_the_trial_keeps_its_own_model(winner: Trial) -> None:
    """What is registered is not taken for the model that the trial has trained."""
    client = connect(f"sqlite:///{Path('mlflow.db').absolute()}")
    outputs = client.get_run(winner.run_id).outputs.model_outputs
    assert [output.model_id for output in outputs] == [winner.model_id]


@pytest.mark.parametrize(
    "uri",
    ["models:/nothing@champion", "models:/film reviews/7", "models:/", "runs:/", "runs:/0/model"],
)
def test_no_such_model(here: Path, uri: str) -> None:
    with pytest.raises(UserError, match=r"no model .* give models:/NAME@champion") as raised:
        api.predict(uri, TEXTS)
    assert len(str(raised.value).splitlines()) == 1
