"""What statistics are computed from: artifacts of a run with its results by review, or draws."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from imdbtune.config.objectives import statistic_of
from imdbtune.errors import UserError, escape_control
from imdbtune.models.metrics.metric import CORRECTNESS_FILE, DRAWS_FILE
from imdbtune.tracking import reader
from imdbtune.tracking.history_files import CONFUSION_FILE, LENGTHS_FILE
from imdbtune.training.confusion import Confusion
from imdbtune.training.length_groups import LengthGroup

if TYPE_CHECKING:
    import numpy.typing as npt

    from imdbtune.tracking.entities import Search
    from imdbtune.tracking.sqlite_reader import Runs
    from imdbtune.training.spec import Correctness, Floats, Gains

    Array = npt.NDArray[Any]


def read_correctness(client: Runs, run_id: str) -> Correctness:
    """Return which validation reviews a model classified right after each epoch.

    Returns:
        (epochs, reviews); one row for a model that was not trained in epochs.

    Raises:
        UserError: the artifact is missing or invalid.
    """
    import numpy as np

    def fits(array: Array) -> bool:
        return array.dtype == np.bool_ and array.ndim in (1, 2) and array.size > 0

    found = _read_array(client, run_id, CORRECTNESS_FILE, fits, "an array of booleans")
    return np.atleast_2d(found)


def read_draws(client: Runs, run_id: str) -> Floats:
    """Return the draws of the objective that a run has logged, (draws,).

    Raises:
        UserError: the artifact is missing or invalid.
    """
    import numpy as np

    def fits(array: Array) -> bool:
        return array.dtype == np.float64 and array.ndim == 1 and bool(np.isfinite(array).all())

    return _read_array(client, run_id, DRAWS_FILE, fits, "a row of numbers")


def _read_array(
    client: Runs, run_id: str, name: str, fits: Callable[[Array], bool], wanted: str
) -> Array:
    """Return the array in an artifact, after checking that it is the wanted one."""
    import numpy as np

    try:
        file = io.BytesIO(reader.read_artifact(client, run_id, name))
        array: Array = np.load(file, allow_pickle=False)
        if not fits(array):
            raise ValueError(f"it is not {wanted}")
        return array
    except (UserError, OSError, ValueError, EOFError) as error:
        reason = str(error).splitlines()[0][:200]
        raise UserError(f"{name} of run {run_id} cannot be read ({reason})") from error


def read_gains(client: Runs, run_id: str, search: Search) -> Gains:
    """Return what the statistics of a search are computed from, of a training's last epoch.

    That is whether it classifies each review right, or the draws of another objective, with the
    sign that makes larger values better. The mean is that of the metric.

    Raises:
        UserError: the artifact is missing or invalid.
    """
    if statistic_of(search.objective) == "accuracy":
        last: Correctness = read_correctness(client, run_id)[-1]
        return last
    draws = read_draws(client, run_id)
    return draws if search.larger_is_better else -draws


def gains_file(search: Search) -> str:
    """Return the artifact that :func:`read_gains` reads."""
    return CORRECTNESS_FILE if statistic_of(search.objective) == "accuracy" else DRAWS_FILE


def read_all(client: Runs, run_ids: Sequence[str]) -> list[Correctness]:
    """Return which reviews each run's model classified right, (epochs, reviews) each.

    Empty if a run has no such file, or if they are of different reviews.
    """
    try:
        found = [read_correctness(client, run_id) for run_id in run_ids]
    except UserError:
        return []
    return found if len({right.shape[1] for right in found}) == 1 else []


def read_all_draws(client: Runs, run_ids: Sequence[str]) -> list[Floats]:
    """Return the draws of each run; empty if one has none."""
    try:
        return [read_draws(client, run_id) for run_id in run_ids]
    except UserError:
        return []


def read_length_groups(client: Runs, run_id: str) -> tuple[LengthGroup, ...]:
    """Return the accuracy of a run's model by length of review; empty where it is unknown."""
    try:
        groups = json.loads(reader.read_text(client, run_id, LENGTHS_FILE) or "[]")
        return tuple(LengthGroup(**group) for group in groups)
    except (ValueError, TypeError):
        return ()


def read_confusion(client: Runs, run_id: str) -> Confusion | None:
    """Return the confusion matrix of a run's model; ``None`` for two labels, or if unknown."""
    try:
        table = json.loads(reader.read_text(client, run_id, CONFUSION_FILE) or "null")
        if table is None:
            return None
        labels = tuple(escape_control(str(label)) for label in table["labels"])
        counts = tuple(tuple(map(int, row)) for row in table["counts"])
        if any(len(row) != len(labels) for row in (labels, counts, *counts)):
            raise ValueError
        return Confusion(labels, counts)
    except (ValueError, TypeError, KeyError):
        return None


def nearest_epoch(right: Correctness, accuracy: float) -> Correctness:
    """Return the epoch, of (epochs, reviews), whose accuracy is nearest to a logged one."""
    row: Correctness = right[abs(right.mean(axis=1) - accuracy).argmin()]
    return row
