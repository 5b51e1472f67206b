"""One trial: its specification, training and evaluation."""
