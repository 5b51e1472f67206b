"""The metrics that a search measures besides accuracy and loss, of which some are the user's own.

A metric of one's own is a function of (labels, probabilities) in a file. It is run elsewhere, in
:mod:`imdbtune.models.own_metric`; here is what a configuration holds, sends to workers and logs.
"""

from __future__ import annotations

import importlib
import json
import keyword
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imdbtune.config.extensions import METRICS
from imdbtune.config.objectives import FOLDS_MEAN
from imdbtune.config.own_source import OwnSource, read_own_text, split_reference
from imdbtune.errors import UserError, short_repr, unknown_choice

# Runs the user's code. It stands in a package above this one, and is imported when it is first
# needed, as the entries of a registry are.
RUNNER = "imdbtune.models.own_metric"
EXAMPLE = "my_metrics.py:gain"
SMALLER = ":min"  # after the function, if smaller values are better
LARGER = ":max"


@dataclass(frozen=True)
class MetricFacts:
    """What is known of a user's own metric without running it.

    Args:
        reference: file and function, such as ``my_metrics.py:gain``.
        digest: sha256 of the file.
        larger_is_better: whether larger values are better.
    """

    reference: str
    digest: str
    larger_is_better: bool

    @property
    def name(self) -> str:
        """The name under which its values are logged: that of the function."""
        return self.reference.rpartition(":")[2]


@dataclass(frozen=True)
class OwnMetric:
    """A user's own metric; it travels with each trial.

    Args:
        source: of the function.
        larger_is_better: whether larger values are better.
        location: path of the file on the machine where the search was started.
    """

    source: OwnSource
    larger_is_better: bool = True
    location: str = field(default="", compare=False)

    @property
    def name(self) -> str:
        """The name under which its values are logged: that of the function."""
        return self.source.function

    @property
    def text(self) -> str:
        """Return it as it is written in a configuration, without the folder of its file."""
        return self.source.reference + ("" if self.larger_is_better else SMALLER)

    @property
    def facts(self) -> MetricFacts:
        """Return what tags say of it."""
        return MetricFacts(self.source.reference, self.source.digest, self.larger_is_better)

    def as_dict(self) -> dict[str, object]:
        """Return plain values, from which :func:`own_metric_of` restores the object."""
        source = {"file": self.source.file, "text": self.source.text}
        rest = {"larger_is_better": self.larger_is_better, "location": self.location}
        return {**source, "function": self.source.function, **rest}


def own_metric_of(table: Mapping[str, Any]) -> OwnMetric:
    """Return the metric in plain values.

    Raises:
        UserError: they are not those of :meth:`OwnMetric.as_dict`.
    """
    try:
        source = OwnSource(str(table["file"]), str(table["function"]), str(table["text"]))
        return OwnMetric(source, bool(table["larger_is_better"]), str(table["location"]))
    except (KeyError, TypeError) as error:
        raise UserError(
            f"[training] found is not what imdbtune has written ({error!r}); leave it out."
        ) from error


def _is_own(item: str) -> bool:
    """Return whether an item of ``training.metrics`` names a function, not a registered metric."""
    return ":" in item or item.endswith(".py")


def split_metrics(text: str) -> tuple[str, ...]:
    """Return the items of ``training.metrics``, such as ``auc,my_metrics.py:gain:min``.

    Raises:
        UserError: a metric is unknown, or is given twice.
    """
    items = tuple(item.strip() for item in text.split(",")) if text.strip() else ()
    for item in items:
        if not _is_own(item) and item not in METRICS:
            allowed = (*METRICS, "your own FILE.py:FUNCTION")
            raise unknown_choice("metric", item, allowed)
    names = [_split_own(item)[1] if _is_own(item) else item for item in items]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise UserError(f"the metric {name} is given twice; give it once, or rename one.")
    return items


def _split_own(item: str) -> tuple[Path, str, bool]:
    """Return the file, the function, and whether larger values are better."""
    larger = not item.endswith(SMALLER)
    reference = item.removesuffix(LARGER if larger else SMALLER)
    path, function = split_reference(reference, "metric", f"{EXAMPLE}, or {EXAMPLE}{SMALLER}")
    return path, function, larger


def read_own_metrics(text: str, folder: Path) -> tuple[str, tuple[OwnMetric, ...]]:
    """Return ``training.metrics`` without the folders of files, and the user's own among them.

    Their files are run.

    Args:
        folder: that files are relative to.

    Raises:
        UserError: as in :func:`split_metrics`; a file cannot be read or run, or has no such
            function; or that cannot have its name.
    """
    items, found, runner = list(split_metrics(text)), [], None
    for number, item in enumerate(items):
        if not _is_own(item):
            continue
        path, function, larger = _split_own(item)
        _check_name(function)
        source = OwnSource(path.name, function, read_own_text(folder / path, "metric"))
        metric = OwnMetric(source, larger, str((folder / path).absolute()))
        runner = runner or importlib.import_module(RUNNER)
        runner.as_metric(metric)
        found.append(metric)
        items[number] = metric.text
    return ",".join(items), tuple(found)


def _check_name(name: str) -> None:
    """Raise UserError unless values can be logged under this name, beside those of imdbtune."""
    if name in METRICS:
        raise UserError(
            f"the metric {name} of your own has the name of one of imdbtune's; rename it, or give "
            f"only {name}."
        )
    if (
        not name.isascii()
        or len(name) > 100
        or name in ("epoch", "seconds", "epochs_run", "parameter_count", FOLDS_MEAN)
        or name.startswith(("best_", "confirmed_", "test_", "train_", "val_"))
        or name.endswith(("_std", "_error", "_se"))
        or keyword.iskeyword(name)
    ):
        raise UserError(
            f"a metric cannot be named {short_repr(name)}, which is the name of another result; "
            "rename the function."
        )


def facts_as_text(metrics: Iterable[MetricFacts]) -> str:
    """Return what a tag says of own metrics; empty: there are none."""
    found = [
        {"metric": m.reference, "sha256": m.digest, "larger_is_better": m.larger_is_better}
        for m in metrics
    ]
    return json.dumps(found) if found else ""


def facts_in(text: str) -> tuple[MetricFacts, ...]:
    """Return the own metrics that a tag tells of; one that imdbtune has not written tells none."""
    try:
        return tuple(
            MetricFacts(str(m["metric"]), str(m["sha256"]), bool(m["larger_is_better"]))
            for m in json.loads(text or "[]")
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return ()
