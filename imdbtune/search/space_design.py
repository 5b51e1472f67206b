"""Temporary."""
# ruff: noqa

from __future__ import annotations
import itertools, random
from imdbtune.config.search_space import SearchSpace


class SpaceDesign:
    def __init__(self, space: SearchSpace, seed: int) -> None:
        self.space, self.rng, self.points, self.seen = space, random.Random(seed), [], set()

    def draw(self, n: int):
        while len(self.points) <= n:
            for _ in range(2000):
                chosen = {}
                for d in self.space.searched:
                    if all(chosen.get(p, self.space.constants.get(p)) in v for p, v in d.when):
                        grid = d.grid()
                        chosen[d.name] = (
                            self.rng.choice(grid) if grid else self.rng.uniform(d.low, d.high)
                        )
                key = tuple(sorted(chosen.items()))
                if key not in self.seen:
                    self.seen.add(key)
                    self.points.append(chosen)
                    break
            else:
                return None
        return self.points[n]
