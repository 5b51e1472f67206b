"""Tracked hyperparameter search for recurrent text models on the IMDB reviews."""

__version__ = "0.1.0"
