"""Results for a CI system: JUnit XML of test cases, and Markdown for GitHub's step summary."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from imdbtune.models.metrics.metric import format_value
from imdbtune.tracking.mlflow_links import as_text

if TYPE_CHECKING:
    from imdbtune.confirm.threshold import Threshold, Verdict
    from imdbtune.report.confirmed_change import ConfirmedChange
    from imdbtune.tracking.entities import Search, Trial

ROWS_SHOWN = 20
ENDED_EARLY = ("KILLED", "RUNNING", "SCHEDULED")


@dataclass(frozen=True)
class Case:
    """One test case.

    Args:
        name: in its suite.
        seconds: its duration.
        failure: why it has failed; empty: it has not.
        skipped: why it has no result; empty: it has one.
        output: what else there is to say.
    """

    name: str
    seconds: float = 0.0
    failure: str = ""
    skipped: str = ""
    output: str = ""


@dataclass(frozen=True)
class Suite:
    """Test cases with a name, and the same result as Markdown."""

    name: str
    cases: Sequence[Case]
    markdown: str
    properties: dict[str, str] = field(default_factory=dict)

    def as_xml(self) -> str:
        """Return the suite as JUnit XML."""
        counts = {
            "tests": len(self.cases),
            "failures": sum(bool(case.failure) for case in self.cases),
            "skipped": sum(bool(case.skipped) for case in self.cases),
            "errors": 0,
        }
        head = {name: str(count) for name, count in counts.items()}
        head["time"] = f"{sum(case.seconds for case in self.cases):.3f}"
        suites = ElementTree.Element("testsuites", {"name": "imdbtune", **head})
        suite = ElementTree.SubElement(suites, "testsuite", {"name": _xml(self.name), **head})
        described = ElementTree.SubElement(suite, "properties") if self.properties else None
        for name, value in self.properties.items():
            assert described is not None
            ElementTree.SubElement(described, "property", {"name": name, "value": _xml(value)})
        for case in self.cases:
            _add_case(suite, self.name, case)
        ElementTree.indent(suites)
        body = ElementTree.tostring(suites, encoding="unicode")
        return f'<?xml version="1.0" encoding="utf-8"?>\n{body}\n'


def _add_case(suite: ElementTree.Element, class_name: str, case: Case) -> None:
    names = {"classname": f"imdbtune.{_xml(class_name)}", "name": _xml(case.name)}
    element = ElementTree.SubElement(suite, "testcase", {**names, "time": f"{case.seconds:.3f}"})
    if case.failure:
        message = _xml(case.failure)
        ElementTree.SubElement(element, "failure", {"message": message}).text = message
    if case.skipped:
        ElementTree.SubElement(element, "skipped", {"message": _xml(case.skipped)})
    if case.output:
        ElementTree.SubElement(element, "system-out").text = _xml(case.output)


def _xml(text: str) -> str:
    """Return text without the characters that XML cannot have."""
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in text)


def search_suite(search: Search, trials: Sequence[Trial], aborted: str = "") -> Suite:
    """Return a search: each trial is a test case, one that has failed a failure.

    Args:
        search: the search.
        trials: ranked.
        aborted: why the search did not come to its end; empty: it did.
    """
    cases = [_trial_case(trial) for trial in trials]
    if aborted:
        cases.append(Case("search", failure=aborted))
    properties = {"search_id": search.run_id, "objective": search.objective}
    if trials and trials[0].can_win:
        best = trials[0]
        properties |= {"best": best.name, "best_run_id": best.run_id, "score": str(best.score)}
    return Suite(search.name, cases, _search_markdown(search, trials, aborted), properties)


def _trial_case(trial: Trial) -> Case:
    failed = trial.state == "FAILED"
    is_open = trial.state in ENDED_EARLY
    seconds = trial.metrics.get("train_seconds", 0.0)
    reason = trial.reason or trial.state.lower()
    return Case(
        f"{trial.trial_id} {trial.name}".strip(),
        seconds if math.isfinite(seconds) else 0.0,
        failure=reason if failed else "",
        skipped=reason if is_open else "",
        output=f"{trial.objective} {_score(trial)}, run {trial.run_id}, {trial.state.lower()}",
    )


def _score(trial: Trial) -> str:
    return "-" if trial.score is None else format_value(trial.objective, trial.score)


def _search_markdown(search: Search, trials: Sequence[Trial], aborted: str) -> str:
    lines = [f"### imdbtune search {as_text(search.name)}", ""]
    lines += [f"**Aborted: {as_text(aborted)}**", ""] if aborted else []
    if trials and trials[0].can_win:
        best = trials[0]
        lines += [f"Best: **{as_text(best.name)}**, {search.objective} {_score(best)}", ""]
    lines += [f"| # | trial | {search.objective} | seconds | status |", "|---|---|--:|--:|---|"]
    for place, trial in enumerate(trials[:ROWS_SHOWN], start=1):
        seconds = trial.metrics.get("train_seconds")
        cells = [
            str(place) if trial.can_win else "",
            as_text(trial.name),
            _score(trial),
            "" if seconds is None else f"{seconds:.0f}",
            as_text(trial.shown_status.lower() + (f": {trial.reason}" if trial.reason else "")),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    if len(trials) > ROWS_SHOWN:
        lines += ["", f"... and {len(trials) - ROWS_SHOWN} more"]
    return "\n".join([*lines, ""])


def change_suite(found: ConfirmedChange) -> Suite:
    """Return the comparison of two confirmed winners: one test case, that the new is not worse."""
    case = Case(
        f"{found.new.search.name} is not worse than {found.old.search.name}",
        failure=str(found) if found.is_worse else "",
        output=str(found),
    )
    mark = "❌" if found.is_worse else "✅"
    lines = [f"### {mark} The new winner is {found.verdict}", ""]
    lines += [f"Difference: **{found.interval}**, on {found.reviews:,} validation reviews.", ""]
    lines += ["| search | configuration | mean val_accuracy | seeds |", "|---|---|--:|--:|"]
    for winner in (found.old, found.new):
        cells = [as_text(winner.search.name), as_text(winner.row.name), f"{winner.mean:.4f}"]
        lines.append(f"| {' | '.join(cells)} | {len(winner.accuracies)} |")
    return Suite("compare", [case], "\n".join([*lines, ""]), {"verdict": found.verdict})


def threshold_suite(
    search: Search, trial: Trial, verdicts: Sequence[Verdict], unchecked: Sequence[Threshold]
) -> Suite:
    """Return the values that the best model has to reach: each is a test case.

    Args:
        search: the search.
        trial: the model.
        verdicts: on the values that were compared.
        unchecked: thresholds that were not compared, as a value of validation was missed.
    """
    cases = [
        Case(v.threshold.name, failure="" if v.is_met else str(v), output=str(v)) for v in verdicts
    ]
    skipped = "a value of validation was missed"
    cases += [Case(each.name, skipped=skipped) for each in unchecked]
    is_good = all(verdict.is_met for verdict in verdicts)
    mark, relation = ("✅", "is good enough") if is_good else ("❌", "is not good enough")
    lines = [f"### {mark} {as_text(trial.name)} of {as_text(search.name)} {relation}", ""]
    lines += [f"- {verdict}" for verdict in verdicts]
    lines += [f"- {each.name} was not checked: {skipped}" for each in unchecked]
    properties = {"search_id": search.run_id, "best": trial.name, "best_run_id": trial.run_id}
    return Suite("best", cases, "\n".join([*lines, ""]), properties)
