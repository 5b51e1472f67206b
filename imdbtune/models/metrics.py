"""Accuracy and loss of probabilities, whatever model they come from."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def measure(chances: npt.NDArray[np.float64], labels: npt.NDArray[Any]) -> dict[str, float]:
    """``accuracy`` and ``loss`` of the probabilities of label 1, (n,), as means over reviews."""
    positive = labels == 1
    right = (chances > 0.5) == positive
    loss = -np.log(np.clip(np.where(positive, chances, 1 - chances), 1e-7, 1.0))
    return {"accuracy": float(right.mean()), "loss": float(loss.mean())}
