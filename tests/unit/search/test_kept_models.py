"""Which model files stay while a search runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from imdbtune.cluster.trial_job import trial_folder
from imdbtune.config.schema import parse_config
from imdbtune.search.kept_models import KeptModels

VALUES = {"0": (0.7, 50.0), "1": (0.9, 90.0), "2": (0.8, 80.0), "3": (0.8, 20.0), "4": (0.6, 60.0)}


@pytest.mark.parametrize(
    ("objective", "keep", "kept"),
    [
        ("val_accuracy", "best", "1"),
        ("val_accuracy", "2", "12"),
        ("val_accuracy,parameter_count", "best", "13"),
        ("val_accuracy,parameter_count", "2", "123"),
        ("val_accuracy,parameter_count", "0", ""),
    ],
)
def test_the_best_and_the_front_are_kept(
    objective: str, keep: str, kept: str, tmp_path: Path
) -> None:
    tuner, tracking = {"kind": "tpe", "objective": objective}, {"keep_models": keep}
    models = KeptModels(parse_config({"tuner": tuner, "tracking": tracking}), tmp_path)
    count = objective.count(",") + 1
    for trial_id, values in VALUES.items():
        path = trial_folder(tmp_path, trial_id) / "model.keras"
        path.parent.mkdir(parents=True)
        path.touch()
        models.add(trial_id, f"run{trial_id}", values[:count])
    assert "".join(sorted(path.parent.name for path in tmp_path.rglob("model.keras"))) == kept
