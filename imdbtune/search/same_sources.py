"""Check that a search is resumed with the user's own code that it was started with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import zip_longest
from pathlib import Path

from imdbtune.config.own_metric import read_own_metrics
from imdbtune.config.own_model import split_build
from imdbtune.config.own_source import OwnSource, read_own_text
from imdbtune.config.schema import SearchConfig
from imdbtune.errors import UserError, short_repr
from imdbtune.search import trusted_sources
from imdbtune.search.model_inspection import read_source
from imdbtune.search.python_model import source_of
from imdbtune.tracking.own_models import FOLDER, METRICS_FOLDER


def check_same_sources(
    before: SearchConfig, overrides: Mapping[str, object], name: str, base: Path
) -> None:
    """Check that the files of the user's own code are those that a search was started with.

    A file that is gone is not needed: the search has its own copy.

    Args:
        before: the configuration with which the search was started.
        overrides: may name the files.
        name: of the search.
        base: folder of the workspaces, which knows the sources that were started there.

    Raises:
        UserError: a file, or one that an override names, differs, or there was none.
    """
    for then, now, artifact, flag in (
        *_model(before, overrides, name),
        *_metrics(before, overrides, name),
    ):
        if now is None:
            if not trusted_sources.is_known(base, then):
                raise UserError(
                    f"{then.reference} of search {name!r} was not started here, and would be run; "
                    f"give the file with {flag}."
                )
            continue
        if (now.text, now.function) != (then.text, then.function):
            raise UserError(
                f"search {name!r} was started with another {then.reference} "
                f"({_first_difference(then, now)}); restore it, or start a new search. MLflow "
                f"has it as the artifact {artifact}/{then.file} of the search."
            )
        trusted_sources.remember(base, [then])


# The source of a search, that of now (None: its file is gone), folder of artifacts, and flag.
_Pair = tuple[OwnSource, OwnSource | None, str, str]


def _model(before: SearchConfig, overrides: Mapping[str, object], name: str) -> Iterator[_Pair]:
    own, given = before.space.own, overrides.get("model.build")
    if own is None:
        if given is not None:
            raise UserError(
                f"search {name!r} trains imdbtune's models; leave --model out, or start a new one."
            )
        return
    path, function = Path(own.location), own.source.function
    if isinstance(given, str):
        path, function = split_build(given)
    if given is not None and not isinstance(given, str):
        now: OwnSource | None = source_of(given)[0]
    else:
        now = read_source(path, function) if given is not None or path.is_file() else None
    yield own.source, now, FOLDER, "--model"


def _metrics(before: SearchConfig, overrides: Mapping[str, object], name: str) -> Iterator[_Pair]:
    given = overrides.get("training.metrics")
    found: dict[str, OwnSource] = {}
    if given is not None:
        text, own = read_own_metrics(str(given), Path())
        if text != before.training.metrics:
            raise UserError(
                f"search {name!r} logs the metrics {before.training.metrics or 'of each search'}; "
                "leave --metric out, or start a new one."
            )
        found = {metric.name: metric.source for metric in own}
    for metric in before.own_metrics:
        path, now = Path(metric.location), None
        if metric.name in found:
            now = found[metric.name]
        elif path.is_file():
            now = OwnSource(path.name, metric.name, read_own_text(path, "metric"))
        yield metric.source, now, METRICS_FOLDER, "--metric"


def _first_difference(before: OwnSource, now: OwnSource) -> str:
    """Return the first line in which two sources differ, in words."""
    if before.function != now.function:
        return f"the function was {before.function}, now it is {now.function}"
    lines = zip_longest(before.text.splitlines(), now.text.splitlines())
    for number, (old, new) in enumerate(lines, start=1):
        if old != new:
            if old is None and new is not None:
                return f"line {number}, {short_repr(new.strip())}, is new"
            told = "is gone" if new is None else f"is now {short_repr(new.strip())}"
            return f"line {number} was {short_repr((old or '').strip())} and {told}"
    return "its line ends"
