"""``imdbtune report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imdbtune.cli import options as opt
from imdbtune.cli.output import print_json

HELP = """Write an HTML report of a search: result, figures, all trials.

The report also has the uncertainty of the result, the failed trials and how to reproduce the
search. It is one file that needs no network; it reads well on a phone and in print.

Of several searches, the report compares the winners and lists all trials. The searches must have
the same reviews.

Examples:

  imdbtune report

  imdbtune report rnn_types --out rnn_types.html

  imdbtune report rnn_types maxlen
"""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(help=HELP)(report)


def report(
    searches: opt.SearchNames = None,
    out: Annotated[
        str, typer.Option("--out", metavar="FILE", help="File to write.")
    ] = "report.html",
    tracking_uri: opt.Uri = "",
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Run the command; ``HELP`` is its help text."""
    from imdbtune import api

    refs = list(dict.fromkeys(name for name in searches or [] if name))
    if len(refs) > 1:
        found = api.report_comparison(refs, Path(out), uri=tracking_uri)
    else:
        found = [api.report(refs[0] if refs else None, Path(out), uri=tracking_uri)]
    facts = [{"search": each.name, "search_id": each.run_id} for each in found]
    if as_json:
        print_json(
            {**facts[0], "report": out} if len(facts) == 1 else {"searches": facts, "report": out}
        )
    elif quiet:
        typer.echo(out)
    else:
        names = ", ".join(f"search {each.name} ({each.run_id})" for each in found)
        typer.echo(f"wrote {out}: {names}")
