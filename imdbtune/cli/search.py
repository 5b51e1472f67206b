"""``imdbtune search``."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imdbtune.cli import interrupts
from imdbtune.cli import options as opt
from imdbtune.cli.output import print_json, print_next_steps
from imdbtune.cli.tables import (
    baseline_sentence,
    describe_columns,
    format_duration,
    leaderboard,
    pluralize,
    trial_line,
)
from imdbtune.config.extensions import CELLS, SAMPLERS
from imdbtune.config.schema import SearchConfig, load_config
from imdbtune.errors import FolderRemoved, NotDelivered, SearchAborted

if TYPE_CHECKING:
    from imdbtune.search.estimate import Estimate
    from imdbtune.search.events import Event, SearchOpened
    from imdbtune.search.plan import Plan
    from imdbtune.tracking.entities import Search, Trial

HELP = """Search a space of models; every trial is tracked in MLflow.

SPACE is a TOML file or a bundled workflow; flags override it. VALUES are a single value (32), a
list of choices (16,32,64) or a range: 16-128, 16-128:16 (in steps of 16), 16-128:log (on a log
scale) or 16-128:x2 (doubling).

Examples:

  imdbtune search

  imdbtune search rnn_types --data imdb.npz --max-trials 20

  imdbtune search --rnn lstm,gru --units 16-64:x2 --dry-run --estimate

  imdbtune search --data reviews.csv --text-column body --label-column stars

  imdbtune search --resume --max-trials 30

  imdbtune search --cluster tcp://box:8786 --tracking-uri http://box:5000
"""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(help=HELP)(search)


def _flag(name: str, metavar: str, text: str) -> Any:
    return typer.Option(name, metavar=metavar, help=text)


def search(
    space: Annotated[
        str,
        typer.Argument(
            metavar="SPACE", help="TOML file or bundled workflow; by default the workflow default."
        ),
    ] = "",
    data: opt.Data = "",
    text_column: opt.TextColumn = "",
    label_column: opt.LabelColumn = "",
    split_column: opt.SplitColumn = "",
    test_share: opt.TestShare = "",
    rnn: Annotated[str, _flag("--rnn", "VALUES", f"Recurrent cells: {', '.join(CELLS)}.")] = "",
    depth: Annotated[str, _flag("--depth", "VALUES", "Number of recurrent layers.")] = "",
    units: Annotated[str, _flag("--units", "VALUES", "Units of each recurrent layer.")] = "",
    maxlen: Annotated[
        str, _flag("--maxlen", "VALUES", "Number of tokens kept of a review: its last ones.")
    ] = "",
    settings: opt.Settings = None,
    tuner: Annotated[str, _flag("--tuner", "KIND", f"Sampler: {', '.join(SAMPLERS)}.")] = "",
    max_trials: Annotated[str, _flag("--max-trials", "N", "Maximum number of trials.")] = "",
    max_minutes: Annotated[
        str, _flag("--max-minutes", "M", "Start no new trial after M minutes.")
    ] = "",
    epochs: opt.Epochs = "",
    executions: Annotated[
        str, _flag("--executions", "N", "Trainings per trial; their scores are averaged.")
    ] = "",
    trial_timeout: Annotated[
        str, _flag("--trial-timeout", "M", "Time limit of a trial in minutes; 0: no limit.")
    ] = "",
    retries: Annotated[
        str,
        _flag("--retries", "N", "How often to retry a failed trial, each time with a new seed."),
    ] = "",
    seed: opt.Seed = "",
    reviews: opt.Reviews = "",
    workers: opt.Workers = "auto",
    cluster: Annotated[
        str,
        _flag(
            "--cluster",
            "ADDRESS",
            "Address of a Dask scheduler whose workers run the trials, such as tcp://HOST:8786; "
            "local: this machine.",
        ),
    ] = "",
    compile: opt.Compile = "",
    keep_models: Annotated[
        str, _flag("--keep-models", "all|best|N", "Log all models, the best or the N best.")
    ] = "",
    baseline: Annotated[
        bool | None,
        typer.Option("--baseline/--no-baseline", help="Train a linear model as a baseline."),
    ] = None,
    name: opt.Name = "",
    experiment: opt.Experiment = "",
    tracking_uri: opt.Uri = "",
    cache: opt.Cache = "",
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Resume or extend a search; SPACE is its name or run id, by default the last.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would run, and create nothing.")
    ] = False,
    estimate: Annotated[
        bool,
        typer.Option(
            "--estimate", help="Time a few steps first and estimate the duration of the search."
        ),
    ] = False,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Run the command; ``HELP`` is its help text."""
    flags = {
        "name": name,
        **opt.data_flags(data, text_column, label_column, split_column, test_share),
        "data.reviews": reviews,
        "space.rnn": rnn,
        "space.depth": depth,
        "space.units": units,
        "space.maxlen": maxlen,
        "tuner.kind": tuner,
        "tuner.max_trials": max_trials,
        "tuner.max_minutes": max_minutes,
        "tuner.seed": seed,
        "tuner.executions": executions,
        "tuner.trial_timeout": trial_timeout,
        "tuner.retries": retries,
        "training.epochs": epochs,
        "training.compile": compile,
        "tracking.experiment": experiment,
        "tracking.uri": tracking_uri,
        "tracking.keep_models": keep_models,
        "cluster.address": cluster,
        "tracking.baseline": "" if baseline is None else str(baseline),
    }
    count = opt.parse_workers(workers)
    overrides = opt.merge_flags(flags, settings)
    from imdbtune import api
    from imdbtune.cli.progress import make_progress
    from imdbtune.search.events import SearchOpened

    run: Callable[..., Search]
    if resume:
        if dry_run:
            raise opt.mutually_exclusive("--resume", "--dry-run")
        if estimate:
            raise opt.mutually_exclusive("--resume", "--estimate")
        run = partial(api.resume, space or None, overrides)
    else:
        config = load_config(space or None, overrides)
        if dry_run:
            estimated = _estimate(config, count, cache, quiet or as_json) if estimate else None
            _dry_run(config, count, as_json, estimated)
            return
        run = partial(api.search, config, estimated=estimate)
    opened: SearchOpened | None = None
    try:
        with make_progress(as_json=as_json, quiet=quiet) as progress:

            def listen(event: Event) -> None:
                nonlocal opened
                opened = event if isinstance(event, SearchOpened) else opened
                progress(event)

            folder = opt.parse_path(cache)
            context = api.Context(uri=tracking_uri, cache=folder, workers=count, listener=listen)
            run(context=context)
    except (KeyboardInterrupt, SearchAborted) as error:
        if opened is None or isinstance(error, NotDelivered | FolderRemoved):
            raise
        interrupted = isinstance(error, KeyboardInterrupt)
        reason = "interrupted" if interrupted else str(error)
        command = f"imdbtune search --resume {opened.search.run_id}"
        with suppress(OSError):  # the terminal is gone
            typer.echo(f"imdbtune: {reason}; continue with: {command}", err=True)
        raise typer.Exit(interrupts.exit_code() if interrupted else 1) from error
    assert opened is not None
    _print_result(opened.plan, opened.search.run_id, as_json, quiet)


def _print_result(plan: Plan, run_id: str, as_json: bool, quiet: bool) -> None:
    """Print the leaderboard and the next commands; if quiet, only the best trial."""
    from imdbtune.tracking import entities, mlflow_names, reader
    from imdbtune.tracking.connection import connect

    client = connect(plan.store)
    found = reader.find_search(client, run_id)
    trials = reader.read_trials(client, found)
    if as_json:
        rows = [entities.as_row(trial) for trial in trials]
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
    typer.echo(leaderboard(found, trials[:10], varied))
    if len(trials) > 10:
        typer.echo(f"... and {len(trials) - 10} more: imdbtune compare")
    if sentence := baseline_sentence(found, trials, reader.read_baselines(client, found)):
        typer.echo(sentence)
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


def _estimate(config: SearchConfig, workers: int | None, cache: str, quiet: bool) -> Estimate:
    from imdbtune import api
    from imdbtune.cli.progress import make_progress

    folder = opt.parse_path(cache)
    with make_progress(quiet=quiet) as progress:
        return api.estimate(config, api.Context(cache=folder, workers=workers, listener=progress))


def _dry_run(
    config: SearchConfig, workers: int | None, as_json: bool, estimated: Estimate | None
) -> None:
    from imdbtune import api
    from imdbtune.search.sampler import known_trial_count
    from imdbtune.tracking.connection import hide_secrets

    resolved = api.plan(config, api.Context(workers=workers))
    settings = config.as_dict()
    settings["tracking"]["uri"] = hide_secrets(config.tracking.uri)
    if as_json:
        facts: dict[str, object] = {"config": settings, "configurations": resolved.size}
        facts["reading"] = dict(resolved.reading)
        facts |= {"cluster": resolved.cluster} if resolved.cluster else {}
        facts |= {"estimate": estimated.as_dict()} if estimated else {}
        print_json({**facts, "workers": resolved.workers, "trials": known_trial_count(config)})
        return
    import tomli_w

    typer.echo(tomli_w.dumps(settings))
    for dimension in config.space.dimensions:
        typer.echo(f"# {dimension.name}: {dimension.in_words()}")
    if resolved.reading.get("text_column"):
        typer.echo(f"# the reviews: {describe_columns(resolved.reading)}")
    size = "infinitely many" if resolved.size is None else f"{resolved.size:,}"
    typer.echo(f"# configurations in the space: {size}")
    trials = known_trial_count(config)
    count = "as many trials as Hyperband needs" if trials is None else pluralize(trials, "trial")
    epochs = pluralize(config.training.epochs, "epoch")
    where = pluralize(resolved.workers, "worker") if resolved.workers else "this process"
    where = f"the workers of {resolved.cluster}" if resolved.cluster else where
    typer.echo(f"# would run: {count} of at most {epochs} on {where}")
    minutes = f"{config.tuner.trial_timeout:g} minutes" if config.tuner.trial_timeout else "none"
    typer.echo(f"# time limit of a trial: {minutes}; retries: {config.tuner.retries}")
    if estimated:
        from imdbtune.search import estimate

        typer.echo(f"# estimated: {estimate.in_words(estimated)}")
