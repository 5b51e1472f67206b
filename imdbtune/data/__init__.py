"""Corpora: labelled reviews as flat token arrays with offsets, memory-mapped from disk."""
