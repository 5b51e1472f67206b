"""Reviews as a file each, laid out as the Large Movie Review Dataset comes: aclImdb/train/pos/."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from imdbtune.data.download import Progress
from imdbtune.data.gathering import Review
from imdbtune.data.labels import check_labels, label_name
from imdbtune.data.parts import TEST, TRAIN
from imdbtune.data.tables import MAX_LINE, listed
from imdbtune.errors import UserError, short_repr
from imdbtune.files import require_regular_file

PARTS = {"train": TRAIN, "test": TEST}
UNLABELLED = "unsup"
LAYOUT = "train/pos/*.txt and train/neg/*.txt, and test/ alike if there is one"


@dataclass(frozen=True)
class ReviewFile:
    """One review in its file."""

    path: Path
    label: str
    part: int

    def text(self) -> str:
        """What is in it.

        Raises:
            UserError: it is no text in UTF-8, or too long.
        """
        if require_regular_file(self.path).stat().st_size > MAX_LINE:
            raise UserError(f"{self.path} is no text of at most {MAX_LINE:,} bytes; take it away.")
        raw = self.path.read_bytes()
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            byte = f"byte {error.start:,} is 0x{raw[error.start]:02x}"
            raise UserError(f"{self.path} is not UTF-8: {byte}; save it as UTF-8.") from error
        if "\0" in text:
            raise UserError(f"{self.path} is no text: a byte of it is zero; take it away.")
        return text


def review_files(folder: Path) -> list[ReviewFile]:
    """The reviews of a folder, in the order of their names.

    Raises:
        UserError: it is laid out otherwise, or cannot be read.
    """
    try:
        if not (folder / "train").is_dir():
            raise UserError(f"{folder} has no folder train; it has to hold {LAYOUT}.")
        found = [
            ReviewFile(path, labelled.name, PARTS[part])
            for part in PARTS
            for labelled in _folders(folder / part)
            for path in sorted(labelled.glob("*.txt"))
        ]
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read: {error.strerror}.") from error
    labels = sorted({file.label for file in found})
    if not labels:
        raise UserError(f"{folder} has no reviews; it has to hold {LAYOUT}.")
    check_labels(folder, labels, listed(labels, 5))
    odd = [label for label in labels if not label_name(label)]
    if odd:
        raise UserError(f"{folder} has a folder {short_repr(odd[0])}, which is no name of a label.")
    return found


def _folders(part: Path) -> list[Path]:
    if not part.is_dir():
        return []
    return sorted(entry for entry in part.iterdir() if entry.is_dir() and entry.name != UNLABELLED)


def digest_of(files: list[ReviewFile]) -> str:
    """sha256 over the names and contents of all files, hex."""
    digest = hashlib.sha256()
    for file in files:
        content = hashlib.sha256(file.text().encode()).hexdigest()
        digest.update(f"{file.part}/{file.label}/{file.path.name}:{content}\n".encode())
    return digest.hexdigest()


def read_files(
    files: list[ReviewFile], name: str, progress: Progress | None = None
) -> Iterator[Review]:
    """The review in each file."""
    for done, file in enumerate(files, start=1):
        yield Review(file.text(), file.label, file.part)
        if progress is not None and done % 1000 == 0:
            progress(f"reading {name}", done, len(files))
