"""``imdbtune best``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imdbtune.cli import options as opt
from imdbtune.cli.output import print_json
from imdbtune.cli.tables import details, in_a_line
from imdbtune.errors import UserError, escape_control

if TYPE_CHECKING:
    from imdbtune.tracking.model_registry import Version
    from imdbtune.tracking.reader import Baseline, Trial

MOST_MEMBERS = 50  # models in an average

HELP = """Show the winner of a search, and take it out of MLflow.

With --export the winner is evaluated on the test reviews, once; a search never touches them. Each
format of it is opened again without imdbtune, and compared with the Keras model on real reviews. An
export of the same run keeps the formats that it has, unless --overwrite replaces it.

Examples:

  imdbtune best

  imdbtune best --search rnn_types --export winner

  imdbtune best --export winner --format numpy,onnx

  imdbtune best --export winner --format keras,onnx --overwrite

  imdbtune best --refit --export winner

  imdbtune best --ensemble 3 --export winner --format keras,mlflow

  imdbtune best --register reviews
"""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(help=HELP)(best)


def best(
    search: Annotated[
        str, typer.Option("--search", metavar="NAME|ID", help="Which search; default the last.")
    ] = "",
    export: Annotated[
        str, typer.Option("--export", metavar="DIR", help="Write the model and all it needs.")
    ] = "",
    formats: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="LIST",
            help="With --export: keras (default), savedmodel, litert, onnx, numpy, mlflow; or all.",
        ),
    ] = "",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier export in DIR.")
    ] = False,
    refit: Annotated[
        bool,
        typer.Option("--refit", help="Train it on all training reviews, for the epochs found."),
    ] = False,
    ensemble: Annotated[
        str,
        typer.Option(
            "--ensemble", metavar="K", help="The mean of the K best different models instead."
        ),
    ] = "",
    with_linear: Annotated[
        bool,
        typer.Option("--with-linear", help="With --ensemble: half the say is the linear model's."),
    ] = False,
    seed: Annotated[
        str, typer.Option("--seed", metavar="N", help="With --refit: another seed.")
    ] = "",
    test: Annotated[
        bool, typer.Option("--test/--no-test", help="With --export: evaluate on the test reviews.")
    ] = True,
    register: Annotated[
        str,
        typer.Option(
            "--register", metavar="NAME", help="Make it the champion of this MLflow model."
        ),
    ] = "",
    tracking_uri: opt.Uri = "",
    cache: opt.Cache = "",
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """See HELP."""
    from imdbtune import api
    from imdbtune.cli.library_output import redirect_library_output
    from imdbtune.cli.progress import make_progress, stages
    from imdbtune.tracking import reader

    found, trial = api.best(search or None, uri=tracking_uri)
    baselines = api.baselines(found.run_id, uri=tracking_uri)
    # What is still to be trained has no run yet, and so no export that could be added to.
    run_id = "" if refit or ensemble else trial.run_id
    names = _checked(export, formats, overwrite, register, run_id)
    if seed and (ensemble or not refit):
        raise UserError("--seed goes with --refit alone; add that, or leave --seed out.")
    if with_linear and not ensemble:
        raise UserError("--with-linear goes with --ensemble K; add that, or leave it out.")
    several = opt.whole_number("--ensemble", ensemble, 2, MOST_MEMBERS) if ensemble else 0
    chosen = opt.whole_number("--seed", seed, 0, 2**31 - 1) if seed else None
    uri, kept = tracking_uri, opt.optional_path(cache)
    confirmed = api.read_confirmation(found, uri=uri)
    if not as_json:
        typer.echo(in_a_line(trial) if quiet else details(trial, found, baselines, confirmed))
    facts: dict[str, Any] = {"search": found.name, "search_id": found.run_id}
    facts["confirmed"] = confirmed.as_dict() if confirmed else None
    facts |= _beaten(baselines)
    if several:
        with make_progress(as_json=as_json, quiet=quiet) as listener:
            place: dict[str, Any] = {"uri": uri, "cache": kept, "listener": listener}
            trial, members = api.ensemble(
                found.run_id, several, refitted=refit, linear=with_linear, **place
            )
        facts["members"] = [member.run_id for member in members]
        if not as_json:
            linear = facts["baseline_val_accuracy"] if with_linear else None
            typer.echo(_gain(trial, members, linear))
    elif refit:
        with make_progress(as_json=as_json, quiet=quiet) as listener:
            trial = api.refit(trial, seed=chosen, uri=uri, cache=kept, listener=listener)
        if not as_json:
            typer.echo(_in_words(trial))
    if export:
        metrics: dict[str, float] = {}
        with redirect_library_output() as err, stages(err, quiet) as progress:
            if test:
                metrics = api.evaluate(trial, uri=uri, cache=kept, progress=progress)
            folder = api.export(
                trial,
                Path(export),
                uri=uri,
                cache=kept,
                overwrite=overwrite,
                extra=metrics,
                formats=names,
                progress=progress,
            )
        checked = _checks(folder)
        facts |= {"export": str(folder), "formats": checked, **metrics}
        if not (as_json or quiet):
            _tell_export(folder, metrics, checked)
    if register:
        with redirect_library_output() as err, stages(err, quiet) as progress:
            version = api.register(trial, register, uri=uri, cache=kept, progress=progress)
        facts |= {"registered": version.uri, "version": version.number}
        if not (as_json or quiet):
            _tell_registered(version)
    if as_json:
        print_json({**facts, **reader.as_row(trial), **facts})


def _in_words(refitted: Trial) -> str:
    """A training on all reviews, which has no validation accuracy."""
    epochs, seconds = (refitted.metrics.get(n, 0) for n in ("epochs_run", "train_seconds"))
    return (
        f"{refitted.name}  (run {refitted.run_id})\n"
        f"  trained on all training reviews for {epochs:.0f} epochs in {seconds:.0f} s"
    )


def _gain(trial: Trial, members: Sequence[Trial], linear: float | None) -> str:
    """An average, what it is made of, and what it is better by than the best of that.

    ``linear`` is what the linear model reaches, if it is part of it.
    """
    lines = [f"{trial.name}  (run {trial.run_id}): the mean of"]
    lines += [f"  {in_a_line(member)}" for member in members]
    alone = [member.score for member in members if member.score is not None]
    if alone and linear is not None:  # else it was trained on all reviews, as the others were
        lines.append(f"  the linear model  {trial.objective} {linear:.4f}")
        alone.append(linear)
    if trial.score is not None and alone:
        gain = (trial.score - max(alone)) * 100
        lines.append(f"  {trial.objective} {trial.score:.4f}: {gain:+.2f} points on the best alone")
    return "\n".join(lines)


def _beaten(baselines: Sequence[Baseline]) -> dict[str, float | None]:
    """What the winner has to beat, by the names of the fields; null where there is none."""
    from imdbtune.tracking import writer

    found = {b.which: b.metrics for b in baselines if b.accuracy is not None}
    linear, majority = found.get(writer.LINEAR, {}), found.get(writer.MAJORITY, {})
    return {
        "baseline_val_accuracy": linear.get("best_val_accuracy"),
        "baseline_val_loss": linear.get("best_val_loss"),
        "baseline_seconds": linear.get("train_seconds"),
        "majority_val_accuracy": majority.get("best_val_accuracy"),
    }


def _checked(
    export: str, formats: str, overwrite: bool, register: str, run_id: str
) -> tuple[str, ...]:
    """The names of the formats, when nothing stands against what was asked for."""
    from imdbtune.tracking.model_registry import check_name

    if register:
        check_name(register)
    if not export:
        if formats:
            raise UserError("--format goes with --export DIR; add that, or leave --format out.")
        return ()
    from imdbtune.export.formats import check_installed, parse_formats
    from imdbtune.export.writing import formats_there

    names = parse_formats(formats or "keras")
    there = formats_there(Path(export), run_id, names, overwrite)
    check_installed([name for name in names if name not in there])
    return names


def _checks(folder: Path) -> dict[str, float]:
    """The largest difference of each format from the Keras model."""
    from imdbtune.export.folder import read_export

    formats = read_export(folder).formats
    return {name: check["largest_difference"] for name, check in formats.items()}


def _tell_export(folder: Path, metrics: dict[str, float], checked: dict[str, float]) -> None:
    if metrics:
        typer.echo(f"  test accuracy       {metrics['test_accuracy']:.4f}")
        typer.echo(f"  test loss           {metrics['test_loss']:.4f}")
    for name, difference in checked.items():
        typer.echo(f"  {name:<20}opens by itself; differs from Keras by at most {difference:.1e}")
    named = escape_control(str(folder))
    typer.echo(f"exported to {named}; README.md there says how to use it")
    typer.echo(f'next: imdbtune predict --model {named} "a wonderful film"')


def _tell_registered(version: Version) -> None:
    typer.echo(f"registered as version {version.number} of {version.name}, its champion now")
    typer.echo(f"next: mlflow models serve -m {version.uri} --env-manager local --port 5001")
