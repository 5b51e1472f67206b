"""The finished trials of earlier searches from which a new search learns."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from imdbtune.config.hyperparameters import TrialParams
from imdbtune.config.schema import FOUND, SearchConfig
from imdbtune.config.search_space import SearchSpace, word
from imdbtune.errors import UserError, escape_control
from imdbtune.search.resume import stored_config
from imdbtune.search.sampler import Borrowed, sampler_kind
from imdbtune.tracking import mlflow_names, reader
from imdbtune.tracking.entities import Search, Trial
from imdbtune.tracking.writer import CorpusFacts

if TYPE_CHECKING:
    from imdbtune.tracking.connection import MlflowClient
    from imdbtune.tracking.outbox import Outbox
    from imdbtune.tracking.sqlite_reader import Runs

AUTO = "auto"  # all searches that are comparable
NAME = "borrowed.json"  # artifact of a search that has learned from others


@dataclass(frozen=True)
class BorrowedRow:
    """A configuration that a search has borrowed, as its artifact has it.

    Args:
        name: of the configuration.
        search: name of the search that has trained it, of the newest if there are several.
        score: the mean of its trials.
        run_ids: of these trials.
    """

    name: str
    search: str
    score: float
    run_ids: tuple[str, ...]


@dataclass(frozen=True)
class Loan:
    """What a new search knows before its first trial."""

    trials: tuple[Borrowed, ...] = ()
    rows: tuple[BorrowedRow, ...] = ()  # the same trials, for readers
    searches: tuple[str, ...] = ()  # names, the newest first
    outside: int = 0  # trials whose configuration is not in the new space

    def in_words(self) -> str:
        """Return one line about the trials."""
        if not self.trials:
            return "learned from no trial: no comparable search has one in this space"
        left_out = f"; {self.outside} are not in this space" if self.outside else ""
        return (
            f"learned from {len(self.trials)} configurations of {', '.join(self.searches)}, which "
            f"are not trained again{left_out}"
        )


NOTHING = Loan()


def find_loan(client: MlflowClient, config: SearchConfig, facts: CorpusFacts) -> Loan:
    """Return the trials that ``config.tuner.learn_from`` names.

    They are comparable if they were trained on the same reviews with the same settings; only the
    space, the sampler and the seed may differ. Trials of Hyperband are not: most are shorter.

    Raises:
        UserError: there is no such search, or it is not comparable or has no trial in the space.
    """
    reference = config.tuner.learn_from
    if not reference:
        return NOTHING
    if reference == AUTO:
        comparable = [
            search
            for search in reader.read_searches(client)
            if not any(_differences(client, search, config, facts))
        ]
        return _collect(client, comparable, config.space)
    search = reader.find_search(client, reference)
    for difference in _differences(client, search, config, facts):
        raise UserError(
            f"search {search.name!r} cannot be learned from: {difference}. Only the space, the "
            "sampler and the seed may differ."
        )
    loan = _collect(client, [search], config.space)
    if not loan.trials:
        raise UserError(
            f"search {search.name!r} has no finished trial whose configuration is in the new "
            "space; leave --learn-from out, or widen the space."
        )
    return loan


def _differences(
    client: MlflowClient, search: Search, config: SearchConfig, facts: CorpusFacts
) -> Iterator[str]:
    """Yield why the trials of a search cannot be compared with those of ``config``."""
    digest = search.tags.get(mlflow_names.DIGEST, "")
    if digest != facts.digest:
        yield f"its reviews have the digest {digest[:12]}, yours {facts.digest[:12]}"
        return
    try:
        before = stored_config(client, search)
    except UserError as error:
        yield str(error)
        return
    if sampler_kind(before).continues_trials:
        yield f"its sampler {before.tuner.kind} trained most trials for fewer epochs"
    old, new = comparable_settings(before), comparable_settings(config)
    for key, value in new.items():
        if old[key] != value:
            yield f"its {key} was {word(old[key])}, yours is {word(value)}"


def comparable_settings(config: SearchConfig) -> Mapping[str, object]:
    """Return the settings besides the hyperparameters that decide what a score means."""
    settings = config.as_dict()
    tuner = {key: settings["tuner"][key] for key in ("objective", "executions", "folds")}
    others = ("metrics", FOUND)  # what is logged besides the score
    training = {key: value for key, value in settings["training"].items() if key not in others}
    sources = {f"val_{m.name}": f"{m.text} {m.source.digest[:12]}" for m in config.own_metrics}
    metric = sources.get(config.tuner.main_objective, "")
    return {"reviews": config.data.reviews, **tuner, "metric of the objective": metric, **training}


def _collect(client: MlflowClient, searches: Iterable[Search], space: SearchSpace) -> Loan:
    """Return the trials in a space; several of one configuration are one, with the mean score."""
    found: dict[TrialParams, list[Trial]] = {}
    lenders: dict[TrialParams, str] = {}
    names, outside = [], 0
    for search in searches:
        trials = [trial for trial in reader.read_trials(client, search) if trial.has_result]
        inside = [trial for trial in trials if space.values_of(trial.params) is not None]
        outside += len(trials) - len(inside)
        names += [search.name] if inside else []
        for trial in inside:
            found.setdefault(trial.params, []).append(trial)
            lenders.setdefault(trial.params, search.name)
    borrowed = {params: _borrow(space, params, trials) for params, trials in found.items()}
    rows = [
        BorrowedRow(params.label, lenders[params], each.score, each.run_ids)
        for params, each in borrowed.items()
    ]
    return Loan(tuple(borrowed.values()), tuple(rows), tuple(names), outside)


def _borrow(space: SearchSpace, params: TrialParams, trials: list[Trial]) -> Borrowed:
    values = space.values_of(params)
    assert values is not None
    scores = [trial.score for trial in trials if trial.score is not None]
    results = [trial.measured for trial in trials]
    measured = {
        name: statistics.fmean(each[name] for each in results)
        for name in results[0]
        if all(name in each for each in results)
    }
    run_ids = tuple(trial.run_id for trial in trials)
    return Borrowed(values, statistics.fmean(scores), run_ids, measured)


def log_loan(outbox: Outbox, run_id: str, loan: Loan) -> None:
    """Log the borrowed configurations on the run of the search."""
    outbox.log_text(run_id, json.dumps([asdict(row) for row in loan.rows], indent=1), NAME)


def read_borrowed(runs: Runs, search: Search) -> list[BorrowedRow]:
    """Return the configurations that a search has borrowed, the best first."""
    if mlflow_names.LEARNED_FROM not in search.tags:
        return []
    try:
        rows = [
            BorrowedRow(
                escape_control(str(row["name"])),
                escape_control(str(row["search"])),
                float(row["score"]),
                tuple(str(run_id) for run_id in row["run_ids"]),
            )
            for row in json.loads(reader.read_text(runs, search.run_id, NAME) or "[]")
        ]
    except (ValueError, TypeError, KeyError):  # changed by hand
        return []
    return sorted(rows, key=lambda row: row.score, reverse=search.larger_is_better)
