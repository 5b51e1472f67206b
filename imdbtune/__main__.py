"""``python -m imdbtune`` and the console script ``imdbtune``."""

from imdbtune.cli.app import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
