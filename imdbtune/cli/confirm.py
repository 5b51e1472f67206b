"""``imdbtune confirm``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import typer

from imdbtune.cli import options as opt
from imdbtune.cli.output import print_json, tell_next
from imdbtune.cli.tables import aligned

if TYPE_CHECKING:
    from imdbtune.confirm.results import Confirmation, Confirmed

HELP = """Train the best trials again with other seeds, and compare.

A search picks the luckiest of many. Here each of the leading configurations is trained with seeds
that the search has not used; the table has the means with their 95 % intervals, and says which of
them cannot be told apart. Among those the cheapest is recommended, and imdbtune best gives it out.
Called again, it trains only what is missing.

Examples:

  imdbtune confirm

  imdbtune confirm rnn_types --top 3 --seeds 10

  imdbtune confirm --test
"""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(help=HELP)(confirm)


def confirm(
    search: opt.SearchName = "",
    top: Annotated[
        str, typer.Option("--top", metavar="N", help="How many of them; default 5.")
    ] = "",
    seeds: Annotated[
        str, typer.Option("--seeds", metavar="N", help="Trainings of each; default 5.")
    ] = "",
    test: Annotated[
        bool,
        typer.Option("--test", help="Evaluate the recommended one on the test reviews at the end."),
    ] = False,
    data: opt.DataNow = "",
    workers: opt.Workers = "auto",
    tracking_uri: opt.Uri = "",
    cache: opt.Cache = "",
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """See HELP."""
    from imdbtune import api
    from imdbtune.cli.progress import make_progress
    from imdbtune.confirm import results

    several = [
        opt.whole_number(flag, given or "5", 1, 1000)
        for flag, given in (("--top", top), ("--seeds", seeds))
    ]
    count = opt.worker_count(workers)
    with make_progress(as_json=as_json, quiet=quiet) as progress:
        done = api.confirm(
            search or None,
            top=several[0],
            seeds=several[1],
            test=test,
            uri=tracking_uri,
            data=data,
            workers=count,
            cache=opt.optional_path(cache),
            listener=progress,
        )
    if as_json:
        print_json({"event": "finished", **done.as_dict()})
        return
    if not quiet:
        typer.echo(table(done))
    typer.echo(f"recommended: {done.winner.name}, {results.in_words(done)}")
    if not quiet:
        typer.echo(f"the test: {results.METHOD}.")
        tell_next("imdbtune best --refit --export winner", tracking_uri)


def table(done: Confirmation) -> str:
    """The configurations by their confirmed mean."""
    head = ["#", "configuration", "seeds", "mean", "std", "95 %", "of the search", "behind", "p"]
    head += ["seconds", *(["test"] if math.isfinite(done.winner.test_mean) else [])]
    lines = [head, *(_cells(n, row, done) for n, row in enumerate(done.rows, start=1))]
    return aligned([line[: len(head)] for line in lines], [n > 1 for n in range(len(head))])


def _cells(place: int, row: Confirmed, done: Confirmation) -> list[str]:
    behind = f"{row.difference:.4f}" if place > 1 else "-"
    p = f"{row.p:.3f}" if place > 1 else "-"
    return [
        f"{place}{'*' if row.trial_run_id == done.recommended else ''}",
        row.name,
        str(len(row.run_ids)),
        f"{row.mean:.4f}",
        _number(row.spread),
        f"±{row.half_width:.4f}" if math.isfinite(row.half_width) else "-",
        _number(row.searched),
        behind,
        p,
        f"{row.seconds:.0f}",
        _number(row.test_mean),
    ]


def _number(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else "-"
