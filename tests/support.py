"""Searches that take milliseconds: a trainer that computes its metrics from the parameters, a few
reviews, and an empty SQLite store that is copied instead of being made anew each time."""

from __future__ import annotations

import functools
import io
import os
import resource
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from filelock import FileLock

from imdbtune.config.schema import SearchConfig, parse_config
from imdbtune.search.events import Event, Listener, Notice
from imdbtune.training.saved_state import Checkpoint, find_checkpoint, save_checkpoint
from imdbtune.training.spec import Epoch, OnEpoch, TrialResult, TrialSpec

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure
    from mlflow import MlflowClient

    from imdbtune.export.format import Format
    from imdbtune.tracking.entities import Search

# Names the folder that all test processes of a session have in common.
COMMON = "TESTS_COMMON_FOLDER"
# Where a row of four configurations is enough.
SPACE: Mapping[str, Any] = {"rnn": ["simple_rnn", "lstm"], "units": [4, 8]}


def stub_metrics(spec: TrialSpec, epoch: int, execution: int = 0) -> Epoch:
    """An epoch of the stub: more units and the lstm are better, and the second epoch is best."""
    params = spec.params
    value = 0.5 + params.units / 1000 + 0.1 * (params.rnn == "lstm") + 0.001 * execution
    value += {1: 0.0, 2: 0.02}.get(epoch, 0.01)
    validation = {"val_accuracy": value, "val_loss": 1.0 - value} if spec.settings.hold_out else {}
    return {
        "epoch": float(epoch),
        "accuracy": value + 0.05,
        "loss": 0.9 - value,
        **validation,
        "seconds": 0.25,
    }


def stub_trainer(spec: TrialSpec, on_epoch: OnEpoch) -> TrialResult:
    """In the place of ``train_trial``: trains nothing, writes nothing."""
    histories = []
    for execution in range(spec.settings.executions):
        epochs = range(spec.settings.initial_epoch + 1, spec.settings.epochs + 1)
        history: tuple[Epoch, ...] = ()
        pruned_after = 0
        for number in epochs:
            history = (*history, stub_metrics(spec, number, execution))
            if on_epoch(execution, history[-1]):
                pruned_after = number
                break
        histories.append(history)
        if pruned_after:
            break
    accuracy = "val_accuracy" if spec.settings.hold_out else "accuracy"
    best = max(histories[-1], key=lambda epoch: epoch[accuracy])
    scores = tuple(max(e[accuracy] for e in history) for history in histories)
    if spec.settings.hold_out and spec.sign < 0:
        scores = tuple(min(e["val_loss"] for e in history) for history in histories)
    return TrialResult(
        history=histories[-1],
        best_epoch=int(best["epoch"]),
        scores=scores,
        seconds=0.5,
        parameter_count=100 * spec.params.units,
        model=spec.folder / "model.keras",
        pruned_after=pruned_after,
    )


@dataclass(frozen=True)
class Stub:
    """:func:`stub_trainer` after ``first`` has had its way with the trial; it pickles."""

    first: Callable[[TrialSpec], None]

    def __call__(self, spec: TrialSpec, on_epoch: OnEpoch) -> TrialResult:
        self.first(spec)
        return stub_trainer(spec, on_epoch)


@dataclass(frozen=True)
class KeepingStub:
    """:func:`stub_trainer` with a checkpoint after each epoch; it pickles.

    Args:
        before: called before each epoch that is trained, with its number; may end the attempt.
    """

    before: Callable[[TrialSpec, int], None]

    def __call__(self, spec: TrialSpec, on_epoch: OnEpoch) -> TrialResult:
        kept = find_checkpoint(spec) or Checkpoint()
        history = list(kept.histories[-1])
        known = len(history)

        def train(execution: int, epoch: Epoch) -> bool | None:
            nonlocal known
            if known:  # reported again
                known -= 1
                return on_epoch(execution, epoch)
            self.before(spec, int(epoch["epoch"]))
            history.append(epoch)
            save_checkpoint(spec, _no_model(), Checkpoint([history]))
            return on_epoch(execution, epoch)

        return stub_trainer(spec, train)


def _no_model() -> Any:
    return SimpleNamespace(variables=[], optimizer=SimpleNamespace(built=True, variables=[]))


def write_tiny_model(spec: TrialSpec) -> None:
    """Leave a real, very small ``model.keras`` where a trial leaves its own."""
    spec.folder.mkdir(parents=True, exist_ok=True)
    (spec.folder / "model.keras").write_bytes(_tiny_model())


@functools.cache
def _tiny_model() -> bytes:
    import keras

    ids = keras.Input((None,), dtype="int32")
    vectors = keras.layers.Embedding(10, 2)(ids)
    output = keras.layers.Dense(1)(keras.layers.GlobalMaxPooling1D()(vectors))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.keras")
        keras.Model(ids, output).save(path)
        return path.read_bytes()


def tiny_corpus(folder: Path) -> Path:
    """An ``imdb.npz`` of ten reviews and five more to test on."""
    reviews = np.empty(10, object)
    reviews[:] = [[1, 2 + i, 3] for i in range(10)]
    labels = np.arange(10) % 2
    file = io.BytesIO()
    np.savez(file, x_train=reviews, y_train=labels, x_test=reviews[:5], y_test=labels[:5])
    path = folder / "imdb.npz"
    path.write_bytes(file.getvalue())
    return path


def demo_cache() -> Path:
    """The cache that the fixture ``demo`` has filled: generating the corpus takes seconds."""
    return Path(os.environ[COMMON], "demo_cache")


def new_store(folder: Path) -> str:
    """An SQLite store in ``folder``, in which MLflow has made its tables; its URI."""
    path = folder / "mlflow.db"
    path.write_bytes(empty_store())
    return f"sqlite:///{path}"


@functools.cache
def empty_store() -> bytes:
    """An SQLite file with MLflow's tables; the processes of a test session make one in all."""
    from imdbtune.tracking.connection import connect

    with ExitStack() as stack:
        folder = os.environ.get(COMMON) or stack.enter_context(tempfile.TemporaryDirectory())
        path = Path(folder, "empty.db")
        stack.enter_context(FileLock(f"{path}.lock"))
        if not path.exists():
            connect(f"sqlite:///{path}.part")
            Path(f"{path}.part").rename(path)
        return path.read_bytes()


def make_config(
    folder: Path, *, name: str = "tiny", space: Mapping[str, Any] = SPACE, **sections: Any
) -> SearchConfig:
    """A grid over ``space`` on the tiny corpus in ``folder``, no models kept; ``sections`` add."""
    table: dict[str, dict[str, Any]] = {
        "data": {"source": str(folder / "imdb.npz")},
        "tuner": {"kind": "grid"},
        "training": {"epochs": 3},
        "tracking": {
            "uri": f"sqlite:///{folder / 'mlflow.db'}",
            "keep_models": "0",
            "report": False,
            "baseline": False,
        },
    }
    for section, values in sections.items():
        table[section] |= values
    return parse_config({"name": name, "space": dict(space), **table})


def noting(texts: list[str]) -> Listener:
    """A listener that appends the texts of notices."""

    def listen(event: Event) -> None:
        if isinstance(event, Notice):
            texts.append(event.text)

    return listen


def draw_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures take two thirds of the time of searches that train nothing."""
    curves = "imdbtune.training.learning_curves"
    monkeypatch.setattr(f"{curves}.draw_curves", lambda *arguments: None)
    monkeypatch.setattr(f"{curves}.save_png", lambda figure, path: path.touch())


def run_search(
    config: SearchConfig, folder: Path, pictures: bool = False, **arguments: Any
) -> tuple[MlflowClient, Search]:
    """``api.search`` over the stub, in a store and over reviews that are made in ``folder``.

    Without ``pictures`` those of this process are empty files, unless there is to be a report.
    """
    from imdbtune import api
    from imdbtune.tracking.connection import connect

    prepare(folder)
    settings = {"workers": 0, "trainer": stub_trainer, **arguments}
    with pytest.MonkeyPatch.context() as patch:
        if not (pictures or config.tracking.report):
            draw_nothing(patch)
        found = api.search(
            config, api.Context(cache=folder / "cache", folder=folder / "runs", **settings)
        )
    return connect(config.tracking.uri), found


def prepare(folder: Path) -> None:
    """Make the corpus and the store in ``folder``, unless they are there."""
    if not (folder / "mlflow.db").exists():
        new_store(folder)
        tiny_corpus(folder)


def isolate(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    """Make ``folder`` the working directory, and let the environment name no store and no run.

    What a test sets of these variables (MLflow does so too) is gone after it.
    """
    monkeypatch.chdir(folder)
    mlflow = ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID")
    for name in (*mlflow, "GITHUB_STEP_SUMMARY"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("IMDBTUNE_CACHE", str(folder / "cache"))
    return folder


def untried_exports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the fresh process that tries each export, for tests of something else."""
    tried = {"largest_difference": 0.0, "reviews": 0}
    skipped = "imdbtune.export.formats.check_answers"
    monkeypatch.setattr(skipped, lambda formats, *rest: {f.name: tried for f in formats})


def scripts_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the fresh process of each exported format: its README's script runs in this one.

    It may import what it may there; but what this process has told Keras, it finds.
    """
    from imdbtune.export.verify import PACKAGES, script_of

    def run(form: Format, folders: Sequence[Path], texts: Sequence[str]) -> list[np.ndarray]:
        found = []
        for folder in folders:
            names: dict[str, Any] = {"__name__": "script"}
            ours = {path.stem for path in folder.glob("*.py")}
            refused = {*PACKAGES} - {*form.runs_on}
            with monkeypatch.context() as patch:
                patch.setattr(sys, "dont_write_bytecode", True)
                patch.setattr(sys, "path", [str(folder), *sys.path])
                patch.chdir(folder)
                for name in ours & sys.modules.keys():
                    patch.delitem(sys.modules, name)
                for name in [n for n in sys.modules if n.partition(".")[0] in refused]:
                    patch.setitem(sys.modules, name, None)
                exec(compile(script_of(form, folder), "README.md", "exec"), names)
                found.append(np.array([*names["probabilities"]([*texts])], np.float64))
            for name in ours:
                sys.modules.pop(name, None)
        return found

    monkeypatch.setattr("imdbtune.export.verify.run_scripts", run)


def light_workers() -> None:
    """Spare worker processes all imports: they are forked from one that has them."""
    from tests.forked import warm_up

    warm_up()


def assert_legible(figure: Figure) -> None:
    """No text or legend reaches beyond the figure, no labels of an axis run into each other."""
    figure.draw_without_rendering()
    width, height = figure.canvas.get_width_height()
    artists: list[Artist] = [*figure.texts, *figure.legends]
    for axes in figure.axes:
        legend = axes.get_legend()
        artists += [*axes.texts, axes.xaxis, axes.yaxis, axes.title, *([legend] if legend else [])]
    for artist in artists:
        box = artist.get_tightbbox()
        if box is None or box.width == 0:
            continue
        inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1
        assert inside, f"{artist}: {box} is not in {width} x {height}"
    for axes in figure.axes:
        for axis, low, high in ((axes.xaxis, "x0", "x1"), (axes.yaxis, "y0", "y1")):
            labels = [text for text in axis.get_ticklabels() if text.get_text()]
            boxes = [text.get_window_extent() for text in labels]
            boxes.sort(key=lambda box, low=low: float(getattr(box, low)))
            for before, after in pairwise(boxes):
                apart = getattr(after, low) >= getattr(before, high) - 1
                assert apart, [text.get_text() for text in labels]


@contextmanager
def no_room_beyond(size: int) -> Iterator[None]:
    """No file can grow beyond so many bytes; what is written up to there stays, as on a disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def kill_self() -> None:
    """End this process as the kernel does when memory runs out."""
    os.kill(os.getpid(), 9)
