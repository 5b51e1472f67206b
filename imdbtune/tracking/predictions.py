"""Which validation reviews a model has classified right: an artifact of its run."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from imdbtune.errors import UserError
from imdbtune.models.metrics.metric import CORRECTNESS_FILE
from imdbtune.tracking import reader
from imdbtune.tracking.history_files import LENGTHS_FILE
from imdbtune.training.length_groups import LengthGroup

if TYPE_CHECKING:
    from imdbtune.tracking.sqlite_reader import Runs
    from imdbtune.training.spec import Correctness


def read_correctness(client: Runs, run_id: str) -> Correctness:
    """Return which validation reviews a model classified right after each epoch.

    Returns:
        (epochs, reviews); one row for a model that was not trained in epochs.

    Raises:
        UserError: the artifact is missing or invalid.
    """
    import numpy as np

    try:
        file = io.BytesIO(reader.read_artifact(client, run_id, CORRECTNESS_FILE))
        correct = np.load(file, allow_pickle=False)
        if correct.dtype != np.bool_ or correct.ndim not in (1, 2) or not correct.size:
            raise ValueError("it is not an array of booleans")
        return np.atleast_2d(correct)
    except (UserError, OSError, ValueError, EOFError) as error:
        reason = str(error).splitlines()[0][:200]
        raise UserError(f"{CORRECTNESS_FILE} of run {run_id} cannot be read ({reason})") from error


def read_all(client: Runs, run_ids: Sequence[str]) -> list[Correctness]:
    """Return which reviews each run's model classified right, (epochs, reviews) each.

    Empty if a run has no such file, or if they are of different reviews.
    """
    try:
        found = [read_correctness(client, run_id) for run_id in run_ids]
    except UserError:
        return []
    return found if len({right.shape[1] for right in found}) == 1 else []


def read_length_groups(client: Runs, run_id: str) -> tuple[LengthGroup, ...]:
    """Return the accuracy of a run's model by length of review; empty where it is unknown."""
    try:
        groups = json.loads(reader.read_text(client, run_id, LENGTHS_FILE) or "[]")
        return tuple(LengthGroup(**group) for group in groups)
    except (ValueError, TypeError):
        return ()


def nearest_epoch(right: Correctness, accuracy: float) -> Correctness:
    """Return the epoch, of (epochs, reviews), whose accuracy is nearest to a logged one."""
    row: Correctness = right[abs(right.mean(axis=1) - accuracy).argmin()]
    return row
