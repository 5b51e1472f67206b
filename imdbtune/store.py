"""Where MLflow keeps things: which store is meant, and a client for it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from imdbtune.errors import UserError, shown

if TYPE_CHECKING:
    from mlflow import MlflowClient

DEFAULT_URI = "sqlite:///mlflow.db"
SCHEMES = ("sqlite", "postgresql", "mysql", "mssql", "http", "https", "databricks", "file")


def resolve_uri(uri: str = "") -> str:
    """The tracking store that is meant: ``uri``, else MLFLOW_TRACKING_URI, else SQLite here.

    Named explicitly even where it is MLflow's default, which depends on what lies around in the
    working directory. A relative SQLite path is made absolute, so that workers mean the same.

    Raises:
        UserError: no store that MLflow knows.
    """
    chosen = uri or os.environ.get("MLFLOW_TRACKING_URI", "") or DEFAULT_URI
    scheme = chosen.partition(":")[0].split("+")[0]
    if ":" not in chosen or scheme not in SCHEMES:
        raise UserError(
            f"tracking URI {shown(hide_secrets(chosen))} is not known; give for example "
            f"{DEFAULT_URI} or http://127.0.0.1:5000."
        )
    if chosen.startswith("sqlite:///"):
        path = Path(chosen.removeprefix("sqlite:///")).absolute()
        if not path.parent.is_dir():
            raise UserError(f"no folder {shown(str(path.parent))} for {chosen}; make it first.")
        return f"sqlite:///{path}"
    return chosen


def hide_secrets(uri: str) -> str:
    """The URI without user name and password, for messages and logs."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return re.sub(r"//.*@", "//***@", uri)
    if "@" not in parts.netloc:
        return uri
    return parts._replace(netloc="***@" + parts.netloc.rpartition("@")[2]).geturl()


def is_local(uri: str) -> bool:
    """Whether the store lies on this machine's disk."""
    return uri.startswith(("sqlite:", "file:"))


def connect(uri: str) -> MlflowClient:
    """A client for a store named by :func:`resolve_uri`.

    Raises:
        UserError: the store cannot be opened, or does not answer.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    if uri.startswith("sqlite:"):
        _check_sqlite(Path(uri.removeprefix("sqlite:///")))
    try:
        client = MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)
    except (MlflowException, OSError, ImportError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        reason = reason.replace(uri, hide_secrets(uri))
        raise UserError(
            f"the tracking store {hide_secrets(uri)} cannot be used: {reason}"
        ) from error
    return client


def _check_sqlite(path: Path) -> None:
    if path.is_dir():
        raise UserError(f"{shown(str(path))} is a folder, not an SQLite file; name a file in it.")
    if path.exists():
        with path.open("rb") as file:
            head = file.read(16)
        if head and head != b"SQLite format 3\x00":
            raise UserError(f"{shown(str(path))} is not an SQLite file; name another one.")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UserError(
            f"{shown(str(path))} cannot be written; name another file or mend the rights."
        )
