"""What a training runs on, as far as its figures depend on it."""

from __future__ import annotations

import os
import platform
import re
import sys
from pathlib import Path


def machine_tags() -> dict[str, str]:
    """Tags of the process that trains: its threads, processor, graphics cards and Python."""
    return {
        "imdbtune.threads": os.environ.get("TF_NUM_INTRAOP_THREADS", "all"),
        "imdbtune.cpu": processor(),
        "imdbtune.gpus": str(_gpus()),
        "version.python": platform.python_version(),
    }


def processor() -> str:
    """The processor's name and model."""
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8") if info.exists() else ""
    found = {
        key: match[1]
        for key in ("model name", "cpu family", "model")
        if (match := re.search(rf"^{key}\s*: (.*)$", text, re.MULTILINE))
    }
    if len(found) < 3:
        return found.get("model name") or platform.processor() or platform.machine()
    return f"{found['model name']} (family {found['cpu family']}, model {found['model']})"


def processor_features() -> str:
    """What machine code for this processor may use, in words that only serve to be compared."""
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8") if info.exists() else ""
    flags = re.search(r"^(?:flags|Features)\s*: (.*)$", text, re.MULTILINE)
    return f"{platform.machine()} {processor()} {flags[1] if flags else ''}"


def _gpus() -> int:
    """How many cards TensorFlow has found; 0 where nothing has needed TensorFlow so far."""
    # While another thread imports it, it has no such part yet.
    config = getattr(sys.modules.get("tensorflow"), "config", None)
    return len(config.list_physical_devices("GPU")) if config else 0
