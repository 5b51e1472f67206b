"""A sampler of another package: in the help, in a search that is interrupted, and resumed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.support import make_config, prepare

ROOT = Path(__file__).parents[2]
TOY = '''
"""Tries the values of the only hyperparameter from the largest to the smallest."""
from imdbtune.search.sampler import SamplerKind, Stopped, Suggestion, Told


class Downwards:
    def __init__(self, config):
        (self.dimension,) = config.space.searched
        self.asked = 0

    def ask(self):
        values = sorted(self.dimension.values, reverse=True)
        if self.asked == len(values):
            return Stopped(space_exhausted=True)
        trial_id = f"{self.asked:04d}"
        self.asked += 1
        return Suggestion(trial_id, {self.dimension.name: values[self.asked - 1]}, self.asked)

    def tell(self, trial_id, score, reason=""):
        pass

    def restore(self, history):
        self.asked = sum(isinstance(past, Suggestion) for past in history)


DOWNWARDS = SamplerKind(about="values in descending order", make=Downwards, covers_space=True)
'''
RUN = """
import json, sys
from dataclasses import replace
from pathlib import Path
from imdbtune import api
from imdbtune.config.extensions import SAMPLERS
from imdbtune.config.schema import load_config
from imdbtune.tracking import reader
from imdbtune.tracking.connection import connect
from tests.support import Stub, stub_trainer
from tests.contract.test_sampler_extension import interrupt_second

here = Path(sys.argv[1])
config = load_config(str(here / "space.toml"), {})
context = api.Context(workers=0, cache=here / "cache", folder=here / "runs")
try:
    api.search(config, replace(context, trainer=Stub(interrupt_second)))
except KeyboardInterrupt:
    pass
found = api.resume(context=replace(context, uri=config.tracking.uri, trainer=stub_trainer))
trials = reader.read_trials(connect(config.tracking.uri), found)
done = sorted((t.trial_id, t.params.units) for t in trials if t.status == "FINISHED")
print(json.dumps({"trials": done, "about": SAMPLERS["downwards"].about}))
"""


def interrupt_second(spec: object) -> None:
    """Interrupt a search in its second trial."""
    if Path(spec.folder).name == "0001":  # type: ignore[attr-defined]
        raise KeyboardInterrupt


def run(folder: Path, *command: str) -> str:
    """The output of a Python process beside the installed toy package."""
    path = os.pathsep.join([str(folder / "site"), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path, "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def install(folder: Path) -> None:
    """Install a distribution with the toy and its entry point."""
    info = folder / "site" / "toys-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[imdbtune.samplers]\ndownwards = toy_sampler:DOWNWARDS\n"
    )
    (folder / "site" / "toy_sampler.py").write_text(TOY)


def test_a_sampler_from_outside(tmp_path: Path) -> None:
    import tomli_w

    install(tmp_path)
    prepare(tmp_path)
    settings = make_config(tmp_path, space={"units": [4, 16, 8]}).as_dict()
    settings["tuner"]["kind"] = "downwards"
    (tmp_path / "space.toml").write_text(tomli_w.dumps(settings))
    assert "downwards" in run(tmp_path, "-m", "imdbtune", "search", "--help")
    answer = json.loads(run(tmp_path, "-c", RUN, str(tmp_path)).splitlines()[-1])
    assert answer["trials"] == [["0000", 16], ["0001", 8], ["0002", 4]]
    assert answer["about"] == "values in descending order"
