"""``python -m imdbtune``."""

from imdbtune.cli.app import main

if __name__ == "__main__":
    main()
