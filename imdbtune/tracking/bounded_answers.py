"""Bounds the answers of a tracking server in time and size, as an authentication plugin of MLflow.

MLflow's timeout is that of a single read, and its client reads any answer into memory as a whole.
The plugin is what MLflow documents for requests of its client: ``MLFLOW_TRACKING_AUTH`` names it,
and it adds to each request what checks the answer. The headers of an answer are out of its reach.
"""

from __future__ import annotations

import io
import time

import requests
from mlflow.tracking.request_auth.abstract_request_auth_provider import RequestAuthProvider
from requests.auth import AuthBase, HTTPBasicAuth
from requests.utils import get_auth_from_url, get_netrc_auth

from imdbtune.tracking.client_environment import AUTH_PLUGIN
from imdbtune.tracking.server_probe import TIMEOUT, timeout_s

MAX_BYTES = 2**28  # a page of 1,000 runs with hundreds of values each has a tenth of it
TIMES = 4  # so many timeouts of a single read may an answer take as a whole
_CHUNK = 2**16


class BoundedAnswersProvider(RequestAuthProvider):
    """Hands MLflow's client what bounds its answers."""

    def get_name(self) -> str:
        """Return the value of ``MLFLOW_TRACKING_AUTH``."""
        return AUTH_PLUGIN

    def get_auth(self) -> BoundedAnswers:
        """Return what requests calls with each request."""
        return BoundedAnswers()


class BoundedAnswers(AuthBase):
    """Bounds the answer to a request, and logs in as requests does without a plugin."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add credentials from ``.netrc`` or the address, and the check of the answer."""
        address = str(request.url)
        login = get_netrc_auth(address) or get_auth_from_url(address)
        if any(login):
            HTTPBasicAuth(*login)(request)
        request.register_hook("response", _read)
        return request


def _read(
    response: requests.Response, *, stream: bool = False, **settings: object
) -> requests.Response:
    """Read an answer that is not a file, unless it is too long, too slow, or empty.

    Raises:
        ConnectionError: as requests raises it; MLflow's client reports it.
    """
    if stream:
        return response
    body, limit = io.BytesIO(), TIMES * timeout_s()
    until = time.monotonic() + limit
    while chunk := response.raw.read1(_CHUNK, decode_content=True):
        body.write(chunk)
        if body.tell() > MAX_BYTES:
            _refuse(response, f"its answer has more than {MAX_BYTES:,} bytes")
        if time.monotonic() > until:
            _refuse(response, f"no complete answer within {limit:g} s ({TIMES} x {TIMEOUT})")
    response.raw.release_conn()
    is_call = response.request.method in ("GET", "POST")  # a file that is sent has no answer
    if is_call and response.status_code == 200 and not body.getvalue().strip():
        _refuse(response, "its answer is empty")  # which MLflow takes for an empty list
    body.seek(0)
    response.raw = body
    return response


def _refuse(response: requests.Response, problem: str) -> None:
    response.raw.close()
    reason = ConnectionError(problem)
    raise requests.exceptions.ConnectionError(problem) from reason
