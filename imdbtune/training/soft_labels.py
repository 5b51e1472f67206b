"""Soft labels: a mean of the labels and the out-of-fold probabilities of the linear model.

Hinton, Vinyals & Dean 2015, "Distilling the Knowledge in a Neural Network": another model's
probabilities carry more information about an example than its label.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from imdbtune.data.corpus import read_corpus
from imdbtune.training.out_of_fold import out_of_fold_probabilities

Floats = npt.NDArray[np.float32]


def soft_labels(corpus: Path, count: int, share: float) -> Floats | None:
    """Return the soft labels of the first ``count`` training reviews, (count,); 1 is positive.

    Rounding a soft label gives the label, as ``share`` is at most 0.5. With more than two labels,
    they are (count, labels), and the largest value is that of the label.

    Args:
        corpus: folder of the corpus; the probabilities are cached next to it.
        count: number of training reviews.
        share: weight of the linear model's probability, the label's is 1 - ``share``. With 0 the
            result is ``None``.

    Raises:
        TrialFailed: no linear model can be trained on so few reviews.
    """
    if not share:
        return None
    opened = read_corpus(corpus)
    labels = opened.train.labels[:count].astype(np.float32)
    if len(opened.labels) > 2:
        labels = np.eye(len(opened.labels), dtype=np.float32)[opened.train.labels[:count]]
    return (1 - np.float32(share)) * labels + np.float32(share) * out_of_fold_probabilities(
        corpus, count
    )
