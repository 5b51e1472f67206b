"""AUC: the area under the receiver operating characteristic, exact and with ties."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imdbtune.models.metrics.metric import Metric

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from imdbtune.models.metrics.metric import Floats, Labels


def _area(positive: npt.NDArray[np.bool_], scores: Floats) -> float:
    """Return how often a positive review has a higher score than a negative one; ties are half.

    That is the area (Mann and Whitney 1947; Hanley and McNeil 1982); NaN without one of the two.
    """
    import numpy as np

    negative = np.sort(scores[~positive])
    below = np.searchsorted(negative, scores[positive], "left").sum()
    up_to = np.searchsorted(negative, scores[positive], "right").sum()
    pairs = len(negative) * int(positive.sum())
    return float((below + up_to) / 2 / pairs) if pairs else float("nan")


def _measure(labels: Labels, probabilities: Floats) -> float:
    """Of several classes, those that no review has do not count."""
    import numpy as np

    if probabilities.ndim == 1:
        return _area(labels == 1, probabilities)
    return float(np.mean([_area(labels == each, probabilities[:, each]) for each in set(labels)]))


AUC = Metric(
    about="area under the ROC curve: of label 1, or the mean of several classes against the rest",
    axis="AUC (0.5 to 1)",
    larger_is_better=True,
    is_share=True,
    measure=_measure,
)
