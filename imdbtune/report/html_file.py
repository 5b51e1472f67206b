"""The HTML file of a report: its template, the links in it, and where it may be written."""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imdbtune.config.search_space import word
from imdbtune.errors import UserError, quote_path
from imdbtune.files import is_disk_full, replace_text, require_regular_file

if TYPE_CHECKING:
    from jinja2 import Template

    from imdbtune.tracking.connection import MlflowClient

VEGA = ("vega/vega.min.js", "vega/vega-interpreter.js")
MARK = "<!-- a report of imdbtune -->"  # by which an older report is recognised


@functools.cache
def template(name: str) -> Template:
    """Return the page template with this name, which escapes all values."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda share, digits=1: f"{share * 100:.{digits}f} %"
    environment.filters["points"] = lambda share, digits=1: f"{share * 100:.{digits}f}"
    environment.filters["value"] = _value
    environment.filters["asdict"] = dataclasses.asdict
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False}  # which no browser reads
    return environment.get_template(name)


@dataclass(frozen=True)
class Scripts:
    """The scripts in a page: Vega, and the page's own, which runs once the page has been read."""

    vega: str
    page: str

    @property
    def policy(self) -> str:
        """The page's content security policy: nothing from elsewhere, and no other script.

        What a script of Vega or the page puts in a style attribute is allowed.
        """
        sources = " ".join(f"'sha256-{_digest(each)}'" for each in (self.vega, self.page))
        return (
            f"default-src 'none'; script-src {sources}; style-src 'unsafe-inline'; "
            "img-src data:; base-uri 'none'; form-action 'none'"
        )


@functools.cache
def scripts() -> Scripts:
    """Return the scripts of a page."""
    folder = Path(__file__).parent
    vega, interpreter, *own = (
        (folder / name).read_text(encoding="utf-8")
        for name in (*VEGA, "charts.js", "table.js", "page.js")
    )
    return Scripts(vega, "\n".join((_without_modules(interpreter), *own)))


def _without_modules(interpreter: str) -> str:
    """Return Vega's interpreter, a module, as a constant of the page's own script."""
    imports = re.fullmatch(
        r"import (\{[^}]*\}) from 'vega-util';\n(.*)\nexport \{ expression as (\w+) \};\n.*",
        interpreter,
        re.DOTALL,
    )
    assert imports, "Vega's interpreter has changed: see vega/README.md"
    names, body, exported = imports.groups()
    return (
        f"const {exported} = (() => {{\nconst {names} = vega;\n{body}\nreturn expression;\n}})();"
    )


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")


def _value(value: object) -> str:
    """Return a hyperparameter as text; a model that has none of this name has a dash."""
    if value is None:
        return "–"
    return f"{value:.3g}" if isinstance(value, float) else word(value)


def ui_address(client: MlflowClient) -> str:
    """Return the address of a tracking server; empty for other stores, which no server shows."""
    address = str(client.tracking_uri)
    return address.rstrip("/") if address.startswith("http") else ""


def check_output_path(path: Path) -> None:
    """Raise UserError unless ``path`` is a new file in a folder, or an older report."""
    try:
        if not path.parent.is_dir():
            raise UserError(f"there is no folder {quote_path(path.parent)}; create it first.")
        if path.is_dir():
            raise UserError(f"{quote_path(path)} is a folder; give a file in it.")
        if path.exists() and not _is_report(path):
            raise UserError(
                f"{quote_path(path)} exists and is not a report; give another file with --out."
            )
    except OSError as error:
        raise UserError(
            f"{quote_path(path)} cannot be used: {error.strerror}; give another file with --out."
        ) from error


def _is_report(path: Path) -> bool:
    with require_regular_file(path).open("rb") as file:
        return MARK.encode() in file.read(200)


def write_page(out: Path, page: str) -> None:
    """Write a page to a file.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        replace_text(out, page)
    except OSError as error:
        if is_disk_full(error):
            raise
        raise UserError(
            f"{quote_path(out)} cannot be written: {error.strerror}; give another file with --out."
        ) from error
