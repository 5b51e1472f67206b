"""What the oracle was asked and told, in order, on disk: enough to bring it back after a crash.

One JSON object a line, each written and synced before anything depends on it. The oracles are
deterministic: a new one that is asked and told the same is in the same state.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imdbtune.errors import SearchAborted
from imdbtune.files import append_line, read_lines

Event = dict[str, Any]
# Points from which Keras Tuner's BayesianOptimizationOracle starts to look for the next trial.
RESTARTS = 50


@dataclass(frozen=True)
class Journal:
    """The events of one search in a file that only grows."""

    path: Path

    def append(self, event: Event) -> None:
        """Write one event through to the disk; ``asked`` with ``started``, which follows it."""
        append_line(self.path, event, sync=event.get("event") != "asked")

    def read(self) -> list[Event]:
        """All events; a last line that a crash has cut or emptied is none.

        Raises:
            SearchAborted: a line before the last cannot be read.
        """
        return [event for event, _ in read_lines(self.path, strict=True)]


def replay(oracle: Any, events: list[Event]) -> list[Event]:
    """Ask and tell a new oracle what is in the journal; returns the trials not yet ended.

    The oracle knows nothing of attempts: ``started``, ``failed`` and ``lost`` are not its affair.

    Values that an oracle would compute anew from all results (Bayesian optimisation) are put in
    as they were, with what computing them has left in the oracle.

    Raises:
        SearchAborted: the oracle answers differently: other version, or other configuration.
    """
    open_trials: dict[str, Event] = {}
    for event in events:
        trial_id = event.get("trial_id", "")
        if event["event"] == "asked":
            _ask_again(oracle, event)
            open_trials[trial_id] = event
        elif event["event"] == "idle":
            _ask_again(oracle, event)
        elif event["event"] == "ended":
            tell(oracle, trial_id, event.get("score"), event.get("reason", ""))
            open_trials.pop(trial_id, None)
    return list(open_trials.values())


def _ask_again(oracle: Any, event: Event) -> None:
    if hasattr(oracle, "gpr"):
        _leave_traces(oracle)
        oracle.populate_space = lambda trial_id: {"status": "RUNNING", "values": event["values"]}
    try:
        trial = oracle.create_trial(f"tuner-{event['trial_id']}")
    finally:
        oracle.__dict__.pop("populate_space", None)
    oracle._seed_state = event["seed_state"]
    if trial.trial_id != event["trial_id"] or trial.hyperparameters.values != event["values"]:
        raise SearchAborted(
            f"trial {event['trial_id']} comes out differently now; the search was begun with "
            "another version of Keras Tuner or of imdbtune. Start a new one."
        )


def _leave_traces(oracle: Any) -> None:
    """Fit a Bayesian oracle's regressor and use up its random numbers, as its answers do.

    The long part of an answer, the optimisation of the next point, leaves nothing behind.
    """
    completed = sum(trial.status == "COMPLETED" for trial in oracle.trials.values())
    first = oracle.num_initial_points or max(3 * len(oracle.hyperparameters.space), 3)
    if completed < first:
        return
    oracle.gpr.fit(*oracle._vectorize_trials())
    bounds = oracle._get_hp_bounds()
    oracle._random_state.uniform(bounds[:, 0], bounds[:, 1], size=(RESTARTS, len(bounds)))


def ask(oracle: Any, number: int) -> Any:
    """The oracle's next trial (Keras Tuner's ``Trial``), whose number is known beforehand."""
    return oracle.create_trial(f"tuner-{number:04d}")


def asked(oracle: Any, trial: Any) -> Event:
    """The journal's event for an answer of the oracle: a trial, or that it has to wait.

    Waiting counts where it has used up random numbers.
    """
    kind = "asked" if trial.status == "RUNNING" else "idle"
    values = dict(trial.hyperparameters.values)
    state = oracle._seed_state
    return {"event": kind, "trial_id": trial.trial_id, "values": values, "seed_state": state}


def tell(oracle: Any, trial_id: str, score: float | None, reason: str = "") -> None:
    """End a trial in the oracle: with its score, or as failed; what has ended stays as it is."""
    trial = oracle.trials[trial_id]
    if trial.status != "RUNNING":
        return
    if score is None:
        trial.status, trial.message = "FAILED", reason
    else:
        oracle.update_trial(trial_id, {oracle.objective.name: score})
        trial.status = "COMPLETED"
    oracle.end_trial(trial)
