"""The Large Movie Review Dataset, from the files that Keras downloads or from a user's copy.

Source: Maas et al., Learning Word Vectors for Sentiment Analysis, ACL 2011.
"""

from __future__ import annotations

import json
from pathlib import Path

from imdbtune.data.cache import not_readable, sha256
from imdbtune.data.corpus import Corpus, NewCorpus, Split, open_or_create, write_corpus
from imdbtune.data.download import Progress, RemoteFile, fetch
from imdbtune.data.npz import check_npz, read_npz
from imdbtune.errors import UserError, short_repr
from imdbtune.files import read_small_text

_BASE = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
_WORDS = "imdb_word_index.json"
KERAS_FILES = (
    RemoteFile(
        f"{_BASE}imdb.npz",
        17_464_789,
        "69664113be75683a8fe16e3ed0ab59fda8886cb3cd7ada244f7d9544e4676b9f",
    ),
    RemoteFile(
        f"{_BASE}{_WORDS}",
        1_641_221,
        "027313fe9a320280f3bf0fac5baf58c4a683cf39a7ed9c3d3d3912bde4284cf6",
    ),
)
_ROWS = 25_000
_MAX_WORDS_BYTES = 2**28  # of a word index; Keras's has 1.6 MB
_FIRST_REVIEW = [1, 14, 22, 16, 43, 530, 973, 1622, 1385, 65, 458, 4468]


def imdb_corpus(
    cache: Path,
    progress: Progress | None = None,
    files: tuple[RemoteFile, RemoteFile] = KERAS_FILES,
    timeout_s: float = 20.0,
) -> Corpus:
    """Return the IMDB reviews, downloaded and converted into ``cache`` the first time.

    Args:
        cache: folder for the downloads and the converted corpus.
        progress: called with the name, the bytes done and the bytes in all while downloading.
        files: the ``.npz`` file and the word index.
        timeout_s: seconds to wait for the connection, and for more of a file.

    Raises:
        DownloadFailed: a file cannot be downloaded.
        UserError: the cache cannot be written, or the corpus in it is damaged.
    """
    folder = _folder(cache, files[0].sha256, files[1].sha256)

    def create() -> Corpus:
        npz, words = (fetch(file, _downloads(cache), progress, timeout_s) for file in files)
        return _convert(folder, npz, words)

    return open_or_create(folder, create)


def imdb_folder(cache: Path) -> Path:
    """Return the folder of the converted IMDB reviews, whether it exists or not."""
    return _folder(cache, KERAS_FILES[0].sha256, KERAS_FILES[1].sha256)


def npz_corpus(path: Path, cache: Path) -> Corpus:
    """Return the corpus in a file like Keras's ``imdb.npz``, converted the first time.

    The word index is ``imdb_word_index.json`` beside the file; else, for the IMDB reviews, the
    downloaded one; else none. The corpus is named "imdb" if it holds the IMDB reviews, else "npz".

    Raises:
        UserError: a file is missing or malformed, or the cache cannot be written.
    """
    candidates = (path.with_name(_WORDS), _downloads(cache) / _WORDS)
    words = next((file for file in candidates if file.exists()), None)
    try:
        folder = _folder(cache, sha256(path), sha256(words) if words else "none")
    except OSError as error:
        raise not_readable(error.filename, error) from error
    return open_or_create(folder, lambda: _convert(folder, path, words))


def check_npz_corpus(path: Path, *, whole: bool) -> None:
    """Check a file for :func:`npz_corpus`, and the word index beside it.

    Args:
        path: the file.
        whole: also check the contents of all reviews.

    Raises:
        UserError: a file is missing or malformed.
    """
    if whole:
        read_npz(path)
    else:
        check_npz(path)
    words = path.with_name(_WORDS)
    if words.exists():
        read_word_index(words)


def _downloads(cache: Path) -> Path:
    return cache / "downloads"


def _folder(cache: Path, npz_sha256: str, words_sha256: str) -> Path:
    """Return a folder named by both files: a word index may be added to an ``.npz`` later."""
    return cache / "corpora" / f"imdb-{npz_sha256[:16]}-{words_sha256[:8]}"


def _convert(folder: Path, npz: Path, words: Path | None) -> Corpus:
    train, test = read_npz(npz)
    is_imdb = _is_imdb(train, test)
    if words and not is_imdb and words.parent != npz.parent:
        words = None  # the downloaded word index is for the IMDB reviews only
    word_index = read_word_index(words) if words else {}
    size = f"{len(train):,} reviews to train on, {len(test):,} to test"
    name, title = ("imdb", "IMDB movie reviews") if is_imdb else ("npz", npz.name)
    return write_corpus(folder, NewCorpus(name, f"{title}: {size}", train, test, word_index))


def _is_imdb(train: Split, test: Split) -> bool:
    first = train[0][: len(_FIRST_REVIEW)].tolist()
    return len(train) == len(test) == _ROWS and first == _FIRST_REVIEW


def read_word_index(path: Path) -> dict[str, int]:
    """Return word -> rank from a JSON file.

    Raises:
        UserError: the file is not a JSON object of words and ranks >= 1.
    """
    try:
        words = json.loads(read_small_text(path, _MAX_WORDS_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path} is not a word index: {reason}.") from error
    if not isinstance(words, dict):
        raise UserError(f"{path} is not a word index: it must be a JSON object, word: rank.")
    for word, rank in words.items():
        if type(rank) is not int or rank < 1:
            raise UserError(
                f"{path} is not a word index: the rank of {short_repr(word)} must be 1 or more."
            )
    return words
