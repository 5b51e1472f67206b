"""``mlflow run .`` from end to end, in a folder that links to the project's files.

The ``python`` on the search path is a script, which hands the command that MLflow starts to the
process of the tests: there the libraries are imported already.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imdbtune import api
from imdbtune.cli.app import app
from imdbtune.data.corpus import Corpus
from imdbtune.search.workspace import workspace_of
from imdbtune.tracking import entities, mlflow_names, reader, writer
from imdbtune.tracking.connection import connect
from tests.forked import Surroundings, mlflow_cli, run_forked
from tests.support import isolate, untried_exports

pytestmark = pytest.mark.xdist_group("mlflow run")
ROOT = Path(__file__).resolve().parents[2]
LINKED = ("MLproject", "conda.yaml", "constraints.txt", "imdbtune", "workflows")
TINY = {"data": "demo", "reviews": 300, "epochs": 1}
NAME = 'it\'s "tiny", $HOME'  # what a shell would garble without MLflow's quotes
PYTHON = """#!/bin/sh
printf '%s\\0' "$@" >"$0.arguments"
env -0 >"$0.environment"
touch "$0.called"
until [ -s "$0.ended" ]; do sleep 0.05; done
read -r code <"$0.ended"
exit "$code"
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, demo: Corpus, common_folder: Path) -> Path:
    """The project's files without its folder: what a run leaves stays out of the checkout."""
    folder = tmp_path_factory.mktemp("project")
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)
    (folder / "cache").symlink_to(common_folder / "demo_cache")
    return folder


class Python:
    """The script in the place of ``python``, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "python"
        self.path.write_text(PYTHON)
        self.path.chmod(0o755)

    def file(self, name: str) -> Path:
        return self.path.with_name(f"python.{name}")

    def words(self, name: str) -> list[str]:
        return [os.fsdecode(word) for word in self.file(name).read_bytes().split(b"\0")[:-1]]

    def serve(self, call: Callable[[], Any]) -> Any:
        """Return what a call returns that starts ``python -m imdbtune``, which runs here."""
        for name in ("called", "ended"):
            self.file(name).unlink(missing_ok=True)
        with ThreadPoolExecutor(1) as pool:
            calling = pool.submit(call)
            while not (self.file("called").exists() or calling.done()):
                time.sleep(0.02)
            if not calling.done():
                code = 1
                try:
                    code = self.run()
                finally:
                    self.file("ended").write_text(f"{code}\n")
            return calling.result()

    def run(self) -> int:
        """Run the command; what MLflow has set for it is gone after it."""
        option, module, *arguments = self.words("arguments")
        assert (option, module) == ("-m", "imdbtune")
        with pytest.MonkeyPatch.context() as patch:
            for name, _, value in (line.partition("=") for line in self.words("environment")):
                if name.startswith(("MLFLOW_", "IMDBTUNE_")):
                    patch.setenv(name, value)
                assert name != "PWD" or Path(value) == Path.cwd()
            return int(app(arguments, standalone_mode=False) or 0)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Python:
    return Python(tmp_path_factory.mktemp("bin"))


@pytest.fixture(scope="module")
def here(project: Path, python: Python) -> Iterator[Path]:
    """A shell in which a virtual environment is activated; exports are not tried."""
    with pytest.MonkeyPatch.context() as patch:
        isolate(patch, project)
        untried_exports(patch)
        patch.setenv("IMDBTUNE_CACHE", str(project / "cache"))
        patch.delenv("PYTHONPATH", raising=False)
        programs = [python.folder, Path(sys.executable).parent]
        patch.setenv("PATH", os.pathsep.join([*map(str, programs), os.environ["PATH"]]))
        yield project


def mlflow_run(entry_point: str, **parameters: object) -> str:
    """Run an entry point; returns the id of the run that MLflow made for it."""
    given = [part for k, v in parameters.items() for part in ("-P", f"{k}={v}")]
    words = ["run", ".", "-e", entry_point, "--env-manager", "local", *given]
    with tempfile.TemporaryDirectory() as scratch:
        output, errors = Path(scratch, "output"), Path(scratch, "errors")
        around = Surroundings(Path.cwd(), dict(os.environ), output, errors)
        status = run_forked(mlflow_cli, around, words)
        told = errors.read_text("utf-8")
        assert status == 0, output.read_text("utf-8") + told
    found = re.search(r"Run \(ID '(\w+)'\) succeeded", told)
    assert found, told
    return found[1]


@pytest.fixture
def run(here: Path, python: Python) -> Callable[..., str]:
    """As :func:`mlflow_run`, by way of MLflow's Python API."""

    def call(entry_point: str, **parameters: object) -> str:
        import mlflow

        mlflow.set_tracking_uri(f"sqlite:///{here / 'mlflow.db'}")
        given = {name: str(value) for name, value in parameters.items()}
        made = python.serve(
            lambda: mlflow.projects.run(".", entry_point, parameters=given, env_manager="local")
        )
        assert made.get_status() == "FINISHED"
        return str(made.run_id)

    return call


@pytest.fixture(scope="module")
def search(here: Path, python: Python) -> entities.Search:
    """The search that ``mlflow run`` made, read back from MLflow."""
    space = {"rnn": "gru,simple_rnn,lstm", "units": 4, "maxlen": 20}
    space |= {"depth": 1, "pooling": "last", "learning_rate": 0.001}
    limits = {"max_trials": 2, "workers": 0, "set": "tracking.report=false"}
    run_id = python.serve(lambda: mlflow_run("search", name=NAME, **TINY, **space, **limits))
    found = reader.find_search(connect(f"sqlite:///{here}/mlflow.db"))
    assert found.run_id == run_id
    return found


@pytest.fixture(scope="module")
def trials(project: Path, search: entities.Search) -> list[entities.Trial]:
    return reader.read_trials(connect(f"sqlite:///{project}/mlflow.db"), search)


def test_the_search_is_the_run_that_mlflow_started(project: Path, search: entities.Search) -> None:
    client = connect(f"sqlite:///{project}/mlflow.db")
    made = client.get_run(search.run_id)
    assert made.info.status == "FINISHED"
    assert made.info.run_name == search.name == NAME
    assert made.data.tags["mlflow.project.entryPoint"] == "search"
    assert made.data.params["max_trials"] == made.data.params["tuner.max_trials"] == "2"
    config = tomllib.loads(reader.read_text(client, search.run_id, "config.toml"))
    assert config["tracking"]["report"] is False
    assert made.data.metrics["trials_finished"] == 2


def test_the_trials_are_its_children(search: entities.Search, trials: list[entities.Trial]) -> None:
    assert len({trial.params.rnn for trial in trials}) == len(trials) == 2
    for trial in trials:
        assert trial.status == "FINISHED"
        assert trial.tags[mlflow_names.PARENT] == search.run_id
        assert (trial.params.units, trial.params.maxlen) == (4, 20)
        assert trial.params.optimizer == "adam"  # of the workflow that the parameters override


def test_each_trial_has_its_curves(project: Path, trials: list[entities.Trial]) -> None:
    client = connect(f"sqlite:///{project}/mlflow.db")
    for trial in trials:
        paths = {artifact.path for artifact in client.list_artifacts(trial.run_id)}
        assert {"accuracy.png", "loss.png", "history.csv"} <= paths


def test_each_model_loads_as_an_mlflow_model(project: Path, trials: list[entities.Trial]) -> None:
    import mlflow

    client = connect(f"sqlite:///{project}/mlflow.db")
    for trial in trials:
        assert trial.model_id
        location = client.get_logged_model(trial.model_id).artifact_location
        model = mlflow.keras.load_model(location)
        probability = model(np.array([[1, 14, 22]], np.int32))
        assert probability.shape == (1, 1)
        assert 0 < float(probability[0, 0]) < 1


def test_the_winner_is_exported_and_predicts(
    project: Path,
    search: entities.Search,
    trials: list[entities.Trial],
    run: Callable[..., str],
) -> None:
    run("best", search=search.name, export="the winner", format="numpy")
    metadata = json.loads((project / "the winner" / "metadata.json").read_text(encoding="utf-8"))
    assert metadata["run_id"] == trials[0].run_id
    assert 0 < metadata["metrics"]["test_accuracy"] < 1
    good, bad = api.predict(project / "the winner", ["so good", "bad"])
    assert [good.text, bad.text] == ["so good", "bad"]
    assert 0 < good.probability < 1


def test_a_training_is_the_run_that_mlflow_started(project: Path, run: Callable[..., str]) -> None:
    fixed = {"model": "listing_6_23", "seed": 3, "set": "space.maxlen=20"}
    run_id = run("train", **TINY, **fixed)
    trial = reader.read_run(connect(f"sqlite:///{project}/mlflow.db"), run_id)
    assert (trial.status, trial.params.rnn, trial.params.maxlen) == ("FINISHED", "simple_rnn", 20)
    assert trial.tags["imdbtune.seed"] == "3"
    assert trial.model_id


def test_the_search_goes_on_and_what_mlflow_lacks_is_brought_in(
    project: Path, search: entities.Search, run: Callable[..., str]
) -> None:
    """After all that reads it; the run that MLflow made for it is no search."""
    made = run("resume", search=search.run_id, max_trials=3, workers=0)
    client = connect(f"sqlite:///{project}/mlflow.db")
    trials = reader.read_trials(client, search)
    assert [trial.status for trial in trials] == ["FINISHED"] * 3
    assert {trial.params.rnn for trial in trials} == {"gru", "simple_rnn", "lstm"}
    assert reader.find_search(client).run_id == search.run_id != made
    assert client.get_run(search.run_id).data.metrics["trials_finished"] == 3
    # As if the store had gone away before the last word on a run.
    late = writer.Run(workspace_of(project / ".imdbtune", search.run_id).outbox, search.run_id)
    late.log(tags={"late": "but not lost"})
    run("sync", search=search.run_id)
    assert client.get_run(search.run_id).data.tags["late"] == "but not lost"
