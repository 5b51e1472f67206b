"""A setting or MLflow's variable decides whether trials log the use of their machine."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from imdbtune.errors import TrialFailed
from imdbtune.report.comparison import read_comparison
from imdbtune.tracking import reader
from imdbtune.training.spec import TrialSpec
from tests.support import Stub, isolate, make_config, run_search

CPU, MEMORY = "system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"


def wait(spec: TrialSpec) -> None:
    time.sleep(0.3)
    if spec.params.units == 5:
        raise TrialFailed("lost.")


@pytest.mark.parametrize(
    ("variable", "setting", "logged"),
    [("true", False, True), ("false", True, True), ("", True, True), ("false", False, False)],
)
def test_each_trial_has_the_use_of_its_machine(
    variable: str, setting: bool, logged: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    isolate(monkeypatch, tmp_path)
    if variable:
        monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", variable)
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
    tracking = {"system_metrics": setting}
    config = make_config(tmp_path, space={"units": [4, 5]}, tracking=tracking)
    client, search = run_search(config, tmp_path, trainer=Stub(wait))
    for trial in reader.read_trials(client, search):
        assert ({CPU, MEMORY} <= set(trial.metrics)) == logged
        steps = [metric.step for metric in client.get_metric_history(trial.run_id, MEMORY)]
        assert steps == list(range(len(steps)))
        assert (len(steps) >= 2) == logged
    assert not [thread for thread in threading.enumerate() if thread.name == "system-metrics"]
    assert not [name for name in read_comparison(client, []).columns if "system" in name]
