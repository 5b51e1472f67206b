"""``imdbtune data``."""

from __future__ import annotations

import typer

from imdbtune.cli import options as opt
from imdbtune.cli.output import print_json

HELP = """Show which reviews there are, and where they are cached.

Examples:

  imdbtune data

  imdbtune data --data imdb.npz --json
"""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(help=HELP)(data)


def data(
    source: opt.Data = "auto",
    cache: opt.Cache = "",
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """See HELP."""
    from imdbtune.cli.progress import stages
    from imdbtune.data.sources import default_cache, describe, open_corpus

    with stages(quiet=quiet) as progress:
        corpus = open_corpus(
            source or "auto",
            opt.optional_path(cache) or default_cache(),
            lambda text: typer.echo(text, err=True),
            progress,
        )
    facts = describe(corpus)
    if as_json:
        print_json(facts)
        return
    if quiet:
        typer.echo(facts["title"])
        return
    for key in ("name", "title", "folder", "digest"):
        typer.echo(f"{key:<12}{facts[key]}")
    typer.echo(f"{'vocabulary':<12}{facts['vocabulary']:,} words")
    for part in ("train", "test"):
        rows = facts[part]
        typer.echo(
            f"{part:<12}{rows['rows']:,} reviews: {rows['positive']:,} positive, "
            f"{rows['negative']:,} negative; {rows['tokens']:,} tokens, "
            f"{rows['length_mean']:.1f} a review (median {rows['length_median']:.0f}, "
            f"90 % up to {rows['length_p90']:.0f}, longest {rows['length_max']:,})"
        )
