"""The corpus that a trial was trained on: how MLflow describes it, and how it is opened again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from imdbtune.config.schema import DataConfig, parse_config
from imdbtune.data.corpus import Corpus
from imdbtune.data.download import Progress
from imdbtune.data.sources import check_source, default_cache, open_corpus, place_of
from imdbtune.errors import UserError, short_repr
from imdbtune.tracking import writer
from imdbtune.tracking.reader import Trial
from imdbtune.tracking.writer import CorpusFacts


def corpus_facts(corpus: Corpus, source: str) -> CorpusFacts:
    """Return what is logged about a corpus that ``source`` names."""
    return CorpusFacts(
        corpus.name,
        corpus.title,
        corpus.digest,
        place_of(source, corpus),
        len(corpus.train),
        len(corpus.test),
        corpus.reading,
    )


def open_trial_corpus(
    trial: Trial,
    cache: Path | None = None,
    location: str = "",
    notify: Callable[[str], None] = lambda text: None,
    progress: Progress | None = None,
) -> tuple[Corpus, CorpusFacts]:
    """Return the corpus that a trial was trained on, and what is logged about it.

    Args:
        trial: the trial.
        cache: folder of downloaded and converted corpora.
        location: where the reviews are now; default: where they were.
        notify: called with lines for the user.
        progress: called while the reviews are read or downloaded.

    Raises:
        UserError: the reviews are missing or have changed.
    """
    data = _data_config(trial, location)
    check_source(data.source, data)
    corpus = open_corpus(data.source, cache or default_cache(), notify, progress, config=data)
    check_corpus(corpus, trial.tags, trial.name)
    return corpus, corpus_facts(corpus, data.source)


def _data_config(trial: Trial, location: str) -> DataConfig:
    """Return the data configuration of a trial; ``location``: where the reviews are now."""
    logged = trial.tags.get(writer.READING, "{}")
    try:
        reading = parse_config({"data": json.loads(logged)}).data
    except (ValueError, UserError) as error:
        raise UserError(
            f"run {trial.run_id} ({trial.name}) does not say how its reviews were read: its tag "
            f"{writer.READING} is {short_repr(logged)}; restore the original value."
        ) from error
    return replace(reading, source=location or trial.tags.get(writer.CORPUS, ""))


def check_corpus(corpus: Corpus, tags: Mapping[str, str], name: str) -> None:
    """Raise UserError unless the corpus has the digest in a run's tags."""
    digest = tags.get(writer.DIGEST, "")
    if corpus.digest != digest:
        raise UserError(
            f"the reviews at {tags.get(writer.CORPUS)} are not those of {name} "
            f"(digest {corpus.digest[:12]}, was {digest[:12]}); restore the original reviews."
        )
