"""The data source ``demo``."""

from __future__ import annotations

from imdbtune.data.demo import demo_corpus
from imdbtune.data.source import Source

DEMO = Source(
    about="4,000 generated reviews whose labels depend on the order of the words",
    open=lambda request: demo_corpus(request.cache),
)
