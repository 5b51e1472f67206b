"""What ``imdbtune search`` is going to do, in words: before it starts, and with ``--dry-run``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from imdbtune.cli.output import print_json
from imdbtune.cli.tables import describe_columns, pluralize
from imdbtune.config.schema import NO_SPACE, SearchConfig, load_config
from imdbtune.config.search_space import SearchSpace, word
from imdbtune.errors import escape_control

if TYPE_CHECKING:
    from imdbtune.search.context import Context
    from imdbtune.search.estimate import Estimate
    from imdbtune.search.plan import Plan

DESCRIBED = ("data", "tuner", "training")  # sections whose changes are listed; space has its own


def describe(space: str, config: SearchConfig) -> list[str]:
    """Return two lines: where the space comes from and what flags change, and how much will run.

    Args:
        space: the file or workflow; empty: the default one.
        config: with the flags.
    """
    return [_describe_space(space, config), f"trials: {_describe_trials(config)}"]


def _describe_space(space: str, config: SearchConfig) -> str:
    own = config.space.own
    if own is not None:
        narrowed = "; ".join(_changed_space(SearchSpace(own.drawn, own), config.space))
        drawn = f"space: what {own.source.build} draws"
        return f"{drawn}, with {narrowed}" if narrowed else drawn
    start = load_config(space or None)
    changes = [*_changed_space(start.space, config.space), *_changed_settings(start, config)]
    flags = "; ".join(changes)
    if space == NO_SPACE:
        return f"space: only {flags}; all else has its default" if flags else "space: all defaults"
    kind = "file" if space and Path(space).is_file() else "workflow"
    return f"space: the {kind} {space or start.name}{f', with {flags}' if flags else ''}"


def _changed_space(before: SearchSpace, after: SearchSpace) -> Iterator[str]:
    """Yield what the flags did to each dimension: ``rnn = gru instead of lstm, gru``."""
    old = {dimension.name: dimension for dimension in before.dimensions}
    new = {dimension.name: dimension for dimension in after.dimensions}
    for name, dimension in new.items():
        if name not in old:
            yield f"{name} = {dimension.in_words()}"
        elif dimension != old[name]:
            yield f"{name} = {dimension.in_words()} instead of {old[name].in_words()}"
    for name in sorted(old.keys() - new.keys()):
        parents = " and ".join(parent for parent, _ in old[name].when)
        yield f"{name} left out, as {parents} excludes it"


def _changed_settings(before: SearchConfig, after: SearchConfig) -> Iterator[str]:
    """Yield the settings that the flags changed: ``epochs = 2``."""
    for section in DESCRIBED:
        old, new = asdict(getattr(before, section)), asdict(getattr(after, section))
        for key in (key for key, value in new.items() if value != old[key]):
            unset = key == "tries" and not new[key]
            yield "without what it tries first" if unset else f"{key} = {word(new[key])}"


def _describe_trials(config: SearchConfig) -> str:
    """Return how many trials will run and of how many configurations, in a phrase."""
    from imdbtune.search.sampler import known_trial_count

    trials, size = known_trial_count(config), config.space.size()
    count = "as many as the sampler needs" if trials is None else f"{trials:,}"
    space = "infinitely many configurations" if size is None else pluralize(size, "configuration")
    return f"{count} of at most {pluralize(config.training.epochs, 'epoch')}, of {space}"


def estimate(config: SearchConfig, context: Context, quiet: bool) -> Estimate:
    """Time a few steps, and return how long the search would take."""
    from imdbtune import api
    from imdbtune.cli.progress import make_progress

    with make_progress(quiet=quiet) as progress:
        return api.estimate(config, replace(context, listener=progress))


def dry_run(
    config: SearchConfig,
    context: Context,
    described: Sequence[str],
    estimated: Estimate | None,
    *,
    as_json: bool,
) -> None:
    """Print the configuration and what a search would do with it.

    Args:
        config: the configuration.
        context: the circumstances.
        described: the lines of :func:`describe`.
        estimated: how long it would take, if that is known.
        as_json: print JSON.
    """
    from imdbtune import api
    from imdbtune.search.sampler import known_trial_count
    from imdbtune.tracking.connection import hide_secrets

    resolved = api.plan(config, context)
    settings = config.as_dict()
    if config.space.own is not None:
        settings["model"] = {"build": config.model.build}
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
    _print_comments(config, resolved, described)
    if estimated:
        from imdbtune.search.estimate import in_words

        typer.echo(f"# estimated: {in_words(estimated)}")


def _print_comments(config: SearchConfig, plan: Plan, described: Sequence[str]) -> None:
    """Print what the configuration means, as comments of its TOML."""
    from imdbtune.search.pruner import note_on_pruner, pruner_kind

    for dimension in config.space.dimensions:
        typer.echo(f"# {dimension.name}: {dimension.in_words()}")
    if plan.reading.get("text_column"):
        typer.echo(f"# the reviews: {describe_columns(plan.reading)}")
    for line in described:
        typer.echo(f"# {escape_control(line)}")
    where = pluralize(plan.workers, "worker") if plan.workers else "this process"
    where = f"the workers of {plan.cluster}" if plan.cluster else where
    typer.echo(f"# would run on {where}")
    if kind := pruner_kind(config):
        typer.echo(f"# pruner: {config.tuner.prune}, {kind.about}")
    if note := note_on_pruner(config):
        typer.echo(f"# note: {note}")
    minutes = f"{config.tuner.trial_timeout:g} minutes" if config.tuner.trial_timeout else "none"
    typer.echo(f"# time limit of a trial: {minutes}; retries: {config.tuner.retries}")
