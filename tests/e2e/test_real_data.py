"""A small search on the real reviews, and what is done with it after."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from threadpoolctl import threadpool_limits

from imdbtune.cli.app import app
from imdbtune.data.corpus import Corpus
from imdbtune.models import nb_linear
from tests.support import draw_nothing, isolate, untried_exports

pytestmark = pytest.mark.xdist_group("real data")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("real")


def run(folder: Path, cache: Path, *arguments: str) -> str:
    """Run a command in this process; returns what it prints."""
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as printed:
        isolate(patch, folder)
        patch.setenv("IMDBTUNE_CACHE", str(cache))
        draw_nothing(patch)
        untried_exports(patch)
        app([*arguments], standalone_mode=False)
    return printed.getvalue()


@pytest.fixture(scope="module")
def events(folder: Path, real_cache: Path, shared_data: Path) -> list[dict[str, Any]]:
    """What a grid search says with --json."""
    space = "none --rnn gru,simple_rnn --units 4 --maxlen 20 --tuner grid"
    small = "--reviews 400 --epochs 1 --workers 0 --name small --json"
    source = ("--data", str(shared_data / "imdb.npz"))
    no_report = ("--set", "tracking.report=false")
    told = run(folder, real_cache, "search", *source, *space.split(), *small.split(), *no_report)
    return [json.loads(line) for line in told.splitlines()]


def test_the_grid_is_searched_to_its_end(events: list[dict[str, Any]]) -> None:
    trials = events[-1]["trials"]
    assert events[-1]["event"] == "finished"
    assert {trial["rnn"] for trial in trials} == {"gru", "simple_rnn"}
    assert [trial["status"] for trial in trials] == ["FINISHED", "FINISHED"]
    assert trials[0]["best_val_accuracy"] >= trials[1]["best_val_accuracy"]
    assert sum(event["event"] == "epoch" for event in events) == 2


@pytest.fixture
def imdbtune(folder: Path, real_cache: Path) -> Callable[..., str]:
    return partial(run, folder, real_cache)


def test_what_was_searched_is_read_back_and_exported(
    events: list[dict[str, Any]],
    folder: Path,
    real_corpus: Corpus,
    imdbtune: Callable[..., str],
) -> None:
    """The linear model stands beside the trials."""
    rows = json.loads(imdbtune("compare", "small", "--json"))
    assert [row["run_id"] for row in rows] == [t["run_id"] for t in events[-1]["trials"]]
    told = json.loads(imdbtune("best", "--export", "winner", "--format", "numpy", "--json"))
    assert told["run_id"] == rows[0]["run_id"]
    metadata = json.loads((folder / "winner" / "metadata.json").read_text(encoding="utf-8"))
    assert metadata["data"]["digest"] == real_corpus.digest
    assert metadata["metrics"]["test_accuracy"] == told["test_accuracy"]
    assert told["majority_val_accuracy"] == pytest.approx(0.5, abs=0.15)
    assert told["baseline_val_accuracy"] > told["majority_val_accuracy"]
    assert f"reaches {told['baseline_val_accuracy']:.4f} in " in imdbtune("compare")


def test_the_linear_model_reaches_what_is_published(real_corpus: Corpus) -> None:
    """91.22 % with an SVM [Wang & Manning 2012]; logistic regression on all words reaches more."""
    with threadpool_limits(1):  # as in a search
        model = nb_linear.fit(real_corpus.train)
    reached = nb_linear.measure(real_corpus.test.labels, nb_linear.predict(model, real_corpus.test))
    assert reached["accuracy"] >= 0.91


def test_a_listing_trains_on_the_real_reviews(
    shared_data: Path, imdbtune: Callable[..., str]
) -> None:
    source = ("--data", str(shared_data / "imdb.npz"))
    small = ["--reviews", "400", "--epochs", "1", "--set", "space.maxlen=20", "--json"]
    told = imdbtune("train", "listing_6_27", *source, *small).splitlines()
    trained = json.loads(told[-1])
    assert (trained["event"], trained["status"]) == ("finished", "FINISHED")
    assert (trained["rnn"], trained["parameter_count"]) == ("lstm", 328_353)
