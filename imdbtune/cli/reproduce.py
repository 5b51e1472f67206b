"""``imdbtune reproduce``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import typer

from imdbtune.cli import options as opt
from imdbtune.cli.output import print_json

if TYPE_CHECKING:
    from imdbtune.confirm.reproduction import Reproduction

HELP = """Train a finished run again from MLflow's record, and compare.

The exit code is 0 if the metrics of all epochs agree (up to 1e-6), and 1 if they do not; then
it is said what else is not as it was: versions, threads, processor.

Examples:

  imdbtune reproduce 0123456789abcdef0123456789abcdef

  imdbtune reproduce 0123456789abcdef0123456789abcdef --data imdb.npz --json
"""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(help=HELP)(reproduce)


def reproduce(
    run_id: Annotated[
        str, typer.Argument(metavar="RUN_ID", help="Of a trial or training; see compare --csv.")
    ],
    data: opt.DataNow = "",
    tracking_uri: opt.Uri = "",
    cache: opt.Cache = "",
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """See HELP."""
    from imdbtune import api
    from imdbtune.cli.progress import make_progress

    kept = opt.optional_path(cache)
    with make_progress(as_json=as_json, quiet=quiet) as progress:
        compared = api.reproduce(run_id, uri=tracking_uri, data=data, cache=kept, listener=progress)
    if as_json:
        print_json({"event": "finished", **compared.as_dict()})
    else:
        typer.echo(verdict(compared) if quiet else table(compared))
    if not compared.agrees:
        raise typer.Exit(1)


def table(compared: Reproduction) -> str:
    """The objective of each epoch then and now, the largest difference, and what it comes to."""
    objective = compared.original.objective
    several = any(pair.execution > 1 for pair in compared.epochs)
    lines = [f"{objective}, and the largest difference of all metrics:"]
    lines.append(f"{'epoch':<8}{'then':>10}{'now':>10}{'difference':>12}")
    for pair in compared.epochs:
        number = f"{pair.execution}/{pair.epoch}" if several else str(pair.epoch)
        then, now = (_cell(epoch.get(objective)) for epoch in (pair.then, pair.now))
        lines.append(f"{number:<8}{then:>10}{now:>10}{_difference(pair.difference):>12}")
    lines.append(verdict(compared))
    lines += [f"  {name}: {then}, now {now}" for name, (then, now) in compared.differs.items()]
    if not compared.differs:
        lines.append("  versions, data, threads, compiling and processor are the same.")
    return "\n".join(lines)


def verdict(compared: Reproduction) -> str:
    """Whether the two agree, in a line."""
    agree = f"agree {compared.verdict}." if compared.agrees else "do not agree."
    return f"run {compared.original.run_id} and run {compared.again.run_id} {agree}"


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.6f}"


def _difference(value: float) -> str:
    return f"{value:.1e}" if math.isfinite(value) and value else "0" if value == 0 else "-"
