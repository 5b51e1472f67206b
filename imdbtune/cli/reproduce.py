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

The exit code is 0 if the metrics of all epochs agree within 1e-6, and 1 if not. The output lists
what else differs: versions, data, threads, compilation, processor.

Examples:

  imdbtune reproduce 0123456789abcdef0123456789abcdef

  imdbtune reproduce 0123456789abcdef0123456789abcdef --data imdb.npz --json
"""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(help=HELP)(reproduce)


def reproduce(
    run_id: Annotated[
        str,
        typer.Argument(
            metavar="RUN_ID",
            help="Run id of a trial or training; imdbtune compare --csv lists them.",
        ),
    ],
    data: opt.DataLocation = "",
    tracking_uri: opt.Uri = "",
    cache: opt.Cache = "",
    trust_model: opt.TrustModel = False,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Run the command; ``HELP`` is its help text."""
    from imdbtune import api
    from imdbtune.cli.progress import make_progress

    folder = opt.parse_path(cache)
    with make_progress(as_json=as_json, quiet=quiet) as progress:
        context = api.Context(
            uri=tracking_uri, data=data, cache=folder, listener=progress, trust_model=trust_model
        )
        compared = api.reproduce(run_id, context)
    if as_json:
        print_json({"event": "finished", **compared.as_dict()})
    else:
        typer.echo(verdict(compared) if quiet else table(compared))
    if not compared.agrees:
        raise typer.Exit(1)


def table(compared: Reproduction) -> str:
    """Return the objective of each epoch in both runs, their differences and the verdict."""
    objective = compared.original.objective
    repeated = any(pair.execution > 1 for pair in compared.epochs)
    lines = [f"{objective}, and the largest difference over all metrics:"]
    lines.append(f"{'epoch':<8}{'then':>10}{'now':>10}{'difference':>12}")
    for pair in compared.epochs:
        number = f"{pair.execution}/{pair.epoch}" if repeated else str(pair.epoch)
        then, now = (_cell(epoch.get(objective)) for epoch in (pair.then, pair.now))
        lines.append(f"{number:<8}{then:>10}{now:>10}{_difference(pair.difference):>12}")
    lines.append(verdict(compared))
    lines += [f"  {name}: {then}, now {now}" for name, (then, now) in compared.differs.items()]
    if not compared.differs:
        lines.append("  versions, data, threads, compilation and processor are the same.")
    return "\n".join(lines)


def verdict(compared: Reproduction) -> str:
    """Return whether the two runs agree, in a line."""
    agree = f"agree {compared.verdict}." if compared.agrees else "do not agree."
    return f"run {compared.original.run_id} and run {compared.again.run_id} {agree}"


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.6f}"


def _difference(value: float) -> str:
    return f"{value:.1e}" if math.isfinite(value) and value else "0" if value == 0 else "-"
