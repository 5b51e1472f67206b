"""The registry entries of Optuna's samplers, which are imported when one is made."""

from __future__ import annotations

from imdbtune.search.sampler import SamplerKind, made_by

MODULE = "imdbtune.search.optuna_samplers"

TPE = SamplerKind(
    about="tree-structured Parzen estimators (Bergstra et al. 2011), multivariate, by Optuna",
    make=made_by(MODULE, "TpeSampler"),
    default_trials=12,
    has_initial_trials=True,
    heeds_constraint=True,
    has_several_objectives=True,
    learns_from_others=True,
)
GP = SamplerKind(
    about="Bayesian optimisation with a Gaussian process and expected improvement, by Optuna",
    make=made_by(MODULE, "GpSampler"),
    default_trials=12,
    has_initial_trials=True,
    heeds_constraint=True,
    estimated_as="random",
    learns_from_others=True,
    installed_by=("torch",),
)
CMAES = SamplerKind(
    about="CMA-ES (Hansen and Ostermeier 2001) for numbers, TPE for choices, by Optuna",
    make=made_by(MODULE, "CmaEsSampler"),
    default_trials=12,
    has_initial_trials=True,
    heeds_constraint=True,
)
NSGA2 = SamplerKind(
    about="the genetic algorithm NSGA-II (Deb et al. 2002), by Optuna",
    make=made_by(MODULE, "Nsga2Sampler"),
    default_trials=12,
    has_initial_trials=True,
    heeds_constraint=True,
    has_several_objectives=True,
)
