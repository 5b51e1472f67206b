"""A search that learns from the trials of earlier ones, and what it must not learn from."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from imdbtune import api
from imdbtune.cli.app import app
from imdbtune.config.schema import parse_config
from imdbtune.errors import UserError
from imdbtune.search.journal import Journal
from imdbtune.tracking import reader
from imdbtune.tracking.connection import connect
from imdbtune.tracking.entities import Search
from tests.support import draw_nothing, isolate, make_config, noting, prepare, stub_trainer

SPACE = {"rnn": ["simple_rnn", "lstm"], "units": [4, 5, 6]}


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the store of a finished grid over ``SPACE``, named ``old``."""
    folder = tmp_path_factory.mktemp("earlier")
    with pytest.MonkeyPatch.context() as patch:
        isolate(patch, folder)
        prepare(folder)
        search(folder, "old", SPACE, kind="grid")
    return folder


@pytest.fixture
def folder(earlier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copied = tmp_path / "copied"
    shutil.copytree(earlier, copied)
    return isolate(monkeypatch, copied)


def search(
    folder: Path, name: str, space: dict[str, Any], *, told: list[str] | None = None, **tuner: Any
) -> Search:
    config = make_config(folder, name=name, space=space, tuner={"kind": "tpe", **tuner})
    listener = noting([] if told is None else told)
    context = api.Context(workers=0, trainer=stub_trainer, listener=listener)
    with pytest.MonkeyPatch.context() as patch:
        draw_nothing(patch)
        return api.search(config, context=context)


def values_of(folder: Path, found: Search) -> set[tuple[str, int]]:
    client = connect(f"sqlite:///{folder / 'mlflow.db'}")
    return {(t.params.rnn, t.params.units) for t in reader.read_trials(client, found)}


WIDER = {"rnn": ["simple_rnn", "lstm", "gru"], "units": [4, 5, 6]}
GRU_ONLY = {("gru", units) for units in (4, 5, 6)}


@pytest.mark.parametrize("source", ["old", "auto"])
def test_what_is_known_is_not_trained_again(folder: Path, source: str) -> None:
    told: list[str] = []
    found = search(folder, "new", WIDER, told=told, learn_from=source)
    assert values_of(folder, found) == GRU_ONLY
    assert "learned from 6 configurations of old, which are not trained again" in told
    events = Journal(folder / ".imdbtune" / found.run_id / "journal.jsonl").read()
    assert [event["event"] for event in events][:2] == ["borrowed", "asked"]
    assert len(events[0]["trials"]) == 6


def test_what_was_borrowed_is_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = search(folder, "new", WIDER, learn_from="old")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    compared = api.compare([found.run_id], uri=uri)
    rows = compared.borrowed[found.run_id]
    trained = api.compare(["old"], uri=uri).searches[0][1]
    assert {run_id for row in rows for run_id in row.run_ids} == {t.run_id for t in trained}
    assert [row.score for row in rows] == sorted((t.score or 0.0 for t in trained), reverse=True)
    assert {row.search for row in rows} == {"old"}
    app(["compare", "new", "--tracking-uri", uri], standalone_mode=False)
    best = f"6 configurations borrowed, the best: {rows[0].name} of search old, {rows[0].score:.4f}"
    assert best in capsys.readouterr().out
    api.report(found.run_id, folder / "page.html", uri=uri)
    page = (folder / "page.html").read_text(encoding="utf-8")
    assert "What was borrowed" in page
    assert page.count("<td>old</td>") == 6


def test_configurations_outside_the_space_are_left_out_and_said(folder: Path) -> None:
    told: list[str] = []
    space = {"rnn": "lstm", "units": {"min": 5, "max": 7}}
    found = search(folder, "new", space, told=told, learn_from="old")
    assert values_of(folder, found) == {("lstm", 7)}
    line = "learned from 2 configurations of old, which are not trained again; 4 are not in"
    assert [text for text in told if text.startswith(line)]


def test_a_resumed_search_still_knows_what_it_borrowed(folder: Path) -> None:
    found = search(folder, "new", WIDER, learn_from="old", max_trials=1)
    context = api.Context(workers=0, trainer=stub_trainer)
    again = api.resume(found.run_id, {"tuner.max_trials": 12}, context)
    assert values_of(folder, again) == GRU_ONLY


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"training": {"epochs": 4}}, "its epochs was 3, yours is 4"),
        ({"training": {"batching": "padded"}}, "its batching was buckets, yours is padded"),
        ({"data": {"reviews": 20}}, "its reviews was 0, yours is 20"),
        ({"tuner": {"objective": "val_loss"}}, "its objective was val_accuracy, yours is val_loss"),
        ({"tuner": {"executions": 2}}, "its executions was 1, yours is 2"),
        ({"space": {"units": [40, 50]}}, "has no finished trial whose configuration is in the new"),
        ({"space": {"rnn": "lstm", "units": 4, "skip": True}}, "has no finished trial"),
    ],
)
def test_searches_that_cannot_be_compared_are_refused(
    folder: Path, changes: dict[str, Any], reason: str
) -> None:
    table = make_config(folder, name="new", space=WIDER).as_dict()
    table |= {"space": changes.pop("space", table["space"])}
    table["tuner"] |= {"kind": "tpe", "learn_from": "old"}
    for section, values in changes.items():
        table[section] |= values
    before = sorted((folder / ".imdbtune").iterdir())
    with pytest.raises(UserError, match=reason):
        api.search(parse_config(table), context=api.Context(workers=0, trainer=stub_trainer))
    assert sorted((folder / ".imdbtune").iterdir()) == before
    table["tuner"]["learn_from"] = "auto"  # takes no notice of them
    told: list[str] = []
    context = api.Context(workers=0, trainer=stub_trainer, listener=noting(told))
    api.search(parse_config(table, {"tuner.max_trials": 1}), context=context)
    assert "learned from no trial: no comparable search has one in this space" in told


def test_other_reviews_are_refused(folder: Path) -> None:
    config = make_config(folder, tuner={"kind": "tpe", "learn_from": "old"})
    table = config.as_dict()
    table["data"]["source"] = "demo"
    with pytest.raises(UserError, match="its reviews have the digest"):
        api.search(parse_config(table), context=api.Context(workers=0, trainer=stub_trainer))


def test_a_sampler_that_does_not_learn_refuses() -> None:
    with pytest.raises(
        UserError, match=r"no effect with the sampler random; choose one of tpe, gp"
    ):
        parse_config({"tuner": {"kind": "random", "learn_from": "old"}})
