"""The registry entries of Keras Tuner's samplers, which are imported when one is made."""

from __future__ import annotations

from imdbtune.config.schema import SearchConfig
from imdbtune.config.tries import split_tries
from imdbtune.search.sampler import SamplerKind, known_trial_count, made_by

MODULE = "imdbtune.search.keras_tuner_samplers"


def initial_points(config: SearchConfig) -> int:
    """Return how many initial trials a Bayesian search has before it uses their scores.

    Three for each dimension, as Keras Tuner does, but at most a third of the trials; at least 3,
    and all that the user wants to try.
    """
    wanted, trials = 3 * len(config.space.searched), known_trial_count(config)
    usual = max(3, wanted if trials is None else min(wanted, trials // 3))
    return max(usual, len(split_tries(config.tuner.tries)))


RANDOM = SamplerKind(
    about="random search (Bergstra and Bengio 2012) that tries all values equally often",
    make=made_by(MODULE, "RandomSampler.of"),
    default_trials=12,
    has_initial_trials=True,
    heeds_constraint=True,
    has_several_objectives=True,
)
GRID = SamplerKind(
    about="all combinations of the values, in order",
    make=made_by(MODULE, "GridSampler.of"),
    covers_space=True,
    heeds_constraint=True,
    has_several_objectives=True,
)
BAYESIAN = SamplerKind(
    about="Bayesian optimisation with a Gaussian process and upper confidence bounds, after some "
    "random trials",
    make=made_by(MODULE, "BayesianSampler.of"),
    default_trials=12,
    has_initial_trials=True,
    heeds_constraint=True,
    estimated_as="random",
)
HYPERBAND = SamplerKind(
    about="Hyperband (Li et al. 2018): many short trials, of which the best continue",
    make=made_by(MODULE, "HyperbandSampler.of"),
    sizes_itself=True,
    continues_trials=True,
    heeds_constraint=True,
)
