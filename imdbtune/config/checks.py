"""The checks of a configuration that concern several of its keys, or the form of a text."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from imdbtune.config.extensions import SAMPLERS
from imdbtune.config.hyperparameters import BUCKETS_ONLY
from imdbtune.config.label_condition import parse_label_condition
from imdbtune.config.objectives import all_objectives, metric_objectives
from imdbtune.errors import UserError, short_repr

if TYPE_CHECKING:
    from imdbtune.config.schema import SearchConfig, TunerConfig

LOCAL = "local"
NO_PRUNER = "none"
# Settings that only some samplers heed, each with the attribute of their registry entry.
NEEDED_ABILITIES = {
    "learn_from": "learns_from_others",
    "tries": "has_initial_trials",
    "require": "heeds_constraint",
}


def check_config(config: SearchConfig) -> None:
    """Check what the fields of a configuration cannot check one by one.

    Raises:
        UserError: a text has another form, or a setting has no effect with another one.
    """
    check_text("experiment", config.tracking.experiment)
    parse_label_condition(config.data.label_at)
    _check_keep_models(config.tracking.keep_models)
    _check_cluster(config.cluster.address)
    _check_padded(config)
    _check_objectives(config)
    _check_prune(config.tuner)
    _check_folds(config)
    for key, ability in NEEDED_ABILITIES.items():
        _check_ability(config.tuner, key, ability)


def _check_padded(config: SearchConfig) -> None:
    """Refuse hyperparameters that have no effect on padded batches."""
    if config.training.batching != "padded":
        return
    for dimension in config.space.dimensions:
        if dimension.name in BUCKETS_ONLY and dimension.values != (0,):
            raise UserError(
                f"{dimension.name} = {dimension.in_words()} has no effect on padded batches; "
                "leave it out, or use training.batching=buckets."
            )


def check_text(key: str, value: object) -> None:
    """Check that a name can be printed in lists and fits into MLflow's columns."""
    longest = 1000 if key == "about" else 250
    if (
        not isinstance(value, str)
        or not value.isprintable()
        or len(value) > longest
        or not (value.strip() or key == "about")
    ):
        raise UserError(
            f"{key} = {short_repr(value)} is not allowed; it is a line of text, "
            f"at most {longest} characters."
        )


def _check_keep_models(text: str) -> None:
    if text not in ("all", "best") and not (text.isascii() and text.isdigit() and len(text) < 10):
        raise UserError(
            f"keep_models = {short_repr(text)} is not allowed; it is all, best, "
            "or a number of models."
        )


def _check_cluster(address: str) -> None:
    parts = urlsplit(address) if address.isprintable() else urlsplit("")
    with contextlib.suppress(ValueError):  # the port is not a number
        if address in ("", LOCAL) or (
            parts.scheme in ("tcp", "tls") and parts.hostname and parts.port
        ):
            return
    raise UserError(
        f"cluster {short_repr(address)} is not the address of a Dask scheduler; write "
        f"tcp://HOST:8786 or tls://HOST:8786, or {LOCAL} for processes on this machine."
    )


def _check_objectives(config: SearchConfig) -> None:
    """Check the objectives, and that the sampler can have several of them."""
    tuner, own = config.tuner, config.own_metrics
    first, *others = tuner.objectives
    if not {*tuner.objectives} <= {*all_objectives(own)}:
        raise UserError(
            f"objective = {short_repr(tuner.objective)} is not allowed; objective is one or more "
            f"of {', '.join(all_objectives(own))}; --metric FILE.py:FUNCTION adds your own."
        )
    if first not in metric_objectives(own):
        raise UserError(
            f"objective = {short_repr(first)} is not allowed; the first objective is one of "
            f"{', '.join(metric_objectives(own))}."
        )
    for number, name in enumerate(others, start=1):
        if name in tuner.objectives[:number]:
            raise UserError(f"the objective {name} is given twice; give it once.")
    if others and not SAMPLERS[tuner.kind].has_several_objectives:
        able = [name for name in SAMPLERS if SAMPLERS[name].has_several_objectives]
        raise UserError(
            f"the sampler {tuner.kind} has one objective, not {len(tuner.objectives)}; choose one "
            f"of {', '.join(able)}, or give only {first}."
        )


def _check_prune(tuner: TunerConfig) -> None:
    """Refuse a pruner beside a sampler that decides itself how long each trial is trained."""
    if tuner.prune != NO_PRUNER and SAMPLERS[tuner.kind].continues_trials:
        others = ", ".join(name for name in SAMPLERS if name != tuner.kind)
        raise UserError(
            f"prune = {tuner.prune!r} is not possible with the sampler {tuner.kind}, which stops "
            f"bad trials itself; leave prune out, or use another sampler ({others})."
        )


def _check_folds(config: SearchConfig) -> None:
    """Refuse a single fold, and what has no meaning beside folds."""
    tuner, folds = config.tuner, f"folds = {config.tuner.folds}"
    if not tuner.folds:
        return
    if tuner.folds == 1:
        raise UserError(f"{folds} is not allowed; it is at least 2, or 0 for no cross-validation.")
    if tuner.executions > 1:
        raise UserError(
            f"{folds} and executions = {tuner.executions} are mutually exclusive: each fold is "
            "an execution; leave executions out."
        )
    if SAMPLERS[tuner.kind].continues_trials:
        others = ", ".join(name for name in SAMPLERS if not SAMPLERS[name].continues_trials)
        raise UserError(
            f"{folds} is not possible with the sampler {tuner.kind}, whose trials continue others; "
            f"leave folds out, or use another sampler ({others})."
        )
    for chosen in config.space.dimensions:
        if chosen.name in ("soft_labels", "ngrams") and chosen.values != (0,):
            raise UserError(
                f"{folds} is not possible with {chosen.name} = {chosen.in_words()}, which are "
                "computed for the reviews of one division; leave one of them out."
            )


def _check_ability(tuner: TunerConfig, key: str, ability: str) -> None:
    """Refuse a setting that the sampler does not heed."""
    if getattr(tuner, key) and not getattr(SAMPLERS[tuner.kind], ability):
        able = [name for name in SAMPLERS if getattr(SAMPLERS[name], ability)]
        raise UserError(
            f"{key} = {short_repr(getattr(tuner, key))} has no effect with the sampler "
            f"{tuner.kind}; choose one of {', '.join(able)}, or leave it out."
        )
