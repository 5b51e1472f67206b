from __future__ import annotations

import errno
import hashlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from imdbtune.data.download import DownloadFailed, RemoteFile, fetch
from imdbtune.data.imdb import KERAS_FILES, imdb_corpus
from imdbtune.errors import UserError

CONTENT = bytes(range(256)) * 1000


@dataclass
class Server:
    """What the local server does, and which requests it got."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=lambda: {"/data.bin": CONTENT})
    status: list[int] = field(default_factory=list)  # answers before the first good one
    cuts: list[int] = field(default_factory=list)  # bytes sent before the connection is cut
    stall: bool = False  # stops sending in the middle
    silent: bool = False  # never answers
    redirect: str = ""
    requests: list[str] = field(default_factory=list)  # paths of the GET requests
    over: threading.Event = field(default_factory=threading.Event)

    def file(self, name: str = "data.bin", content: bytes = CONTENT) -> RemoteFile:
        digest = hashlib.sha256(content).hexdigest()
        return RemoteFile(f"{self.address}/{name}", len(content), digest)


def handler(plan: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            plan.requests.append(self.path)
            self.answer()

        def answer(self) -> None:
            content = plan.files.get(self.path)
            if plan.silent:
                plan.over.wait(10)
            elif plan.redirect:
                self.send_response(302)
                self.send_header("Location", plan.redirect)
                self.end_headers()
            elif content is None:
                self.send_error(404)
            elif plan.status and self.command == "GET":
                self.send_error(plan.status.pop(0))
            else:
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if self.command == "GET":
                    self.send(content)

        def send(self, content: bytes) -> None:
            if plan.stall:
                self.wfile.write(content[:100_000])
                plan.over.wait(10)
            else:
                self.wfile.write(content[: plan.cuts.pop(0)] if plan.cuts else content)

    return Handler


@pytest.fixture
def server() -> Iterator[Server]:
    plan = Server()
    with ThreadingHTTPServer(("127.0.0.1", 0), handler(plan)) as http:
        http.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients hang up here
        plan.address = f"http://127.0.0.1:{http.server_port}"
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield plan
        plan.over.set()
        http.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_pause_between_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pooch.core.time", SimpleNamespace(sleep=lambda seconds: None))


def failure(folder: Path, file: RemoteFile, timeout_s: float = 5.0) -> str:
    """Fetch in vain; the message, which names what to do instead."""
    with pytest.raises(DownloadFailed) as caught:
        fetch(file, folder, timeout_s=timeout_s)
    message = str(caught.value)
    assert message.count(file.url) == 1
    assert "--data PATH/imdb.npz" in message
    assert "--data demo" in message
    assert "\n" not in message
    assert files_in(folder) == []
    return message


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_a_file_is_fetched_once(
    tmp_path: Path, server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    seen: list[tuple[str, int, int]] = []
    path = fetch(server.file(), tmp_path / "new", lambda *step: seen.append(step))
    assert path == tmp_path / "new" / "data.bin"
    assert path.read_bytes() == CONTENT
    assert seen[-1] == ("data.bin", len(CONTENT), len(CONTENT))
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    fetch(server.file(), tmp_path / "new")
    assert server.requests == ["/data.bin"]
    assert files_in(tmp_path / "new") == ["data.bin"]
    assert capfd.readouterr() == ("", "")


def test_a_broken_connection_is_tried_again(tmp_path: Path, server: Server) -> None:
    server.cuts = [70_000, 30_000]
    assert fetch(server.file(), tmp_path).read_bytes() == CONTENT
    server.cuts = [70_000, 10, 30_000]
    assert "30000 bytes read" in failure(tmp_path / "again", server.file())


@pytest.mark.parametrize("content", [CONTENT[::-1], CONTENT + b"more"])
def test_wrong_content_is_deleted(tmp_path: Path, server: Server, content: bytes) -> None:
    server.files["/data.bin"] = content
    assert "does not match the known hash" in failure(tmp_path, server.file())


def test_content_without_end_is_not_read_to_it(tmp_path: Path, server: Server) -> None:
    server.files["/data.bin"] = CONTENT * 2
    assert "sends more than 256,000 bytes" in failure(tmp_path, server.file())


def test_a_damaged_file_in_the_cache_is_fetched_again(tmp_path: Path, server: Server) -> None:
    (tmp_path / "data.bin").write_bytes(CONTENT[:-1] + b"?")
    assert fetch(server.file(), tmp_path).read_bytes() == CONTENT


def test_a_link_in_the_cache_is_not_written_through(tmp_path: Path, server: Server) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "data.bin").symlink_to(tmp_path / "precious")
    assert fetch(server.file(), tmp_path / "cache").read_bytes() == CONTENT
    assert (tmp_path / "precious").read_text() == "mine"


def test_a_missing_file_is_reported(tmp_path: Path, server: Server) -> None:
    assert "404 Client Error: Not Found." in failure(tmp_path, server.file("none.bin"))


def test_a_server_error_is_tried_again(tmp_path: Path, server: Server) -> None:
    server.status = [503, 500]
    assert fetch(server.file(), tmp_path).read_bytes() == CONTENT
    server.status = [503, 503, 503]
    assert "503 Server Error" in failure(tmp_path / "again", server.file())


def test_a_server_that_does_not_answer_is_given_up_once(tmp_path: Path, server: Server) -> None:
    server.silent = True
    began = time.monotonic()
    assert "no answer in time" in failure(tmp_path, server.file(), timeout_s=0.3)
    assert time.monotonic() - began < 0.9


def test_a_name_look_up_that_takes_too_long_is_given_up(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: server.over.wait(10))
    began = time.monotonic()
    assert "no answer in time" in failure(tmp_path, server.file(), timeout_s=0.3)
    assert time.monotonic() - began < 0.9


def test_a_server_that_stops_sending_is_given_up(tmp_path: Path, server: Server) -> None:
    server.stall = True
    assert "timed out" in failure(tmp_path, server.file(), timeout_s=0.3)


def test_without_a_server_the_reason_is_given(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}/x.bin"
        message = failure(tmp_path, RemoteFile(address, 1, "0" * 64))
    assert "could not be downloaded: [Errno 111] Connection refused. Check" in message


@pytest.mark.parametrize("scheme", ["file", "ftp", "data"])
def test_only_http_is_spoken(tmp_path: Path, server: Server, scheme: str) -> None:
    (tmp_path / "secret").write_bytes(CONTENT)
    url = {"file": (tmp_path / "secret").as_uri(), "ftp": "ftp://127.0.0.1/x", "data": "data:,x"}
    there = server.file()
    with pytest.raises(DownloadFailed, match="No connection adapters"):
        fetch(RemoteFile(url[scheme], there.size, there.sha256), tmp_path / "a")
    server.redirect = url[scheme]
    assert "No connection adapters" in failure(tmp_path / "b", there)


def test_a_redirect_within_http_is_followed(tmp_path: Path, server: Server) -> None:
    moved = Server()
    moved.redirect = f"{server.address}/data.bin"
    with ThreadingHTTPServer(("127.0.0.1", 0), handler(moved)) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        moved.address = f"http://127.0.0.1:{http.server_port}"
        assert fetch(moved.file(), tmp_path).read_bytes() == CONTENT
        http.shutdown()
        thread.join()


def test_threads_fetch_once(tmp_path: Path, server: Server) -> None:
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: fetch(server.file(), tmp_path), range(4)))
    assert {path.read_bytes() for path in paths} == {CONTENT}
    assert server.requests == ["/data.bin"]


def test_processes_fetch_once(tmp_path: Path, server: Server) -> None:
    program = (
        "import sys; from pathlib import Path; from imdbtune.data.download import *;"
        f"fetch({server.file()!r}, Path(sys.argv[1]))"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    processes = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    assert server.requests == ["/data.bin"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, server: Server) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/.* cannot be written .*IMDBTUNE_CACHE"):
        fetch(server.file(), tmp_path / "file" / "folder")


def test_a_full_disk_is_reported(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("pooch.core.shutil.move", full)
    with pytest.raises(UserError, match="No space left on device"):
        fetch(server.file(), tmp_path)
    assert files_in(tmp_path) == []


def test_imdb_is_downloaded_and_converted_once(
    tmp_path: Path, server: Server, small_npz: Callable[..., bytes]
) -> None:
    server.files = {"/imdb.npz": small_npz(), "/imdb_word_index.json": b'{"film": 1}'}
    npz, words = (server.file(path[1:], content) for path, content in server.files.items())
    seen: list[str] = []
    first = imdb_corpus(tmp_path, lambda name, *_: seen.append(name), (npz, words))
    assert set(seen) == {"imdb.npz", "imdb_word_index.json"}
    assert sorted(first.train.lengths) == [2, 3, 4]
    again = imdb_corpus(tmp_path, None, (npz, words))
    assert again.digest == first.digest
    assert server.requests == list(server.files)


def test_the_files_of_keras_are_named_exactly() -> None:
    folder = "https://storage.googleapis.com/tensorflow/tf-keras-datasets"
    assert [file.url for file in KERAS_FILES] == [
        f"{folder}/imdb.npz",
        f"{folder}/imdb_word_index.json",
    ]
    assert [(file.size, file.sha256[:8]) for file in KERAS_FILES] == [
        (17464789, "69664113"),
        (1641221, "027313fe"),
    ]
