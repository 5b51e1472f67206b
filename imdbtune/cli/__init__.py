"""The command line: parses, calls :mod:`imdbtune.api`, prints; the only part that exits."""
