"""Reviews, a store with a finished search, an export, and what is broken of each."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import sqlite3
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imdbtune import api
from tests.support import Stub, isolate, make_config, run_search, untried_exports, write_tiny_model

KINDS = ("pipe", "device", "socket")  # what is no regular file
TABLES = ("csv", "tsv", "jsonl", "parquet")
WEIGHTS = {"savedmodel": "saved_model/saved_model.pb", "numpy": "model.npz"}
CORPORA = (
    *("text", "empty", "cut", "others", "floats", "strings", "negative", "labels", "lengths"),
    *("no_rows", "code"),
)


def write_broken_inputs(folder: Path) -> None:
    """Fill ``folder``."""
    with pytest.MonkeyPatch.context() as patch:
        isolate(patch, folder)
        untried_exports(patch)
        words = json.dumps({f"w{rank}": rank for rank in range(1, 20)})
        (folder / "imdb_word_index.json").write_text(words)
        space = {"units": [4, 8], "vocabulary": 10}
        config = make_config(folder, space=space, tracking={"keep_models": "all"})
        run_search(config, folder, trainer=Stub(write_tiny_model))
        _, trial = api.best(uri=config.tracking.uri)
        (folder / "trial_id").write_text(trial.run_id)
        api.export(
            trial, folder / "export", api.Context(uri=config.tracking.uri, cache=folder / "cache")
        )
    (folder / "damaged.db").write_bytes(b"SQLite format 3\x00" + bytes(range(256)) * 8)
    with sqlite3.connect(folder / "films.db") as films:
        films.execute("CREATE TABLE films (title TEXT)")
    films.close()
    shutil.copyfile(folder / "mlflow.db", folder / "odd.db")
    with sqlite3.connect(folder / "odd.db") as odd:
        odd.execute("UPDATE params SET value = '9999999' WHERE key = 'units'")
    odd.close()
    break_corpora(folder)
    break_exports(folder)
    add_no_files(folder)


class Evil:
    """Makes a file where it is unpickled, by a function of the same name in every Python."""

    def __reduce__(self) -> tuple[Any, ...]:
        return shutil.copyfile, (__file__, "evil")


def break_corpora(folder: Path) -> None:
    rows = np.empty(4, object)
    rows[:] = [[1, 2], [3], [4, 5, 6], [7]]
    texts = rows.copy()
    texts[:] = "good"
    negative = rows.copy()
    negative[0] = [-1]
    labels = np.array([0, 1, 0, 1])
    code = np.empty(4, object)
    code[:] = [Evil()] * 4
    good = {"x_train": rows, "y_train": labels, "x_test": rows, "y_test": labels}
    broken: dict[str, dict[str, Any]] = {
        "floats": {"x_train": np.ones((4, 3))},
        "strings": {"x_train": texts},
        "negative": {"x_train": negative},
        "labels": {"y_train": labels + 1},
        "lengths": {"y_train": labels[:3]},
        "no_rows": {"x_train": rows[:0], "y_train": labels[:0]},
        "code": {"x_train": code},
    }
    for name, change in broken.items():
        np.savez(folder / f"{name}.npz", **{**good, **change})
    np.savez(folder / "others.npz", a=labels)
    (folder / "text.npz").write_text("reviews")
    (folder / "empty.npz").touch()
    whole = (folder / "imdb.npz").read_bytes()
    (folder / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (folder / "folder.npz").mkdir()
    stars = [f"{n},a film with number {n},{n % 5 + 1},2024-01-0{n % 2 + 1}" for n in range(10)]
    (folder / "stars.csv").write_text("\n".join(["id,review,rating,date", *stars]))
    many = [f"a film with number {n},{n % 101}" for n in range(202)]
    (folder / "many.csv").write_text("\n".join(["review,label", *many]))
    rare = ["a film,c", *(f"a film with number {n},{'ab'[n % 2]}" for n in range(9))]
    (folder / "rare.csv").write_text("\n".join(["review,label", *rare]))
    unnamed = [f"{n % 2},a film with number {n},{n % 2}" for n in range(10)]
    (folder / "unnamed.csv").write_text("\n".join(["a,b,c", *unnamed]))


def break_exports(folder: Path) -> None:
    def export(name: str, **files: bytes | str | None) -> None:
        shutil.copytree(folder / "export", folder / name)
        for stem, content in files.items():
            ending = "model.keras" if stem == "model" else f"{stem}.json"
            if content is None:
                (folder / name / ending).unlink()
            else:
                data = content if isinstance(content, bytes) else content.encode()
                (folder / name / ending).write_bytes(data)

    def model(*members: str) -> bytes:
        with zipfile.ZipFile(folder / "model.zip", "w") as archive:
            for member in members:
                archive.writestr(member, "{}")
        return (folder / "model.zip").read_bytes()

    text = (folder / "export" / "metadata.json").read_text()
    about, network = json.loads(text), (folder / "export" / "model.keras").read_bytes()
    export("no_metadata", metadata=None)
    export("broken_json", metadata='{"format": ')
    export("list_json", metadata="[]")
    export("other_format", metadata=json.dumps({**about, "format": "onnx\x1b"}))
    export("later_version", metadata=json.dumps({**about, "format_version": 99}))
    export("huge_maxlen", metadata=json.dumps({**about, "maxlen": 1e30}))
    export("no_formats", metadata=json.dumps({**about, "formats": []}))
    export("no_words", vocabulary=None)
    export("word_list", vocabulary='["the", "film"]')
    export("word_texts", vocabulary='{"the": "first"}')
    export("no_model", model=None)
    export("cut_model", model=network[: len(network) // 2])
    export("climbing", model=model("config.json", "../evil"))
    export("absolute", model=model("config.json", "/tmp/evil"))
    export("not_keras", model=model("config.json", "metadata.json"))


def add_no_files(folder: Path) -> None:
    """What is no file, and exports, reviews and word indices with such in them."""

    def put(kind: str, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "device":
            path.symlink_to("/dev/zero")
        else:
            with socket.socket(socket.AF_UNIX) as bound, contextlib.chdir(path.parent):
                bound.bind(path.name)  # whole paths may be too long

    about = json.loads((folder / "export" / "metadata.json").read_text())
    for kind in KINDS:
        for ending in ("npz", *TABLES, "toml", "html", "db", "txt"):
            put(kind, folder / f"{kind}.{ending}")
        for name in ("metadata.json", "vocabulary.json", "model.keras"):
            export = folder / f"{kind}_{Path(name).stem}"
            shutil.copytree(folder / "export", export)
            put(kind, export / name)
        for name, weights in WEIGHTS.items():
            export = folder / f"{kind}_{name}"
            shutil.copytree(folder / "export", export)
            (export / "metadata.json").write_text(json.dumps({**about, "formats": {name: {}}}))
            put(kind, export / weights)
        put(kind, folder / f"{kind}_words" / "imdb_word_index.json")
        shutil.copyfile(folder / "imdb.npz", folder / f"{kind}_words" / "imdb.npz")
    for label in ("pos", "neg"):
        put("pipe", folder / "pipe_review" / "train" / label / "1.txt")
    (folder / "folder.csv").mkdir()
