"""``imdbtune search``."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from imdbtune.cli import guard, interrupts, search_preview
from imdbtune.cli import options as opt
from imdbtune.cli.command import GroupedCommand
from imdbtune.cli.config_file import load_quietly
from imdbtune.cli.config_flags import SEARCH, SPACE, SearchFlags
from imdbtune.cli.output import print_json, print_next_steps
from imdbtune.cli.tables import (
    format_duration,
    front_sentence,
    leaderboard,
    pluralize,
    trial_line,
)
from imdbtune.errors import FolderRemoved, NotDelivered, SearchAborted, UserError, short_repr

if TYPE_CHECKING:
    from imdbtune.search.events import Event, SearchOpened
    from imdbtune.search.plan import Plan
    from imdbtune.tracking.entities import Search, Trial

HELP = """Search a space of models; every trial is tracked in MLflow.

SPACE is a TOML file or a bundled workflow, by default the workflow default; flags override it. With
none, the flags are the whole space. VALUES are a single value (32), a list of choices (16,32,64) or
a range: 16-128, 16-128:16 (in steps of 16), 16-128:log (on a log scale) or 16-128:x2 (doubling).

Examples:

  imdbtune search

  imdbtune search --rnn gru --max-trials 20

  imdbtune search rnn_types --data imdb.npz --patience 3

  imdbtune search none --rnn lstm,gru --units 16-64:x2 --dry-run --estimate

  imdbtune search --max-trials 40 --prune asha

  imdbtune search --data reviews.csv --text-column body --label-column stars

  imdbtune search --resume --max-trials 30

  imdbtune search --cluster tcp://box:8786 --tracking-uri http://box:5000
"""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(help=HELP, cls=GroupedCommand)(search)


def search(
    space: Annotated[
        str,
        typer.Argument(
            metavar="SPACE",
            help="TOML file or bundled workflow; by default the workflow default; none: only the "
            "flags.",
        ),
    ] = "",
    space_flag: Annotated[
        str,
        typer.Option(
            "--space",
            metavar="FILE|WORKFLOW|none",
            help="The same as SPACE.",
            rich_help_panel=SPACE,
        ),
    ] = "",
    *,
    overrides: SearchFlags,
    workers: opt.Workers = "auto",
    cache: opt.Cache = "",
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Resume or extend a search; SPACE is its name or run id, by default the last.",
            rich_help_panel=SEARCH,
        ),
    ] = False,
    deadline: Annotated[
        str,
        typer.Option(
            "--deadline",
            metavar="90m|18:30",
            help="When the command has to be done, report included: trials end after the epoch "
            "that fits.",
            rich_help_panel=SEARCH,
        ),
    ] = "",
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Print what would run, and create nothing.",
            rich_help_panel=SEARCH,
        ),
    ] = False,
    estimate: Annotated[
        bool,
        typer.Option(
            "--estimate",
            help="Time a few steps first and estimate the duration of the search.",
            rich_help_panel=SEARCH,
        ),
    ] = False,
    notify: opt.NotifyUrls = None,
    junit: guard.Junit = "",
    github_summary: guard.GithubSummary = False,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Run the command; ``HELP`` is its help text."""
    from imdbtune import api
    from imdbtune.cli.progress import make_progress
    from imdbtune.search.deadline import parse_deadline
    from imdbtune.search.events import Notice, SearchOpened

    count, folder = opt.parse_workers(workers), opt.parse_path(cache)
    files = guard.ci_files(junit, github_summary)
    until = parse_deadline(deadline, datetime.now()) if deadline else None
    described: list[str] = []
    run: Callable[..., Search]
    if resume:
        excluded = {"--dry-run": dry_run, "--estimate": estimate, "--space": space_flag}
        for flag in (flag for flag, value in excluded.items() if value):
            raise opt.mutually_exclusive("--resume", flag)
        run = partial(api.resume, space or None, overrides)
    else:
        space = _one_space(space, space_flag)
        config = load_quietly(space or None, overrides)
        described = [] if quiet or as_json else search_preview.describe(space, config)
        if dry_run:
            context = api.Context(cache=folder, workers=count)
            mute = quiet or as_json
            estimated = search_preview.estimate(config, context, mute) if estimate else None
            search_preview.dry_run(config, context, described, estimated, as_json=as_json)
            return
        run = partial(api.search, config, estimated=estimate)
    opened: SearchOpened | None = None
    try:
        with make_progress(as_json=as_json, quiet=quiet) as progress:

            def listen(event: Event) -> None:
                nonlocal opened
                if isinstance(event, SearchOpened):
                    opened = event
                    for line in described:
                        progress(Notice(line))
                progress(event)

            uri = str(overrides.get("tracking.uri", ""))
            context = api.Context(
                uri=uri,
                cache=folder,
                workers=count,
                listener=listen,
                deadline=until,
                notify_urls=tuple(notify or ()),
            )
            run(context=context)
    except (KeyboardInterrupt, SearchAborted) as error:
        if opened is None or isinstance(error, NotDelivered | FolderRemoved):
            raise
        interrupted = isinstance(error, KeyboardInterrupt)
        reason = "interrupted" if interrupted else str(error)
        command = f"imdbtune search --resume {opened.search.run_id}"
        _write_files(files, opened, reason)
        with suppress(OSError):  # the terminal is gone
            typer.echo(f"imdbtune: {reason}; continue with: {command}", err=True)
        raise typer.Exit(interrupts.exit_code() if interrupted else 1) from error
    assert opened is not None
    _write_files(files, opened)
    _print_result(opened.plan, opened.search.run_id, as_json, quiet)


def _one_space(argument: str, flag: str) -> str:
    """Return what SPACE and ``--space`` agree on.

    Raises:
        UserError: they differ.
    """
    if argument and flag and argument != flag:
        raise UserError(
            f"SPACE {short_repr(argument)} and --space {short_repr(flag)} differ; give one of them."
        )
    return argument or flag


def _write_files(files: guard.CiFiles, opened: SearchOpened, aborted: str = "") -> None:
    """Write what a CI system reads of a search that has ended or was aborted."""
    if not files:
        return
    from imdbtune.report.ci import search_suite
    from imdbtune.tracking import reader
    from imdbtune.tracking.connection import connect, is_of_store

    found: Search = opened.search
    trials: list[Trial] = []
    try:
        client = connect(opened.plan.store)
        found = reader.find_search(client, opened.search.run_id)
        trials = reader.read_trials(client, found)
    except Exception as error:
        if not (aborted and (isinstance(error, UserError) or is_of_store(error))):
            raise  # else the store may be why the search was aborted
    files.write(search_suite(found, trials, aborted))


def _print_result(plan: Plan, run_id: str, as_json: bool, quiet: bool) -> None:
    """Print the leaderboard and the next commands; if quiet, only the best trial."""
    from imdbtune.report.against_linear import find_comparison
    from imdbtune.tracking import mlflow_names, ranking, reader
    from imdbtune.tracking.connection import connect

    client = connect(plan.store)
    found = reader.find_search(client, run_id)
    trials = reader.read_trials(client, found)
    if as_json:
        rows = ranking.as_rows(found, trials)
        print_json({"event": "finished", "search": found.run_id, "trials": rows})
        return
    if quiet:
        for trial in trials[:1]:
            typer.echo(trial_line(trial))
        return
    varied = [d.name for d in plan.config.space.searched]
    estimated = found.metrics.get(mlflow_names.ESTIMATED)
    if estimated:
        typer.echo(_compare_estimate(estimated, found, trials, plan))
    typer.echo(leaderboard(found, trials, varied, limit=10))
    if len(trials) > 10:
        typer.echo(f"... and {len(trials) - 10} more: imdbtune compare")
    if sentence := front_sentence(found, trials):
        typer.echo(sentence)
    baselines = reader.read_baselines(client, found)
    if linear := find_comparison(client, found, trials, baselines):
        typer.echo(linear)
    typer.echo()
    print_next_steps("imdbtune best --export winner; imdbtune report; imdbtune ui", plan.store)


def _compare_estimate(estimated: float, found: Search, trials: list[Trial], plan: Plan) -> str:
    """Return the estimated and the actual duration of a search in a sentence."""
    seconds = found.metrics.get("search_seconds", 0.0)
    epochs = sum(trial.metrics.get("epochs_run", 0) for trial in trials)
    return (
        f"estimated {format_duration(estimated)} for all epochs, took {format_duration(seconds)} "
        f"({seconds / estimated:.0%}) for {epochs:.0f} epochs of at most "
        f"{plan.config.training.epochs} in each of {pluralize(len(trials), 'trial')}"
    )
