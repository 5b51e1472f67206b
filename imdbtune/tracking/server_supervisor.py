"""Run a server as long as its starter lives, as a process of its own.

``python -P server_supervisor.py FOLDER COMMAND...`` runs the command until standard input ends. The
starter holds the other end of that pipe, which the system closes however the starter ends. Then
the server is terminated with all of its processes, and FOLDER is deleted.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import suppress

END_S = 5.0


def main(folder: str, *command: str) -> int:
    """Run the command and return its exit status; delete the folder if the starter is gone."""
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    starter_gone = threading.Event()

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1):  # a buffered read would block the interpreter's exit
            pass
        starter_gone.set()
        end_family(server.pid)

    def terminate(*_: object) -> None:
        threading.Thread(target=end_family, args=[server.pid]).start()

    signal.signal(signal.SIGTERM, terminate)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    status = server.wait()
    if starter_gone.is_set():
        watcher.join()
        shutil.rmtree(folder, ignore_errors=True)
    return status


def end_family(pid: int) -> None:
    """Terminate a process with all that it has started; kill those that do not end."""
    import psutil

    with suppress(psutil.NoSuchProcess):
        server = psutil.Process(pid)
        family = [*server.children(recursive=True), server]
        for end in (psutil.Process.terminate, psutil.Process.kill):
            for member in family:
                with suppress(psutil.NoSuchProcess):
                    end(member)
            _, family = psutil.wait_procs(family, END_S)


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
