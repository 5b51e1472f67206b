"""``imdbtune data``."""

from __future__ import annotations

from typing import Any

import typer

from imdbtune.cli import options as opt
from imdbtune.cli.config_flags import DataFlags
from imdbtune.cli.output import print_json
from imdbtune.cli.tables import describe_columns
from imdbtune.errors import escape_control

HELP = """Show the numbers of reviews and where they are cached.

Examples:

  imdbtune data

  imdbtune data --data imdb.npz --json

  imdbtune data --data reviews.csv --set data.positive=good
"""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(help=HELP)(data)


def data(
    overrides: DataFlags,
    cache: opt.Cache = "",
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Run the command; ``HELP`` is its help text."""
    from imdbtune.cli.stages import show_stages
    from imdbtune.config.schema import parse_config
    from imdbtune.data.sources import default_cache, describe, open_corpus

    config = parse_config({}, overrides).data
    with show_stages(quiet=quiet) as progress:
        corpus = open_corpus(
            config.source,
            opt.parse_path(cache) or default_cache(),
            lambda text: typer.echo(escape_control(text), err=True),
            progress,
            config=config,
        )
    facts = describe(corpus)
    if as_json:
        print_json(facts)
        return
    if quiet:
        typer.echo(facts["title"])
        return
    for key in ("name", "title", "folder", "digest"):
        typer.echo(f"{key:<12}{escape_control(facts[key])}")
    if corpus.reading.get("text_column"):
        typer.echo(f"{'columns':<12}{describe_columns(corpus.reading)}")
    named = ", ".join(f"{label} ({number})" for number, label in enumerate(corpus.labels))
    typer.echo(f"{'labels':<12}{named}")
    typer.echo(f"{'vocabulary':<12}{facts['vocabulary']:,} words")
    for part in ("train", "test"):
        rows = facts[part]
        typer.echo(
            f"{part:<12}{rows['rows']:,} reviews: {_counts(rows, corpus.labels)}; "
            f"{rows['tokens']:,} tokens, "
            f"{rows['length_mean']:.1f} a review (median {rows['length_median']:.0f}, "
            f"90 % up to {rows['length_p90']:.0f}, longest {rows['length_max']:,})"
        )


def _counts(rows: dict[str, Any], labels: tuple[str, ...]) -> str:
    """Return how many reviews of a part have each label, in words."""
    if "by_label" not in rows:
        negative, positive = labels
        return f"{rows['positive']:,} {positive}, {rows['negative']:,} {negative}"
    return ", ".join(f"{count:,} {label}" for label, count in rows["by_label"].items())
