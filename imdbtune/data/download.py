"""Fetches a file of known size and hash over HTTP, once for all processes, resuming what was cut.

Only http and https are spoken, also after a redirect.
"""

from __future__ import annotations

import hashlib
import os
import queue
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError, URLError

from filelock import FileLock

from imdbtune.data.corpus import not_writable
from imdbtune.errors import UserError
from imdbtune.files import require_regular_file

Progress = Callable[[str, int, int], None]  # of what, how much is done, how much there is

_ATTEMPTS = 3
_CHUNK = 2**16
_MIN_RATE = 1024  # bytes a second; a connection that is slower counts as cut


@dataclass(frozen=True)
class RemoteFile:
    """A file that is known to the last bit."""

    url: str
    size: int  # bytes
    sha256: str  # hex

    @property
    def name(self) -> str:
        """The last part of the address."""
        return self.url.rsplit("/", 1)[-1]


class DownloadFailed(UserError):
    """The file cannot be had now; another source of data can."""

    @classmethod
    def because(cls, file: RemoteFile, reason: object) -> DownloadFailed:
        """The message of a file that could not be fetched, with what to do instead."""
        return cls(
            f"{file.url} could not be fetched: {reason}. Try again with a network, pass "
            "--data PATH/imdb.npz for a file that you have, or --data demo."
        )


class _Cut(Exception):
    """The connection broke off; what came is kept and the rest can be asked for."""


def fetch(
    file: RemoteFile, folder: Path, progress: Progress | None = None, timeout_s: float = 20.0
) -> Path:
    """The path of ``file`` in ``folder``, downloaded and verified if it is not there yet.

    Args:
        file: what to fetch.
        folder: where it is kept; made if missing.
        progress: told the name, the bytes done and the bytes in all after each piece.
        timeout_s: seconds to wait for a connection, and for each next piece.

    Raises:
        DownloadFailed: no connection, an error of the server, too slow, or the wrong content.
        UserError: the folder cannot be written.
    """
    target, part = folder / file.name, folder / f"{file.name}.part"
    with locked(folder / f"{file.name}.lock"):
        try:
            if not _is_complete(target, file):
                _download(file, part, progress, timeout_s)
                _verify(part, file)
                part.replace(target)
        except OSError as error:
            raise not_writable(folder, error) from error
    return target


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file ``path``, made with its folder if missing, against other processes.

    Raises:
        UserError: the lock file cannot be made.
    """
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise not_writable(path, error) from error
    try:
        yield
    finally:
        lock.release()


def sha256(path: Path) -> str:
    """The sha256 of a file's content, hex."""
    with require_regular_file(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_complete(path: Path, file: RemoteFile) -> bool:
    return path.is_file() and path.stat().st_size == file.size and sha256(path) == file.sha256


def _verify(part: Path, file: RemoteFile) -> None:
    if not _is_complete(part, file):
        part.unlink()
        raise DownloadFailed.because(
            file, f"what came is not the file with sha256 {file.sha256[:16]}... and was deleted"
        )


def _download(file: RemoteFile, part: Path, progress: Progress | None, timeout_s: float) -> None:
    """Fill ``part``; after a cut, ask for the rest."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _continue(file, part, progress, timeout_s)
            return
        except _Cut as cut:
            if attempt == _ATTEMPTS:
                raise DownloadFailed.because(file, f"{cut} ({_ATTEMPTS} attempts)") from cut


def _continue(file: RemoteFile, part: Path, progress: Progress | None, timeout_s: float) -> None:
    done = part.stat().st_size if part.exists() else 0
    if done == file.size:
        return
    done = done if done < file.size else 0
    with _connect(file, done, timeout_s) as response:
        if not (response.headers.get("Content-Range") or "").startswith(f"bytes {done}-"):
            done = 0  # the server sends the file from its beginning
        with open(part, "ab" if done else "wb", opener=_not_through_links) as out:
            for chunk in _chunks(response, timeout_s):
                out.write(chunk)
                done += len(chunk)
                if progress is not None:
                    progress(file.name, min(done, file.size), file.size)
                if done > file.size:
                    return
    if done < file.size:
        raise _Cut(f"the connection ended after {done:,} of {file.size:,} bytes")


def _not_through_links(path: str, flags: int) -> int:
    """An opener for a folder in which others may have put a link to a file of the user's."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o600)


def _chunks(response: HTTPResponse, timeout_s: float) -> Iterator[bytes]:
    begun, received = time.monotonic(), 0
    while True:
        try:
            chunk = response.read1(_CHUNK)
        except (OSError, HTTPException) as error:
            raise _Cut(f"the connection broke off ({_reason(error)})") from error
        if not chunk:
            return
        yield chunk
        received += len(chunk)
        seconds = time.monotonic() - begun
        if seconds > timeout_s and received < seconds * _MIN_RATE:
            raise _Cut("the connection is too slow")


def _connect(file: RemoteFile, start: int, timeout_s: float) -> HTTPResponse:
    """The answer to a request for the file from byte ``start`` on."""
    request = urllib.request.Request(file.url, headers={"User-Agent": "imdbtune"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        return _open_within(request, timeout_s)
    except HTTPError as error:
        error.close()
        if error.code == 416:  # no such range: what is there is not of this file
            return _connect(file, 0, timeout_s)
        if error.code >= 500:
            raise _Cut(f"the server answered {error.code} {error.reason}") from error
        raise DownloadFailed.because(file, f"the server answered {error.code}") from error
    except (URLError, TimeoutError) as error:
        raise DownloadFailed.because(file, f"no connection ({_reason(error)})") from error
    except (OSError, HTTPException) as error:
        raise _Cut(f"the connection broke off ({_reason(error)})") from error


def _open_within(request: urllib.request.Request, timeout_s: float) -> HTTPResponse:
    """Open in a thread: a socket's timeout holds for each address anew, and not for the look-up."""
    answers: queue.SimpleQueue[HTTPResponse | Exception] = queue.SimpleQueue()

    def work() -> None:
        try:
            answers.put(_opener().open(request, timeout=timeout_s))
        except Exception as error:  # handed to the caller, who raises it
            answers.put(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        answer = answers.get(timeout=timeout_s)
    except queue.Empty:
        raise TimeoutError(f"nothing came in {timeout_s:g} s") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _opener() -> urllib.request.OpenerDirector:
    """An opener without file:, ftp: and data:, which ``build_opener`` would add."""
    proxies = urllib.request.getproxies()
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler({k: v for k, v in proxies.items() if k in ("http", "https")}),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", "") or error) or type(error).__name__
