"""Print a constraint for the lowest version that pyproject.toml allows of each dependency."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


def lowest(requirements: list[str]) -> list[str]:
    """Return ``name==version`` for each requirement with a lower bound."""
    found = (re.match(r"([\w.-]+)(?:\[.*\])?\s*>=\s*([\w.]+)", text) for text in requirements)
    return [f"{match[1]}=={match[2]}" for match in found if match]


if __name__ == "__main__":
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    sys.stdout.write("\n".join(lowest(project["dependencies"])) + "\n")
