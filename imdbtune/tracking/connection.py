"""Finds the tracking store that is meant, opens clients for it, and keeps its secrets."""

from __future__ import annotations

import glob
import os
import re
import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import filelock

from imdbtune.errors import NotInStore, UserError, quote_path, short_repr
from imdbtune.files import require_regular_file
from imdbtune.tracking.client_environment import set_environment_defaults

if TYPE_CHECKING:
    from mlflow import MlflowClient as MlflowClient  # the type, also for other packages

Notify = Callable[[str], None]
DEFAULT_URI = "sqlite:///mlflow.db"
SLOW_S = 3.0  # until a store that has not answered is mentioned
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_PART, _LOCK = ".part", ".lock"  # ends of the names of a store that is being created
SCHEMES = (*DATABASES, "http", "https", "databricks", "file")


def _silent(line: str) -> None:
    """Ignore a line."""


def resolve_uri(uri: str = "") -> str:
    """Return the tracking store that is meant: ``uri``, MLFLOW_TRACKING_URI, or SQLite here.

    MLflow's own default depends on the files in the working directory, and is not used. A relative
    SQLite path becomes absolute, so that workers use the same store.

    Raises:
        UserError: MLflow knows no such store.
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
    """Return an SQLite URI whose path does not depend on the working directory."""
    name = uri.partition(":///")[2]
    if not name or name == ":memory:" or "?" in name:
        raise UserError(
            f"tracking URI {short_repr(uri)} names no file; give for example {DEFAULT_URI}."
        )
    try:
        path = Path(name).absolute()
        path.exists()
    except OSError as error:  # the name is too long, the working directory is gone
        raise UserError(
            f"tracking store {short_repr(uri)} cannot be used: {error.strerror}; name another one."
        ) from error
    if not path.parent.is_dir():
        raise UserError(f"no folder {quote_path(path.parent)} for {uri}; create it first.")
    return f"sqlite:///{path}"


def hide_secrets(uri: str) -> str:
    """Return the URI without user name, password and tokens, for messages and logs."""
    masked = _SECRET.sub(r"\1***", uri)
    userinfo = _userinfo(masked)
    return masked.replace(f"{userinfo}@", "***@", 1) if userinfo else masked


# "key" is a common word: a secret follows it only in a query.
_SECRET = re.compile(
    r"((?:password|passwd|pwd|token|secret|[?&;][^=&;#\s]*key)=)[^&#]*", re.IGNORECASE
)


def _userinfo(uri: str) -> str:
    """Return all up to the last @: passwords may contain anything, and so may file names."""
    scheme, slashes, rest = uri.partition("://")
    if scheme.split("+")[0] in ("sqlite", "file"):
        return ""
    return (rest if slashes else scheme).rpartition("@")[0]


def redact_error(text: str, uri: str) -> str:
    """Return the first line of an error about ``uri`` without the secrets of the URI."""
    line = " ".join((text.splitlines() or [""])[0].split()).replace(uri, hide_secrets(uri))
    userinfo = _userinfo(uri)
    password = userinfo.partition(":")[2]
    named = [match[0].partition("=")[2] for match in _SECRET.finditer(uri)]
    secrets = [userinfo, password, *named]
    for secret in filter(None, [*secrets, *map(unquote, secrets)]):
        line = line.replace(secret, "***")
    return line


def from_requests(error: BaseException) -> bool:
    """Return whether an error is of requests, whose errors MLflow passes on for artifacts."""
    return type(error).__module__.startswith(("requests.", "urllib3."))


def is_of_store(error: BaseException) -> bool:
    """Return whether an error says that MLflow's client, or what it stands on, has failed."""
    return from_requests(error) or type(error).__module__.startswith(("mlflow.", "sqlalchemy."))


def failure_reason(error: BaseException) -> str:
    """Return what went wrong in one line: the error of the network or the database, if any.

    MLflow and requests put that behind the address, which they repeat.
    """
    chain: list[BaseException] = [error]
    while inner := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(inner)
    network = [e for e in chain if isinstance(e, OSError) and not from_requests(e)]
    if network and any(map(from_requests, chain)):
        error = network[0]
    drivers = [e for e in (getattr(e, "orig", None) for e in chain) if e is not None]
    if drivers:  # SQLAlchemy puts its own remarks before what the database said
        error = drivers[-1]
    text = str(getattr(error, "strerror", None) or error)
    return " ".join((text.splitlines() or [""])[0].split()) or type(error).__name__


_IN_TEXT = re.compile(r"(?<!sqlite)(?<!file)://[^\s'\"<>]*@")
_SECRET_IN_TEXT = re.compile(_SECRET.pattern.replace("[^&#]", r"[^&#\s'\"<>]"), re.IGNORECASE)
_SECRET_VARIABLES = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")


def redact_secrets(text: str) -> str:
    """Return ``text`` without the secrets of URIs and of the environment, for messages and logs."""
    for name in _SECRET_VARIABLES:
        value = os.environ.get(name, "")
        if len(value) > 3:  # a shorter value may be part of any word
            text = text.replace(value, "***")
    return _SECRET_IN_TEXT.sub(r"\1***", _IN_TEXT.sub("://***@", text))


def is_local(uri: str) -> bool:
    """Return whether the store is on this machine's disk."""
    return uri.startswith(("sqlite:", "file:"))


def connect_existing(
    uri: str = "", notify: Notify = _silent, reading: bool = False
) -> MlflowClient:
    """Return a client for the store that is meant, which is not created where it is missing.

    Args:
        uri: the store, as for :func:`resolve_uri`.
        notify: as for :func:`connect`.
        reading: whether the client only reads, so that an SQLite file may be read-only.

    Raises:
        NotInStore: there is no such store.
        UserError: it cannot be used.
    """
    resolved = resolve_uri(uri)
    if is_missing(resolved):
        path = resolved.removeprefix("sqlite:///")
        raise NotInStore(
            f"no tracking store at {quote_path(path)}; run this where the search was "
            "begun, name the store with --tracking-uri, or start with imdbtune search."
        )
    return connect(resolved, notify, reading)


def is_missing(uri: str) -> bool:
    """Return whether the store that is meant would have to be created; a server never has to.

    Raises:
        UserError: MLflow knows no such store.
    """
    return is_emptied(resolve_uri(uri))


def is_emptied(uri: str) -> bool:
    """Return whether a store from :func:`resolve_uri` is an SQLite file without MLflow's tables."""
    return uri.startswith("sqlite:") and not _has_tables(Path(uri.removeprefix("sqlite:///")))


def _has_tables(path: Path) -> bool:
    """Return whether an SQLite file has MLflow's tables, which MLflow would create in any file.

    A file that cannot be read counts as one that has them: connect() reports what is wrong.
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


def connect(uri: str, notify: Notify = _silent, reading: bool = False) -> MlflowClient:
    """Return a client for a store from :func:`resolve_uri`; an SQLite store is created if need be.

    Args:
        uri: the store.
        notify: called with a line if the store is slow to answer.
        reading: as for :func:`connect_existing`.

    Raises:
        UserError: the store cannot be opened, or does not answer.
    """
    set_environment_defaults()  # before the timer below is a thread
    path = Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:") else None
    if path is not None:
        _check_sqlite(path, reading)
    try:
        with _announce_if_slow(uri, notify):
            if path is not None:
                _delete_leftovers(path)
                if not path.exists():
                    _create_sqlite(path)
            if uri.startswith(DATABASES):
                _check_database(uri)
            if uri.startswith("http"):
                from imdbtune.tracking.server_probe import probe_server

                probe_server(uri)
            client = open_client(uri)
            client.search_experiments(max_results=1)
    except Exception as error:  # SQLAlchemy and the drivers below MLflow have errors of their own
        reason = redact_error(failure_reason(error), uri)
        raise UserError(
            f"the tracking store {hide_secrets(uri)} cannot be used: {reason[:300]}; "
            "start or repair it, or name another one."
        ) from error
    return client


def open_client(uri: str) -> MlflowClient:
    """Return a client for a store without a request to it."""
    from mlflow import MlflowClient

    set_environment_defaults()
    return MlflowClient(tracking_uri=uri)


@contextmanager
def _announce_if_slow(uri: str, notify: Notify) -> Iterator[None]:
    store = f"the tracking store {hide_secrets(uri)}"
    line = f"waiting for {store} to answer ..."
    if uri.startswith("sqlite:") and is_missing(uri):
        line = f"creating {store} ..."
    timer = threading.Timer(SLOW_S, notify, [line])
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


def _create_sqlite(path: Path) -> None:
    """Let MLflow create its tables in another file: with only some of them a file is useless."""
    aside = path.with_name(f"{path.name}.{uuid.uuid4().hex}{_PART}")
    with filelock.FileLock(f"{aside}{_LOCK}"):  # first: see _delete_leftovers
        try:
            open_client(f"sqlite:///{aside}").search_experiments(max_results=1)
            try:
                os.link(aside, path)
            except OSError:  # another process was first, or the disk knows no links
                if not path.exists():
                    aside.replace(path)
        finally:
            _delete_part(aside)


def _delete_leftovers(path: Path) -> None:
    """Delete what processes have left that were killed while they created the store."""
    files = path.parent.glob(f"{glob.escape(path.name)}.{'[0-9a-f]' * 32}{_PART}*")
    for aside in {Path(str(file).rpartition(_PART)[0] + _PART) for file in files}:
        with (
            suppress(OSError, filelock.Timeout),  # another process is creating it now
            filelock.FileLock(f"{aside}{_LOCK}", blocking=False),
        ):
            _delete_part(aside)


def _delete_part(aside: Path) -> None:
    for ending in ("", "-journal", _LOCK):  # the journal is SQLite's
        Path(f"{aside}{ending}").unlink(missing_ok=True)


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
            f"{quote_path(path)} cannot be written; name another file or change the permissions."
        )
