"""Accuracy and loss of predicted probabilities."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def measure(
    probabilities: npt.NDArray[np.float64], labels: npt.NDArray[np.integer]
) -> dict[str, float]:
    """Return the mean ``accuracy`` and ``loss`` (binary cross-entropy) over reviews.

    Args:
        probabilities: of label 1, (n,).
        labels: 0 or 1, (n,).
    """
    positive = labels == 1
    correct = (probabilities > 0.5) == positive
    loss = -np.log(np.clip(np.where(positive, probabilities, 1 - probabilities), 1e-7, 1.0))
    return {"accuracy": float(correct.mean()), "loss": float(loss.mean())}
