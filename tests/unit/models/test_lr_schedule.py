"""Learning rates by step."""

from __future__ import annotations

import pytest

from imdbtune.models.lr_schedule import Schedule


@pytest.mark.parametrize(
    ("kind", "warmup", "rates"),
    [
        ("constant", 0, {0: 2.0, 50: 2.0, 100: 2.0}),
        ("linear", 0, {0: 2.0, 25: 1.5, 50: 1.0, 100: 0.0, 120: 0.0}),
        ("cosine", 0, {0: 2.0, 25: 1.7071, 50: 1.0, 100: 0.0, 120: 0.0}),
        ("constant", 19, {0: 0.1, 9: 1.0, 19: 2.0, 100: 2.0}),
        ("linear", 20, {20: 2.0, 60: 1.0, 100: 0.0}),
        ("cosine", 20, {20: 2.0, 60: 1.0, 100: 0.0}),
    ],
)
def test_the_rate_warms_up_and_decays(kind: str, warmup: int, rates: dict[int, float]) -> None:
    schedule = Schedule(2.0, kind, steps=100, warmup=warmup)
    found = {step: float(schedule(step)) for step in rates}
    assert found == pytest.approx(rates, abs=1e-3)
