"""What the processes of :mod:`tests.forked` have imported: all that a search or a server needs."""

import inspect
import sys

import mlflow
import uvicorn

from imdbtune import api
from imdbtune.cli import app
from imdbtune.report import leaderboard
from imdbtune.search import keras_tuner_samplers
from tests.garbage import spare_imports
from tests.support import empty_store
from tests.tracking_server import serve

__all__ = ["api", "app", "keras_tuner_samplers", "leaderboard", "mlflow", "serve", "uvicorn"]

empty_store()  # MLflow opens no store without importing for a second or two
# Dask asks for the module of each exception's traceback. The first time all modules are looked at.
inspect.getmodule(sys._getframe())
spare_imports()
