"""The linear model of :mod:`imdbtune.models.nb_linear`, cached for later searches."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from imdbtune.data.corpus import Corpus
from imdbtune.data.folds import NO_FOLDS, Folds
from imdbtune.errors import UserError
from imdbtune.models.metrics.metric import CORRECTNESS_FILE, best_names
from imdbtune.models.nb_linear import MODEL, PREDICTED, RESULT, SETTINGS, LinearModel


def cache_folder(corpus: Corpus, reviews: int, folds: Folds = NO_FOLDS) -> Path:
    """Return the folder that caches the linear model of these reviews for later searches."""
    version = importlib.metadata.version("scikit-learn")
    division = [folds.count, folds.seed] if folds.count else []
    key = json.dumps([corpus.digest, reviews, dict(SETTINGS), version, *division])
    return corpus.folder.parent / f"linear-{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def is_cached(cache: Path) -> bool:
    """Return whether the folder has a readable model with all metrics."""
    try:
        LinearModel.load(cache / MODEL)
        result = json.loads((cache / RESULT).read_text(encoding="utf-8"))
        complete = isinstance(result, dict) and result.keys() >= {*best_names()}
        return complete and all((cache / name).exists() for name in (CORRECTNESS_FILE, PREDICTED))
    except (OSError, ValueError, UserError):
        return False


def save_to_cache(out: Path, cache: Path) -> None:
    """Copy a model and its metrics to the cache, replacing files that are damaged."""
    with suppress(OSError):  # the next search trains it again
        temporary = Path(tempfile.mkdtemp(prefix=f"{cache.name}-", dir=cache.parent))
        try:
            shutil.copytree(out, temporary, dirs_exist_ok=True)
            shutil.rmtree(cache, ignore_errors=True)
            temporary.rename(cache)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
