"""What the drivers of :mod:`tests.killing` are forked from: all that a search imports is there."""

import keras_tuner
import mlflow
import scipy.optimize
import sklearn.gaussian_process

from imdbtune import api, leaderboard
from tests.support import empty_store

__all__ = ["api", "keras_tuner", "leaderboard", "mlflow", "scipy", "sklearn"]

empty_store()  # MLflow opens no store without importing for a second or two
