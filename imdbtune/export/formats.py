"""All formats, and the export of a model in several of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from imdbtune.data.download import Progress
from imdbtune.errors import ExportFailed, ImdbtuneError, unknown_choice
from imdbtune.export.format import Format, Trained
from imdbtune.export.keras_format import KERAS
from imdbtune.export.litert_format import LITERT
from imdbtune.export.mlflow_format import MLFLOW
from imdbtune.export.numpy_format import NUMPY
from imdbtune.export.onnx_format import ONNX
from imdbtune.export.savedmodel_format import SAVEDMODEL
from imdbtune.export.verify import check_answers
from imdbtune.export.writing import formats_there, write_export
from imdbtune.models.safe_load import check_archive

# imdbtune predicts with the first one that a folder has.
FORMATS = {f.name: f for f in (KERAS, SAVEDMODEL, MLFLOW, NUMPY, ONNX, LITERT)}


def parse_formats(text: str) -> tuple[str, ...]:
    """Names of formats out of ``keras,onnx``; ``all`` stands for all of them.

    Raises:
        UserError: an unknown name.
    """
    names = dict.fromkeys(name.strip() for name in text.split(","))
    for name in names:
        if name not in (*FORMATS, "all"):
            raise unknown_choice("format", name, (*FORMATS, "all"))
    return tuple(FORMATS) if "all" in names else tuple(names)


def check_installed(names: Sequence[str]) -> None:
    """Raise UserError unless what the formats need is installed."""
    for name in names:
        FORMATS[name].check_installed()


def export_model(
    trained: Trained,
    names: Sequence[str],
    word_index: Mapping[str, int],
    texts: Sequence[str],
    metadata: Mapping[str, Any],
    folder: Path,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Write an export folder with a model in the formats ``names``, or add them to one.

    An export of the same run keeps the formats that it has, unless it is to be replaced. Each is
    opened again in a process without imdbtune, and must answer to ``texts`` as Keras does.

    Args:
        trained: the model.
        names: of formats.
        word_index: every word of the corpus -> rank, 1 = most frequent.
        texts: reviews of the corpus.
        metadata: see :func:`imdbtune.export.folder.write_export`.
        folder: where to.
        overwrite: replace the files of an export that is there.
        progress: told before each format is written, and before it is tried.

    Returns:
        The absolute path of the folder.

    Raises:
        UserError: the model is no ``.keras`` file, the folder cannot be written, or a format's
            packages are missing.
        ExportFailed: a format cannot hold the model, or answers otherwise.
    """
    check_archive(trained.path)
    there = formats_there(folder, metadata.get("run_id"), names, overwrite)
    added = [name for name in names if name not in there]
    check_installed(added)
    formats = [FORMATS[name] for name in added]
    return write_export(
        folder,
        added,
        lambda new: write_models(_told(formats, progress, 0), trained, new),
        lambda new: check_answers(_told(formats, progress, 1), trained, word_index, texts, new),
        word_index,
        metadata,
        usage([made for name, made in FORMATS.items() if name in (*there, *added)]),
        overwrite,
    )


def _told(formats: Sequence[Format], progress: Progress | None, halves: int) -> Iterator[Format]:
    """The formats one by one; how far the export is, is told before each."""
    for number, made in enumerate(formats):
        if progress is not None:
            done = number + halves * len(formats)
            progress("exporting, and trying each format", done, 2 * len(formats))
        yield made


def write_models(formats: Iterable[Format], trained: Trained, folder: Path) -> None:
    """Add the model's files in each of the formats.

    Raises:
        ExportFailed: a converter has failed.
    """
    for made in formats:
        try:
            made.write(trained, folder)
        except (ImdbtuneError, OSError):
            raise
        except Exception as error:  # converters raise whatever they stumble over
            reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise ExportFailed(
                f"the model cannot be written in the format {made.name} ({reason}); nothing was "
                "written. Leave that format out."
            ) from error


def usage(formats: Sequence[Format]) -> str:
    """What the README says of the formats."""
    rows = [f"| {f.name} | {', '.join(map(_quoted, f.files))} | {f.about} |" for f in formats]
    table = ["| format | files | for |", "| --- | --- | --- |", *rows, ""]
    return "\n".join([*table, *(f.usage for f in formats)])


def _quoted(name: str) -> str:
    return f"`{name}`"
