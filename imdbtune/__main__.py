"""``python -m imdbtune`` and the console script ``imdbtune``."""

from imdbtune.cli import app
from imdbtune.cli.quick import ALONE


def main() -> None:
    """The command line in a process of its own."""
    ALONE.set(True)
    app.main()


if __name__ == "__main__":
    main()
