"""What the figures were measured on."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform

from imdbtune.cluster.local_executor import cpu_count
from imdbtune.training.hardware import processor

PACKAGES = ("tensorflow", "keras", "keras-tuner", "mlflow", "numpy")


def machine_lines() -> list[str]:
    """Processor, load, versions and the date, a line each."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    return [
        f"{datetime.date.today()}, {cpu_count()} cores of {processor()}, load {load:.1f}",
        f"{platform.system()}, Python {platform.python_version()}, {versions}",
    ]
