"""What the drivers of :mod:`tests.killing` are forked from: all that a search imports is there."""

import mlflow
import scipy.optimize
import sklearn.gaussian_process

from imdbtune import api
from imdbtune.config.schema import parse_config
from imdbtune.report import leaderboard
from imdbtune.search.keras_tuner_samplers import make_sampler
from tests.support import empty_store

__all__ = ["api", "leaderboard", "mlflow", "scipy", "sklearn"]

make_sampler(parse_config({"space": {"units": [4, 8]}}))  # which imports Keras Tuner
empty_store()  # MLflow opens no store without importing for a second or two
