"""``python -m imdbtune`` and the console script ``imdbtune``."""

import atexit
import contextlib
import gc
import logging
import os
import sys

from imdbtune.cli.app import main

__all__ = ["main", "run"]

# Objects that are made before Python looks for garbage among them. Importing MLflow makes hundreds
# of thousands, and no garbage.
UNTIL_COLLECTED = 200_000


def run() -> None:
    """The command line as a whole process, from the first import to the end."""
    code = 1

    def leave() -> None:
        """Python would take down one by one all that was imported: a second or two."""
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # it may be closed, or its reader gone
                stream.flush()
        os._exit(code)

    gc.set_threshold(UNTIL_COLLECTED)
    atexit.register(leave)  # the first to be registered is the last to be called
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
        raise


if __name__ == "__main__":
    run()
