"""Labels softened by what the linear model says of each review, having been trained on others.

Hinton, Vinyals & Dean 2015, "Distilling the Knowledge in a Neural Network": another model's
probabilities tell more of an example than its label does. Of the reviews that it was trained on the
linear model would only repeat the labels; so they are divided into ``FOLDS`` parts, and the opinion
on each part is that of a model trained on the others. Reviews that are held out have no say.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from imdbtune.data.cache import locked
from imdbtune.data.corpus import Split, make_split, read_corpus
from imdbtune.errors import TrialFailed, UserError
from imdbtune.files import atomic_path
from imdbtune.models import nb_linear

FOLDS = 5
# One of exactly 0 or 1 would leave half of a label undecided.
LEAST = 1e-6

Floats = npt.NDArray[np.float32]


def soft_labels(corpus: Path, count: int, share: float) -> Floats | None:
    """What is to be learned of the first ``count`` training reviews, (count,); 1 is positive.

    Up to a share of 0.5 each is on its label's side of 0.5.

    Args:
        corpus: its folder, beside which the opinions are kept.
        count: how many of the training reviews.
        share: of the linear model's probability, the rest being the label's; 0: there are none.

    Raises:
        TrialFailed: no linear model can be made of so few reviews.
    """
    if not share:
        return None
    labels = read_corpus(corpus).train.labels[:count].astype(np.float32)
    return (1 - np.float32(share)) * labels + np.float32(share) * out_of_fold_probabilities(
        corpus, count
    )


def out_of_fold_probabilities(corpus: Path, count: int) -> Floats:
    """The linear model's probability of each of the first ``count`` training reviews, (count,).

    Each part is made once and kept. Processes that want them at the same time share the work.

    Raises:
        TrialFailed: no linear model can be made of so few reviews.
    """
    opened = read_corpus(corpus)
    split = opened.train.head(count)
    version = importlib.metadata.version("scikit-learn")
    decides = json.dumps([opened.digest, count, FOLDS, dict(nb_linear.SETTINGS), version])
    name = f"opinions-{hashlib.sha256(decides.encode()).hexdigest()[:16]}"
    found = np.empty(count, np.float32)
    for turn in range(FOLDS):
        fold = (os.getpid() + turn) % FOLDS  # another process begins elsewhere
        kept = corpus.parent / f"{name}-{fold}.npy"
        with _locked(kept):
            found[fold::FOLDS] = _kept_or_made(kept, split, fold)
    return np.clip(found, LEAST, 1 - LEAST)


@contextlib.contextmanager
def _locked(kept: Path) -> Iterator[None]:
    """One process at a time makes a part; where there can be no lock, each for itself."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(UserError):
            stack.enter_context(locked(kept.with_suffix(".lock")))
        yield


def _kept_or_made(kept: Path, split: Split, fold: int) -> Floats:
    size = len(range(fold, len(split), FOLDS))
    with contextlib.suppress(OSError, ValueError, EOFError):
        found = np.load(kept, allow_pickle=False)
        if found.shape == (size,) and found.dtype == np.float32:
            return np.asarray(found)
    rows = np.arange(len(split))
    try:
        model = nb_linear.fit(_chosen(split, rows[rows % FOLDS != fold]))
    except ValueError as error:
        raise TrialFailed(f"no soft labels: {error}") from error
    made = nb_linear.predict(model, _chosen(split, rows[fold::FOLDS])).astype(np.float32)
    with contextlib.suppress(OSError), atomic_path(kept) as aside, aside.open("wb") as file:
        np.save(file, made)
    return made


def _chosen(split: Split, rows: npt.NDArray[np.int64]) -> Split:
    return make_split([split[row] for row in rows], split.labels[rows])
