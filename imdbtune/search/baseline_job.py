"""What a search has to beat, made beside its trials: the linear model in a process of its own.

That process leaves a file and is done; all writing, by way of the outbox, is the driver's. If it
fails, or the machine has no room for it, the search goes on without.
"""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imdbtune.data.corpus import Corpus
from imdbtune.errors import escape_control
from imdbtune.models import nb_linear
from imdbtune.tracking.writer import LINEAR, MAJORITY, CorpusFacts, Run, SearchRun, TrialRun
from imdbtune.training.hardware import machine_tags

WAIT_S = 300  # for the linear model, when all trials have ended
# The search path is the driver's: where the package is not installed, only that leads to it.
CODE = (
    "import json, sys; path, given = map(json.loads, sys.argv[1:]); sys.path[:] = path; "
    "from imdbtune.models.nb_linear import main; main(given)"
)
Listener = Callable[[str, dict[str, Any]], None]


@contextmanager
def baselines_in_background(
    search: SearchRun,
    corpus: Corpus,
    facts: CorpusFacts,
    reviews: int,
    folder: Path,
    listener: Listener,
    made: Collection[str] = (),
) -> Iterator[None]:
    """Make the baselines while the block runs, and wait for them at its end if it ends well.

    If not, their runs are left open, as those of trials are.

    Args:
        search: writes to an outbox.
        reviews: how many of the training reviews the search uses; 0: all.
        folder: the search's, for what the process leaves.
        listener: called with ``baseline`` when one is done, with ``waiting`` when only the linear
            model is left, and with ``notice``.
        made: those that there are already.
    """
    maker = _Maker(search, corpus, facts, reviews, folder / "baseline", listener)
    try:
        maker.start(made)
        yield
        maker.finish()
    except BaseException:
        maker.abandon()
        raise


@dataclass
class _Maker:
    search: SearchRun
    corpus: Corpus
    facts: CorpusFacts
    reviews: int
    folder: Path
    listener: Listener
    _process: subprocess.Popen[bytes] | None = None
    _thread: threading.Thread | None = None
    _abandoned: threading.Event = field(default_factory=threading.Event)
    _late: bool = False

    def start(self, made: Collection[str]) -> None:
        """Begin; what goes wrong is told, and no more."""
        try:
            if MAJORITY not in made:
                training = self.corpus.train
                reached = nb_linear.measure_majority(training.head(self.reviews or len(training)))
                self._log(self._begin(MAJORITY), MAJORITY, reached)
            if LINEAR not in made:
                self._start_linear()
        except Exception as error:
            self._tell(f"{type(error).__name__}: {error}")

    def _start_linear(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        out = self.folder / "model"
        out.parent.mkdir(parents=True)
        run = self._begin(LINEAR, nb_linear.SETTINGS)
        kept = nb_linear.cache_folder(self.corpus, self.reviews)
        if nb_linear.is_cached(kept):
            shutil.copytree(kept, out)
            self._log_linear(run, out)
            shutil.rmtree(self.folder, ignore_errors=True)
            return
        out.mkdir()
        given = {"corpus": str(self.corpus.folder), "reviews": self.reviews, "out": str(out)}
        command = [sys.executable, "-c", CODE, json.dumps(sys.path), json.dumps(given)]
        try:
            with (self.folder / "log.txt").open("wb") as log:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT
                )
        except OSError as error:
            run.end("FAILED", str(error))
            raise
        self._thread = threading.Thread(target=self._collect, args=[run], name=LINEAR, daemon=True)
        self._thread.start()

    def _begin(self, which: str, settings: Mapping[str, object] = {}) -> Run:
        run = Run(self.search.client, self.search.start_baseline(which, settings))
        run.log_corpus(self.facts)
        return run

    def _collect(self, run: Run) -> None:
        """In a thread: wait for the process, and write what it has left."""
        assert self._process is not None
        status = self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        if self._abandoned.is_set():
            return
        try:
            if status:
                self._fail(run, status)
                return
            out = self.folder / "model"
            nb_linear.save_to_cache(out, nb_linear.cache_folder(self.corpus, self.reviews))
            self._log_linear(run, out)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            with suppress(OSError):  # where there is no room, the search will say so
                run.end("FAILED", reason)
            self._tell(reason)

    def _log_linear(self, run: Run, out: Path) -> None:
        reached = json.loads((out / nb_linear.RESULT).read_text(encoding="utf-8"))
        self.search.client.log_artifacts(run.run_id, str(out))
        run.log(tags={"version.scikit-learn": importlib.metadata.version("scikit-learn")})
        self._log(run, LINEAR, reached)

    def _log(self, run: Run, which: str, reached: dict[str, float]) -> None:
        run.log(reached, tags=machine_tags())
        run.end("FINISHED")
        facts = {"score": reached["best_val_accuracy"], "seconds": reached["train_seconds"]}
        self.listener("baseline", {"name": which, **facts})

    def _fail(self, run: Run, status: int) -> None:
        text = (self.folder / "log.txt").read_text(encoding="utf-8", errors="replace").strip()
        reason = text.splitlines()[-1] if text else f"its process ended with {status}"
        if status < 0:
            reason = f"signal {-status} has ended its process (out of memory?)"
        if self._late:
            reason = f"it took {WAIT_S} s more than the trials"
        TrialRun(run.client, run.run_id).fail(reason, text or reason)
        self._tell(reason)

    def _tell(self, reason: str) -> None:
        text = f"no linear model to compare the trials with: {escape_control(reason)[:200]}"
        self.listener("notice", {"text": text})

    def finish(self) -> None:
        """Wait for what is under way."""
        if self._thread is None or self._process is None:
            return
        if self._thread.is_alive():
            self.listener("waiting", {"name": LINEAR})
        self._thread.join(WAIT_S)
        if self._thread.is_alive():
            self._late = True
            self._process.kill()
            self._thread.join()
        shutil.rmtree(self.folder, ignore_errors=True)

    def abandon(self) -> None:
        """End what is under way; its run stays open."""
        self._abandoned.set()
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()
        if self._thread is not None:
            self._thread.join()
