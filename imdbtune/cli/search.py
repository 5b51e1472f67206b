"""``imdbtune search``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imdbtune.cli import options as opt
from imdbtune.cli.output import print_json, tell_next
from imdbtune.cli.tables import beside, columns, counted, in_a_line, in_words, leaderboard
from imdbtune.config.schema import SearchConfig, load_config
from imdbtune.errors import NotDelivered, SearchAborted, UserError

if TYPE_CHECKING:
    from imdbtune.api import Plan
    from imdbtune.search.estimate import Estimate
    from imdbtune.tracking.reader import Search, Trial

HELP = """Search a space of models; every trial is tracked in MLflow.

SPACE is a TOML file or one of the bundled workflows; flags stand over it. A flag takes a value
(32), a choice (16,32,64) or a range (16-128, 16-128:16 in steps, 16-128:log, 16-128:x2 doubling).

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
    space: Annotated[str, typer.Argument(metavar="SPACE", help="TOML file or workflow.")] = "",
    data: opt.Data = "",
    text_column: opt.TextColumn = "",
    label_column: opt.LabelColumn = "",
    split_column: opt.SplitColumn = "",
    test_share: opt.TestShare = "",
    rnn: Annotated[str, _flag("--rnn", "VALUES", "simple_rnn, lstm, gru.")] = "",
    depth: Annotated[str, _flag("--depth", "VALUES", "Recurrent layers.")] = "",
    units: Annotated[str, _flag("--units", "VALUES", "Size of each layer's state.")] = "",
    maxlen: Annotated[str, _flag("--maxlen", "VALUES", "Tokens kept of a review.")] = "",
    settings: opt.Settings = None,
    tuner: Annotated[str, _flag("--tuner", "KIND", "random, grid, bayesian, hyperband.")] = "",
    max_trials: Annotated[str, _flag("--max-trials", "N", "Trials at most.")] = "",
    max_minutes: Annotated[str, _flag("--max-minutes", "M", "Start no trial after this.")] = "",
    epochs: opt.Epochs = "",
    executions: Annotated[str, _flag("--executions", "N", "Trainings a trial, averaged.")] = "",
    trial_timeout: Annotated[
        str, _flag("--trial-timeout", "M", "Minutes after which a trial has failed; 0: none.")
    ] = "",
    retries: Annotated[
        str, _flag("--retries", "N", "Times a failed trial is tried again, with other seeds.")
    ] = "",
    seed: opt.Seed = "",
    reviews: opt.Reviews = "",
    workers: opt.Workers = "auto",
    cluster: Annotated[
        str,
        _flag("--cluster", "ADDRESS", "Dask scheduler with the workers: tcp://HOST:8786; local."),
    ] = "",
    compile: opt.Compile = "",
    keep_models: Annotated[str, _flag("--keep-models", "all|best|N", "Models kept.")] = "",
    baseline: Annotated[
        bool | None,
        typer.Option("--baseline/--no-baseline", help="Train a linear model to compare with."),
    ] = None,
    name: opt.Name = "",
    experiment: opt.Experiment = "",
    tracking_uri: opt.Uri = "",
    cache: opt.Cache = "",
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with a search; SPACE is then its name or run id."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would run, and create nothing.")
    ] = False,
    estimate: Annotated[
        bool,
        typer.Option("--estimate", help="Time some steps first, and say how long it will take."),
    ] = False,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """See HELP."""
    flags = {
        "name": name,
        "data.source": data,
        "data.text_column": text_column,
        "data.label_column": label_column,
        "data.split_column": split_column,
        "data.test_share": test_share,
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
    count = opt.worker_count(workers)
    overrides = opt.overrides(flags, settings)
    from imdbtune import api
    from imdbtune.cli.progress import make_progress

    run: Callable[..., Search]
    if resume:
        if dry_run:
            raise UserError("--resume with --dry-run is not known; leave one of them out.")
        if estimate:
            raise UserError("--resume with --estimate is not known; leave one of them out.")
        run = partial(api.resume, space or None, overrides, uri=tracking_uri)
    else:
        config = load_config(space or None, overrides)
        if dry_run:
            made = _estimate(config, count, cache, quiet or as_json) if estimate else None
            _dry_run(config, count, as_json, made)
            return
        run = partial(api.search, config, estimated=estimate)
    opened: dict[str, Any] = {}
    try:
        with make_progress(as_json=as_json, quiet=quiet) as progress:

            def listen(kind: str, facts: dict[str, Any]) -> None:
                opened.update(facts if kind == "opened" else {})
                progress(kind, facts)

            run(workers=count, cache=opt.optional_path(cache), listener=listen)
    except (KeyboardInterrupt, SearchAborted) as error:
        if not opened or isinstance(error, NotDelivered):
            raise
        said = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
        run_id = opened["search"].run_id
        typer.echo(f"imdbtune: {said}; go on with: imdbtune search --resume {run_id}", err=True)
        raise typer.Exit(130 if isinstance(error, KeyboardInterrupt) else 1) from error
    _tell(opened["plan"], opened["search"].run_id, as_json, quiet)


def _tell(plan: Plan, run_id: str, as_json: bool, quiet: bool) -> None:
    """The leaderboard, and what one would do next; if quiet, the winner in a line."""
    from imdbtune.tracking import reader, writer
    from imdbtune.tracking.connection import connect

    client = connect(plan.store)
    found = reader.find_search(client, run_id)
    trials = reader.read_trials(client, found)
    if as_json:
        rows = [reader.as_row(trial) for trial in trials]
        print_json({"event": "finished", "search": found.run_id, "trials": rows})
        return
    if quiet:
        for trial in trials[:1]:
            typer.echo(in_a_line(trial))
        return
    varied = [d.name for d in plan.config.space.searched]
    foreseen = found.metrics.get(writer.ESTIMATED)
    if foreseen:
        typer.echo(_how_right(foreseen, found, trials, plan))
    typer.echo(leaderboard(found, trials[:10], varied))
    if len(trials) > 10:
        typer.echo(f"... and {len(trials) - 10} more: imdbtune compare")
    if told := beside(found, trials, reader.read_baselines(client, found)):
        typer.echo(told)
    typer.echo()
    tell_next("imdbtune best --export winner; imdbtune report; imdbtune ui", plan.store)


def _how_right(foreseen: float, found: Search, trials: list[Trial], plan: Plan) -> str:
    """What was estimated beside what it has taken."""
    took = found.metrics.get("search_seconds", 0.0)
    epochs = sum(trial.metrics.get("epochs_run", 0) for trial in trials)
    return (
        f"estimated {in_words(foreseen)} for all epochs, took {in_words(took)} "
        f"({took / foreseen:.0%}) for {epochs:.0f} epochs of at most "
        f"{plan.config.training.epochs} in each of {counted(len(trials), 'trial')}"
    )


def _estimate(config: SearchConfig, workers: int | None, cache: str, quiet: bool) -> Estimate:
    from imdbtune import api
    from imdbtune.cli.progress import make_progress

    kept = opt.optional_path(cache)
    with make_progress(quiet=quiet) as progress:
        return api.estimate(config, workers=workers, cache=kept, listener=progress)


def _dry_run(
    config: SearchConfig, workers: int | None, as_json: bool, estimated: Estimate | None
) -> None:
    from imdbtune import api
    from imdbtune.tracking.connection import hide_secrets

    resolved = api.plan(config, workers)
    told = config.as_dict()
    told["tracking"]["uri"] = hide_secrets(config.tracking.uri)
    if as_json:
        facts: dict[str, Any] = {"config": told, "configurations": resolved.size}
        facts["reading"] = dict(resolved.reading)
        facts |= {"cluster": resolved.cluster} if resolved.cluster else {}
        facts |= {"estimate": estimated.as_dict()} if estimated else {}
        print_json({**facts, "workers": resolved.workers, "trials": _trials(resolved)})
        return
    import tomli_w

    typer.echo(tomli_w.dumps(told))
    for dimension in config.space.dimensions:
        typer.echo(f"# {dimension.name}: {dimension.in_words()}")
    if resolved.reading.get("text_column"):
        typer.echo(f"# the reviews: {columns(resolved.reading)}")
    size = "infinitely many" if resolved.size is None else f"{resolved.size:,}"
    typer.echo(f"# configurations in the space: {size}")
    trials = _trials(resolved)
    count = "as many trials as Hyperband wants" if trials is None else counted(trials, "trial")
    epochs = counted(config.training.epochs, "epoch")
    where = counted(resolved.workers, "worker") if resolved.workers else "this process"
    where = f"the workers of {resolved.cluster}" if resolved.cluster else where
    typer.echo(f"# would run: {count} of at most {epochs} on {where}")
    minutes = f"{config.tuner.trial_timeout:g} minutes" if config.tuner.trial_timeout else "none"
    typer.echo(f"# time limit of a trial: {minutes}; retries: {config.tuner.retries}")
    if estimated:
        from imdbtune.search import estimate

        typer.echo(f"# estimated: {estimate.in_words(estimated)}")


def _trials(resolved: Plan) -> int | None:
    """How many trials there will be, where that can be known."""
    limits = [n for n in (resolved.config.tuner.trial_limit, resolved.size) if n is not None]
    if resolved.config.tuner.kind == "hyperband":
        limits = limits[:1] if resolved.config.tuner.max_trials else []
    return min(limits) if limits else None
