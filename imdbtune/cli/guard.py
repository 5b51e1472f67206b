"""What commands do for a CI system: thresholds, JUnit XML and GitHub's step summary."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imdbtune.cli.config_flags import OUTPUT
from imdbtune.errors import UserError, quote_path
from imdbtune.files import replace_text

if TYPE_CHECKING:
    from imdbtune.confirm.threshold import Threshold, Verdict
    from imdbtune.report.ci import Suite

SUMMARY = "GITHUB_STEP_SUMMARY"
Junit = Annotated[
    str,
    typer.Option(
        "--junit",
        metavar="FILE",
        help="Write the result as JUnit XML, which CI systems read.",
        rich_help_panel=OUTPUT,
    ),
]
GithubSummary = Annotated[
    bool,
    typer.Option(
        "--github-summary",
        help="Append the result as Markdown to GitHub's summary of the step, the file named by "
        "GITHUB_STEP_SUMMARY.",
        rich_help_panel=OUTPUT,
    ),
]


@dataclass(frozen=True)
class CiFiles:
    """The files that a CI system reads; ``None``: not asked for."""

    junit: Path | None = None
    summary: Path | None = None

    def __bool__(self) -> bool:
        """Return whether one was asked for."""
        return self.junit is not None or self.summary is not None

    def write(self, suite: Suite) -> None:
        """Write a result to the files; the summary is appended to."""
        if self.junit is not None:
            replace_text(self.junit, suite.as_xml())
        if self.summary is not None:
            with self.summary.open("a", encoding="utf-8") as file:
                file.write(f"{suite.markdown}\n")


def ci_files(junit: str, github_summary: bool) -> CiFiles:
    """Return the files of ``--junit`` and ``--github-summary``, checked before the work begins.

    Raises:
        UserError: a file cannot be written, or the variable is not set.
    """
    path = Path(junit) if junit else None
    if path is not None and (path.is_dir() or not path.parent.is_dir()):
        where = "is a folder" if path.is_dir() else "lies in no folder that exists"
        raise UserError(f"--junit {quote_path(path)} {where}; give the path of a file.")
    name = os.environ.get(SUMMARY, "")
    if github_summary and not name:
        raise UserError(
            f"--github-summary needs the variable {SUMMARY}, which GitHub sets in its workflows; "
            "set it to a file, or omit the flag."
        )
    return CiFiles(path, Path(name) if github_summary else None)


@dataclass(frozen=True)
class Model:
    """Which model of a search ``best`` is about.

    Args:
        is_refitted: it is trained on all training reviews.
        is_ensemble: it is the average of several models.
        is_evaluated: it is evaluated on the test reviews.
    """

    is_refitted: bool
    is_ensemble: bool
    is_evaluated: bool


def parse_thresholds(texts: Sequence[str], model: Model) -> tuple[list[Threshold], list[Threshold]]:
    """Return the thresholds of validation and of test reviews, checked before any training.

    Raises:
        UserError: one is invalid, or the model will not have its metric.
    """
    from imdbtune.confirm.threshold import parse_threshold

    found = [parse_threshold(text) for text in texts]
    for each in found:
        if model.is_refitted and not each.on_test:
            raise UserError(
                f"--at-least {each.name} cannot be checked with --refit, which holds no reviews "
                "out; give a metric of the test reviews, and --export DIR."
            )
        is_new = model.is_refitted or model.is_ensemble
        if each.on_test and is_new and not model.is_evaluated:
            raise UserError(
                f"--at-least {each.name} needs --export DIR, which evaluates the model on the test "
                "reviews; add it, or give a metric of validation."
            )
    return [t for t in found if not t.on_test], [t for t in found if t.on_test]


def all_met(verdicts: Sequence[Verdict]) -> bool:
    """Return whether all thresholds are met."""
    return all(verdict.is_met for verdict in verdicts)


def print_verdicts(verdicts: Sequence[Verdict], *, only_missed: bool) -> None:
    """Print each verdict in a line; those that are missed on standard error."""
    for verdict in verdicts:
        if not verdict.is_met:
            typer.echo(f"imdbtune: {verdict}", err=True)
        elif not only_missed:
            typer.echo(str(verdict))
