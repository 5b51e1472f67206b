"""Tracking servers that answer without end, without haste or with nothing."""

from __future__ import annotations

import importlib
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from imdbtune.errors import UserError
from imdbtune.tracking.connection import connect
from imdbtune.tracking.server_probe import MAX_BYTES, probe_server

Answer = Callable[[socket.socket], None]
Serve = Callable[[Answer], str]
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
RECEIVED: list[bytes] = []
LONG_S = 20.0  # longer than any of these tests may take


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Returns the address of a server that gives each request the same answer."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", "0")
    importlib.import_module("mlflow.tracking")  # which takes seconds
    RECEIVED.clear()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def start(answer: Answer) -> str:
            threading.Thread(target=accept, args=[answer], daemon=True).start()
            return f"http://127.0.0.1:{listening.getsockname()[1]}"

        def accept(answer: Answer) -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:  # the test has ended
                    return
                threading.Thread(target=handle, args=[answer, connection], daemon=True).start()

        def handle(answer: Answer, connection: socket.socket) -> None:
            with connection, suppress(OSError):
                RECEIVED.append(connection.recv(65536))
                answer(connection)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):  # what is not read resets the connection
                    pass

        yield start


def slow_body(to: socket.socket) -> None:
    to.sendall(OK + b"Content-Length: 1000\r\n\r\n")
    slowly(to, b" " * 1000)


def slow_headers(to: socket.socket) -> None:
    slowly(to, OK)


def slowly(to: socket.socket, text: bytes) -> None:
    for byte in text:
        to.sendall(bytes([byte]))
        time.sleep(0.3)


def endless(to: socket.socket) -> None:
    to.sendall(OK + b"\r\n")
    while True:
        to.sendall(b" " * 2**20)


def endless_error(to: socket.socket) -> None:
    to.sendall(b"HTTP/1.1 404 Not Found\r\n\r\n")
    while True:
        to.sendall(b" " * 2**20)


def silent(to: socket.socket) -> None:
    time.sleep(LONG_S)


def empty(to: socket.socket) -> None:
    to.sendall(OK + b"Content-Length: 0\r\n\r\n")


def come_back_later(to: socket.socket) -> None:
    head = b"HTTP/1.1 503 Later\r\nConnection: close\r\nRetry-After: 100000\r\n"
    to.sendall(head + b"Content-Length: 0\r\n\r\n")


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (slow_body, "no complete answer within 1 s"),
        (slow_headers, "no complete answer within 1 s"),
        (silent, "no complete answer within 1 s"),
        (endless, f"more than {MAX_BYTES:,} bytes"),
        (endless_error, f"more than {MAX_BYTES:,} bytes"),
        (empty, "its answer is empty"),
        (come_back_later, "503"),
    ],
)
def test_a_server_that_is_none_is_told_in_a_line(answer: Answer, says: str, serve: Serve) -> None:
    uri = serve(answer)
    started = time.monotonic()
    tracemalloc.start()
    with pytest.raises(UserError) as caught:
        connect(uri)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    message = str(caught.value)
    assert f"the tracking store {uri} cannot be used: " in message
    assert says in message
    assert len(message.splitlines()) == 1
    assert time.monotonic() - started < LONG_S / 2
    assert most < 2**28


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 3\r\n\r\nno!",
        b"nonsense\r\n\r\n",
        b"",
    ],
)
def test_what_the_client_of_mlflow_reports_itself_is_left_to_it(
    answer: bytes, serve: Serve
) -> None:
    probe_server(serve(lambda to: to.sendall(answer)))


def test_no_credentials_are_sent(serve: Serve) -> None:
    uri = serve(empty).replace("127", "me:word@127")
    with pytest.raises(ConnectionError, match="empty"):
        probe_server(uri)
    (request,) = RECEIVED
    assert request.startswith(b"GET /api/2.0/mlflow/experiments/search?max_results=1 ")
    assert b"word" not in request
    assert b"Authorization" not in request
