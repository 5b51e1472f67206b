"""``imdbtune doctor``."""

from __future__ import annotations

from dataclasses import asdict

import typer

from imdbtune.cli import options as opt
from imdbtune.cli.output import print_json
from imdbtune.errors import escape_control

HELP = """Check that imdbtune can work on this machine.

It checks versions, extensions, cores, memory, disk, the tracking store, the reviews and tools, and
says how to fix each problem. The exit code is 1 if there is a problem, and 0 otherwise, also with
warnings. The store keeps no trace: on a server, the check sets a tag of an experiment and deletes
it.

Examples:

  imdbtune doctor

  imdbtune doctor --tracking-uri http://127.0.0.1:5000 --json
"""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(help=HELP)(doctor)


def doctor(
    tracking_uri: opt.Uri = "",
    cache: opt.Cache = "",
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Run the command; ``HELP`` is its help text."""
    from imdbtune import api
    from imdbtune.cli.library_output import redirect_library_output

    checks = []
    with redirect_library_output():
        for check in api.doctor(uri=tracking_uri, cache=opt.parse_path(cache)):
            checks.append(check)
            if as_json or (quiet and check.state == "ok"):
                continue
            remedy = f"; {check.remedy}" if check.remedy else ""
            typer.echo(escape_control(f"{check.state:<9}{check.name}: {check.found}{remedy}"))
    usable = all(check.state != "problem" for check in checks)
    if as_json:
        print_json({"usable": usable, "checks": [asdict(check) for check in checks]})
    if not usable:
        raise typer.Exit(1)
