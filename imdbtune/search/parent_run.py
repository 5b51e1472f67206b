"""The run of a search in MLflow: its configuration, its data and its tags."""

from __future__ import annotations

import socket
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import tomli_w

from imdbtune.config.schema import SearchConfig
from imdbtune.tracking import run_record, writer
from imdbtune.tracking.own_models import code_tags, log_code
from imdbtune.training.spec import TrainingSettings

if TYPE_CHECKING:
    from imdbtune.tracking.connection import MlflowClient


def settings_tags(settings: TrainingSettings, *left_out: str) -> dict[str, object]:
    """Return the training settings that tags show, except those that are ``left_out``."""
    unused = () if settings.folds else ("folds", "fold_seed")
    omitted = {*left_out, *unused}
    return {name: value for name, value in asdict(settings).items() if name not in omitted}


# Logged with each trial, or at their defaults in all trials of a search.
OF_TRIALS = (
    *("epochs", "initial_epoch", "hold_out", "validation_share", "schedule_epochs", "keep_best"),
)


def open_parent_run(
    client: MlflowClient, config: SearchConfig, facts: writer.CorpusFacts, key: str, base: Path
) -> writer.SearchRun:
    """Start the run of a search, or adopt the one that ``mlflow run`` has started.

    Args:
        facts: describe the corpus.
        key: the name of the run before it has an id.
        base: the folder of the workspaces.
    """
    tags, name, experiment = _known(config, facts), config.name, config.tracking.experiment
    return writer.SearchRun.open(client, name, experiment, tags, "search", key, folder_tag(base))


def _known(config: SearchConfig, facts: writer.CorpusFacts) -> dict[str, str]:
    settings = {
        **settings_tags(TrainingSettings.of(config), *OF_TRIALS),
        "objectives": ",".join(config.tuner.objectives) if config.tuner.objectives[1:] else "",
        "require": config.tuner.require,
        "learn_from": config.tuner.learn_from,
        "tuner": config.tuner.kind,
        "validation_reviews": _validation_reviews(facts, config),
        "config_digest": config.digest[:16],
        "about": config.about,
        **code_tags(config.own_code),
    }
    return writer.common_tags(facts, settings)


def folder_tag(base: Path) -> str:
    """Return the host and the folder in which a search can be resumed."""
    return f"{socket.gethostname()}:{base}"


def log_configuration(run: writer.Run, config: SearchConfig, facts: writer.CorpusFacts) -> None:
    """Write the configuration and corpus to the outbox, before the run is created."""
    settings = config.as_dict()
    settings["tracking"]["uri"] = ""  # it may contain a password
    run.client.log_text(run.run_id, tomli_w.dumps(settings), "config.toml")
    run_record.write(run.client, run.run_id, _known(config, facts))
    log_code(run.client, run.run_id, config.own_code)
    run.log_corpus(facts)
    flat = {
        f"{section}.{key}": value
        for section in ("tuner", "training")
        for key, value in asdict(getattr(config, section)).items()
    }
    space = {f"space.{d.name}": d.in_words() for d in config.space.dimensions}
    run.log(params={**flat, **space})
    run.client.sync(run.run_id)


def _validation_reviews(facts: writer.CorpusFacts, config: SearchConfig) -> int:
    from imdbtune.data.batches import limit_rows, validation_split

    used = limit_rows(facts.train_rows, config.data.reviews)
    return used if config.tuner.folds else len(validation_split(used)[1])
