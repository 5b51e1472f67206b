"""Download files of known size and hash with pooch, once for all processes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from imdbtune.data.cache import locked, not_writable
from imdbtune.errors import UserError

Progress = Callable[[str, int, int], None]  # name of the work, amount done, amount in all

_RETRIES = 2
_CHUNK = 2**16  # bytes between two calls of the progress callback


@dataclass(frozen=True)
class RemoteFile:
    """A file on a server, with its exact content."""

    url: str
    size: int  # bytes
    sha256: str  # hex

    @property
    def name(self) -> str:
        """The last part of the URL."""
        return self.url.rsplit("/", 1)[-1]


class DownloadFailed(UserError):
    """A file cannot be downloaded now; another data source can be used instead."""

    @classmethod
    def because(cls, file: RemoteFile, error: BaseException) -> DownloadFailed:
        """Return the error for ``file``, with the innermost cause of ``error``."""
        while inner := error.__cause__ or error.__context__:
            error = inner
        reason = str(error).partition(" for url: ")[0].rstrip(".") or "no answer in time"
        return cls(
            f"{file.url} could not be downloaded: {reason}. Check the network and try again, or "
            "pass --data PATH/imdb.npz for a copy that you have, or --data demo."
        )


@dataclass
class _ProgressBar:
    """The progress bar that pooch updates; it ends a download that exceeds the known size."""

    file: RemoteFile
    progress: Progress | None
    total: int = 0  # set by pooch
    done: int = 0

    def update(self, amount: int) -> None:
        self.done += amount
        if self.done >= self.file.size + _CHUNK:  # pooch counts the last chunk as a full one
            raise ValueError(f"the server sends more than {self.file.size:,} bytes")
        if self.progress is not None:
            self.progress(self.file.name, min(self.done, self.file.size), self.file.size)

    def reset(self) -> None:
        self.done = 0

    def close(self) -> None:
        pass


def fetch(
    file: RemoteFile, folder: Path, progress: Progress | None = None, timeout_s: float = 20.0
) -> Path:
    """Return the path of ``file`` in ``folder``; download it if it is missing or damaged.

    Args:
        file: what to download.
        folder: where it is saved; created if missing.
        progress: called with the name, the bytes done and the bytes in all after each chunk.
        timeout_s: seconds to wait for the connection, and for more of the file.

    Raises:
        DownloadFailed: no connection, an error of the server, or wrong content.
        UserError: the folder cannot be written.
    """
    import pooch
    from requests import RequestException

    def download(url: str, output_file: str, _: object) -> None:
        bar = _ProgressBar(file, progress)
        # Its own timeout is longer, so that it does not end at the same time with other words.
        check = pooch.HTTPDownloader(bar, _CHUNK, timeout=2 * timeout_s)
        _require_answer(file, lambda: check(url, None, None, check_only=True), timeout_s)
        pooch.HTTPDownloader(bar, _CHUNK, timeout=timeout_s)(url, output_file, None)

    pooch.get_logger().setLevel(logging.WARNING)  # the progress callback reports downloads
    known, urls = {file.name: f"sha256:{file.sha256}"}, {file.name: file.url}
    files = pooch.create(folder, "", registry=known, urls=urls, retry_if_failed=_RETRIES)
    try:
        with locked(folder / f"{file.name}.lock"):
            return Path(files.fetch(file.name, downloader=download))
    except (RequestException, ValueError) as error:  # ValueError: a wrong hash
        raise DownloadFailed.because(file, error) from error
    except OSError as error:
        raise not_writable(folder, error) from error


def _require_answer(file: RemoteFile, ask: Callable[[], object], timeout_s: float) -> None:
    """Raise DownloadFailed unless the server answers within ``timeout_s``, whatever it says.

    In a thread: a socket's timeout applies to each address of a server, and not to the look-up of
    its name. Where a firewall drops packets, "auto" would wait for minutes.
    """
    answer: Future[object] = Future()

    def work() -> None:
        try:
            answer.set_result(ask())
        except Exception as error:  # raised by ``result``
            answer.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        answer.result(timeout_s)
    except Exception as error:
        raise DownloadFailed.because(file, error) from error
