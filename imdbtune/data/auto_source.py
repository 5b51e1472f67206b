"""The data source ``auto``: ``imdb`` where it can be had, else ``demo``."""

from __future__ import annotations

from imdbtune.data.corpus import Corpus
from imdbtune.data.demo import demo_corpus
from imdbtune.data.download import DownloadFailed
from imdbtune.data.imdb import imdb_corpus
from imdbtune.data.source import Request, Source

_TIMEOUT_S = 5.0


def _open(request: Request) -> Corpus:
    try:
        return imdb_corpus(request.cache, request.progress, timeout_s=_TIMEOUT_S)
    except DownloadFailed as error:
        request.notify(f"Using the built-in demo corpus, not IMDB: {error}")
        return demo_corpus(request.cache)


AUTO = Source(
    about="`imdb` if it is cached or can be downloaded, else `demo`; a search prints which before "
    "it starts",
    open=_open,
)
