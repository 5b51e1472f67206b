"""Ask a tracking server once, with bounds on time and size that MLflow's client does not have.

MLflow's timeout is that of a single read, so a server that sends a byte a second keeps it waiting
for ever; it reads an endless answer into memory, and takes an empty one for an empty list.
"""

from __future__ import annotations

import os
import ssl
import threading
import urllib.request
from http.client import HTTPResponse
from urllib.error import HTTPError
from urllib.parse import urlsplit, urlunsplit

MAX_BYTES = 2**20  # an experiment with its tags has less
TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"  # of MLflow; here for the whole answer
TIMEOUT_S = 30.0
QUERY = "/api/2.0/mlflow/experiments/search?max_results=1"


def probe_server(uri: str) -> None:
    """Raise ConnectionError if the answers of a tracking server do not end, or are empty.

    A server that cannot be reached or refuses the request is none of them: MLflow's client sends
    credentials, and reports such errors by itself.
    """
    limit_s = timeout_s()
    problems: list[str] = []
    # A thread, as no timeout of a socket bounds the whole answer.
    reading = threading.Thread(
        target=lambda: problems.append(_problem(uri, limit_s)), name="probe", daemon=True
    )
    reading.start()
    reading.join(limit_s)
    if not problems:
        raise ConnectionError(f"no complete answer within {limit_s:g} s ({TIMEOUT})")
    if problems[0]:
        raise ConnectionError(problems[0])


def timeout_s() -> float:
    """Return the timeout of MLflow's client."""
    try:
        return min(max(float(os.environ.get(TIMEOUT, "")), 1.0), threading.TIMEOUT_MAX)
    except ValueError:
        return TIMEOUT_S


def _problem(uri: str, timeout_s: float) -> str:
    """Return what is wrong with the answer to one request; empty: nothing, or MLflow reports it."""
    try:
        with _open(uri, timeout_s) as answer:
            body = answer.read(MAX_BYTES + 1)
    except Exception:  # of sockets, TLS, HTTP and addresses
        return ""
    if len(body) > MAX_BYTES:
        return f"its answer to a short question has more than {MAX_BYTES:,} bytes"
    if answer.status == 200 and not body.strip():
        return "its answer is empty, as that of no MLflow server"
    return ""


def _open(uri: str, timeout_s: float) -> HTTPResponse | HTTPError:
    """Send a request that MLflow's client sends too, without credentials."""
    parts = urlsplit(uri)
    place = parts.netloc.rpartition("@")[2]
    url = urlunsplit((parts.scheme, place, parts.path.rstrip("/") + QUERY, "", ""))
    # Nothing secret is sent, and nothing that comes back is used.
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        answer: HTTPResponse = urllib.request.urlopen(url, timeout=timeout_s, context=context)
        return answer
    except HTTPError as error:
        return error
