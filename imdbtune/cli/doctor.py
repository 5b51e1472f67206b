"""``imdbtune doctor``."""

from __future__ import annotations

from dataclasses import asdict

import typer

from imdbtune.cli import options as opt
from imdbtune.cli.output import print_json
from imdbtune.errors import escape_control

HELP = """Check that this machine is fit, and say what to do if not.

Versions, cores, memory, disk, tracking store, reviews and tools are looked at. The exit code is 1
if there is a problem, 0 if all is well or there are warnings. The store is left as it is: on a
server, a tag of an experiment is set and deleted.

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
    """See HELP."""
    from imdbtune import api
    from imdbtune.cli.library_output import redirect_library_output

    found = []
    with redirect_library_output():
        for check in api.doctor(uri=tracking_uri, cache=opt.optional_path(cache)):
            found.append(check)
            if as_json or (quiet and check.state == "ok"):
                continue
            remedy = f"; {check.remedy}" if check.remedy else ""
            typer.echo(escape_control(f"{check.state:<9}{check.name}: {check.found}{remedy}"))
    usable = all(check.state != "problem" for check in found)
    if as_json:
        print_json({"usable": usable, "checks": [asdict(check) for check in found]})
    if not usable:
        raise typer.Exit(1)
