"""What worker processes need: importing this module takes seconds, once for all of them.

The process that workers are forked from imports it (:mod:`imdbtune.cluster.forkserver`). Nothing
here may start threads or touch a graphics card: neither survives a fork.
"""

import gc
import inspect

import distributed
import keras
import matplotlib.backends.backend_agg
import matplotlib.figure
import mlflow.keras
import mlflow.models
import mlflow.pyfunc
import tensorflow as tf

from imdbtune.tracking import writer
from imdbtune.training import learning_curves, trainer

__all__ = [
    "distributed",
    "keras",
    "learning_curves",
    "matplotlib",
    "mlflow",
    "tf",
    "trainer",
    "writer",
]

# Dask has each traceback that it sends looked up among all modules; Python notes where they lie the
# first time, which takes 0.4 s.
inspect.getmodule(inspect.currentframe())
# What is there now stays: to look for garbage in it would write to, and so copy, the shared memory.
gc.freeze()
gc.enable()
