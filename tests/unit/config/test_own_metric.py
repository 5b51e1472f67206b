"""Metrics of the user's own: how they are written, what they return, and what is wrong."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imdbtune.config.own_metric import facts_as_text, facts_in
from imdbtune.config.schema import SearchConfig, load_config, parse_config
from imdbtune.errors import UserError
from imdbtune.models.own_metric import call, check_own_metrics
from imdbtune.search.same_sources import check_same_sources

GOOD = """
import numpy as np

def gain(labels, probabilities):
    return np.float32((probabilities > 0.5).mean())

def cost(labels, probabilities):
    return 3
"""
BAD = """
def raises(labels, probabilities):
    half = len(labels) / 2
    return labels[int(half) * 100]

def text(labels, probabilities):
    return "good"

def nothing(labels, probabilities): pass

def nan(labels, probabilities):
    return float("nan")

def truth(labels, probabilities):
    return True

def f1(labels, probabilities): return 1.0
def val_gain(labels, probabilities): return 1.0
number = 3
"""


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "my_metrics.py").write_text(GOOD)
    (tmp_path / "bad.py").write_text(BAD)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def config_of(metrics: Any, **tuner: Any) -> SearchConfig:
    return parse_config({"training": {"metrics": metrics}, "tuner": tuner})


def test_metrics_of_ones_own_are_objectives() -> None:
    items = ["auc", "my_metrics.py:gain", "my_metrics.py:cost:min"]
    config = config_of(items, objective="val_cost,val_f1", kind="tpe", require="val_gain>=0.5")
    assert config.training.metrics == "auc,my_metrics.py:gain,my_metrics.py:cost:min"
    assert config.further_metrics == ("cost", "f1", "gain", "auc")
    assert not config.larger_is_better
    assert config.is_maximised("val_gain")
    assert config.own_code.metrics == config.own_metrics


def test_a_configuration_has_its_metrics_with_it(files: Path) -> None:
    """Its file is not needed any more; where it lies does not change the digest."""
    config = config_of("my_metrics.py:cost:min,f1")
    (files / "my_metrics.py").unlink()
    again = parse_config(config.as_dict())
    assert again == config
    assert again.own_metrics[0].source.text == GOOD
    elsewhere = config.as_dict()
    elsewhere["training"]["found"][0]["location"] = "/elsewhere/my_metrics.py"
    assert parse_config(elsewhere).digest == config.digest
    assert parse_config({}).digest not in (config.digest, config_of("f1").digest)


def test_without_metrics_nothing_has_changed() -> None:
    """A search that was started before there were metrics can be resumed."""
    table = parse_config({}).as_dict()
    assert table["training"].pop("metrics") == ""
    assert parse_config(table).digest == parse_config({}).digest
    assert parse_config({}).further_metrics == ()


def test_files_are_relative_to_the_file_that_names_them(files: Path) -> None:
    (files / "sub").mkdir()
    (files / "my_metrics.py").rename(files / "sub" / "my_metrics.py")
    toml = files / "sub" / "space.toml"
    toml.write_text('[training]\nmetrics = ["my_metrics.py:gain"]\n')
    assert load_config(str(toml)).own_metrics[0].source.reference == "my_metrics.py:gain"
    with pytest.raises(UserError, match="cannot read the metric"):
        load_config(str(toml), {"training.metrics": "my_metrics.py:gain"})


@pytest.mark.parametrize(
    ("metrics", "reason"),
    [
        ("f2", "metric 'f2' is not known; allowed: accuracy, loss"),
        ("f1,f1", "f1 is given twice"),
        ("my_metrics.py", "is not FILE.py:FUNCTION; write for example my_metrics.py:gain"),
        ("my_metrics.py:gain:most", "is not FILE.py:FUNCTION"),
        ("my_metrics.py:lift", "my_metrics.py has no function lift; it has gain, cost."),
        ("missing.py:gain", "cannot read the metric 'missing.py'"),
        ("bad.py:number", "bad.py has number, which is not a function"),
        ("bad.py:f1", "has the name of one of imdbtune's"),
        ("bad.py:val_gain", "a metric cannot be named 'val_gain'"),
        ("broken.py:gain", "broken.py:2: "),
        ("bad.py:text,my_metrics.py:gain,bad.py:text", "text is given twice"),
    ],
)
def test_wrong_metrics_are_refused(metrics: str, reason: str, files: Path) -> None:
    (files / "broken.py").write_text("x = 1\ndef gain(:\n")
    with pytest.raises(UserError, match=re.escape(reason)):
        config_of(metrics)


def test_an_objective_needs_its_metric() -> None:
    with pytest.raises(UserError, match=r"'val_gain' is not allowed.*--metric FILE.py:FUNCTION"):
        config_of("", objective="val_gain")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("raises", r"bad.py:4: raises raises IndexError: index .* is out of bounds"),
        ("text", "bad.py:6: text returns a str, not a number"),
        ("nothing", "bad.py:9: nothing returns None, not a number"),
        ("nan", "bad.py:11: nan returns nan, not a finite number"),
        ("truth", "bad.py:14: truth returns a bool, not a number"),
    ],
)
def test_what_is_wrong_with_a_metric_is_found_by_a_trial_run(name: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        check_own_metrics(config_of(f"bad.py:{name}").own_metrics, 2)


def test_a_metric_gets_probabilities_of_label_1_or_of_each_class(files: Path) -> None:
    text = "def shape(labels, probabilities): return probabilities.ndim + labels.max() / 10\n"
    (files / "shapes.py").write_text(text)
    (metric,) = config_of("shapes.py:shape").own_metrics
    check_own_metrics([metric], 7)
    assert call(metric, np.array([0, 1]), np.array([0.1, 0.9])) == pytest.approx(1.1)
    assert call(metric, np.array([0, 6]), np.full((2, 7), 1 / 7)) == pytest.approx(2.6)


def test_tags_tell_what_is_known_of_metrics() -> None:
    facts = [metric.facts for metric in config_of("my_metrics.py:cost:min").own_metrics]
    assert facts_in(facts_as_text(facts)) == tuple(facts)
    assert facts[0].name == "cost"
    for text in ("", "nonsense", "{}", '[{"metric": 1}]', "[3]"):
        assert facts_in(text) == ()


def test_a_resumed_search_has_the_metrics_that_it_was_started_with(
    files: Path, tmp_path: Path
) -> None:
    before = config_of("my_metrics.py:gain")
    same: dict[str, object] = {"training.metrics": "my_metrics.py:gain"}
    check_same_sources(before, {}, "mine", tmp_path)
    check_same_sources(before, same, "mine", tmp_path)
    with pytest.raises(UserError, match=r"logs the metrics my_metrics.py:gain; leave"):
        check_same_sources(before, {"training.metrics": "auc"}, "mine", tmp_path)
    (files / "my_metrics.py").write_text(GOOD.replace("> 0.5", "> 0.6"))
    for given in ({}, same):
        with pytest.raises(UserError, match=r"my_metrics.py:gain \(line 5 was .*metrics/my"):
            check_same_sources(before, given, "mine", tmp_path)
    (files / "my_metrics.py").write_text(GOOD + "# more\n")
    with pytest.raises(UserError, match=r"\(line \d+, '# more', is new\)"):
        check_same_sources(before, same, "mine", tmp_path)
    (files / "my_metrics.py").unlink()
    check_same_sources(before, {}, "mine", tmp_path)  # it has its own copy, and is trusted here
    with pytest.raises(UserError, match="was not started here"):
        check_same_sources(before, {}, "mine", tmp_path / "other")
