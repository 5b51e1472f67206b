"""What worker processes need: importing this module takes seconds, once for all of them.

The process that workers are forked from imports it (:mod:`imdbtune.forking`). Nothing here may
start threads or touch a graphics card: neither survives a fork.
"""

import gc

import distributed
import keras
import matplotlib.backends.backend_agg
import matplotlib.figure
import mlflow.keras
import mlflow.models
import mlflow.pyfunc
import tensorflow as tf

from imdbtune import plots, tracking, training

__all__ = ["distributed", "keras", "matplotlib", "mlflow", "plots", "tf", "tracking", "training"]

# What is there now stays: collecting garbage would write to, and so copy, the shared memory.
gc.collect()
gc.freeze()
