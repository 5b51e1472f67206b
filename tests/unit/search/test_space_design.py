"""A design tries all values equally often, repeats nothing and leaves nothing out."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imdbtune.config.hyperparameters import Scalar
from imdbtune.config.schema import load_config
from imdbtune.config.space_parser import parse_space
from imdbtune.search.space_design import SpaceDesign

NAMES = ("embedding", "units", "maxlen", "vocabulary", "batch_size", "bigrams")
SIZES = st.lists(st.integers(2, 5), min_size=1, max_size=6).filter(lambda k: math.prod(k) <= 500)
SEEDS = st.integers(0, 2**31 - 1)


def choices(*sizes: int) -> dict[str, Any]:
    """A space of lists of so many values."""
    return {name: list(range(10, 10 + k)) for name, k in zip(NAMES, sizes, strict=False)}


def drawn(space: dict[str, Any], seed: int = 0, count: int = 10**6) -> list[dict[str, Scalar]]:
    """The points of a space, at most so many."""
    design = SpaceDesign(parse_space(space), seed)
    points: list[dict[str, Scalar]] = []
    while len(points) < count and (point := design.draw(len(points))) is not None:
        points.append(point)
    return points


@settings(max_examples=60, deadline=None)
@given(SIZES, SEEDS)
def test_each_prefix_has_each_value_and_each_point_comes_once(sizes: list[int], seed: int) -> None:
    space, points = choices(*sizes), drawn(choices(*sizes), seed)
    assert len({tuple(point.items()) for point in points}) == len(points) == math.prod(sizes)
    used: Counter[tuple[str, Scalar]] = Counter()
    for count, point in enumerate(points, 1):
        used.update(point.items())
        for name, values in space.items():
            fewest = min(used[name, value] for value in values)
            # What is left of a space at last may force a value.
            lag = 1 if count <= len(points) / 2 else 2
            assert fewest >= count // len(values) - lag, (count, name, used)


@pytest.mark.parametrize("dimensions", range(1, 6))
@pytest.mark.parametrize("seed", range(4))
def test_the_first_trials_are_balanced_exactly(dimensions: int, seed: int) -> None:
    """As long as much of the space is left: here a fraction of 2^d x 3."""
    sizes = [3, *[2] * dimensions]
    points = drawn(choices(*sizes), seed, count=6)
    for name, size in zip(NAMES, sizes, strict=False):
        assert set(Counter(point[name] for point in points).values()) == {6 // size}


def test_pairs_of_values_are_spread_too() -> None:
    points = drawn(choices(3, 3, 4), count=9)
    assert len({(point["embedding"], point["units"]) for point in points}) == 9


def test_the_default_search_tries_each_choice_equally_often() -> None:
    config = load_config(None)
    points = [SpaceDesign(config.space, 0).draw(n) or {} for n in range(12)]
    for dimension in config.space.searched:
        if dimension.when:  # in some trials only
            continue
        tried = Counter(point[dimension.name] for point in points)
        assert set(tried.values()) == {12 // len(dimension.values)}


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_ranges_are_stratified(seed: int) -> None:
    space = {
        "dropout": {"min": 0.0, "max": 0.8},
        "learning_rate": {"min": 1e-4, "max": 1.0, "sampling": "log"},
        "units": {"min": 1, "max": 256, "sampling": "log"},
        "maxlen": {"min": 10, "max": 80, "step": 10},
    }
    points = drawn(space, seed, count=64)
    eighths = {
        "dropout": Counter(int(float(p["dropout"]) * 10) for p in points),
        "learning_rate": Counter(int(2 * math.log10(float(p["learning_rate"]))) for p in points),
        "maxlen": Counter(p["maxlen"] for p in points),
    }
    for name, counts in eighths.items():
        assert len(counts) == 8, name
        assert set(counts.values()) <= {7, 8, 9}, (name, counts)
    low = sum(int(p["units"]) < 16 for p in points)  # half of the range on a log scale
    assert 26 <= low <= 38


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_conditions_hold_and_all_is_reached(seed: int) -> None:
    space = {
        "rnn": ["simple_rnn", "lstm", "gru"],
        "bidirectional": {"values": [False, True], "when": {"rnn": ["lstm", "gru"]}},
        "units": {"min": 4, "max": 14, "when": {"bidirectional": True}},
        "optimizer": "adam",
        "dropout": {"values": [0.0, 0.5], "when": {"optimizer": "adam"}},
    }
    parsed, points = parse_space(space), drawn(space, seed)
    assert len({tuple(point.items()) for point in points}) == len(points) == parsed.size() == 50
    for point in points:
        active = [
            d.name
            for d in parsed.searched
            if all((parsed.constants | point).get(parent) in values for parent, values in d.when)
        ]
        assert list(point) == active
        assert parsed.params(point)
    # While it has points left, a cell with fewer of them is tried as often as the others.
    assert Counter(point["rnn"] for point in points[:6]) == {"simple_rnn": 2, "lstm": 2, "gru": 2}


def test_points_depend_on_the_space_the_seed_and_their_number_alone() -> None:
    space = parse_space({**choices(3, 2, 4), "dropout": {"min": 0.0, "max": 0.5}})
    one, other = SpaceDesign(space, 7), SpaceDesign(space, 7)
    backwards = [one.draw(n) for n in reversed(range(10))][::-1]
    assert backwards == [other.draw(n) for n in range(10)]
    one.draw(3)["units"] = 99  # type: ignore[index]
    assert one.draw(3) == other.draw(3)
    assert [SpaceDesign(space, 8).draw(n) for n in range(10)] != backwards


def test_points_do_not_depend_on_the_hash_seed() -> None:
    code = (
        "from imdbtune.config.schema import load_config\n"
        "from imdbtune.search.space_design import SpaceDesign\n"
        "design = SpaceDesign(load_config(None).space, 3)\n"
        "print([design.draw(n) for n in range(30)])"
    )
    root = str(Path(__file__).resolve().parents[3])
    said = set()
    for seed in ("0", "1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": root}
        command = [sys.executable, "-c", code]
        said.add(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)
    assert len(said) == 1


def test_a_space_without_dimensions_has_one_point() -> None:
    assert drawn({"units": 4}) == [{}]
