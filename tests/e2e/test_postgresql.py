"""A tracking server that is shared: PostgreSQL behind it, TLS and passwords before it."""

from __future__ import annotations

import configparser
import functools
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from imdbtune import api
from imdbtune.cli.app import app
from imdbtune.errors import UserError
from imdbtune.tracking import background_delivery
from imdbtune.tracking.connection import connect
from imdbtune.training.spec import TrialSpec
from tests.outages import MANY, OnWorkers, check_whole
from tests.postgresql import ROOT, PostgreSQL, TrackingServer, why_not
from tests.support import Stub, isolate, light_workers, make_config, prepare, write_tiny_model

WHY_NOT = why_not() or ("" if shutil.which("openssl") else "needs openssl")
pytestmark = [
    pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT),
    pytest.mark.xdist_group("postgresql"),
]
OUTAGE_S = 3.0
PASSWORDS = {"admin": "admin-s3cr3t-words", "ana": "ana-s3cr3t-words", "ben": "ben-s3cr3t-words"}


@pytest.fixture(scope="module")
def database() -> Iterator[PostgreSQL]:
    made = PostgreSQL()
    try:
        made.make()
        yield made
    finally:
        made.remove()


@pytest.fixture(scope="module")
def server(
    database: PostgreSQL, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TrackingServer]:
    folder = tmp_path_factory.mktemp("server")
    auth = configparser.ConfigParser()
    auth.read_string((ROOT / "deploy" / "auth.ini").read_text("utf-8"))
    auth["mlflow"]["database_uri"] = database.uri
    with (folder / "auth.ini").open("w") as file:
        auth.write(file)
    environment = {
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"),
        "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORDS["admin"],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "a key for this test",
    }
    certificates = folder / "certificates"
    subprocess.run([ROOT / "deploy" / "certificates.sh", certificates], check=True)
    options = ["--app-name", "basic-auth"]
    made = TrackingServer(folder, database, options, environment, certificates)
    from mlflow.server import get_app_client  # a second, which only this process spends

    try:
        made.start()
        with pytest.MonkeyPatch.context() as patch:
            trust(patch, made)
            sign_in(patch, "admin")
            users = get_app_client("basic-auth", tracking_uri=made.uri)
            for name in ("ana", "ben"):
                users.create_user(name, PASSWORDS[name])
        yield made
    finally:
        made.kill()


def trust(patch: pytest.MonkeyPatch, server: TrackingServer) -> None:
    patch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", f"{server.certificates}/ca.pem")


def sign_in(patch: pytest.MonkeyPatch, name: str, password: str = "") -> None:
    patch.setenv("MLFLOW_TRACKING_USERNAME", name)
    patch.setenv("MLFLOW_TRACKING_PASSWORD", password or PASSWORDS[name])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: TrackingServer) -> Path:
    """Workers need no TensorFlow, and a store that is away is asked again soon."""
    trust(monkeypatch, server)
    light_workers()
    monkeypatch.setattr(background_delivery, "RETRY_EVERY_S", 0.3)
    prepare(tmp_path)
    return isolate(monkeypatch, tmp_path)


@pytest.mark.parametrize("password", ["", "another-s3cr3t-word"])
def test_nobody_gets_in_without_the_password(
    server: TrackingServer, monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    trust(monkeypatch, server)
    if password:
        sign_in(monkeypatch, "ana", password)
    with pytest.raises(UserError, match="401") as hit:
        connect(server.uri)
    assert "s3cr3t" not in str(hit.value)
    assert len(str(hit.value).splitlines()) == 1


def test_who_does_not_know_the_authority_does_not_talk_to_the_server(
    server: TrackingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in(monkeypatch, "ana")
    with pytest.raises(UserError, match=r"SSL|certificate"):
        connect(server.uri)


def test_postgresql_goes_away_during_a_search_and_nothing_is_missing(
    server: TrackingServer,
    database: PostgreSQL,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sign_in(monkeypatch, "ana")
    behind = Behind(server, database)
    search = OnWorkers(behind, here, comes_back=True, away_s=OUTAGE_S)
    assert search.run(here, "shared").status == "FINISHED"
    assert "View run" not in capsys.readouterr().out
    check_whole(server.uri, "shared", MANY, models=False)
    assert search.told[-1] == "the tracking store has received everything that was waiting for it."
    assert "s3cr3t" not in "".join(search.told)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    capsys.readouterr()
    app(["compare", "shared", "--csv"], standalone_mode=False)
    assert capsys.readouterr().out.count("\n") == 1 + len(MANY)
    app(["best", "--search", "shared", "--json"], standalone_mode=False)
    assert json.loads(capsys.readouterr().out)["units"] == MANY[-1]


class Behind:
    """The database, which goes away while the server that is asked stays."""

    def __init__(self, server: TrackingServer, database: PostgreSQL) -> None:
        self.uri = server.uri
        self.start, self.kill = database.start, database.kill


def test_another_user_searches_in_the_same_experiment_and_the_server_dies(
    server: TrackingServer, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in(monkeypatch, "ben")
    space = {"units": [4, 5, 6]}
    where = {"uri": server.uri, "keep_models": "all"}
    config = make_config(here, name="another", space=space, tracking=where)
    dies = Stub(functools.partial(die_once, server))
    assert (
        api.search(config, api.Context(workers=0, cache=here / "cache", trainer=dies)).status
        == "FINISHED"
    )
    check_whole(server.uri, "another", [4, 5, 6])


def die_once(server: TrackingServer, spec: TrialSpec) -> None:
    """At the second trial the server is killed, and started again."""
    if spec.params.units == 5:
        server.kill()
        server.start()
    write_tiny_model(spec)
