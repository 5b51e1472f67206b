"""Check an export as its users run it: in a new process, without this package."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from imdbtune.data.batches import pad
from imdbtune.data.corpus import Split, make_split
from imdbtune.data.text import Tokenizer, decode
from imdbtune.errors import ExportFailed, last_line
from imdbtune.export.folder import README
from imdbtune.export.format import Format, Trained

MAX_DIFFERENCE = 1e-4  # of a probability
REVIEWS = 16
TIMEOUT_S = 600
# A script may not import these, unless its format lists them in ``runs_on``.
PACKAGES = ("imdbtune", "tensorflow", "keras", "mlflow", "onnx", "onnxruntime", "ai_edge_litert")

_RUN_SCRIPTS = """
import json, os, sys

job = json.load(open(sys.argv[1], encoding="utf-8"))

sys.modules.update(dict.fromkeys(job["refused"]))  # importing them fails
results = []
sys.path[:] = map(os.path.abspath, sys.path)
for folder, script in job["scripts"]:
    os.chdir(folder)
    sys.path.insert(0, folder)
    names = {"__name__": "script"}
    exec(compile(script, "README.md", "exec"), names)
    found = names["probabilities"](job["texts"])
    results.append([list(map(float, p)) if hasattr(p, "__len__") else float(p) for p in found])
    sys.path.remove(folder)
    for name in job["modules"]:
        sys.modules.pop(name, None)
with open(sys.argv[2], "w", encoding="utf-8") as file:
    json.dump(results, file)
"""


def sample_texts(split: Split, word_index: dict[str, int], count: int = REVIEWS) -> list[str]:
    """Return ``count`` reviews as text, of lengths from the shortest to the longest."""
    order = np.argsort(split.lengths, kind="stable")
    rows = order[np.unique(np.linspace(0, len(order) - 1, count).astype(int))]
    return [decode(split[int(row)], word_index) for row in rows]


def check_answers(
    formats: Iterable[Format],
    trained: Trained,
    word_index: Mapping[str, int],
    texts: Sequence[str],
    folder: Path,
) -> dict[str, dict[str, float]]:
    """Run each format's README script on ``texts``, and compare its probabilities with Keras's.

    Returns:
        For each format, ``largest_difference`` (of a probability) and ``reviews``.

    Raises:
        ExportFailed: one differs by more than ``MAX_DIFFERENCE``, or the script fails.
    """
    expected = keras_probabilities(trained, word_index, texts)
    checked = {}
    for current in formats:
        (actual,) = run_scripts(current, [folder], texts)
        if actual.shape != expected.shape:
            raise ExportFailed(
                f"the model in the format {current.name} gives probabilities of shape "
                f"{actual.shape}, not {expected.shape}; nothing was written. Leave that format out."
            )
        difference = float(np.abs(actual - expected).max())
        if not difference <= MAX_DIFFERENCE:  # also for NaN
            raise ExportFailed(
                f"the model in the format {current.name} predicts another probability than in "
                f"Keras: they differ by {difference:.1e} on one of {len(texts)} reviews, and more "
                f"than {MAX_DIFFERENCE:g} is not allowed. Nothing was written. Leave that format "
                "out."
            )
        checked[current.name] = {"largest_difference": difference, "reviews": len(texts)}
    return checked


def keras_probabilities(
    trained: Trained, word_index: Mapping[str, int], texts: Sequence[str]
) -> npt.NDArray[np.float64]:
    """Return the trained model's probabilities of ``texts``, (n,), or (n, labels)."""
    tokenizer, params = Tokenizer(dict(word_index)), trained.params
    split = make_split([tokenizer.encode(t, params.vocabulary) for t in texts], [0] * len(texts))
    ids = pad(split, np.arange(len(split)), params.maxlen, params.vocabulary)
    found = np.asarray(trained.model(ids, training=False), np.float64)
    return found[:, 0] if trained.classes == 2 else found


def run_scripts(
    chosen: Format, folders: Sequence[Path], texts: Sequence[str]
) -> list[npt.NDArray[np.float64]]:
    """Run a format's scripts in the READMEs of ``folders``, in one new process.

    Returns:
        For each folder the probabilities of ``texts``, (n,), or (n, labels).

    Raises:
        ExportFailed: a script fails.
    """
    job = {
        "refused": sorted({*PACKAGES} - {*chosen.runs_on}),
        "scripts": [[str(folder), script_of(chosen, folder)] for folder in folders],
        "texts": list(texts),
        "modules": sorted({path.stem for folder in folders for path in folder.glob("*.py")}),
    }
    with tempfile.TemporaryDirectory() as scratch:
        job_file, result_file = Path(scratch, "job.json"), Path(scratch, "results.json")
        job_file.write_text(json.dumps(job), encoding="utf-8")
        # -P: do not import from the working directory. -B: write no .pyc files into the export.
        command = [sys.executable, "-P", "-B", "-c", _RUN_SCRIPTS, str(job_file), str(result_file)]
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "MLFLOW_TRACKING_URI": f"sqlite:///{scratch}/x.db"}
        try:
            done = subprocess.run(
                command,
                env={**os.environ, **quiet},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise _unusable(chosen, f"no result in {TIMEOUT_S} seconds") from error
        if done.returncode:
            raise _unusable(chosen, last_line(done.stderr) or f"exit code {done.returncode}")
        results = json.loads(result_file.read_text(encoding="utf-8"))
    return [np.array(row, np.float64) for row in results]


def script_of(chosen: Format, folder: Path) -> str:
    """Return the Python block of a format in a folder's README."""
    text = (folder / README).read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text[text.index(chosen.usage) :], re.DOTALL)
    return str(blocks[0])


def _unusable(chosen: Format, reason: str) -> ExportFailed:
    return ExportFailed(
        f"the model in the format {chosen.name} does not work without imdbtune ({reason}); "
        "nothing was written. Leave that format out."
    )
