"""Where MLflow keeps things: which store is meant, and a client for it."""

from __future__ import annotations

import os
import re
import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from imdbtune.errors import UserError, quote_path, short_repr
from imdbtune.files import require_regular_file

if TYPE_CHECKING:
    from mlflow import MlflowClient as MlflowClient  # the type, also for other packages

Say = Callable[[str], None]
DEFAULT_URI = "sqlite:///mlflow.db"
SLOW_S = 3.0  # until a store that has not answered is mentioned
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
SCHEMES = (*DATABASES, "http", "https", "databricks", "file")
# What MLflow's client reads from the environment at each request.
ENVIRONMENT_DEFAULTS = {
    # MLflow would retry a request for minutes; what must not fail is retried by the delivery.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",  # a server that receives a model needs some time
    # MLflow would print two lines for each run that ends, and ask the server for them.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


def _silent(line: str) -> None:
    """For those who do not listen."""


def set_environment_defaults() -> None:
    """Set :data:`ENVIRONMENT_DEFAULTS` where the environment has no value of its own.

    The command line does so at its start, :func:`connect` for those who use the Python API: both
    before this package starts a thread. Further calls change nothing.
    """
    for name, value in ENVIRONMENT_DEFAULTS.items():
        if not os.environ.get(name):
            os.environ[name] = value


def resolve_uri(uri: str = "") -> str:
    """The tracking store that is meant: ``uri``, else MLFLOW_TRACKING_URI, else SQLite here.

    Named explicitly even where it is MLflow's default, which depends on what lies around in the
    working directory. A relative SQLite path is made absolute, so that workers mean the same.

    Raises:
        UserError: no store that MLflow knows.
    """
    chosen = uri or os.environ.get("MLFLOW_TRACKING_URI", "") or DEFAULT_URI
    scheme = chosen.partition(":")[0].split("+")[0]
    known = scheme in SCHEMES and (":" in chosen or chosen == "databricks")
    if not known or not chosen.isprintable():
        raise UserError(
            f"tracking URI {short_repr(hide_secrets(chosen))} is not known; give for example "
            f"{DEFAULT_URI} or http://127.0.0.1:5000."
        )
    return _absolute(chosen) if scheme == "sqlite" else chosen


def _absolute(uri: str) -> str:
    """An SQLite URI whose path does not depend on the working directory."""
    name = uri.partition(":///")[2]
    if not name or name == ":memory:" or "?" in name:
        raise UserError(
            f"tracking URI {short_repr(uri)} names no file to keep; give for example {DEFAULT_URI}."
        )
    try:
        path = Path(name).absolute()
        path.exists()
    except OSError as error:  # the name is too long, the working directory is gone
        raise UserError(
            f"tracking store {short_repr(uri)} cannot be used: {error.strerror}; name another one."
        ) from error
    if not path.parent.is_dir():
        raise UserError(f"no folder {quote_path(path.parent)} for {uri}; make it first.")
    return f"sqlite:///{path}"


def hide_secrets(uri: str) -> str:
    """The URI without user name and password, for messages and logs."""
    masked = _SECRET.sub(r"\1***", uri)
    userinfo = _userinfo(masked)
    return masked.replace(f"{userinfo}@", "***@", 1) if userinfo else masked


# "key" is a common word: only in a query it says that a secret follows.
_SECRET = re.compile(
    r"((?:password|passwd|pwd|token|secret|[?&;][^=&;#\s]*key)=)[^&#]*", re.IGNORECASE
)


def _userinfo(uri: str) -> str:
    """All up to the last @, as passwords may hold anything; file names may hold an @, too."""
    scheme, slashes, rest = uri.partition("://")
    if scheme.split("+")[0] in ("sqlite", "file"):
        return ""
    return (rest if slashes else scheme).rpartition("@")[0]


def redact_error(text: str, uri: str) -> str:
    """``text`` of an error about ``uri``, one line of it, with no password of the URI in it."""
    line = " ".join((text.splitlines() or [""])[0].split()).replace(uri, hide_secrets(uri))
    userinfo = _userinfo(uri)
    password = userinfo.partition(":")[2]
    named = [match[0].partition("=")[2] for match in _SECRET.finditer(uri)]
    secrets = [userinfo, password, *named]
    for secret in filter(None, [*secrets, *map(unquote, secrets)]):
        line = line.replace(secret, "***")
    return line


def from_requests(error: BaseException) -> bool:
    """Whether it is one of the errors of requests, which MLflow passes on from artifacts."""
    return type(error).__module__.startswith(("requests.", "urllib3."))


def failure_reason(error: BaseException) -> str:
    """What went wrong in a line: of a request without an answer, what the network says of it.

    MLflow and requests tell that last, behind the address, which they repeat.
    """
    chain: list[BaseException] = [error]
    while inner := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(inner)
    network = [e for e in chain if isinstance(e, OSError) and not from_requests(e)]
    if network and any(map(from_requests, chain)):
        error = network[0]
    told = str(getattr(error, "strerror", None) or error)
    return " ".join((told.splitlines() or [""])[0].split()) or type(error).__name__


_IN_TEXT = re.compile(r"(?<!sqlite)(?<!file)://[^\s'\"<>]*@")
_SECRET_IN_TEXT = re.compile(_SECRET.pattern.replace("[^&#]", r"[^&#\s'\"<>]"), re.IGNORECASE)
_SECRET_VARIABLES = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")


def redact_secrets(text: str) -> str:
    """``text`` without the secrets of URIs in it, or of the environment; for messages and logs."""
    for name in _SECRET_VARIABLES:
        value = os.environ.get(name, "")
        if len(value) > 3:  # one that is shorter may be part of any word
            text = text.replace(value, "***")
    return _SECRET_IN_TEXT.sub(r"\1***", _IN_TEXT.sub("://***@", text))


def is_local(uri: str) -> bool:
    """Whether the store lies on this machine's disk."""
    return uri.startswith(("sqlite:", "file:"))


def connect_existing(uri: str = "", say: Say = _silent, reading: bool = False) -> MlflowClient:
    """A client for the store that is meant; where there is none, none is made.

    Args:
        uri: the store, as for :func:`resolve_uri`.
        say: as for :func:`connect`.
        reading: nothing is to be written, so that an SQLite file may be read-only.

    Raises:
        UserError: there is no such store, or it cannot be used.
    """
    resolved = resolve_uri(uri)
    if is_missing(resolved):
        path = resolved.removeprefix("sqlite:///")
        raise UserError(
            f"no tracking store at {quote_path(path)}; run this where the search was "
            "begun, name the store with --tracking-uri, or start with imdbtune search."
        )
    return connect(resolved, say, reading)


def is_missing(uri: str) -> bool:
    """Whether the store that is meant would have to be made first; of a server it is not asked.

    Raises:
        UserError: no store that MLflow knows.
    """
    resolved = resolve_uri(uri)
    path = Path(resolved.removeprefix("sqlite:///"))
    return resolved.startswith("sqlite:") and not _has_tables(path)


def _has_tables(path: Path) -> bool:
    """Whether MLflow has been in this SQLite file; it would make its tables in any.

    Also where it cannot be told: connect() says what is wrong.
    """
    if not path.exists():
        return False
    if not path.is_file():  # SQLite would wait for a pipe
        return True
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            tables = database.execute("SELECT name FROM sqlite_master WHERE name = 'experiments'")
            return tables.fetchone() is not None
    except sqlite3.Error:
        return True


def connect(uri: str, say: Say = _silent, reading: bool = False) -> MlflowClient:
    """A client for a store named by :func:`resolve_uri`; an SQLite store is made if need be.

    Args:
        uri: the store.
        say: called with a line if the store takes its time to answer.
        reading: see :func:`connect_existing`.

    Raises:
        UserError: the store cannot be opened, or does not answer.
    """
    set_environment_defaults()  # before the timer below is a thread
    path = Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:") else None
    if path is not None:
        _check_sqlite(path, reading)
    try:
        with _said_if_slow(uri, say):
            if path is not None and not path.exists():
                _make_sqlite(path)
            if uri.startswith(DATABASES):
                _check_database(uri)
            client = open_client(uri)
            client.search_experiments(max_results=1)
    except Exception as error:  # SQLAlchemy and the drivers below MLflow have errors of their own
        reason = redact_error(failure_reason(error), uri)
        raise UserError(
            f"the tracking store {hide_secrets(uri)} cannot be used: {reason[:300]}; "
            "start or mend it, or name another one."
        ) from error
    return client


def open_client(uri: str) -> MlflowClient:
    """Return a client for a store, which is not asked whether it answers."""
    from mlflow import MlflowClient

    set_environment_defaults()
    return MlflowClient(tracking_uri=uri)


@contextmanager
def _said_if_slow(uri: str, say: Say) -> Iterator[None]:
    named_store = f"the tracking store {hide_secrets(uri)}"
    line = f"waiting for {named_store} to answer ..."
    if uri.startswith("sqlite:") and is_missing(uri):
        line = f"making {named_store} ..."
    timer = threading.Timer(SLOW_S, say, [line])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _check_database(uri: str) -> None:
    """Raise what is wrong with a database at once: MLflow would retry for two minutes first.

    ``create_sqlalchemy_engine``, in MLflow 3.17, is the first of those attempts. MLflow does not
    document it, but it alone knows the options of MLflow's connections.
    """
    import sqlalchemy
    from mlflow.store.db.utils import create_sqlalchemy_engine

    engine = create_sqlalchemy_engine(uri)
    try:
        sqlalchemy.inspect(engine)
    finally:
        engine.dispose()


def _make_sqlite(path: Path) -> None:
    """Let MLflow create its tables in another file: with only some of them a file is useless."""
    aside = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
    try:
        open_client(f"sqlite:///{aside}").search_experiments(max_results=1)
        try:
            os.link(aside, path)
        except OSError:  # another process was first, or the disk knows no links
            if not path.exists():
                aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _check_sqlite(path: Path, reading: bool = False) -> None:
    if path.is_dir():
        raise UserError(f"{quote_path(path)} is a folder, not an SQLite file; name a file in it.")
    if path.exists():
        try:
            with require_regular_file(path).open("rb") as file:
                head = file.read(16)
        except OSError as error:
            raise UserError(
                f"{quote_path(path)} cannot be read: {error.strerror}; name another SQLite file."
            ) from error
        if head and head != b"SQLite format 3\x00":
            raise UserError(f"{quote_path(path)} is not an SQLite file; name another one.")
    there = path if path.exists() else path.parent
    if not (reading and path.exists()) and not os.access(there, os.W_OK):
        raise UserError(
            f"{quote_path(path)} cannot be written; name another file or mend the rights."
        )
