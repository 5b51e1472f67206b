"""The export of a model in several of the registered formats."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from imdbtune.config.extensions import FORMATS
from imdbtune.data.download import Progress
from imdbtune.errors import ExportFailed, ImdbtuneError, first_line, unknown_choice
from imdbtune.export.format import Format, Trained
from imdbtune.export.verify import check_answers
from imdbtune.export.writing import ExportContents, formats_there, write_export
from imdbtune.models.safe_load import check_archive


def parse_formats(text: str) -> tuple[str, ...]:
    """Return the names in a list such as ``keras,onnx``; ``all`` stands for all formats.

    Raises:
        UserError: a name is unknown.
    """
    names = dict.fromkeys(name.strip() for name in text.split(","))
    for name in names:
        if name not in (*FORMATS, "all"):
            raise unknown_choice("format", name, (*FORMATS, "all"))
    return tuple(FORMATS) if "all" in names else tuple(names)


def check_installed(names: Sequence[str]) -> None:
    """Raise UserError unless the packages of the formats are installed."""
    for name in names:
        FORMATS[name].check_installed()


def export_model(
    trained: Trained,
    names: Sequence[str],
    contents: ExportContents,
    texts: Sequence[str],
    folder: Path,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Write an export folder with a model in the formats ``names``, or add them to an export.

    A new process without imdbtune loads each format, whose predictions for ``texts`` must equal
    Keras's. Without ``overwrite``, an export of the same run keeps its other formats.

    Args:
        trained: the model.
        names: names of formats.
        contents: the vocabulary and the metadata.
        texts: reviews of the corpus.
        folder: the export folder.
        overwrite: replace the files of an existing export.
        progress: called before each format is written, and before it is checked.

    Returns:
        The absolute path of the folder.

    Raises:
        UserError: the model is not a ``.keras`` file, the folder cannot be written, or a format's
            packages are missing.
        ExportFailed: a format cannot represent the model, or predicts something else.
    """
    check_archive(trained.path, trained.source)
    existing = formats_there(folder, contents.metadata.get("run_id"), names, overwrite)
    added = [name for name in names if name not in existing]
    check_installed(added)
    formats = [FORMATS[name].for_model(trained) for name in added]
    words = contents.word_index
    return write_export(
        folder,
        added,
        contents,
        usage([FORMATS[n].for_model(trained) for n in FORMATS if n in (*existing, *added)]),
        lambda new: write_models(_track(formats, progress, 0), trained, new),
        lambda new: check_answers(_track(formats, progress, 1), trained, words, texts, new),
        overwrite,
    )


def _track(formats: Sequence[Format], progress: Progress | None, phase: int) -> Iterator[Format]:
    """Yield the formats, and report progress before each; phase 0 writes them, 1 checks them."""
    for number, current in enumerate(formats):
        if progress is not None:
            done = number + phase * len(formats)
            progress("exporting and checking each format", done, 2 * len(formats))
        yield current


def write_models(formats: Iterable[Format], trained: Trained, folder: Path) -> None:
    """Write the model's files of each format.

    Raises:
        ExportFailed: a converter failed.
    """
    for current in formats:
        try:
            current.write(trained, folder)
        except (ImdbtuneError, OSError):
            raise
        except Exception as error:  # converters raise many types
            raise ExportFailed(
                f"the model cannot be written in the format {current.name} ({first_line(error)}); "
                "nothing was written. Leave that format out."
            ) from error


def usage(formats: Sequence[Format]) -> str:
    """Return the README's section on the formats, in Markdown."""
    rows = [f"| {f.name} | {', '.join(map(_quoted, f.files))} | {f.about} |" for f in formats]
    table = ["| format | files | for |", "| --- | --- | --- |", *rows, ""]
    return "\n".join([*table, *(f.usage for f in formats)])


def _quoted(name: str) -> str:
    return f"`{name}`"
