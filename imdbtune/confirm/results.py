"""What training the best configurations again has shown, as MLflow keeps it beside a search."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from imdbtune.errors import UserError, escape_control
from imdbtune.tracking import mlflow_links, reader, writer
from imdbtune.tracking.reader import Search, Trial

if TYPE_CHECKING:
    from imdbtune.confirm.significance import Answers, Repeats, Verdict
    from imdbtune.tracking.connection import MlflowClient

FILE = "confirmation.json"
ANSWERS = "validation_right.npy"  # an artifact of each training
METHOD = (
    "Welch's t test of the mean accuracies over seeds, with the paired differences between the "
    "shared validation reviews, against the first, at 5 % after Holm's correction"
)


@dataclass(frozen=True)
class Confirmed:
    """One configuration after its trainings, as a row of the table."""

    name: str
    trial_run_id: str  # of the search
    run_ids: tuple[str, ...]  # of the trainings, the best one first
    mean: float
    spread: float  # standard deviation between seeds
    half_seeds: float  # of the 95 % interval of the mean, for other seeds
    half_reviews: float  # for other reviews
    seconds: float  # of one training
    parameter_count: float
    difference: float  # of the first row's mean and this one
    p: float  # of such a difference by chance, corrected; 1 in the first row
    alike: bool  # whether it cannot be told from the first
    searched: float  # what the search had measured
    test_mean: float = math.nan
    test_spread: float = math.nan

    @property
    def half_width(self) -> float:
        """Of the 95 % interval, for other seeds and other reviews."""
        return math.hypot(self.half_seeds, self.half_reviews)


@dataclass(frozen=True)
class Confirmation:
    """The configurations by their confirmed mean, and which of them to take."""

    search_id: str
    run_id: str
    reviews: int
    seeds: int  # of the configuration that has the fewest
    rows: tuple[Confirmed, ...]
    recommended: str  # trial_run_id of a row

    @property
    def winner(self) -> Confirmed:
        """The row that is recommended: the cheapest of those that cannot be told from the first."""
        return next(row for row in self.rows if row.trial_run_id == self.recommended)

    @property
    def alike(self) -> int:
        """How many rows cannot be told from the first, itself among them."""
        return sum(row.alike for row in self.rows)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON, which has no word for what is not a number."""
        plain = dataclasses.asdict(self)
        for row in plain["rows"]:
            for key, value in row.items():
                if isinstance(value, float) and not math.isfinite(value):
                    row[key] = None
        return {**plain, "method": METHOD}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Confirmation:
        """What :meth:`as_dict` gave.

        Raises:
            TypeError, ValueError, KeyError: it is something else.
        """
        fields = {f.name: f for f in dataclasses.fields(Confirmed)}
        rows = []
        for told in plain["rows"]:
            row = {name: told[name] for name in fields}
            for name, each in fields.items():
                if each.type == "float":
                    row[name] = math.nan if row[name] is None else float(row[name])
                elif each.type == "str":
                    row[name] = escape_control(str(row[name]))
            row["run_ids"] = tuple(str(run_id) for run_id in row["run_ids"])
            rows.append(Confirmed(**row))
        named = {name: str(plain[name]) for name in ("search_id", "run_id", "recommended")}
        made = cls(
            **named, reviews=int(plain["reviews"]), seeds=int(plain["seeds"]), rows=tuple(rows)
        )
        if not any(row.trial_run_id == made.recommended and row.run_ids for row in rows):
            raise ValueError("nothing is recommended")
        return made


def read(client: MlflowClient, search: Search) -> Confirmation | None:
    """What the confirmation of a search has shown, if there is one that can be read."""
    run_id = search.tags.get(writer.CONFIRMED_BY, "")
    if not run_id.isalnum():
        return None
    try:
        return Confirmation.from_dict(json.loads(reader.read_text(client, run_id, FILE)))
    except (ValueError, TypeError, KeyError):
        return None


def finished(client: MlflowClient, run: Search) -> dict[str, dict[int, Trial]]:
    """The trainings of a confirmation that have finished, by the trial's run id and the seed."""
    found: dict[str, dict[int, Trial]] = {}
    for trial in reader.read_trials(client, run):
        seed = reader.read_extra_params(client, trial.run_id).get("seed", "")
        confirmed = trial.tags.get(writer.CONFIRMS, "")
        if trial.status == "FINISHED" and seed.isdecimal() and confirmed:
            found.setdefault(confirmed, {})[int(seed)] = trial
    return found


def best_epochs(client: MlflowClient, trial: Trial) -> int:
    """After how many epochs a configuration was best: where it was confirmed, the seeds' mean."""
    epochs = [t.metrics.get("best_epoch", 1.0) for t in reader.read_seeds(client, trial)]
    return max(1, round(statistics.fmean(epochs)))


def conclude(client: MlflowClient, search: Search, run: Search) -> Confirmation:
    """Compare all trainings of a confirmation, and log the outcome on its run and the search's.

    Raises:
        UserError: not one of them has finished.
    """
    from imdbtune.confirm.significance import judge

    trainings = finished(client, run)
    originals = {t.run_id: t for t in reader.read_trials(client, search) if t.run_id in trainings}
    repeated = dict(_repeats(client, trainings, originals))
    if not repeated:
        raise UserError(
            f"no training that confirms search {search.name!r} has finished; see why they failed "
            f"in run {run.run_id}."
        )
    verdict = judge(list(repeated.values()))
    rows = _rows(verdict, trainings, originals)
    made = Confirmation(
        search.run_id,
        run.run_id,
        reviews=verdict.order[0].right.shape[1],
        seeds=min(len(each.right) for each in verdict.order),
        rows=tuple(rows),
        recommended=verdict.recommended,
    )
    _log(client, made)
    return made


def _repeats(
    client: MlflowClient, trainings: Mapping[str, Mapping[int, Trial]], known: Mapping[str, Trial]
) -> Iterator[tuple[str, Repeats]]:
    import numpy as np

    from imdbtune.confirm.significance import Repeats

    for run_id, by_seed in trainings.items():
        answers = [_answers(client, trial.run_id) for _, trial in sorted(by_seed.items())]
        cost = statistics.median(t.metrics.get("train_seconds", math.inf) for t in by_seed.values())
        if run_id in known:
            yield run_id, Repeats(run_id, np.stack(answers), cost)


def _answers(client: MlflowClient, run_id: str) -> Answers:
    """Which validation reviews a training's model gets right.

    Raises:
        UserError: the artifact is gone, or something else.
    """
    import numpy as np

    try:
        file = io.BytesIO(reader.read_artifact(client, run_id, ANSWERS))
        right = np.load(file, allow_pickle=False)
        if right.dtype != np.bool_ or right.ndim != 1 or not len(right):
            raise ValueError("it is no row of truths")
        return np.asarray(right)
    except (UserError, OSError, ValueError, EOFError) as error:
        raise UserError(
            f"{ANSWERS} of run {run_id} cannot be read ({str(error).splitlines()[0][:200]}); "
            "delete that run in MLflow and confirm again."
        ) from error


def _rows(
    verdict: Verdict,
    trainings: Mapping[str, Mapping[int, Trial]],
    originals: Mapping[str, Trial],
) -> Iterator[Confirmed]:
    compared = {c.name: c for c in verdict.comparisons}
    for repeats, interval in zip(verdict.order, verdict.intervals, strict=True):
        runs = sorted(trainings[repeats.name].values(), key=lambda t: -_accuracy(t))
        against = compared.get(repeats.name)
        tested = [t.metrics["test_accuracy"] for t in runs if "test_accuracy" in t.metrics]
        yield Confirmed(
            name=originals[repeats.name].name,
            trial_run_id=repeats.name,
            run_ids=tuple(t.run_id for t in runs),
            mean=repeats.mean,
            spread=repeats.spread,
            half_seeds=interval.seeds,
            half_reviews=interval.reviews,
            seconds=repeats.cost,
            parameter_count=runs[0].metrics.get("parameter_count", math.nan),
            difference=against.difference if against else 0.0,
            p=against.p if against else 1.0,
            alike=against.alike if against else True,
            searched=_accuracy(originals[repeats.name]),
            test_mean=statistics.fmean(tested) if tested else math.nan,
            test_spread=statistics.stdev(tested) if len(tested) > 1 else math.nan,
        )


def _accuracy(trial: Trial) -> float:
    return trial.metrics.get("best_val_accuracy", math.nan)


def _log(client: MlflowClient, made: Confirmation) -> None:
    client.log_dict(made.run_id, made.as_dict(), FILE)
    writer.Run(client, made.run_id).log(
        {"confirmed_mean": made.winner.mean, "confirmed_half_width": made.winner.half_width},
        tags={writer.NOTE: markdown(made.rows, made), "imdbtune.recommended": made.recommended},
    )
    writer.Run(client, made.search_id).log(tags={writer.CONFIRMED_BY: made.run_id})
    for row in made.rows:
        spread = {} if math.isnan(row.spread) else {"confirmed_std": row.spread}
        counts = {"confirmed_seeds": float(len(row.run_ids))}
        writer.Run(client, row.trial_run_id).log(
            {"confirmed_val_accuracy": row.mean, **spread, **counts}
        )


def markdown(rows: Sequence[Confirmed], made: Confirmation) -> str:
    """The table as MLflow's description of the run shows it."""
    lines = [
        f"**Recommended: {mlflow_links.as_text(made.winner.name)}, {in_words(made)}.**",
        "",
        "| # | configuration | mean | std | 95 % | difference | p | seconds |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for place, row in enumerate(rows, start=1):
        cells = [
            mlflow_links.as_text(row.name),
            f"{row.mean:.4f}",
            f"{row.spread:.4f}",
            f"± {row.half_width:.4f}",
        ]
        cells += [f"{row.difference:.4f}", f"{row.p:.3f}", f"{row.seconds:.0f}"]
        lines.append(f"| {place} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", f"The test: {METHOD}."])


def in_words(made: Confirmation) -> str:
    """How sure the recommended configuration is, in a line."""
    row, seeds = made.winner, len(made.winner.run_ids)
    told = f"validation accuracy {row.mean * 100:.1f} %"
    if not math.isnan(row.half_width):
        told += f" ±{row.half_width * 100:.1f} points"
    told += f", the mean of {seeds} seed{'' if seeds == 1 else 's'}"
    if seeds == 1:
        return f"{told}: nothing is known of the spread between seeds"
    if len(made.rows) == 1:
        return f"{told}; no other configuration was confirmed"
    if made.alike == 1:
        return f"{told}; better than the other {len(made.rows) - 1} confirmed"
    return f"{told}; the cheapest of {made.alike} of {len(made.rows)} that cannot be told apart"
