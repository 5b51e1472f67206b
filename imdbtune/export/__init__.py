"""Export trained models to folders that work without this package: one module for each format."""
