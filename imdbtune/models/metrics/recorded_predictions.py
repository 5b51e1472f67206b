"""The accuracy of a training, which also records all predictions of an epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from keras import ops

from imdbtune.models.metrics.recorded_accuracy import RecordedAccuracy

if TYPE_CHECKING:
    from imdbtune.models.metrics.metric import Floats, Labels


class RecordedPredictions(RecordedAccuracy):
    """The recorded accuracy, with a record of labels and probabilities of the last pass.

    From it, metrics that are no mean over batches are computed without a pass of their own.

    Args:
        rows: of a pass of validation, with those that fill up its last batch.
        longest: rows of a pass of training, if that has more.
        outputs: of the model: 1, the probability of label 1, or as many as there are classes.
    """

    def __init__(self, rows: int, longest: int, outputs: int) -> None:
        super().__init__(rows)
        self.outputs = outputs
        self.longest = max(rows, longest)
        self.labels = self.add_variable((self.longest,), "zeros", dtype="int32", name="labels")
        shape = (self.longest, outputs)
        self.probabilities = self.add_variable(shape, "zeros", dtype="float32", name="predicted")
        self.counted = self.add_variable((self.longest,), "zeros", dtype="bool", name="counted")
        self.done = self.add_variable((), "zeros", dtype="int32", name="done")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add a batch: labels and probabilities, (batch, 1) or (batch, classes)."""
        super().update_state(y_true, y_pred, sample_weight)
        count = ops.shape(y_pred)[0]
        places = ((self.done + ops.arange(count, dtype="int32")) % self.longest)[:, None]
        several = len(y_true.shape) > 1 and y_true.shape[-1] > 1
        labels = ops.argmax(y_true, axis=-1) if several else ops.reshape(y_true, (-1,)) > 0.5
        if self.outputs > 1 and not several:  # numbers of classes
            labels = ops.reshape(y_true, (-1,))
        weights = ops.ones((count,)) if sample_weight is None else ops.reshape(sample_weight, (-1,))
        for variable, values in (
            (self.labels, ops.cast(labels, "int32")),
            (self.probabilities, ops.cast(y_pred, "float32")),
            (self.counted, weights > 0),
        ):
            variable.assign(ops.scatter_update(variable, places, values))
        self.done.assign(self.done + count)

    def reset_state(self) -> None:
        """Begin a new pass."""
        super().reset_state()
        self.done.assign(0)

    def last_pass(self) -> tuple[Labels, Floats]:
        """Return labels, (n,), and probabilities, (n,) or (n, classes), of all reviews of it."""
        done = slice(min(int(self.done), self.longest))
        counted = np.asarray(self.counted)[done]
        return np.asarray(self.labels)[done][counted], self._predicted()[done][counted]

    def predictions(self) -> Floats:
        """Return the probabilities of a pass of validation, (rows,) or (rows, classes)."""
        return self._predicted()[: self.rows]

    def _predicted(self) -> Floats:
        found = np.asarray(self.probabilities, np.float64)
        return found if self.outputs > 1 else found[:, 0]
