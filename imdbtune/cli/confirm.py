"""``imdbtune confirm``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import typer

from imdbtune.cli import options as opt
from imdbtune.cli.output import print_json, print_next_steps
from imdbtune.cli.tables import align_columns

if TYPE_CHECKING:
    from imdbtune.confirm.entities import Confirmation, Confirmed

HELP = """Train the best trials again with other seeds, and compare.

The best score of a search is biased upwards, as the best of many. This command trains the leading
configurations with new seeds and shows their mean validation accuracies with 95 % intervals. It
recommends the cheapest of those that are shown to be at most the margin worse than any other, else
the best mean; imdbtune best then returns that one. Run again, it trains only what is missing.

Examples:

  imdbtune confirm

  imdbtune confirm rnn_types --top 3 --seeds 10

  imdbtune confirm --until-settled --margin 0.3

  imdbtune confirm --test
"""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(help=HELP)(confirm)


def confirm(
    search: opt.SearchName = "",
    top: Annotated[
        str, typer.Option("--top", metavar="N", help="Number of configurations; default 5.")
    ] = "",
    seeds: Annotated[
        str,
        typer.Option(
            "--seeds",
            metavar="N",
            help="Number of seeds per configuration; default 5, or at most 20 until it is settled.",
        ),
    ] = "",
    until_settled: Annotated[
        bool,
        typer.Option(
            "--until-settled",
            help="Begin with 3 seeds; add more only for configurations that are undecided.",
        ),
    ] = False,
    margin: Annotated[
        str,
        typer.Option(
            "--margin",
            metavar="POINTS",
            help="By how much the recommended one may be worse than any other; default 0.5.",
        ),
    ] = "",
    test: Annotated[
        bool,
        typer.Option(
            "--test", help="Evaluate the recommended configuration on the test reviews at the end."
        ),
    ] = False,
    data: opt.DataLocation = "",
    workers: opt.Workers = "auto",
    tracking_uri: opt.Uri = "",
    cache: opt.Cache = "",
    notify: opt.NotifyUrls = None,
    trust_model: opt.TrustModel = False,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Run the command; ``HELP`` is its help text."""
    from imdbtune import api
    from imdbtune.cli.progress import make_progress
    from imdbtune.confirm import description

    top_count = opt.parse_int("--top", top or "5", 1, 1000)
    seed_count = opt.parse_int("--seeds", seeds or ("20" if until_settled else "5"), 1, 1000)
    points = opt.parse_number("--margin", margin or "0.5", 0.0, 100.0)
    worker_count = opt.parse_workers(workers)
    with make_progress(as_json=as_json, quiet=quiet) as progress:
        context = api.Context(
            uri=tracking_uri,
            data=data,
            cache=opt.parse_path(cache),
            workers=worker_count,
            listener=progress,
            notify_urls=tuple(notify or ()),
            trust_model=trust_model,
        )
        confirmation = api.confirm(
            search or None,
            context,
            top=top_count,
            seeds=seed_count,
            test=test,
            margin=points / 100,
            until_settled=until_settled,
        )
    if as_json:
        print_json({"event": "finished", **confirmation.as_dict()})
        return
    if not quiet:
        typer.echo(table(confirmation))
    typer.echo(description.describe_winner(confirmation))
    if not quiet:
        typer.echo(f"significance test: {description.method(confirmation)}.")
        print_next_steps("imdbtune best --refit --export winner", tracking_uri)


def table(confirmation: Confirmation) -> str:
    """Return the configurations by their mean accuracy, as a table."""
    head = ["#", "configuration", "seeds", "mean", "std", "95 %", "in search", "difference", "p"]
    head += ["seconds", *(["test"] if math.isfinite(confirmation.winner.test_mean) else [])]
    rows = enumerate(confirmation.rows, start=1)
    lines = [head, *(_cells(n, row, confirmation) for n, row in rows)]
    return align_columns([line[: len(head)] for line in lines], [n > 1 for n in range(len(head))])


def _cells(rank: int, row: Confirmed, confirmation: Confirmation) -> list[str]:
    difference = f"{row.difference:.4f}" if rank > 1 else "-"
    p = f"{row.p:.3f}" if rank > 1 else "-"
    return [
        f"{rank}{'*' if row.trial_run_id == confirmation.recommended else ''}",
        row.name,
        str(len(row.run_ids)),
        f"{row.mean:.4f}",
        _number(row.spread),
        f"±{row.half_width:.4f}" if math.isfinite(row.half_width) else "-",
        _number(row.searched),
        difference,
        p,
        f"{row.seconds:.0f}",
        _number(row.test_mean),
    ]


def _number(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else "-"
