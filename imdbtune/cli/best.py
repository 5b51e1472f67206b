"""``imdbtune best``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imdbtune.cli import guard
from imdbtune.cli import options as opt
from imdbtune.cli.output import print_json
from imdbtune.cli.tables import details, trial_line
from imdbtune.cli.winner_output import (
    describe_ensemble,
    describe_refit,
    print_export,
    print_version,
)
from imdbtune.config.extensions import FORMATS
from imdbtune.errors import UserError

if TYPE_CHECKING:
    from imdbtune.search.context import Context
    from imdbtune.tracking.entities import Baseline, Trial

MAX_MEMBERS = 50  # models of an ensemble

HELP = """Show the best trial of a search; export or register its model.

--export evaluates the model on the test reviews, once; a search never uses them. Each exported
format is loaded without imdbtune and its predictions are compared with the Keras model's. A second
export of the same run adds formats to the folder; --overwrite replaces the folder.

The model of a cross-validated search (--folds) is one of all training reviews: --export and
--register train it first, as --refit does.

--at-least exits with code 1 if the model is worse than a value; it is then neither exported nor
registered. After imdbtune confirm, val_accuracy is the mean over seeds.

Examples:

  imdbtune best

  imdbtune best rnn_types --export winner

  imdbtune best --export winner --format numpy,onnx

  imdbtune best --export winner --format keras,onnx --overwrite

  imdbtune best --refit --export winner

  imdbtune best --ensemble 3 --export winner --format keras,mlflow

  imdbtune best --register reviews

  imdbtune best --at-least val_accuracy=0.88
"""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(help=HELP)(best)


def best(
    search: opt.SearchName = "",
    search_flag: Annotated[
        str, typer.Option("--search", metavar="NAME|ID", help="The same as SEARCH.")
    ] = "",
    export: Annotated[
        str | None,
        typer.Option(
            "--export", metavar="DIR", help="Folder to write the model to, with all it needs."
        ),
    ] = None,
    formats: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="LIST",
            help=f"With --export: formats, separated by commas: {', '.join(FORMATS)}; or all. "
            "Default: keras.",
        ),
    ] = "",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier export in DIR.")
    ] = False,
    refit: Annotated[
        bool,
        typer.Option(
            "--refit",
            help="Train the best configuration on all training reviews, for its best number of "
            "epochs.",
        ),
    ] = False,
    ensemble: Annotated[
        str,
        typer.Option(
            "--ensemble",
            metavar="K",
            help="Average the models of the K best configurations instead.",
        ),
    ] = "",
    with_linear: Annotated[
        bool,
        typer.Option(
            "--with-linear",
            help="With --ensemble: mix the models with a linear model, by weights of their logits "
            "that are fitted to the validation reviews.",
        ),
    ] = False,
    seed: Annotated[
        str,
        typer.Option(
            "--seed", metavar="N", help="With --refit: random seed; by default that of the trial."
        ),
    ] = "",
    test: Annotated[
        bool,
        typer.Option("--test/--no-test", help="With --export: evaluate on the test reviews."),
    ] = True,
    register: Annotated[
        str | None,
        typer.Option(
            "--register",
            metavar="NAME",
            help="Register the model under NAME in MLflow, as its champion version.",
        ),
    ] = None,
    at_least: Annotated[
        list[str] | None,
        typer.Option(
            "--at-least",
            metavar="METRIC=VALUE",
            help="Exit with code 1 if the model is worse, such as val_accuracy=0.88 or "
            "test_loss=0.4. May be repeated.",
        ),
    ] = None,
    junit: guard.Junit = "",
    github_summary: guard.GithubSummary = False,
    tracking_uri: opt.Uri = "",
    cache: opt.Cache = "",
    trust_model: opt.TrustModel = False,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> None:
    """Run the command; ``HELP`` is its help text."""
    # The command line overrides the variable.
    if search and search_flag and search_flag != os.environ.get("IMDBTUNE_BEST_SEARCH"):
        raise opt.mutually_exclusive("SEARCH", "--search")
    opt.check_not_empty("--export", export)
    opt.check_not_empty("--register", register)
    files = guard.ci_files(junit, github_summary)
    if files and not at_least:
        raise UserError("--junit and --github-summary need --at-least METRIC=VALUE; add it.")
    needed = guard.Model(refit, bool(ensemble), bool(export and test))
    validated, tested = guard.parse_thresholds(at_least or [], needed)
    from imdbtune import api
    from imdbtune.cli.library_output import redirect_library_output
    from imdbtune.cli.progress import make_progress
    from imdbtune.cli.stages import show_stages
    from imdbtune.confirm.threshold import judge
    from imdbtune.report.against_linear import find_comparison
    from imdbtune.report.ci import threshold_suite
    from imdbtune.tracking import entities
    from imdbtune.tracking.sqlite_reader import open_runs

    folder = opt.parse_path(cache)
    context = api.Context(uri=tracking_uri, cache=folder, trust_model=trust_model)
    found, trial = api.best(search or search_flag or None, uri=tracking_uri)
    baselines = api.baselines(found.run_id, uri=tracking_uri)
    # A model that is still to be trained has no run yet, so there is no earlier export of it.
    run_id = "" if refit or ensemble or trial.folds else trial.run_id
    names = _parse_export(export, formats, overwrite, register, run_id)
    if seed and (ensemble or not refit):
        raise UserError("--seed needs --refit, without --ensemble; change that or omit --seed.")
    if with_linear and not ensemble:
        raise UserError("--with-linear needs --ensemble K; add it or omit --with-linear.")
    member_count = opt.parse_int("--ensemble", ensemble, 2, MAX_MEMBERS) if ensemble else 0
    new_seed = opt.parse_int("--seed", seed, 0, 2**31 - 1) if seed else None
    confirmed = api.read_confirmation(found, uri=tracking_uri)
    front = api.read_front(found, tracking_uri) if not confirmed else None
    if not (as_json or member_count):
        chosen = front.reason if front else ""
        compared = find_comparison(open_runs(tracking_uri), found, [trial], baselines, confirmed)
        shown = details(trial, found, compared, confirmed, chosen, everything=verbose)
        typer.echo(trial_line(trial) if quiet else shown)
    facts: dict[str, object] = {"search": found.name, "search_id": found.run_id}
    facts["confirmed"] = confirmed.as_dict() if confirmed else None
    if front:
        facts |= {"front": [each.run_id for each in front.trials], "chosen": front.reason}
    known = _baseline_facts(baselines)
    facts |= known
    if member_count:
        with make_progress(as_json=as_json, quiet=quiet) as listener:
            trial, members = api.ensemble(
                found.run_id,
                member_count,
                replace(context, listener=listener),
                refitted=refit or bool(trial.folds),
                linear=with_linear,
            )
        facts["members"] = [member.run_id for member in members]
        if not as_json:
            linear = _linear_score(baselines, trial.objective) if with_linear else None
            described = describe_ensemble(trial, found, members, linear)
            typer.echo(trial_line(trial) if quiet else described)
    elif refit:
        trial = _refit(trial, context, new_seed, as_json=as_json, quiet=quiet)
    of_trial = None if refit or member_count else confirmed
    verdicts, metrics = judge(validated, trial, of_trial), {}
    if trial.folds and (export or register) and guard.all_met(verdicts):
        trial = _refit(trial, context, as_json=as_json, quiet=quiet)
    if export and test and guard.all_met(verdicts):
        with redirect_library_output() as err, show_stages(err, quiet) as progress:
            metrics = api.evaluate(trial, context, progress=progress)
    if guard.all_met(verdicts):
        verdicts += judge(tested, trial, None, metrics)
    is_good = guard.all_met(verdicts)
    unchecked = tested if len(verdicts) < len(validated) + len(tested) else []
    files.write(threshold_suite(found, trial, verdicts, unchecked))
    if export and is_good:
        with redirect_library_output() as err, show_stages(err, quiet) as progress:
            folder = api.export(
                trial,
                Path(export),
                context,
                formats=names,
                overwrite=overwrite,
                metrics=metrics,
                progress=progress,
            )
        differences = _read_differences(folder)
        facts |= {"export": str(folder), "formats": differences, **metrics}
        if not (as_json or quiet):
            print_export(folder, metrics, differences)
    if register and is_good:
        with redirect_library_output() as err, show_stages(err, quiet) as progress:
            version = api.register(trial, register, context, progress=progress)
        facts |= {"registered": version.uri, "version": version.number}
        if not (as_json or quiet):
            print_version(version)
    facts |= {"at_least": [verdict.as_dict() for verdict in verdicts]} if at_least else {}
    if as_json:
        print_json({**facts, **entities.as_row(trial), **facts})
    guard.print_verdicts(verdicts, only_missed=as_json or quiet)
    if not is_good:
        raise typer.Exit(1)


def _read_differences(folder: Path) -> dict[str, float]:
    """Return the largest difference of each exported format from the Keras model."""
    from imdbtune.export.folder import read_export

    formats = read_export(folder).formats
    return {name: check["largest_difference"] for name, check in formats.items()}


def _refit(
    trial: Trial, context: Context, seed: int | None = None, *, as_json: bool, quiet: bool
) -> Trial:
    """Train the configuration of a trial again on all reviews, and print what that was."""
    from imdbtune import api
    from imdbtune.cli.progress import make_progress

    with make_progress(as_json=as_json, quiet=quiet) as listener:
        again = api.refit(trial, replace(context, listener=listener), seed=seed)
    if not (as_json or quiet):
        typer.echo(describe_refit(again))
    return again


def _linear_score(baselines: Sequence[Baseline], objective: str) -> float | None:
    """Return the linear model's value of an objective, if it was measured."""
    from imdbtune.tracking import mlflow_names

    linear = (b.metrics for b in baselines if b.name == mlflow_names.LINEAR)
    return next((metrics.get(f"best_{objective}") for metrics in linear), None)


def _baseline_facts(baselines: Sequence[Baseline]) -> dict[str, float | None]:
    """Return the metrics of the baselines by their JSON keys; null where there is no baseline."""
    from imdbtune.tracking import mlflow_names

    found = {b.name: b.metrics for b in baselines if b.accuracy is not None}
    linear, majority = found.get(mlflow_names.LINEAR, {}), found.get(mlflow_names.MAJORITY, {})
    return {
        "baseline_val_accuracy": linear.get("best_val_accuracy"),
        "baseline_val_loss": linear.get("best_val_loss"),
        "baseline_seconds": linear.get("train_seconds"),
        "majority_val_accuracy": majority.get("best_val_accuracy"),
    }


def _parse_export(
    export: str | None, formats: str, overwrite: bool, register: str | None, run_id: str
) -> tuple[str, ...]:
    """Return the formats to export, after checking all that can be checked in advance."""
    from imdbtune.tracking.model_registry import check_name

    if register:
        check_name(register)
    if not export:
        if formats:
            raise UserError("--format needs --export DIR; add it or omit --format.")
        return ()
    from imdbtune.export.formats import check_installed, parse_formats
    from imdbtune.export.writing import formats_there

    names = parse_formats(formats or "keras")
    existing = formats_there(Path(export), run_id, names, overwrite)
    check_installed([name for name in names if name not in existing])
    return names
