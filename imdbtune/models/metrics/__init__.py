"""Metrics: one module for each, looked up in ``imdbtune.config.extensions``."""
