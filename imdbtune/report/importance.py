"""How much of the variance of the validation accuracy each hyperparameter explains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from imdbtune.config.hyperparameters import TrialParams
from imdbtune.config.search_space import SearchSpace
from imdbtune.report.effects import group_codes, varied_params
from imdbtune.report.findings import with_accuracy
from imdbtune.tracking.entities import Trial

LEVEL = 0.05  # 1 - LEVEL: confidence level
MIN_TRIALS = 3
MAX_RATIO = 1e8  # of variances; SciPy 1.17 has no noncentral F distribution of far larger ones
Vector = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Importance:
    """Share of the variance of the accuracy that a hyperparameter, or an interaction, explains.

    Args:
        names: one hyperparameter, or the two that interact.
        share: an estimate without bias, so it is negative in about half of the cases where there is
            no effect.
        low: lower limit of the 95 % interval; above 0, the effect is significant.
        high: upper limit.
    """

    names: tuple[str, ...]
    share: float
    low: float
    high: float

    @property
    def label(self) -> str:
        """Such as ``rnn x depth``."""
        return " x ".join(self.names)


@dataclass(frozen=True)
class Importances:
    """All shares, the largest first.

    Args:
        alone: of the hyperparameters.
        interactions: of pairs, beyond what both explain alone.
        left_out: number of pairs with too few trials.
    """

    alone: tuple[Importance, ...] = ()
    interactions: tuple[Importance, ...] = ()
    left_out: int = 0


def importance_data(trials: Sequence[Trial], space: SearchSpace | None = None) -> Importances:
    """Return the shares of the variance, from analyses of variance over the values.

    Many numbers are grouped into ranges (:func:`imdbtune.report.effects.group_codes`). Each
    configuration counts once, with its longest trial. A hyperparameter with a condition is judged
    by the trials in which it was active.

    Args:
        trials: with an accuracy or without.
        space: of the search; ``None``: no hyperparameter has a condition.
    """
    kept: dict[TrialParams, tuple[float, float]] = {}  # epochs and accuracy
    for trial, accuracy in with_accuracy(trials):
        epochs = trial.metrics.get("epochs_run", 0.0)
        kept[trial.params] = max(kept.get(trial.params, (-1.0, 0.0)), (epochs, accuracy))
    params = list(kept)
    values = np.array([accuracy for _, accuracy in kept.values()])
    if len(params) < MIN_TRIALS or np.ptp(values) == 0:
        return Importances()
    names = varied_params([trial for trial, _ in with_accuracy(trials)])
    factors = {name: _factor(name, params, space) for name in names}
    alone = [_alone(name, codes, values) for name, codes in factors.items()]
    pairs = list(combinations(names, 2))
    found = list(_interactions(pairs, factors, values))
    return Importances(
        tuple(sorted(filter(None, alone), key=lambda each: -each.share)),
        tuple(sorted(found, key=lambda each: -each.share)),
        len(pairs) - len(found),
    )


def _factor(name: str, params: Sequence[TrialParams], space: SearchSpace | None) -> Codes:
    """Return the group of each configuration; -1 where the hyperparameter was not active."""
    dimension = next((d for d in space.searched if d.name == name), None) if space else None
    active = [
        each.value(name) is not None and (dimension is None or dimension.is_active(each.as_dict()))
        for each in params
    ]
    chosen = [each.value(name) for each, own in zip(params, active, strict=True) if own]
    values = [value for value in chosen if value is not None]
    codes = np.full(len(params), -1)
    codes[active] = group_codes(name, values)[0]
    return codes


def _alone(name: str, codes: Codes, values: Vector) -> Importance | None:
    """Return the share of one hyperparameter; ``None``: its trials are too few."""
    active = codes >= 0
    constant = np.zeros_like(codes[active])
    return _compare((name,), [constant], [codes[active]], values[active])


def _interactions(
    pairs: Sequence[tuple[str, str]], factors: dict[str, Codes], values: Vector
) -> Iterator[Importance]:
    """Yield the shares of the pairs that have twice as many trials as combinations."""
    for one, other in pairs:
        first, second = factors[one], factors[other]
        active = (first >= 0) & (second >= 0)
        first, second = first[active], second[active]
        if not active.any():
            continue
        cells = first * (second.max() + 1) + second
        if len(cells) >= 2 * len(np.unique(cells)):
            found = _compare((one, other), [first, second], [cells], values[active])
            if found:
                yield found


def _compare(
    names: tuple[str, ...], smaller: Sequence[Codes], larger: Sequence[Codes], values: Vector
) -> Importance | None:
    """Return what a larger model explains beyond a smaller one; ``None``: there is no such part.

    The share is epsilon squared (Kelley 1935): the sum of squares less what chance adds to it. The
    interval comes from the noncentral F distribution (Steiger 2004, "Beyond the F Test").
    """
    (before, freedom_before), (after, freedom) = _fit(smaller, values), _fit(larger, values)
    gained = freedom_before - freedom
    total = float(((values - values.mean()) ** 2).sum())
    if gained < 1 or freedom < 1 or not total:
        return None
    share = (before - after - gained * after / freedom) / total
    if after < 1e-12 * total:
        return Importance(names, share, share, share)
    ratio = (before - after) / gained / (after / freedom)
    if ratio > MAX_RATIO:
        return Importance(names, share, share, share)
    low, high = _noncentrality(ratio, gained, freedom)
    scale = before / total
    count = len(values)
    return Importance(names, share, scale * low / (low + count), scale * high / (high + count))


def _fit(factors: Sequence[Codes], values: Vector) -> tuple[float, int]:
    """Return the sum of squares and the degrees of freedom that an additive model leaves."""
    columns = [codes[:, None] == np.unique(codes) for codes in factors]
    design = np.concatenate(columns, axis=1).astype(float)
    weights, _, rank, _ = np.linalg.lstsq(design, values, rcond=None)
    return float(((values - design @ weights) ** 2).sum()), len(values) - int(rank)


def _noncentrality(ratio: float, gained: int, freedom: int) -> tuple[float, float]:
    """Return the limits of the noncentrality of an F ratio."""
    from scipy import optimize, stats

    def limit(probability: float) -> float:
        def excess(noncentrality: float) -> float:
            return float(stats.ncf.cdf(ratio, gained, freedom, noncentrality)) - probability

        if stats.f.cdf(ratio, gained, freedom) <= probability:
            return 0.0
        upper = 10.0
        while excess(upper) > 0:
            upper *= 2
        return float(optimize.brentq(excess, 1e-9, upper))

    return limit(1 - LEVEL / 2), limit(LEVEL / 2)
