"""Trained models as folders that work elsewhere: one file for each format."""
