"""Whose trials a search may learn from: the settings that decide what a score means."""

from __future__ import annotations

from pathlib import Path

from imdbtune.config.schema import SearchConfig, load_config
from imdbtune.search.borrowed import comparable_settings


def config_of(folder: Path, factor: float, objective: str) -> SearchConfig:
    path = folder / "mine.py"
    path.write_text(f"def gain(labels, probabilities):\n    return {factor}\n", encoding="utf-8")
    given = {"training.metrics": f"auc,{path}:gain", "tuner.objective": objective}
    return load_config("none", given)


def test_metrics_that_are_only_logged_do_not_matter(tmp_path: Path) -> None:
    logged = config_of(tmp_path, 1.0, "val_accuracy")
    assert comparable_settings(logged) == comparable_settings(load_config("none"))


def test_the_source_of_an_own_objective_matters(tmp_path: Path) -> None:
    one, other = (config_of(tmp_path, factor, "val_gain") for factor in (1.0, 2.0))
    assert comparable_settings(one) == comparable_settings(one)
    different = comparable_settings(one).items() ^ comparable_settings(other).items()
    assert {key for key, _ in different} == {"metric of the objective"}
