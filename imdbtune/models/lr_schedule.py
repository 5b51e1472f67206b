"""Learning rates that change from step to step, inside the compiled training step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from imdbtune.models.tensors import Tensor


@dataclass
class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """A linear warm-up to ``rate`` in the first ``warmup`` steps, then a decay of this ``kind``.

    Until step ``steps`` the rate decays to 0 linearly (``linear``) or along half a cosine
    (``cosine``), or stays ``constant``. The step is the optimizer's counter, so a resumed training
    continues its schedule.
    """

    rate: float
    kind: str
    steps: int
    warmup: int = 0

    def __call__(self, step: Tensor) -> Tensor:
        """Return the learning rate of a step, counted from 0."""
        done = ops.cast(step, "float32")
        left = 1.0 - ops.clip((done - self.warmup) / max(self.steps - self.warmup, 1), 0.0, 1.0)
        share = {
            "constant": ops.ones_like(left),
            "linear": left,
            "cosine": 0.5 - 0.5 * ops.cos(math.pi * left),
        }[self.kind]
        return self.rate * share * ops.minimum(1.0, (done + 1.0) / (self.warmup + 1))

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor, for Keras."""
        return dict(vars(self))
