"""The quick regressor says what scikit-learn's says, and the oracle goes where it went."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Matern
from threadpoolctl import threadpool_info

from imdbtune.config.schema import parse_config
from imdbtune.gaussian_process import quick
from imdbtune.search.journal import ask, tell
from imdbtune.search.keras_tuner_samplers import make_sampler

KEPT = {"kernel": Matern(nu=2.5), "normalize_y": True, "alpha": 1e-4, "random_state": 1}


def both(trials: int) -> tuple[Any, Any]:
    plain = GaussianProcessRegressor(n_restarts_optimizer=2, **KEPT)
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(trials, 4))
    y = np.sin(3 * x).sum(axis=1) + rng.normal(0, 0.01, trials)
    return plain.fit(x, y), quick(plain).fit(x, y)


@pytest.mark.parametrize("trials", [2, 40])
def test_it_says_what_the_plain_one_says(trials: int) -> None:
    plain, own = both(trials)
    seen = np.array([plain.X_train_[0], [0.2, 0.9, 0.5, 0.1], [1.0, 0.0, 0.0, 1.0]])
    for points in (seen, seen[1:2]):
        for said, told in zip(
            own.predict(points, return_std=True),
            plain.predict(points, return_std=True),
            strict=True,
        ):
            assert said.shape == told.shape
            np.testing.assert_allclose(said, told, rtol=1e-9, atol=1e-7)
    for said, told in (
        (own.predict(seen), plain.predict(seen)),
        (own.predict(seen.tolist(), return_cov=True)[1], plain.predict(seen, return_cov=True)[1]),
    ):
        np.testing.assert_allclose(said, told, rtol=1e-9, atol=1e-9)


def test_before_it_is_fitted_it_knows_nothing() -> None:
    mean, spread = quick(GaussianProcessRegressor(**KEPT)).predict(
        np.zeros((2, 3)), return_std=True
    )
    assert (mean.tolist(), spread.tolist()) == ([0.0, 0.0], [1.0, 1.0])


def test_the_oracle_goes_where_the_plain_one_goes_and_takes_one_thread() -> None:
    space = {"units": {"min": 1, "max": 300}, "dropout": {"min": 0.0, "max": 0.5}}
    config = parse_config(
        {"name": "b", "space": space, "tuner": {"kind": "bayesian", "max_trials": 9}}
    )
    threads: set[int] = set()

    class Watched(GaussianProcessRegressor):  # type: ignore[misc]
        def fit(self, X: Any, y: Any) -> Any:  # noqa: N803
            threads.update(p["num_threads"] for p in threadpool_info() if p["user_api"] == "blas")
            return super().fit(X, y)

    ways = []
    for plain in (True, False):
        oracle = make_sampler(config)
        if plain:
            oracle.gpr = Watched(**oracle.gpr.get_params(deep=False))
        values = []
        for number in range(9):
            trial = ask(oracle, number)
            values.append(trial.hyperparameters.values)
            tell(oracle, trial.trial_id, -abs(values[-1]["units"] - 77) / 300)
        ways.append(values)
    for own, told in zip(*ways, strict=True):
        assert own["units"] == told["units"]
        assert own["dropout"] == pytest.approx(told["dropout"], abs=1e-4)
    assert threads == {1}
