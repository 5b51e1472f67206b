"""What the drivers of :mod:`tests.killing` are forked from: all that a search imports is there."""

import mlflow

from imdbtune import api
from imdbtune.report import leaderboard
from imdbtune.search import keras_tuner_samplers
from tests.support import empty_store

__all__ = ["api", "keras_tuner_samplers", "leaderboard", "mlflow"]

empty_store()  # MLflow opens no store without importing for a second or two
