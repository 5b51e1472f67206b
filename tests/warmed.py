"""What the drivers of :mod:`tests.killing` are forked from: all that a search imports is there."""

import mlflow
import scipy.optimize
import sklearn.gaussian_process

from imdbtune import api
from imdbtune.report import leaderboard
from imdbtune.tuner_library import keras_tuner
from tests.support import empty_store

__all__ = ["api", "leaderboard", "mlflow", "scipy", "sklearn"]

keras_tuner()
empty_store()  # MLflow opens no store without importing for a second or two
