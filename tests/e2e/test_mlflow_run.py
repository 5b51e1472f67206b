"""``mlflow run .`` from end to end, in a folder that links to the project's files.

The search is a process of MLflow's. The other entry points run by the function that it calls, and
their commands in this process.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from imdbtune import api
from imdbtune.cli.app import app
from imdbtune.data.corpus import Corpus
from imdbtune.search.workspace import workspace_of
from imdbtune.tracking import reader, writer
from imdbtune.tracking.connection import connect
from tests.support import isolate, untried_exports

pytestmark = pytest.mark.xdist_group("mlflow run")
ROOT = Path(__file__).resolve().parents[2]
LINKED = ("MLproject", "conda.yaml", "constraints.txt", "imdbtune", "workflows")
TINY = {"data": "demo", "reviews": 300, "epochs": 1}
NAME = 'it\'s "tiny", $HOME'  # what a shell would garble without MLflow's quotes


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, demo: Corpus, common_folder: Path) -> Path:
    """The project's files without its folder: what a run leaves stays out of the checkout."""
    folder = tmp_path_factory.mktemp("project")
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)
    (folder / "cache").symlink_to(common_folder / "demo_cache")
    return folder


def activated(project: Path) -> dict[str, str]:
    """The environment of a shell in which a virtual environment is activated."""
    ours = ("MLFLOW_", "IMDBTUNE_", "PYTHONPATH")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    environment["IMDBTUNE_CACHE"] = str(project / "cache")
    return environment


def mlflow_run(project: Path, entry_point: str, **parameters: object) -> str:
    """Run an entry point; returns the id of the run that MLflow made for it."""
    given = [part for k, v in parameters.items() for part in ("-P", f"{k}={v}")]
    command = ["mlflow", "run", ".", "-e", entry_point, "--env-manager", "local", *given]
    done = subprocess.run(
        command, cwd=project, env=activated(project), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"Run \(ID '(\w+)'\) succeeded", done.stderr)
    assert found, done.stderr
    return found[1]


@pytest.fixture
def run(project: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """As :func:`mlflow_run`, in this process; exports are not tried."""

    def call(entry_point: str, **parameters: object) -> str:
        import mlflow
        from mlflow.projects.backend import local
        from mlflow.projects.submitted_run import LocalSubmittedRun
        from mlflow.projects.utils import get_run_env_vars

        def in_this_process(
            command: str, work_dir: str, experiment_id: str, run_id: str
        ) -> LocalSubmittedRun:
            words = shlex.split(command)
            begin = words.index("python")
            variables = dict(word.split("=", 1) for word in words[:begin])
            assert words[begin : begin + 3] == ["python", "-m", "imdbtune"]
            arguments = words[begin + 3 :]
            with pytest.MonkeyPatch.context() as patch:
                own = get_run_env_vars(run_id, experiment_id)
                for name, value in {**variables, **own}.items():
                    patch.setenv(name, value)
                app(arguments, standalone_mode=False)
            return LocalSubmittedRun(run_id, subprocess.Popen(["true"]))

        isolate(monkeypatch, project)
        untried_exports(monkeypatch)
        monkeypatch.setattr(local, "_run_entry_point", in_this_process)
        mlflow.set_tracking_uri(f"sqlite:///{project / 'mlflow.db'}")
        given = {name: str(value) for name, value in parameters.items()}
        made = mlflow.projects.run(".", entry_point, parameters=given, env_manager="local")
        assert made.get_status() == "FINISHED"
        return str(made.run_id)

    return call


@pytest.fixture(scope="module")
def search(project: Path) -> reader.Search:
    """The search that ``mlflow run`` made, read back from MLflow."""
    space = {"rnn": "gru,simple_rnn,lstm", "units": 4, "maxlen": 20}
    limits = {"max_trials": 2, "workers": 1, "set": "training.patience=1"}
    run_id = mlflow_run(project, "search", name=NAME, **TINY, **space, **limits)
    found = reader.find_search(connect(f"sqlite:///{project}/mlflow.db"))
    assert found.run_id == run_id
    return found


@pytest.fixture(scope="module")
def trials(project: Path, search: reader.Search) -> list[reader.Trial]:
    return reader.read_trials(connect(f"sqlite:///{project}/mlflow.db"), search)


def test_the_search_is_the_run_that_mlflow_started(project: Path, search: reader.Search) -> None:
    made = connect(f"sqlite:///{project}/mlflow.db").get_run(search.run_id)
    assert made.info.status == "FINISHED"
    assert made.info.run_name == search.name == NAME
    assert made.data.tags["mlflow.project.entryPoint"] == "search"
    assert made.data.params["max_trials"] == made.data.params["tuner.max_trials"] == "2"
    assert made.data.params["training.patience"] == "1"
    assert made.data.metrics["trials_finished"] == 2


def test_the_trials_are_its_children(search: reader.Search, trials: list[reader.Trial]) -> None:
    assert len({trial.params.rnn for trial in trials}) == len(trials) == 2
    for trial in trials:
        assert trial.status == "FINISHED"
        assert trial.tags[writer.PARENT] == search.run_id
        assert (trial.params.units, trial.params.maxlen) == (4, 20)


def test_each_trial_has_its_curves(project: Path, trials: list[reader.Trial]) -> None:
    client = connect(f"sqlite:///{project}/mlflow.db")
    for trial in trials:
        paths = {artifact.path for artifact in client.list_artifacts(trial.run_id)}
        assert {"accuracy.png", "loss.png", "history.csv"} <= paths


def test_each_model_loads_as_an_mlflow_model(project: Path, trials: list[reader.Trial]) -> None:
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
    search: reader.Search,
    trials: list[reader.Trial],
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
    project: Path, search: reader.Search, run: Callable[..., str]
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
