"""Logs CPU, memory, disk, network and GPU use while a trial trains.

MLflow's own ``SystemMetricsMonitor`` writes to the tracking store itself, which the processes that
train may not reach; its monitors collect the values here, and the outbox delivers them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.system_metrics.metrics.base_metrics_monitor import BaseMetricsMonitor

    from imdbtune.tracking.writer import Run

INTERVAL_S = 10.0  # MLflow's default
PREFIX = "system/"  # by which MLflow finds the metrics of its tab


@contextmanager
def log_system_metrics(run: Run, enabled: bool) -> Iterator[None]:
    """Log the use of this machine to a run while the block runs, and once at its end.

    MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL is the time between two values in seconds.

    Args:
        run: the run.
        enabled: if not, MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING of this process decides.
    """
    from mlflow import environment_variables as variables

    if not (enabled or variables.MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING.get()):
        yield
        return
    interval = variables.MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL.get() or INTERVAL_S
    ended = threading.Event()
    arguments = (run, _monitors(), float(interval), ended)
    thread = threading.Thread(target=_log, args=arguments, name="system-metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()  # nothing may follow the end of the run


def _monitors() -> list[BaseMetricsMonitor]:
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    found: list[BaseMetricsMonitor] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    with suppress(ImportError, RuntimeError):  # no NVIDIA GPU, or no package to read it
        found.append(GPUMonitor())
    return found


def _log(
    run: Run, monitors: list[BaseMetricsMonitor], interval_s: float, ended: threading.Event
) -> None:
    _collect(monitors)  # the use of the CPU counts from the first call
    step, last = 0, False
    while not last:
        last = ended.wait(interval_s)
        with suppress(OSError):  # the trial's own metrics meet a full disk too
            run.log(_collect(monitors), step)
        step += 1


def _collect(monitors: list[BaseMetricsMonitor]) -> dict[str, float]:
    values: dict[str, float] = {}
    for monitor in monitors:
        monitor.collect_metrics()
        values |= {PREFIX + name: value for name, value in monitor.aggregate_metrics().items()}
        monitor.clear_metrics()
    return values
