"""Several objectives, and requirements of which a part is known only after a training."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imdbtune.config.hyperparameters import TrialParams
from imdbtune.config.objectives import larger_is_better, pareto_front
from imdbtune.config.requirement import parse_requirement
from imdbtune.config.schema import parse_config
from imdbtune.errors import UserError

OBJECTIVES = ("val_accuracy", "parameter_count", "val_loss")
POINTS = st.lists(st.tuples(*3 * [st.integers(0, 3).map(float)]), max_size=12)


@given(POINTS)
def test_the_front_has_what_no_other_point_beats(points: list[tuple[float, ...]]) -> None:
    def beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
        gains = [
            (a - b) * (1 if larger_is_better(name) else -1)
            for a, b, name in zip(one, other, OBJECTIVES, strict=True)
        ]
        return min(gains) >= 0 < max(gains)

    expected = [
        index
        for index, point in enumerate(points)
        if not any(beats(other, point) for other in points)
    ]
    assert pareto_front(points, [larger_is_better(name) for name in OBJECTIVES]) == expected


def objectives_of(text: str, kind: str = "tpe") -> tuple[str, ...]:
    return parse_config({"tuner": {"kind": kind, "objective": text}}).tuner.objectives


@pytest.mark.parametrize("kind", ["random", "grid", "tpe", "nsga2"])
def test_the_first_objective_is_the_main_one(kind: str) -> None:
    text = "val_loss, parameter_count,train_seconds"
    assert objectives_of(text, kind) == ("val_loss", "parameter_count", "train_seconds")
    config = parse_config({"tuner": {"kind": kind, "objective": text}})
    assert (config.tuner.main_objective, config.larger_is_better) == ("val_loss", False)


@pytest.mark.parametrize(
    ("text", "kind", "reason"),
    [
        (
            "val_accuracy,weights",
            "tpe",
            "is one or more of val_accuracy, val_loss, val_bal",
        ),
        ("parameter_count,val_loss", "tpe", "first objective is one of val_accuracy, val_loss, "),
        ("val_loss,val_loss", "tpe", "objective val_loss is given twice"),
        ("val_loss,train_seconds", "gp", "gp has one objective, not 2; choose one of random, grid"),
    ],
)
def test_other_objectives_are_refused(text: str, kind: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        objectives_of(text, kind)


GOOD = {"train_seconds": 50.0, "val_accuracy": 0.9, "val_loss": 0.3, "parameter_count": 10.0}


@pytest.mark.parametrize(
    ("text", "may_be_met", "is_met"),
    [
        ("units>4", True, True),
        ("units>400", False, True),  # it was refused
        ("train_seconds<=60", True, True),
        ("train_seconds<=40", True, False),
        ("train_seconds not in (50)", True, False),
        ("val_loss != 0.3", True, False),
        ("units>400 and train_seconds<=60", False, False),
        ("units>400 or train_seconds<=60", True, True),
        ("(units>4) and (val_accuracy>=0.95)", True, False),
    ],
)
def test_what_is_known_before_and_after_a_training(
    text: str, may_be_met: bool, is_met: bool
) -> None:
    found = parse_requirement(text)
    assert found is not None
    params = TrialParams(units=32)
    assert found.may_be_met({**params.as_dict(), "parameter_count": 10.0}) == may_be_met
    assert found.is_met(params, GOOD) == is_met


@pytest.mark.parametrize("measured", [{}, {"val_loss": 0.1}])
def test_a_result_that_is_missing_meets_nothing(measured: dict[str, Any]) -> None:
    found = parse_requirement("train_seconds<=60")
    assert found is not None
    assert not found.is_met(TrialParams(), measured)
