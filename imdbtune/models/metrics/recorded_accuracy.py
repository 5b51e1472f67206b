"""The accuracy of a training, which also records which validation reviews were classified right."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from imdbtune.models.metrics.accuracy import agree


class RecordedAccuracy(keras.metrics.MeanMetricWrapper):
    """The registered accuracy, with a record of the last pass over the validation reviews.

    So the predictions need no pass of their own. Steps of training overwrite the record, too, which
    costs nothing that could be measured; each pass of validation starts anew.

    Args:
        rows: of a pass of validation, with those that fill up its last batch.
    """

    def __init__(self, rows: int) -> None:
        super().__init__(agree, name="accuracy")
        self.rows = rows
        self.right = self.add_variable((rows,), "zeros", dtype="bool", name="right")
        self.position = self.add_variable((), "zeros", dtype="int32", name="position")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add a batch, labels and probabilities of label 1, (batch, 1) each."""
        super().update_state(y_true, y_pred, sample_weight)
        right = agree(y_true, y_pred) > 0.5
        count = ops.shape(right)[0]
        places = (self.position + ops.arange(count, dtype="int32")) % self.rows
        self.right.assign(ops.scatter_update(self.right, places[:, None], right))
        self.position.assign((self.position + count) % self.rows)

    def reset_state(self) -> None:
        """Begin a new pass."""
        super().reset_state()
        self.position.assign(0)

    def record(self) -> npt.NDArray[np.bool_]:
        """Return whether each row of the last pass was classified right, (rows,)."""
        return np.asarray(self.right)
