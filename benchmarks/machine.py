"""What the figures were measured on."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import re
from pathlib import Path

from imdbtune.cluster import cpu_count

PACKAGES = ("tensorflow", "keras", "keras-tuner", "mlflow", "numpy")


def machine_lines() -> list[str]:
    """Processor, load, versions and the date, a line each."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    return [
        f"{datetime.date.today()}, {cpu_count()} cores of {_processor()}, load {load:.1f}",
        f"{platform.system()}, Python {platform.python_version()}, {versions}",
    ]


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8") if info.exists() else ""
    found = {
        key: match[1]
        for key in ("model name", "cpu family", "model")
        if (match := re.search(rf"^{key}\s*: (.*)$", text, re.MULTILINE))
    }
    if not found:
        return platform.processor() or platform.machine()
    return f"{found.get('model name')} (family {found['cpu family']}, model {found['model']})"
