"""What comes from elsewhere with bad intent is refused; secrets are neither told nor logged."""

from __future__ import annotations

import io
import json
import math
import os
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imdbtune import api
from imdbtune.cli.app import main
from imdbtune.cli.predict import _csv_printer
from imdbtune.cli.tables import details
from imdbtune.cli.tables import leaderboard as table
from imdbtune.cluster.trial_job import TrialFailure
from imdbtune.errors import SearchAborted, UserError, escape_control
from imdbtune.export.predictor import Prediction
from imdbtune.models.safe_load import check_archive, load_keras
from imdbtune.report import leaderboard
from imdbtune.search.workspace import workspace_of
from imdbtune.tracking import reader
from imdbtune.tracking.connection import connect, redact_secrets
from imdbtune.tracking.entities import Search, Trial
from tests.support import Stub, isolate, make_config, run_search

SECRET = "s3cr3t-w0rd"


def layer(module: str | None, kind: str, **config: Any) -> dict[str, Any]:
    return {"module": module, "class_name": kind, "config": config, "registered_name": kind}


def archive(path: Path, *layers: Any) -> Path:
    model = layer("keras.src.models.functional", "Functional", layers=list(layers))
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("metadata.json", "{}")
        file.writestr("config.json", json.dumps(model))
        file.writestr("model.weights.h5", b"")
    return path


CODE = {"class_name": "__lambda__", "config": {"value": "4wEAAAA=", "defaults": None}}
UNSAFE = {
    "Lambda": layer("keras.layers", "Lambda", function=CODE),
    "__lambda__": layer("keras.layers", "Dense", activation=CODE),
    "TorchModuleWrapper": layer("keras.layers", "TorchModuleWrapper", name="gASV"),
    "StringLookup": layer("keras.layers", "StringLookup", vocabulary="/etc/passwd"),
    "TFSMLayer": layer("keras.layers", "TFSMLayer", filepath="/tmp/evil"),
    "function": layer("keras.utils", "function"),
    "get_file": layer("keras.utils", "get_file", origin="http://127.0.0.1/"),
    "system": layer("os", "system", command="true"),
    "Mine": layer(None, "Mine"),
    "Map": layer("keras.src.ops.core", "Map"),
    "deep": layer("keras.layers", "Bidirectional", layer=layer("keras.layers", "deep")),
}


@pytest.mark.parametrize("name", UNSAFE)
def test_a_model_of_other_than_plain_layers_is_not_opened(name: str, tmp_path: Path) -> None:
    path = archive(tmp_path / "model.keras", UNSAFE[name])
    with pytest.raises(UserError, match=f"is not safe to open: it names '{name}' of"):
        load_keras(path)


@pytest.mark.parametrize(
    "described", [{"class_name": ["Dense"]}, {"class_name": "x", "module": {}}]
)
def test_a_description_that_makes_no_sense_is_refused(described: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not safe to open"):
        check_archive(archive(tmp_path / "model.keras", described))


def test_plain_layers_pass_and_a_deep_description_is_no_trouble(tmp_path: Path) -> None:
    check_archive(archive(tmp_path / "plain.keras", layer("keras.layers", "GRU", units=3)))
    deep = tmp_path / "deep.keras"
    with zipfile.ZipFile(deep, "w") as file:
        file.writestr("config.json", "[" * 200_000)
    with pytest.raises(UserError, match=r"is not a readable \.keras file"):
        check_archive(deep)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("Embedding", {"input_dim": 10**6, "output_dim": 10**4}),
        ("Dense", {"units": 10**12}),
        ("LSTM", {"units": 10**5, "recurrent_initializer": "orthogonal"}),
        ("InputLayer", {"batch_shape": [None, 4 * 10**9]}),
    ],
)
def test_weights_that_are_described_but_not_there_are_not_made(
    kind: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    path = archive(tmp_path / "huge.keras", layer("keras.layers", kind, **settings))
    with pytest.raises(UserError, match=f"describes a layer {kind} whose weights are not in it"):
        check_archive(path)


@pytest.mark.parametrize("shape", [[None, 10**9], [[None, 3], [None, 10**9]]])
def test_what_a_layer_is_said_to_read_is_no_larger_than_the_file(
    shape: list[Any], tmp_path: Path
) -> None:
    dense = layer("keras.layers", "Dense", units=1) | {"build_config": {"input_shape": shape}}
    with pytest.raises(UserError, match="describes a layer Dense whose weights are not in it"):
        check_archive(archive(tmp_path / "huge.keras", dense))


def test_a_long_review_is_no_large_layer_unless_flat(tmp_path: Path) -> None:
    read = layer("keras.layers", "InputLayer", batch_shape=[None, 40, 300])
    check_archive(archive(tmp_path / "model.keras", read, layer("keras.layers", "GRU", units=1)))
    path = archive(tmp_path / "flat.keras", read, layer("keras.layers", "Flatten"))
    with pytest.raises(UserError, match="describes a layer InputLayer whose weights are not in it"):
        check_archive(path)


def test_a_description_without_end_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "long.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("config.json", "[" + "{}," * 2_000_000 + "{}]")
    with pytest.raises(UserError, match="its description has 6,000,004 bytes"):
        check_archive(path)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.keras")
    with pytest.raises(UserError, match="it is a pipe, not a file"):
        check_archive(tmp_path / "model.keras")


TEXTS = [
    f"API request to https://ann:{SECRET}@films.example/api failed with x",
    f"https://ann:a/b@{SECRET}@films.example/api",
    f"Max retries: http://films.example/?token={SECRET}&a=1 (caused by ...)",
    f"connect(postgresql+psycopg2://ann:{SECRET}@films.example/db)",
    f"header Basic {SECRET}",
]


@pytest.mark.parametrize("text", TEXTS)
def test_no_secret_stays_in_a_text(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", SECRET if "header" in text else "")
    assert SECRET not in redact_secrets(f"one line\n{text}\nanother")
    assert SECRET not in str(TrialFailure(text, text))
    assert redact_secrets(text).startswith(text[:5])


def test_what_is_no_secret_stays() -> None:
    text = "sqlite:////home/a@b/mlflow.db and https://films.example/a?b=1, ann@films.example"
    assert redact_secrets(text) == text


def quote_the_uri(spec: Any) -> None:
    raise ValueError(TEXTS[0])


def test_a_failed_trial_does_not_log_the_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    isolate(monkeypatch, tmp_path)
    told: list[str] = []
    config = make_config(tmp_path, space={"units": [4, 5]})
    with pytest.raises(SearchAborted) as aborted:  # as all of its trials fail
        run_search(
            config,
            tmp_path,
            trainer=Stub(quote_the_uri),
            listener=lambda event: told.append(str(event)),
        )
    told.append(str(aborted.value))
    client = connect(config.tracking.uri)
    search = reader.find_search(client)
    for trial in reader.read_trials(client, search):
        assert (trial.status, SECRET in trial.reason) == ("FAILED", False)
        path = client.download_artifacts(trial.run_id, "traceback.txt")
        assert "https://***@films.example" in Path(path).read_text("utf-8")
    logged = client.download_artifacts(search.run_id, "config.toml")
    assert 'uri = ""' in Path(logged).read_text("utf-8")
    for path in (tmp_path / "runs").rglob("*"):
        assert not path.is_file() or SECRET not in path.read_text("utf-8", "replace")
    assert SECRET not in "".join(told)


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_a_dry_run_does_not_tell_the_password(
    flags: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    isolate(monkeypatch, tmp_path)
    uri = f"https://ann:{SECRET}@films.example"
    words = ["imdbtune", "search", "demo", "--dry-run", "--tracking-uri", uri, *flags]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit) as ended:
        main()
    out = capsys.readouterr().out
    assert (ended.value.code, SECRET in out) == (0, False)
    assert "https://***@films.example" in out


def test_a_fault_does_not_tell_the_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    isolate(monkeypatch, tmp_path)

    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError(TEXTS[0])

    monkeypatch.setattr(api, "best", fail)
    monkeypatch.setattr("sys.argv", ["imdbtune", "best"])
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr()
    assert (ended.value.code, SECRET in told.out + told.err) == (1, False)
    assert "RuntimeError: API request to https://***@films.example" in told.err


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Search, Trial]:
    """A store, its search and the only trial of that; their names may be overwritten."""
    folder = tmp_path_factory.mktemp("searched")
    with pytest.MonkeyPatch.context() as patch:
        isolate(patch, folder)
        client, search = run_search(make_config(folder, space={"units": [4]}), folder)
        (trial,) = reader.read_trials(client, search)
    return client, search, trial


@pytest.mark.parametrize("text", ["\x1b[2J", "\x9b31m", "\x07", "a\rb", "\u202eevil", "\x1b]8;;x"])
def test_names_in_the_store_steer_no_terminal_and_make_no_page(
    text: str, searched: tuple[Any, Search, Trial]
) -> None:
    client, search, trial = searched
    odd = f"{text}<script>![x](http://films.example)|`"
    for run_id in (search.run_id, trial.run_id):
        client.set_tag(run_id, "mlflow.runName", odd)
        for name in ("search", "about", "data", "reason"):
            client.set_tag(run_id, f"imdbtune.{name}", odd)
    search = reader.find_search(client, search.run_id)
    (trial,) = reader.read_trials(client, search)
    shown = [table(search, [trial], ["units"]), details(trial, search)]
    assert all(line.isprintable() for told in shown for line in told.splitlines())
    assert escape_control(text) in shown[0]
    page = leaderboard.markdown(search, [trial], ["units"])
    assert "<script" not in page
    assert "![x]" not in page.replace("\\[", "").replace("\\!", "")
    assert page.count("[x") == page.count("\\[x") == 4


@pytest.mark.parametrize(
    "told", ["many", "nan", "1e999", "-1", "", "\u0663", "9" * 400, "<b>", "\0"]
)
def test_what_is_no_number_of_reviews_is_not_counted_with(
    told: str, searched: tuple[Any, Search, Trial]
) -> None:
    _, search, trial = searched
    odd = replace(search, tags={**search.tags, "imdbtune.validation_reviews": told})
    assert (search.validation_reviews, odd.validation_reviews) == (2, 0)
    assert "validation accuracy" in details(trial, search)
    assert "validation accuracy" not in details(trial, odd)


@pytest.mark.parametrize("value", [math.nan, math.inf, -1e308, 7.5])
def test_figures_that_cannot_be_are_no_trouble(
    value: float, searched: tuple[Any, Search, Trial]
) -> None:
    _, search, trial = searched
    told = details(replace(trial, metrics=dict.fromkeys(trial.metrics, value)), search)
    assert "validation accuracy" not in told
    assert told.count("best loss") == 1


class Terminal(io.StringIO):
    """A screen."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("screen", "shown"), [(Terminal(), r"\x1b[2J"), (io.StringIO(), "\x1b[2J")]
)
def test_csv_steers_no_terminal_and_leaves_files_as_they_are(
    screen: io.StringIO, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout", screen)
    hostile = Prediction("\x1b[2J", 0.5, "good")
    _csv_printer(hostile)(hostile)
    assert screen.getvalue().splitlines()[1:] == [f"good,0.500000,{shown}"]


def test_a_run_id_that_climbs_makes_no_folder(tmp_path: Path) -> None:
    for run_id in ("../out", "a/b", "", "a\0b"):
        with pytest.raises(UserError, match="is not a run id of MLflow"):
            workspace_of(tmp_path, run_id)


@pytest.mark.parametrize(("set_to", "then"), [(None, "true"), ("false", "false")])
def test_mlflow_reports_to_nobody_unless_it_is_told_to(
    set_to: str | None, then: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", set_to or "")
    if set_to is None:
        monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY")
    monkeypatch.setattr("sys.argv", ["imdbtune", "--version"])
    with pytest.raises(SystemExit):
        main()
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == then
