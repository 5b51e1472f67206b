"""What chooses trials: the interface of all samplers, and what a registry entry says of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from operator import attrgetter
from typing import Protocol

from imdbtune.config.extensions import SAMPLERS
from imdbtune.config.hyperparameters import Scalar
from imdbtune.config.schema import SearchConfig


@dataclass(frozen=True)
class Suggestion:
    """A trial to run.

    Args:
        trial_id: the trial's number in its search, with leading zeros.
        values: of the searched hyperparameters.
        state: what the sampler needs to repeat this answer; plain JSON.
        epochs: the last epoch to train; ``None``: that of the configuration.
        initial_epoch: epochs that the trial ``continues`` has trained already.
        continues: id of the trial whose saved state this one continues; empty: none.
    """

    trial_id: str
    values: dict[str, Scalar]
    state: object = None
    epochs: int | None = None
    initial_epoch: int = 0
    continues: str = ""


@dataclass(frozen=True)
class Idle:
    """There is no trial now; there may be one when a running trial has ended.

    Args:
        state: what the sampler needs to repeat this answer.
        has_changed: whether the answer changed the sampler, so that it has to be repeated.
    """

    state: object = None
    has_changed: bool = False


@dataclass(frozen=True)
class Stopped:
    """There is no trial any more.

    Args:
        space_exhausted: because the search space has no new configuration.
    """

    space_exhausted: bool


Answer = Suggestion | Idle | Stopped


@dataclass(frozen=True)
class Told:
    """The end of a trial, as it was reported to a sampler.

    Args:
        score: ``None``: it failed.
        reason: of a failure, or why the trial was pruned.
        measured: its results by the names of objectives; empty in journals of early versions,
            which had one objective.
    """

    trial_id: str
    score: float | None
    reason: str = ""
    measured: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Borrowed:
    """A configuration that earlier searches have trained.

    Args:
        values: of the searched hyperparameters.
        score: the mean of its trials.
        run_ids: of these trials.
        measured: the means of their results, as in :class:`Told`.
    """

    values: dict[str, Scalar]
    score: float
    run_ids: tuple[str, ...]
    measured: Mapping[str, float] = field(default_factory=dict)


Past = Suggestion | Idle | Told | Borrowed


class Sampler(Protocol):
    """Chooses the trials of one search, one at a time.

    A sampler is deterministic: restored from the same history, it gives the same answers.
    """

    def ask(self) -> Answer:
        """Return the next trial, or that there is none now or ever again."""

    def tell(
        self,
        trial_id: str,
        score: float | None,
        reason: str = "",
        measured: Mapping[str, float] = {},
    ) -> None:
        """Report the score of a trial, or ``None`` if it failed; the arguments are as in Told.

        A trial that has been reported already is left unchanged.
        """

    def restore(self, history: Sequence[Past]) -> None:
        """Bring a new sampler to the state after ``history``.

        Args:
            history: what was borrowed, if the sampler learns from others; then all earlier
                answers, and the reports between them, in order.

        Raises:
            SearchAborted: the sampler gives other answers now.
        """


@dataclass(frozen=True)
class SamplerKind:
    """The registry entry of a sampler; to import it must not take seconds.

    Args:
        about: one line for the documentation.
        make: returns a new sampler for the space, objective, budget and seed of a configuration.
        default_trials: number of trials if the user gives none; ``None``: the sampler decides.
        sizes_itself: whether the number of trials is unknown before the end.
        covers_space: whether each configuration of the space is suggested once.
        continues_trials: whether trials may continue earlier ones, from their saved state.
        estimated_as: another sampler that draws similar trials faster, for ``--estimate``.
        has_initial_trials: whether its first trials are those of
            :class:`imdbtune.search.initial_trials.InitialTrials`.
        heeds_constraint: whether all its trials meet what ``tuner.require`` says of
            configurations.
        has_several_objectives: whether it searches for the Pareto front of several objectives, or
            needs none.
        learns_from_others: whether trials of other searches guide it.
        installed_by: packages of the extra with the sampler's name.
    """

    about: str
    make: Callable[[SearchConfig], Sampler]
    default_trials: int | None = None
    sizes_itself: bool = False
    covers_space: bool = False
    continues_trials: bool = False
    estimated_as: str = ""
    has_initial_trials: bool = False
    heeds_constraint: bool = False
    has_several_objectives: bool = False
    learns_from_others: bool = False
    installed_by: tuple[str, ...] = ()


def made_by(module: str, attribute: str) -> Callable[[SearchConfig], Sampler]:
    """Return what makes a sampler by an attribute of a module, which is imported then.

    Args:
        module: takes seconds to import.
        attribute: a class, or ``Class.method``, that takes the configuration.
    """

    def make(config: SearchConfig) -> Sampler:
        sampler: Sampler = attrgetter(attribute)(import_module(module))(config)
        return sampler

    return make


def sampler_kind(config: SearchConfig) -> SamplerKind:
    """Return the registry entry of a configuration's sampler."""
    return SAMPLERS[config.tuner.kind]


def make_sampler(config: SearchConfig) -> Sampler:
    """Return a new sampler of a search, which takes seconds to import."""
    return sampler_kind(config).make(config)


def known_trial_count(config: SearchConfig) -> int | None:
    """Return the number of trials of a search; ``None`` if it is not known in advance."""
    kind = sampler_kind(config)
    limits = [config.tuner.trial_limit]
    if not kind.sizes_itself:
        limits.append(config.space.size())
    return min((limit for limit in limits if limit is not None), default=None)
