"""How the best trial of a search compares with its linear model, read from MLflow."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from imdbtune.errors import UserError
from imdbtune.report.findings import ACCURACY, BaselineComparison, compare_with_baseline
from imdbtune.tracking.predictions import nearest_epoch, read_all, read_gains

if TYPE_CHECKING:
    from imdbtune.confirm.entities import Confirmation
    from imdbtune.tracking.entities import Baseline, Search, Trial
    from imdbtune.tracking.sqlite_reader import Runs


def find_comparison(
    runs: Runs,
    search: Search,
    trials: Sequence[Trial],
    baselines: Sequence[Baseline],
    confirmed: Confirmation | None = None,
) -> BaselineComparison | None:
    """Compare the linear model of a search with its best trial; ``None`` without such a model.

    The interval of the difference is that of two models on the same reviews, and after a
    confirmation also of other seeds. Where a run has no predictions, as of an earlier version, it
    is the wider one of two samples.

    Args:
        runs: of the tracking store.
        search: the search.
        trials: ranked; only the first one counts.
        baselines: of the search.
        confirmed: the search's confirmation, if it has one.
    """
    found = compare_with_baseline(baselines, trials, search.validation_reviews, confirmed)
    if found is None or found.margin is None:
        return found
    subjects = confirmed.winner.run_ids if confirmed else (trials[0].run_id,)
    if found.metric != "accuracy":
        return _paired_by_draws(runs, search, found, subjects)
    if confirmed is not None and confirmed.metric != found.metric:
        return found
    rights = read_all(runs, [*subjects, found.run_id])
    if not rights:
        return found
    import numpy as np

    from imdbtune.confirm.significance import Repeats, change_between

    *epochs, linear = rights
    if confirmed is None:
        compared = [nearest_epoch(epochs[0], trials[0].metrics[ACCURACY])]
    else:
        compared = [right[-1] for right in epochs]
    ours, fixed = Repeats("", np.array(compared), 0.0), Repeats("", linear[-1:], 0.0)
    return dataclasses.replace(found, half_width=change_between(fixed, ours).half_width)


def _paired_by_draws(
    runs: Runs, search: Search, found: BaselineComparison, subjects: Sequence[str]
) -> BaselineComparison:
    """Return the comparison with the interval of two models on the same resamples of reviews."""
    import numpy as np

    from imdbtune.confirm.significance import Repeats, change_between

    try:
        *ours, linear = (read_gains(runs, run_id, search) for run_id in [*subjects, found.run_id])
    except UserError:
        return found
    change = change_between(Repeats("", linear[None], 0.0), Repeats("", np.array(ours), 0.0))
    return dataclasses.replace(found, half_width=change.half_width)
