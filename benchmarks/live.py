"""The default search and plain scripts, one after the other on this machine, each for a while."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.machine import machine_lines
from benchmarks.replay import Found
from imdbtune.data.sources import default_cache, open_corpus
from imdbtune.tracking.connection import connect_existing
from imdbtune.tracking.reader import find_search, read_trials

ROOT = Path(__file__).resolve().parents[1]


def run_imdbtune(data: str, minutes: float, folder: Path, *flags: str) -> list[Found]:
    """Run ``imdbtune search`` without a file, its own end left to ``--deadline``."""
    started = time.time()
    arguments = ["imdbtune", "search", *flags, "--data", data, "--deadline", f"{minutes:g}m"]
    _run([*arguments, "--tracking-uri", "sqlite:///mlflow.db"], folder, minutes + 2)
    client = connect_existing(f"sqlite:///{folder}/mlflow.db", reading=True)
    trials = [t for t in read_trials(client, find_search(client)) if t.score is not None]
    ended = [((t.ended_ms or 0) / 1000 - started, t.score or 0.0) for t in trials]
    return [Found(seconds, score) for seconds, score in sorted(ended)]


def run_script(module: str, data: str, minutes: float, folder: Path) -> list[Found]:
    """Run a plain script, and end it when its time is over; each of its epochs counts."""
    file = folder / "epochs.txt"
    file.touch()
    arguments = [f"benchmarks.{module}", "--data", data, "--epochs-file", str(file)]
    _run([*arguments, "--started", f"{time.time()}"], folder, minutes)
    lines = [line.split() for line in file.read_text(encoding="utf-8").splitlines()]
    return [Found(float(seconds), float(accuracy)) for seconds, accuracy in lines]


def _run(arguments: Sequence[str], folder: Path, minutes: float) -> None:
    """Run a module of Python in a folder, for some minutes at most."""
    environment = {name: value for name, value in os.environ.items() if "MLFLOW" not in name}
    environment |= {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    with (folder / "log.txt").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            process.wait(minutes * 60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode not in (0, -signal.SIGKILL):
        tail = (folder / "log.txt").read_text(encoding="utf-8")[-3000:]
        sys.exit(f"{' '.join(arguments)} ended with {process.returncode}:\n{tail}")


SIDES: dict[str, Callable[[str, float, Path], list[Found]]] = {
    "imdbtune search": run_imdbtune,
    # Its first trial is known to be good on these reviews; this is what it finds without it.
    "imdbtune search, nothing known": lambda *args: run_imdbtune(*args, "--set", "tuner.tries="),
    "Keras Tuner, Hyperband": lambda *args: run_script("plain_hyperband", *args),
    "Optuna, TPE with successive halving": lambda *args: run_script("plain_optuna", *args),
}


def run_live(data: str, minutes: float) -> None:
    """Run all sides, and print what each has found by when."""
    data = str(Path(data).absolute()) if data.endswith(".npz") else data
    open_corpus(data, default_cache().absolute(), print)
    print(*machine_lines(), sep="\n")
    shown = [float(minute) for minute in range(1, int(minutes) + 1)]
    heads = [f"% after {minute:g} min" for minute in shown]
    print(f"\n| search | {' | '.join(heads)} | best, % | after s |\n|{'---|' * (len(heads) + 3)}")
    found: dict[str, list[Found]] = {}
    for label, side in SIDES.items():
        with tempfile.TemporaryDirectory() as folder:
            found[label] = side(data, minutes, Path(folder))
        cells = [_percent(_best(found[label], 60 * minute)) for minute in shown]
        best = _best(found[label], float("inf"))
        cells += [_percent(best), _seconds(found[label], best)]
        print(f"| {label} | {' | '.join(cells)} |", flush=True)
    for other in list(SIDES)[2:]:
        for own in list(SIDES)[:2]:
            reached = _seconds(found[own], _best(found[other], float("inf")))
            print(f"\n{own} reached the best of {other} after {reached} s.")


def _best(found: Sequence[Found], seconds: float) -> float:
    return max((f.accuracy for f in found if f.seconds <= seconds), default=0.0)


def _seconds(found: Sequence[Found], accuracy: float) -> str:
    """Return when an accuracy was reached."""
    reached = [f.seconds for f in found if f.accuracy >= accuracy]
    return f"{min(reached):.0f}" if reached else "never"


def _percent(accuracy: float) -> str:
    return f"{100 * accuracy:.2f}" if accuracy else ""
