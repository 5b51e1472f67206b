"""The registry entries of Keras Tuner's samplers, which are imported when one is made."""

from __future__ import annotations

from imdbtune.config.schema import SearchConfig
from imdbtune.search.initial_trials import texts_to_try
from imdbtune.search.sampler import Sampler, SamplerKind, known_trial_count


def _random(config: SearchConfig) -> Sampler:
    from imdbtune.search.keras_tuner_samplers import RandomSampler

    return RandomSampler.of(config)


def _grid(config: SearchConfig) -> Sampler:
    from imdbtune.search.keras_tuner_samplers import GridSampler

    return GridSampler.of(config)


def _bayesian(config: SearchConfig) -> Sampler:
    from imdbtune.search.keras_tuner_samplers import BayesianSampler

    return BayesianSampler.of(config)


def _hyperband(config: SearchConfig) -> Sampler:
    from imdbtune.search.keras_tuner_samplers import HyperbandSampler

    return HyperbandSampler.of(config)


def initial_points(config: SearchConfig) -> int:
    """Return how many initial trials a Bayesian search has before it uses their scores.

    Three for each dimension, as Keras Tuner does, but at most a third of the trials; at least 3,
    and all that the user wants to try.
    """
    wanted, trials = 3 * len(config.space.searched), known_trial_count(config)
    usual = max(3, wanted if trials is None else min(wanted, trials // 3))
    return max(usual, len(texts_to_try(config)))


RANDOM = SamplerKind(
    about="random search (Bergstra and Bengio 2012) that tries all values equally often",
    make=_random,
    default_trials=12,
    has_initial_trials=True,
    heeds_constraint=True,
)
GRID = SamplerKind(
    about="all combinations of the values, in order",
    make=_grid,
    covers_space=True,
)
BAYESIAN = SamplerKind(
    about="Bayesian optimisation with a Gaussian process and upper confidence bounds, after some "
    "random trials",
    make=_bayesian,
    default_trials=12,
    has_initial_trials=True,
    estimated_as="random",
)
HYPERBAND = SamplerKind(
    about="Hyperband (Li et al. 2018): many short trials, of which the best continue",
    make=_hyperband,
    sizes_itself=True,
    continues_trials=True,
)
