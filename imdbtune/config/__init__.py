"""Hyperparameters, the search space and the configuration of a search."""
