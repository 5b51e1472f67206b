from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from imdbtune.data.download import DownloadFailed, RemoteFile, fetch
from imdbtune.data.imdb import KERAS_FILES, imdb_corpus
from imdbtune.errors import UserError

CONTENT = bytes(range(256)) * 1000


@dataclass
class Server:
    """What the local server does, and what it was asked."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=lambda: {"/data.bin": CONTENT})
    ranges: bool = True
    status: list[int] = field(default_factory=list)  # answers before the first good one
    cuts: list[int] = field(default_factory=list)  # bytes sent before the connection is cut
    trickle_s: float = 0.0  # pause after each of the first bytes
    silent: bool = False  # never answers
    redirect: str = ""
    asked: list[str | None] = field(default_factory=list)  # Range headers
    over: threading.Event = field(default_factory=threading.Event)

    def file(self, name: str = "data.bin", content: bytes = CONTENT) -> RemoteFile:
        digest = hashlib.sha256(content).hexdigest()
        return RemoteFile(f"{self.address}/{name}", len(content), digest)


def handler(plan: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            plan.asked.append(self.headers["Range"])
            content = plan.files.get(self.path)
            if plan.silent:
                plan.over.wait(10)
            elif plan.redirect:
                self.send_response(302)
                self.send_header("Location", plan.redirect)
                self.end_headers()
            elif plan.status or content is None:
                self.send_error(plan.status.pop(0) if plan.status else 404)
            else:
                self.send(content)

        def send(self, content: bytes) -> None:
            start = int((self.headers["Range"] or "=0-").split("=")[1].rstrip("-"))
            if plan.ranges and start >= len(content):
                return self.send_error(416)
            start = start if plan.ranges else 0
            self.send_response(206 if start else 200)
            if start:
                end = f"{len(content) - 1}/{len(content)}"
                self.send_header("Content-Range", f"bytes {start}-{end}")
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            body = content[start:]
            if plan.trickle_s:
                for byte in body[:1000]:
                    self.wfile.write(bytes([byte]))
                    if plan.over.wait(plan.trickle_s):
                        return None
            self.wfile.write(body[: plan.cuts.pop(0)] if plan.cuts else body)
            return None

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


def failure(folder: Path, file: RemoteFile, timeout_s: float = 5.0) -> str:
    with pytest.raises(DownloadFailed) as caught:
        fetch(file, folder, timeout_s=timeout_s)
    message = str(caught.value)
    assert file.url in message
    assert "--data PATH/imdb.npz" in message
    assert "--data demo" in message
    assert not (folder / file.name).exists()
    return message


def test_a_file_is_fetched_once(tmp_path: Path, server: Server) -> None:
    seen: list[tuple[str, int, int]] = []
    path = fetch(server.file(), tmp_path / "new", lambda *step: seen.append(step))
    assert path == tmp_path / "new" / "data.bin"
    assert path.read_bytes() == CONTENT
    assert seen[-1] == ("data.bin", len(CONTENT), len(CONTENT))
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    fetch(server.file(), tmp_path / "new")
    assert server.asked == [None]
    assert not (tmp_path / "new" / "data.bin.part").exists()


def test_after_a_cut_the_rest_is_asked_for(tmp_path: Path, server: Server) -> None:
    server.cuts = [70_000, 30_000]
    assert fetch(server.file(), tmp_path).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=70000-", "bytes=100000-"]


def test_a_later_run_resumes(tmp_path: Path, server: Server) -> None:
    server.cuts = [10, 10, 10]
    assert "ended after 30 of 256,000 bytes (3 attempts)" in failure(tmp_path, server.file())
    assert fetch(server.file(), tmp_path).read_bytes() == CONTENT
    assert server.asked[-1] == "bytes=30-"


def test_a_server_without_ranges_starts_anew(tmp_path: Path, server: Server) -> None:
    server.cuts, server.ranges = [70_000], False
    assert fetch(server.file(), tmp_path).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=70000-"]


@pytest.mark.parametrize("part", [CONTENT, CONTENT + b"more"])
def test_a_part_that_is_long_enough_is_judged_by_its_hash(
    tmp_path: Path, server: Server, part: bytes
) -> None:
    (tmp_path / "data.bin.part").write_bytes(part)
    assert fetch(server.file(), tmp_path).read_bytes() == CONTENT
    assert server.asked == ([] if part == CONTENT else [None])


def test_a_range_that_the_server_does_not_have_starts_anew(tmp_path: Path, server: Server) -> None:
    server.files["/data.bin"] = b"short"
    (tmp_path / "data.bin.part").write_bytes(CONTENT[:100])
    failure(tmp_path, server.file())
    assert server.asked[:2] == ["bytes=100-", None]
    assert (tmp_path / "data.bin.part").read_bytes() == b"short"


@pytest.mark.parametrize("content", [CONTENT[::-1], CONTENT + b"more"])
def test_wrong_content_is_deleted(tmp_path: Path, server: Server, content: bytes) -> None:
    server.files["/data.bin"] = content
    assert "is not the file with sha256" in failure(tmp_path, server.file())
    assert not (tmp_path / "data.bin.part").exists()


def test_a_damaged_file_in_the_cache_is_fetched_again(tmp_path: Path, server: Server) -> None:
    (tmp_path / "data.bin").write_bytes(CONTENT[:-1] + b"?")
    assert fetch(server.file(), tmp_path).read_bytes() == CONTENT


def test_a_missing_file_is_not_asked_for_again(tmp_path: Path, server: Server) -> None:
    assert "the server answered 404" in failure(tmp_path, server.file("none.bin"))
    assert len(server.asked) == 1


def test_a_server_error_is_tried_again(tmp_path: Path, server: Server) -> None:
    server.status = [503, 500]
    assert fetch(server.file(), tmp_path).read_bytes() == CONTENT
    server.status = [503, 503, 503]
    assert "the server answered 503" in failure(tmp_path / "again", server.file())


def test_a_server_that_says_nothing_is_given_up(tmp_path: Path, server: Server) -> None:
    server.silent = True
    assert "no connection" in failure(tmp_path, server.file(), timeout_s=0.2)


@pytest.mark.parametrize(("pause_s", "why"), [(0.01, "too slow"), (5.0, "timed out")])
def test_a_slow_server_is_given_up(
    tmp_path: Path, server: Server, pause_s: float, why: str
) -> None:
    server.trickle_s = pause_s
    assert why in failure(tmp_path, server.file(), timeout_s=0.2)


def test_without_a_server_the_reason_is_told(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}/x.bin"
        message = failure(tmp_path, RemoteFile(address, 1, "0" * 64))
    assert "no connection" in message
    assert "refused" in message


@pytest.mark.parametrize("scheme", ["file", "ftp", "data"])
def test_only_http_is_spoken(tmp_path: Path, server: Server, scheme: str) -> None:
    (tmp_path / "secret").write_bytes(CONTENT)
    url = {"file": (tmp_path / "secret").as_uri(), "ftp": "ftp://127.0.0.1/x", "data": "data:,x"}
    there = server.file()
    failure(tmp_path / "a", RemoteFile(url[scheme], there.size, there.sha256))
    server.redirect = url[scheme]
    failure(tmp_path / "b", there)


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
    assert len(server.asked) == 1


def test_processes_fetch_once(tmp_path: Path, server: Server) -> None:
    program = (
        "import sys; from pathlib import Path; from imdbtune.data.download import *;"
        f"fetch({server.file()!r}, Path(sys.argv[1]))"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    processes = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    assert len(server.asked) == 1


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, server: Server) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/.* cannot be written .*IMDBTUNE_CACHE"):
        fetch(server.file(), tmp_path / "file" / "folder")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_told(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: str, flags: int) -> int:
        return os.open("/dev/full", os.O_WRONLY)

    monkeypatch.setattr("imdbtune.data.download._not_through_links", full)
    with pytest.raises(UserError, match="No space left on device"):
        fetch(server.file(), tmp_path)


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
    assert len(server.asked) == 2


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
