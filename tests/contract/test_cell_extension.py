"""A cell of another package: it is searched, trained by worker processes and exported as any other.

The package is a SimpleRNN with another activation. It has its own step, gradient and equations.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from imdbtune.config.extensions import CELLS
from imdbtune.data.corpus import Corpus
from tests.support import demo_cache, new_store

pytestmark = pytest.mark.xdist_group("cell extension")
ROOT = Path(__file__).resolve().parents[2]
CELL = """
from imdbtune.models.cells.base import Cell, OnnxOperator
from imdbtune.models.numpy_reference import sigmoid


def sigmoid_rnn_step(projected, states, recurrent_kernel):
    return (sigmoid(projected + states[0] @ recurrent_kernel),)


def forward(projected, states, weights):
    import tensorflow as tf

    return (tf.sigmoid(projected + tf.matmul(states[0], weights[0])),), ()


def backward(d_new, states, new, saved, weights):
    from imdbtune.models.tensors import product_gradients

    d_sum = d_new[0] * new[0] * (1.0 - new[0])
    d_h, d_kernel = product_gradients(states[0], weights[0], d_sum)
    return d_sum, (d_h,), (d_kernel,)


SIGMOID_RNN = Cell(
    about="SimpleRNN with the activation of a gate",
    keras_class="SimpleRNN",
    keras_options={"activation": "sigmoid"},
    has_cudnn=False,
    gates=1,
    states=1,
    saved=0,
    forward=forward,
    backward=backward,
    numpy_step=sigmoid_rnn_step,
    onnx=OnnxOperator("RNN", (0,), activations=("Sigmoid",)),
)
"""


@dataclass(frozen=True)
class Installed:
    """A folder in which the package is installed, and processes that find it there."""

    site: Path

    def run(self, folder: Path, *arguments: str) -> str:
        """The standard output of Python with these arguments, run in ``folder``."""
        paths = os.pathsep.join(map(str, (self.site, ROOT)))
        cache = {"IMDBTUNE_CACHE": str(demo_cache())}
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=folder,
            env={**os.environ, **cache, "PYTHONPATH": paths},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    def imdbtune(self, folder: Path, line: str) -> str:
        return self.run(folder, "-m", "imdbtune", *line.split())


@pytest.fixture
def installed(tmp_path: Path) -> Installed:
    site = tmp_path / "site"
    info = site / "toys-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "toys.py").write_text(CELL)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1.0\n")
    entry = "[imdbtune.cells]\nsigmoid_rnn = toys:SIGMOID_RNN\n"
    (info / "entry_points.txt").write_text(entry)
    return Installed(site)


def test_help_names_it(installed: Installed, tmp_path: Path) -> None:
    words = installed.imdbtune(tmp_path, "search --help").split()
    assert f"Recurrent cells: {', '.join([*CELLS, 'sigmoid_rnn'])}." in " ".join(words)


def test_contract_tests_cover_it(installed: Installed, tmp_path: Path) -> None:
    """Whoever writes a cell runs them with the package installed."""
    files = [str(ROOT / f"tests/contract/test_{name}.py") for name in ("cells", "fused_rnn")]
    some = "sigmoid_rnn and not (compiled or True)"  # those of one direction
    options = ["-q", "-p", "no:cacheprovider", f"--rootdir={ROOT}", "-k", some]
    out = installed.run(tmp_path, "-m", "pytest", *options, *files)
    assert " passed" in out


def test_it_is_searched_by_workers_and_exported(
    installed: Installed, demo: Corpus, tmp_path: Path
) -> None:
    store = f"--tracking-uri {new_store(tmp_path)}"
    small = "--units 4 --maxlen 12 --reviews 200 --epochs 1 --max-trials 1 --workers 1"
    light = "--set tracking.report=false --set tracking.baseline=false --set space.embedding=4"
    model = "--rnn sigmoid_rnn --set space.bidirectional=true --set space.pooling=max"
    installed.imdbtune(tmp_path, f"search --data demo {model} {small} {light} {store}")
    export = "--export winner --format numpy,onnx --no-test"
    installed.imdbtune(tmp_path, f"best {export} {store}")
    metadata = json.loads((tmp_path / "winner" / "metadata.json").read_text("utf-8"))
    assert metadata["parameters"]["rnn"] == "sigmoid_rnn"
    checked = [entry["largest_difference"] for entry in metadata["formats"].values()]
    assert len(checked) == 2
    assert max(checked) < 1e-5
    reference = (tmp_path / "winner" / "reference.py").read_text("utf-8")
    assert "def sigmoid_rnn_step(" in reference
