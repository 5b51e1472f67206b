"""One page about a search: numbers, figures, HTML."""
