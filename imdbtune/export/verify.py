"""Opens what was exported as its user will: in a fresh process, without this package."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imdbtune.data.batches import pad
from imdbtune.data.corpus import Split, make_split
from imdbtune.data.text import Tokenizer, decode
from imdbtune.errors import ExportFailed
from imdbtune.export.folder import README
from imdbtune.export.format import Format, Trained

LIMIT = 1e-4  # a probability may differ by as much
REVIEWS = 16
PATIENCE_S = 600
# What a script may not import unless its format names it.
PACKAGES = ("imdbtune", "tensorflow", "keras", "mlflow", "onnx", "onnxruntime", "ai_edge_litert")

_ALONE = """
import json, os, sys

given = json.load(open(sys.argv[1], encoding="utf-8"))

sys.modules.update(dict.fromkeys(given["refused"]))  # importing them fails
answers = []
sys.path[:] = map(os.path.abspath, sys.path)
for folder, script in given["scripts"]:
    os.chdir(folder)
    sys.path.insert(0, folder)
    names = {"__name__": "alone"}
    exec(compile(script, "README.md", "exec"), names)
    answers.append([float(p) for p in names["probabilities"](given["texts"])])
    sys.path.remove(folder)
    for name in given["modules"]:
        sys.modules.pop(name, None)
with open(sys.argv[2], "w", encoding="utf-8") as file:
    json.dump(answers, file)
"""


def sample_texts(split: Split, word_index: dict[str, int], count: int = REVIEWS) -> list[str]:
    """Reviews as text, from the shortest to the longest."""
    order = np.argsort(split.lengths, kind="stable")
    rows = order[np.unique(np.linspace(0, len(order) - 1, count).astype(int))]
    return [decode(split[int(row)], word_index) for row in rows]


def check_answers(
    formats: Iterable[Format],
    trained: Trained,
    word_index: Mapping[str, int],
    texts: Sequence[str],
    folder: Path,
) -> dict[str, dict[str, Any]]:
    """Run each format's script from the README, and compare its answers to ``texts`` with Keras's.

    Returns:
        For each format, ``largest_difference`` (of a probability) and ``reviews``.

    Raises:
        ExportFailed: it differs by more than ``LIMIT``, or the script does not run.
    """
    expected = keras_answers(trained, word_index, texts)
    checked = {}
    for made in formats:
        (answers,) = answers_alone(made, [folder], texts)
        difference = float(np.abs(answers - expected).max())
        if not difference <= LIMIT:
            raise ExportFailed(
                f"the model in the format {made.name} answers otherwise than in Keras, by "
                f"{difference:.1e} on one of {len(texts)} reviews; more than {LIMIT:g} is not "
                "allowed, and nothing was written. Leave that format out."
            )
        checked[made.name] = {"largest_difference": difference, "reviews": len(texts)}
    return checked


def keras_answers(
    trained: Trained, word_index: Mapping[str, int], texts: Sequence[str]
) -> npt.NDArray[np.float64]:
    """The probabilities of ``texts``, (n,), by the trained model itself."""
    tokenizer, params = Tokenizer(dict(word_index)), trained.params
    split = make_split([tokenizer.encode(t, params.vocabulary) for t in texts], [0] * len(texts))
    ids = pad(split, np.arange(len(split)), params.maxlen, params.vocabulary)
    return np.asarray(trained.model(ids, training=False), np.float64)[:, 0]


def answers_alone(
    made: Format, folders: Sequence[Path], texts: Sequence[str]
) -> list[npt.NDArray[np.float64]]:
    """What the scripts for a format in the READMEs of ``folders`` answer, in one fresh process.

    Raises:
        ExportFailed: one of them does not run.
    """
    given = {
        "refused": sorted({*PACKAGES} - {*made.runs_on}),
        "scripts": [[str(folder), script_of(made, folder)] for folder in folders],
        "texts": list(texts),
        "modules": sorted({path.stem for folder in folders for path in folder.glob("*.py")}),
    }
    with tempfile.TemporaryDirectory() as scratch:
        job, answers = Path(scratch, "job.json"), Path(scratch, "answers.json")
        job.write_text(json.dumps(given), encoding="utf-8")
        # Not the folder that this process works in, no compiled files beside the export.
        command = [sys.executable, "-P", "-B", "-c", _ALONE, str(job), str(answers)]
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "MLFLOW_TRACKING_URI": f"sqlite:///{scratch}/x.db"}
        try:
            done = subprocess.run(
                command,
                env={**os.environ, **quiet},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=PATIENCE_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise _unusable(made, f"no answer in {PATIENCE_S} seconds") from error
        if done.returncode:
            said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise _unusable(made, said[-1][:200])
        read = json.loads(answers.read_text(encoding="utf-8"))
    return [np.array(row, np.float64) for row in read]


def script_of(made: Format, folder: Path) -> str:
    """The Python block of a format in a folder's README."""
    text = (folder / README).read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text[text.index(made.usage) :], re.DOTALL)
    return str(blocks[0])


def _unusable(made: Format, why: str) -> ExportFailed:
    return ExportFailed(
        f"the model in the format {made.name} cannot be used by itself ({why}); nothing was "
        "written. Leave that format out."
    )
