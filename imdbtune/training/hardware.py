"""The hardware and versions on which the results of a training depend."""

from __future__ import annotations

import os
import platform
import re
import sys
from pathlib import Path


def machine_tags() -> dict[str, str]:
    """Return tags for the threads, processor, GPUs and Python version of this process."""
    return {
        "imdbtune.threads": os.environ.get("TF_NUM_INTRAOP_THREADS", "all"),
        "imdbtune.cpu": processor(),
        "imdbtune.gpus": str(_gpus()),
        "version.python": platform.python_version(),
    }


def processor() -> str:
    """Return the name of the processor, with its family and model where Linux reports them."""
    text = _cpu_info()
    values = {
        key: match[1]
        for key in ("model name", "cpu family", "model")
        if (match := re.search(rf"^{key}\s*: (.*)$", text, re.MULTILINE))
    }
    if len(values) < 3:
        return values.get("model name") or platform.processor() or platform.machine()
    return f"{values['model name']} (family {values['cpu family']}, model {values['model']})"


def processor_features() -> str:
    """Return a text that differs between processors with different instruction sets."""
    flags = re.search(r"^(?:flags|Features)\s*: (.*)$", _cpu_info(), re.MULTILINE)
    return f"{platform.machine()} {processor()} {flags[1] if flags else ''}"


def _cpu_info() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _gpus() -> int:
    """Return the number of GPUs in TensorFlow; 0 if this process has not imported TensorFlow."""
    # While another thread imports TensorFlow, the module has no ``config`` yet.
    config = getattr(sys.modules.get("tensorflow"), "config", None)
    return len(config.list_physical_devices("GPU")) if config else 0
