"""HTML by which results show themselves in notebooks; every value is escaped.

It has no colours of its own, so it is readable in light and dark notebooks.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from urllib.parse import urlsplit, urlunsplit

from imdbtune.errors import escape_control

_LEFT, _RIGHT = ' style="text-align: left"', ' style="text-align: right"'


@dataclass(frozen=True)
class Html:
    """HTML that :func:`table` and :func:`facts` take as it is."""

    text: str


Cell = str | int | float | bool | Html | None


def cell_html(value: Cell) -> str:
    """Return a value as HTML: a dash for nothing, four digits of a float, or all of a large one."""
    if isinstance(value, Html):
        return value.text
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    text = str(value)
    if isinstance(value, float):
        text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return escape(escape_control(text))


def facts(title: Html | str, rows: Mapping[str, Cell]) -> str:
    """Return a title and a table of two columns."""
    lines = "".join(
        f"<tr><th{_LEFT}>{escape(name)}</th><td{_LEFT}>{cell_html(value)}</td></tr>"
        for name, value in rows.items()
    )
    return f"<div><p>{cell_html(title)}</p><table><tbody>{lines}</tbody></table></div>"


def table(
    title: Html | str, columns: Sequence[str], rows: Sequence[Sequence[Cell]], note: str = ""
) -> str:
    """Return a title, a table with a head and a note below; numbers are aligned to the right."""
    head = "".join(f"<th{_LEFT}>{escape(column)}</th>" for column in columns)
    body = "".join(
        "<tr>" + "".join(f"<td{_align(value)}>{cell_html(value)}</td>" for value in row) + "</tr>"
        for row in rows
    )
    below = f"<p>{escape(note)}</p>" if note else ""
    return (
        f"<div><p>{cell_html(title)}</p><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>{below}</div>"
    )


def _align(value: Cell) -> str:
    return _RIGHT if isinstance(value, int | float) and not isinstance(value, bool) else _LEFT


def bold(text: str) -> str:
    """Return text as bold HTML."""
    return f"<b>{cell_html(text)}</b>"


def run_link(run_id: str, text: str = "") -> Html:
    """Return a text that links to the page of a run on the server of MLFLOW_TRACKING_URI.

    Without a server, as for an SQLite file, it is no link: ``imdbtune ui`` shows the page. The
    address is that of MLflow's own pages; seen in MLflow 3.17.
    """
    shown, address = cell_html(text or run_id), _server_address()
    if not (address and run_id.isalnum()):
        return Html(shown)
    target = escape(f"{address}/#/runs/{run_id}", quote=True)
    return Html(f'<a href="{target}" target="_blank" rel="noopener">{shown}</a>')


def _server_address() -> str:
    """Return the address of the tracking server without user name and password; or nothing."""
    parts = urlsplit(os.environ.get("MLFLOW_TRACKING_URI", ""))
    if parts.scheme not in ("http", "https"):
        return ""
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, place, parts.path.rstrip("/"), "", ""))
