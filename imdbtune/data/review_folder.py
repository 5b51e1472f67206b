"""Reviews in a file each, in the layout of the Large Movie Review Dataset: aclImdb/train/pos/."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from imdbtune.data.cache import not_readable
from imdbtune.data.download import Progress
from imdbtune.data.labels import check_labels, label_name
from imdbtune.data.parts import TEST, TRAIN
from imdbtune.data.review_buffer import Review
from imdbtune.data.text_lines import MAX_LINE
from imdbtune.errors import UserError, short_repr
from imdbtune.files import require_regular_file

PARTS = {"train": TRAIN, "test": TEST}
UNLABELLED = "unsup"
LAYOUT = "train/pos/*.txt and train/neg/*.txt, and optionally the same under test/"


@dataclass(frozen=True)
class ReviewFile:
    """The file of one review."""

    path: Path
    label: str
    part: int

    def text(self) -> str:
        """Return the text of the review.

        Raises:
            UserError: the file is not text in UTF-8, or too long.
        """
        if require_regular_file(self.path).stat().st_size > MAX_LINE:
            raise UserError(f"{self.path} is longer than {MAX_LINE:,} bytes; remove it.")
        raw = self.path.read_bytes()
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            byte = f"byte {error.start:,} is 0x{raw[error.start]:02x}"
            raise UserError(f"{self.path} is not UTF-8: {byte}; save it as UTF-8.") from error
        if "\0" in text:
            raise UserError(f"{self.path} is not text: it has a zero byte; remove it.")
        return text


def review_files(folder: Path) -> list[ReviewFile]:
    """Return the review files of a folder, in the order of their names.

    Raises:
        UserError: the folder has another layout, or cannot be read.
    """
    try:
        if not (folder / "train").is_dir():
            raise UserError(f"{folder} has no folder train; it must hold {LAYOUT}.")
        found = [
            ReviewFile(path, label.name, PARTS[part])
            for part in PARTS
            for label in _label_folders(folder / part)
            for path in sorted(label.glob("*.txt"))
        ]
    except OSError as error:
        raise not_readable(error.filename, error) from error
    labels = sorted({file.label for file in found})
    if not labels:
        raise UserError(f"{folder} has no reviews; it must hold {LAYOUT}.")
    check_labels(folder, labels)
    invalid = [label for label in labels if not label_name(label)]
    if invalid:
        raise UserError(
            f"{folder} has a folder {short_repr(invalid[0])}, which is not a valid label; "
            "rename it."
        )
    return found


def _label_folders(part: Path) -> list[Path]:
    if not part.is_dir():
        return []
    return sorted(entry for entry in part.iterdir() if entry.is_dir() and entry.name != UNLABELLED)


def folder_digest(files: list[ReviewFile]) -> str:
    """Return the sha256 over the names and contents of all files, in hex."""
    digest = hashlib.sha256()
    for file in files:
        content = hashlib.sha256(file.text().encode()).hexdigest()
        digest.update(f"{file.part}/{file.label}/{file.path.name}:{content}\n".encode())
    return digest.hexdigest()


def read_files(
    files: list[ReviewFile], name: str, progress: Progress | None = None
) -> Iterator[Review]:
    """Yield the review in each file."""
    for done, file in enumerate(files, start=1):
        yield Review(file.text(), file.label, file.part)
        if progress is not None and done % 1000 == 0:
            progress(f"reading {name}", done, len(files))
