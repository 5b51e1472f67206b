"""The registry entries of Optuna's samplers, which are imported when one is made."""

from __future__ import annotations

from imdbtune.config.schema import SearchConfig
from imdbtune.search.sampler import Sampler, SamplerKind


def _tpe(config: SearchConfig) -> Sampler:
    from imdbtune.search.optuna_samplers import TpeSampler

    return TpeSampler(config)


def _gp(config: SearchConfig) -> Sampler:
    from imdbtune.search.optuna_samplers import GpSampler

    return GpSampler(config)


def _cmaes(config: SearchConfig) -> Sampler:
    from imdbtune.search.optuna_samplers import CmaEsSampler

    return CmaEsSampler(config)


def _nsga2(config: SearchConfig) -> Sampler:
    from imdbtune.search.optuna_samplers import Nsga2Sampler

    return Nsga2Sampler(config)


TPE = SamplerKind(
    about="tree-structured Parzen estimators (Bergstra et al. 2011), multivariate, by Optuna",
    make=_tpe,
    default_trials=12,
    has_initial_trials=True,
    heeds_constraint=True,
    learns_from_others=True,
)
GP = SamplerKind(
    about="Bayesian optimisation with a Gaussian process and expected improvement, by Optuna",
    make=_gp,
    default_trials=12,
    has_initial_trials=True,
    heeds_constraint=True,
    estimated_as="random",
    learns_from_others=True,
    installed_by=("torch",),
)
CMAES = SamplerKind(
    about="CMA-ES (Hansen and Ostermeier 2001) for numbers, TPE for choices, by Optuna",
    make=_cmaes,
    default_trials=12,
    has_initial_trials=True,
    heeds_constraint=True,
)
NSGA2 = SamplerKind(
    about="the genetic algorithm NSGA-II (Deb et al. 2002), by Optuna",
    make=_nsga2,
    default_trials=12,
    has_initial_trials=True,
    heeds_constraint=True,
)
