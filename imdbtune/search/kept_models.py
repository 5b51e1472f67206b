"""The model files of a search's best trials, which are logged when the search has ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from imdbtune.cluster.trial_job import trial_folder
from imdbtune.config.hyperparameters import TrialParams
from imdbtune.config.objectives import pareto_front
from imdbtune.config.schema import SearchConfig
from imdbtune.tracking.logged_models import OwnInput
from imdbtune.tracking.outbox import Outbox
from imdbtune.tracking.writer import TrialRun

Download = Callable[[str, Path], None]  # the key of a run; the path to write


def no_download(key: str, path: Path) -> None:
    """Download nothing: all trials are trained on this machine."""


@dataclass
class KeptModels:
    """Keeps the models of the best ``keep_models`` trials, and deletes the others.

    With several objectives, it also keeps those on the Pareto front: each may be the winner.

    Args:
        folder: of the search.
        download: downloads a file of a trial that was trained on another machine.
        discarded: numbers of the trials that are not to be chosen, and so do not count.
    """

    config: SearchConfig
    folder: Path
    download: Download = no_download
    discarded: frozenset[str] = frozenset()
    own: dict[str, OwnInput] = field(default_factory=dict)  # of users' own models, by trial
    _values: dict[str, tuple[float, ...]] = field(default_factory=dict)
    _run_ids: dict[str, str] = field(default_factory=dict)

    def set_params(self, trial_id: str, params: TrialParams) -> None:
        """Note the configuration of a trial, which its own model needs to be opened."""
        if self.config.space.own is not None:
            source = self.config.space.own.source
            self.own[trial_id] = OwnInput(source, params.maxlen, params.vocabulary)

    def add(self, trial_id: str, run_id: str, values: tuple[float, ...]) -> None:
        """Add a trial with the values of its objectives; delete the files that are not kept."""
        if trial_id in self.discarded:
            self._path(trial_id).unlink(missing_ok=True)
            return
        self._values[trial_id], self._run_ids[trial_id] = values, run_id
        keep = self.config.tracking.keep_models
        limit = int(keep) if keep.isdigit() else {"all": 0, "best": 1}[keep]
        sign = -1.0 if self.config.larger_is_better else 1.0
        ranked = sorted(self._values, key=lambda t: (sign * self._values[t][0], t))
        for deleted in set(ranked[limit:]) - (self._front() if limit else set()):
            self._path(deleted).unlink(missing_ok=True)
            del self._values[deleted]

    def _front(self) -> set[str]:
        objectives, trials = self.config.tuner.objectives, list(self._values)
        if len(objectives) == 1:
            return set()
        front = pareto_front(
            [self._values[trial] for trial in trials],
            [self.config.is_maximised(o) for o in objectives],
        )
        return {trials[index] for index in front}

    def log(self, outbox: Outbox) -> None:
        """Log the kept models to the runs of their trials, and delete the files."""
        for trial_id in self._values:
            path = self._path(trial_id)
            self.download(self._run_ids[trial_id], path)
            if path.exists():
                TrialRun(outbox, self._run_ids[trial_id]).log_model(path, self.own.get(trial_id))
                path.unlink()

    def _path(self, trial_id: str) -> Path:
        return trial_folder(self.folder, trial_id) / "model.keras"
