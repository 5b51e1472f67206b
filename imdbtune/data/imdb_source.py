"""The data source ``imdb``."""

from __future__ import annotations

from imdbtune.data.imdb import imdb_corpus
from imdbtune.data.source import Source

IMDB = Source(
    about="the Large Movie Review Dataset (Maas et al. 2011) in the files that Keras uses, "
    "downloaded once, verified, and converted to memory-mapped arrays",
    open=lambda request: imdb_corpus(request.cache, request.progress),
)
