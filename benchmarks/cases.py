"""What is measured: the searches of ``search.py``."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

RNN_TYPES = ("simple_rnn", "lstm", "gru")
BATCH_SIZE = 128
VOCABULARY = 10_000


@dataclass(frozen=True)
class Case:
    """One grid search: a trial for each RNN type, all else fixed."""

    depth: int
    maxlen: int
    units: int = 32
    rnn: tuple[str, ...] = RNN_TYPES
    by_length: bool = False  # whether the plain script batches reviews of similar length

    @property
    def label(self) -> str:
        """Such as ``depth 2, maxlen 200``."""
        return f"depth {self.depth}, maxlen {self.maxlen}"

    def to_json(self) -> str:
        """For a command line; :meth:`from_json` reads it back."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Case:
        """The case that :meth:`to_json` wrote."""
        values = json.loads(text)
        return cls(**{**values, "rnn": tuple(values["rnn"])})


SIZES = {
    "full": (Case(depth=1, maxlen=500), Case(depth=2, maxlen=200)),
    "small": (Case(depth=1, maxlen=100, units=16),),
}
