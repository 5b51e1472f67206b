"""Export folders: written whole or not at all, and nothing else is ever touched. No TensorFlow."""

from __future__ import annotations

import json
import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imdbtune.config.extensions import FORMATS
from imdbtune.config.hyperparameters import TrialParams
from imdbtune.data.text import Tokenizer
from imdbtune.errors import DiskFull, UserError
from imdbtune.export.encode import encode
from imdbtune.export.folder import read_export
from imdbtune.export.formats import parse_formats
from imdbtune.export.writing import ExportContents, formats_there, write_export
from imdbtune.models.safe_load import check_archive
from tests.support import no_room_beyond

FILES = ["README.md", "encode.py", "metadata.json", "model.keras", "vocabulary.json"]
WORDS = {"the": 1, "don't": 2, "é": 3, "\ud800": 4}
METADATA = {
    "parameters": TrialParams(rnn="gru", vocabulary=200, maxlen=30).as_dict(),
    "batching": "buckets",
    "metrics": {"val_accuracy": 0.875},
}

Write = Callable[..., Path]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Not a model, but packed like one."""
    path = tmp_path / "trained.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
    return path


@pytest.fixture
def write(model: Path) -> Write:
    def call(
        folder: Path,
        word_index: dict[str, int] = WORDS,
        metadata: dict[str, Any] = METADATA,
        **changed: Any,
    ) -> Path:
        arguments = {
            "formats": ["keras"],
            "contents": ExportContents(word_index, metadata),
            "add_models": lambda new: shutil.copyfile(model, new / "model.keras"),
            "check": lambda new: {"keras": {"reviews": 3}},
            "usage": "",
        }
        return write_export(folder, **arguments | changed)

    return call


def contents(folder: Path) -> dict[str, bytes]:
    files = folder.rglob("*")
    return {str(f.relative_to(folder)): f.read_bytes() for f in files if f.is_file()}


def test_a_written_export_can_be_read(write: Write, model: Path, tmp_path: Path) -> None:
    folder = write(tmp_path / "a" / "b")
    assert sorted(f.name for f in folder.iterdir()) == FILES
    assert (folder / "model.keras").read_bytes() == model.read_bytes()
    export = read_export(folder)
    assert export.word_index == WORDS
    assert (export.vocabulary, export.maxlen) == (200, 30)
    assert export.formats == {"keras": {"reviews": 3}}
    assert export.batching == "buckets"
    assert export.metadata["metrics"] == METADATA["metrics"]
    assert export.metadata["files"] == FILES
    assert "gru-d1-u32-L30" in (folder / "README.md").read_text(encoding="utf-8")


def test_the_folder_has_the_permissions_of_the_umask(write: Write, tmp_path: Path) -> None:
    (tmp_path / "usual").mkdir()
    usual = (tmp_path / "usual").stat().st_mode
    assert stat.S_IMODE(write(tmp_path / "new").stat().st_mode) == stat.S_IMODE(usual)


def test_metadata_do_not_override_the_keys_of_the_format(write: Write, tmp_path: Path) -> None:
    folder = write(tmp_path / "new", metadata={**METADATA, "format": "x", "maxlen": 7})
    assert read_export(folder).maxlen == 30


def test_an_empty_folder_is_filled_and_stays_the_same(write: Write, tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    before = folder.stat().st_ino
    write(folder)
    assert folder.stat().st_ino == before
    assert sorted(f.name for f in folder.iterdir()) == FILES


def test_the_current_folder(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert write(Path()) == tmp_path / "here"
    assert sorted(f.name for f in Path().iterdir()) == FILES


@pytest.mark.parametrize("name", ["with space", "новый", "-rf", "a\nb", "100%{x}", "日本.keras"])
def test_unusual_names(write: Write, tmp_path: Path, name: str) -> None:
    assert read_export(write(tmp_path / name)).maxlen == 30


def test_through_a_link(write: Write, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "real", target_is_directory=True)
    write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert read_export(tmp_path / "real").maxlen == 30


def test_an_export_is_replaced_only_with_overwrite(write: Write, tmp_path: Path) -> None:
    folder = write(tmp_path / "new")
    before = contents(folder)
    with pytest.raises(UserError, match="is an export already, of another run"):
        write(folder, word_index={"other": 1}, formats=["numpy"])  # neither says of which run
    assert contents(folder) == before
    write(folder, word_index={"other": 1}, overwrite=True)
    assert read_export(folder).word_index == {"other": 1}
    assert sorted(f.name for f in folder.iterdir()) == FILES


def test_replacing_removes_the_old_model_and_no_other_files(write: Write, tmp_path: Path) -> None:
    folder = write(tmp_path / "new")
    (folder / "notes.txt").write_text("mine")
    (folder / "old_model").mkdir()
    (folder / "old_model" / "weights").write_text("1")
    document = json.loads((folder / "metadata.json").read_text())
    document["files"] += ["old_model", "..", "../trained.keras", "/", 3]
    (folder / "metadata.json").write_text(json.dumps(document))
    write(folder, overwrite=True)
    assert sorted(f.name for f in folder.iterdir()) == sorted([*FILES, "notes.txt"])
    assert (folder / "notes.txt").read_text() == "mine"
    assert (tmp_path / "trained.keras").is_file()


def add_npz(new: Path) -> None:
    (new / "model.npz").write_bytes(b"arrays")


def test_a_format_is_added_to_an_export_of_the_same_run(write: Write, tmp_path: Path) -> None:
    run = {**METADATA, "run_id": "a1"}
    folder = write(tmp_path / "new", metadata=run)
    (folder / "notes.txt").write_text("mine")
    before = contents(folder)
    more = {"formats": ["numpy"], "add_models": add_npz, "check": lambda new: {"numpy": {}}}
    later = {**run, "metrics": {"test_accuracy": 0.8}}
    write(folder, metadata=later, usage="## NumPy alone", **more)
    export = read_export(folder)
    assert export.formats == {"keras": {"reviews": 3}, "numpy": {}}
    assert export.metadata["metrics"] == {"test_accuracy": 0.8}
    assert export.metadata["files"] == sorted([*FILES, "model.npz"])
    assert "NumPy alone" in (folder / "README.md").read_text()
    after = contents(folder)
    assert sorted(after) == sorted([*before, "model.npz"])
    assert after["model.keras"] == before["model.keras"]


@pytest.mark.parametrize(
    ("run_id", "formats", "says"),
    [
        ("b2", ["numpy"], "of another run; choose a new folder or --overwrite"),
        (None, ["numpy"], "of another run"),
        ("a1", ["keras"], "of the same run as keras; name another format"),
    ],
)
def test_no_format_is_added_to_another_export(
    write: Write, tmp_path: Path, run_id: str | None, formats: list[str], says: str
) -> None:
    folder = write(tmp_path / "new", metadata={**METADATA, "run_id": "a1"})
    before = contents(folder)
    for call in (
        lambda: write(folder, metadata={**METADATA, "run_id": run_id}, formats=formats),
        lambda: formats_there(folder, run_id, formats, overwrite=False),
    ):
        with pytest.raises(UserError, match=says):
            call()
    assert contents(folder) == before
    assert formats_there(folder, run_id, formats, overwrite=True) == {}


@pytest.mark.parametrize("fails", ["add_models", "check"])
def test_a_failed_addition_leaves_the_export_unchanged(
    write: Write, tmp_path: Path, fails: str
) -> None:
    def fail(new: Path) -> None:
        (new / "model.npz").write_text("half")
        raise UserError("no such operator")

    run = {**METADATA, "run_id": "a1"}
    folder = write(tmp_path / "new", metadata=run)
    before = contents(folder)
    with pytest.raises(UserError, match="no such operator"):
        write(folder, metadata=run, formats=["numpy"], **{fails: fail})
    (folder / "model.npz").write_text("mine")
    with pytest.raises(UserError, match=r"has 'model\.npz', which does not belong to the"):
        write(folder, metadata=run, formats=["numpy"], add_models=add_npz)
    assert contents(folder) == {**before, "model.npz": b"mine"}


@pytest.mark.parametrize("metadata", [None, "{}", "[]", "not JSON", '{"format": "other"}'])
def test_other_files_are_never_touched(write: Write, tmp_path: Path, metadata: str | None) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    if metadata is not None:
        (folder / "metadata.json").write_text(metadata)
    before = contents(folder)
    with pytest.raises(UserError, match="holds other files"):
        write(folder, overwrite=True)
    assert contents(folder) == before


def test_a_file_in_the_way(write: Write, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="is a file"):
        write(tmp_path / "file", overwrite=True)
    assert (tmp_path / "file").read_text() == "x"


@pytest.mark.parametrize("name", ["file/below", "file/far/below", "a\0b", "\ud800", "x" * 300])
def test_a_folder_that_cannot_be_created(write: Write, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot be written") as raised:
        write(tmp_path / name)
    assert len(str(raised.value).splitlines()) == 1
    str(raised.value).encode()


def test_a_loop_of_links(write: Write, tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(UserError, match="cannot be written"):
        write(tmp_path / "a")


@pytest.mark.parametrize("name", ["new/below", "empty"])
def test_missing_write_permission_is_reported_before_training(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    assert formats_there(tmp_path / name, "run", ["keras"], overwrite=False) == {}
    monkeypatch.setattr("os.access", lambda there, mode: False)  # it does not bind root
    with pytest.raises(UserError, match="cannot be written"):
        formats_there(tmp_path / name, "run", ["keras"], overwrite=False)


@pytest.mark.parametrize("existing", [False, True])
def test_a_full_disk_leaves_nothing(write: Write, tmp_path: Path, existing: bool) -> None:
    folder = tmp_path / "new"
    if existing:
        write(folder)
    before = contents(tmp_path)
    with no_room_beyond(4096), pytest.raises(DiskFull, match="no room for the export"):
        write(folder, word_index={f"w{i}": i for i in range(1, 2000)}, overwrite=True)
    assert contents(tmp_path) == before


def test_a_corpus_without_words_is_refused(write: Write, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no word index"):
        write(tmp_path / "new", word_index={})
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("fails", ["add_models", "check"])
def test_a_failed_export_leaves_no_files(write: Write, tmp_path: Path, fails: str) -> None:
    def fail(new: Path) -> None:
        (new / "half").write_text("x")
        raise UserError("no such format")

    old = write(tmp_path / "old")
    before = contents(tmp_path)
    for folder, overwrite in ((tmp_path / "new", False), (old, True)):
        with pytest.raises(UserError, match="no such format"):
            write(folder, overwrite=overwrite, **{fails: fail})
    assert contents(tmp_path) == before


def test_an_export_of_the_first_version_is_still_read(write: Write, tmp_path: Path) -> None:
    """It named no formats: it had one."""
    folder = write(tmp_path / "new")
    document = json.loads((folder / "metadata.json").read_text())
    del document["formats"], document["separators"]
    (folder / "metadata.json").write_text(json.dumps({**document, "model_format": "keras"}))
    assert read_export(folder).formats == {"keras": {}}


@pytest.mark.parametrize(
    "text", ["", "The don't É", "é the-the nothing", "the " * 40, "\0\ud800 x"]
)
def test_the_exported_encoder_equals_the_tokenizer(write: Write, tmp_path: Path, text: str) -> None:
    folder = write(tmp_path / "new")
    ours = Tokenizer(WORDS).encode(text, 200)[-30:].tolist()
    assert encode(text, folder) == [0] * (30 - len(ours)) + ours


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("keras", ("keras",)),
        ("onnx, keras,onnx", ("onnx", "keras")),
        ("all", tuple(FORMATS)),
        ("numpy,all", tuple(FORMATS)),
    ],
)
def test_lists_of_formats_are_parsed(text: str, names: tuple[str, ...]) -> None:
    assert parse_formats(text) == names


@pytest.mark.parametrize("text", ["", "onxn", "keras,", "Keras", "keras onnx"])
def test_unknown_formats(text: str) -> None:
    with pytest.raises(UserError, match=r"format '.*' is not known; allowed: keras, .*all"):
        parse_formats(text)


@pytest.mark.parametrize("content", [None, b"", b"not a zip", "cut"])
def test_no_model(model: Path, content: bytes | str | None) -> None:
    if content is None:
        model.unlink()
    else:
        model.write_bytes(model.read_bytes()[:-9] if content == "cut" else bytes(content))
    with pytest.raises(UserError, match=r"not a readable \.keras file"):
        check_archive(model)


@pytest.mark.parametrize(
    "member", ["../evil", "assets/../../evil", "/evil", "..\\evil", "C:/evil", "\\\\host\\evil"]
)
def test_an_archive_with_a_path_outside_its_folder_is_refused(model: Path, member: str) -> None:
    with zipfile.ZipFile(model, "a") as archive:
        archive.writestr(member, "x")
    with pytest.raises(UserError, match="not safe to open: it would unpack to"):
        check_archive(model)


def test_a_zip_bomb_is_refused(model: Path) -> None:
    with zipfile.ZipFile(model, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("model.weights.h5", bytes(65 * 2**20))
    with pytest.raises(UserError, match=r"not safe to open: .* bytes would unpack to 68,"):
        check_archive(model)


def test_a_wrong_checksum_is_refused(model: Path) -> None:
    model.write_bytes(model.read_bytes().replace(b"{}", b"[]"))
    with pytest.raises(UserError, match=r"not a readable \.keras file \('config\.json' is damaged"):
        check_archive(model)


def test_a_large_uncompressed_archive_is_accepted(model: Path) -> None:
    with zipfile.ZipFile(model, "a") as archive:
        archive.writestr("model.weights.h5", bytes(65 * 2**20))
    check_archive(model)
