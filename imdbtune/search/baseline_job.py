"""Log the baselines of a search while its trials run: the majority class and a linear model.

The linear model is trained in a process of its own, which saves it to a file. The driver logs it
by way of the outbox. If the process fails, the search continues without this baseline.
"""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass, field
from pathlib import Path
from statistics import fmean

import numpy as np

from imdbtune.config.objectives import error_name, logged_name, statistic_of
from imdbtune.config.schema import SearchConfig
from imdbtune.data.batches import Index
from imdbtune.data.corpus import Corpus
from imdbtune.errors import escape_control
from imdbtune.models import nb_linear, nb_linear_cache
from imdbtune.models.metrics.bootstrap import resample, standard_error
from imdbtune.models.metrics.metric import DRAWS_FILE, measure
from imdbtune.models.own_metric import metrics_by_name
from imdbtune.search.events import BaselineEnded, Listener, Notice, WaitingForBaseline
from imdbtune.tracking.mlflow_names import LINEAR, MAJORITY
from imdbtune.tracking.writer import CorpusFacts, Run, SearchRun, TrialRun
from imdbtune.training.hardware import machine_tags
from imdbtune.training.spec import TrainingSettings

WAIT_S = 300  # for the linear model, after all trials have ended
# With the driver's sys.path, because the package may not be installed.
CODE = (
    "import json, sys; path, given = map(json.loads, sys.argv[1:]); sys.path[:] = path; "
    "from imdbtune.models.nb_linear_cache import main; main(given)"
)


@contextmanager
def baselines_in_background(
    search: SearchRun,
    corpus: Corpus,
    facts: CorpusFacts,
    config: SearchConfig,
    folder: Path,
    listener: Listener,
    finished: Collection[str] = (),
) -> Iterator[None]:
    """Run the baselines while the block runs, and wait for them at its end.

    If the block raises, the baselines are cancelled and their runs stay open, as those of trials.

    Args:
        search: writes to an outbox.
        facts: describe the corpus in MLflow.
        config: of the search; its reviews, folds and metrics are those of the baselines.
        folder: of the search, for the files of the process.
        listener: called for each finished baseline, when the trials have ended before the linear
            model, and if a baseline fails.
        finished: names of the baselines that MLflow already has.
    """
    job = _BaselineJob(search, corpus, facts, config, folder / "baseline", listener)
    try:
        job.start(finished)
        yield
        job.finish()
    except BaseException:
        job.cancel()
        raise


@dataclass
class _BaselineJob:
    search: SearchRun
    corpus: Corpus
    facts: CorpusFacts
    config: SearchConfig
    folder: Path
    listener: Listener
    _process: subprocess.Popen[bytes] | None = None
    _thread: threading.Thread | None = None
    _cancelled: threading.Event = field(default_factory=threading.Event)
    _timed_out: bool = False

    def __post_init__(self) -> None:
        # Those of the trials, which say what reviews they train on and hold out.
        self.settings = TrainingSettings.of(self.config)
        self.used = self.corpus.train.head(self.settings.reviews or len(self.corpus.train))

    @property
    def _wait_s(self) -> int:
        """The seconds that the trials wait for the linear model, which is trained in each fold."""
        return WAIT_S * max(1, self.settings.folds)

    @property
    def _cache(self) -> Path:
        return nb_linear_cache.cache_folder(
            self.corpus, self.settings.reviews, self.settings.division
        )

    def start(self, finished: Collection[str]) -> None:
        """Log the majority class and start to train the linear model; report errors as notices."""
        try:
            if MAJORITY not in finished:
                division, classes = self.settings.division, len(self.corpus.labels)
                metrics = nb_linear.measure_majority(self.used, division, classes)
                self._log(self._begin(MAJORITY), MAJORITY, metrics)
            if LINEAR not in finished:
                self._start_linear()
        except Exception as error:
            self._notify(f"{type(error).__name__}: {error}")

    def _start_linear(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        out = self.folder / "model"
        out.parent.mkdir(parents=True)
        run = self._begin(LINEAR, nb_linear.SETTINGS)
        if nb_linear_cache.is_cached(self._cache):
            shutil.copytree(self._cache, out)
            self._log_linear(run, out)
            shutil.rmtree(self.folder, ignore_errors=True)
            return
        out.mkdir()
        given = {
            "corpus": str(self.corpus.folder),
            "reviews": self.settings.reviews,
            "folds": astuple(self.settings.division),
            "out": str(out),
        }
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

    def _begin(self, name: str, settings: Mapping[str, object] = {}) -> Run:
        run = Run(self.search.client, self.search.start_baseline(name, settings))
        run.log_corpus(self.facts)
        return run

    def _collect(self, run: Run) -> None:
        """Wait for the process and log its model; runs in a thread."""
        assert self._process is not None
        status = self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        if self._cancelled.is_set():
            return
        try:
            if status:
                self._fail(run, status)
                return
            out = self.folder / "model"
            nb_linear_cache.save_to_cache(out, self._cache)
            self._log_linear(run, out)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            with suppress(OSError):  # if the disk is full, the driver reports it
                run.end("FAILED", reason)
            self._notify(reason)

    def _log_linear(self, run: Run, out: Path) -> None:
        metrics = json.loads((out / nb_linear.RESULT).read_text(encoding="utf-8"))
        metrics |= self._further_metrics(out)
        self.search.client.log_artifacts(run.run_id, str(out))
        run.log(tags={"version.scikit-learn": importlib.metadata.version("scikit-learn")})
        self._log(run, LINEAR, metrics)

    def _further_metrics(self, out: Path) -> dict[str, float]:
        """Return the metrics that not every search has, and write the draws of the objective."""
        names, objective = self.config.further_metrics, self.config.tuner.main_objective
        if not names:
            return {}
        metrics = metrics_by_name(names, self.config.own_metrics)
        labels, parts = self._validation()
        predicted = np.load(out / nb_linear.PREDICTED)
        values = [measure(labels[rows], predicted[rows], metrics) for rows in parts]
        found = {f"best_val_{name}": fmean(each[name] for each in values) for name in metrics}
        aim = metrics.get(objective.removeprefix("val_"))
        if aim is not None and aim.standard_error is None:
            draws = resample(aim, labels, predicted)
            np.save(out / DRAWS_FILE, draws)
            found[logged_name(error_name(objective))] = standard_error(draws)
        return found

    def _validation(self) -> tuple[Index, list[Index]]:
        """Return the labels of the validation reviews, and the row numbers of each fold."""
        folds, labels = self.settings.division, np.asarray(self.used.labels, np.int64)
        if folds.count:
            return labels, [folds.rows(labels, fold)[1] for fold in range(folds.count)]
        validation = nb_linear.train_and_validation(self.used)[1]
        return np.asarray(validation.labels, np.int64), [np.arange(len(validation))]

    def _log(self, run: Run, name: str, metrics: dict[str, float]) -> None:
        run.log(metrics, tags=machine_tags())
        run.end("FINISHED")
        wanted = statistic_of(self.config.tuner.main_objective)
        metric = wanted if f"best_val_{wanted}" in metrics else "accuracy"
        score, seconds = metrics[f"best_val_{metric}"], metrics["train_seconds"]
        self.listener(BaselineEnded(name, score, seconds, metric))

    def _fail(self, run: Run, status: int) -> None:
        text = (self.folder / "log.txt").read_text(encoding="utf-8", errors="replace").strip()
        reason = text.splitlines()[-1] if text else f"its process exited with status {status}"
        if status < 0:
            reason = f"its process was killed by signal {-status} (out of memory?)"
        if self._timed_out:
            reason = f"it was not finished {self._wait_s} s after the trials"
        TrialRun(run.client, run.run_id).fail(reason, text or reason)
        self._notify(reason)

    def _notify(self, reason: str) -> None:
        text = f"no linear model to compare the trials with: {escape_control(reason)[:200]}"
        self.listener(Notice(text))

    def finish(self) -> None:
        """Wait for the linear model, at most ``WAIT_S`` seconds for each of its trainings."""
        if self._thread is None or self._process is None:
            return
        if self._thread.is_alive():
            self.listener(WaitingForBaseline(LINEAR))
        self._thread.join(self._wait_s)
        if self._thread.is_alive():
            self._timed_out = True
            self._process.kill()
            self._thread.join()
        shutil.rmtree(self.folder, ignore_errors=True)

    def cancel(self) -> None:
        """Kill the process; the run of the linear model stays open."""
        self._cancelled.set()
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()
        if self._thread is not None:
            self._thread.join()
