"""The model files of a search's best trials, which are logged when the search has ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from imdbtune.cluster.trial_job import trial_folder
from imdbtune.config.schema import SearchConfig
from imdbtune.tracking.outbox import Outbox
from imdbtune.tracking.writer import TrialRun

Download = Callable[[str, Path], None]  # the key of a run; the path to write


def no_download(key: str, path: Path) -> None:
    """Download nothing: all trials are trained on this machine."""


@dataclass
class KeptModels:
    """Keeps the models of the best ``keep_models`` trials, and deletes the others.

    Args:
        folder: of the search.
        download: downloads a file of a trial that was trained on another machine.
        discarded: numbers of the trials that are not to be chosen, and so do not count.
    """

    config: SearchConfig
    folder: Path
    download: Download = no_download
    discarded: frozenset[str] = frozenset()
    _scores: dict[str, float] = field(default_factory=dict)
    _run_ids: dict[str, str] = field(default_factory=dict)

    def add(self, trial_id: str, score: float, run_id: str) -> None:
        """Add a trial; delete the model files beyond the best ``keep_models``."""
        if trial_id in self.discarded:
            self._path(trial_id).unlink(missing_ok=True)
            return
        self._scores[trial_id], self._run_ids[trial_id] = score, run_id
        keep = self.config.tracking.keep_models
        limit = int(keep) if keep.isdigit() else {"all": 0, "best": 1}[keep]
        sign = -1.0 if self.config.tuner.larger_is_better else 1.0
        ranked = sorted(self._scores, key=lambda t: (sign * self._scores[t], t))
        for deleted in ranked[limit:]:
            self._path(deleted).unlink(missing_ok=True)
            del self._scores[deleted]

    def log(self, outbox: Outbox) -> None:
        """Log the kept models to the runs of their trials, and delete the files."""
        for trial_id in self._scores:
            path = self._path(trial_id)
            self.download(self._run_ids[trial_id], path)
            if path.exists():
                TrialRun(outbox, self._run_ids[trial_id]).log_model(path)
                path.unlink()

    def _path(self, trial_id: str) -> Path:
        return trial_folder(self.folder, trial_id) / "model.keras"
